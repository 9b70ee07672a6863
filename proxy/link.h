/* SPDX-License-Identifier: Apache-2.0
 *
 * link - one session at one worker, whatever happens to the connection.
 *
 * Opens the session, calls methods, delivers events.  When the connection is lost it
 * connects again, resumes the session, and repeats every call that had no answer: a call
 * renders its parameters anew each time, so that stream offsets are those of the moment. */
#ifndef FARSTEP_PROXY_LINK_H
#define FARSTEP_PROXY_LINK_H

#include "protocol/base/json.h"
#include "protocol/base/loop.h"
#include "protocol/carrier.h"
#include "protocol/rpc.h"
#include "proxy/rpc_trace.h"
#include "proxy/ws.h"

struct link;

/* One call until its answer.  Embedded in its owner. */
struct call {
	const char *method;
	/* Appends the params object.  Called at every (re)send; may bind channels. */
	int (*render)(struct call *c, struct link *l, struct buf *out, struct err *e);
	/* The answer: result, or error (result NULL).  The call is no longer pending. */
	void (*on_done)(struct call *c, const json *result, const struct err *error);
	uint64_t id; /* 0: not pending */
	bool sent;
	struct call *next, **at;
};

struct link_hooks {
	void *arg;
	/* The session is open (again): result is the answer to session.open or .resume, the
	 * generation in it may have risen.  again: not the first time. */
	void (*on_up)(void *arg, const json *hello, const json *result, bool again);
	void (*on_down)(void *arg, int code, const char *reason);
	/* One event of the worker; it is acknowledged when this returns 0.  -1: fatal. */
	int (*on_event)(void *arg, const json *params, struct err *e);
	/* It is over: denied, replaced, fenced, no reconnect in time, sandbox gone.  Called
	 * once. */
	void (*on_fatal)(void *arg, const struct err *e);
	/* Asked between attempts to connect: is the sandbox still there? */
	bool (*is_there)(void *arg);
};

struct link_spec {
	const char *address, *token, *session, *run, *key;
	const char *sandbox; /* NULL: not known yet */
	bool resume;         /* attach: the session exists */
	uint64_t events_have;
	int64_t lease_ms;
	int64_t memory_mb;         /* for each process of a step; 0: no bound */
	const char *env, *secrets; /* JSON objects, NULL: none */
	/* attach: the worker tells env and secrets, so that they can be masked */
	bool want_secrets;
	uint64_t first_ms;   /* how long the first connection may take */
	uint64_t give_up_ms; /* how long a lost one may stay lost */
	struct rpc_trace *trace; /* borrowed; NULL: none */
};

/* Copies what it needs of spec. */
struct link *link_new(struct loop *loop, struct ws_client *ws, const struct link_spec *spec,
                      const struct link_hooks *hooks, struct err *e);
void link_free(
	struct link *l); /* ends the connection without a word; pending calls are forgotten */
bool link_is_up(const struct link *l);
void link_start(struct link *l);

void link_call(struct link *l, struct call *c);   /* now, or as soon as the session is open */
void link_forget(struct link *l, struct call *c); /* no answer is wanted any more */
/* A channel of this connection; owner's frames go to on_frame.  Gone when the link goes down. */
uint32_t link_bind(struct link *l, void *owner,
                   void (*on_frame)(void *owner, const struct frame *f));
void link_unbind(struct link *l, uint32_t channel);
struct carrier *link_carrier(struct link *l); /* NULL when down */
/* Called when the carrier has room again. */
void link_on_room(struct link *l, void (*on_room)(void *arg));
uint64_t link_events_have(const struct link *l);
void link_bytes(const struct link *l, uint64_t *up, uint64_t *down);
void link_fail(struct link *l, const struct err *e); /* the worker broke the protocol: fatal */

#endif
