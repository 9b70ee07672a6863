/* SPDX-License-Identifier: Apache-2.0
 *
 * zstd is decoded here, because libarchive's filter bounds neither window nor output and
 * takes any number of frames; libarchive reads the tar; the files are written here, one
 * component of a path at a time, because there is nothing to restore but bytes and a mode.
 *
 * The index comes first and rules: each entry must be the next one of the index, with its
 * path, size, mode and digest, and there is one entry for each.  So a path, a size or a
 * count is checked once, when the index is read, and no entry can surprise.  The index
 * itself is not unpacked. */
#include "worker/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zstd.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/hash.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"

#define INDEX_PATH ".farstep/index.json"
#define RESERVED ".farstep"
#define LIST "package.list"

enum {
	CHUNK = 64 * 1024,
	RATIO_FREE = 64 * 1024 * 1024, /* a small package may pack as well as it likes */
	TAR_BLOCK = 512,
	/* A tar ends in two blocks of zeros and is padded to its blocking factor. */
	TAR_TAIL = 2 * TAR_BLOCK + 64 * 1024,
};

static int refuse(struct err *e, const char *why)
{
	return err_set(e, ERR_INTEGRITY, 0, "package: %s", why);
}

/* --- the compressed stream --- */

struct source {
	int fd;
	ZSTD_DCtx *zstd;
	ZSTD_inBuffer in;
	uint64_t total_in, total_out;
	uint64_t max_out;	/* what the archive can have, once the index is known */
	bool ended;		/* the frame is complete */
	bool failed;		/* *e says why; libarchive only knows that it was so */
	struct err *e;
	uint8_t in_mem[CHUNK];
	uint8_t out_mem[CHUNK];
};

/* More compressed bytes behind those still there; 0 at the end of the input. */
static ssize_t source_refill(struct source *s)
{
	size_t kept = s->in.size - s->in.pos;
	ssize_t got;

	memmove(s->in_mem, s->in_mem + s->in.pos, kept);
	s->in = (ZSTD_inBuffer){ s->in_mem, kept, 0 };
	for (;;) {
		got = read(s->fd, s->in_mem + kept, sizeof(s->in_mem) - kept);
		if (got < 0 && errno == EAGAIN)
			poll(&(struct pollfd){ .fd = s->fd, .events = POLLIN }, 1, -1);
		else if (got >= 0 || errno != EINTR)
			break;
	}
	if (got < 0)
		return err_set(s->e, ERR_SYS, errno, "package: read");
	s->in.size += (size_t)got;
	s->total_in += (uint64_t)got;
	if (s->total_in > LIMIT_PACKAGE)
		return refuse(s->e, "larger than 4 GiB");
	return got;
}

/* zstd would skip skippable frames and read old formats: only today's is ours. */
static int source_begin(struct source *s)
{
	static const uint8_t magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };

	while (s->in.size < sizeof(magic)) {
		ssize_t got = source_refill(s);

		if (got < 0)
			return -1;
		if (got == 0)
			return refuse(s->e, s->in.size ? "truncated" : "empty");
	}
	if (memcmp(s->in_mem, magic, sizeof(magic)) != 0)
		return refuse(s->e, "not compressed with zstd");
	return 0;
}

static int source_end(struct source *s)
{
	ssize_t got = s->in.pos < s->in.size ? 1 : source_refill(s);

	return got > 0 ? refuse(s->e, "data after its end") : (int)got;
}

static int source_check_bounds(struct source *s)
{
	if (s->total_out > s->max_out)
		return refuse(s->e, "longer than its index says");
	if (s->total_out > RATIO_FREE &&
	    (s->total_out - RATIO_FREE) / LIMIT_UNPACK_RATIO > s->total_in)
		return err_set(s->e, ERR_INTEGRITY, 0,
			       "package: unpacks to more than %d times its size",
			       LIMIT_UNPACK_RATIO);
	return 0;
}

/* The next bytes of the tar in out_mem: how many, 0 at the end, -1 with *s->e. */
static ssize_t source_next(struct source *s)
{
	ZSTD_outBuffer out = { s->out_mem, sizeof(s->out_mem), 0 };

	while (!s->ended && out.pos == 0) {
		size_t hint;

		if (s->in.pos == s->in.size) {
			ssize_t got = source_refill(s);

			if (got < 0)
				return -1;
			if (got == 0)
				return refuse(s->e, "truncated");
		}
		hint = ZSTD_decompressStream(s->zstd, &out, &s->in);
		if (ZSTD_isError(hint))
			return err_set(s->e, ERR_INTEGRITY, 0, "package: %s",
				       ZSTD_getErrorName(hint));
		s->ended = hint == 0;
	}
	s->total_out += out.pos;
	if (source_check_bounds(s) < 0 || (s->ended && source_end(s) < 0))
		return -1;
	return (ssize_t)out.pos;
}

static la_ssize_t on_tar_wants(struct archive *tar, void *ctx, const void **ret)
{
	struct source *s = ctx;
	ssize_t got = source_next(s);

	*ret = s->out_mem;
	if (got < 0) {
		s->failed = true;
		archive_set_error(tar, EINVAL, "stopped");
	}
	return got;
}

/* --- the index --- */

struct entry {
	char *path;
	uint64_t size;
	unsigned mode;
	bool dir;
	uint8_t sha256[SHA256_LEN];
};

struct index {
	struct entry *entries;
	size_t n;
	uint64_t bytes;		/* of all files; LIMIT_UNPACKED at most */
	uint64_t tar_bytes;	/* the most that a tar of them can have */
};

static void index_release(struct index *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->entries[i].path);
	free(x->entries);
	*x = (struct index){ 0 };
}

/* NULL, or what is wrong with the path. */
static const char *path_fault(const char *path)
{
	size_t n = strlen(RESERVED);
	unsigned depth = 1;

	if (path[0] == '/')
		return "an absolute path";
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == 0))
			return "a path with '..'";
	}
	for (const char *p = path; *p; p++)
		depth += *p == '/';
	if (strlen(path) >= LIMIT_PATH || depth > LIMIT_PATH_DEPTH)
		return "a path over the bounds";
	if (!fs_path_is_clean(path))
		return "no clean path";
	if (strncmp(path, RESERVED, n) == 0 && (path[n] == '/' || path[n] == 0))
		return "a reserved path";
	return NULL;
}

static int refuse_path(struct err *e, const char *path, const char *why)
{
	return err_set(e, ERR_INTEGRITY, 0, "package: '%.200s': %s", path, why);
}

static int entry_parse_file(const json *v, struct entry *ret, struct err *e)
{
	const char *hex;
	int64_t mode;

	if (json_req_u64(v, "file", "size", &ret->size, e) < 0 ||
	    json_req_int(v, "file", "mode", 0, 07777, &mode, e) < 0 ||
	    json_req_str(v, "file", "sha256", &hex, e) < 0)
		return -1;
	if (mode != 0644 && mode != 0755)
		return err_set(e, ERR_INTEGRITY, 0, "mode %#o is neither 0644 nor 0755",
			       (unsigned)mode);
	ret->mode = (unsigned)mode;
	return hex_decode(hex, strlen(hex), ret->sha256, sizeof(ret->sha256), e);
}

static int entry_parse(const json *v, struct entry *ret, struct err *e)
{
	const char *path, *fault;

	if (json_type(v) != JSON_OBJECT || json_req_str(v, "file", "path", &path, e) < 0 ||
	    json_opt_bool(v, "file", "dir", &ret->dir, e) < 0)
		return refuse(e, "index: an entry is no object with a path");
	fault = path_fault(path);
	if (fault)
		return refuse_path(e, path, fault);
	if (!ret->dir && entry_parse_file(v, ret, e) < 0) {
		e->code = ERR_INTEGRITY;
		return err_wrap(e, "package: '%.200s'", path);
	}
	ret->path = strdup(path);
	return ret->path ? 0 : err_set(e, ERR_NO_MEMORY, 0, "package: index");
}

static int index_push(struct index *x, const struct entry *n, struct err *e)
{
	size_t at = x->n;

	if (at >= LIMIT_ENTRIES)
		return err_set(e, ERR_INTEGRITY, 0, "package: more than %d entries", LIMIT_ENTRIES);
	/* Strictly rising: no path is there twice. */
	if (at && strcmp(x->entries[at - 1].path, n->path) >= 0)
		return refuse_path(e, n->path, "not in the index's order, or twice in it");
	if (n->size > LIMIT_UNPACKED - x->bytes)
		return err_set(e, ERR_INTEGRITY, 0, "package: more than %lld bytes in all",
			       LIMIT_UNPACKED);
	if ((at & (at - 1)) == 0) {	/* full at every power of two */
		struct entry *grown = realloc(x->entries, (at ? 2 * at : 1) * sizeof(*grown));

		if (!grown)
			return err_set(e, ERR_NO_MEMORY, 0, "package: index");
		x->entries = grown;
	}
	x->entries[x->n++] = *n;
	x->bytes += n->size;
	/* Header, data, and headers of a long name in any dialect of tar. */
	x->tar_bytes += n->size + 8 * TAR_BLOCK + 4 * strlen(n->path);
	return 0;
}

/* The length of the first element of an array's checked text. */
static size_t element_len(const char *p, const char *end)
{
	const char *from = p;
	unsigned depth = 0;

	for (; p < end; p++) {
		if (*p == '"') {
			for (p++; *p != '"'; p++)
				p += *p == '\\';
		} else if (*p == '{' || *p == '[') {
			depth++;
		} else if ((*p == '}' || *p == ']' || *p == ',') && depth == 0) {
			break;
		} else if (*p == '}' || *p == ']') {
			depth--;
		}
	}
	return (size_t)(p - from);
}

static bool is_blank(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
		p++;
	return p >= end;
}

/* One element at a time: a tree of the whole would take twenty times the text. */
static int index_parse_files(struct index *x, const char *text, size_t len, struct err *e)
{
	const char *p = text + 1, *end = text + len - 1;

	while (!is_blank(p, end)) {
		size_t n = element_len(p, end);
		auto_json json *v = json_parse(p, n, LIMIT_MANIFEST, LIMIT_JSON_DEPTH, e);
		struct entry got = { 0 };

		if (!v)
			return err_wrap(e, "package: index");
		if (entry_parse(v, &got, e) < 0)
			return -1;
		if (index_push(x, &got, e) < 0) {
			free(got.path);
			return -1;
		}
		p += n + 1;
	}
	return 0;
}

static int index_parse(struct index *x, const char *text, size_t len, struct err *e)
{
	const char *version, *files;
	size_t version_len, files_len;

	if (json_check(text, len, LIMIT_MANIFEST, LIMIT_JSON_DEPTH, e) < 0) {
		if (e->code != ERR_NO_MEMORY)
			e->code = ERR_INTEGRITY;
		return err_wrap(e, "package: index");
	}
	version = json_raw_member(text, len, "v", &version_len);
	if (!version || version_len != 1 || *version != '1')
		return refuse(e, "index: not of version 1");
	files = json_raw_member(text, len, "files", &files_len);
	if (!files || *files != '[')
		return refuse(e, "index: no array 'files'");
	return index_parse_files(x, files, files_len, e);
}

/* --- files --- */

struct unpacking {
	struct source source;
	struct archive *tar;
	struct index index;
	int root;		/* DEST.new */
	int parent;		/* the last entry's directory, -1: none yet */
	char parent_path[LIMIT_PATH];
	struct err *e;
};

static int step_into(int dir, const char *name, const char *path, struct err *e)
{
	int fd;

	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYS, errno, "package: '%.200s': mkdir", path);
	fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return refuse_path(e, path, "a file is where it needs a directory");
	return fd < 0 ? err_set(e, ERR_SYS, errno, "package: '%.200s': open", path) : fd;
}

/* The directory of path, made if need be, and where its last component starts.  Borrowed
 * until the next call; neighbours in the sorted index share it. */
static int parent_of(struct unpacking *u, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	auto_close int at = -1;

	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return u->root;
	if (u->parent >= 0 && strncmp(u->parent_path, path, len) == 0 && u->parent_path[len] == 0)
		return u->parent;
	close_fd(&u->parent);
	for (size_t from = 0, to; from < len; from = to + 1) {
		char name[NAME_MAX + 1];
		int next;

		to = from + strcspn(path + from, "/");
		memcpy(name, path + from, to - from);	/* clean: at most 255 bytes */
		name[to - from] = 0;
		next = step_into(at < 0 ? u->root : at, name, path, u->e);
		close_fd(&at);
		at = next;
		if (at < 0)
			return -1;
	}
	memcpy(u->parent_path, path, len);
	u->parent_path[len] = 0;
	u->parent = take_fd(&at);
	return u->parent;
}

/* The error behind a refusal of libarchive. */
static int tar_fault(struct unpacking *u, const char *path)
{
	const char *why;

	if (u->source.failed)
		return -1;
	if (archive_errno(u->tar) == ENOMEM)
		return err_set(u->e, ERR_NO_MEMORY, 0, "package");
	why = archive_error_string(u->tar);
	return err_set(u->e, ERR_INTEGRITY, 0, "package: %s%.200s%s%s", path ? "'" : "",
		       path ? path : "", path ? "': " : "", why ? why : "damaged");
}

typedef int take_fn(void *ctx, const void *p, size_t n, struct err *e);

/* The data of the current entry, which must be `size` bytes without a hole. */
static int copy_data(struct unpacking *u, const char *path, uint64_t size, take_fn *take, void *ctx)
{
	uint64_t done = 0;

	for (;;) {
		const void *p;
		size_t n;
		la_int64_t at;
		int r = archive_read_data_block(u->tar, &p, &n, &at);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return tar_fault(u, path);
		if ((uint64_t)at != done || n > size - done)
			return refuse_path(u->e, path, "data that is not where it belongs");
		if (take(ctx, p, n, u->e) < 0)
			return -1;
		done += n;
	}
	return done == size ? 0 : refuse_path(u->e, path, "shorter than its header says");
}

struct sink {
	int fd;
	struct hash hash;
};

static int sink_take(void *ctx, const void *p, size_t n, struct err *e)
{
	struct sink *s = ctx;

	hash_update(&s->hash, p, n);
	return fs_write_all(s->fd, p, n, e);
}

static int write_file(struct unpacking *u, const struct entry *f)
{
	uint8_t digest[SHA256_LEN];
	struct sink s = { .fd = -1 };
	const char *name;
	int dir = parent_of(u, f->path, &name);
	auto_close int fd = -1;

	if (dir < 0)
		return -1;
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(u->e, ERR_SYS, errno, "package: '%.200s': create", f->path);
	s.fd = fd;
	hash_init(&s.hash);
	if (copy_data(u, f->path, f->size, sink_take, &s) < 0)
		return u->e->code == ERR_SYS ? err_wrap(u->e, "package: '%.200s'", f->path) : -1;
	hash_digest(&s.hash, digest);
	if (memcmp(digest, f->sha256, sizeof(digest)) != 0)
		return refuse_path(u->e, f->path, "its digest is not the index's");
	if (fchmod(fd, f->mode) < 0 || close(take_fd(&fd)) < 0)
		return err_set(u->e, ERR_SYS, errno, "package: '%.200s'", f->path);
	return 0;
}

static int make_dir(struct unpacking *u, const struct entry *f)
{
	const char *name;
	int dir = parent_of(u, f->path, &name);

	if (dir < 0)
		return -1;
	return mkdirat(dir, name, 0755) < 0
		       ? err_set(u->e, ERR_SYS, errno, "package: '%.200s': mkdir", f->path)
		       : 0;
}

/* --- entries --- */

static const char *type_fault(struct archive_entry *t)
{
	if (archive_entry_hardlink(t))
		return "a hard link";
	switch (archive_entry_filetype(t)) {
	case AE_IFREG:
		return archive_entry_sparse_count(t) ? "a sparse file" : NULL;
	case AE_IFDIR:
		return NULL;
	case AE_IFLNK:
		return "a symbolic link";
	case AE_IFCHR:
	case AE_IFBLK:
		return "a device";
	case AE_IFIFO:
		return "a fifo";
	case AE_IFSOCK:
		return "a socket";
	default:
		return "neither a file nor a directory";
	}
}

/* The next entry: 1 with its path (without the "/" of a directory), 0 at the end.  What
 * is no plain file or directory is refused here. */
static int next_entry(struct unpacking *u, struct archive_entry **ret, char path[LIMIT_PATH])
{
	int r = archive_read_next_header(u->tar, ret);
	const char *raw, *fault;
	size_t len;

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK)
		return tar_fault(u, NULL);
	raw = archive_entry_pathname(*ret);
	if (!raw || !*raw)
		return refuse(u->e, "an entry has no name, or one this system cannot read");
	len = strlen(raw);
	if (len > 1 && archive_entry_filetype(*ret) == AE_IFDIR && raw[len - 1] == '/')
		len--;
	if (len >= LIMIT_PATH)
		return refuse_path(u->e, raw, "a path over the bounds");
	memcpy(path, raw, len);
	path[len] = 0;
	fault = type_fault(*ret);
	if (!fault && strcmp(path, INDEX_PATH) != 0)
		fault = path_fault(path);
	return fault ? refuse_path(u->e, path, fault) : 1;
}

static const char *entry_fault(struct archive_entry *t, const char *path, const struct index *x,
			       size_t i)
{
	const struct entry *f = i < x->n ? &x->entries[i] : NULL;

	if (i && strcmp(path, x->entries[i - 1].path) == 0)
		return "twice in the archive";
	if (!f || strcmp(path, f->path) != 0)
		return "not the next file of the index";
	if (f->dir != (archive_entry_filetype(t) == AE_IFDIR))
		return "a file here and a directory there";
	if (f->dir)
		return NULL;
	if (archive_entry_perm(t) & ~0777U)
		return "setuid, setgid or sticky";
	if (archive_entry_perm(t) != f->mode)
		return "its mode is not the index's";
	if (!archive_entry_size_is_set(t) || (uint64_t)archive_entry_size(t) != f->size)
		return "its size is not the index's";
	return NULL;
}

static int take_text(void *ctx, const void *p, size_t n, struct err *e)
{
	return buf_put(ctx, p, n, e);
}

static int read_index(struct unpacking *u)
{
	struct buf text CLEANUP(buf_release);
	struct archive_entry *t;
	char path[LIMIT_PATH];
	int got = next_entry(u, &t, path);

	buf_init(&text, LIMIT_MANIFEST);
	if (got < 0)
		return -1;
	if (!got || strcmp(path, INDEX_PATH) != 0)
		return refuse(u->e, "its first entry is not " INDEX_PATH);
	if (archive_entry_filetype(t) != AE_IFREG || archive_entry_size(t) > LIMIT_MANIFEST)
		return refuse(u->e, "its index is no file, or over the bounds");
	if (copy_data(u, path, (uint64_t)archive_entry_size(t), take_text, &text) < 0)
		return -1;
	if (index_parse(&u->index, (const char *)buf_data(&text), buf_len(&text), u->e) < 0)
		return -1;
	u->source.max_out = buf_len(&text) + 8 * TAR_BLOCK + u->index.tar_bytes + TAR_TAIL;
	return source_check_bounds(&u->source);
}

static int read_entries(struct unpacking *u)
{
	struct archive_entry *t;
	char path[LIMIT_PATH];
	size_t i;
	int got;

	for (i = 0; (got = next_entry(u, &t, path)) > 0; i++) {
		const char *fault = entry_fault(t, path, &u->index, i);
		const struct entry *f;

		if (fault)
			return refuse_path(u->e, path, fault);
		f = &u->index.entries[i];
		if ((f->dir ? make_dir(u, f) : write_file(u, f)) < 0)
			return -1;
	}
	if (got == 0 && i < u->index.n)
		return refuse_path(u->e, u->index.entries[i].path,
				   "in the index, but not in the archive");
	return got;
}

/* --- all of it --- */

static int tar_open(struct unpacking *u)
{
	struct source *s = &u->source;

	s->zstd = ZSTD_createDCtx();
	u->tar = archive_read_new();
	if (!s->zstd || !u->tar)
		return err_set(u->e, ERR_NO_MEMORY, 0, "package");
	if (ZSTD_isError(
		    ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, LIMIT_ZSTD_WINDOW_LOG)))
		return err_set(u->e, ERR_INTERNAL, 0, "package: zstd refuses its parameters");
	if (source_begin(s) < 0)
		return -1;
	/* Concatenated: reads on behind the blocks of zeros, so that nothing can hide there. */
	if (archive_read_support_format_tar(u->tar) != ARCHIVE_OK ||
	    archive_read_set_options(u->tar, "tar:read_concatenated_archives") != ARCHIVE_OK ||
	    archive_read_open(u->tar, s, NULL, on_tar_wants, NULL) != ARCHIVE_OK)
		return tar_fault(u, NULL);
	return 0;
}

static int unpack_into(struct unpacking *u, struct unpack_result *ret)
{
	if (tar_open(u) < 0 || read_index(u) < 0 || read_entries(u) < 0)
		return -1;
	ret->files = u->index.n;
	ret->bytes = u->index.bytes;
	return 0;
}

static struct unpacking *unpacking_new(int in_fd, int root, struct err *e)
{
	struct unpacking *u = calloc(1, sizeof(*u));

	if (!u) {
		err_set(e, ERR_NO_MEMORY, 0, "package");
		return NULL;
	}
	u->source.fd = in_fd;
	u->source.e = u->e = e;
	u->source.in.src = u->source.in_mem;
	u->source.max_out = LIMIT_MANIFEST + 4 * CHUNK;	/* until the index is known */
	u->root = root;
	u->parent = -1;
	return u;
}

static void unpacking_free(struct unpacking *u)
{
	archive_read_free(u->tar);
	ZSTD_freeDCtx(u->source.zstd);
	index_release(&u->index);
	close_fd(&u->parent);
	free(u);
}

/* For session.left: which paths were brought, NUL-ended, beside the directory. */
static int write_list(const struct index *x, int dir_fd, struct err *e)
{
	struct buf b CLEANUP(buf_release);

	buf_init(&b, LIMIT_MANIFEST);
	for (size_t i = 0; i < x->n; i++)
		if (!x->entries[i].dir && buf_put(&b, x->entries[i].path,
						  strlen(x->entries[i].path) + 1, e) < 0)
			return -1;
	return fs_write(dir_fd, LIST, buf_data(&b), buf_len(&b), 0600, false, e);
}

static int unpack_new(int in_fd, int dir_fd, const char *name, struct unpack_result *ret,
		      struct err *e)
{
	auto_close int root = -1;
	struct unpacking *u;
	int r;

	if (mkdirat(dir_fd, name, 0700) < 0)
		return err_set(e, ERR_SYS, errno, "package: '%s': mkdir", name);
	root = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return err_set(e, ERR_SYS, errno, "package: '%s': open", name);
	u = unpacking_new(in_fd, root, e);
	if (!u)
		return -1;
	r = unpack_into(u, ret);
	if (r == 0)
		r = write_list(&u->index, dir_fd, e);
	unpacking_free(u);
	return r;
}

int unpack(int in_fd, int dir_fd, const char *name, struct unpack_result *ret, struct err *e)
{
	struct unpack_result got;
	struct err own = ERR_INIT;
	char fresh[NAME_MAX + 1];
	int n = snprintf(fresh, sizeof(fresh), "%s.new", name);

	e = e ? e : &own;
	if (!fs_path_is_clean(name) || strchr(name, '/') || n < 0 || n > NAME_MAX)
		return err_set(e, ERR_INVALID_PARAMS, 0, "package: '%.200s': not a name", name);
	if (fs_remove_tree(dir_fd, fresh, e) < 0)	/* of a helper that was killed */
		return -1;
	if (unpack_new(in_fd, dir_fd, fresh, &got, e) < 0)
		goto fail;
	/* Takes the place of nothing or of an empty directory, of nothing else. */
	if (renameat(dir_fd, fresh, dir_fd, name) < 0) {
		bool taken = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR;

		err_set(e, taken ? ERR_EXISTS : ERR_SYS, errno, "package: '%s'", name);
		goto fail;
	}
	*ret = got;
	return 0;
fail:
	fs_remove_tree(dir_fd, fresh, NULL);
	unlinkat(dir_fd, LIST, 0);
	return -1;
}

/* --- the confined process --- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

/* Landlock by number: the kernel's headers of the build may be older than the kernel, and
 * musl has none.  Bits from the first version to the sixth. */
#define LL_WRITE_FILE (1ULL << 1)
#define LL_READ_DIR (1ULL << 3)
#define LL_REMOVE_DIR (1ULL << 4)
#define LL_REMOVE_FILE (1ULL << 5)
#define LL_MAKE_DIR (1ULL << 7)
#define LL_MAKE_REG (1ULL << 8)

struct landlock_ruleset {
	uint64_t fs;
	uint64_t net;		/* from version 4 on */
	uint64_t scoped;	/* from version 6 on */
};

struct landlock_beneath {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

/* The same on every architecture. */
enum { CLOSE_RANGE = 436, LL_CREATE_RULESET = 444, LL_ADD_RULE = 445, LL_RESTRICT_SELF = 446 };
enum { LL_VERSION_FLAG = 1, LL_RULE_BENEATH = 1 };

/* How many kinds of access to files a version knows. */
static unsigned landlock_fs_bits(long version)
{
	return version < 2 ? 13 : version < 3 ? 14 : version < 5 ? 15 : 16;
}

/* From here on: directories and files below dir_fd, and nothing else.  A kernel without
 * Landlock is no error: the sandbox around us is the boundary. */
static int confine_files(int dir_fd, struct err *e)
{
	long version = syscall(LL_CREATE_RULESET, NULL, 0, LL_VERSION_FLAG);
	struct landlock_ruleset all = { 0 };
	struct landlock_beneath below = {
		.allowed = LL_WRITE_FILE | LL_READ_DIR | LL_REMOVE_DIR | LL_REMOVE_FILE |
			   LL_MAKE_DIR | LL_MAKE_REG,
		.parent_fd = dir_fd,
	};
	auto_close int fd = -1;
	size_t size;

	if (version < 1)
		return 0;
	all.fs = (1ULL << landlock_fs_bits(version)) - 1;
	all.net = version < 4 ? 0 : 3;
	all.scoped = version < 6 ? 0 : 3;
	size = version < 4 ? 8 : version < 6 ? 16 : sizeof(all);
	fd = (int)syscall(LL_CREATE_RULESET, &all, size, 0);
	if (fd < 0 || syscall(LL_ADD_RULE, fd, LL_RULE_BENEATH, &below, 0) < 0 ||
	    syscall(LL_RESTRICT_SELF, fd, 0) < 0)
		return err_set(e, ERR_SYS, errno, "landlock");
	return 0;
}

static void bound(int resource, rlim_t max)
{
	struct rlimit now;

	if (getrlimit(resource, &now) == 0 && now.rlim_max > max)
		setrlimit(resource, &(struct rlimit){ max, max });
}

static void close_from_to(int from, int to)
{
	if (from > to || syscall(CLOSE_RANGE, from, to, 0) == 0)
		return;
	for (int fd = from; fd <= to && fd < 4096; fd++)
		close(fd);
}

static void close_others(int a, int b)
{
	int low = a < b ? a : b, high = a < b ? b : a;

	low = low < 2 ? 2 : low;
	high = high < 2 ? 2 : high;
	close_from_to(3, low - 1);
	close_from_to(low + 1, high - 1);
	close_from_to(high + 1, INT_MAX);
}

static int confine(int in_fd, int dir_fd, struct err *e)
{
	close_others(in_fd, dir_fd);
	signal(SIGXFSZ, SIG_IGN);	/* then it is an error of write */
	signal(SIGPIPE, SIG_IGN);
	bound(RLIMIT_FSIZE, (rlim_t)LIMIT_UNPACKED);
	bound(RLIMIT_NOFILE, 64);
	bound(RLIMIT_CPU, 1800);
	bound(RLIMIT_CORE, 0);
#ifndef SANITIZED
	/* The index in memory is the largest part: LIMIT_MANIFEST and its entries. */
	bound(RLIMIT_AS, 1024 * 1024 * 1024);
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_set(e, ERR_SYS, errno, "not dumpable");
#endif
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SYS, errno, "no_new_privs");
	if (fchdir(dir_fd) < 0)
		return err_set(e, ERR_SYS, errno, "working directory");
	return confine_files(dir_fd, e);
}

static int parse_fd(const char *text)
{
	char *end;
	long fd = strtol(text, &end, 10);

	if (!*text || *end || fd < 0 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0)
		return -1;
	return (int)fd;
}

static void report(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void report(const char *fmt, ...)
{
	char line[600];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n > sizeof(line) - 2)
		n = n < 0 ? 0 : (int)sizeof(line) - 2;
	for (int i = 0; i < n; i++)	/* names in messages come from the archive */
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n] = '\n';
	fs_write_all(STDOUT_FILENO, line, (size_t)n + 1, NULL);
}

static int verify(int fd, const char *sha256_hex, struct err *e)
{
	static uint8_t piece[CHUNK];
	char got[SHA256_HEX];
	struct hash h;
	off_t at = 0;
	ssize_t n;

	hash_init(&h);
	while ((n = pread(fd, piece, sizeof(piece), at)) > 0) {
		hash_update(&h, piece, (size_t)n);
		at += n;
	}
	if (n < 0)
		return err_set(e, ERR_SYS, errno, "package: read");
	hash_hex(&h, got);
	return strcmp(got, sha256_hex) == 0
	               ? 0
	               : err_set(e, ERR_INTEGRITY, 0,
	                         "package: the bytes received have another SHA-256 than announced");
}

int unpack_main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct unpack_result got = { 0 };
	int in_fd = argc == 3 || argc == 4 ? parse_fd(argv[0]) : -1;
	int dir_fd = argc == 3 || argc == 4 ? parse_fd(argv[1]) : -1;
	int r;

	if (in_fd < 0 || dir_fd < 0)
		r = err_set(&e, ERR_USAGE, 0, "--role unpack IN_FD DIR_FD NAME [SHA256]");
	else if (confine(in_fd, dir_fd, &e) < 0 || (argc == 4 && verify(in_fd, argv[3], &e) < 0))
		r = -1;
	else
		r = unpack(in_fd, dir_fd, argv[2], &got, &e);
	if (r == 0)
		report("ok %llu %llu", (unsigned long long)got.files,
		       (unsigned long long)got.bytes);
	else
		report("%s %s", err_name(e.code), e.msg);
#ifdef SANITIZED
	_exit(r == 0 ? 0 : 1);	/* the leak check reads files that are out of reach now */
#endif
	return r == 0 ? 0 : 1;
}
