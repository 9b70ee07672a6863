/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE	/* O_PATH */
#endif
#include "protocol/base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/loop.h"

#if __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#else
struct open_how {
	uint64_t flags;
	uint64_t mode;
	uint64_t resolve;
};
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_BENEATH 0x08
#endif

#ifndef SYS_openat2
#define SYS_openat2 437	/* the same on every architecture */
#endif

enum { READ_CHUNK = 64 * 1024, PATH_BYTES = 4096, NAME_BYTES = 255 };

static int fail(struct err *e, const char *path, const char *what)
{
	int sys = errno;
	enum err_code code = sys == ENOENT ? ERR_NOT_FOUND : ERR_SYS;

	return err_set(e, sys == ENOMEM ? ERR_NO_MEMORY : code, sys, "%s: %s", path, what);
}

static bool is_dir(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* --- directories --- */

static int make_dir(int dirfd, const char *path, mode_t mode, struct err *e)
{
	int sys;

	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	sys = errno;
	if (is_dir(dirfd, path))
		return 0;
	errno = sys == EEXIST ? ENOTDIR : sys;
	return fail(e, path, "mkdir");
}

int fs_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e)
{
	char part[PATH_BYTES];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(part)) {
		errno = len ? ENAMETOOLONG : ENOENT;
		return fail(e, path, "mkdir");
	}
	memcpy(part, path, len + 1);
	for (size_t i = 1; i <= len; i++) {
		if ((part[i] != '/' && part[i] != 0) || part[i - 1] == '/')
			continue;
		part[i] = 0;
		if (make_dir(dirfd, part, mode, e) < 0)
			return -1;
		part[i] = path[i];
	}
	return 0;
}

/* --- whole files --- */

/* One read of at most `chunk` towards max bytes.  When there is no room left, a single byte
 * more tells a file that fits from one that does not. */
static ssize_t read_some(int fd, size_t chunk, size_t left, struct buf *out, struct err *e)
{
	size_t n = left < buf_room(out) ? left : buf_room(out);
	uint8_t probe;
	uint8_t *to = &probe;
	ssize_t got;

	if (n > chunk)
		n = chunk;
	if (n > 0) {
		to = buf_reserve(out, n, e);
		if (!to)
			return -1;
	}
	do
		got = read(fd, to, n ? n : 1);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set(e, ERR_SYS, errno, "read");
	if (got > 0 && n == 0)
		return err_set(e, ERR_LIMIT, 0, "larger than the maximum");
	if (got > 0)
		buf_commit(out, (size_t)got);
	return got;
}

/* size: what the file says of itself.  A small file needs no large buffer; those of /proc say 0. */
static int read_all(int fd, off_t size, size_t max, struct buf *out, struct err *e)
{
	size_t chunk = size > 0 && size < READ_CHUNK ? (size_t)size + 1 : READ_CHUNK;
	size_t left = max;
	ssize_t got;

	while ((got = read_some(fd, chunk, left, out, e)) > 0)
		left -= (size_t)got;
	return got < 0 ? -1 : 0;
}

static int want_regular(int fd, const char *path, struct stat *ret, struct err *e)
{
	if (fstat(fd, ret) < 0)
		return fail(e, path, "stat");
	if (S_ISREG(ret->st_mode))
		return 0;
	return err_set(e, ERR_SYS, S_ISDIR(ret->st_mode) ? EISDIR : 0, "%s: not a regular file",
		       path);
}

int fs_read(int dirfd, const char *path, size_t max, struct buf *out, struct err *e)
{
	/* Not blocking, lest a FIFO put in the file's place holds us. */
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	size_t before = out->len;
	struct stat st;

	if (fd < 0)
		return fail(e, path, "open");
	if (want_regular(fd, path, &st, e) < 0)
		return -1;
	if (read_all(fd, st.st_size, max, out, e) < 0) {
		out->len = before;
		return err_wrap(e, "%s", path);
	}
	return 0;
}

int fs_write_all(int fd, const void *p, size_t n, struct err *e)
{
	const uint8_t *from = p;

	while (n) {
		ssize_t put = write(fd, from, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return err_set(e, ERR_SYS, put < 0 ? errno : EIO, "write");
		from += put;
		n -= (size_t)put;
	}
	return 0;
}

/* Length of the directory part of path, with its slash; 0 if there is none. */
static size_t dir_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/* A name no one else uses, in the directory of path. */
static int temp_name(const char *path, char ret[PATH_BYTES], struct err *e)
{
	size_t dir = dir_len(path);
	uint8_t rnd[8];
	char hex[2 * sizeof(rnd) + 1];

	if (random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(rnd, sizeof(rnd), hex);
	if (dir > PATH_BYTES - NAME_BYTES) {
		errno = ENAMETOOLONG;
		return fail(e, path, "write");
	}
	memcpy(ret, path, dir);
	snprintf(ret + dir, NAME_BYTES, ".farstep-%s.tmp", hex);
	return 0;
}

static int fill(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync,
		struct err *e)
{
	auto_close int fd = openat(dirfd, path,
				   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return fail(e, path, "create");
	if (fs_write_all(fd, p, n, e) < 0)
		return err_wrap(e, "%s", path);
	if (sync && fsync(fd) < 0)
		return fail(e, path, "fsync");
	/* NFS and quotas report here what write did not. */
	if (close(take_fd(&fd)) < 0 && errno != EINTR)
		return fail(e, path, "close");
	return 0;
}

/* The directory entry itself must reach the disk too. */
static int sync_dir_of(int dirfd, const char *path, struct err *e)
{
	char dir[PATH_BYTES];
	size_t len = dir_len(path);
	auto_close int fd = -1;

	if (len)
		memcpy(dir, path, len);
	else
		dir[len++] = '.';
	dir[len] = 0;
	fd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(e, dir, "open");
	return fsync(fd) < 0 ? fail(e, dir, "fsync") : 0;
}

int fs_write(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync,
	     struct err *e)
{
	char tmp[PATH_BYTES];

	if (temp_name(path, tmp, e) < 0)
		return -1;
	if (fill(dirfd, tmp, p, n, mode, sync, e) < 0) {
		unlinkat(dirfd, tmp, 0);
		return -1;
	}
	if (renameat(dirfd, tmp, dirfd, path) < 0) {
		fail(e, path, "rename");
		unlinkat(dirfd, tmp, 0);
		return -1;
	}
	return sync ? sync_dir_of(dirfd, path, e) : 0;
}

/* --- removing a tree ---
 *
 * One directory is open at a time.  We go down into a subdirectory that rmdir
 * calls not empty, and back up by "..", where device and inode must be those
 * we left: who moves a directory while we are in it gets an error, and nothing
 * outside the tree is touched.  After coming back the directory is read from
 * its start: what was there before is gone, so each pass removes something, or
 * someone else is at work here, which is endured only so many times. */

enum {
	DEEPEST = 4096,	/* levels; each costs its name and 40 bytes */
	TRIES = 64,		/* surprises: a directory filled or swapped meanwhile */
};

struct level {
	struct level *up;
	dev_t dev;		/* of the directory that holds name */
	ino_t ino;
	unsigned depth;
	char name[];		/* the subdirectory we are in */
};

struct removal {
	int fd;			/* the directory we are in */
	struct level *levels;	/* how we came here; NULL at the top */
	unsigned surprises;
	uint64_t until_ns;	/* 0: as long as it takes */
	bool removed;		/* anything at all */
	struct err *e;
};

enum { REMOVED, WENT_DOWN, TIME_IS_UP };

static bool time_is_up(const struct removal *r)
{
	return r->until_ns && r->removed && now_ns() >= r->until_ns;
}

/* Opens a directory without following a link and makes it ours to read and
 * change; -1 with errno. */
static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* Refused: then unlinkat says so below. */
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)!fchmod(fd, 0700);
	return fd;
}

static int removal_surprise(struct removal *r, const char *name)
{
	if (++r->surprises <= TRIES)
		return 0;
	return err_set(r->e, ERR_BUSY, 0, "%s: changed again and again while it was being removed",
		       name);
}

static int removal_down(struct removal *r, const char *name)
{
	size_t len = strlen(name);
	struct level *l;
	struct stat st;
	int fd;

	if (r->levels && r->levels->depth >= DEEPEST)
		return err_set(r->e, ERR_LIMIT, 0, "%s: deeper than %d directories", name, DEEPEST);
	if (fstat(r->fd, &st) < 0)
		return fail(r->e, name, "stat");
	fd = open_dir(r->fd, name);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return removal_surprise(r, name);	/* gone or swapped: look again */
	if (fd < 0)
		return fail(r->e, name, "open");
	l = malloc(sizeof(*l) + len + 1);
	if (!l) {
		close(fd);
		return err_set(r->e, ERR_NO_MEMORY, 0, "%s", name);
	}
	*l = (struct level){ .up = r->levels, .dev = st.st_dev, .ino = st.st_ino };
	l->depth = l->up ? l->up->depth + 1 : 1;
	memcpy(l->name, name, len + 1);
	r->levels = l;
	close(r->fd);
	r->fd = fd;
	return 0;
}

/* Removes name from the directory fd.  Returns 1 when it is a directory that
 * is not empty.  A mount point is EBUSY, so that no file system but the tree's
 * own is ever entered. */
static int remove_name(int fd, const char *name, struct err *e)
{
	int sys;

	if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return fail(e, name, "remove");
	sys = errno;
	if (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTEMPTY || errno == EEXIST)
		return 1;
	if (errno == ENOTDIR)
		errno = sys;
	return fail(e, name, "remove");
}

static int removal_up(struct removal *r)
{
	struct level *l = r->levels;
	int fd = openat(r->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int got;

	if (fd < 0)
		return fail(r->e, l->name, "open its parent");
	close(r->fd);
	r->fd = fd;
	if (fstat(fd, &st) < 0 || st.st_dev != l->dev || st.st_ino != l->ino)
		return err_set(r->e, ERR_STATE, 0, "%s: moved while it was being removed", l->name);
	got = remove_name(fd, l->name, r->e);
	if (got > 0)
		got = removal_surprise(r, l->name);
	r->levels = l->up;
	r->removed = true;
	free(l);
	return got;
}

/* One pass over the open directory.  REMOVED: nothing is left here. */
static int removal_pass(struct removal *r)
{
	auto_close int dup_fd = openat(r->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
	struct dirent *ent;
	int got;

	if (!d)
		return fail(r->e, ".", "open");
	take_fd(&dup_fd);
	/* cppcheck-suppress readdirCalled ; one thread, and a stream of our own */
	while ((ent = readdir(d))) {
		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		got = remove_name(r->fd, ent->d_name, r->e);
		if (got < 0)
			return -1;
		if (got > 0)
			return removal_down(r, ent->d_name) < 0 ? -1 : WENT_DOWN;
		r->removed = true;
		if (time_is_up(r))
			return TIME_IS_UP;
	}
	return REMOVED;
}

static int removal_run(struct removal *r)
{
	for (;;) {
		int got = removal_pass(r);

		if (got < 0 || got == TIME_IS_UP)
			return got;
		if (got == WENT_DOWN)
			continue;
		if (!r->levels)
			return REMOVED;
		if (removal_up(r) < 0)
			return -1;
		if (time_is_up(r))
			return TIME_IS_UP;
	}
}

static int empty_dir(int dirfd, const char *path, uint64_t until_ns, struct err *e)
{
	struct removal r = { .fd = open_dir(dirfd, path), .until_ns = until_ns, .e = e };
	int ret;

	if (r.fd < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SYS, errno, "open");
	ret = removal_run(&r);
	close(r.fd);
	while (r.levels) {
		struct level *up = r.levels->up;

		free(r.levels);
		r.levels = up;
	}
	return ret;
}

/* "/", "." and ".." are never what someone means to remove. */
static bool names_something(const char *path)
{
	const char *base = path + dir_len(path);

	return *base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0;
}

int fs_remove_some(int dirfd, const char *path, uint64_t until_ns, struct err *e)
{
	int got;

	if (!names_something(path))
		return err_set(e, ERR_INVALID_PARAMS, 0, "'%s': not a name to remove", path);
	for (int tries = 0; tries < TRIES; tries++) {
		got = remove_name(dirfd, path, e);
		if (got <= 0)
			return got;
		got = empty_dir(dirfd, path, until_ns, e);
		if (got < 0)
			return err_wrap(e, "%s: remove", path);
		if (got == TIME_IS_UP)
			return 1;
	}
	return err_set(e, ERR_BUSY, 0, "%s: filled while it was being removed", path);
}

int fs_remove_tree(int dirfd, const char *path, struct err *e)
{
	return fs_remove_some(dirfd, path, 0, e);
}

/* --- opening beneath a directory --- */

/* What openat2 does, for kernels (or seccomp filters) without it: one component
 * at a time, and no link at all. */
static int walk(int dirfd, const char *path, int flags, mode_t mode)
{
	auto_close int at = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_BYTES + 1];

	while (at >= 0) {
		size_t len = strcspn(path, "/");
		const char *rest = path + len + strspn(path + len, "/");
		int next;

		if (len > NAME_BYTES) {
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path, len);
		name[len] = 0;
		if (strcmp(name, "..") == 0) {
			errno = EXDEV;
			return -1;
		}
		if (!*rest && path[len])
			flags |= O_DIRECTORY;
		if (!*rest)
			return openat(at, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
		next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(at);
		at = next;
		path = rest;
	}
	return -1;
}

/* O_PATH with O_NOFOLLOW opens a link instead of refusing it. */
static int refuse_link(int fd)
{
	struct stat st;

	if (fd < 0 || (fstat(fd, &st) == 0 && !S_ISLNK(st.st_mode)))
		return fd;
	close(fd);
	errno = ELOOP;
	return -1;
}

static int open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd = -1;

	/* EAGAIN: something was renamed while the kernel looked at "..". */
	for (int tries = 0; tries < 100; tries++) {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	/* Older container engines answer EPERM to calls they do not know. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		return refuse_link(walk(dirfd, path, flags, mode));
	return (int)fd;
}

int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct err *e)
{
	int fd;

	if (path[0] == 0 || path[0] == '/') {
		errno = path[0] ? EXDEV : ENOENT;
		return fail(e, path, "open");
	}
	fd = open_beneath(dirfd, path, flags, mode);
	return fd < 0 ? fail(e, path, "open") : fd;
}

/* --- names and flags --- */

/* Length of the clean component at path, 0 if it is not clean. */
static size_t clean_component(const char *path)
{
	size_t n = 0;

	for (; path[n] && path[n] != '/'; n++)
		if ((unsigned char)path[n] < 0x20 || path[n] == 0x7f || n >= NAME_BYTES)
			return 0;
	if ((n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
		return 0;
	return n;
}

bool fs_path_is_clean(const char *path)
{
	const char *p = path;

	for (;;) {
		size_t n = clean_component(p);

		if (n == 0 || (size_t)(p - path) + n > PATH_BYTES)
			return false;
		p += n;
		if (!*p)
			return true;
		p++;
	}
}

int fs_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -1;
	return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0 ? -1 : 0;
}
