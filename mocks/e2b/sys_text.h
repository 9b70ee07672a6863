/* SPDX-License-Identifier: Apache-2.0
 *
 * sys_text - the words of an errno as Go says them: "no such file or directory". */
#ifndef FARSTEP_E2B_SYS_TEXT_H
#define FARSTEP_E2B_SYS_TEXT_H

/* Until the next call. */
const char *sys_text(int sys);

#endif
