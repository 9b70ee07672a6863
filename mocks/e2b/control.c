/* SPDX-License-Identifier: Apache-2.0
 *
 * The control API: key, routes, bodies, answers.  What the routes do stands in control_*.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/call.h"
#include "mocks/e2b/query.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

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

static bool fault_answers(struct call *c)
{
	struct fault *f = c->route->fault ? faults_find(&c->cloud->faults, c->route->fault) : NULL;

	if (!f)
		return false;
	call_act(c, f);
	call_balancer(c, 503, "no healthy upstream");
	return true;
}

static void on_body_end(struct http *h)
{
	struct call *c = http_ctx(h);

	if (call_is_open(c) && fault_answers(c))
		return;
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
