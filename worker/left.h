/* SPDX-License-Identifier: Apache-2.0
 *
 * left - regular files in a session's working directory that nothing brought home.
 *
 * Known are the files of the package (package.list, written by the unpacking helper) and those
 * that steps handed over as artifacts (steps/STEP.N/files), each until it is changed again.
 * Whatever else is found was left.  The walk goes in slices of the loop and is bounded in
 * entries, depth and time; what it did not see makes the answer incomplete, never wrong. */
#ifndef FARSTEP_WORKER_LEFT_H
#define FARSTEP_WORKER_LEFT_H

#include "worker/session.h"

struct left;

/* session.left: r is answered when the walk has ended.  A second request takes the place of
 * the first, which is answered with ERR_REPLACED. */
void left_list(struct session *s, struct reply *r);
void left_free(struct left *l); /* NULL is fine; r gets an error */

#endif
