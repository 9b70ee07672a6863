/* SPDX-License-Identifier: Apache-2.0
 *
 * POST /files/compose: several files become one, all or nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mocks/e2b/envd_files.h"
#include "mocks/e2b/envd_int.h"
#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/hash.h"

enum { BODY_MAX = 4 * 1024 * 1024, SOURCES_MAX = 10000, COPY_PIECE = 1 << 30, BLOCK = 64 * 1024 };

struct compose {
	struct envd *d;
	struct buf body;
};

/* --- copying --- */

/* Where the kernel cannot do it between these two. */
static int copy_by_hand(int from, int to)
{
	char data[BLOCK];
	ssize_t n;

	while ((n = read(from, data, sizeof(data))) > 0)
		if (fs_write_all(to, data, (size_t)n, NULL) < 0)
			return errno;
	return n < 0 ? errno : 0;
}

/* 0 or an errno. */
static int copy_file(const char *path, int to)
{
	int from auto_close = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;

	if (from < 0)
		return errno;
	do
		n = copy_file_range(from, NULL, to, NULL, COPY_PIECE, 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	/* Files of /proc and the like have no length to go by. */
	return n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP
		       ? errno : copy_by_hand(from, to);
}

/* --- the request --- */

static bool source_ok(struct envd *d, struct http *h, const struct user *u, const char *text,
		      const char *destination, char path[PATH_MAX])
{
	struct err e = ERR_INIT;
	struct stat st;

	if (path_resolve(d, u, text, path, &e) < 0)
		envd_fail(h, 400, "error resolving source path \"%s\": %s", text, e.msg);
	else if (strcmp(path, destination) == 0)
		envd_fail(h, 400, "source path \"%s\" cannot be the same as destination", text);
	else if (stat(path, &st) < 0)
		envd_fail(h, 404, "source file not found: %s", text);
	else if (!S_ISREG(st.st_mode))
		envd_fail(h, 400, "source path is not a regular file: %s", text);
	else
		return true;
	return false;
}

static bool sources_ok(struct envd *d, struct http *h, const struct user *u, const json *sources,
		       const char *destination)
{
	char path[PATH_MAX];

	if (json_count(sources) > SOURCES_MAX) {
		envd_fail(h, 400, "more than %d source_paths", SOURCES_MAX);
		return false;
	}
	for (const json *s = json_first(sources); s; s = json_next(s))
		if (!source_ok(d, h, u, json_string(s), destination, path))
			return false;
	return true;
}

static void fail_sys(struct http *h, const char *what, int sys)
{
	if (sys == ENOSPC || sys == EDQUOT)
		envd_fail(h, 507, "not enough disk space available");
	else
		envd_fail(h, 500, "%s: %s", what, sys_text(sys));
}

/* Into the temporary file, then over the destination.  0, or answered with an error. */
static int assemble(struct envd *d, struct http *h, const struct user *u, const json *sources,
		    const char *temp, const char *destination)
{
	int to auto_close = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	char path[PATH_MAX];
	int sys = to < 0 ? errno : 0;

	if (sys) {
		fail_sys(h, "error creating destination file", sys);
		return -1;
	}
	for (const json *s = json_first(sources); s && !sys; s = json_next(s))
		if (path_resolve(d, u, json_string(s), path, NULL) == 0)
			sys = copy_file(path, to);
	if (sys)
		fail_sys(h, "error composing source", sys);
	else if (path_give(AT_FDCWD, temp, u, NULL) < 0)
		fail_sys(h, "error changing file ownership", sys = EPERM);
	else if (rename(temp, destination) < 0)
		fail_sys(h, "error finalizing compose", sys = errno);
	return sys ? -1 : 0;
}

static void reply_composed(struct http *h, const char *destination)
{
	struct buf text CLEANUP(buf_release);
	struct jw w;

	buf_init(&text, 4 * PATH_MAX);
	jw_init(&w, &text);
	jw_obj(&w);
	jw_kstr(&w, "name", path_base(destination));
	jw_kstr(&w, "path", destination);
	jw_kstr(&w, "type", "file");
	jw_end(&w);
	if (jw_done(&w, NULL) == 0 && buf_putc(&text, '\n', NULL) == 0)
		http_reply(h, 200, "application/json", buf_data(&text), buf_len(&text));
	else
		envd_fail(h, 500, "out of memory");
}

static void compose_into(struct envd *d, struct http *h, const struct user *u,
			 const json *sources, const char *destination)
{
	char temp[PATH_MAX + 64], parent[PATH_MAX], path[PATH_MAX], hex[33];
	struct err e = ERR_INIT;
	uint8_t r[16];

	path_parent(destination, parent);
	if (path_make_dirs(u, parent, &e) < 0) {
		envd_fail(h, 500, "error ensuring directories: %s", e.msg);
		return;
	}
	if (random_bytes(r, sizeof(r), &e) < 0) {
		envd_fail(h, 500, "%s", e.msg);
		return;
	}
	hex_encode(r, sizeof(r), hex);
	snprintf(temp, sizeof(temp), "%s.e2b-compose.%s.tmp", destination, hex);
	if (assemble(d, h, u, sources, temp, destination) < 0) {
		unlink(temp);
		return;
	}
	for (const json *s = json_first(sources); s; s = json_next(s))
		if (path_resolve(d, u, json_string(s), path, NULL) == 0)
			unlink(path);
	reply_composed(h, destination);
}

static void compose(struct envd *d, struct http *h, const json *doc)
{
	const char *to = "", *name = "";
	const json *sources = NULL;
	char destination[PATH_MAX];
	struct err e = ERR_INIT;
	struct user u;

	if (json_opt_strv(doc, "body", "source_paths", &sources, &e) < 0 ||
	    json_opt_str(doc, "body", "destination", &to, &e) < 0 ||
	    json_opt_str(doc, "body", "username", &name, &e) < 0)
		envd_fail(h, 400, "invalid request body: %s", e.msg);
	else if (json_count(sources) == 0)
		envd_fail(h, 400, "source_paths must not be empty");
	else if (!*to)
		envd_fail(h, 400, "destination is required");
	else if (!files_user(d, h, name, &u))
		return;
	else if (path_resolve(d, &u, to, destination, &e) < 0)
		envd_fail(h, 400, "error resolving destination path: %s", e.msg);
	else if (sources_ok(d, h, &u, sources, destination))
		compose_into(d, h, &u, sources, destination);
}

static size_t on_body(struct http *h, const uint8_t *p, size_t n)
{
	struct compose *c = http_ctx(h);

	if (buf_put(&c->body, p, n, NULL) < 0)
		envd_fail(h, 400, "invalid request body: more than %d bytes", BODY_MAX);
	return n;
}

static void on_body_end(struct http *h)
{
	struct compose *c = http_ctx(h);
	struct err e = ERR_INIT;
	json *doc auto_json = json_parse((const char *)buf_data(&c->body), buf_len(&c->body),
					 BODY_MAX, ENVD_JSON_DEPTH, &e);

	if (!doc)
		envd_fail(h, 400, "invalid request body: %s", e.msg);
	else if (envd_fault(c->d, "files:507"))
		envd_fail(h, 507, "not enough disk space available");
	else
		compose(c->d, h, doc);
}

static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	struct compose *c = http_ctx(h);

	buf_release(&c->body);
	free(c);
}

void envd_compose(struct envd *d, struct http *h)
{
	static const struct http_calls calls = { on_body, on_body_end, NULL, on_close };
	struct compose *c;

	if (strcmp(http_method(h), "POST") != 0) {
		http_reply(h, 405, NULL, NULL, 0);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		envd_fail(h, 500, "out of memory");
		return;
	}
	c->d = d;
	buf_init(&c->body, BODY_MAX);
	http_on(h, &calls, c);
}
