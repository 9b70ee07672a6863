/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/query.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

static const char json_type_text[] = "application/json; charset=utf-8";

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

void call_balancer(struct call *c, int status, const char *text)
{
	char page[512];
	int n = snprintf(page, sizeof(page),
			 "<!doctype html><meta charset=\"utf-8\"><title>%d</title>%d %s\n", status,
			 status, text);

	if (call_is_open(c))
		http_reply(c->x.h, status, "text/html; charset=UTF-8", page, (size_t)n);
}

void call_act(struct call *c, struct fault *f)
{
	fault_act(f);
	c->x.fault = fault_name(f->kind);
	log_debug("control: %s acts", c->x.fault);
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
