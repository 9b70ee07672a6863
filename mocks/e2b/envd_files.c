/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mocks/e2b/envd_files.h"
#include "mocks/e2b/envd_int.h"
#include "mocks/e2b/gzip.h"
#include "mocks/e2b/query.h"
#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum { BLOCK = 64 * 1024, SNIFFED = 512, DATE_TEXT = 64 };

struct download {
	struct http *h;
	int fd;
	int64_t at, end;	/* of the file */
	struct gzip *gzip;	/* NULL: as it is */
	uint64_t sent, cut;	/* cut: breaks after so many bytes */
};

/* --- what both ways share --- */

int files_query(const struct http *h, const char *key, struct buf *out, struct err *e)
{
	int has = query_get(http_query(h), key, out, e);

	return has < 0 || !buf_cstr(out, e) ? -1 : has;
}

bool files_user(const struct envd *d, struct http *h, const char *name, struct user *ret)
{
	struct err e = ERR_INIT;

	if (!*name)
		name = d->default_user;
	if (!*name)
		envd_fail(h, 400, "username not provided");
	else if (user_find(d, name, ret, &e) < 0)
		envd_fail(h, 401, "error looking up user '%s': %s", name, e.msg);
	else
		return true;
	return false;
}

bool files_begin(struct envd *d, struct http *h, const char *op, struct files_target *t)
{
	struct buf user CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&t->path, PATH_MAX);
	buf_init(&user, ENVD_NAME);
	if (envd_signature_ok(d, h, op, &e) < 0) {
		envd_fail(h, e.code == ERR_DENIED ? 401 : 400, "%s", e.msg);
		return false;
	}
	t->has_path = files_query(h, "path", &t->path, &e);
	if (t->has_path < 0 || files_query(h, "username", &user, &e) < 0) {
		envd_fail(h, 400, "%s", e.msg);
		return false;
	}
	return files_user(d, h, (const char *)buf_data(&user), &t->user);
}

void files_target_release(struct files_target *t)
{
	buf_release(&t->path);
}

/* --- headers --- */

static const char *type_by_name(const char *name)
{
	static const struct {
		const char *end, *type;
	} types[] = {
		{ ".avif", "image/avif" }, { ".css", "text/css; charset=utf-8" },
		{ ".gif", "image/gif" }, { ".htm", "text/html; charset=utf-8" },
		{ ".html", "text/html; charset=utf-8" }, { ".jpeg", "image/jpeg" },
		{ ".jpg", "image/jpeg" }, { ".js", "text/javascript; charset=utf-8" },
		{ ".json", "application/json" }, { ".mjs", "text/javascript; charset=utf-8" },
		{ ".pdf", "application/pdf" }, { ".png", "image/png" },
		{ ".svg", "image/svg+xml" }, { ".wasm", "application/wasm" },
		{ ".webp", "image/webp" }, { ".xml", "text/xml; charset=utf-8" },
	};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < ARRAY_LEN(types); i++)
		if (strcasecmp(dot, types[i].end) == 0)
			return types[i].type;
	return NULL;
}

/* Text, unless a byte says otherwise. */
static const char *type_by_content(int fd)
{
	uint8_t data[SNIFFED];
	ssize_t n = pread(fd, data, sizeof(data), 0);

	for (ssize_t i = 0; i < n; i++) {
		uint8_t c = data[i];

		if (c <= 0x08 || c == 0x0b || (c >= 0x0e && c <= 0x1a) || (c >= 0x1c && c <= 0x1f))
			return "application/octet-stream";
	}
	return "text/plain; charset=utf-8";
}

/* As Go's mime.FormatMediaType: a token as it is, other ASCII in quotes, the rest encoded. */
static int add_disposition(struct http *h, const char *name, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	bool token = true, ascii = true;
	int r;

	for (const char *p = name; *p; p++) {
		ascii = ascii && *p >= 0x20 && *p < 0x7f;
		token = token && *p > 0x20 && *p < 0x7f && !strchr("()<>@,;:\\\"/[]?=", *p);
	}
	buf_init(&text, 4 * PATH_MAX);
	if (!ascii)
		r = buf_puts(&text, "inline; filename*=utf-8''", e) < 0 ||
		    url_encode(name, NULL, &text, e) < 0;
	else if (token)
		r = buf_printf(&text, e, "inline; filename=%s", name);
	else
		r = buf_puts(&text, "inline; filename=\"", e);
	for (const char *p = name; r == 0 && ascii && !token && *p; p++)
		r = (*p == '"' || *p == '\\' ? buf_putc(&text, '\\', e) : 0) < 0 ||
		    buf_putc(&text, (uint8_t)*p, e) < 0;
	if (r == 0 && ascii && !token)
		r = buf_putc(&text, '"', e);
	if (r || !buf_cstr(&text, e))
		return -1;
	return http_add(h, "Content-Disposition", buf_cstr(&text, e), e);
}

static void format_date(time_t t, char text[DATE_TEXT])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, DATE_TEXT, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* -1 when there is no such header or it is no date. */
static time_t header_date(const struct http *h, const char *name)
{
	const char *text = http_header(h, name), *end;
	struct tm tm = { 0 };

	end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
	return end && !*end ? timegm(&tm) : -1;
}

/* What an Accept-Encoding says of a coding: 1 that it may be, 0 that it may not, -1 nothing. */
static int accepts(const char *header, const char *coding)
{
	size_t n = strlen(coding);

	for (const char *p = header; p && *p; p += strcspn(p, ","), p += *p == ',') {
		const char *weight;

		p += strspn(p, " \t");
		if (strncasecmp(p, coding, n) != 0 || !strchr(" \t,;", p[n]))
			continue;
		weight = memmem(p, strcspn(p, ","), "q=", 2);
		return !weight || strtod(weight + 2, NULL) > 0;
	}
	return -1;
}

static bool refuses_identity(const char *header)
{
	int said = accepts(header, "identity");

	return said == 0 || (said < 0 && accepts(header, "*") == 0);
}

/* --- the body --- */

static void send_some(struct download *d)
{
	static uint8_t data[BLOCK];
	struct buf packed CLEANUP(buf_release);
	struct err e = ERR_INIT;
	int r = 0;

	buf_init(&packed, 4 * BLOCK);
	while (r == 0 && d->at < d->end) {
		size_t want = d->end - d->at < BLOCK ? (size_t)(d->end - d->at) : BLOCK;
		ssize_t n = pread(d->fd, data, want, d->at);
		bool last = n > 0 && d->at + n == d->end;

		if (n <= 0) {	/* it became shorter meanwhile */
			http_abort(d->h);
			return;
		}
		d->at += n;
		buf_reset(&packed);
		if (d->gzip && gzip_write(d->gzip, data, (size_t)n, last, &packed, &e) < 0)
			r = -1;
		else if (d->sent + (uint64_t)n > d->cut)
			r = http_write(d->h, data, d->cut - d->sent, &e) < 0 ? -1 : -2;
		else
			r = d->gzip ? http_write(d->h, buf_data(&packed), buf_len(&packed), &e)
				    : http_write(d->h, data, (size_t)n, &e);
		d->sent += (uint64_t)n;
	}
	if (r < 0)
		http_abort(d->h);
	else if (d->at == d->end)
		http_end(d->h);
}

static void on_drain(struct http *h)
{
	send_some(http_ctx(h));
}

static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	struct download *d = http_ctx(h);

	close_fd(&d->fd);
	gzip_free(d->gzip);
	free(d);
}

/* --- ranges --- */

enum range { RANGE_NONE, RANGE_PART, RANGE_OUTSIDE };

/* "bytes=A-B", "bytes=A-", "bytes=-N"; what is none of these, or several, is the whole. */
static enum range parse_range(const char *text, int64_t size, int64_t *from, int64_t *to)
{
	char *end;
	const char *p;
	bool has_from, has_to;
	long long a = 0, b = 0;

	if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
		return RANGE_NONE;
	p = text + 6;
	has_from = *p >= '0' && *p <= '9';
	if (has_from) {
		a = strtoll(p, &end, 10);
		p = end;
	}
	if (*p++ != '-')
		return RANGE_OUTSIDE;
	has_to = *p >= '0' && *p <= '9';
	if (has_to) {
		b = strtoll(p, &end, 10);
		p = end;
	}
	if (*p || (!has_from && !has_to) || (has_from && has_to && b < a))
		return RANGE_OUTSIDE;
	*from = has_from ? a : b < size ? size - b : 0;
	*to = has_from && has_to && b < size ? b + 1 : size;
	return *from < size ? RANGE_PART : RANGE_OUTSIDE;
}

/* If-Range with another date than the file's wants it whole. */
static const char *wanted_range(const struct http *h, const struct stat *st)
{
	if (http_header(h, "If-Range") && header_date(h, "If-Range") != st->st_mtime)
		return NULL;
	return http_header(h, "Range");
}

static void reply_outside(struct http *h, int64_t size)
{
	static const char text[] = "invalid range: failed to overlap\n";
	char range[64];

	snprintf(range, sizeof(range), "bytes */%lld", (long long)size);
	http_add(h, "Content-Range", range, NULL);
	http_reply(h, 416, "text/plain; charset=utf-8", text, sizeof(text) - 1);
}

static void add_range(struct download *d, int64_t size)
{
	char text[96];

	snprintf(text, sizeof(text), "bytes %lld-%lld/%lld", (long long)d->at,
		 (long long)d->end - 1, (long long)size);
	http_add(d->h, "Content-Range", text, NULL);
}

/* --- the request --- */

/* Opens what is asked for; false: the request was answered. */
static bool open_target(struct http *h, const char *path, int *fd, struct stat *st)
{
	if (stat(path, st) < 0) {
		if (errno == ENOENT)
			envd_fail(h, 404, "path '%s' does not exist", path);
		else
			envd_fail(h, 500, "error checking if path exists '%s': stat %s: %s", path,
				  path, sys_text(errno));
		return false;
	}
	if (S_ISDIR(st->st_mode)) {
		envd_fail(h, 400, "path '%s' is a directory", path);
		return false;
	}
	if (!S_ISREG(st->st_mode)) {
		envd_fail(h, 400, "path '%s' is not a regular file", path);
		return false;
	}
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		envd_fail(h, 500, "error opening file '%s': open %s: %s", path, path,
			  sys_text(errno));
	return *fd >= 0;
}

static bool wants_gzip(const struct envd *d, const struct http *h)
{
	return envd_since(d, "0.5.3") && accepts(http_header(h, "Accept-Encoding"), "gzip") == 1 &&
	       !http_header(h, "Range") && !http_header(h, "If-Modified-Since") &&
	       !http_header(h, "If-None-Match") && !http_header(h, "If-Range");
}

static void start_gzip(struct download *d, const char *path)
{
	const char *type = type_by_name(path);
	struct err e = ERR_INIT;

	d->gzip = gzip_writer(&e);
	http_add(d->h, "Content-Encoding", "gzip", NULL);
	http_add(d->h, "Content-Type", type ? type : "application/octet-stream", NULL);
	http_start(d->h, 200, HTTP_LENGTH_UNKNOWN);
	if (!d->gzip) {
		http_abort(d->h);
		return;
	}
	if (d->end > 0) {
		send_some(d);
		return;
	}
	struct buf empty CLEANUP(buf_release);

	buf_init(&empty, BLOCK);
	if (gzip_write(d->gzip, "", 0, true, &empty, &e) == 0)
		http_write(d->h, buf_data(&empty), buf_len(&empty), &e);
	http_end(d->h);
}

/* As Go's http.ServeContent. */
static void start_plain(struct download *d, const char *path, const struct stat *st)
{
	char date[DATE_TEXT];
	const char *type = type_by_name(path);
	enum range range;

	format_date(st->st_mtime, date);
	http_add(d->h, "Last-Modified", date, NULL);
	if (header_date(d->h, "If-Unmodified-Since") != -1 &&
	    header_date(d->h, "If-Unmodified-Since") < st->st_mtime) {
		http_reply(d->h, 412, NULL, NULL, 0);
		return;
	}
	if (header_date(d->h, "If-Modified-Since") >= st->st_mtime) {
		http_reply(d->h, 304, NULL, NULL, 0);
		return;
	}
	range = parse_range(wanted_range(d->h, st), st->st_size, &d->at, &d->end);
	if (range == RANGE_OUTSIDE) {
		reply_outside(d->h, st->st_size);
		return;
	}
	http_add(d->h, "Accept-Ranges", "bytes", NULL);
	http_add(d->h, "Content-Type", type ? type : type_by_content(d->fd), NULL);
	if (range == RANGE_PART)
		add_range(d, st->st_size);
	http_start(d->h, range == RANGE_PART ? 206 : 200, d->end - d->at);
	send_some(d);
}

static void start_download(struct envd *envd, struct http *h, int fd, const struct stat *st,
			   const char *path)
{
	static const struct http_calls calls = { .on_drain = on_drain, .on_close = on_close };
	const struct envd_fault *cut = envd_fault(envd, "files:cut");
	struct download *d = calloc(1, sizeof(*d));

	if (!d) {
		close(fd);
		envd_fail(h, 500, "out of memory");
		return;
	}
	*d = (struct download){ .h = h, .fd = fd, .end = st->st_size,
				.cut = cut ? cut->at : UINT64_MAX };
	http_on(h, &calls, d);
	http_add(h, "Vary", "Accept-Encoding", NULL);
	add_disposition(h, path_base(path), NULL);
	if (wants_gzip(envd, h))
		start_gzip(d, path);
	else
		start_plain(d, path, st);
}

static void get_target(struct envd *d, struct http *h, struct files_target *t)
{
	char path[PATH_MAX];
	struct err e = ERR_INIT;
	struct stat st;
	int fd = -1;

	if (path_resolve(d, &t->user, (const char *)buf_data(&t->path), path, &e) < 0) {
		envd_fail(h, 400, "error expanding and resolving path '%s': %s",
			  (const char *)buf_data(&t->path), e.msg);
		return;
	}
	if (!open_target(h, path, &fd, &st))
		return;
	if (refuses_identity(http_header(h, "Accept-Encoding")) && !wants_gzip(d, h)) {
		close(fd);
		envd_fail(h, 406, "error parsing Accept-Encoding: no acceptable encoding found, "
			  "supported: [gzip]");
		return;
	}
	start_download(d, h, fd, &st, path);
}

void envd_get_files(struct envd *d, struct http *h)
{
	struct files_target t CLEANUP(files_target_release) = { 0 };

	if (envd_fault(d, "files:hang"))
		http_on(h, NULL, NULL);
	else if (files_begin(d, h, "read", &t))
		get_target(d, h, &t);
}
