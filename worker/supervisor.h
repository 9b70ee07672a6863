/* SPDX-License-Identifier: Apache-2.0
 *
 * supervisor - the first process: keeps the listening socket and the store, restarts the
 * worker, reaps, and ends everything when its time has come.  Knows no protocol. */
#ifndef FARSTEP_WORKER_SUPERVISOR_H
#define FARSTEP_WORKER_SUPERVISOR_H

#include "worker/options.h"

/* Runs until told to stop; returns the exit code. */
int supervisor_main(struct worker_options *o);

/* Descriptors that the worker finds. */
enum { WORKER_STORE_FD = 3, WORKER_LIFELINE_FD = 4, WORKER_LISTEN_FD = 5, WORKER_SELF_FD = 6 };

#endif
