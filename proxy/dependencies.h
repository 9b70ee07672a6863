/* SPDX-License-Identifier: Apache-2.0
 *
 * dependencies - the packages that a plan requires: looked for in the sandbox before its first
 * step, installed there when --install-deps allows it.
 *
 * That is a step of farstep's own for each tool (`_deps.pip`, `_deps.npm`): the same request,
 * receipt and logs as any step, a script (dependencies/) as its program and its report as an
 * artifact.  It ends in a cached environment, which steps find in PATH and the like; or
 * everything was there already, and nothing changes.  docs/dependencies.md describes all of
 * it for users.
 *
 * What the steps run is journalled when the run is prepared, and what came of it when it has
 * ended, so that another proxy goes on with the same. */
#ifndef FARSTEP_PROXY_DEPENDENCIES_H
#define FARSTEP_PROXY_DEPENDENCIES_H

#include "protocol/base/json.h"
#include "proxy/plan.h"

struct run;
struct dependencies;

/* Option or environment, then the pipeline file, then farstep.yaml. */
struct options;
bool dependencies_may_install(const struct options *o, const struct plan *p);
/* Journals what is required; nothing when the plan requires nothing. */
int dependencies_prepare(struct run *r, struct err *e);
/* Before the first step.  True: steps wait; run_steps_begin is called again when everything is
 * there, run_stop (ERR_DEPENDENCY) when it cannot be. */
bool dependencies_begin(struct run *r);
bool dependencies_are_running(const struct run *r);
void dependencies_event(struct run *r, const json *params); /* one of the worker's, any */
void dependencies_events(struct run *r, uint64_t wseq);
void dependencies_room(struct run *r); /* the carrier has room again */
void dependencies_resume(struct run *r); /* the link is back */
void dependencies_cancel(struct run *r);
/* Writes what a step gets from them as members of its `env`; what the step sets itself wins, but
 * for PATH, which is extended. */
void dependencies_env(const struct run *r, const struct plan_step *s, struct jw *w);
/* Elements of status.json's artifacts. */
void dependencies_print(const struct run *r, struct jw *w);
void dependencies_release(struct run *r);

#endif
