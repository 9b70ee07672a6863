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
	enum step_status status; /* when DONE */
	int waits_for;           /* needs that are not done */
	int because;             /* skipped: index of the step that failed */
};

struct schedule {
	const struct plan *plan;
	struct sched_step *steps;
	int *dependents,
		*dependents_at; /* reverse edges: step i's are dependents[at[i]..at[i+1]-1] */
	int at_once, running;
	size_t done;
	bool stopping;                 /* nothing new starts */
	uint64_t *ready, *ready_words; /* bit i: step i may start; bit w: ready[w] is not 0 */
	int *work;                     /* room for every step */
};

/* at_once under 1 counts as 1.  p is borrowed. */
int schedule_init(struct schedule *s, const struct plan *p, int at_once, struct err *e);
void schedule_release(struct schedule *s);
/* The next step that may start now (marked RUNNING), or -1: none, or as many as may run at
 * once do.  A plan of 10,000 steps takes time linear in its steps and needs. */
int schedule_next(struct schedule *s);
/* step ended (one that never ran may end too: it was done before).  A step that is done
 * already stays as it is.  Dependents that can never run are marked DONE/SKIPPED; on_skip (may be
 * NULL) is called for each, in file order. */
void schedule_done(struct schedule *s, int step, enum step_status status,
                   void (*on_skip)(void *arg, int step, int because), void *arg);
/* Nothing new starts; waiting steps become skipped (because = -1). */
void schedule_stop(struct schedule *s, void (*on_skip)(void *arg, int step, int because),
                   void *arg);
bool schedule_finished(const struct schedule *s);

#endif
