/* SPDX-License-Identifier: Apache-2.0
 *
 * POST /files: one file as it is, or many as a form.  Written in place, as it comes: whoever
 * breaks off leaves a short file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mocks/e2b/envd_entry.h"
#include "mocks/e2b/envd_files.h"
#include "mocks/e2b/envd_int.h"
#include "mocks/e2b/gzip.h"
#include "mocks/e2b/multipart.h"
#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"

enum { FILES_MAX = 10000, UNPACKED_PIECE = 256 * 1024, REPLY_MAX = 8 * 1024 * 1024 };

struct upload {
	struct envd *d;
	struct http *h;
	struct files_target target;
	struct metadata metadata;
	struct gzip *gzip;		/* NULL: the body is as it is */
	struct buf unpacked;
	bool is_form;
	struct multipart form;
	int fd;				/* of the file at hand; -1: its part is passed over */
	char **paths;			/* of the files that were begun */
	size_t n_paths;
	const char *length;		/* Content-Length, for the message of a full disk */
	uint64_t cut;			/* breaks after so many bytes */
};

/* --- one file --- */

static int fail(struct upload *u, int status, const char *text)
{
	envd_fail(u->h, status, "%s", text);
	return -1;
}

static int fail_sys(struct upload *u, const char *what, const char *path)
{
	char text[PATH_MAX + 128];

	if (errno == ENOSPC || errno == EDQUOT) {
		snprintf(text, sizeof(text), "not enough inodes available: %s: %s", path,
			 sys_text(errno));
		return fail(u, 507, text);
	}
	snprintf(text, sizeof(text), "%s: open %s: %s", what, path, sys_text(errno));
	return fail(u, 500, text);
}

static int open_file(struct upload *u, const char *path)
{
	char parent[PATH_MAX], text[PATH_MAX + 64];
	struct err e = ERR_INIT;
	struct stat st;

	path_parent(path, parent);
	if (path_make_dirs(&u->target.user, parent, &e) < 0) {
		snprintf(text, sizeof(text), "error ensuring directories: %s", e.msg);
		return fail(u, 500, text);
	}
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		snprintf(text, sizeof(text), "path is a directory: %s", path);
		return fail(u, 400, text);
	}
	u->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
	if (u->fd < 0)
		return fail_sys(u, "error opening file", path);
	if (fchown(u->fd, u->target.user.uid, u->target.user.gid) < 0 && errno != EPERM &&
	    errno != EINVAL)
		return fail_sys(u, "error changing file ownership", path);
	if (metadata_store(u->fd, &u->metadata, &e) < 0)
		return fail(u, 500, e.msg);
	return 0;
}

static int write_file(struct upload *u, const uint8_t *p, size_t n)
{
	char text[128];

	while (u->fd >= 0 && n > 0) {
		ssize_t k = write(u->fd, p, n);

		if (k >= 0) {
			p += k;
			n -= (size_t)k;
		} else if (errno == ENOSPC || errno == EDQUOT) {
			if (u->length && u->length[0] != '0')
				snprintf(text, sizeof(text), "attempted to write %.20s bytes: not "
					 "enough disk space available", u->length);
			else
				snprintf(text, sizeof(text), "not enough disk space available");
			return fail(u, 507, text);
		} else if (errno != EINTR) {
			snprintf(text, sizeof(text), "error writing file: %s", sys_text(errno));
			return fail(u, 500, text);
		}
	}
	return 0;
}

static int remember(struct upload *u, const char *path)
{
	char **paths = u->n_paths < FILES_MAX
			       ? realloc(u->paths, (u->n_paths + 1) * sizeof(*paths)) : NULL;

	if (paths)
		u->paths = paths;
	if (!paths || !(paths[u->n_paths] = strdup(path)))
		return fail(u, 500, "too many files");
	u->n_paths++;
	return 0;
}

static int refuse_twice(struct upload *u, const char *path)
{
	struct buf text CLEANUP(buf_release);
	size_t others = 0;

	buf_init(&text, 4096);
	buf_printf(&text, NULL, "you cannot upload multiple files to the same path '%s' in one "
		   "upload request, only the first specified file was uploaded", path);
	for (size_t i = 0; i < u->n_paths; i++)
		others += strcmp(u->paths[i], path) != 0;
	if (others > 1)
		buf_puts(&text, ", also the following files were uploaded: ", NULL);
	for (size_t i = 0, said = 0; others > 1 && i < u->n_paths; i++)
		if (strcmp(u->paths[i], path) != 0)
			buf_printf(&text, NULL, "%s%s", said++ ? ", " : "", u->paths[i]);
	return fail(u, 400, buf_cstr(&text, NULL));
}

static int begin_file(struct upload *u, const char *name)
{
	char path[PATH_MAX], text[PATH_MAX + 512];
	struct err e = ERR_INIT;

	if (path_resolve(u->d, &u->target.user, name, path, &e) < 0) {
		snprintf(text, sizeof(text), "error resolving path: %s", e.msg);
		return fail(u, 400, text);
	}
	for (size_t i = 0; i < u->n_paths; i++)
		if (strcmp(u->paths[i], path) == 0)
			return refuse_twice(u, path);
	if (envd_fault(u->d, "files:507"))
		return fail(u, 507, "not enough disk space available");
	return open_file(u, path) < 0 ? -1 : remember(u, path);
}

/* --- the form --- */

/* Once the request is answered, e says so to the parser only. */
static int answered(struct err *e)
{
	return err_set(e, ERR_STATE, 0, "answered");
}

static int on_part(void *arg, const struct multipart_part *p, struct err *e)
{
	struct upload *u = arg;
	const char *name = u->target.has_path ? (const char *)buf_data(&u->target.path)
					      : p->filename;

	if (!p->name || strcmp(p->name, "file") != 0)
		return 0;
	if (!name) {
		fail(u, 400, "error getting multipart custom part file name: no filename in the "
		     "part's Content-Disposition");
		return answered(e);
	}
	return begin_file(u, name) < 0 ? answered(e) : 0;
}

static int on_part_data(void *arg, const uint8_t *p, size_t n, struct err *e)
{
	return write_file(arg, p, n) < 0 ? answered(e) : 0;
}

static int on_part_end(void *arg, struct err *e __attribute__((unused)))
{
	struct upload *u = arg;

	close_fd(&u->fd);
	return 0;
}

static const struct multipart_calls form_calls = { on_part, on_part_data, on_part_end };

/* --- the body --- */

static void take_plain(struct upload *u, const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;

	if (!u->is_form)
		write_file(u, p, n);
	else if (multipart_feed(&u->form, p, n, &e) < 0 && !http_status(u->h))
		envd_fail(u->h, 500, "error reading form: %s", e.msg);
}

static void take_packed(struct upload *u, const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;
	size_t used;
	bool full;

	do {
		buf_reset(&u->unpacked);
		if (gzip_read(u->gzip, p, n, &used, &u->unpacked, &e) < 0) {
			envd_fail(u->h, 500, "error writing file: %s", e.msg);
			return;
		}
		p += used;
		n -= used;
		full = buf_room(&u->unpacked) == 0;
		take_plain(u, buf_data(&u->unpacked), buf_len(&u->unpacked));
	} while ((full || (n > 0 && used > 0)) && !http_status(u->h));
}

static size_t on_body(struct http *h, const uint8_t *p, size_t n)
{
	struct upload *u = http_ctx(h);

	if (http_bytes_in(h) > u->cut) {
		http_abort(h);
		return n;
	}
	if (u->gzip)
		take_packed(u, p, n);
	else
		take_plain(u, p, n);
	return n;
}

static void reply_paths(struct upload *u)
{
	struct buf text CLEANUP(buf_release);
	struct err e = ERR_INIT;
	struct jw w;

	buf_init(&text, REPLY_MAX);
	jw_init(&w, &text);
	jw_arr(&w);
	for (size_t i = 0; i < u->n_paths; i++) {
		jw_obj(&w);
		jw_kstr(&w, "name", path_base(u->paths[i]));
		jw_kstr(&w, "path", u->paths[i]);
		jw_kstr(&w, "type", "file");
		metadata_write(&u->metadata, &w);
		jw_end(&w);
	}
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		envd_fail(u->h, 500, "error marshaling response: %s", e.msg);
	else
		http_reply(u->h, 200, "text/plain; charset=utf-8", buf_data(&text), buf_len(&text));
}

static void on_body_end(struct http *h)
{
	struct upload *u = http_ctx(h);
	struct err e = ERR_INIT;

	close_fd(&u->fd);
	if (u->gzip && !gzip_at_end(u->gzip))
		envd_fail(h, 500, "error writing file: unexpected EOF");
	else if (u->is_form && multipart_end(&u->form, &e) < 0)
		envd_fail(h, 500, "error reading form: %s", e.msg);
	else
		reply_paths(u);
}

static void upload_free(struct upload *u)
{
	close_fd(&u->fd);
	files_target_release(&u->target);
	metadata_release(&u->metadata);
	gzip_free(u->gzip);
	buf_release(&u->unpacked);
	if (u->is_form)
		multipart_release(&u->form);
	for (size_t i = 0; i < u->n_paths; i++)
		free(u->paths[i]);
	free(u->paths);
	free(u);
}

static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	upload_free(http_ctx(h));
}

/* --- the head --- */

/* 0; or the request was answered. */
static int choose_encoding(struct upload *u)
{
	const char *coding = http_header(u->h, "Content-Encoding");
	struct err e = ERR_INIT;

	if (!coding || !*coding || strcasecmp(coding, "identity") == 0 ||
	    !envd_since(u->d, "0.5.3"))
		return 0;
	if (strcasecmp(coding, "gzip") != 0) {
		envd_fail(u->h, 400, "error decompressing request body: unsupported "
			  "Content-Encoding: %.60s, supported: [gzip]", coding);
		return -1;
	}
	u->gzip = gzip_reader(&e);
	return u->gzip ? 0 : fail(u, 500, e.msg);
}

static int choose_form(struct upload *u, const char *type)
{
	char text[512];
	struct err e = ERR_INIT;

	u->is_form = true;
	if (multipart_init(&u->form, type, &form_calls, u, &e) == 0)
		return 0;
	snprintf(text, sizeof(text), "error parsing multipart form: %s", e.msg);
	return fail(u, 500, text);
}

static int choose_type(struct upload *u)
{
	const char *type = http_header(u->h, "Content-Type");

	type = type ? type : "";
	if (strncasecmp(type, "multipart/", 10) == 0)
		return choose_form(u, type);
	if (!envd_since(u->d, "0.5.7"))
		return fail(u, 500, "error parsing multipart form: request Content-Type isn't "
			    "multipart/form-data");
	if (strncasecmp(type, "application/octet-stream", 24) != 0) {
		envd_fail(u->h, 400, "unsupported content type: %.100s, expected "
			  "multipart/form-data or application/octet-stream", type);
		return -1;
	}
	if (!u->target.has_path)
		return fail(u, 400, "path query parameter is required for raw body upload");
	return begin_file(u, (const char *)buf_data(&u->target.path));
}

static void begin_upload(struct upload *u)
{
	const struct envd_fault *cut;
	struct err e = ERR_INIT;

	if (!files_begin(u->d, u->h, "write", &u->target))
		return;
	if (envd_since(u->d, "0.6.2") && metadata_take(u->h, &u->metadata, &e) < 0) {
		envd_fail(u->h, 400, "%s", e.msg);
		return;
	}
	cut = envd_fault(u->d, "files:cut");
	u->cut = cut ? cut->at : UINT64_MAX;
	u->length = http_header(u->h, "Content-Length");
	if (choose_encoding(u) == 0)
		choose_type(u);
}

void envd_post_files(struct envd *d, struct http *h)
{
	static const struct http_calls calls = { on_body, on_body_end, NULL, on_close };
	struct upload *u;

	if (envd_fault(d, "files:hang")) {
		http_on(h, NULL, NULL);
		return;
	}
	u = calloc(1, sizeof(*u));
	if (!u) {
		envd_fail(h, 500, "out of memory");
		return;
	}
	u->d = d;
	u->h = h;
	u->fd = -1;
	buf_init(&u->unpacked, UNPACKED_PIECE);
	http_on(h, &calls, u);
	begin_upload(u);
}
