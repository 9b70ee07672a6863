/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/envd.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "protocol/limits.h"
#include "sdk-wrapper/connect.h"
#include "sdk-wrapper/http_text.h"

enum {
	CONNECT_MS = 10000,
	QUICK_MS = 30000,
	IDLE_MS = 30000,	/* while bytes are moved: both ends are awake */
};

struct envd {
	struct loop *loop;
	struct http *http;
	struct e2b_place place;
	struct e2b_sandbox sandbox;
	char user[64];		/* "": the template's */
	struct envd_call *calls;
};

struct envd_call {
	struct envd *envd;
	struct envd_call *next, **at;
	const char *what;	/* a constant */
	const char *method;
	struct buf path, text;	/* text: what the parts in memory point into */
	char type[120];		/* content type; "" */
	struct http_part *parts;
	size_t n_parts;
	enum retry_kind kind;
	uint32_t request_ms;	/* of one attempt; 0: the deadline's */
	uint32_t idle_ms;
	unsigned attempt;
	uint64_t until_ns;
	struct http_call *http;
	struct loop_timer timer;
	/* read */
	bool range;
	uint64_t from, want, got;
	int (*on_data)(void *user, const uint8_t *p, size_t n);
	struct envd_end end;
};

/* --- the daemon --- */

struct envd *envd_new(struct loop *l, struct http *h, const struct e2b_env *env,
		      const struct e2b_sandbox *sandbox, const char *user, struct err *e)
{
	struct envd *d = calloc(1, sizeof(*d));

	if (!d) {
		err_set(e, ERR_NO_MEMORY, 0, "envd");
		return NULL;
	}
	d->loop = l;
	d->http = h;
	d->sandbox = *sandbox;
	if (!user && !envd_can(sandbox->envd_version, ENVD_TEMPLATE_USER))
		user = "user";
	snprintf(d->user, sizeof(d->user), "%s", user ? user : "");
	if (e2b_place(env, sandbox->domain, sandbox->id, E2B_ENVD_PORT, &d->place, e) < 0) {
		free(d);
		return NULL;
	}
	return d;
}

static void call_unlink(struct envd_call *c)
{
	if (c->at)
		*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->at = NULL;
	c->next = NULL;
	loop_timer_stop(&c->timer);
}

static void call_free(struct envd_call *c)
{
	call_unlink(c);
	http_cancel(c->http);
	buf_release(&c->path);
	buf_release(&c->text);
	free(c->parts);
	free(c);
}

void envd_cancel(struct envd_call *c)
{
	if (c)
		call_free(c);
}

void envd_free(struct envd *d)
{
	if (!d)
		return;
	while (d->calls)
		call_free(d->calls);
	wipe(&d->sandbox, sizeof(d->sandbox));
	free(d);
}

const char *envd_version(const struct envd *d)
{
	return d->sandbox.envd_version;
}

struct loop *envd_loop(const struct envd *d)
{
	return d->loop;
}

struct http *envd_http(const struct envd *d)
{
	return d->http;
}

/* --- what every request has --- */

void envd_header(struct envd_headers *h, const char *fmt, ...)
{
	va_list ap;

	if (h->n + 1 >= ENVD_HEADERS)
		return;
	va_start(ap, fmt);
	vsnprintf(h->text[h->n], ENVD_HEADER_TEXT, fmt, ap);
	va_end(ap);
	h->list[h->n] = h->text[h->n];
	h->list[++h->n] = NULL;
}

void envd_headers(const struct envd *d, bool rpc, struct envd_headers *ret)
{
	const struct e2b_sandbox *s = &d->sandbox;

	ret->n = 0;
	ret->list[0] = NULL;
	envd_header(ret, "E2b-Sandbox-Id: %s", s->id);
	envd_header(ret, "E2b-Sandbox-Port: %d", E2B_ENVD_PORT);
	envd_header(ret, "User-Agent: farstep/%s", farstep_version());
	envd_header(ret, "Accept: application/json");
	if (s->access_token[0])
		envd_header(ret, "X-Access-Token: %s", s->access_token);
	if (s->traffic_token[0])
		envd_header(ret, "E2b-Traffic-Access-Token: %s", s->traffic_token);
	if (rpc && d->user[0]) {
		char plain[80], coded[120];
		struct buf b CLEANUP(buf_release);

		buf_init(&b, sizeof(coded) - 1);
		snprintf(plain, sizeof(plain), "%s:", d->user);
		if (base64_encode(plain, strlen(plain), &b, NULL) == 0) {
			snprintf(coded, sizeof(coded), "%s", buf_cstr(&b, NULL));
			envd_header(ret, "Authorization: Basic %s", coded);
		}
	}
}

int envd_url(const struct envd *d, const char *path, struct buf *out, struct err *e)
{
	return buf_printf(out, e, "%s%s", d->place.base, path);
}

/* --- calls --- */

static void on_timer(struct loop_timer *t);

static struct envd_call *call_new(struct envd *d, const char *what, const char *method,
				  enum retry_kind kind, const struct envd_end *end, struct err *e)
{
	struct envd_call *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(e, ERR_NO_MEMORY, 0, "%s", what);
		return NULL;
	}
	c->envd = d;
	c->what = what;
	c->method = method;
	c->kind = kind;
	c->end = *end;
	c->until_ns = now_ns() + (uint64_t)end->deadline_ms * 1000000;
	buf_init(&c->path, LIMIT_DATA);
	buf_init(&c->text, LIMIT_TEXT);
	c->next = d->calls;
	c->at = &d->calls;
	if (c->next)
		c->next->at = &c->next;
	d->calls = c;
	return c;
}

static struct envd_call *call_begin(struct envd_call *c, int r, struct err *e)
{
	if (r == 0 && loop_timer_start(c->envd->loop, &c->timer, 0, on_timer, e) == 0)
		return c;
	err_wrap(e, "%s", c->what);
	call_free(c);
	return NULL;
}

static void finish(struct envd_call *c, const struct failure *f, const json *answer)
{
	struct envd_result r = { .failure = f, .answer = answer, .bytes = c->got };
	struct envd_end end = c->end;

	call_unlink(c);
	end.on_done(end.user, &r);
	call_free(c);
}

static uint64_t left_ms(const struct envd_call *c)
{
	uint64_t now = now_ns();

	return now >= c->until_ns ? 0 : (c->until_ns - now) / 1000000;
}

static void call_failed(struct envd_call *c, const struct failure *f)
{
	struct retry_plan p = { RETRY_STOP, 0 };
	uint32_t rnd = 0;

	random_bytes(&rnd, sizeof(rnd), NULL);
	if (c->kind != RETRY_CREATE)
		p = retry_plan(c->kind, f, c->attempt, left_ms(c), rnd);
	if (p.verdict == RETRY_STOP ||
	    loop_timer_start(c->envd->loop, &c->timer, p.wait_ms, on_timer, NULL) < 0) {
		finish(c, f, NULL);
		return;
	}
	log_info("%s; again in %u ms", f->err.msg, p.wait_ms);
}

static int on_read_data(void *user, const uint8_t *p, size_t n)
{
	struct envd_call *c = user;

	/* All of the file, though a part was asked for: not what goes here. */
	if (c->from + c->got && http_status(c->http) != 206)
		return -1;
	if (c->want && n > c->want - c->got)
		return -1;
	c->got += n;
	c->attempt = 1;	/* it moves: only standing still counts */
	return c->on_data(c->end.user, p, n);
}

static void on_response(void *user, const struct http_response *r)
{
	struct envd_call *c = user;
	auto_json json *v = NULL;
	struct failure f;
	struct err e = ERR_INIT;

	c->http = NULL;
	if (c->range && r->end == HTTP_ANSWERED && r->status == 416) {
		finish(c, NULL, NULL);
		return;
	}
	failure_of_response(FAIL_AT_SANDBOX, c->what, r, &f);
	if (f.class != FAIL_NONE) {
		call_failed(c, &f);
		return;
	}
	/* Answers to uploads say text/plain, and are JSON nevertheless. */
	if (r->body_len && !c->range) {
		v = json_parse(r->body, r->body_len, LIMIT_API_ANSWER, LIMIT_JSON_DEPTH, &e);
		if (!v) {
			failure_set(&f, FAIL_PROTOCOL, c->what, &e);
			call_failed(c, &f);
			return;
		}
	}
	finish(c, NULL, v);
}

static void add_range(const struct envd_call *c, struct envd_headers *h)
{
	uint64_t from = c->from + c->got;

	if (c->want)
		envd_header(h, "Range: bytes=%llu-%llu", (unsigned long long)from,
			    (unsigned long long)(c->from + c->want - 1));
	else if (from)
		envd_header(h, "Range: bytes=%llu-", (unsigned long long)from);
}

static int send_request(struct envd_call *c, struct err *e)
{
	struct envd *d = c->envd;
	struct envd_headers h;
	struct buf url CLEANUP(buf_release);
	struct http_request req = { .method = c->method,
				    .headers = h.list,
				    .parts = c->parts,
				    .n_parts = c->n_parts,
				    .max_body = LIMIT_API_ANSWER,
				    .on_data = c->range ? on_read_data : NULL,
				    .connect_ms = CONNECT_MS,
				    .idle_ms = c->idle_ms,
				    .fresh = c->kind == RETRY_CREATE,
				    .on_done = on_response,
				    .user = c };
	uint64_t left = left_ms(c);

	if (!left)
		return err_set(e, ERR_DEADLINE, 0, "no time left");
	req.deadline_ms = c->request_ms && c->request_ms < left ? c->request_ms : (uint32_t)left;
	buf_init(&url, LIMIT_DATA);
	if (envd_url(d, buf_cstr(&c->path, e), &url, e) < 0)
		return -1;
	req.url = buf_cstr(&url, e);
	envd_headers(d, strncmp(buf_cstr(&c->path, NULL), "/files", 6) != 0, &h);
	if (c->type[0])
		envd_header(&h, "Content-Type: %s", c->type);
	if (c->range)
		add_range(c, &h);
	c->http = req.url ? http_start(d->http, &req, e) : NULL;
	wipe(&h, sizeof(h));
	return c->http ? 0 : -1;
}

static void on_timer(struct loop_timer *t)
{
	struct envd_call *c = (struct envd_call *)((char *)t - offsetof(struct envd_call, timer));
	struct err e = ERR_INIT;
	struct failure f;

	c->attempt++;
	if (c->range && c->want && c->got == c->want) {	/* it broke off right at its end */
		finish(c, NULL, NULL);
		return;
	}
	if (send_request(c, &e) == 0)
		return;
	failure_set(&f, e.code == ERR_DEADLINE ? FAIL_TIMEOUT : FAIL_UNREACHED, c->what, &e);
	finish(c, &f, NULL);
}

/* --- the calls there are --- */

struct envd_call *envd_health(struct envd *d, const struct envd_end *end, struct err *e)
{
	struct envd_call *c = call_new(d, "sandbox health", "GET", RETRY_READ, end, e);

	return c ? call_begin(c, buf_puts(&c->path, "/health", e), e) : NULL;
}

/* The whole of c->text is the body. */
static int body_is_text(struct envd_call *c, struct err *e)
{
	c->parts = calloc(1, sizeof(*c->parts));
	if (!c->parts)
		return err_set(e, ERR_NO_MEMORY, 0, "request");
	c->parts[0] = (struct http_part){ buf_data(&c->text), -1, 0, buf_len(&c->text) };
	c->n_parts = 1;
	return 0;
}

struct envd_call *envd_rpc(struct envd *d, const char *method, const char *message,
			   enum retry_kind kind, const struct envd_end *end, struct err *e)
{
	struct envd_call *c = call_new(d, "sandbox call", "POST", kind, end, e);

	if (!c)
		return NULL;
	c->request_ms = QUICK_MS;
	snprintf(c->type, sizeof(c->type), "application/json");
	if (buf_printf(&c->path, e, "/%s", method) < 0 || buf_puts(&c->text, message, e) < 0)
		return call_begin(c, -1, e);
	return call_begin(c, body_is_text(c, e), e);
}

struct envd_call *envd_compose(struct envd *d, const char *const *sources, size_t n,
			       const char *destination, const struct envd_end *end, struct err *e)
{
	struct envd_call *c = call_new(d, "put files together", "POST", RETRY_CREATE, end, e);
	struct jw w;

	if (!c)
		return NULL;
	snprintf(c->type, sizeof(c->type), "application/json");
	jw_init(&w, &c->text);
	jw_obj(&w);
	jw_karr(&w, "source_paths");
	for (size_t i = 0; i < n; i++)
		jw_str(&w, sources[i]);
	jw_end(&w);
	jw_kstr(&w, "destination", destination);
	if (d->user[0])
		jw_kstr(&w, "username", d->user);
	jw_end(&w);
	if (jw_done(&w, e) < 0 || buf_puts(&c->path, "/files/compose", e) < 0)
		return call_begin(c, -1, e);
	return call_begin(c, body_is_text(c, e), e);
}

/* /files?path=...&username=...; path NULL: only the user */
static int put_files_path(struct envd_call *c, const char *path, struct err *e)
{
	const char *user = c->envd->user;
	char sep = '?';

	if (buf_puts(&c->path, "/files", e) < 0)
		return -1;
	if (path) {
		if (buf_puts(&c->path, "?path=", e) < 0 ||
		    http_escape(&c->path, path, true, e) < 0)
			return -1;
		sep = '&';
	}
	if (!*user)
		return 0;
	if (buf_printf(&c->path, e, "%cusername=", sep) < 0)
		return -1;
	return http_escape(&c->path, user, false, e);
}

/* A name that needs no escaping in a header of a part. */
static int check_name(const char *path, struct err *e)
{
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f)
			return err_set(e, ERR_INVALID_PARAMS, 0,
				       "'%.200s': not a path for an upload", path);
	return 0;
}

/* Part heads go into c->text first; the pieces point there when it does not move any more. */
static int build_multipart(struct envd_call *c, const struct envd_file *files, size_t n,
			   struct err *e)
{
	auto_free size_t *ends = calloc(n + 1, sizeof(*ends));
	uint8_t rnd[16];
	char boundary[2 * sizeof(rnd) + 1];
	const uint8_t *text;

	c->parts = calloc(2 * n + 1, sizeof(*c->parts));
	if (!ends || !c->parts)
		return err_set(e, ERR_NO_MEMORY, 0, "upload");
	if (random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(rnd, sizeof(rnd), boundary);
	snprintf(c->type, sizeof(c->type), "multipart/form-data; boundary=%s", boundary);
	for (size_t i = 0; i < n; i++) {
		if (check_name(files[i].path, e) < 0 ||
		    buf_printf(&c->text, e,
			       "%s--%s\r\nContent-Disposition: form-data; name=\"file\"; "
			       "filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n",
			       i ? "\r\n" : "", boundary, files[i].path) < 0)
			return -1;
		ends[i] = buf_len(&c->text);
	}
	if (buf_printf(&c->text, e, "\r\n--%s--\r\n", boundary) < 0)
		return -1;
	ends[n] = buf_len(&c->text);
	text = buf_data(&c->text);
	for (size_t i = 0; i <= n; i++) {
		size_t from = i ? ends[i - 1] : 0;

		c->parts[c->n_parts++] = (struct http_part){ text + from, -1, 0, ends[i] - from };
		if (i < n)
			c->parts[c->n_parts++] =
				(struct http_part){ NULL, files[i].fd, files[i].at, files[i].len };
	}
	return 0;
}

struct envd_call *envd_upload(struct envd *d, const struct envd_file *files, size_t n,
			      const struct envd_end *end, struct err *e)
{
	struct envd_call *c = call_new(d, "upload", "POST", RETRY_IDEMPOTENT, end, e);

	if (!c)
		return NULL;
	c->idle_ms = IDLE_MS;
	if (put_files_path(c, NULL, e) < 0)
		return call_begin(c, -1, e);
	return call_begin(c, build_multipart(c, files, n, e), e);
}

struct envd_call *envd_upload_raw(struct envd *d, const struct envd_file *file,
				  const struct envd_end *end, struct err *e)
{
	struct envd_call *c = call_new(d, "upload", "POST", RETRY_IDEMPOTENT, end, e);

	if (!c)
		return NULL;
	c->idle_ms = IDLE_MS;
	snprintf(c->type, sizeof(c->type), "application/octet-stream");
	c->parts = calloc(1, sizeof(*c->parts));
	if (!c->parts) {
		err_set(e, ERR_NO_MEMORY, 0, "file");
		return call_begin(c, -1, e);
	}
	c->parts[0] = (struct http_part){ NULL, file->fd, file->at, file->len };
	c->n_parts = 1;
	return call_begin(c, put_files_path(c, file->path, e), e);
}

struct envd_call *envd_read(struct envd *d, const char *path, uint64_t from, uint64_t len,
			    int (*on_data)(void *user, const uint8_t *p, size_t n),
			    const struct envd_end *end, struct err *e)
{
	struct envd_call *c = call_new(d, "download", "GET", RETRY_READ, end, e);

	if (!c)
		return NULL;
	c->idle_ms = IDLE_MS;
	c->range = true;
	c->from = from;
	c->want = len;
	c->on_data = on_data;
	return call_begin(c, put_files_path(c, path, e), e);
}
