/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b - one sandbox at E2B: made, with a worker that runs, and looked after.
 *
 * Bring-up is four requests: create, one upload (the worker, with a package that is ready), start,
 * and the WebSocket through the edge, which the caller makes.  Nothing of the user's environment
 * or secrets goes to E2B: what a step gets goes over the session.
 *
 * Everything is asynchronous on the caller's loop, one thing at a time; callbacks never come
 * from inside the call. */
#ifndef FARSTEP_SDK_E2B_H
#define FARSTEP_SDK_E2B_H

#include "protocol/base/loop.h"
#include "sdk-wrapper/provider.h"

struct e2b;

/* ERR_DENIED without a key, ERR_UNSUPPORTED without libcurl. */
struct e2b *e2b_open(struct loop *l, struct err *e);
/* Forgets what is under way; the sandbox stays.  Not from inside a callback.  NULL is fine. */
void e2b_close(struct e2b *s);

/* Makes the sandbox and starts the worker in it.  *ret is filled from the beginning (while its
 * id is not known yet it is E2B_PENDING and the id of the request, for e2b_end.h).
 * spec and ret are borrowed until on_done. */
int e2b_up(struct e2b *s, const struct sandbox_spec *spec, struct sandbox *ret,
	   uint32_t deadline_ms, const struct make_hooks *hooks, struct err *e);

/* The sandbox lives that long from now on. */
int e2b_extend(struct e2b *s, const char *id, uint32_t lease_ms, uint32_t deadline_ms,
	       void (*on_done)(void *user, const struct err *err), void *user, struct err *e);
/* What it reaches from now on (provider.h). */
int e2b_reach(struct e2b *s, const char *id, bool network, const char *const *hosts,
	      uint32_t deadline_ms, void (*on_done)(void *user, const struct err *err), void *user,
	      struct err *e);
/* Is it there?  UNKNOWN when nobody answers.  why: for people, when it is gone. */
int e2b_ask(struct e2b *s, const char *id, uint32_t deadline_ms,
	    void (*on_state)(void *user, enum sandbox_state state, const char *why), void *user,
	    struct err *e);

#endif
