/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/http.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "sdk-wrapper/http_int.h"

struct http_call {
	struct http_owner owner;
	struct http *http;
	struct http_pool *pool;	/* NULL: not added yet */
	struct http_call *next, **at;
	struct http_request req;
	struct http_part *parts;
	size_t part;
	uint64_t part_done;
	CURL *easy;
	struct curl_slist *headers;
	struct buf head, body;
	int status;
	bool cancelled, stopped;
	struct loop_timer idle;
	uint64_t moved_ns;	/* when a byte moved last */
	char what[256];		/* "POST https://host/path" */
	char why[160];		/* our own reason; libcurl's would be "aborted by callback" */
	char error[CURL_ERROR_SIZE];
};

static void call_end(struct http_call *c, CURLcode code, bool idle);
static void on_end(struct http_owner *o, CURLcode code);

/* --- what a call sends and gets --- */

static size_t give_body(char *to, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t room = size * n, done = 0;

	c->moved_ns = now_ns();
	while (done < room && c->part < c->req.n_parts) {
		const struct http_part *p = &c->parts[c->part];
		uint64_t left = p->len - c->part_done;
		size_t want = left < room - done ? (size_t)left : room - done;
		ssize_t got = (ssize_t)want;

		if (p->mem)
			memcpy(to + done, (const char *)p->mem + c->part_done, want);
		else if (want)
			got = pread(p->fd, to + done, want, (off_t)(p->at + c->part_done));
		if (got < 0 || (got == 0 && want)) {
			snprintf(c->why, sizeof(c->why), "the file to send: %s",
				 got ? strerror(errno) : "shorter than it was");
			return CURL_READFUNC_ABORT;
		}
		done += (size_t)got;
		c->part_done += (uint64_t)got;
		if (c->part_done == p->len) {
			c->part++;
			c->part_done = 0;
		}
	}
	if (c->part == c->req.n_parts && c->req.on_sent) {
		c->req.on_sent(c->req.user);
		c->req.on_sent = NULL;
	}
	return done;
}

/* Only ever to the start: a connection closed before anything was answered. */
static int rewind_body(void *arg, curl_off_t offset, int origin)
{
	struct http_call *c = arg;

	if (offset || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	c->part = 0;
	c->part_done = 0;
	return CURL_SEEKFUNC_OK;
}

static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n;

	c->moved_ns = now_ns();
	if (len > 5 && memcmp(p, "HTTP/", 5) == 0) {	/* of the next answer: after a 100, say */
		const char *space = memchr(p, ' ', len);

		buf_reset(&c->head);
		c->status = space ? (int)strtol(space, NULL, 10) : 0;
		return len;
	}
	if (buf_put(&c->head, p, len, NULL) < 0) {
		snprintf(c->why, sizeof(c->why), "more than %d bytes of headers",
			 LIMIT_HTTP_HEADERS);
		c->stopped = true;
		return 0;
	}
	return len;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n;

	c->moved_ns = now_ns();
	if (c->cancelled)
		return 0;
	if (c->req.on_data && c->status >= 200 && c->status < 300) {
		if (c->req.on_data(c->req.user, (const uint8_t *)p, len) == 0)
			return len;
		snprintf(c->why, sizeof(c->why), "not wanted any further");
		c->stopped = true;
		return 0;
	}
	if (buf_put(&c->body, p, len, NULL) == 0)
		return len;
	snprintf(c->why, sizeof(c->why), "the answer is longer than %zu bytes",
		 c->req.max_body);
	c->stopped = true;
	return 0;
}

/* --- setting up --- */

static int add_header(struct http_call *c, const char *line, struct err *e)
{
	struct curl_slist *list;

	if (strpbrk(line, "\r\n"))
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s: a header with a line break", c->what);
	list = curl.slist_append(c->headers, line);
	if (!list)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", c->what);
	c->headers = list;
	return 0;
}

static void set_method(struct http_call *c)
{
	const char *m = c->req.method;
	curl_off_t len = 0;

	for (size_t i = 0; i < c->req.n_parts; i++)
		len += (curl_off_t)c->parts[i].len;
	if (strcmp(m, "POST") == 0) {
		curl.easy_setopt(c->easy, CURLOPT_POST, 1L);
		curl.easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, len);
	} else if (strcmp(m, "PUT") == 0) {
		curl.easy_setopt(c->easy, CURLOPT_UPLOAD, 1L);
		curl.easy_setopt(c->easy, CURLOPT_INFILESIZE_LARGE, len);
	} else if (strcmp(m, "GET") != 0) {
		curl.easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, m);
	}
	curl.easy_setopt(c->easy, CURLOPT_READFUNCTION, give_body);
	curl.easy_setopt(c->easy, CURLOPT_READDATA, c);
	curl.easy_setopt(c->easy, CURLOPT_SEEKFUNCTION, rewind_body);
	curl.easy_setopt(c->easy, CURLOPT_SEEKDATA, c);
	if (len > 1 << 20)
		curl.easy_setopt(c->easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
}

static int call_prepare(struct http_call *c, struct err *e)
{
	const struct http_request *r = &c->req;

	c->easy = http_easy_new(c->http, r->url, r->connect_ms, c->error, e);
	if (!c->easy)
		return -1;
	curl.easy_setopt(c->easy, CURLOPT_PRIVATE, (char *)&c->owner);
	set_method(c);
	for (size_t i = 0; r->headers && r->headers[i]; i++)
		if (add_header(c, r->headers[i], e) < 0)
			return -1;
	if (add_header(c, "Expect:", e) < 0)	/* no waiting for "100 Continue" */
		return -1;
	curl.easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	curl.easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, take_header);
	curl.easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
	curl.easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, take_body);
	curl.easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	curl.easy_setopt(c->easy, CURLOPT_BUFFERSIZE, r->on_data ? 256L * 1024 : 32L * 1024);
	curl.easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)r->deadline_ms);
	curl.easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, r->fresh ? 1L : 0L);
	curl.easy_setopt(c->easy, CURLOPT_HTTP_VERSION,
			(long)(c->http->http1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
	return 0;
}

/* --- calls --- */

static void call_link(struct http_call **list, struct http_call *c)
{
	c->next = *list;
	c->at = list;
	if (c->next)
		c->next->at = &c->next;
	*list = c;
}

static void call_unlink(struct http_call *c)
{
	if (!c->at)
		return;
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->at = NULL;
}

/* Out of libcurl: its connection is closed, or kept for another call. */
static void call_detach(struct http_call *c)
{
	struct http *h = c->http;
	long opened = 0;

	loop_timer_stop(&c->idle);
	call_unlink(c);
	if (!c->pool)
		return;
	curl.easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &opened);
	h->connections += (unsigned)opened;
	h->in_curl++;
	curl.multi_remove_handle(c->pool->multi, c->easy);
	h->in_curl--;
	c->pool->users--;
	c->pool = NULL;
}

static void call_free(struct http_call *c)
{
	call_detach(c);
	if (c->easy)
		curl.easy_cleanup(c->easy);
	if (c->headers)
		curl.slist_free_all(c->headers);
	free(c->parts);
	buf_release(&c->head);
	buf_release(&c->body);
	free(c);
}

static void on_idle(struct loop_timer *t)
{
	struct http_call *c = (struct http_call *)((char *)t - offsetof(struct http_call, idle));
	uint64_t quiet_ms = (now_ns() - c->moved_ns) / 1000000;

	if (quiet_ms >= c->req.idle_ms)
		call_end(c, CURLE_OPERATION_TIMEDOUT, true);
	else
		loop_timer_start(c->http->loop, t, c->req.idle_ms - quiet_ms + 1, on_idle, NULL);
}

static int call_add(struct http_call *c, struct err *e)
{
	struct http *h = c->http;
	CURLMcode code;

	if (!h->pool)
		h->pool = http_pool_new(h, e);
	if (!h->pool)
		return -1;
	c->moved_ns = now_ns();
	if (c->req.idle_ms &&
	    loop_timer_start(h->loop, &c->idle, c->req.idle_ms, on_idle, e) < 0)
		return -1;
	code = curl.multi_add_handle(h->pool->multi, c->easy);
	if (code != CURLM_OK)
		return err_set(e, ERR_SYS, 0, "%s: %s", c->what, curl.multi_strerror(code));
	c->pool = h->pool;
	c->pool->users++;
	call_unlink(c);
	call_link(&h->running, c);
	return 0;
}

static void call_fail(struct http_call *c, const struct err *e)
{
	struct http_response r = { .end = HTTP_NOT_SENT, .body = "", .headers = "", .err = *e };

	call_detach(c);
	c->req.on_done(c->req.user, &r);
	call_free(c);
}

static void sweep(struct http *h)
{
	struct http_pool **at = &h->retired, *p;
	struct http_call *next;

	for (struct http_call *c = h->running; c; c = next) {
		next = c->next;
		if (c->cancelled)
			call_free(c);
	}
	while ((p = *at)) {
		if (p->users) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		http_pool_free(p);
	}
}

static void on_kick(struct loop_timer *t)
{
	struct http *h = (struct http *)((char *)t - offsetof(struct http, kick));
	struct http_call *batch = h->waiting;

	sweep(h);
	/* The oldest first: they are linked the other way round. */
	while (batch && batch->next)
		batch = batch->next;
	while (batch) {
		struct err e = ERR_INIT;
		struct http_call *c = batch;

		batch = c->at == &h->waiting
			? NULL
			: (struct http_call *)((char *)c->at - offsetof(struct http_call, next));
		if (call_add(c, &e) < 0) {
			call_fail(c, &e);
			http_kick(h);	/* the callback may have changed the list */
			return;
		}
	}
}

void http_kick(struct http *h)
{
	if (!h->kick.loop)
		loop_timer_start(h->loop, &h->kick, 0, on_kick, NULL);
}

struct http_call *http_start(struct http *h, const struct http_request *req, struct err *e)
{
	struct http_call *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(e, ERR_NO_MEMORY, 0, "request");
		return NULL;
	}
	c->owner.on_end = on_end;
	c->http = h;
	c->req = *req;
	buf_init(&c->head, LIMIT_HTTP_HEADERS);
	buf_init(&c->body, req->max_body);
	http_describe(c->what, sizeof(c->what), req->method, req->url);
	c->parts = calloc(req->n_parts + 1, sizeof(*c->parts));
	if (!c->parts) {
		err_set(e, ERR_NO_MEMORY, 0, "request");
		call_free(c);
		return NULL;
	}
	if (req->n_parts)
		memcpy(c->parts, req->parts, req->n_parts * sizeof(*c->parts));
	if (call_prepare(c, e) < 0) {
		call_free(c);
		return NULL;
	}
	c->req.url = NULL;	/* libcurl has copies; the caller's may be gone later */
	c->req.headers = NULL;
	c->req.parts = NULL;
	call_link(&h->waiting, c);
	http_kick(h);
	return c;
}

void http_cancel(struct http_call *c)
{
	if (!c)
		return;
	if (c->http->in_curl && c->pool) {
		c->cancelled = true;
		http_kick(c->http);
		return;
	}
	call_free(c);
}

int http_status(const struct http_call *c)
{
	return c->status;
}

/* --- the end of a call --- */

/* No connection stood: nothing of the request has left. */
static bool never_sent(const struct http_call *c, CURLcode code)
{
	long sent = 0;

	switch (code) {
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_PROXY:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return true;
	default:
		curl.easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &sent);
		return sent == 0;
	}
}

static void response_fail(struct http_call *c, CURLcode code, struct http_response *r)
{
	const char *why = c->why[0] ? c->why : c->error[0] ? c->error : curl.easy_strerror(code);
	static const enum err_code codes[] = {
		[HTTP_NOT_SENT] = ERR_PROVIDER, [HTTP_CUT] = ERR_LOST,
		[HTTP_DEADLINE] = ERR_DEADLINE, [HTTP_IDLE] = ERR_LOST,
		[HTTP_STOPPED] = ERR_LIMIT,
	};

	if (r->end == HTTP_IDLE)
		err_set(&r->err, ERR_LOST, 0, "%s: nothing moved for %u ms", c->what,
			c->req.idle_ms);
	else
		err_set(&r->err, codes[r->end], 0, "%s: %s", c->what, why);
	r->err.admitted = r->end == HTTP_NOT_SENT ? ADMITTED_NO : ADMITTED_UNKNOWN;
}

static enum http_end end_of(const struct http_call *c, CURLcode code, bool idle)
{
	if (code == CURLE_OK)
		return HTTP_ANSWERED;
	if (c->stopped)
		return HTTP_STOPPED;
	if (never_sent(c, code))
		return HTTP_NOT_SENT;
	if (idle)
		return HTTP_IDLE;
	return code == CURLE_OPERATION_TIMEDOUT ? HTTP_DEADLINE : HTTP_CUT;
}

static void call_end(struct http_call *c, CURLcode code, bool idle)
{
	struct http *h = c->http;
	struct http_response r = { .end = end_of(c, code, idle), .status = c->status };
	bool tell = !c->cancelled;

	/* An answer that came before the body was sent whole counts as one. */
	if (r.end == HTTP_CUT && code == CURLE_SEND_ERROR && c->status >= 400)
		r.end = HTTP_ANSWERED;
	if (r.end != HTTP_ANSWERED)
		response_fail(c, code, &r);
	if (r.end != HTTP_ANSWERED && r.end != HTTP_STOPPED && c->pool)
		http_pool_retire(h, c->pool);
	r.body_len = buf_len(&c->body);
	r.body = buf_cstr(&c->body, NULL);
	r.headers = buf_cstr(&c->head, NULL);
	if (!r.body || !r.headers) {
		r.end = HTTP_CUT;
		err_set(&r.err, ERR_NO_MEMORY, 0, "%s", c->what);
		r.body = r.headers = "";
		r.body_len = 0;
	}
	call_detach(c);
	if (tell)
		c->req.on_done(c->req.user, &r);
	call_free(c);
	http_kick(h);
}

static void on_end(struct http_owner *o, CURLcode code)
{
	call_end((struct http_call *)o, code, false);
}

/* --- the client --- */

static const char *environment(const char *a, const char *b)
{
	const char *v = getenv(a);

	if ((!v || !*v) && b)
		v = getenv(b);
	return v && *v ? v : NULL;
}

struct http *http_new(struct loop *l, void (*trace)(const char *line), struct err *e)
{
	struct http *h;

	if (http_curl_open(e) < 0)
		return NULL;
	h = calloc(1, sizeof(*h));
	if (!h) {
		err_set(e, ERR_NO_MEMORY, 0, "http");
		return NULL;
	}
	h->loop = l;
	h->trace = trace;
	h->ca_file = environment("CURL_CA_BUNDLE", "SSL_CERT_FILE");
	h->ca_dir = environment("SSL_CERT_DIR", NULL);
	h->http1 = environment("FARSTEP_HTTP1", NULL) != NULL;
	/* TLS writes to sockets that the other end may have closed. */
	signal(SIGPIPE, SIG_IGN);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->waiting)
		call_free(h->waiting);
	while (h->running)
		call_free(h->running);
	if (h->pool)
		http_pool_retire(h, h->pool);
	sweep(h);
	loop_timer_stop(&h->kick);
	free(h);
}

unsigned http_connections(const struct http *h)
{
	return h->connections;
}
