/* SPDX-License-Identifier: Apache-2.0
 *
 * call - one request to the control API: what the handlers of its routes share.
 *
 * A handler answers at once (call_reply and its like), or keeps the call and answers later; then
 * call_is_open tells whether the client is still there.  Everything here may be called for a
 * client that left: the words go nowhere. */
#ifndef FARSTEP_E2B_CALL_H
#define FARSTEP_E2B_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "mocks/e2b/exchange.h"
#include "mocks/e2b/sandbox.h"
#include "protocol/base/buf.h"
#include "protocol/base/json.h"

enum {
	CALL_BODY_MAX = 1024 * 1024,	/* of a JSON request */
	CALL_REPLY_MAX = 4 * 1024 * 1024,
	CALL_PARAMS = 2,
	CALL_PARAM_MAX = 160,
};

struct call;

struct route {
	const char *method;
	const char *path;	/* "/sandboxes/{}/timeout"; {} is one part of it, decoded */
	void (*handle)(struct call *c);
	unsigned flags;
	enum fault_kind fault;	/* the rule that answers in its place, in a balancer's words */
};
enum {
	ROUTE_OPEN = 1,		/* without a key */
	ROUTE_BODY = 2,		/* a JSON object must come; else one may */
	ROUTE_UPLOAD = 4,	/* any body, which is thrown away */
};

struct call {
	struct exchange x;	/* x.h is NULL when the client left */
	struct cloud *cloud;
	const struct route *route;
	char param[CALL_PARAMS][CALL_PARAM_MAX];
	struct buf body;
	json *doc;		/* the request's body; NULL if there was none */
	/* for handlers that wait */
	struct sandbox_wait wait;
	struct loop_timer delay;
	uint64_t begun_ns;
	bool waits;		/* must not be freed, even if the client leaves */
	struct fault *fault;
	struct call *next, **at;
};

/* The tables of routes, each ended by one without a method. */
extern const struct route sandbox_routes[], sandbox_more_routes[], template_routes[];

bool call_is_open(const struct call *c);
/* The handler is through with a call that it had kept: it may be freed. */
void call_done(struct call *c);
/* Body: JSON text. */
void call_reply(struct call *c, int status, const struct buf *body);
void call_reply_empty(struct call *c, int status);
/* {"code":status,"message":...[,"error_code":...]} */
void call_error(struct call *c, int status, const char *error_code, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
/* 429 for the quota, 500 for what else can go wrong within the mock. */
void call_fail(struct call *c, const struct err *e);
void call_header(struct call *c, const char *name, const char *value);
/* As something in front of E2B answers, which knows no JSON. */
void call_balancer(struct call *c, int status, const char *text);
/* The rule has acted on this call. */
void call_act(struct call *c, struct fault *f);

/* The sandbox that the first parameter names; NULL: answered 400 or 404. */
struct sandbox *call_sandbox(struct call *c);
void call_not_found(struct call *c, const char *id);

/* What the schema says of a member of the body.  False: answered 400 "validation error: ...".
 * Absent leaves *ret, unless it is needed. */
enum { NEEDED = 1 };
bool call_int(struct call *c, const char *key, int64_t min, int64_t max, unsigned flags,
	      int64_t *ret);
bool call_bool(struct call *c, const char *key, bool *ret);
bool call_str(struct call *c, const char *key, unsigned flags, const char **ret);
bool call_object(struct call *c, const char *key, const json **ret);
bool call_str_map(struct call *c, const char *key, const json **ret);	/* {"a":"b"} */
bool call_str_array(struct call *c, const char *key, const json **ret);
void call_invalid(struct call *c, const char *key, const char *why);

/* A value of the query, decoded, in out.  1, 0 if it isn't there; -1: answered 400. */
int call_query(struct call *c, const char *key, struct buf *out);
/* 1, 0 or -1 likewise. */
int call_query_int(struct call *c, const char *key, int64_t min, int64_t max, int64_t *ret);

#endif
