/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/userkey.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

enum {
	KEY_DIGITS = 2 * USER_KEY_LEN,
	/* A socket's path has 107 bytes: what is left is for the name of the socket. */
	RUNTIME_DIR_MAX = 60,
};

static const char *env_or_null(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static const char *home_dir(void)
{
	const char *home = env_or_null("HOME");
	const struct passwd *pw;

	if (home)
		return home;
	pw = getpwuid(geteuid());
	return pw ? pw->pw_dir : NULL;
}

/* The directory of the default key. */
static int default_dir(char out[PATH_MAX], struct err *e)
{
	const char *config = env_or_null("XDG_CONFIG_HOME");
	const char *home = home_dir();
	int n;

	if (config && config[0] == '/') /* relative ones are to be ignored (XDG) */
		n = snprintf(out, PATH_MAX, "%s/farstep", config);
	else if (home)
		n = snprintf(out, PATH_MAX, "%s/.config/farstep", home);
	else
		return err_set(e, ERR_NOT_FOUND, 0, "user key: no HOME is set: use --key-file");
	if (n < 0 || n >= PATH_MAX - (int)sizeof("/key"))
		return err_set(e, ERR_NOT_FOUND, ENAMETOOLONG, "user key");
	return 0;
}

/* Who makes the link made the key; who comes second uses that one. */
static int publish_key(int dirfd, const char *tmp, struct err *e)
{
	if (linkat(dirfd, tmp, dirfd, "key", 0) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYS, errno, "user key: link");
	return fsync(dirfd) < 0 ? err_set(e, ERR_SYS, errno, "user key: fsync") : 0;
}

static int make_key(const char *dir, struct err *e)
{
	uint8_t key[USER_KEY_LEN], rnd[8];
	char text[KEY_DIGITS + 2], hex[2 * sizeof(rnd) + 1], tmp[64];
	auto_close int dirfd = -1;
	int ret;

	if (fs_mkdirs(AT_FDCWD, dir, 0700, e) < 0)
		return -1;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_set(e, ERR_SYS, errno, "%s: open", dir);
	if (random_bytes(key, sizeof(key), e) < 0 || random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(key, sizeof(key), text);
	strcpy(text + KEY_DIGITS, "\n"); /* lint-ok: sized for it */
	hex_encode(rnd, sizeof(rnd), hex);
	snprintf(tmp, sizeof(tmp), "key.%s.tmp", hex);
	ret = fs_write(dirfd, tmp, text, KEY_DIGITS + 1, 0600, true, e);
	if (ret == 0)
		ret = publish_key(dirfd, tmp, e);
	unlinkat(dirfd, tmp, 0);
	wipe(key, sizeof(key));
	wipe(text, sizeof(text));
	return ret;
}

static int check_owner(int fd, const char *file, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_SYS, errno, "%s: stat", file);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_DENIED, 0,
		               "%s: not a regular file: name another with --key-file", file);
	if (st.st_uid != geteuid())
		return err_set(e, ERR_DENIED, 0,
		               "%s: belongs to user %u, not to you: name another with --key-file",
		               file, (unsigned)st.st_uid);
	if (st.st_mode & 077)
		return err_set(e, ERR_DENIED, 0, "%s: others may use it (mode %03o): chmod 600 %s",
		               file, (unsigned)st.st_mode & 0777, file);
	return 0;
}

static ssize_t read_some(int fd, char *p, size_t n)
{
	ssize_t got;

	do
		got = read(fd, p, n);
	while (got < 0 && errno == EINTR);
	return got;
}

static int parse_key(const char *text, size_t n, uint8_t key[USER_KEY_LEN])
{
	if (n == KEY_DIGITS + 1 && text[KEY_DIGITS] == '\n')
		n--;
	return hex_decode(text, n, key, USER_KEY_LEN, NULL);
}

static int read_key(int fd, const char *file, uint8_t key[USER_KEY_LEN], struct err *e)
{
	char text[KEY_DIGITS + 8];
	ssize_t n;
	int ret = 0;

	if (check_owner(fd, file, e) < 0)
		return -1;
	n = read_some(fd, text, sizeof(text));
	if (n < 0)
		return err_set(e, ERR_SYS, errno, "%s: read", file);
	if (parse_key(text, (size_t)n, key) < 0)
		ret = err_set(e, ERR_DENIED, 0,
		              "%s: no user key (want 64 hex digits and a newline): move it away, "
		              "farstep makes one without --key-file",
		              file);
	wipe(text, sizeof(text));
	return ret;
}

static int open_key(const char *file)
{
	/* Not blocking, lest a FIFO in its place holds us. */
	return open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

static int refused(const char *file, struct err *e)
{
	int sys = errno;

	if (sys == ENOENT)
		return err_set(e, ERR_NOT_FOUND, 0,
		               "%s: no such key file: without --key-file and FARSTEP_KEY_FILE "
		               "farstep makes its own",
		               file);
	return err_set(e, sys == EACCES || sys == EPERM ? ERR_DENIED : ERR_SYS, sys, "%s: open",
	               file);
}

static int load_default(uint8_t key[USER_KEY_LEN], struct err *e)
{
	char dir[PATH_MAX], file[PATH_MAX + 8];
	auto_close int fd = -1;

	if (default_dir(dir, e) < 0)
		return -1;
	snprintf(file, sizeof(file), "%s/key", dir);
	fd = open_key(file);
	if (fd < 0 && errno == ENOENT) {
		if (make_key(dir, e) < 0)
			return err_wrap(e, "cannot make the user key");
		fd = open_key(file);
	}
	if (fd < 0)
		return refused(file, e);
	return read_key(fd, file, key, e);
}

int userkey_load(const char *file, uint8_t key[USER_KEY_LEN], struct err *e)
{
	auto_close int fd = -1;

	if (!file)
		file = env_or_null("FARSTEP_KEY_FILE");
	if (!file)
		return load_default(key, e);
	fd = open_key(file);
	if (fd < 0)
		return refused(file, e);
	return read_key(fd, file, key, e);
}

/* --- the directory of sockets --- */

static bool is_mine(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

/* In /tmp somebody else may have been there first. */
static int check_private(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_set(e, ERR_SYS, errno, "%s: stat", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(e, ERR_DENIED, 0,
		               "%s: not a directory of yours: set XDG_RUNTIME_DIR to one that is",
		               path);
	if (st.st_mode & 077)
		return err_set(e, ERR_DENIED, 0, "%s: others may use it (mode %03o): chmod 700 %s",
		               path, (unsigned)st.st_mode & 0777, path);
	return 0;
}

int runtime_dir(char out[256], struct err *e)
{
	const char *base = env_or_null("XDG_RUNTIME_DIR");
	char path[256];

	/* After su or sudo the variable still names the other user's directory. */
	if (base && base[0] == '/' && strlen(base) + sizeof("/farstep") <= RUNTIME_DIR_MAX &&
	    is_mine(base))
		snprintf(path, sizeof(path), "%s/farstep", base);
	else
		snprintf(path, sizeof(path), "/tmp/farstep-%u", (unsigned)geteuid());
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYS, errno, "%s: mkdir", path);
	if (check_private(path, e) < 0)
		return -1;
	memcpy(out, path, sizeof(path));
	return 0;
}
