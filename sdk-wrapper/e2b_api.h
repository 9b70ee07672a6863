/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_api - calls of E2B's control API, with their retries.
 *
 * A call goes on until it succeeds, fails for good, or its deadline passes; then on_done comes,
 * once, from the loop.  Repetitions follow retry.h; all calls share a token bucket and a circuit
 * breaker, so that no loop of ours hammers the service.
 *
 * A create is never repeated blindly: it carries a unique id in the metadata, and after a
 * failure that leaves open whether it was carried out, sandboxes with that id are looked
 * for first.  One that is found is the result; should there ever be two, the others are
 * killed. */
#ifndef FARSTEP_SDK_E2B_API_H
#define FARSTEP_SDK_E2B_API_H

#include "protocol/base/loop.h"
#include "sdk-wrapper/e2b_env.h"
#include "sdk-wrapper/e2b_wire.h"
#include "sdk-wrapper/failure.h"
#include "sdk-wrapper/http.h"
#include "sdk-wrapper/retry.h"

struct e2b_api;
struct e2b_call;

struct e2b_result {
	const struct failure *failure;	/* NULL: success */
	const struct e2b_sandbox *sandbox;	/* create, get, connect */
	const json *answer;	/* what came, if it was JSON */
	bool found;	/* create: by asking, after its answer was lost */
};

/* What every call takes. */
struct e2b_end {
	uint32_t deadline_ms;
	void (*on_done)(void *user, const struct e2b_result *r);	/* all borrowed */
	void *user;
};

/* env and http are borrowed until e2b_api_free, which forgets calls under way. */
struct e2b_api *e2b_api_new(struct loop *l, struct http *h, const struct e2b_env *env,
			    struct err *e);
void e2b_api_free(struct e2b_api *a);
void e2b_cancel(struct e2b_call *c);	/* NULL is fine */

/* NULL: it could not be prepared.  Strings are copied, unless said otherwise. */

/* Any other call, such as those for templates. */
struct e2b_request {
	const char *name;	/* "build template"; borrowed until on_done, like method */
	const char *method;
	const char *path, *body;	/* body NULL: none; both copied */
	enum retry_kind kind;	/* not RETRY_CREATE */
};
struct e2b_call *e2b_request(struct e2b_api *a, const struct e2b_request *r,
			     const struct e2b_end *end, struct err *e);

/* *spec is borrowed until on_done.  on_asked (may be NULL), with the user of `end`: the first
 * request is on its way, and the service at work. */
struct e2b_call *e2b_create(struct e2b_api *a, const struct e2b_create *spec,
			    void (*on_asked)(void *user), const struct e2b_end *end,
			    struct err *e);
struct e2b_call *e2b_get(struct e2b_api *a, const char *id, const struct e2b_end *end,
			 struct err *e);
/* on_item for each sandbox, page by page; `answer` of the result is the last page. */
struct e2b_call *e2b_list(struct e2b_api *a, e2b_metadata filter, bool paused_too,
			  void (*on_item)(void *user, const struct e2b_sandbox *s,
					  const json *item),
			  const struct e2b_end *end, struct err *e);
/* "There is none" is success. */
struct e2b_call *e2b_kill(struct e2b_api *a, const char *id, const struct e2b_end *end,
			  struct err *e);
/* It ends that many seconds from now. */
struct e2b_call *e2b_set_timeout(struct e2b_api *a, const char *id, uint32_t seconds,
				 const struct e2b_end *end, struct err *e);
/* What it reaches from now on: all of the internet, or hosts alone (NULL: nothing). */
struct e2b_call *e2b_set_network(struct e2b_api *a, const char *id, bool internet,
				 const char *const *hosts, const struct e2b_end *end,
				 struct err *e);
struct e2b_call *e2b_pause(struct e2b_api *a, const char *id, const struct e2b_end *end,
			   struct err *e);
/* Resumes it if it is paused, and extends its life in any case. */
struct e2b_call *e2b_connect(struct e2b_api *a, const char *id, uint32_t seconds,
			     const struct e2b_end *end, struct err *e);
struct e2b_call *e2b_metrics(struct e2b_api *a, const char *id, const struct e2b_end *end,
			     struct err *e);
struct e2b_call *e2b_logs(struct e2b_api *a, const char *id, unsigned limit,
			  const struct e2b_end *end, struct err *e);

#endif
