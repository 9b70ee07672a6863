/* SPDX-License-Identifier: Apache-2.0
 *
 * failure - what an answer of a cloud, or none, means; pure.
 *
 * Bodies come in four shapes: JSON with an integer code (control API, edge, envd), JSON with a
 * string code (Connect), HTML (load balancers) and plain text.  Each failure gets a class; the
 * class has a name for people, an error code (and with it an exit code), and says what a
 * repetition may do (retry.h). */
#ifndef FARSTEP_SDK_FAILURE_H
#define FARSTEP_SDK_FAILURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"
#include "sdk-wrapper/http.h"

enum fail_class {
	FAIL_NONE,
	FAIL_KEY,		/* key or token missing, wrong, or without the right */
	FAIL_QUOTA,		/* as many sandboxes as the plan allows */
	FAIL_RATE,		/* too many requests */
	FAIL_NO_CAPACITY,	/* no machine had room */
	FAIL_TIMEOUT,		/* no answer in time: may have been carried out */
	FAIL_TEMPLATE,		/* unknown, or another team's */
	FAIL_GONE,		/* there is no such sandbox (any more) */
	FAIL_PORT_CLOSED,	/* the sandbox runs, but nothing listens there */
	FAIL_NOT_FOUND,		/* no such file or process in the sandbox */
	FAIL_CONFLICT,		/* not in this state; being paused or resumed */
	FAIL_REQUEST,		/* not understood, or against the rules */
	FAIL_POLICY,		/* the plan does not allow it */
	FAIL_NO_ROUTE,		/* the server does not know this call: an older one */
	FAIL_NO_SPACE,		/* the sandbox's disk is full */
	FAIL_SERVER,		/* its fault: may have been carried out */
	FAIL_UNREACHED,		/* no connection: not carried out */
	FAIL_CUT,		/* the connection broke: may have been carried out */
	FAIL_PROTOCOL,		/* an answer that cannot be right */
	FAIL_STOPPED,		/* by ourselves */
	FAIL_CLASSES
};

enum fail_where { FAIL_AT_API, FAIL_AT_SANDBOX };

struct failure {
	enum fail_class class;
	int status;		/* 0: no answer */
	bool has_retry_after;
	uint32_t retry_after_ms;
	struct err err;		/* message for people, code, admitted */
};

const char *fail_name(enum fail_class c);	/* "rate limit" */
enum err_code fail_code(enum fail_class c);
bool fail_is_ambiguous(enum fail_class c);	/* may have been carried out */

/* Of an answer with a status of 300 or more.  `what` is what was tried ("create sandbox"),
 * retry_after the header's value or NULL. */
void failure_of_answer(enum fail_where where, const char *what, int status, const char *body,
		       size_t len, const char *retry_after, struct failure *ret);
/* Of whatever a request came to: its answer, or the way it ended without one.  FAIL_NONE (and
 * *ret nothing else) for a status below 300. */
void failure_of_response(enum fail_where where, const char *what, const struct http_response *r,
			 struct failure *ret);
/* Of a Connect error: the string code and message of an end envelope or unary answer. */
void failure_of_connect(const char *what, const char *code, const char *message,
			struct failure *ret);
/* Of any other: the reason comes from err. */
void failure_set(struct failure *ret, enum fail_class c, const char *what, const struct err *err);

#endif
