/* SPDX-License-Identifier: Apache-2.0
 *
 * conn - one connection: feeds frames to the session it is bound to, answers requests.
 *
 * Knows carriers and JSON-RPC; knows no socket.  Disposable: nothing of a session is lost
 * with it.  Requests that are answered later hold a struct reply; when the connection is
 * gone, answering one does nothing. */
#ifndef FARSTEP_WORKER_CONN_H
#define FARSTEP_WORKER_CONN_H

#include "protocol/base/bucket.h"
#include "protocol/carrier.h"
#include "protocol/rpc.h"
#include "protocol/stream.h"
#include "worker/journal.h"
#include "worker/worker.h"

struct batch;

/* A request that awaits its answer: owned by its handler, freed by reply_*. */
struct reply {
	struct conn *conn;	/* NULL once the connection is gone */
	struct rpc_id id;
	struct batch *batch;
	struct reply *next;	/* in conn->in_flight */
};

/* Who is told about frames of a channel. */
struct channel {
	uint32_t id;
	void *owner;
	void (*on_frame)(void *owner, const struct frame *f);
	void (*on_gone)(void *owner, uint32_t id);	/* the connection ended */
};

struct conn {
	struct worker *w;
	struct carrier *carrier;
	struct session *session;	/* NULL until bound */
	bool observer;
	struct conn *next, **at;	/* in w->conns */
	struct reply *in_flight;
	int n_in_flight;
	struct batch *batch;		/* being read */
	struct channel channels[LIMIT_CHANNELS];
	int n_channels;
	struct journal_cursor events;
	uint64_t events_acked;
	struct loop_timer heartbeat;
	uint64_t last_in_ns;
	struct bucket requests;		/* who sends more is read more slowly */
	uint32_t n_read;		/* of a frame: requests and notifications */
	struct loop_timer let_go;
	bool closed;
};

/* For ws_server_hooks.on_open. */
bool conn_open(void *worker, struct carrier *c);
void conn_close(struct conn *c, int code, const char *reason);
/* A protocol error: logged, answered with 4002. */
void conn_fail(struct conn *c, const struct err *e);

int conn_bind(struct conn *c, const struct channel *ch, struct err *e);
bool conn_has_channel(const struct conn *c, uint32_t channel);
void conn_unbind(struct conn *c, uint32_t channel);

/* Sends events of the bound session as far as its window allows. */
void conn_pump_events(struct conn *c);

void reply_result(struct reply *r, const char *result, size_t n);	/* NULL: {} */
void reply_error(struct reply *r, const struct err *error, const char *extra);

/* methods.c */
void method_dispatch(struct conn *c, const struct rpc_message *m, struct reply *r);

#endif
