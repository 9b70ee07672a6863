/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/envd_rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mocks/e2b/base64.h"
#include "mocks/e2b/gzip.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum { ERROR_TEXT = 8192, FRAME_MAX = CONNECT_MESSAGE_MAX + 1024 * 1024, KEEPALIVE_MAX_S = 86400 };

/* --- answers --- */

static void over(struct rpc *r)
{
	r->done = true;
	loop_timer_stop(&r->deadline);
	loop_timer_stop(&r->keepalive);
}

static void break_off(struct rpc *r)
{
	over(r);
	http_abort(r->h);
}

static void start_stream(struct rpc *r)
{
	if (http_status(r->h))
		return;
	http_add(r->h, "Content-Type", "application/connect+json", NULL);
	http_add(r->h, "Connect-Accept-Encoding", "gzip", NULL);
	if (r->gzip)
		http_add(r->h, "Connect-Content-Encoding", "gzip", NULL);
	http_start(r->h, 200, HTTP_LENGTH_UNKNOWN);
}

/* What a fault lets through of n bytes. */
static size_t fault_lets(struct rpc *r, size_t n)
{
	uint64_t at = UINT64_MAX;

	if (r->drop)
		at = r->drop->at;
	if (r->stall && r->stall->at < at)
		at = r->stall->at;
	if (r->sent >= at)
		return 0;
	return at - r->sent < n ? (size_t)(at - r->sent) : n;
}

static int write_stream(struct rpc *r, const struct buf *frame)
{
	size_t n = fault_lets(r, buf_len(frame));
	struct err e = ERR_INIT;
	int w;

	start_stream(r);
	w = http_write(r->h, buf_data(frame), n, &e);
	r->sent += n;
	if (w < 0)
		log_warn("rpc %s: %s", r->method->path, e.msg);
	if (w < 0 || (r->drop && n < buf_len(frame))) {
		break_off(r);
		return -1;
	}
	return w;
}

static int put_message(struct rpc *r, const void *text, size_t n, struct buf *frame,
		       struct err *e)
{
	struct buf packed CLEANUP(buf_release);

	buf_init(&packed, FRAME_MAX);
	if (!r->gzip)
		return envelope_put(0, text, n, frame, e);
	if (gzip_all(text, n, &packed, e) < 0)
		return -1;
	return envelope_put(ENVELOPE_COMPRESSED, buf_data(&packed), buf_len(&packed), frame, e);
}

int rpc_send(struct rpc *r, const void *text, size_t n)
{
	struct buf frame CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&frame, FRAME_MAX);
	if (r->done)
		return -1;
	if (put_message(r, text, n, &frame, &e) < 0) {
		log_error("rpc %s: %s", r->method->path, e.msg);
		break_off(r);
		return -1;
	}
	if (r->keepalive.loop)
		rpc_keepalive(r, r->keepalive_text);
	return write_stream(r, &frame);
}

static void end_stream(struct rpc *r, enum connect_code c, const char *message)
{
	struct buf frame CLEANUP(buf_release);
	bool half;

	buf_init(&frame, FRAME_MAX);
	if (connect_end(c, message, &frame, NULL) < 0) {
		break_off(r);
		return;
	}
	half = r->truncate != NULL;
	if (half)
		frame.len /= 2;
	if (write_stream(r, &frame) < 0)
		return;
	if (half) {
		break_off(r);
		return;
	}
	over(r);
	if (!r->stall)
		http_end(r->h);
}

void rpc_end(struct rpc *r)
{
	if (!r->done)
		end_stream(r, CONNECT_OK, NULL);
}

void rpc_reply(struct rpc *r, const void *text, size_t n)
{
	struct buf packed CLEANUP(buf_release);

	buf_init(&packed, FRAME_MAX);
	if (r->done)
		return;
	if (r->method->kind == RPC_CLIENT_STREAM) {
		rpc_send(r, text, n);
		rpc_end(r);
		return;
	}
	over(r);
	http_add(r->h, "Accept-Encoding", "gzip", NULL);
	if (r->gzip && gzip_all(text, n, &packed, NULL) == 0) {
		http_add(r->h, "Content-Encoding", "gzip", NULL);
		text = buf_data(&packed);
		n = buf_len(&packed);
	}
	http_reply(r->h, 200, "application/json", text, n);
}

void rpc_fail(struct rpc *r, enum connect_code c, const char *fmt, ...)
{
	struct buf body CLEANUP(buf_release);
	char text[ERROR_TEXT];
	va_list ap;

	buf_init(&body, FRAME_MAX);
	if (r->done)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (r->method->kind != RPC_UNARY) {
		end_stream(r, c, text);
		return;
	}
	over(r);
	connect_error(c, text, &body, NULL);
	http_reply(r->h, connect_status(c), "application/json", buf_data(&body), buf_len(&body));
}

/* --- deadline and keepalive --- */

static void on_deadline(struct loop_timer *t)
{
	struct rpc *r = (struct rpc *)((char *)t - offsetof(struct rpc, deadline));

	if (r->on_deadline)
		r->on_deadline(r);
	rpc_fail(r, CONNECT_DEADLINE_EXCEEDED, "context deadline exceeded");
}

static void on_keepalive(struct loop_timer *t)
{
	struct rpc *r = (struct rpc *)((char *)t - offsetof(struct rpc, keepalive));
	const char *text = r->keepalive_text;

	if (rpc_send(r, text, strlen(text)) >= 0)
		rpc_keepalive(r, text);
}

static uint64_t keepalive_of(const struct http *h)
{
	const char *text = http_header(h, "Keepalive-Ping-Interval");
	char *end;
	long s = text ? strtol(text, &end, 10) : 0;

	if (!text || *end || s <= 0 || s > KEEPALIVE_MAX_S)
		s = ENVD_KEEPALIVE_S;
	return (uint64_t)s * 1000;
}

void rpc_keepalive(struct rpc *r, const char *text)
{
	struct err e = ERR_INIT;

	r->keepalive_text = text;
	if (!r->keepalive_ms || r->done)
		return;
	if (loop_timer_start(r->d->loop, &r->keepalive, r->keepalive_ms, on_keepalive, &e) < 0)
		log_error("rpc %s: %s", r->method->path, e.msg);
}

/* --- users --- */

/* "Basic " and the base64 of "NAME:PASSWORD"; the password is not looked at. */
static int basic_user(const char *header, char name[ENVD_NAME], struct err *e)
{
	struct buf text CLEANUP(buf_release);
	const char *p, *colon;

	buf_init(&text, 1024);
	if (!header || strncasecmp(header, "Basic ", 6) != 0)
		return 0;
	if (strlen(header) > 1024 || base64_take(header + 6, &text, e) < 0)
		return 0;
	p = buf_cstr(&text, e);
	colon = p ? strchr(p, ':') : NULL;
	if (!colon)
		return 0;
	if (snprintf(name, ENVD_NAME, "%.*s", (int)(colon - p), p) >= ENVD_NAME)
		return err_set(e, ERR_NOT_FOUND, 0, "name too long");
	return 1;
}

/* A user that is named must exist, whatever the method. */
static bool check_user(struct rpc *r)
{
	char name[ENVD_NAME];
	struct err e = ERR_INIT;
	int has = basic_user(http_header(r->h, "Authorization"), name, &e);

	if (has == 0)
		return true;
	if (has < 0 || user_find(r->d, name, &r->user, &e) < 0) {
		rpc_fail(r, CONNECT_UNAUTHENTICATED, "invalid username: '%s'", has < 0 ? "" : name);
		return false;
	}
	r->named_user = true;
	return true;
}

bool rpc_user(struct rpc *r)
{
	struct err e = ERR_INIT;

	if (r->named_user)
		return true;
	if (!*r->d->default_user)
		rpc_fail(r, CONNECT_UNAUTHENTICATED, "no user specified");
	else if (user_find(r->d, r->d->default_user, &r->user, &e) < 0)
		rpc_fail(r, CONNECT_UNAUTHENTICATED, "invalid default user: '%s'",
			 r->d->default_user);
	return !r->done;
}

/* --- requests --- */

static void on_message(struct rpc *r, bool compressed, const void *p, size_t n)
{
	struct buf plain CLEANUP(buf_release);
	struct err e = ERR_INIT;
	json *message auto_json = NULL;

	buf_init(&plain, CONNECT_MESSAGE_MAX);
	if (compressed) {
		if (gunzip_all(p, n, &plain, &e) < 0) {
			rpc_fail(r, CONNECT_INVALID_ARGUMENT, "decompress: %s", e.msg);
			return;
		}
		p = buf_data(&plain);
		n = buf_len(&plain);
	}
	if (n == 0) {	/* protobuf's JSON mapping takes nothing for an error, Connect for {} */
		p = "{}";
		n = 2;
	}
	message = json_parse(p, n, CONNECT_MESSAGE_MAX, ENVD_JSON_DEPTH, &e);
	if (!message || json_type(message) != JSON_OBJECT) {
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "unmarshal message: %s",
			 message ? "want an object" : e.msg);
		return;
	}
	r->messages++;
	r->method->on_message(r, message);
}

static size_t on_unary_body(struct rpc *r, const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;

	if (buf_put(&r->body, p, n, &e) < 0)
		rpc_fail(r, CONNECT_RESOURCE_EXHAUSTED,
			 "message size is larger than configured max %d", CONNECT_MESSAGE_MAX);
	return n;
}

static size_t on_body(struct http *h, const uint8_t *p, size_t n)
{
	struct rpc *r = http_ctx(h);
	struct err e = ERR_INIT;
	size_t at = 0, used;

	if (r->method->kind == RPC_UNARY)
		return on_unary_body(r, p, n);
	while (at < n && !r->done && !r->paused) {
		int got = envelope_feed(&r->in, p + at, n - at, &used, &e);

		at += used;
		if (got < 0)
			rpc_fail(r, CONNECT_RESOURCE_EXHAUSTED, "%s", e.msg);
		else if (got && r->method->kind == RPC_SERVER_STREAM && r->messages)
			rpc_fail(r, CONNECT_UNIMPLEMENTED, "unary request has multiple messages");
		else if (got && !(envelope_flags(&r->in) & ENVELOPE_END))
			on_message(r, envelope_flags(&r->in) & ENVELOPE_COMPRESSED,
				   buf_data(&r->in.message), buf_len(&r->in.message));
	}
	return r->done ? n : at;
}

static void on_body_end(struct http *h)
{
	struct rpc *r = http_ctx(h);

	if (r->done)
		return;
	if (r->method->kind == RPC_UNARY)
		on_message(r, r->gzip, buf_data(&r->body), buf_len(&r->body));
	else if (!envelope_at_border(&r->in))
		rpc_fail(r, CONNECT_INVALID_ARGUMENT,
			 "protocol error: incomplete envelope: unexpected EOF");
	else if (r->method->kind == RPC_SERVER_STREAM && !r->messages)
		rpc_fail(r, CONNECT_UNIMPLEMENTED, "unary request has zero messages");
	else if (r->method->kind == RPC_CLIENT_STREAM)
		r->method->on_end(r);
}

static void on_drain(struct http *h)
{
	struct rpc *r = http_ctx(h);

	if (r->on_drain && !r->done)
		r->on_drain(r);
}

static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	struct rpc *r = http_ctx(h);

	over(r);
	if (r->on_gone)
		r->on_gone(r);
	buf_release(&r->body);
	envelope_reader_release(&r->in);
	free(r);
}

void rpc_pause(struct rpc *r)
{
	r->paused = true;
}

void rpc_go_on(struct rpc *r)
{
	r->paused = false;
	http_take_on(r->h);
}

/* --- the head --- */

static bool type_is(const char *header, const char *type)
{
	size_t n = strlen(type);

	return header && strncasecmp(header, type, n) == 0 &&
	       (!header[n] || header[n] == ';' || header[n] == ' ');
}

static bool type_fits(const struct rpc *r)
{
	return type_is(http_header(r->h, "Content-Type"), r->method->kind == RPC_UNARY
				? "application/json" : "application/connect+json");
}

static bool check_encoding(struct rpc *r)
{
	const char *name = r->method->kind == RPC_UNARY ? "Content-Encoding"
							: "Connect-Content-Encoding";
	const char *coding = http_header(r->h, name);

	r->gzip = coding && strcmp(coding, "gzip") == 0;
	if (r->gzip || !coding || !*coding || strcmp(coding, "identity") == 0)
		return true;
	rpc_fail(r, CONNECT_UNIMPLEMENTED,
		 "unknown compression \"%.40s\": supported encodings are gzip", coding);
	return false;
}

static void check_head(struct rpc *r)
{
	const char *version = http_header(r->h, "Connect-Protocol-Version");
	struct err e = ERR_INIT;

	if (!check_encoding(r))
		return;
	if (version && strcmp(version, "1") != 0)
		rpc_fail(r, CONNECT_INVALID_ARGUMENT,
			 "connect-protocol-version must be \"1\": got \"%.40s\"", version);
	else if (connect_timeout(http_header(r->h, "Connect-Timeout-Ms"), &r->timeout_ms, &e) < 0)
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "%s", e.msg);
	else if (check_user(r) && r->timeout_ms &&
		 loop_timer_start(r->d->loop, &r->deadline, r->timeout_ms, on_deadline, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
}

static void choose_faults(struct rpc *r)
{
	r->keepalive_ms = keepalive_of(r->h);
	if (r->method->kind != RPC_SERVER_STREAM || strncmp(r->method->path, "/process", 8) != 0)
		return;
	r->drop = envd_fault(r->d, "process:drop");
	r->stall = envd_fault(r->d, "process:stall");
	r->truncate = envd_fault(r->d, "process:truncate");
	if (envd_fault(r->d, "process:no-keepalive"))
		r->keepalive_ms = 0;
}

static const struct rpc_method *find_method(const struct envd *d, const char *path)
{
	static const struct rpc_method *const all[] = { process_methods, filesystem_methods };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		for (const struct rpc_method *m = all[i]; m->path; m++)
			if (strcmp(m->path, path) == 0)
				return !m->since || envd_since(d, m->since) ? m : NULL;
	return NULL;
}

void envd_rpc(struct envd *d, struct http *h)
{
	static const struct http_calls calls = { on_body, on_body_end, on_drain, on_close };
	const struct rpc_method *m = find_method(d, http_path(h));
	struct rpc *r;

	if (!m) {
		envd_404(h);
		return;
	}
	if (strcmp(http_method(h), "POST") != 0) {
		http_add(h, "Allow", "POST", NULL);
		http_reply(h, 405, NULL, NULL, 0);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		envd_fail(h, 500, "out of memory");
		return;
	}
	*r = (struct rpc){ .d = d, .h = h, .method = m };
	buf_init(&r->body, CONNECT_MESSAGE_MAX);
	envelope_reader_init(&r->in, CONNECT_MESSAGE_MAX);
	http_on(h, &calls, r);
	if (!type_fits(r)) {
		r->done = true;
		http_add(h, "Accept-Post", m->kind == RPC_UNARY ? "application/json"
								: "application/connect+json", NULL);
		http_reply(h, 415, NULL, NULL, 0);
		return;
	}
	choose_faults(r);
	check_head(r);
}
