/* SPDX-License-Identifier: Apache-2.0
 *
 * child - a process that shares our memory until it execs, and what it does before.
 *
 * As vfork does it, but on a stack of its own: starting costs 0.1 ms however large we are, where
 * fork and a status pipe took 0.25 ms at 1 MiB and 2 ms at 64 MiB.  We sleep meanwhile, so what
 * the child writes into our memory is an answer.  Everything below run_child that has IN_CHILD
 * makes async-signal-safe calls only. */
#ifndef FARSTEP_WORKER_CHILD_H
#define FARSTEP_WORKER_CHILD_H

#include <sys/types.h>

/* Sanitizers mark stack memory and clear the marks on return, but these functions end in exec. */
#define IN_CHILD __attribute__((no_sanitize_address))

/* Runs fn(arg) in a child until it execs or exits, all signals blocked.  Not reentrant.  Returns
 * the pid, or -1 with errno. */
pid_t run_child(int (*fn)(void *arg), void *arg);

/* Descriptors from `first` on will not survive exec; -1 with errno. */
IN_CHILD int child_close_on_exec(int first);
/* No signal ignored or blocked: both would stay so through exec. */
IN_CHILD void child_reset_signals(void);

#endif
