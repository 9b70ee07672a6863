/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox_box - the box of a sandbox: what its process 1 is started with, and its door. */
#ifndef FARSTEP_E2B_SANDBOX_BOX_H
#define FARSTEP_E2B_SANDBOX_BOX_H

#include "mocks/e2b/sandbox.h"

enum { SANDBOX_DIR = 512 };

void sandbox_dir(const struct sandbox *s, char ret[SANDBOX_DIR]);
/* On the directory that there is; when process 1 ends by itself the sandbox is killed. */
int sandbox_box_start(struct sandbox *s, struct err *e);
void sandbox_box_stop(struct sandbox *s);	/* one that has none is fine */

#endif
