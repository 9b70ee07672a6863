/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"

#define HASH_PIECE (128 * 1024)

struct item {
	char *path; /* relative to its base */
	const char *base;
	int order; /* of the base: lower wins */
	unsigned mode;
	uint64_t size;
	char sha256[SHA256_HEX];
};

struct gather {
	const struct manifest_spec *spec;
	struct item *items;
	size_t n, cap;
	struct receipt *ret;
	const char *base;
	int order;
};

bool glob_is_good(const char *glob)
{
	size_t n = strlen(glob);

	if (n == 0 || n > LIMIT_PATH || glob[0] == '/')
		return false;
	for (const char *part = glob; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2]))
			return false;
	return true;
}

/* The next component into one[]; what follows its slash, NULL at the end. */
static const char *component(const char *path, char one[NAME_MAX + 1], bool *fits)
{
	const char *slash = strchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : strlen(path);

	*fits = n <= NAME_MAX;
	if (*fits) {
		memcpy(one, path, n);
		one[n] = 0;
	}
	return slash ? slash + 1 : NULL;
}

/* "**" stands for any number of whole components.  Only the last one met need ever take one
 * more, so the work is bounded by the product of both lengths. */
bool glob_match(const char *glob, const char *path)
{
	const char *after_stars = NULL, *again = NULL;
	char want[NAME_MAX + 1], is[NAME_MAX + 1];
	bool fits, is_fits;

	while (path) {
		const char *glob_next = NULL, *path_next = component(path, is, &is_fits);

		if (glob) {
			glob_next = component(glob, want, &fits);
			if (fits && strcmp(want, "**") == 0) {
				if (!glob_next) /* at the end: everything below */
					return true;
				after_stars = glob_next;
				again = path;
				glob = glob_next;
				continue;
			}
			if (fits && is_fits && fnmatch(want, is, FNM_PERIOD) == 0) {
				glob = glob_next;
				path = path_next;
				continue;
			}
		}
		if (!after_stars)
			return false;
		glob = after_stars;
		path = again = component(again, is, &is_fits);
	}
	return !glob;
}

static void refuse(struct gather *g, const char *path, const char *why)
{
	for (size_t i = 0; i < ARRAY_LEN(g->ret->refused); i++) {
		if (g->ret->refused[i][0])
			continue;
		snprintf(g->ret->refused[i], sizeof(g->ret->refused[i]), "%.180s: %s", path, why);
		return;
	}
}

static void say_alive(const struct gather *g)
{
	if (g->spec->alive)
		g->spec->alive();
}

static bool wanted(const struct gather *g, const char *path)
{
	if (g->order == 0)
		return true;
	for (const char *const *glob = g->spec->globs; *glob; glob++)
		if (glob_match(*glob, path))
			return true;
	return false;
}

static int add(struct gather *g, const char *path, const struct stat *st, struct err *e)
{
	if (g->n >= LIMIT_ARTIFACTS)
		return err_set(e, ERR_LIMIT, 0, "artifacts: over %d files", LIMIT_ARTIFACTS);
	if (g->n == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 64;
		struct item *more = realloc(g->items, cap * sizeof(*more));

		if (!more)
			return err_set(e, ERR_NO_MEMORY, 0, "artifacts");
		g->items = more;
		g->cap = cap;
	}
	g->items[g->n] = (struct item){ .path = strdup(path),
		                        .base = g->base,
		                        .order = g->order,
		                        .mode = st->st_mode & 0777,
		                        .size = (uint64_t)st->st_size };
	if (!g->items[g->n].path)
		return err_set(e, ERR_NO_MEMORY, 0, "artifacts");
	g->n++;
	return 0;
}

static int walk(struct gather *g, int dir_fd, const char *prefix, int depth, struct err *e);

static int visit(struct gather *g, int dir_fd, const char *prefix, const char *name, int depth,
                 struct err *e)
{
	char path[LIMIT_PATH + 1];
	struct stat st;

	if ((size_t)snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", name) >=
	    sizeof(path)) {
		refuse(g, name, "its path is too long");
		return 0;
	}
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SYS, errno, "artifacts: %s", path);
	if (S_ISDIR(st.st_mode)) {
		auto_close int sub =
			openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (sub < 0) {
			refuse(g, path, "cannot be read");
			return 0;
		}
		return walk(g, sub, path, depth + 1, e);
	}
	if (!wanted(g, path))
		return 0;
	if (!fs_path_is_clean(path))
		refuse(g, path, "its name has control characters");
	else if (!S_ISREG(st.st_mode))
		refuse(g, path,
		       S_ISLNK(st.st_mode) ? "a symbolic link, not a regular file"
		                           : "not a regular file");
	else
		return add(g, path, &st, e);
	return 0;
}

static int walk(struct gather *g, int dir_fd, const char *prefix, int depth, struct err *e)
{
	int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	auto_closedir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *f;

	if (!d) {
		close_fd(&fd);
		return err_set(e, ERR_SYS, errno, "artifacts");
	}
	if (depth > LIMIT_PATH_DEPTH) {
		refuse(g, prefix, "too deep");
		return 0;
	}
	while ((f = readdir(d))) {
		say_alive(g);
		if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0 &&
		    visit(g, dir_fd, prefix, f->d_name, depth, e) < 0)
			return -1;
	}
	return 0;
}

static int gather_base(struct gather *g, const char *base, int order, struct err *e)
{
	auto_close int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0) /* the step removed it */
		return 0;
	g->base = base;
	g->order = order;
	return walk(g, fd, "", 0, e);
}

static int by_path(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int c = strcmp(x->path, y->path);

	return c ? c : x->order - y->order;
}

static void drop_doubles(struct gather *g)
{
	size_t to = 0;

	qsort(g->items, g->n, sizeof(*g->items), by_path);
	for (size_t i = 0; i < g->n; i++) {
		if (to && strcmp(g->items[to - 1].path, g->items[i].path) == 0)
			free(g->items[i].path);
		else
			g->items[to++] = g->items[i];
	}
	g->n = to;
}

static int hash_item(const struct gather *g, struct item *it, struct err *e)
{
	static uint8_t piece[HASH_PIECE]; /* one at a time in a keeper */
	char path[2 * LIMIT_PATH];
	auto_close int fd = -1;
	struct hash h;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", it->base, it->path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "artifact '%s'", it->path);
	hash_init(&h);
	it->size = 0;
	while ((n = read(fd, piece, sizeof(piece))) > 0) {
		hash_update(&h, piece, (size_t)n);
		it->size += (uint64_t)n;
		say_alive(g);
	}
	hash_hex(&h, it->sha256);
	return n < 0 ? err_set(e, ERR_SYS, errno, "artifact '%s'", it->path) : 0;
}

static int print(struct gather *g, struct buf *manifest, struct buf *files, struct err *e)
{
	struct jw w;

	jw_init(&w, manifest);
	jw_arr(&w);
	for (size_t i = 0; i < g->n; i++) {
		struct item *it = &g->items[i];

		if (hash_item(g, it, e) < 0)
			return -1;
		jw_obj(&w); /* keys sorted: canonical */
		jw_kint(&w, "mode", it->mode);
		jw_kstr(&w, "path", it->path);
		jw_kstr(&w, "sha256", it->sha256);
		jw_ku64s(&w, "size", it->size);
		jw_end(&w);
		g->ret->artifacts.bytes += it->size;
		if (buf_printf(files, e, "%s/%s", it->base, it->path) < 0 ||
		    buf_putc(files, 0, e) < 0)
			return -1;
	}
	jw_end(&w);
	return jw_done(&w, e);
}

static int write_both(struct gather *g, int dir_fd, struct err *e)
{
	struct buf manifest, files;
	struct hash h;
	int r;

	buf_init(&manifest, LIMIT_MANIFEST);
	buf_init(&files, 4 * LIMIT_MANIFEST);
	r = print(g, &manifest, &files, e);
	if (r == 0)
		r = fs_write(dir_fd, "manifest", buf_data(&manifest), buf_len(&manifest), 0600,
		             false, e);
	if (r == 0)
		r = fs_write(dir_fd, "files", buf_data(&files), buf_len(&files), 0600, false, e);
	if (r == 0) {
		hash_init(&h);
		hash_update(&h, buf_data(&manifest), buf_len(&manifest));
		hash_hex(&h, g->ret->artifacts.sha256);
		g->ret->artifacts.manifest_bytes = buf_len(&manifest);
		g->ret->artifacts.count = g->n;
	}
	buf_release(&manifest);
	buf_release(&files);
	return r;
}

int manifest_make(const struct manifest_spec *spec, int dir_fd, struct receipt *ret, struct err *e)
{
	struct gather g = { .spec = spec, .ret = ret };
	int r = gather_base(&g, spec->artifacts_dir, 0, e);

	if (r == 0 && spec->globs[0])
		r = gather_base(&g, spec->output_dir, 1, e);
	if (r == 0 && spec->globs[0])
		r = gather_base(&g, spec->work_dir, 2, e);
	if (r == 0 && g.n) {
		drop_doubles(&g);
		r = write_both(&g, dir_fd, e);
	}
	for (size_t i = 0; i < g.n; i++)
		free(g.items[i].path);
	free(g.items);
	if (r < 0) {
		struct receipt empty;

		receipt_init(&empty);
		ret->artifacts = empty.artifacts;
	}
	return r;
}
