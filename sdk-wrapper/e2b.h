/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b - one sandbox at E2B, from the request for it to its end.
 *
 * Bring-up is four requests: create, one upload (the worker), start, and the WebSocket through
 * the edge, which the caller makes.  Nothing of the user's environment or secrets goes to E2B;
 * what a step gets, the package included, goes over the session.
 *
 * Everything is asynchronous on the caller's loop, one thing at a time; callbacks never come
 * from inside the call.  e2b_destroy blocks, on a loop of its own. */
#ifndef FARSTEP_SDK_E2B_H
#define FARSTEP_SDK_E2B_H

#include "protocol/base/loop.h"
#include "sdk-wrapper/e2b_env.h"
#include "sdk-wrapper/e2b_wire.h"
#include "sdk-wrapper/provider.h"

/* Below the ports that Linux gives to outgoing connections (32768 and up): one of those, made in
 * the sandbox before the worker listens, would have its port now and then. */
enum { E2B_WORKER_PORT = 27110 };

struct e2b;

/* ERR_DENIED without a key, ERR_UNSUPPORTED without libcurl. */
struct e2b *e2b_open(struct loop *l, struct err *e);
/* Forgets what is under way; the sandbox stays.  Not from inside a callback.  NULL is fine. */
void e2b_close(struct e2b *s);

/* Makes the sandbox and starts the worker in it.  *ret is filled from the beginning (while its
 * id is not known yet it is "create:" and the id of the request, which e2b_destroy understands).
 * spec and ret are borrowed until on_done. */
int e2b_up(struct e2b *s, const struct sandbox_spec *spec, struct sandbox *ret,
	   uint32_t deadline_ms, const struct make_hooks *hooks, struct err *e);

/* The sandbox lives that long from now on. */
int e2b_extend(struct e2b *s, const char *id, uint32_t lease_ms, uint32_t deadline_ms,
	       void (*on_done)(void *user, const struct err *err), void *user, struct err *e);
/* Is it there?  UNKNOWN when nobody answers.  why: for people, when it is gone. */
int e2b_ask(struct e2b *s, const char *id, uint32_t deadline_ms,
	    void (*on_state)(void *user, enum sandbox_state state, const char *why), void *user,
	    struct err *e);

/* The names of our labels in the metadata. */
#define E2B_LABEL_RUN "farstep_run"
#define E2B_LABEL_KEY "farstep_key"
#define E2B_LABEL_HOST "farstep_host"
#define E2B_LABEL_NETWORK "farstep_network"	/* on, off */
#define E2B_LABEL_KEEP "farstep_keep"		/* yes, or absent */

/* What of a spec it cannot do. */
int e2b_check(const struct sandbox_spec *spec, struct err *e);

/* Ends it.  "Already gone" is success. */
int e2b_destroy(const struct sandbox *s, int deadline_ms, struct err *e);

/* The create request, for --dry-run: appends one JSON object. */
int e2b_describe(const struct sandbox_spec *spec, struct buf *out, struct err *e);

/* Sends nothing; an answer that says where the worker of a sandbox is reached. */
int e2b_address(const struct e2b_env *env, const struct e2b_sandbox *s, char *ret, size_t size,
		struct err *e);

#endif
