/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a box that need no namespace: its users and its directory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mocks/e2b/box.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

enum { USERS_BASE = 0x30000000 };	/* far above what distributions hand out */

/* --- users --- */

/* Does this process's own user namespace have the range that we want to map? */
static bool range_is_ours(void)
{
	auto_fclose FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long inside, outside, n;

	while (f && fscanf(f, "%llu %llu %llu", &inside, &outside, &n) == 3)
		if (inside <= USERS_BASE && inside + n >= USERS_BASE + BOX_USERS + 0ull)
			return true;
	return false;
}

void box_users_find(struct box_users *ret)
{
	ret->many = geteuid() == 0 && range_is_ours();
	ret->base = ret->many ? USERS_BASE : 0;
}

/* What `uid` inside is here. */
static uid_t outside(const struct box_users *users, uid_t uid)
{
	return users->many ? users->base + uid : geteuid();
}

/* --- the directory --- */

static const struct {
	const char *path;
	mode_t mode;
	uid_t owner;	/* inside */
} directories[] = {
	{ "etc", 0755, 0 },	 { "home", 0755, 0 },	   { "home/" BOX_USER, 0755, BOX_UID },
	{ "root", 0700, 0 },	 { "tmp", 01777, 0 },	   { "var", 0755, 0 },
	{ "var/tmp", 01777, 0 }, { "var/log", 0755, 0 },   { "var/lib", 0755, 0 },
	{ "var/cache", 0755, 0 }, { "opt", 0755, 0 },	   { "srv", 0755, 0 },
	{ "run", 0755, 0 },
};

static int make_directory(const char *dir, size_t i, const struct box_users *users, struct err *e)
{
	uid_t owner = outside(users, directories[i].owner);
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, directories[i].path) >= sizeof(path))
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", dir);
	if (mkdir(path, 0700) < 0 || chmod(path, directories[i].mode) < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	if (users->many && chown(path, owner, owner) < 0)
		return err_set(e, ERR_SYS, errno, "%s: cannot give it to the sandbox", path);
	return 0;
}

static int put_file(const char *dir, const char *name, const struct buf *text, struct err *e)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/etc/%s", dir, name) >= sizeof(path))
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", dir);
	if (fs_write(AT_FDCWD, path, buf_data(text), buf_len(text), 0644, false, e) < 0)
		return -1;
	return chmod(path, 0644) < 0 ? err_set(e, ERR_SYS, errno, "%s", path) : 0;
}

/* The lines of the machine's file whose third field is not BOX_UID and whose name is not ours,
 * then our own line. */
static int put_accounts(const char *dir, const char *name, const char *own, struct err *e)
{
	struct buf in CLEANUP(buf_release), out CLEANUP(buf_release);
	char path[64];
	const char *p;

	buf_init(&in, 1024 * 1024);
	buf_init(&out, 1024 * 1024);
	snprintf(path, sizeof(path), "/etc/%s", name);
	if (fs_read(AT_FDCWD, path, 1024 * 1024, &in, e) < 0)
		return -1;
	p = buf_cstr(&in, e);
	if (!p)
		return -1;
	for (; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		size_t n = strcspn(p, "\n");
		char word[64] = "";
		int id = -1;

		if (sscanf(p, "%63[^:]:%*[^:]:%d", word, &id) != 2 || id == BOX_UID ||
		    strcmp(word, BOX_USER) == 0)
			continue;
		if (buf_put(&out, p, n, e) < 0 || buf_putc(&out, '\n', e) < 0)
			return -1;
	}
	return buf_puts(&out, own, e) < 0 ? -1 : put_file(dir, name, &out, e);
}

static int put_text(const char *dir, const char *name, const char *host, const char *text,
		    struct err *e)
{
	struct buf out CLEANUP(buf_release);

	buf_init(&out, 4096);
	return buf_printf(&out, e, "%s%s\n", text, host) < 0 ? -1 : put_file(dir, name, &out, e);
}

static bool is_own_file(const char *name)
{
	static const char *const names[] = { ".", "..", "passwd", "group", "hostname", "hosts" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* A link of /etc is copied: it may lead to a file that is the sandbox's own. */
static int link_entry(int etc, const struct dirent *ent, const char *dir, struct err *e)
{
	char path[PATH_MAX], to[PATH_MAX];
	ssize_t n = ent->d_type == DT_LNK ? readlinkat(etc, ent->d_name, to, sizeof(to) - 1) : -1;

	if (n >= 0)
		to[n] = 0;
	else
		snprintf(to, sizeof(to), "/" BOX_MACHINES_ETC "/%s", ent->d_name);
	if ((size_t)snprintf(path, sizeof(path), "%s/etc/%s", dir, ent->d_name) >= sizeof(path))
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", dir);
	return symlink(to, path) < 0 ? err_set(e, ERR_SYS, errno, "%s", path) : 0;
}

static int link_etc(const char *dir, struct err *e)
{
	auto_closedir DIR *d = opendir("/etc");
	struct dirent *ent;

	if (!d)
		return err_set(e, ERR_SYS, errno, "/etc");
	while ((ent = readdir(d)))
		if (!is_own_file(ent->d_name) && link_entry(dirfd(d), ent, dir, e) < 0)
			return -1;
	return 0;
}

int box_make_dir(const char *dir, const char *name, const struct box_users *users, struct err *e)
{
	if (mkdir(dir, 0700) < 0 ||
	    (users->many && chown(dir, outside(users, 0), outside(users, 0)) < 0))
		return err_set(e, ERR_SYS, errno, "%s", dir);
	for (size_t i = 0; i < ARRAY_LEN(directories); i++)
		if (make_directory(dir, i, users, e) < 0)
			return -1;
	if (put_accounts(dir, "passwd", BOX_USER ":x:1000:1000:,,,:/home/" BOX_USER ":/bin/bash\n",
			 e) < 0 ||
	    put_accounts(dir, "group", BOX_USER ":x:1000:\n", e) < 0 ||
	    put_text(dir, "hostname", name, "", e) < 0 ||
	    put_text(dir, "hosts", name, "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 ", e) < 0 ||
	    link_etc(dir, e) < 0)
		return err_wrap(e, "directory of sandbox %s", name);
	return 0;
}
