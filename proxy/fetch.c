/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/limits.h"

void fetch_init(struct fetch *f, int run_dir_fd, const char *step)
{
	memset(f, 0, sizeof(*f));
	f->dir_fd = f->file_fd = -1;
	f->parent_fd = run_dir_fd;
	snprintf(f->dir, sizeof(f->dir), "artifacts/%s", step);
	snprintf(f->part, sizeof(f->part), "journal/%s.part", step);
	buf_init(&f->manifest, LIMIT_MANIFEST);
}

void fetch_release(struct fetch *f)
{
	if (f->file_fd >= 0)
		unlinkat(f->parent_fd, f->part, 0);
	close_fd(&f->file_fd);
	close_fd(&f->dir_fd);
	buf_release(&f->manifest);
	json_free(f->list);
	fetched_free(f->files, f->n_files);
	memset(f, 0, sizeof(*f));
	f->dir_fd = f->file_fd = -1;
}

void fetch_expect(struct fetch *f, const struct receipt *r)
{
	f->known = true;
	f->manifest_bytes = r->artifacts.manifest_bytes;
	f->total = r->artifacts.manifest_bytes + r->artifacts.bytes;
	snprintf(f->manifest_sha256, sizeof(f->manifest_sha256), "%s", r->artifacts.sha256);
}

static const char *field(const json *file, const char *key)
{
	const char *s = json_string(json_get(file, key));

	return s ? s : "";
}

/* The worker sorts its manifest; an order that rises strictly names nothing twice. */
static int check_entry(const json *file, const char **before, uint64_t *bytes, struct err *e)
{
	uint64_t size = 0;

	if (!fs_path_is_clean(field(file, "path")))
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifact manifest: '%.200s' is no clean relative path",
		               field(file, "path"));
	if (strcmp(field(file, "path"), *before) <= 0)
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifact manifest: '%.200s' comes twice or in the wrong place",
		               field(file, "path"));
	*before = field(file, "path");
	if (strlen(field(file, "sha256")) != SHA256_HEX - 1 ||
	    json_req_u64(file, "artifact", "size", &size, e) < 0)
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifact manifest: '%.200s' has no size or digest",
		               field(file, "path"));
	if (__builtin_add_overflow(*bytes, size, bytes))
		return err_set(e, ERR_INTEGRITY, 0, "artifact manifest: impossible sizes");
	return 0;
}

static int parse_manifest(struct fetch *f, struct err *e)
{
	char hex[SHA256_HEX];
	struct hash h;
	const char *before = "";
	uint64_t bytes = 0;

	hash_init(&h);
	hash_update(&h, buf_data(&f->manifest), buf_len(&f->manifest));
	hash_hex(&h, hex);
	if (strcmp(hex, f->manifest_sha256) != 0)
		return err_set(e, ERR_INTEGRITY, 0,
		               "the artifact manifest is not the one that the receipt names");
	f->list = json_parse((const char *)buf_data(&f->manifest), buf_len(&f->manifest),
	                     LIMIT_MANIFEST, 4, e);
	if (!f->list)
		return err_wrap(e, "artifact manifest");
	for (const json *v = json_first(f->list); v; v = json_next(v))
		if (check_entry(v, &before, &bytes, e) < 0)
			return -1;
	if (bytes != f->total - f->manifest_bytes)
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifact manifest: sizes do not add up to the receipt's");
	f->files = calloc(json_count(f->list) + 1, sizeof(*f->files));
	if (!f->files)
		return err_set(e, ERR_NO_MEMORY, 0, "artifacts");
	if (json_count(f->list) && fs_mkdirs(f->parent_fd, f->dir, 0700, e) < 0)
		return -1;
	if (json_count(f->list)) {
		f->dir_fd = openat(f->parent_fd, f->dir,
		                   O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (f->dir_fd < 0)
			return err_set(e, ERR_SYS, errno, "%s", f->dir);
	}
	f->current = json_first(f->list);
	return 0;
}

static int begin_file(struct fetch *f, struct err *e)
{
	json_req_u64(f->current, "artifact", "size", &f->file_left, e);
	hash_init(&f->hash);
	f->file_fd = openat(f->parent_fd, f->part,
	                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return f->file_fd < 0 ? err_set(e, ERR_SYS, errno, "%s", f->part) : 0;
}

static int end_file(struct fetch *f, struct err *e)
{
	const char *path = field(f->current, "path"), *slash = strrchr(path, '/');
	struct fetched *one = &f->files[f->n_files];
	int64_t mode = 0644;

	hash_hex(&f->hash, one->sha256);
	if (strcmp(one->sha256, field(f->current, "sha256")) != 0)
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifact '%s': other bytes than the manifest names; did something "
		               "change it after "
		               "its step ended?",
		               path);
	json_opt_int(f->current, "", "mode", 0, 0777, &mode, NULL);
	fchmod(f->file_fd, (mode_t)(mode & 0755) | 0600);
	close_fd(&f->file_fd);
	if (slash) {
		char parent[LIMIT_PATH + 1];

		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
		if (fs_mkdirs(f->dir_fd, parent, 0700, e) < 0)
			return -1;
	}
	if (renameat(f->parent_fd, f->part, f->dir_fd, path) < 0)
		return err_set(e, ERR_SYS, errno, "%s/%s", f->dir, path);
	one->path = strdup(path);
	json_req_u64(f->current, "artifact", "size", &one->size, NULL);
	f->n_files++;
	f->current = json_next(f->current);
	return one->path ? 0 : err_set(e, ERR_NO_MEMORY, 0, "artifacts");
}

static int write_files(struct fetch *f, const uint8_t *p, size_t n, struct err *e)
{
	for (;;) {
		size_t part;

		if (f->file_fd < 0) {
			if (!f->current)
				return n ? err_set(e, ERR_INTEGRITY, 0,
				                   "artifacts: more bytes than the manifest says")
				         : 0;
			if (begin_file(f, e) < 0)
				return -1;
		}
		part = n < f->file_left ? n : (size_t)f->file_left;
		if (part && fs_write_all(f->file_fd, p, part, e) < 0)
			return err_wrap(e, "artifact '%s'", field(f->current, "path"));
		hash_update(&f->hash, p, part);
		f->file_left -= part;
		p += part;
		n -= part;
		if (f->file_left)
			return 0;
		if (end_file(f, e) < 0)
			return -1;
	}
}

int fetch_write(struct fetch *f, const void *bytes, size_t n, struct err *e)
{
	const uint8_t *p = bytes;

	if (!f->known)
		return err_set(e, ERR_PROTO, 0, "artifacts came before their receipt");
	if (!f->list && f->manifest_bytes) {
		size_t want = (size_t)f->manifest_bytes - buf_len(&f->manifest);
		size_t part = n < want ? n : want;

		if (buf_put(&f->manifest, p, part, e) < 0)
			return -1;
		p += part;
		n -= part;
		if (buf_len(&f->manifest) < f->manifest_bytes)
			return 0;
		if (parse_manifest(f, e) < 0)
			return -1;
	}
	return write_files(f, p, n, e);
}

bool fetch_is_complete(const struct fetch *f)
{
	return f->known && (!f->total || (f->list && !f->current));
}
