/* SPDX-License-Identifier: Apache-2.0
 *
 * rpc - JSON-RPC 2.0 texts: reading what came, writing what goes.
 *
 * Pure: a text in, messages out by callback; texts out into a buf.  Knows no
 * method, session or socket.  Ids are kept as raw tokens ("7", "\"a\"", "1e3"):
 * what came is what goes back, byte for byte. */
#ifndef FARSTEP_RPC_H
#define FARSTEP_RPC_H

#include "protocol/base/json.h"
#include "protocol/limits.h"

struct rpc_id {
	char raw[LIMIT_RPC_ID + 3]; /* token with its quotes, NUL-ended; "" = none (notification) */
};

enum rpc_kind { RPC_REQUEST, RPC_NOTICE, RPC_RESULT, RPC_ERROR };

struct rpc_message {
	enum rpc_kind kind;
	struct rpc_id id;
	const char *method;	/* request, notice; borrowed */
	const json *params;	/* object or NULL; borrowed */
	const json *result;	/* RPC_RESULT */
	struct err error;	/* RPC_ERROR: code by class, admitted, message */
	const json *error_data;	/* RPC_ERROR: data, may be NULL */
};

/* What rpc_read found wrong with one element, to be answered with rpc_write_error.
 * id.raw is "null" when none could be read, and for what looks like an answer. */
struct rpc_fault {
	struct rpc_id id;
	struct err error;
};

struct rpc_sink {
	void *arg;
	void (*on_message)(void *arg, const struct rpc_message *m);
	void (*on_fault)(void *arg, const struct rpc_fault *f);
	/* Around a batch: answers given in between belong into one array.  May be NULL. */
	void (*on_batch)(void *arg, bool begins);
};

/* Reads one text frame.  Every element leads to exactly one on_message or
 * on_fault; an empty or too long batch is one fault and no on_batch.  Positional
 * (array) params are a fault: "params: want an object".  An RPC_ERROR whose id.raw
 * is "null" answers a text in which the peer could read no id; admitted is
 * ADMITTED_UNKNOWN when the peer does not say. */
void rpc_read(const char *text, size_t len, const struct rpc_sink *sink);

/* A number as an id token. */
void rpc_id_number(struct rpc_id *id, uint64_t n);

/* Writers append one complete JSON object, or nothing on failure.  params/result are
 * raw JSON texts (complete values), NULL = {}; an id without a token is written as null. */
int rpc_write_request(struct buf *out, const struct rpc_id *id, const char *method,
		      const char *params, size_t n, struct err *e);
int rpc_write_notice(struct buf *out, const char *method, const char *params, size_t n,
		     struct err *e);
int rpc_write_result(struct buf *out, const struct rpc_id *id, const char *result, size_t n,
		     struct err *e);
/* message, and data {class, admitted, retry} from the error; `extra` (raw members text
 * like "\"step\":\"a\"", NULL = none) is put into data as well. */
int rpc_write_error(struct buf *out, const struct rpc_id *id, const struct err *error,
		    const char *extra, struct err *e);

#endif
