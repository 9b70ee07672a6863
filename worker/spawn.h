/* SPDX-License-Identifier: Apache-2.0
 *
 * spawn - start one program with its descriptors where it expects them.
 *
 * Knows fork, exec and descriptors; knows nothing of steps, JSON or sockets. */
#ifndef FARSTEP_WORKER_SPAWN_H
#define FARSTEP_WORKER_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/err.h"
#include "protocol/receipt.h"

struct spawn_spec {
	char *const *argv; /* argv[0]: a path if it holds '/', else searched in PATH of envp */
	char *const *envp;
	const char *cwd;
	int fds[4]; /* what becomes descriptor 0, 1, 2, 3; -1: /dev/null (0-2) or closed (3) */
	uint64_t memory_bytes; /* of data, for it and each of its children; 0: no bound */
	bool traced; /* by us: it is stopped when it has reached exec (crash.h) */
};

struct spawn_failure {
	enum spawn_stage stage;
	int sys; /* errno */
};

/* Returns once the child has reached exec: its pid (also its session and process
 * group), with everything but descriptors 0-3 closed, default signal dispositions,
 * nothing blocked; or -1 with no process left behind and *why filled (e too:
 * "PROGRAM: exec: No such file or directory").  Blocks only for that handshake.
 * A script without "#!" is an error (ENOEXEC), not run by a shell. */
pid_t spawn(const struct spawn_spec *spec, struct spawn_failure *why, struct err *e);

#endif
