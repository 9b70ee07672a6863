/* SPDX-License-Identifier: Apache-2.0
 *
 * The text is parsed once for its values and walked once more for the raw tokens
 * of the ids, which a parsed number would not give back. */
#include "protocol/rpc.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* --- raw elements --- */

/* Text that passed json_check: brackets are counted, strings stepped over. */
struct cursor {
	const char *p;
	const char *end;
};

static void skip_space(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
		c->p++;
}

/* Behind the closing quote. */
static void skip_string(struct cursor *c)
{
	for (c->p++; c->p < c->end && *c->p != '"'; c->p++)
		if (*c->p == '\\')
			c->p++;
	c->p++;
}

/* Stops at the comma or bracket that ends the value. */
static void skip_value(struct cursor *c)
{
	unsigned depth = 0;

	while (c->p < c->end) {
		if (*c->p == '"') {
			skip_string(c);
			continue;
		}
		if (depth == 0 && (*c->p == ',' || *c->p == ']' || *c->p == '}'))
			return;
		if (*c->p == '{' || *c->p == '[')
			depth++;
		else if (*c->p == '}' || *c->p == ']')
			depth--;
		c->p++;
	}
}

/* --- reading one element --- */

/* One element: its values, its text, and what was found so far. */
struct element {
	const json *v;
	struct cursor raw;
	struct rpc_message m;
	struct err err;
};

static int invalid(struct element *el, const char *why)
{
	return err_set(&el->err, ERR_INVALID_REQUEST, 0, "%s", why);
}

static int wrong_type(struct element *el, const char *what, const char *want, const json *got)
{
	return err_set(&el->err, ERR_INVALID_REQUEST, 0, "%s: want %s, got %s", what, want,
		       json_type_name(json_type(got)));
}

static void set_id(struct rpc_id *id, const char *raw, size_t len)
{
	memcpy(id->raw, raw, len);
	id->raw[len] = 0;
}

/* The id stays "" when there is none, and when it is no legal one. */
static int read_id(struct element *el)
{
	const json *v = json_get(el->v, "id");
	enum json_type type = json_type(v);
	size_t len = 0;
	const char *raw;

	if (!v)
		return 0;
	raw = json_raw_member(el->raw.p, (size_t)(el->raw.end - el->raw.p), "id", &len);
	/* The answer to a text in which no id could be read. */
	if (type == JSON_NULL && json_get(el->v, "error"))
		type = JSON_NUMBER;
	if (!raw || (type != JSON_STRING && type != JSON_NUMBER))
		return wrong_type(el, "id", "a string or a number", v);
	if (len > sizeof(el->m.id.raw) - 1)
		return err_set(&el->err, ERR_INVALID_REQUEST, 0, "id: longer than %d bytes",
			       LIMIT_RPC_ID);
	set_id(&el->m.id, raw, len);
	return 0;
}

static int read_request(struct element *el)
{
	const json *method = json_get(el->v, "method");
	const json *params = json_get(el->v, "params");

	if (json_get(el->v, "result") || json_get(el->v, "error"))
		return invalid(el, "a method and a result or error in one message");
	if (json_type(method) != JSON_STRING)
		return wrong_type(el, "method", "a string", method);
	if (params && json_type(params) != JSON_OBJECT)
		return wrong_type(el, "params", "an object", params);
	el->m.kind = el->m.id.raw[0] ? RPC_REQUEST : RPC_NOTICE;
	el->m.method = json_string(method);
	el->m.params = params;
	return 0;
}

/* The class says more than the number; one that is not known here leaves the number. */
static enum err_code error_code(const char *class, int64_t rpc)
{
	enum err_code code = err_by_name(class);

	if (code == ERR_NONE || !class || strcmp(class, err_name(code)) != 0)
		code = err_by_rpc((int)rpc);
	return code == ERR_NONE ? ERR_INTERNAL : code;
}

static enum admitted admitted_by_name(const char *name)
{
	for (enum admitted a = ADMITTED_NO; name && a < ADMITTED_UNKNOWN; a++)
		if (strcmp(name, admitted_name(a)) == 0)
			return a;
	return ADMITTED_UNKNOWN;
}

static int read_error(struct element *el, const json *error)
{
	const json *data = json_get(error, "data");
	const char *message;
	int64_t rpc;

	if (json_type(error) != JSON_OBJECT)
		return wrong_type(el, "error", "an object", error);
	if (json_req_int(error, "error", "code", INT_MIN, INT_MAX, &rpc, &el->err) < 0 ||
	    json_req_str(error, "error", "message", &message, &el->err) < 0) {
		el->err.code = ERR_INVALID_REQUEST;
		return -1;
	}
	el->m.kind = RPC_ERROR;
	err_set(&el->m.error, error_code(json_string(json_get(data, "class")), rpc), 0, "%s",
		message);
	el->m.error.admitted = admitted_by_name(json_string(json_get(data, "admitted")));
	el->m.error_data = data;
	return 0;
}

static int read_response(struct element *el)
{
	const json *result = json_get(el->v, "result"), *error = json_get(el->v, "error");

	if (!result && !error)
		return invalid(el, "neither a method nor a result nor an error");
	if (result && error)
		return invalid(el, "a result and an error in one message");
	if (!el->m.id.raw[0])
		return invalid(el, "an answer without an id");
	if (error)
		return read_error(el, error);
	el->m.kind = RPC_RESULT;
	el->m.result = result;
	return 0;
}

static int read_message(struct element *el)
{
	const json *version = json_get(el->v, "jsonrpc");
	const char *s = json_string(version);

	if (json_type(el->v) != JSON_OBJECT)
		return wrong_type(el, "a message", "an object", el->v);
	if (read_id(el) < 0)
		return -1;
	if (!s || strcmp(s, "2.0") != 0)
		return invalid(el, "jsonrpc: want \"2.0\"");
	return json_get(el->v, "method") ? read_request(el) : read_response(el);
}

static void fault(const struct rpc_sink *sink, const struct rpc_id *id, const struct err *error)
{
	struct rpc_fault f = { .error = *error };

	if (id && id->raw[0])
		f.id = *id;
	else
		set_id(&f.id, "null", 4);
	sink->on_fault(sink->arg, &f);
}

/* A fault in an answer bears no id: it would look like the answer to a request of the peer. */
static bool is_answer(const json *v)
{
	return !json_get(v, "method") && (json_get(v, "result") || json_get(v, "error"));
}

static void read_element(const json *v, const char *raw, const char *end,
			 const struct rpc_sink *sink)
{
	struct element el = { .v = v, .raw = { raw, end } };

	if (read_message(&el) == 0)
		sink->on_message(sink->arg, &el.m);
	else
		fault(sink, is_answer(v) ? NULL : &el.m.id, &el.err);
}

/* --- reading a text --- */

static void read_batch(const json *v, struct cursor c, const struct rpc_sink *sink)
{
	struct err e;

	if (!json_first(v)) {
		err_set(&e, ERR_INVALID_REQUEST, 0, "an empty batch");
		fault(sink, NULL, &e);
		return;
	}
	if (json_count(v) > LIMIT_BATCH) {
		err_set(&e, ERR_LIMIT, 0, "a batch of %zu, the maximum is %d", json_count(v),
			LIMIT_BATCH);
		fault(sink, NULL, &e);
		return;
	}
	if (sink->on_batch)
		sink->on_batch(sink->arg, true);
	for (const json *it = json_first(v); it; it = json_next(it)) {
		const char *raw = ++c.p;	/* the bracket or a comma */

		skip_value(&c);
		read_element(it, raw, c.p, sink);
	}
	if (sink->on_batch)
		sink->on_batch(sink->arg, false);
}

void rpc_read(const char *text, size_t len, const struct rpc_sink *sink)
{
	struct cursor c = { text, text + len };
	struct err e = ERR_INIT;
	auto_json json *v = json_parse(text, len, LIMIT_TEXT, LIMIT_JSON_DEPTH, &e);

	if (!v) {
		fault(sink, NULL, &e);
		return;
	}
	skip_space(&c);
	if (json_type(v) == JSON_ARRAY)
		read_batch(v, c, sink);
	else
		read_element(v, c.p, c.end, sink);
}

/* --- writing --- */

void rpc_id_number(struct rpc_id *id, uint64_t n)
{
	snprintf(id->raw, sizeof(id->raw), "%" PRIu64, n);
}

static void begin(struct jw *w, struct buf *out)
{
	jw_init(w, out);
	jw_obj(w);
	jw_kstr(w, "jsonrpc", "2.0");
}

static void put_id(struct jw *w, const struct rpc_id *id)
{
	const char *raw = id && id->raw[0] ? id->raw : "null";

	jw_key(w, "id");
	jw_raw(w, raw, strlen(raw));
}

static void put_raw(struct jw *w, const char *key, const char *text, size_t n)
{
	jw_key(w, key);
	jw_raw(w, text ? text : "{}", text ? n : 2);
}

/* Ends the object; on failure out is what it was before. */
static int finish(struct jw *w, size_t before, struct err *e)
{
	jw_end(w);
	if (jw_done(w, e) == 0)
		return 0;
	w->out->len = before;
	return -1;
}

int rpc_write_request(struct buf *out, const struct rpc_id *id, const char *method,
		      const char *params, size_t n, struct err *e)
{
	size_t before = buf_len(out);
	struct jw w;

	begin(&w, out);
	put_id(&w, id);
	jw_kstr(&w, "method", method);
	put_raw(&w, "params", params, n);
	return finish(&w, before, e);
}

int rpc_write_notice(struct buf *out, const char *method, const char *params, size_t n,
		     struct err *e)
{
	size_t before = buf_len(out);
	struct jw w;

	begin(&w, out);
	jw_kstr(&w, "method", method);
	put_raw(&w, "params", params, n);
	return finish(&w, before, e);
}

int rpc_write_result(struct buf *out, const struct rpc_id *id, const char *result, size_t n,
		     struct err *e)
{
	size_t before = buf_len(out);
	struct jw w;

	begin(&w, out);
	put_id(&w, id);
	put_raw(&w, "result", result, n);
	return finish(&w, before, e);
}

/* Members that are text already; the writer knows only values. */
static void put_members(struct jw *w, const char *members)
{
	if (w->failed)
		return;
	if (buf_putc(w->out, ',', &w->err) < 0 || buf_puts(w->out, members, &w->err) < 0)
		w->failed = true;
}

int rpc_write_error(struct buf *out, const struct rpc_id *id, const struct err *error,
		    const char *extra, struct err *e)
{
	enum err_code code = error->code == ERR_NONE ? ERR_INTERNAL : error->code;
	size_t before = buf_len(out);
	struct jw w;

	begin(&w, out);
	put_id(&w, id);
	jw_kobj(&w, "error");
	jw_kint(&w, "code", err_rpc(code));
	jw_kstr(&w, "message", error->msg);
	jw_kobj(&w, "data");
	jw_kstr(&w, "class", err_name(code));
	jw_kstr(&w, "admitted", admitted_name(error->admitted));
	jw_kstr(&w, "retry", err_retry(code));
	if (extra)
		put_members(&w, extra);
	jw_end(&w);
	jw_end(&w);
	return finish(&w, before, e);
}
