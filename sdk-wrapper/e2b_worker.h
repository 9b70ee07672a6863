/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_worker - the worker into a sandbox that is there: found in its template or uploaded, then
 * started by a shell that checks it, and watched. */
#ifndef FARSTEP_SDK_E2B_WORKER_H
#define FARSTEP_SDK_E2B_WORKER_H

#include "sdk-wrapper/envd.h"
#include "sdk-wrapper/provider.h"

struct e2b_worker;

/* Where it goes and what it is told; all borrowed until on_up, `sandbox` and `unique` until
 * e2b_worker_close. */
struct e2b_worker_place {
	const struct sandbox_spec *spec;
	const struct e2b_sandbox *sandbox;
	const char *unique;	/* names its files in the sandbox, and its process */
	bool may_be_there;	/* the template may hold this very worker: that is tried first */
	struct make_file package;	/* comes along with an upload; fd -1: none */
	const char *package_path;
	uint64_t until_ns;
};

/* Never from inside a call.  e2b_worker_close is allowed in on_up, when it failed. */
struct e2b_worker_hooks {
	void *user;
	void (*on_step)(void *user, enum make_step step, uint64_t bytes);
	void (*on_up)(void *user, const struct err *err);	/* once; NULL: it runs */
	void (*on_end)(void *user, const struct err *why);	/* after that, at most once */
};

/* Reads the program, all of it.  It is held open until it runs. */
struct e2b_worker *e2b_worker_open(struct loop *l, const char *path, struct err *e);
int e2b_worker_start(struct e2b_worker *w, struct http *h, const struct e2b_env *env,
		     const struct e2b_worker_place *place, const struct e2b_worker_hooks *hooks,
		     struct err *e);
/* Stops watching; it runs on.  NULL is fine. */
void e2b_worker_close(struct e2b_worker *w);

#endif
