/* SPDX-License-Identifier: Apache-2.0
 *
 * self - this program as a sealed memory file, and how its other roles are started.
 *
 * A step under the same user could otherwise swap the file that the next keeper runs from. */
#ifndef FARSTEP_WORKER_SELF_H
#define FARSTEP_WORKER_SELF_H

#include <stdbool.h>
#include <sys/types.h>

#include "protocol/base/err.h"

/* A close-on-exec descriptor of the running program: a sealed copy in memory where the
 * kernel allows (*sealed), else the file itself.  Needs no /proc (AT_EXECFN). */
int self_open(bool *sealed, struct err *e);

/* Starts the program again with argv; the child's descriptors 0-2 are ours, 3.. are fds[],
 * everything else is closed; no signal blocked or ignored.  Returns its pid. */
pid_t self_spawn(int self_fd, char *const argv[], const int *fds, int n_fds, struct err *e);

/* Not dumpable: no ptrace, no /proc/PID/mem for others of the same user.  First thing in
 * every role. */
void self_protect(void);

#endif
