/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_kill - the end of all that was started. */
#ifndef FARSTEP_E2B_ENVD_KILL_H
#define FARSTEP_E2B_ENVD_KILL_H

/* Kills and reaps all children, and theirs: children of those who die become those of a
 * subreaper, which the caller is.  Blocks for at most 2 s; what is left then is told to the log. */
void kill_descendants(void);

#endif
