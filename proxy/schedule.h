/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule - which step may start now.  Pure: no clock, no process.
 *
 * A failed step stops what depends on it (skipped); siblings finish.  Ready steps are
 * handed out in the file's order. */
#ifndef FARSTEP_PROXY_SCHEDULE_H
#define FARSTEP_PROXY_SCHEDULE_H

#include "protocol/receipt.h"
#include "proxy/plan.h"

enum sched_state { SCHED_WAITING, SCHED_RUNNING, SCHED_DONE };

struct sched_step {
	enum sched_state state;
	enum step_status status;	/* when DONE */
	int waits_for;			/* needs that are not done */
	int because;			/* skipped: index of the step that failed */
};

struct schedule {
	const struct plan *plan;
	struct sched_step *steps;
	int *dependents, *dependents_at;	/* reverse edges: steps i's are dependents[dependents_at[i] .. dependents_at[i+1]-1] */
	int at_once, running;
	size_t done;
	bool stopping;			/* nothing new starts */
	int next_hint;
};

int schedule_init(struct schedule *s, const struct plan *p, int at_once, struct err *e);
void schedule_release(struct schedule *s);
/* The next step that may start now (marked RUNNING), or -1.  Amortised O(1): a plan of
 * 10,000 steps is linear. */
int schedule_next(struct schedule *s);
/* step ended.  Dependents that can never run are marked DONE/SKIPPED; on_skip (may be
 * NULL) is called for each, in file order. */
void schedule_done(struct schedule *s, int step, enum step_status status,
		   void (*on_skip)(void *arg, int step, int because), void *arg);
/* Nothing new starts; waiting steps become skipped (because = -1). */
void schedule_stop(struct schedule *s, void (*on_skip)(void *arg, int step, int because), void *arg);
bool schedule_finished(const struct schedule *s);

#endif
