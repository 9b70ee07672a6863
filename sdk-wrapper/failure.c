/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/failure.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"
#include "sdk-wrapper/http_text.h"

static const struct {
	const char *name;
	enum err_code code;
	bool ambiguous;
} classes[FAIL_CLASSES] = {
	[FAIL_NONE] = { "none", ERR_NONE, false },
	[FAIL_KEY] = { "key", ERR_DENIED, false },
	[FAIL_QUOTA] = { "quota", ERR_QUOTA, false },
	[FAIL_RATE] = { "rate limit", ERR_BUSY, false },
	[FAIL_NO_CAPACITY] = { "no capacity", ERR_PROVIDER, false },
	[FAIL_TIMEOUT] = { "timeout", ERR_DEADLINE, true },
	[FAIL_TEMPLATE] = { "template unknown", ERR_PROVIDER, false },
	[FAIL_GONE] = { "gone", ERR_LOST, false },
	[FAIL_PORT_CLOSED] = { "port closed", ERR_LOST, false },
	[FAIL_NOT_FOUND] = { "not found", ERR_NOT_FOUND, false },
	[FAIL_CONFLICT] = { "state", ERR_STATE, false },
	[FAIL_REQUEST] = { "refused", ERR_PROVIDER, false },
	[FAIL_POLICY] = { "not allowed by the plan", ERR_POLICY, false },
	[FAIL_NO_ROUTE] = { "unknown call", ERR_UNSUPPORTED, false },
	[FAIL_NO_SPACE] = { "disk full", ERR_LIMIT, false },
	[FAIL_SERVER] = { "server", ERR_PROVIDER, true },
	[FAIL_UNREACHED] = { "unreachable", ERR_PROVIDER, false },
	[FAIL_CUT] = { "cut", ERR_LOST, true },
	[FAIL_PROTOCOL] = { "protocol", ERR_PROTO, true },
	[FAIL_STOPPED] = { "stopped", ERR_CANCELLED, false },
};

static const enum fail_class ends[] = {
	[HTTP_ANSWERED] = FAIL_NONE, [HTTP_NOT_SENT] = FAIL_UNREACHED, [HTTP_CUT] = FAIL_CUT,
	[HTTP_DEADLINE] = FAIL_TIMEOUT, [HTTP_IDLE] = FAIL_CUT, [HTTP_STOPPED] = FAIL_PROTOCOL,
};

#define BOTH -1
/* The first row that fits: status (0: any from 500 on), then the body's error_code, or the
 * beginning of its message; NULL fits all. */
static const struct {
	int where;
	int status;
	const char *error_code, *begins;
	enum fail_class class;
} rows[] = {
	{ FAIL_AT_API, 400, NULL, "Timeout cannot be greater", FAIL_POLICY },
	{ FAIL_AT_API, 400, NULL, "Max instance length exceeded", FAIL_POLICY },
	{ FAIL_AT_API, 400, NULL, "Template is not compatible", FAIL_POLICY },
	{ FAIL_AT_API, 400, NULL, "Invalid sandbox ID", FAIL_GONE },
	{ FAIL_AT_API, 400, NULL, "no matching operation", FAIL_NO_ROUTE },
	{ BOTH, 400, NULL, NULL, FAIL_REQUEST },
	{ BOTH, 401, NULL, NULL, FAIL_KEY },
	{ FAIL_AT_API, 403, NULL, "you don't have access to template", FAIL_TEMPLATE },
	{ BOTH, 403, NULL, NULL, FAIL_KEY },
	{ FAIL_AT_API, 404, NULL, "template '", FAIL_TEMPLATE },
	{ FAIL_AT_API, 404, NULL, "tag '", FAIL_TEMPLATE },
	{ FAIL_AT_API, 404, NULL, "Sandbox \"", FAIL_GONE },
	{ BOTH, 404, NULL, "404 page not found", FAIL_NO_ROUTE },
	{ FAIL_AT_API, 404, NULL, NULL, FAIL_NO_ROUTE },
	{ FAIL_AT_SANDBOX, 404, NULL, NULL, FAIL_NOT_FOUND },
	{ BOTH, 405, NULL, NULL, FAIL_NO_ROUTE },
	{ BOTH, 408, NULL, NULL, FAIL_TIMEOUT },
	{ BOTH, 409, NULL, NULL, FAIL_CONFLICT },
	{ BOTH, 413, NULL, NULL, FAIL_REQUEST },
	{ BOTH, 429, NULL, "you have reached the maximum number", FAIL_QUOTA },
	{ BOTH, 429, NULL, NULL, FAIL_RATE },
	{ BOTH, 499, NULL, NULL, FAIL_CUT },
	{ FAIL_AT_SANDBOX, 501, NULL, NULL, FAIL_NO_ROUTE },
	{ FAIL_AT_SANDBOX, 502, NULL, "The sandbox was not found", FAIL_GONE },
	{ FAIL_AT_SANDBOX, 502, NULL, "The sandbox is running but port is not open",
	  FAIL_PORT_CLOSED },
	{ BOTH, 503, "sandbox_capacity_unavailable", NULL, FAIL_NO_CAPACITY },
	{ BOTH, 503, "sandbox_no_compatible_node", NULL, FAIL_NO_CAPACITY },
	{ BOTH, 503, NULL, "Failed to place sandbox", FAIL_NO_CAPACITY },
	{ BOTH, 504, "sandbox_placement_timeout", NULL, FAIL_NO_CAPACITY },
	{ BOTH, 504, NULL, "Failed to place sandbox", FAIL_NO_CAPACITY },
	{ BOTH, 504, NULL, NULL, FAIL_TIMEOUT },
	{ BOTH, 507, NULL, NULL, FAIL_NO_SPACE },
	{ BOTH, 0, NULL, NULL, FAIL_SERVER },
};

static const struct {
	const char *code;
	enum fail_class class;
} connect_codes[] = {
	{ "canceled", FAIL_STOPPED },
	{ "unknown", FAIL_SERVER },
	{ "invalid_argument", FAIL_REQUEST },
	{ "deadline_exceeded", FAIL_TIMEOUT },
	{ "not_found", FAIL_NOT_FOUND },
	{ "already_exists", FAIL_CONFLICT },
	{ "permission_denied", FAIL_KEY },
	{ "resource_exhausted", FAIL_RATE },
	{ "failed_precondition", FAIL_CONFLICT },
	{ "aborted", FAIL_CONFLICT },
	{ "out_of_range", FAIL_REQUEST },
	{ "unimplemented", FAIL_NO_ROUTE },
	{ "internal", FAIL_SERVER },
	{ "unavailable", FAIL_GONE },	/* what an edge says of a sandbox that ended */
	{ "data_loss", FAIL_SERVER },
	{ "unauthenticated", FAIL_KEY },
};

static enum fail_class valid(enum fail_class c)
{
	return (unsigned)c < FAIL_CLASSES ? c : FAIL_PROTOCOL;
}

const char *fail_name(enum fail_class c)
{
	return classes[valid(c)].name;
}

enum err_code fail_code(enum fail_class c)
{
	return classes[valid(c)].code;
}

bool fail_is_ambiguous(enum fail_class c)
{
	return classes[valid(c)].ambiguous;
}

/* One line of at most size - 1 printable bytes. */
static void one_line(char *ret, size_t size, const char *p, size_t len)
{
	size_t n = 0;

	while (len && isspace((unsigned char)*p))
		p++, len--;
	for (size_t i = 0; i < len && n + 1 < size; i++)
		ret[n++] = (unsigned char)p[i] < 0x20 || p[i] == 0x7f ? ' ' : p[i];
	while (n && ret[n - 1] == ' ')
		n--;
	ret[n] = 0;
}

/* "<title>...": what a page is about; else nothing worth showing. */
static void page_title(char *ret, size_t size, const char *p, size_t len)
{
	const char *end = p + len, *title = NULL;

	for (const char *at = p; at + 7 < end; at++)
		if (strncasecmp(at, "<title>", 7) == 0) {
			title = at + 7;
			break;
		}
	if (title) {
		const char *stop = memchr(title, '<', (size_t)(end - title));

		one_line(ret, size, title, (size_t)((stop ? stop : end) - title));
	} else {
		snprintf(ret, size, "a page of HTML");
	}
}

struct said {
	char message[240];
	char error_code[64];
	char connect_code[32];
};

static void read_body(const char *body, size_t len, struct said *ret)
{
	auto_json json *v = json_parse(body, len, LIMIT_API_ANSWER, LIMIT_JSON_DEPTH, NULL);
	const char *text;

	*ret = (struct said){ .message = "" };
	if (json_type(v) != JSON_OBJECT) {
		if (len && *body == '<')
			page_title(ret->message, sizeof(ret->message), body, len);
		else
			one_line(ret->message, sizeof(ret->message), body, len);
		return;
	}
	text = json_string(json_get(v, "message"));
	if (text)
		one_line(ret->message, sizeof(ret->message), text, strlen(text));
	text = json_string(json_get(v, "error_code"));
	if (text)
		one_line(ret->error_code, sizeof(ret->error_code), text, strlen(text));
	text = json_string(json_get(v, "code"));
	if (text)
		one_line(ret->connect_code, sizeof(ret->connect_code), text, strlen(text));
}

static enum fail_class class_of(enum fail_where where, int status, const struct said *said)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].where != BOTH && rows[i].where != (int)where)
			continue;
		if (rows[i].status ? rows[i].status != status : status < 500)
			continue;
		if (rows[i].error_code && strcmp(rows[i].error_code, said->error_code) != 0)
			continue;
		if (rows[i].begins &&
		    strncasecmp(said->message, rows[i].begins, strlen(rows[i].begins)) != 0)
			continue;
		return rows[i].class;
	}
	return status >= 300 && status < 400 ? FAIL_PROTOCOL : FAIL_REQUEST;
}

static void fill(struct failure *ret, enum fail_class c, int status)
{
	*ret = (struct failure){ .class = c, .status = status };
}

static void note_admitted(struct failure *ret)
{
	ret->err.admitted = fail_is_ambiguous(ret->class) ? ADMITTED_UNKNOWN : ADMITTED_NO;
}

/* Seconds; dates, which the header may hold too, are not understood and count as absent. */
static void read_retry_after(const char *text, struct failure *ret)
{
	char *end;
	unsigned long s;

	if (!text || !isdigit((unsigned char)*text))
		return;
	s = strtoul(text, &end, 10);
	if (*end || s > 86400)
		return;
	ret->has_retry_after = true;
	ret->retry_after_ms = (uint32_t)s * 1000;
}

void failure_of_answer(enum fail_where where, const char *what, int status, const char *body,
		       size_t len, const char *retry_after, struct failure *ret)
{
	struct said said;

	read_body(body, len, &said);
	if (said.connect_code[0]) {
		failure_of_connect(what, said.connect_code, said.message, ret);
		ret->status = status;
		return;
	}
	fill(ret, class_of(where, status, &said), status);
	read_retry_after(retry_after, ret);
	err_set(&ret->err, fail_code(ret->class), 0, "%s: %s (HTTP %d%s%s)", what,
		fail_name(ret->class), status, said.message[0] ? ": " : "", said.message);
	note_admitted(ret);
}

void failure_of_response(enum fail_where where, const char *what, const struct http_response *r,
			 struct failure *ret)
{
	char after[32];
	bool has_after;

	if (r->end != HTTP_ANSWERED) {
		failure_set(ret, ends[r->end], what, &r->err);
	} else if (r->status < 300) {
		fill(ret, FAIL_NONE, r->status);
	} else {
		has_after = http_header(r, "Retry-After", after, sizeof(after));
		failure_of_answer(where, what, r->status, r->body, r->body_len,
				  has_after ? after : NULL, ret);
	}
}

void failure_of_connect(const char *what, const char *code, const char *message,
			struct failure *ret)
{
	enum fail_class c = FAIL_SERVER;

	for (size_t i = 0; i < ARRAY_LEN(connect_codes); i++)
		if (strcmp(connect_codes[i].code, code) == 0)
			c = connect_codes[i].class;
	fill(ret, c, 0);
	err_set(&ret->err, fail_code(c), 0, "%s: %s (%.40s%s%.240s)", what, fail_name(c), code,
		message && *message ? ": " : "", message ? message : "");
	note_admitted(ret);
}

void failure_set(struct failure *ret, enum fail_class c, const char *what, const struct err *err)
{
	struct err reason = *err;	/* it may lie in *ret */

	fill(ret, c, 0);
	err_set(&ret->err, fail_code(c), 0, "%s: %s: %s", what, fail_name(c), reason.msg);
	note_admitted(ret);
}
