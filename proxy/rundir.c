/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/hash.h"
#include "protocol/base/loop.h"

enum {
	PATH_BYTES = 1024,
	FORCE_WAIT_MS = 15000,
	FORCE_POLL_MS = 50,
	SHOWN = 5, /* run ids in a message */
};

typedef char run_id[LIMIT_RUN_ID + 1];

/* --- names --- */

int run_id_new(char run[LIMIT_RUN_ID + 1], struct err *e)
{
	uint64_t us = now_real_us();
	time_t sec = (time_t)(us / 1000000);
	uint32_t rnd;
	struct tm tm;
	char time[32];

	if (random_bytes(&rnd, sizeof(rnd), e) < 0)
		return -1;
	gmtime_r(&sec, &tm);
	strftime(time, sizeof(time), "%Y%m%dt%H%M%S", &tm);
	snprintf(run, LIMIT_RUN_ID + 1, "%s-%03x%05x", time,
	         (unsigned)(us % 1000000 * 4096 / 1000000), (unsigned)(rnd & 0xfffff));
	return 0;
}

static bool is_run_id(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= LIMIT_RUN_ID && s[n] == 0 && s[0] != '-';
}

static int join(char out[PATH_BYTES], const char *dir, const char *name, struct err *e)
{
	int n = snprintf(out, PATH_BYTES, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);

	if (n < 0 || n >= PATH_BYTES)
		return err_set(e, ERR_LIMIT, 0, "%.80s...: the path has more than %d bytes", dir,
		               PATH_BYTES - 1);
	return 0;
}

/* Without links when it exists, else as it would be made here. */
static int absolute(const char *path, char out[PATH_BYTES], struct err *e)
{
	char real[PATH_MAX], cwd[PATH_MAX];

	if (realpath(path, real)) {
		if (strlen(real) >= PATH_BYTES)
			return err_set(e, ERR_LIMIT, ENAMETOOLONG, "%.80s", path);
		strcpy(out, real); /* lint-ok: checked above */
		return 0;
	}
	if (errno != ENOENT)
		return err_set(e, ERR_SYS, errno, "%s", path);
	if (path[0] == '/')
		return join(out, "/", path + strspn(path, "/"), e);
	if (!getcwd(cwd, sizeof(cwd)))
		return err_set(e, ERR_SYS, errno, "working directory");
	return join(out, cwd, path, e);
}

/* --- where runs are --- */

/* Only into a directory that is ours alone: an existing one keeps what it has. */
static int make_root(const char *path, struct err *e)
{
	auto_close int fd = -1;
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	if (fs_mkdirs(AT_FDCWD, path, 0700, e) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "%s: open", path);
	return fs_write(fd, ".gitignore", "*\n", 2, 0600, false, e);
}

int rundir_root(const char *dir, char out[1024], bool make, struct err *e)
{
	const char *env = getenv("FARSTEP_RUNS");

	if (!dir || !*dir)
		dir = env && *env ? env : ".farstep/runs";
	if (make && make_root(dir, e) < 0)
		return -1;
	return absolute(dir, out, e);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int list_add(run_id **ids, size_t *n, size_t *cap, const char *name, struct err *e)
{
	if (*n == *cap) {
		size_t more = *cap ? 2 * *cap : 64;
		run_id *grown = realloc(*ids, more * sizeof(**ids));

		if (!grown)
			return err_set(e, ERR_NO_MEMORY, 0, "list of runs");
		*ids = grown;
		*cap = more;
	}
	strcpy((*ids)[(*n)++], name); /* lint-ok: a run id is bounded */
	return 0;
}

/* A run has an epoch file; what has none is somebody else's. */
static bool has_epoch(int rootfd, const char *run)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/epoch", run);
	return faccessat(rootfd, path, F_OK, 0) == 0;
}

int rundir_list(const char *root, char (**ret)[LIMIT_RUN_ID + 1], size_t *ret_n, struct err *e)
{
	auto_closedir DIR *d = opendir(root);
	auto_free run_id *ids = NULL;
	size_t n = 0, cap = 0;
	struct dirent *ent;

	if (!d && errno != ENOENT)
		return err_set(e, ERR_SYS, errno, "%s: open", root);
	while (d && (ent = readdir(d)))
		if (is_run_id(ent->d_name) && has_epoch(dirfd(d), ent->d_name) &&
		    list_add(&ids, &n, &cap, ent->d_name, e) < 0)
			return -1;
	if (n)
		qsort(ids, n, sizeof(*ids), by_name);
	*ret = take_ptr(ids);
	*ret_n = n;
	return 0;
}

/* --- finding one --- */

static bool is_match(const char *id, const char *run)
{
	return strncmp(id, run, strlen(run)) == 0;
}

/* "; the newest are A, B" of those that match (NULL: all). */
static void name_some(char *out, size_t size, const char *what, run_id *ids, size_t n,
                      const char *run)
{
	size_t len = 0, shown = 0;

	out[0] = 0;
	for (size_t i = n; i-- > 0 && shown < SHOWN && len < size;) {
		if (run && !is_match(ids[i], run))
			continue;
		len += (size_t)snprintf(out + len, size - len, "%s%s", shown ? ", " : what, ids[i]);
		shown++;
	}
}

static int find_by_name(const char *root, const char *run, run_id *ids, size_t n,
                        char path[PATH_BYTES], struct err *e)
{
	size_t matches = 0, at = 0;
	char some[256];

	for (size_t i = 0; i < n; i++) {
		if (strcmp(ids[i], run) == 0)
			return join(path, root, run, e);
		if (is_match(ids[i], run)) {
			matches++;
			at = i;
		}
	}
	if (matches == 1)
		return join(path, root, ids[at], e);
	if (matches) {
		name_some(some, sizeof(some), ": ", ids, n, run);
		return err_set(e, ERR_NOT_FOUND, 0, "run '%.64s': %zu runs begin so%s", run,
		               matches, some);
	}
	name_some(some, sizeof(some), "; the newest here are ", ids, n, NULL);
	return err_set(e, ERR_NOT_FOUND, 0, "run '%.64s': no such run%s", run,
	               n ? some : ": there is none here");
}

int rundir_find(const char *root, const char *run, char path[1024], struct err *e)
{
	auto_free run_id *ids = NULL;
	size_t n;

	if (strchr(run, '/') || has_epoch(AT_FDCWD, run)) {
		if (has_epoch(AT_FDCWD, run))
			return absolute(run, path, e);
		return err_set(e, ERR_NOT_FOUND, 0, "%s: not a run directory", run);
	}
	if (rundir_list(root, &ids, &n, e) < 0)
		return -1;
	if (strcmp(run, "last") != 0)
		return find_by_name(root, run, ids, n, path, e);
	if (n == 0)
		return err_set(e, ERR_NOT_FOUND, 0, "run 'last': there is no run in %s", root);
	return join(path, root, ids[n - 1], e);
}

/* --- the epoch --- */

/* 0: it cannot be read. */
static uint64_t read_epoch(int dirfd)
{
	char text[24];
	auto_close int fd = openat(dirfd, "epoch", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return 0;
	text[n] = 0;
	return strtoull(text, NULL, 10);
}

static int write_epoch(struct rundir *d, uint64_t epoch, struct err *e)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)epoch);

	if (fs_write(d->fd, "epoch", text, (size_t)n, 0600, true, e) < 0)
		return -1;
	d->epoch = epoch;
	return 0;
}

bool rundir_still_mine(const struct rundir *d)
{
	return d->lock_fd >= 0 && read_epoch(d->fd) == d->epoch;
}

/* --- the lock --- */

/* The process id inside is for messages only. */
static void sign_lock(int fd)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) < 0)
		return;
}

static int try_lock(int fd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &whole);
}

static bool is_held(int fd)
{
	struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

static int busy(const struct rundir *d, int fd, struct err *e)
{
	char pid[24] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
	return err_set(e, ERR_BUSY, 0, "run %s: another farstep works on it%s%s", d->run,
	               *pid ? ", process " : "", pid);
}

/* The holder looks at the epoch now and then, and goes when it is not his. */
static int wait_for_lock(struct rundir *d, int fd, struct err *e)
{
	uint64_t until = now_ns() + FORCE_WAIT_MS * UINT64_C(1000000);
	struct timespec pause = { 0, FORCE_POLL_MS * 1000000 };

	if (write_epoch(d, read_epoch(d->fd) + 1, e) < 0)
		return -1;
	while (try_lock(fd) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return err_set(e, ERR_SYS, errno, "%s/lock", d->path);
		if (now_ns() > until) {
			busy(d, fd, e);
			return err_wrap(e, "not let go within %d s", FORCE_WAIT_MS / 1000);
		}
		nanosleep(&pause, NULL);
	}
	if (read_epoch(d->fd) != d->epoch)
		return err_set(e, ERR_REPLACED, 0,
		               "run %s: taken over by another farstep meanwhile", d->run);
	return 0;
}

int rundir_lock(struct rundir *d, bool force, struct err *e)
{
	auto_close int fd = openat(d->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "%s/lock: open", d->path);
	if (try_lock(fd) == 0) {
		if (write_epoch(d, read_epoch(d->fd) + 1, e) < 0)
			return -1;
	} else if (errno != EAGAIN && errno != EACCES) {
		return err_set(e, ERR_SYS, errno, "%s/lock", d->path);
	} else if (!force) {
		return busy(d, fd, e);
	} else if (wait_for_lock(d, fd, e) < 0) {
		return -1;
	}
	sign_lock(fd);
	d->lock_fd = take_fd(&fd);
	return 0;
}

bool rundir_is_locked(const struct rundir *d)
{
	auto_close int fd = -1;

	if (d->lock_fd >= 0)
		return true;
	fd = openat(d->fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && is_held(fd);
}

/* --- making and opening --- */

static int make_parts(struct rundir *d, struct err *e)
{
	static const char *const dirs[] = { "cfg", "logs", "artifacts", "journal" };

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (mkdirat(d->fd, dirs[i], 0700) < 0)
			return err_set(e, ERR_SYS, errno, "%s/%s: mkdir", d->path, dirs[i]);
	return rundir_lock(d, false, e);
}

static int open_dir(struct rundir *d, struct err *e)
{
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_SYS, errno, "%s: open",
		               d->path);
	return 0;
}

int rundir_create(struct rundir *d, const char *root, const char *run, struct err *e)
{
	*d = (struct rundir){ .fd = -1, .lock_fd = -1 };
	if (!is_run_id(run))
		return err_set(e, ERR_INVALID_PARAMS, 0,
		               "run '%.64s': want lower case letters, digits and '-'", run);
	if (join(d->path, root, run, e) < 0)
		return -1;
	snprintf(d->run, sizeof(d->run), "%s", run);
	if (mkdir(d->path, 0700) < 0)
		return err_set(e, errno == EEXIST ? ERR_EXISTS : ERR_SYS, errno, "%s: mkdir",
		               d->path);
	if (open_dir(d, e) < 0 || make_parts(d, e) < 0) {
		rundir_close(d);
		return -1;
	}
	return 0;
}

int rundir_open(struct rundir *d, const char *path, struct err *e)
{
	const char *name;

	*d = (struct rundir){ .fd = -1, .lock_fd = -1 };
	if (absolute(path, d->path, e) < 0)
		return -1;
	name = strrchr(d->path, '/') + 1;
	if (!is_run_id(name))
		return err_set(e, ERR_NOT_FOUND, 0, "%s: not a run directory", path);
	snprintf(d->run, sizeof(d->run), "%s", name);
	if (open_dir(d, e) < 0)
		return -1;
	d->epoch = read_epoch(d->fd);
	if (d->epoch == 0) {
		rundir_close(d);
		return err_set(e, ERR_NOT_FOUND, 0, "%s: not a run directory", path);
	}
	return 0;
}

void rundir_close(struct rundir *d)
{
	close_fd(&d->fd);
	close_fd(&d->lock_fd);
}
