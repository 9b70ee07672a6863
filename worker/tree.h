/* SPDX-License-Identifier: Apache-2.0
 *
 * tree - find and end everything that a process started.
 *
 * A keeper is a child subreaper, so what a step leaves behind becomes the
 * keeper's child: its descendants are exactly the step's processes, whatever
 * sessions or groups they moved to.  Needs /proc; without it only the process
 * group is reached, and tree_can_see() says so. */
#ifndef FARSTEP_WORKER_TREE_H
#define FARSTEP_WORKER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

bool tree_can_see(void);
/* sig to every living (not zombie) descendant of root and to process group pgid (0: none).
 * Returns how many got it. */
int tree_signal(pid_t root, pid_t pgid, int sig);
/* SIGKILL to every descendant of the calling process (a subreaper) and to pgid until
 * none is left: stops what it finds first, so that a fork bomb cannot outrun it.
 * Reaps what becomes a zombie child, except keep[] pids, which are neither killed nor
 * descended into.  Gives up after deadline_ms.  What they used is added to *used (NULL:
 * nobody asks).  Returns how many it ended, or -1 if some remain. */
int tree_end(pid_t pgid, const pid_t *keep, size_t n_keep, int deadline_ms, struct rusage *used);
/* Adds what one reaped child used: times and blocks as sums, max_rss as the largest. */
void tree_count(struct rusage *used, const struct rusage *one);

#endif
