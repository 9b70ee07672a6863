/* SPDX-License-Identifier: Apache-2.0
 *
 * spare - keepers that are there before a step needs them.
 *
 * To start a keeper and set it up takes longer than to run a short step.  So while a session is
 * open some wait, their pipes made, for a plan: one that the supervisor starts when the session
 * opens, while we have other things to do, and those whose step is over and left nothing.  They
 * end when this worker does: the next one begins with none. */
#ifndef FARSTEP_WORKER_SPARE_H
#define FARSTEP_WORKER_SPARE_H

#include <stdbool.h>
#include <sys/types.h>

#include "protocol/base/err.h"

struct worker;
struct store_message;

#define SPARE_MAX 4 /* more end: each has 0.7 MiB */

struct keeper_ref {
	pid_t pid;
	int fd;      /* our end of its socket */
	bool stored; /* the supervisor has that end, too */
};

struct spare {
	struct keeper_ref idle[SPARE_MAX]; /* the one that worked last is the last: it is warm */
	int n;
	bool asked; /* one is on its way */
};

/* Starts a keeper: its pid, and in *fd our end of its socket.  -1: e says why. */
pid_t keeper_spawn(int self_fd, int lifeline_fd, const char *sandbox_id, int *fd, struct err *e);

/* The supervisor keeps its socket, for a worker that comes after this one, under what ("SESSION/
 * STEP/ATTEMPT") from now on. */
int keeper_store(struct worker *w, struct keeper_ref *k, const char *what, struct err *e);
/* The supervisor keeps no socket of it any more. */
void keeper_forget(struct worker *w, pid_t pid);
/* We do not either: it ends, if it has no step. */
void keeper_drop(struct worker *w, struct keeper_ref *k);

/* A waiting keeper, else one that is started now; it is the caller's. */
int spare_take(struct worker *w, struct keeper_ref *ret, struct err *e);
/* Its step is over: it waits for another one. */
void spare_give(struct worker *w, struct keeper_ref *k);
/* Asks the supervisor for one if none waits; that it fails is no error. */
void spare_refill(struct worker *w);
/* No session is open, or all that no step needs is about to be ended: none stays. */
void spare_drop(struct worker *w);
/* What it answered.  Takes m->fd. */
void spare_arrived(struct worker *w, struct store_message *m);

#endif
