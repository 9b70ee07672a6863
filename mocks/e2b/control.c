/* SPDX-License-Identifier: Apache-2.0
 *
 * The control API: key, routes, bodies, answers.  What the routes do stands in control_*.c. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/call.h"
#include "mocks/e2b/query.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

static const char json_type_text[] = "application/json; charset=utf-8";

/* --- the life of a call --- */

static struct call *open_calls;
static struct call *ended;	/* freed between two passes */

void calls_reap(void)
{
	while (ended) {
		struct call *c = ended;

		ended = c->next;
		json_free(c->doc);
		buf_release(&c->body);
		free(c);
	}
}

static void bury(struct call *c)
{
	sandbox_wait_stop(&c->wait);
	loop_timer_stop(&c->delay);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->next = ended;
	ended = c;
}

void calls_end(void)
{
	while (open_calls)
		bury(open_calls);
	calls_reap();
}

bool call_is_open(const struct call *c)
{
	return c->x.h && !http_status(c->x.h);
}

void call_done(struct call *c)
{
	c->waits = false;
	if (!c->x.h)
		bury(c);
}

static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	struct call *c = http_ctx(h);

	exchange_log(&c->x);
	c->x.h = NULL;
	if (!c->waits)
		bury(c);
}

/* --- answers --- */

void call_header(struct call *c, const char *name, const char *value)
{
	struct err e = ERR_INIT;

	if (call_is_open(c) && http_add(c->x.h, name, value, &e) < 0)
		log_error("control: %s", e.msg);
}

void call_reply(struct call *c, int status, const struct buf *body)
{
	if (call_is_open(c))
		http_reply(c->x.h, status, json_type_text, buf_data(body), buf_len(body));
}

void call_reply_empty(struct call *c, int status)
{
	if (call_is_open(c))
		http_reply(c->x.h, status, NULL, NULL, 0);
}

void call_error(struct call *c, int status, const char *error_code, const char *fmt, ...)
{
	struct buf body CLEANUP(buf_release) = { 0 };
	struct err e = ERR_INIT;
	char message[1024];
	struct jw w;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	buf_init(&body, 8192);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kint(&w, "code", status);
	jw_kstr(&w, "message", message);
	if (error_code)
		jw_kstr(&w, "error_code", error_code);
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		log_error("control: %s", e.msg);
	call_reply(c, status, &body);
}

void call_fail(struct call *c, const struct err *e)
{
	if (e->code == ERR_QUOTA) {
		call_error(c, 429, NULL, "%s", e->msg);
		return;
	}
	log_error("control: %s: %s", c->route->path, e->msg);
	call_error(c, 500, "internal_server_error", "%s", e->msg);
}

void call_not_found(struct call *c, const char *id)
{
	call_error(c, 404, NULL, "Sandbox \"%s\" doesn't exist or you don't have access to it", id);
}

struct sandbox *call_sandbox(struct call *c)
{
	char id[SANDBOX_ID_MAX];
	struct sandbox *s;

	if (!sandbox_id_parse(c->param[0], id)) {
		call_error(c, 400, NULL, "Invalid sandbox ID");
		return NULL;
	}
	snprintf(c->x.sandbox, sizeof(c->x.sandbox), "%s", id);
	s = sandbox_find(c->cloud, id);
	if (!s)
		call_not_found(c, id);
	return s;
}

/* --- what the schema says --- */

void call_invalid(struct call *c, const char *key, const char *why)
{
	call_error(c, 400, NULL,
		   "validation error: request body has an error: doesn't match schema: Error at "
		   "\"/%s\": %s",
		   key, why);
}

/* The member, or NULL: absent (*fine), or missing (answered). */
static const json *member(struct call *c, const char *key, unsigned flags, bool *fine)
{
	const json *v = json_get(c->doc, key);
	char why[128];

	*fine = true;
	if (v && json_type(v) != JSON_NULL)
		return v;
	if (flags & NEEDED) {
		snprintf(why, sizeof(why), "property \"%s\" is missing", key);
		call_invalid(c, key, why);
		*fine = false;
	}
	return NULL;
}

bool call_int(struct call *c, const char *key, int64_t min, int64_t max, unsigned flags,
	      int64_t *ret)
{
	bool fine;
	const json *v = member(c, key, flags, &fine);
	char why[80];
	double n;

	if (!v)
		return fine;
	n = json_number(v);
	if (json_type(v) != JSON_NUMBER || n != (double)(int64_t)n) {
		call_invalid(c, key, "value must be an integer");
		return false;
	}
	if (n < (double)min || n > (double)max) {
		snprintf(why, sizeof(why), "number must be at %s %lld",
			 n < (double)min ? "least" : "most",
			 (long long)(n < (double)min ? min : max));
		call_invalid(c, key, why);
		return false;
	}
	*ret = (int64_t)n;
	return true;
}

bool call_bool(struct call *c, const char *key, bool *ret)
{
	bool fine;
	const json *v = member(c, key, 0, &fine);

	if (!v)
		return fine;
	if (json_type(v) != JSON_BOOL) {
		call_invalid(c, key, "value must be a boolean");
		return false;
	}
	*ret = json_is_true(v);
	return true;
}

bool call_str(struct call *c, const char *key, unsigned flags, const char **ret)
{
	bool fine;
	const json *v = member(c, key, flags, &fine);

	if (!v)
		return fine;
	if (json_type(v) != JSON_STRING) {
		call_invalid(c, key, "value must be a string");
		return false;
	}
	*ret = json_string(v);
	return true;
}

bool call_object(struct call *c, const char *key, const json **ret)
{
	bool fine;
	const json *v = member(c, key, 0, &fine);

	if (!v)
		return fine;
	if (json_type(v) != JSON_OBJECT) {
		call_invalid(c, key, "value must be an object");
		return false;
	}
	*ret = v;
	return true;
}

static bool all_strings(struct call *c, const char *key, const json *v)
{
	for (const json *i = json_first(v); i; i = json_next(i))
		if (json_type(i) != JSON_STRING) {
			char at[160];

			snprintf(at, sizeof(at), "%s/%s", key, json_key(i) ? json_key(i) : "0");
			call_invalid(c, at, "value must be a string");
			return false;
		}
	return true;
}

bool call_str_map(struct call *c, const char *key, const json **ret)
{
	const json *v = NULL;

	if (!call_object(c, key, &v) || !all_strings(c, key, v))
		return false;
	if (v)
		*ret = v;
	return true;
}

bool call_str_array(struct call *c, const char *key, const json **ret)
{
	bool fine;
	const json *v = member(c, key, 0, &fine);

	if (!v)
		return fine;
	if (json_type(v) != JSON_ARRAY) {
		call_invalid(c, key, "value must be an array");
		return false;
	}
	*ret = v;
	return all_strings(c, key, v);
}

/* --- the query --- */

static void invalid_query(struct call *c, const char *key, const char *why)
{
	call_error(c, 400, NULL, "validation error: parameter \"%s\" in query has an error: %s",
		   key, why);
}

int call_query(struct call *c, const char *key, struct buf *out)
{
	struct err e = ERR_INIT;
	int r = query_get(http_query(c->x.h), key, out, &e);

	if (r < 0)
		invalid_query(c, key, e.msg);
	else if (r > 0 && !buf_cstr(out, NULL))
		return 0;
	return r;
}

int call_query_int(struct call *c, const char *key, int64_t min, int64_t max, int64_t *ret)
{
	struct buf text CLEANUP(buf_release) = { 0 };
	const char *p;
	char why[80], *end;
	long long n;
	int r;

	buf_init(&text, 4096);
	r = call_query(c, key, &text);
	if (r <= 0)
		return r;
	p = buf_cstr(&text, NULL);
	errno = 0;
	n = p ? strtoll(p, &end, 10) : 0;
	if (!p || !*p || *end || errno) {
		invalid_query(c, key, "value must be an integer");
		return -1;
	}
	if (n < min || n > max) {
		snprintf(why, sizeof(why), "number must be at %s %lld", n < min ? "least" : "most",
			 (long long)(n < min ? min : max));
		invalid_query(c, key, why);
		return -1;
	}
	*ret = n;
	return 1;
}

/* --- the key --- */

static bool has_key_format(const char *key)
{
	return strlen(key) == 44 && strspn(key + 4, "0123456789abcdef") == 40;
}

static bool check_key(struct call *c)
{
	const char *key = http_header(c->x.h, "X-API-Key"), *want = c->cloud->o->api_key;

	if (!key)
		call_error(c, 401, NULL, "authorization header is missing");
	else if (strncmp(key, "e2b_", 4) != 0)
		call_error(c, 401, NULL, "authorization header is malformed");
	else if (strlen(key) != strlen(want) || !equal_ct(key, want, strlen(want)))
		call_error(c, 401, NULL,
			   "Invalid API key, please visit https://e2b.dev/docs/api-key for more "
			   "information.\n%s",
			   has_key_format(key) ? "Cannot get the team for the given API key"
					       : "Invalid API key format");
	else
		return true;
	return false;
}

/* --- routes --- */

static bool take_param(const char *path, size_t len, char ret[CALL_PARAM_MAX])
{
	struct buf part CLEANUP(buf_release) = { 0 };

	buf_init(&part, CALL_PARAM_MAX - 1);
	if (len == 0 || url_decode(path, len, false, &part, NULL) < 0)
		return false;
	memcpy(ret, buf_data(&part), buf_len(&part));
	ret[buf_len(&part)] = 0;
	return true;
}

/* Does the path of the request have this shape?  Its {} parts go to param, decoded. */
static bool fits(const char *shape, const char *path, struct call *c)
{
	size_t n = 0, len;

	while (*shape && *path) {
		if (shape[0] != '{') {
			if (*shape++ != *path++)
				return false;
			continue;
		}
		len = strcspn(path, "/?");
		if (n == CALL_PARAMS || !take_param(path, len, c->param[n++]))
			return false;
		shape += 2;
		path += len;
	}
	return !*shape && (!*path || *path == '?');
}

static void find_route(struct call *c)
{
	static const struct route *const tables[] = { sandbox_routes, sandbox_more_routes,
						      template_routes };
	const char *method = http_method(c->x.h);
	bool other_method = false;

	for (size_t t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct route *r = tables[t]; r->method; r++) {
			if (!fits(r->path, http_target(c->x.h), c))
				continue;
			if (strcmp(r->method, method) == 0) {
				c->route = r;
				return;
			}
			other_method = true;
		}
	if (other_method)
		call_error(c, 405, NULL, "validation error: method not allowed");
	else
		call_error(c, 404, NULL, "validation error: no matching operation was found");
}

/* --- the body --- */

static void invalid_body(struct call *c, const char *why)
{
	call_error(c, 400, NULL, "validation error: request body has an error: %s", why);
}

static bool parse_body(struct call *c)
{
	const char *type = http_header(c->x.h, "Content-Type");
	struct err e = ERR_INIT;
	char why[480];

	if (buf_len(&c->body) == 0) {
		if (c->route->flags & ROUTE_BODY)
			invalid_body(c, "value is required but missing");
		return !(c->route->flags & ROUTE_BODY);
	}
	if (!type || strncmp(type, "application/json", 16) != 0) {
		snprintf(why, sizeof(why), "header Content-Type has unexpected value \"%.80s\"",
			 type ? type : "");
		invalid_body(c, why);
		return false;
	}
	c->doc = json_parse((const char *)buf_data(&c->body), buf_len(&c->body), CALL_BODY_MAX,
			    LIMIT_JSON_DEPTH, &e);
	if (!c->doc) {
		snprintf(why, sizeof(why), "failed to decode request body: %s", e.msg);
		invalid_body(c, why);
		return false;
	}
	if (json_type(c->doc) != JSON_OBJECT) {
		invalid_body(c, "doesn't match schema: value must be an object");
		return false;
	}
	return true;
}

static size_t on_body(struct http *h, const uint8_t *p, size_t n)
{
	struct call *c = http_ctx(h);

	if (!(c->route->flags & ROUTE_UPLOAD) && buf_put(&c->body, p, n, NULL) < 0)
		call_error(c, 413, NULL, "request body is larger than %d bytes", CALL_BODY_MAX);
	return n;
}

static void on_body_end(struct http *h)
{
	struct call *c = http_ctx(h);

	if (call_is_open(c) && ((c->route->flags & ROUTE_UPLOAD) || parse_body(c)))
		c->route->handle(c);
}

void control_begin(const struct exchange *arrived)
{
	static const struct http_calls calls = {
		.on_body = on_body,
		.on_body_end = on_body_end,
		.on_close = on_close,
	};
	struct call *c = calloc(1, sizeof(*c));

	if (!c) {
		http_abort(arrived->h);
		return;
	}
	c->x = *arrived;
	c->cloud = c->x.cloud;
	c->next = open_calls;
	c->at = &open_calls;
	if (c->next)
		c->next->at = &c->next;
	open_calls = c;
	buf_init(&c->body, CALL_BODY_MAX);
	http_on(c->x.h, &calls, c);
	find_route(c);
	if (c->route && !(c->route->flags & ROUTE_OPEN))
		check_key(c);
	if (c->x.body_ended)
		on_body_end(c->x.h);
}
