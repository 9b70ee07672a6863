/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_api.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "protocol/limits.h"
#include "sdk-wrapper/breaker.h"
#include "protocol/base/bucket.h"
#include "sdk-wrapper/http_text.h"

enum {
	CALLS_PER_SECOND = 10,	/* far below what the service allows, above what a run needs */
	CALLS_AT_ONCE = 30,
	BREAK_AFTER = 8,
	BREAK_MS = 5000,
	BREAK_MAX_MS = 60000,
	CONNECT_MS = 10000,
	QUICK_MS = 30000,
	/* The server's own bound is 80 s: with less, what still succeeds would be given up. */
	SLOW_MS = 85000,
	PAGE = 100,
	PAGES_MAX = 200,
	ASK_TIMES = 4,	/* after an answer that never came: it may still be at work */
	ASK_RESERVE_MS = 5000,
	FOUND_MAX = 8,
};

enum op_id { OP_CREATE, OP_GET, OP_LIST, OP_KILL, OP_TIMEOUT, OP_NETWORK, OP_PAUSE, OP_CONNECT,
	     OP_METRICS, OP_LOGS };

static const struct op {
	const char *name, *method;
	enum retry_kind kind;
	uint32_t request_ms;
	bool gone_is_fine;
	bool has_versions;	/* /v2 before the path, or not */
	bool tells_sandbox;
} ops[] = {
	[OP_CREATE] = { "create sandbox", "POST", RETRY_CREATE, SLOW_MS, false, true, true },
	[OP_GET] = { "get sandbox", "GET", RETRY_READ, QUICK_MS, false, false, true },
	[OP_LIST] = { "list sandboxes", "GET", RETRY_READ, QUICK_MS, false, false, false },
	[OP_KILL] = { "kill sandbox", "DELETE", RETRY_IDEMPOTENT, SLOW_MS, true, false, false },
	[OP_TIMEOUT] = { "extend sandbox", "POST", RETRY_IDEMPOTENT, QUICK_MS, false, false,
			 false },
	[OP_NETWORK] = { "sandbox network", "PUT", RETRY_IDEMPOTENT, QUICK_MS, false, false,
			 false },
	/* "Already paused" is a conflict, and final. */
	[OP_PAUSE] = { "pause sandbox", "POST", RETRY_READ, SLOW_MS, false, false, false },
	[OP_CONNECT] = { "resume sandbox", "POST", RETRY_IDEMPOTENT, SLOW_MS, false, true, true },
	[OP_METRICS] = { "sandbox metrics", "GET", RETRY_READ, QUICK_MS, false, false, false },
	[OP_LOGS] = { "sandbox logs", "GET", RETRY_READ, QUICK_MS, false, false, false },
};

struct e2b_api {
	struct loop *loop;
	struct http *http;
	const struct e2b_env *env;
	struct bucket bucket;
	struct breaker breaker;
	enum e2b_version version;
	struct e2b_call *calls;
};

struct e2b_call {
	struct e2b_api *api;
	struct e2b_call *next, **at;
	const struct op *op;
	struct op own;	/* of e2b_request */
	struct e2b_end end;
	struct buf path, body;
	unsigned attempt;
	uint64_t until_ns;
	struct http_call *http;
	struct loop_timer timer;
	bool asked_breaker;
	/* create */
	const struct e2b_create *spec;
	void (*on_asked)(void *user);
	struct loop_timer asked;
	bool ambiguous;		/* some attempt may have been carried out */
	bool last_ask;		/* nothing is tried after this asking */
	unsigned asks_left;
	struct e2b_call *sub, *parent;	/* asking is a call of its own */
	struct failure failed;	/* the attempt's */
	char found[FOUND_MAX][64];
	unsigned n_found;
	char keep[64];		/* list, when it sweeps: the one that stays */
	/* list */
	struct buf first;	/* the path of the first page */
	unsigned pages;
	void (*on_item)(void *user, const struct e2b_sandbox *s, const json *item);
};

/* --- life --- */

struct e2b_api *e2b_api_new(struct loop *l, struct http *h, const struct e2b_env *env,
			    struct err *e)
{
	struct e2b_api *a = calloc(1, sizeof(*a));

	if (!a) {
		err_set(e, ERR_NO_MEMORY, 0, "api");
		return NULL;
	}
	a->loop = l;
	a->http = h;
	a->env = env;
	a->version = E2B_V2;
	bucket_init(&a->bucket, CALLS_PER_SECOND, CALLS_AT_ONCE, now_ns() / 1000000);
	breaker_init(&a->breaker, BREAK_AFTER, BREAK_MS, BREAK_MAX_MS);
	return a;
}

static void call_unlink(struct e2b_call *c)
{
	if (c->at)
		*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->at = NULL;
	c->next = NULL;
	if (c->parent)
		c->parent->sub = NULL;
	c->parent = NULL;
	loop_timer_stop(&c->timer);
	loop_timer_stop(&c->asked);
}

static void call_free(struct e2b_call *c)
{
	if (c->asked_breaker)
		breaker_forget(&c->api->breaker);
	call_unlink(c);
	http_cancel(c->http);
	e2b_cancel(c->sub);
	buf_release(&c->path);
	buf_release(&c->first);
	buf_release(&c->body);
	free(c);
}

void e2b_cancel(struct e2b_call *c)
{
	if (c)
		call_free(c);
}

void e2b_api_free(struct e2b_api *a)
{
	if (!a)
		return;
	while (a->calls)
		call_free(a->calls);
	free(a);
}

static void on_timer(struct loop_timer *t);

static struct e2b_call *call_new_of(struct e2b_api *a, const struct op *op,
				    const struct e2b_end *end, struct err *e)
{
	struct e2b_call *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(e, ERR_NO_MEMORY, 0, "%s", op->name);
		return NULL;
	}
	c->api = a;
	c->op = op;
	c->end = *end;
	c->until_ns = now_ns() + (uint64_t)end->deadline_ms * 1000000;
	buf_init(&c->path, LIMIT_DATA);
	buf_init(&c->first, LIMIT_DATA);
	buf_init(&c->body, LIMIT_TEXT);
	c->next = a->calls;
	c->at = &a->calls;
	if (c->next)
		c->next->at = &c->next;
	a->calls = c;
	return c;
}

static struct e2b_call *call_new(struct e2b_api *a, enum op_id op, const struct e2b_end *end,
				 struct err *e)
{
	return call_new_of(a, &ops[op], end, e);
}

/* It is prepared, r says whether: it begins with the loop's next round. */
static struct e2b_call *call_begin(struct e2b_call *c, int r, struct err *e)
{
	if (r == 0 && loop_timer_start(c->api->loop, &c->timer, 0, on_timer, e) == 0)
		return c;
	err_wrap(e, "%s", c->op->name);
	call_free(c);
	return NULL;
}

static void finish(struct e2b_call *c, const struct e2b_result *r)
{
	struct e2b_end end = c->end;

	/* The callback may end the API as a whole. */
	call_unlink(c);
	end.on_done(end.user, r);
	call_free(c);
}

static void finish_failed(struct e2b_call *c, const struct failure *f)
{
	struct e2b_result r = { .failure = f };

	finish(c, &r);
}

static uint64_t left_ms(const struct e2b_call *c)
{
	uint64_t now = now_ns();

	return now >= c->until_ns ? 0 : (c->until_ns - now) / 1000000;
}

static uint32_t chance(void)
{
	uint32_t v = 0;

	random_bytes(&v, sizeof(v), NULL);
	return v;
}

/* --- one attempt --- */

static void attempt_failed(struct e2b_call *c, const struct failure *f);
static void attempt_answered(struct e2b_call *c, const struct http_response *r);
static void ask(struct e2b_call *c);

static void on_response(void *user, const struct http_response *r)
{
	struct e2b_call *c = user;
	struct failure f;

	c->http = NULL;
	failure_of_response(FAIL_AT_API, c->op->name, r, &f);
	c->asked_breaker = false;
	breaker_report(&c->api->breaker, now_ns() / 1000000,
		       f.class != FAIL_UNREACHED && !fail_is_ambiguous(f.class));
	if (f.class == FAIL_NONE)
		attempt_answered(c, r);
	else
		attempt_failed(c, &f);
}

static void on_asked_timer(struct loop_timer *t)
{
	struct e2b_call *c = (struct e2b_call *)((char *)t - offsetof(struct e2b_call, asked));

	c->on_asked(c->end.user);
}

static void on_sent(void *user)
{
	struct e2b_call *c = user;

	if (c->on_asked && c->attempt == 1)
		loop_timer_start(c->api->loop, &c->asked, 0, on_asked_timer, NULL);
}

static int send_request(struct e2b_call *c, struct err *e)
{
	char key[160], agent[64];
	const char *headers[6];
	struct buf url CLEANUP(buf_release);
	struct http_part part = { buf_data(&c->body), -1, 0, buf_len(&c->body) };
	struct http_request req = { .method = c->op->method,
				    .headers = headers,
				    .max_body = LIMIT_API_ANSWER,
				    .connect_ms = CONNECT_MS,
				    .fresh = c->op->kind == RETRY_CREATE,
				    .on_sent = on_sent,
				    .on_done = on_response,
				    .user = c };
	uint64_t left = left_ms(c);
	size_t n = 0;

	/* Time to find out what became of it. */
	if (c->op->kind == RETRY_CREATE)
		left -= left / 4 < ASK_RESERVE_MS ? left / 4 : ASK_RESERVE_MS;
	req.deadline_ms = left < c->op->request_ms ? (uint32_t)left : c->op->request_ms;
	if (!req.deadline_ms)
		return err_set(e, ERR_DEADLINE, 0, "no time left");
	buf_init(&url, LIMIT_DATA);
	if (buf_printf(&url, e, "%s%s%s", c->api->env->api_url,
		       c->op->has_versions && c->api->version == E2B_V2 ? "/v2" : "",
		       buf_cstr(&c->path, e)) < 0)
		return -1;
	req.url = buf_cstr(&url, e);
	if (c->api->env->api_key[0]) {
		snprintf(key, sizeof(key), "X-API-Key: %s", c->api->env->api_key);
		headers[n++] = key;
	}
	headers[n++] = "Accept: application/json";
	snprintf(agent, sizeof(agent), "User-Agent: farstep/%s", farstep_version());
	headers[n++] = agent;
	if (buf_len(&c->body))
		headers[n++] = "Content-Type: application/json";
	headers[n] = NULL;
	if (part.len) {
		req.parts = &part;
		req.n_parts = 1;
	}
	c->http = req.url ? http_start(c->api->http, &req, e) : NULL;
	wipe(key, sizeof(key));
	return c->http ? 0 : -1;
}

/* It ends here, with nothing sent this time. */
static void finish_unsent(struct e2b_call *c, enum fail_class class, const struct err *e)
{
	struct failure f;

	failure_set(&f, class, c->op->name, e);
	f.err.admitted = c->ambiguous ? ADMITTED_UNKNOWN : ADMITTED_NO;
	finish_failed(c, &f);
}

/* Tries again in so long; without the time for it, it ends for the reason given. */
static void wait_or_finish(struct e2b_call *c, uint32_t wait_ms, enum fail_class class,
			   struct err *reason)
{
	if (wait_ms < left_ms(c) &&
	    loop_timer_start(c->api->loop, &c->timer, wait_ms, on_timer, reason) == 0)
		return;
	finish_unsent(c, class, reason);
}

/* False: go on.  Else it waits, or failed for want of time. */
static bool must_wait(struct e2b_call *c)
{
	uint64_t now = now_ns() / 1000000;
	uint32_t wait = bucket_take(&c->api->bucket, now);
	struct err e = ERR_INIT;

	if (wait) {
		err_set(&e, ERR_BUSY, 0,
			"farstep itself asks %d times a second at most, and has no request left "
			"for %u ms: give it more time, or do less at once",
			CALLS_PER_SECOND, wait);
		wait_or_finish(c, wait, FAIL_RATE, &e);
		return true;
	}
	wait = breaker_ask(&c->api->breaker, now);
	if (wait) {
		err_set(&e, ERR_PROVIDER, 0,
			"%s failed %u times in a row, and is left alone for %u ms: try again "
			"later, or see whether it is down",
			c->api->env->api_url, c->api->breaker.failures, wait);
		wait_or_finish(c, wait, FAIL_UNREACHED, &e);
		return true;
	}
	c->asked_breaker = true;
	return false;
}

static int render_body(struct e2b_call *c, struct err *e)
{
	if (!c->spec)
		return 0;
	buf_reset(&c->body);
	return e2b_create_body(c->spec, c->api->version, &c->body, e);
}

static void attempt(struct e2b_call *c)
{
	struct err e = ERR_INIT;

	if (must_wait(c))
		return;
	c->attempt++;
	if (render_body(c, &e) == 0 && send_request(c, &e) == 0)
		return;
	finish_unsent(c, e.code == ERR_DEADLINE ? FAIL_TIMEOUT : FAIL_UNREACHED, &e);
}

static void on_timer(struct loop_timer *t)
{
	struct e2b_call *c = (struct e2b_call *)((char *)t - offsetof(struct e2b_call, timer));

	if (c->asks_left)
		ask(c);
	else
		attempt(c);
}

static void later(struct e2b_call *c, uint64_t ms)
{
	struct err e = ERR_INIT;

	if (loop_timer_start(c->api->loop, &c->timer, ms, on_timer, &e) < 0)
		finish_unsent(c, FAIL_UNREACHED, &e);
}

static void attempt_failed(struct e2b_call *c, const struct failure *f)
{
	struct retry_plan p;

	if (f->class == FAIL_GONE && c->op->gone_is_fine) {
		finish(c, &(struct e2b_result){ .failure = NULL });
		return;
	}
	if (f->class == FAIL_NO_ROUTE && c->op->has_versions && c->api->version == E2B_V2) {
		log_debug("%s: an older server: without /v2", c->op->name);
		c->api->version = E2B_V1;
		attempt(c);
		return;
	}
	p = retry_plan(c->op->kind, f, c->attempt, left_ms(c), chance());
	c->failed = *f;
	if (c->spec && fail_is_ambiguous(f->class)) {
		c->ambiguous = true;
		c->last_ask = p.verdict == RETRY_STOP;
		/* An answer, even a bad one, says that it is not at work any more. */
		c->asks_left = f->class == FAIL_SERVER ? 1 : ASK_TIMES;
		log_info("%s; looking for what became of it", f->err.msg);
		later(c, p.wait_ms);
		return;
	}
	if (p.verdict == RETRY_STOP) {
		if (c->ambiguous)
			c->failed.err.admitted = ADMITTED_UNKNOWN;
		finish_failed(c, &c->failed);
		return;
	}
	log_info("%s; again in %u ms", f->err.msg, p.wait_ms);
	later(c, p.wait_ms);
}

/* --- what a create left behind --- */

static void ignore(void *user, const struct e2b_result *r)
{
	(void)user;
	if (r->failure)
		log_warn("%s", r->failure->err.msg);
}

static void kill_spare(struct e2b_api *a, const char *id)
{
	struct e2b_end end = { .deadline_ms = 60000, .on_done = ignore };

	log_warn("sandbox %s: made twice, killing this one", id);
	e2b_kill(a, id, &end, NULL);
}

static void on_found_item(void *user, const struct e2b_sandbox *s, const json *item)
{
	struct e2b_call *c = user;

	(void)item;
	if (c->n_found < FOUND_MAX)
		snprintf(c->found[c->n_found++], sizeof(c->found[0]), "%s", s->id);
}

static void on_found_details(void *user, const struct e2b_result *r)
{
	struct e2b_call *c = user;
	struct e2b_result mine = *r;
	struct failure f;

	mine.found = true;
	if (r->failure) {	/* it was made, whatever is wrong with asking for it */
		f = *r->failure;
		f.err.admitted = f.class == FAIL_GONE ? ADMITTED_NO : ADMITTED_UNKNOWN;
		mine.failure = &f;
	}
	finish(c, &mine);
}

/* Nothing with our id is there. */
static void not_found(struct e2b_call *c)
{
	uint64_t wait = c->asks_left ? 500u << (ASK_TIMES - 1 - c->asks_left) : 0;

	if (wait && wait < left_ms(c)) {	/* 0.5, 1, 2 s */
		later(c, wait);
		return;
	}
	c->asks_left = 0;
	if (!c->last_ask && left_ms(c)) {
		attempt(c);
		return;
	}
	/* It was looked for after the server had answered. */
	if (c->failed.class == FAIL_SERVER)
		c->failed.err.admitted = ADMITTED_NO;
	finish_failed(c, &c->failed);
}

static void on_looked(void *user, const struct e2b_result *r)
{
	struct e2b_call *c = user;
	struct e2b_end end = { .on_done = on_found_details, .user = c };
	struct err e = ERR_INIT;
	struct failure f;

	if (r->failure) {
		f = c->failed;
		err_set(&f.err, c->failed.err.code, 0,
			"%.160s; whether it was made is unknown: %.200s", c->failed.err.msg,
			r->failure->err.msg);
		f.err.admitted = ADMITTED_UNKNOWN;
		finish_failed(c, &f);
		return;
	}
	c->asks_left--;
	if (!c->n_found) {
		not_found(c);
		return;
	}
	for (unsigned i = 1; i < c->n_found; i++)
		kill_spare(c->api, c->found[i]);
	log_info("%s: found %s", c->op->name, c->found[0]);
	end.deadline_ms = (uint32_t)left_ms(c);
	c->sub = e2b_get(c->api, c->found[0], &end, &e);
	if (c->sub) {
		c->sub->parent = c;
	} else {
		failure_set(&f, FAIL_UNREACHED, c->op->name, &e);
		f.err.admitted = ADMITTED_UNKNOWN;
		finish_failed(c, &f);
	}
}

static void ask(struct e2b_call *c)
{
	const char *filter[] = { E2B_UNIQUE, c->spec->unique, NULL };
	struct e2b_end end = { (uint32_t)left_ms(c), on_looked, c };
	struct err e = ERR_INIT;

	c->n_found = 0;
	c->sub = e2b_list(c->api, filter, true, on_found_item, &end, &e);
	if (c->sub) {
		c->sub->parent = c;
	} else {
		c->failed.err.admitted = ADMITTED_UNKNOWN;
		finish_failed(c, &c->failed);
	}
}

static void on_sweep_item(void *user, const struct e2b_sandbox *s, const json *item)
{
	struct e2b_call *c = user;

	(void)item;
	if (strcmp(s->id, c->keep) != 0)
		kill_spare(c->api, s->id);
}

/* It was tried more than once: is there more than one? */
static void sweep(struct e2b_call *create, const char *keep)
{
	const char *filter[] = { E2B_UNIQUE, create->spec->unique, NULL };
	struct e2b_end end = { .deadline_ms = 60000, .on_done = ignore };
	struct e2b_call *c = e2b_list(create->api, filter, true, on_sweep_item, &end, NULL);

	if (!c)
		return;
	snprintf(c->keep, sizeof(c->keep), "%s", keep);
	c->end.user = c;
}

/* --- answers --- */

static void answer_is_wrong(struct e2b_call *c, const struct err *e)
{
	struct failure f;

	failure_set(&f, FAIL_PROTOCOL, c->op->name, e);
	attempt_failed(c, &f);
}

/* Returns 1 when there is another page. */
static int take_page(struct e2b_call *c, const json *page, const struct http_response *r,
		     struct err *e)
{
	char token[512];

	if (json_type(page) != JSON_ARRAY)
		return err_set(e, ERR_PROTO, 0, "want an array");
	for (const json *v = json_first(page); v; v = json_next(v)) {
		struct e2b_sandbox s;

		if (e2b_sandbox_read(v, &s, e) < 0)
			return -1;
		c->on_item(c->end.user, &s, v);
	}
	if (!http_header(r, "X-Next-Token", token, sizeof(token)) || !token[0])
		return 0;
	if (++c->pages >= PAGES_MAX)
		return err_set(e, ERR_PROTO, 0, "more than %d pages", PAGES_MAX);
	buf_reset(&c->path);
	return e2b_next_page(buf_cstr(&c->first, e), token, &c->path, e) < 0 ? -1 : 1;
}

static void attempt_answered(struct e2b_call *c, const struct http_response *r)
{
	struct err e = ERR_INIT;
	struct e2b_sandbox s;
	struct e2b_result result = { .failure = NULL };
	auto_json json *v = NULL;
	int more = 0;

	if (r->body_len) {
		v = json_parse(r->body, r->body_len, LIMIT_API_ANSWER, LIMIT_JSON_DEPTH, &e);
		if (!v) {
			answer_is_wrong(c, &e);
			return;
		}
	}
	if (c->op->tells_sandbox && e2b_sandbox_read(v, &s, &e) < 0) {
		answer_is_wrong(c, &e);
		return;
	}
	if (c->on_item)
		more = take_page(c, v, r, &e);
	if (more < 0) {
		answer_is_wrong(c, &e);
		return;
	}
	if (more) {
		c->attempt = 0;
		attempt(c);
		return;
	}
	result.answer = v;
	result.sandbox = c->op->tells_sandbox ? &s : NULL;
	if (c->ambiguous)
		sweep(c, s.id);
	finish(c, &result);
}

/* --- calls --- */

struct e2b_call *e2b_create(struct e2b_api *a, const struct e2b_create *spec,
			    void (*on_asked)(void *user), const struct e2b_end *end,
			    struct err *e)
{
	struct e2b_call *c = call_new(a, OP_CREATE, end, e);

	if (!c)
		return NULL;
	c->spec = spec;
	c->on_asked = on_asked;
	return call_begin(c, buf_puts(&c->path, "/sandboxes", e), e);
}

struct e2b_call *e2b_request(struct e2b_api *a, const struct e2b_request *r,
			     const struct e2b_end *end, struct err *e)
{
	const struct op op = { .name = r->name, .method = r->method, .kind = r->kind,
			       .request_ms = SLOW_MS };
	struct e2b_call *c = call_new_of(a, &op, end, e);

	if (!c)
		return NULL;
	c->own = op;
	c->op = &c->own;
	if (r->body && buf_puts(&c->body, r->body, e) < 0)
		return call_begin(c, -1, e);
	return call_begin(c, buf_puts(&c->path, r->path, e), e);
}

/* /sandboxes/ID and what follows it */
static int put_path(struct e2b_call *c, const char *id, const char *rest, struct err *e)
{
	if (buf_puts(&c->path, "/sandboxes/", e) < 0 || http_escape(&c->path, id, false, e) < 0)
		return -1;
	return buf_puts(&c->path, rest, e);
}

static struct e2b_call *simple(struct e2b_api *a, enum op_id op, const char *id, const char *rest,
			       const struct e2b_end *end, struct err *e)
{
	struct e2b_call *c = call_new(a, op, end, e);

	return c ? call_begin(c, put_path(c, id, rest, e), e) : NULL;
}

struct e2b_call *e2b_get(struct e2b_api *a, const char *id, const struct e2b_end *end,
			 struct err *e)
{
	return simple(a, OP_GET, id, "", end, e);
}

struct e2b_call *e2b_kill(struct e2b_api *a, const char *id, const struct e2b_end *end,
			  struct err *e)
{
	return simple(a, OP_KILL, id, "", end, e);
}

struct e2b_call *e2b_metrics(struct e2b_api *a, const char *id, const struct e2b_end *end,
			     struct err *e)
{
	return simple(a, OP_METRICS, id, "/metrics", end, e);
}

static struct e2b_call *with_seconds(struct e2b_api *a, enum op_id op, const char *id,
				     const char *rest, uint32_t seconds, const struct e2b_end *end,
				     struct err *e)
{
	struct e2b_call *c = call_new(a, op, end, e);

	if (!c)
		return NULL;
	return call_begin(c,
			  put_path(c, id, rest, e) < 0
				  ? -1
				  : buf_printf(&c->body, e, "{\"timeout\":%u}", seconds),
			  e);
}

struct e2b_call *e2b_set_timeout(struct e2b_api *a, const char *id, uint32_t seconds,
				 const struct e2b_end *end, struct err *e)
{
	return with_seconds(a, OP_TIMEOUT, id, "/timeout", seconds, end, e);
}

struct e2b_call *e2b_set_network(struct e2b_api *a, const char *id, bool internet,
				 const char *const *hosts, const struct e2b_end *end,
				 struct err *e)
{
	struct e2b_call *c = call_new(a, OP_NETWORK, end, e);

	if (!c)
		return NULL;
	return call_begin(c,
			  put_path(c, id, "/network", e) < 0
				  ? -1
				  : e2b_network_body(internet, hosts, &c->body, e),
			  e);
}

struct e2b_call *e2b_connect(struct e2b_api *a, const char *id, uint32_t seconds,
			     const struct e2b_end *end, struct err *e)
{
	return with_seconds(a, OP_CONNECT, id, "/connect", seconds, end, e);
}

struct e2b_call *e2b_pause(struct e2b_api *a, const char *id, const struct e2b_end *end,
			   struct err *e)
{
	struct e2b_call *c = call_new(a, OP_PAUSE, end, e);

	if (!c)
		return NULL;
	return call_begin(c,
			  put_path(c, id, "/pause", e) < 0 ? -1 : buf_puts(&c->body, "{}", e), e);
}

struct e2b_call *e2b_logs(struct e2b_api *a, const char *id, unsigned limit,
			  const struct e2b_end *end, struct err *e)
{
	struct e2b_call *c = call_new(a, OP_LOGS, end, e);

	if (!c)
		return NULL;
	if (buf_puts(&c->path, "/v2", e) < 0 || put_path(c, id, "/logs", e) < 0)
		return call_begin(c, -1, e);
	return call_begin(c, buf_printf(&c->path, e, "?limit=%u", limit), e);
}

struct e2b_call *e2b_list(struct e2b_api *a, e2b_metadata filter, bool paused_too,
			  void (*on_item)(void *user, const struct e2b_sandbox *s,
					  const json *item),
			  const struct e2b_end *end, struct err *e)
{
	struct e2b_call *c = call_new(a, OP_LIST, end, e);

	if (!c)
		return NULL;
	c->on_item = on_item;
	if (e2b_list_path(filter, paused_too, PAGE, &c->first, e) < 0)
		return call_begin(c, -1, e);
	return call_begin(c, buf_puts(&c->path, buf_cstr(&c->first, e), e), e);
}
