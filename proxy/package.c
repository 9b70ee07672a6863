/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"

#define INDEX_PATH ".farstep/index.json"
#define RESERVED ".farstep"

enum {
	READ_CHUNK = 128 * 1024,
	BLOCK = 64 * 1024,		/* what libarchive hands over at once */
	WINDOW_LOG = 20,		/* 1 MiB: small in the worker, little worse in size */
	RATIO_FREE = 64 * 1024 * 1024,	/* the unpacker asks for no ratio before this */
};

void package_init(struct package *p)
{
	*p = (struct package){ 0 };
}

static void file_release(struct package_file *f)
{
	free(f->path);
	free(f->source);
}

void package_release(struct package *p)
{
	for (size_t i = 0; i < p->n; i++)
		file_release(&p->files[i]);
	free(p->files);
	package_init(p);
}

/* --- names --- */

/* The index is JSON, and JSON is UTF-8: other names could not be told apart. */
static bool is_utf8(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p) {
		bool two = *p >= 0xc2 && *p < 0xe0, four = *p >= 0xf0 && *p < 0xf5;
		unsigned n = *p < 0x80 ? 0 : two ? 1 : (*p & 0xf0) == 0xe0 ? 2 : four ? 3 : 4;
		unsigned char lo = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80;
		unsigned char hi = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;

		if (n == 4)
			return false;
		for (p++; n; n--, p++, lo = 0x80, hi = 0xbf)
			if (*p < lo || *p > hi)
				return false;
	}
	return true;
}

static unsigned depth_of(const char *path)
{
	unsigned n = 1;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

/* Names that no walk and no wildcard takes along. */
static bool is_left_out(const char *name)
{
	return strcmp(name, ".git") == 0 || strcmp(name, RESERVED) == 0;
}

static bool is_reserved(const char *path)
{
	size_t n = strlen(RESERVED);

	return strncmp(path, RESERVED, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static int check_path(const char *path, struct err *e)
{
	if (is_reserved(path))
		return err_set(e, ERR_PIPELINE, 0, "'%s': the name .farstep is reserved", path);
	if (depth_of(path) > LIMIT_PATH_DEPTH)
		return err_set(e, ERR_LIMIT, 0, "'%.200s': deeper than %d directories", path,
			       LIMIT_PATH_DEPTH);
	if (!fs_path_is_clean(path) || !is_utf8(path))
		return err_set(e, ERR_PIPELINE, 0,
			       "'%.200s': a name must be UTF-8, without control characters, of "
			       "at most 255 bytes", path);
	return 0;
}

/* dir + "/" + name, or name alone below an empty dir. */
static int join(char ret[PATH_MAX], const char *dir, const char *name, struct err *e)
{
	int n = snprintf(ret, PATH_MAX, "%s%s%s", dir, *dir && strcmp(dir, "/") != 0 ? "/" : dir,
			 name);

	if (n < 0 || n >= PATH_MAX)
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", name);
	return 0;
}

/* "./data//x/" as people write it, to "data/x"; "." to "". */
static int normalise(const char *relative, char ret[PATH_MAX], struct err *e)
{
	size_t len = 0;

	if (*relative == '/')
		return err_set(e, ERR_PIPELINE, 0, "'%.200s': must be relative", relative);
	for (const char *p = relative; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return err_set(e, ERR_PIPELINE, 0,
				       "'%.200s': leaves the directory of the pipeline", relative);
		if (n && !(n == 1 && *p == '.')) {
			if (len + n + 2 > PATH_MAX)
				return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long",
					       relative);
			if (len)
				ret[len++] = '/';
			memcpy(ret + len, p, n);
			len += n;
		}
		p += n + (p[n] == '/');
	}
	ret[len] = 0;
	return 0;
}

/* --- adding --- */

static int push(struct package *p, const char *path, const char *source, bool dir, struct err *e)
{
	struct package_file f = { .dir = dir };

	if (check_path(path, e) < 0)
		return -1;
	if (p->n >= LIMIT_ENTRIES)
		return err_set(e, ERR_LIMIT, 0, "'%s': more than %d files", path, LIMIT_ENTRIES);
	if ((p->n & (p->n - 1)) == 0) {	/* full at every power of two */
		struct package_file *files =
			realloc(p->files, (p->n ? 2 * p->n : 1) * sizeof(*files));

		if (!files)
			return err_set(e, ERR_NO_MEMORY, 0, "%zu files", p->n);
		p->files = files;
	}
	f.path = strdup(path);
	f.source = strdup(source);
	if (!f.path || !f.source) {
		file_release(&f);
		return err_set(e, ERR_NO_MEMORY, 0, "'%s'", path);
	}
	p->files[p->n++] = f;
	return 0;
}

/* Where we are in a walk: the directories above tell a loop of links. */
struct above {
	const struct above *up;
	dev_t dev;
	ino_t ino;
};

struct adder {
	struct package *p;
	char base[PATH_MAX];	/* without links */
	struct err *e;
};

static int add_real(struct adder *a, const char *path, const char *real, const struct above *up);

static bool is_inside(const char *base, const char *real)
{
	size_t n = strlen(base);

	if (strcmp(base, "/") == 0)
		return true;
	return strncmp(real, base, n) == 0 && (real[n] == '/' || real[n] == 0);
}

/* What the links on the way to base/path lead to, if that is inside. */
static int add_resolved(struct adder *a, const char *path, const struct above *up)
{
	char full[PATH_MAX], real[PATH_MAX];
	struct stat st;

	if (join(full, a->base, path, a->e) < 0)
		return -1;
	if (!realpath(full, real)) {
		if (errno == ENOENT && lstat(full, &st) == 0)
			return err_set(a->e, ERR_PIPELINE, 0,
				       "'%.200s': a link to something that is not there", path);
		return err_set(a->e, ERR_PIPELINE, errno, "'%.200s'", path);
	}
	if (!is_inside(a->base, real))
		return err_set(
			a->e, ERR_PIPELINE, 0,
			"'%.150s': a link to '%.150s', outside of the directory of the pipeline",
			path, real);
	return add_real(a, path, real, up);
}

static int add_member(struct adder *a, const char *path, const char *real, const struct dirent *ent,
		      const struct above *up)
{
	char sub[PATH_MAX], sub_real[PATH_MAX];
	unsigned char type = ent->d_type;
	struct stat st;

	if (join(sub, path, ent->d_name, a->e) < 0 || join(sub_real, real, ent->d_name, a->e) < 0)
		return -1;
	if (type == DT_UNKNOWN && lstat(sub_real, &st) == 0 && S_ISLNK(st.st_mode))
		type = DT_LNK;
	/* Only a link can lead out, so only a link needs the long way. */
	return type == DT_LNK ? add_resolved(a, sub, up) : add_real(a, sub, sub_real, up);
}

static int add_members(struct adder *a, const char *path, const char *real, const struct above *up)
{
	auto_closedir DIR *d = opendir(real);
	size_t before = a->p->n;
	struct dirent *ent;

	if (!d)
		return err_set(a->e, ERR_PIPELINE, errno, "'%.200s'", path);
	while ((ent = readdir(d))) {
		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0 ||
		    is_left_out(ent->d_name))
			continue;
		if (add_member(a, path, real, ent, up) < 0)
			return -1;
	}
	return a->p->n == before && *path ? push(a->p, path, real, true, a->e) : 0;
}

static int add_real(struct adder *a, const char *path, const char *real, const struct above *up)
{
	struct above here = { .up = up };
	struct stat st;

	if (lstat(real, &st) < 0)
		return err_set(a->e, ERR_PIPELINE, errno, "'%.200s'", path);
	if (S_ISREG(st.st_mode))
		return push(a->p, path, real, false, a->e);
	if (!S_ISDIR(st.st_mode))
		return err_set(a->e, ERR_PIPELINE, 0, "'%.200s': neither a file nor a directory",
			       path);
	if (*path && check_path(path, a->e) < 0)	/* also what ends the descent */
		return -1;
	here.dev = st.st_dev;
	here.ino = st.st_ino;
	for (const struct above *o = up; o; o = o->up)
		if (o->dev == here.dev && o->ino == here.ino)
			return err_set(a->e, ERR_PIPELINE, 0,
				       "'%.200s': a link to a directory above it", path);
	return add_members(a, path, real, &here);
}

static int adder_init(struct adder *a, struct package *p, const char *base_dir, struct err *e)
{
	a->p = p;
	a->e = e;
	if (!realpath(base_dir, a->base))
		return err_set(e, ERR_PIPELINE, errno, "'%.200s'", base_dir);
	return 0;
}

int package_add(struct package *p, const char *base_dir, const char *relative, struct err *e)
{
	char path[PATH_MAX];
	struct adder a;

	if (normalise(relative, path, e) < 0 || adder_init(&a, p, base_dir, e) < 0)
		return -1;
	return add_resolved(&a, path, NULL);
}

/* --- globs --- */

struct globber {
	struct adder a;
	size_t hits;
};

static int glob_below(struct globber *g, const char *dir, const char *pattern, unsigned depth);

/* Takes the first component of the pattern off; returns what follows it. */
static const char *split(const char *pattern, char ret[NAME_MAX + 1], struct err *e)
{
	size_t n = strcspn(pattern, "/");

	if (n > NAME_MAX) {
		err_set(e, ERR_PIPELINE, 0, "'%.200s': a part of the pattern is too long", pattern);
		return NULL;
	}
	memcpy(ret, pattern, n);
	ret[n] = 0;
	return pattern + n + (pattern[n] == '/');
}

/* "*" and the like match no name with a dot in front, and nothing takes .git along that
 * did not name it. */
static bool name_matches(const char *component, const char *name)
{
	if (strcmp(component, name) == 0)
		return true;
	if (is_left_out(name) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	return fnmatch(component, name, FNM_PERIOD) == 0;
}

static int glob_hit(struct globber *g, const char *path)
{
	g->hits++;
	return add_resolved(&g->a, path, NULL);
}

static bool is_dir(const struct adder *a, const char *path, bool follow)
{
	char full[PATH_MAX];
	struct stat st;

	if (join(full, a->base, path, NULL) < 0)
		return false;
	return (follow ? stat(full, &st) : lstat(full, &st)) == 0 && S_ISDIR(st.st_mode);
}

/* One name of dir against the first component of a pattern; "**" stands for any number
 * of directories (no links: they could lead in a circle). */
static int glob_name(struct globber *g, const char *dir, const char *name, const char *component,
		     const char *rest, const char *whole, unsigned depth)
{
	bool deep = strcmp(component, "**") == 0;
	char path[PATH_MAX];

	if (!name_matches(deep ? "*" : component, name))
		return 0;
	if (join(path, dir, name, g->a.e) < 0)
		return -1;
	if (!*rest)	/* a directory brings all below it, so "**" at the end is "*" */
		return glob_hit(g, path);
	if (deep)
		return is_dir(&g->a, path, false) ? glob_below(g, path, whole, depth + 1) : 0;
	return is_dir(&g->a, path, true) ? glob_below(g, path, rest, depth + 1) : 0;
}

static int glob_below(struct globber *g, const char *dir, const char *pattern, unsigned depth)
{
	char component[NAME_MAX + 1], full[PATH_MAX];
	const char *rest = split(pattern, component, g->a.e);
	auto_closedir DIR *d = NULL;
	struct dirent *ent;

	if (!rest)
		return -1;
	if (strcmp(component, "**") == 0 && strncmp(rest, "**/", 3) == 0)
		return glob_below(g, dir, rest, depth);	/* twice says no more than once */
	if (depth > LIMIT_PATH_DEPTH)
		return err_set(g->a.e, ERR_LIMIT, 0, "'%.200s': deeper than %d directories", dir,
			       LIMIT_PATH_DEPTH);
	if (join(full, g->a.base, dir, g->a.e) < 0)
		return -1;
	if (strcmp(component, "**") == 0 && *rest && glob_below(g, dir, rest, depth + 1) < 0)
		return -1;
	d = opendir(full);
	if (!d)
		return err_set(g->a.e, ERR_PIPELINE, errno, "'%.200s'", dir);
	while ((ent = readdir(d)))
		if (glob_name(g, dir, ent->d_name, component, rest, pattern, depth) < 0)
			return -1;
	return 0;
}

int package_glob(struct package *p, const char *base_dir, const char *pattern, struct err *e)
{
	char clean[PATH_MAX];
	struct globber g = { .hits = 0 };

	if (normalise(pattern, clean, e) < 0 || adder_init(&g.a, p, base_dir, e) < 0)
		return -1;
	if (!*clean || !strpbrk(clean, "*?[\\"))
		return add_resolved(&g.a, clean, NULL);
	if (glob_below(&g, "", clean, 0) < 0)
		return -1;
	if (!g.hits)
		return err_set(e, ERR_PIPELINE, 0, "'%.200s': no file matches", pattern);
	return 0;
}

/* --- the index --- */

static int open_source(const struct package_file *f, struct stat *st, struct err *e)
{
	/* Not blocking, lest a fifo put in the file's place holds us. */
	auto_close int fd =
		open(f->source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, st) < 0)
		return err_set(e, errno == ENOMEM ? ERR_NO_MEMORY : ERR_PIPELINE, errno, "'%s'",
			       f->path);
	if (!S_ISREG(st->st_mode))
		return err_set(e, ERR_PIPELINE, 0, "'%s': no longer a file", f->path);
	return take_fd(&fd);
}

/* 0 at the end of the file. */
static ssize_t read_some(int fd, void *to, size_t n, const struct package_file *f, struct err *e)
{
	ssize_t got;

	do
		got = read(fd, to, n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? err_set(e, ERR_PIPELINE, errno, "'%s'", f->path) : got;
}

static int file_index(struct package_file *f, void *chunk, struct err *e)
{
	struct stat st;
	struct hash h;
	ssize_t got;
	auto_close int fd = open_source(f, &st, e);

	if (fd < 0)
		return -1;
	hash_init(&h);
	f->size = 0;
	while ((got = read_some(fd, chunk, READ_CHUNK, f, e)) > 0) {
		hash_update(&h, chunk, (size_t)got);
		f->size += (uint64_t)got;
	}
	f->mode = st.st_mode & 0100 ? 0755 : 0644;
	hash_hex(&h, f->sha256);
	return got < 0 ? -1 : 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct package_file *)a)->path,
		      ((const struct package_file *)b)->path);
}

/* The first entry from `from` on whose path is below dir, or p->n. */
static size_t first_below(const struct package *p, size_t from, const char *dir)
{
	size_t n = strlen(dir), lo = from, hi = p->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const char *path = p->files[mid].path;
		int c = strncmp(path, dir, n);

		if (c < 0 || (c == 0 && (unsigned char)path[n] < '/'))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < p->n && strncmp(p->files[lo].path, dir, n) == 0 && p->files[lo].path[n] == '/')
		return lo;
	return p->n;
}

/* Two entries of one path, or a file where another needs a directory: fine if it is the
 * same thing added twice. */
static int settle(struct package *p, struct err *e)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->n; i++) {
		struct package_file *f = &p->files[i], *last = kept ? &p->files[kept - 1] : NULL;
		size_t below = first_below(p, i + 1, f->path);
		bool same = last && strcmp(last->path, f->path) == 0;

		if (same && !last->dir && !f->dir && strcmp(last->source, f->source) != 0)
			return err_set(e, ERR_PIPELINE, 0, "'%.120s': both '%.120s' and '%.120s'",
				       f->path, last->source, f->source);
		if ((same && last->dir != f->dir) || (!f->dir && below < p->n))
			return err_set(e, ERR_PIPELINE, 0, "'%.200s': both a file and a directory",
				       f->path);
		if (same || below < p->n)	/* a directory with files needs no entry */
			continue;
		if (kept != i) {
			struct package_file f_kept = p->files[kept];

			p->files[kept] = *f;	/* what is dropped moves back and is released */
			*f = f_kept;
		}
		kept++;
	}
	for (size_t i = kept; i < p->n; i++)
		file_release(&p->files[i]);
	p->n = kept;
	return 0;
}

int package_index(struct package *p, struct err *e)
{
	auto_free uint8_t *chunk = malloc(READ_CHUNK);

	if (!chunk)
		return err_set(e, ERR_NO_MEMORY, 0, "package");
	if (p->n)
		qsort(p->files, p->n, sizeof(*p->files), by_path);
	if (settle(p, e) < 0)
		return -1;
	p->bytes = 0;
	for (size_t i = 0; i < p->n; i++) {
		if (!p->files[i].dir && file_index(&p->files[i], chunk, e) < 0)
			return -1;
		p->bytes += p->files[i].size;
		if (p->bytes > LIMIT_UNPACKED)
			return err_set(e, ERR_LIMIT, 0,
				       "'%s': the package has more than %lld bytes",
				       p->files[i].path, LIMIT_UNPACKED);
	}
	return 0;
}

int package_index_print(const struct package *p, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kint(&w, "v", 1);
	jw_karr(&w, "files");
	for (size_t i = 0; i < p->n; i++) {
		const struct package_file *f = &p->files[i];

		jw_obj(&w);
		jw_kstr(&w, "path", f->path);
		if (f->dir) {
			jw_kbool(&w, "dir", true);
		} else {
			jw_ku64s(&w, "size", f->size);
			jw_kint(&w, "mode", f->mode);
			jw_kstr(&w, "sha256", f->sha256);
		}
		jw_end(&w);
	}
	jw_end(&w);
	jw_end(&w);
	return jw_done(&w, e);
}

/* --- the archive: libarchive makes the tar, zstd packs it, we hash and write --- */

struct packer {
	int fd;
	ZSTD_CCtx *zstd;
	struct archive *tar;
	struct archive_entry *entry;
	uint8_t *chunk;		/* READ_CHUNK of a source */
	uint8_t *out;
	size_t out_size;
	uint64_t in, packed;
	struct hash hash;
	struct err *e;
	bool failed;		/* *e is set already */
};

static int packer_fail(struct packer *k, enum err_code code, const char *what)
{
	if (!k->failed)
		err_set(k->e, code, 0, "package: %s", what ? what : "unknown error");
	k->failed = true;
	return -1;
}

static int pack(struct packer *k, const void *p, size_t n, ZSTD_EndDirective end)
{
	ZSTD_inBuffer in = { p, n, 0 };
	size_t left;

	k->in += n;
	do {
		ZSTD_outBuffer out = { k->out, k->out_size, 0 };

		left = ZSTD_compressStream2(k->zstd, &out, &in, end);
		if (ZSTD_isError(left))
			return packer_fail(k, ERR_INTERNAL, ZSTD_getErrorName(left));
		if (fs_write_all(k->fd, out.dst, out.pos, k->e) < 0) {
			k->failed = true;
			return err_wrap(k->e, "package");
		}
		hash_update(&k->hash, out.dst, out.pos);
		k->packed += out.pos;
	} while (end == ZSTD_e_end ? left > 0 : in.pos < in.size);
	if (k->packed > LIMIT_PACKAGE)
		return packer_fail(k, ERR_LIMIT, "larger than 4 GiB");
	return 0;
}

static la_ssize_t on_tar_bytes(struct archive *tar, void *ctx, const void *p, size_t n)
{
	struct packer *k = ctx;

	if (!k->failed && pack(k, p, n, ZSTD_e_continue) == 0)
		return (la_ssize_t)n;
	archive_set_error(tar, EIO, "stopped");
	return -1;
}

/* What the unpacker would refuse as a bomb is better refused here, with the name. */
static int check_ratio(struct packer *k, const struct package_file *f)
{
	if (k->in <= RATIO_FREE || (k->in - RATIO_FREE) / LIMIT_UNPACK_RATIO <= k->packed)
		return 0;
	err_set(k->e, ERR_LIMIT, 0,
		"'%s': packs better than %d to 1, which a worker refuses as a bomb", f->path,
		LIMIT_UNPACK_RATIO);
	k->failed = true;
	return -1;
}

static int put_header(struct packer *k, const char *path, bool dir, uint64_t size, unsigned mode)
{
	archive_entry_clear(k->entry);
	archive_entry_copy_pathname(k->entry, path);
	archive_entry_set_filetype(k->entry, dir ? AE_IFDIR : AE_IFREG);
	archive_entry_set_perm(k->entry, dir ? 0755 : mode);
	archive_entry_set_size(k->entry, (la_int64_t)size);
	archive_entry_set_mtime(k->entry, 0, 0);
	if (archive_write_header(k->tar, k->entry) != ARCHIVE_OK)
		return packer_fail(k, ERR_INTERNAL, archive_error_string(k->tar));
	return 0;
}

static int put_data(struct packer *k, const void *p, size_t n)
{
	if (n && archive_write_data(k->tar, p, n) != (la_ssize_t)n)
		return packer_fail(k, ERR_INTERNAL, archive_error_string(k->tar));
	return 0;
}

static int put_index(struct packer *k, const struct package *p)
{
	struct buf index CLEANUP(buf_release);

	buf_init(&index, LIMIT_MANIFEST);
	if (package_index_print(p, &index, k->e) < 0) {
		k->failed = true;
		return err_wrap(k->e, "package index");
	}
	if (put_header(k, INDEX_PATH, false, buf_len(&index), 0644) < 0)
		return -1;
	return put_data(k, buf_data(&index), buf_len(&index));
}

static int changed(struct packer *k, const struct package_file *f)
{
	err_set(k->e, ERR_INTEGRITY, 0, "'%s': changed while it was packed", f->path);
	k->failed = true;
	return -1;
}

static int put_contents(struct packer *k, const struct package_file *f, int fd)
{
	char sha256[SHA256_HEX];
	uint64_t left = f->size;
	struct hash h;
	ssize_t got;

	hash_init(&h);
	while ((got = read_some(fd, k->chunk, READ_CHUNK, f, k->e)) > 0) {
		if ((uint64_t)got > left)
			return changed(k, f);
		left -= (uint64_t)got;
		hash_update(&h, k->chunk, (size_t)got);
		if (put_data(k, k->chunk, (size_t)got) < 0 || check_ratio(k, f) < 0)
			return -1;
	}
	if (got < 0) {
		k->failed = true;
		return -1;
	}
	hash_hex(&h, sha256);
	return left || strcmp(sha256, f->sha256) != 0 ? changed(k, f) : 0;
}

static int put_file(struct packer *k, const struct package_file *f)
{
	auto_close int fd = -1;
	struct stat st;

	if (f->dir)
		return put_header(k, f->path, true, 0, 0);
	fd = open_source(f, &st, k->e);
	if (fd < 0)
		return changed(k, f);
	if (put_header(k, f->path, false, f->size, f->mode) < 0)
		return -1;
	return put_contents(k, f, fd);
}

static int packer_open(struct packer *k, int level)
{
	k->out_size = ZSTD_CStreamOutSize();
	k->out = malloc(k->out_size);
	k->chunk = malloc(READ_CHUNK);
	k->zstd = ZSTD_createCCtx();
	k->tar = archive_write_new();
	k->entry = archive_entry_new();
	if (!k->out || !k->chunk || !k->zstd || !k->tar || !k->entry)
		return packer_fail(k, ERR_NO_MEMORY, "out of memory");
	if (ZSTD_isError(ZSTD_CCtx_setParameter(k->zstd, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(k->zstd, ZSTD_c_windowLog, WINDOW_LOG)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(k->zstd, ZSTD_c_checksumFlag, 1)))
		return packer_fail(k, ERR_INTERNAL, "zstd refuses its parameters");
	/* BINARY: names travel as the bytes they are, whatever the locale here and there. */
	if (archive_write_set_format_pax_restricted(k->tar) != ARCHIVE_OK ||
	    archive_write_set_format_option(k->tar, NULL, "hdrcharset", "BINARY") != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(k->tar, BLOCK) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(k->tar, 1) != ARCHIVE_OK ||
	    archive_write_open(k->tar, k, NULL, on_tar_bytes, NULL) != ARCHIVE_OK)
		return packer_fail(k, ERR_INTERNAL, archive_error_string(k->tar));
	return 0;
}

static int packer_run(struct packer *k, const struct package *p)
{
	if (put_index(k, p) < 0)
		return -1;
	for (size_t i = 0; i < p->n; i++)
		if (put_file(k, &p->files[i]) < 0)
			return -1;
	if (archive_write_close(k->tar) != ARCHIVE_OK)
		return packer_fail(k, ERR_INTERNAL, archive_error_string(k->tar));
	return pack(k, NULL, 0, ZSTD_e_end);
}

static void packer_release(struct packer *k)
{
	/* libarchive 3.6 frees its block buffer only when closed; k->failed stops it from
	 * filling up a tar that was given up. */
	if (k->tar) {
		archive_write_close(k->tar);
		archive_write_free(k->tar);
	}
	archive_entry_free(k->entry);
	ZSTD_freeCCtx(k->zstd);
	free(k->chunk);
	free(k->out);
}

int package_write(struct package *p, int fd, int level, struct err *e)
{
	struct err ignored = ERR_INIT;
	struct packer k = { .fd = fd, .e = e ? e : &ignored };
	int ret;

	hash_init(&k.hash);
	ret = packer_open(&k, level) < 0 || packer_run(&k, p) < 0 ? -1 : 0;
	packer_release(&k);
	if (ret == 0) {
		p->packed = k.packed;
		hash_hex(&k.hash, p->sha256);
	}
	return ret;
}
