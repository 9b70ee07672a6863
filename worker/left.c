/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/left.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

#define SLICE_ENTRIES 1000 /* looked at before others get their turn */
#define READ_PIECE    (64 * 1024)
#define NAME_SHOWN    1024 /* bytes of a path in the answer: twenty of them fit in one frame */

/* A file that is safe as long as it is not changed after home_ns. */
struct known {
	uint64_t path; /* hash of the path below work */
	int64_t home_ns;
};

struct found {
	char *path;
	uint64_t size;
	bool changed; /* it was known, and was changed since */
};

struct level {
	DIR *dir;
	size_t len; /* of the path up to here */
};

struct left {
	struct session *s;
	struct reply *reply;
	struct loop_timer slice;
	uint64_t until_ns;
	struct known *known;
	size_t n_known, cap_known;
	struct level levels[LIMIT_PATH_DEPTH];
	int depth;
	char path[LIMIT_PATH + 1];
	struct found found[LIMIT_LEFT_NAMED]; /* the first ones by path */
	size_t n_found;
	uint64_t count, bytes, seen;
	bool incomplete;
};

void left_free(struct left *l)
{
	if (!l)
		return;
	loop_timer_stop(&l->slice);
	while (l->depth)
		closedir(l->levels[--l->depth].dir);
	for (size_t i = 0; i < l->n_found; i++)
		free(l->found[i].path);
	if (l->reply)
		reply_error(l->reply,
		            &(struct err){ .code = ERR_CANCELLED, .msg = "the session ended" },
		            NULL);
	free(l->known);
	free(l);
}

/* --- what is known --- */

static uint64_t hash_path(const char *p, size_t n)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211u;
	return h;
}

static int64_t ns_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static void know(struct left *l, const char *path, size_t n, int64_t home_ns)
{
	if (l->n_known == l->cap_known) {
		size_t cap = l->cap_known ? l->cap_known * 2 : 64;
		struct known *more =
			cap > LIMIT_LEFT_KNOWN ? NULL : realloc(l->known, cap * sizeof(*more));

		if (!more) {
			l->incomplete = true;
			return;
		}
		l->known = more;
		l->cap_known = cap;
	}
	l->known[l->n_known++] = (struct known){ hash_path(path, n), home_ns };
}

/* A file of NUL-ended paths; those that begin with prefix are known without it. */
static void know_list(struct left *l, int fd, const char *prefix, int64_t home_ns)
{
	char piece[READ_PIECE + 1];
	size_t have = 0, skip = strlen(prefix);
	ssize_t n;

	while ((n = read(fd, piece + have, READ_PIECE - have)) > 0) {
		char *p = piece, *end = piece + have + n, *nul;

		for (; (nul = memchr(p, 0, (size_t)(end - p))); p = nul + 1)
			if (strncmp(p, prefix, skip) == 0)
				know(l, p + skip, (size_t)(nul - p) - skip, home_ns);
		have = (size_t)(end - p);
		if (have == READ_PIECE) { /* no path is so long */
			l->incomplete = true;
			return;
		}
		memmove(piece, p, have);
	}
	if (n < 0)
		l->incomplete = true;
}

static void know_package(struct left *l)
{
	auto_close int fd = openat(l->s->dir_fd, "package.list", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	/* Written after the last file was unpacked and before the first step could start. */
	if (fd >= 0 && fstatat(l->s->dir_fd, "package.json", &st, AT_SYMLINK_NOFOLLOW) == 0)
		know_list(l, fd, "", ns_of(&st.st_mtim));
}

static void know_artifacts(struct left *l)
{
	int steps = openat(l->s->dir_fd, "steps", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *d = steps < 0 ? NULL : fdopendir(steps);
	char work[sizeof(l->s->dir) + 8];
	struct dirent *step;

	if (!d) {
		close_fd(&steps);
		l->incomplete = true;
		return;
	}
	snprintf(work, sizeof(work), "%s/work/", l->s->dir);
	while ((step = readdir(d))) {
		char name[sizeof(step->d_name) + 8];
		auto_close int fd = -1;
		struct stat st;

		if (step->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/files", step->d_name);
		fd = openat(dirfd(d), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		/* Written after the last of them was hashed. */
		if (fd >= 0 && fstat(fd, &st) == 0)
			know_list(l, fd, work, ns_of(&st.st_mtim));
	}
}

static int by_hash(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return (x->path > y->path) - (x->path < y->path);
}

/* The latest time until which the path is safe; 0: it is not known. */
static int64_t home_of(const struct left *l, const char *path, size_t n)
{
	uint64_t h = hash_path(path, n);
	size_t from = 0, to = l->n_known;
	int64_t home = 0;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (l->known[mid].path < h)
			from = mid + 1;
		else
			to = mid;
	}
	for (; from < l->n_known && l->known[from].path == h; from++)
		if (l->known[from].home_ns > home)
			home = l->known[from].home_ns;
	return home;
}

/* --- what is there --- */

static void note(struct left *l, const struct stat *st, bool changed)
{
	size_t at = l->n_found;
	char *path;

	l->count++;
	l->bytes += (uint64_t)st->st_size;
	while (at > 0 && strcmp(l->found[at - 1].path, l->path) > 0)
		at--;
	if (at == LIMIT_LEFT_NAMED || !(path = strdup(l->path)))
		return;
	if (l->n_found == LIMIT_LEFT_NAMED)
		free(l->found[--l->n_found].path);
	memmove(&l->found[at + 1], &l->found[at], (l->n_found - at) * sizeof(l->found[0]));
	l->found[at] = (struct found){ path, (uint64_t)st->st_size, changed };
	l->n_found++;
}

/* Takes fd. */
static void enter(struct left *l, int fd, size_t len)
{
	DIR *d = fd < 0 || l->depth == LIMIT_PATH_DEPTH ? NULL : fdopendir(fd);

	if (d) {
		l->levels[l->depth++] = (struct level){ d, len };
		return;
	}
	close_fd(&fd);
	l->incomplete = true;
}

static void visit(struct left *l, int dir_fd, size_t base, const char *name)
{
	size_t len = base + (base > 0) + strlen(name);
	struct stat st;
	int64_t home;

	if (len > LIMIT_PATH) {
		l->incomplete = true;
		return;
	}
	snprintf(l->path + base, sizeof(l->path) - base, "%s%s", base ? "/" : "", name);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (S_ISDIR(st.st_mode)) {
		/* Python puts its own there beside every module that a step imports. */
		if (strcmp(name, "__pycache__") != 0)
			enter(l,
			      openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			      len);
	} else if (S_ISREG(st.st_mode)) {
		home = home_of(l, l->path, len);
		/* The change time, because a step may set the other one as it likes. */
		if (!home || ns_of(&st.st_ctim) > home)
			note(l, &st, home != 0);
	}
}

static void answer(struct left *l)
{
	struct reply *r = l->reply;
	struct err e = ERR_INIT;
	struct buf b;
	struct jw w;

	l->reply = NULL;
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_karr(&w, "files");
	for (size_t i = 0; i < l->n_found; i++) {
		const char *path = l->found[i].path;

		jw_obj(&w);
		jw_key(&w, "path");
		jw_strn(&w, path, strnlen(path, NAME_SHOWN));
		jw_ku64s(&w, "size", l->found[i].size);
		jw_kbool(&w, "changed", l->found[i].changed);
		jw_end(&w);
	}
	jw_end(&w);
	jw_kint(&w, "count", (int64_t)l->count);
	jw_ku64s(&w, "bytes", l->bytes);
	jw_kbool(&w, "complete", !l->incomplete);
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		reply_error(r, &e, NULL);
	else
		reply_result(r, (const char *)buf_data(&b), buf_len(&b));
	buf_release(&b);
}

static void on_slice(struct loop_timer *t)
{
	struct left *l = (struct left *)((char *)t - offsetof(struct left, slice));

	for (int i = 0; l->depth && i < SLICE_ENTRIES; i++) {
		struct level top = l->levels[l->depth - 1];
		struct dirent *f = readdir(top.dir);

		if (!f) {
			closedir(top.dir);
			l->depth--;
		} else if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) {
			l->seen++;
			visit(l, dirfd(top.dir), top.len, f->d_name);
		}
	}
	if (l->depth && l->seen < LIMIT_ENTRIES && now_ns() < l->until_ns &&
	    loop_timer_start(l->s->w->loop, &l->slice, 0, on_slice, NULL) == 0)
		return;
	l->incomplete |= l->depth > 0;
	answer(l);
	l->s->left = NULL;
	left_free(l);
}

void left_list(struct session *s, struct reply *r)
{
	struct left *l = calloc(1, sizeof(*l));
	struct err e = ERR_INIT;

	if (s->left && s->left->reply) {
		err_set(&e, ERR_REPLACED, 0, "another request took over");
		reply_error(s->left->reply, &e, NULL);
		s->left->reply = NULL;
	}
	left_free(s->left);
	s->left = NULL;
	if (!l) {
		err_set(&e, ERR_NO_MEMORY, 0, "session.left");
		reply_error(r, &e, NULL);
		return;
	}
	l->s = s;
	l->reply = r;
	l->until_ns = now_ns() + (uint64_t)LEFT_WALK_MS * 1000000;
	know_package(l);
	know_artifacts(l);
	if (l->n_known)
		qsort(l->known, l->n_known, sizeof(*l->known), by_hash);
	enter(l, openat(s->dir_fd, "work", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), 0);
	s->left = l;
	on_slice(&l->slice); /* most have seen all in one */
}
