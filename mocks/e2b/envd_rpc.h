/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_rpc - Connect calls: what is common to all methods.  Checks the request, takes messages
 * out of it, puts answers into envelopes, keeps deadlines and keepalives.
 *
 * A call lives as long as its HTTP request.  A method's callbacks may answer at once or later;
 * after the answer (rpc_reply, rpc_fail, rpc_end) only on_gone still comes. */
#ifndef FARSTEP_E2B_ENVD_RPC_H
#define FARSTEP_E2B_ENVD_RPC_H

#include "mocks/e2b/connect.h"
#include "mocks/e2b/envd_int.h"
#include "mocks/e2b/http.h"

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM };

struct rpc;

struct rpc_method {
	const char *path;	/* "/process.Process/List" */
	enum rpc_kind kind;
	const char *since;	/* version of envd that has it; NULL: all */
	/* The request's message; for a client stream each of them, in order. */
	void (*on_message)(struct rpc *r, const json *message);
	void (*on_end)(struct rpc *r);	/* of a client stream: that was the last */
};

struct rpc {
	struct envd *d;
	struct http *h;
	const struct rpc_method *method;
	struct user user;		/* after rpc_user */
	bool named_user;		/* by the request */
	struct buf body;		/* of a unary request */
	struct envelope_reader in;
	unsigned messages;
	bool gzip;			/* the request is compressed, and so is the answer */
	bool done;
	bool paused;
	struct loop_timer deadline, keepalive;
	uint64_t timeout_ms;		/* 0: none */
	uint64_t keepalive_ms;
	const char *keepalive_text;
	uint64_t sent;
	const struct envd_fault *drop, *stall, *truncate;

	/* Set by the method; each may be NULL. */
	void *ctx;
	void (*on_drain)(struct rpc *r);	/* after rpc_send said 1 */
	void (*on_deadline)(struct rpc *r);	/* before the call ends for it */
	void (*on_gone)(struct rpc *r);		/* the request is over, answered or not */
};

extern const struct rpc_method process_methods[], filesystem_methods[];	/* path NULL ends */

/* Finds the user that the request names, or the default.  false: the call was failed. */
bool rpc_user(struct rpc *r);
/* The answer of a unary call or a client stream: one JSON message. */
void rpc_reply(struct rpc *r, const void *text, size_t n);
void rpc_fail(struct rpc *r, enum connect_code c, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* One message of a server stream.  0; 1: sent, but wait for on_drain; -1: the call was broken
 * off (or had ended). */
int rpc_send(struct rpc *r, const void *text, size_t n);
void rpc_end(struct rpc *r);		/* of a server stream, without error */
/* Sends text after each Keepalive-Ping-Interval of silence. */
void rpc_keepalive(struct rpc *r, const char *text);
/* Of a client stream: takes no further message until rpc_go_on. */
void rpc_pause(struct rpc *r);
void rpc_go_on(struct rpc *r);

#endif
