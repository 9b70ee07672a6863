/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_spawn - starts one program on pipes or on a terminal, as another user if it may. */
#ifndef FARSTEP_E2B_ENVD_SPAWN_H
#define FARSTEP_E2B_ENVD_SPAWN_H

#include "mocks/e2b/envd_process.h"

struct spawned {
	pid_t pid;
	int in, out, err;	/* our ends, non-blocking; -1 where there is none */
};

/* A terminal is both in and out (two descriptors).  ERR_SPAWN with nothing left behind. */
int envd_spawn(const struct proc_spec *spec, struct spawned *ret, struct err *e);

#endif
