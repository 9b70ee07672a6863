/* SPDX-License-Identifier: Apache-2.0
 *
 * spare - one keeper that is started before a step needs it.
 *
 * To start a keeper and set it up takes longer than to run a short step.  So while a session is
 * open one more waits, its pipes made, for a plan.  The supervisor starts it, while we have other
 * things to do.  It is in no store yet, and ends by itself when this worker does. */
#ifndef FARSTEP_WORKER_SPARE_H
#define FARSTEP_WORKER_SPARE_H

#include <stdbool.h>
#include <sys/types.h>

#include "protocol/base/err.h"

struct worker;
struct store_message;

struct spare {
	pid_t pid;  /* 0: none waits */
	int fd;     /* our end of its socket, while one waits */
	bool asked; /* one is on its way */
};

/* Starts a keeper: its pid, and in *fd our end of its socket.  -1: e says why. */
pid_t keeper_spawn(int self_fd, int lifeline_fd, const char *sandbox_id, int *fd, struct err *e);

/* The waiting keeper, else one that is started now: pid and *fd are the caller's. */
pid_t spare_take(struct worker *w, int *fd, struct err *e);
/* Asks the supervisor for one if none waits; that it fails is no error. */
void spare_refill(struct worker *w);
/* No session is open: no process stays for one. */
void spare_drop(struct worker *w);
/* What it answered.  Takes m->fd. */
void spare_arrived(struct worker *w, struct store_message *m);

#endif
