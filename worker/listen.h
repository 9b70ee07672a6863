/* SPDX-License-Identifier: Apache-2.0
 *
 * listen - the address a worker listens on: unix:PATH or HOST:PORT (numeric host). */
#ifndef FARSTEP_WORKER_LISTEN_H
#define FARSTEP_WORKER_LISTEN_H

#include "protocol/base/err.h"

/* Binds and listens: a non-blocking close-on-exec descriptor.  A unix socket that a dead
 * process left is replaced, a living one is refused. */
int listen_open(const char *address, struct err *e);
void listen_unlink(const char *address);	/* removes the unix socket's file */
/* Connects to it and asks for /healthz: 0 when the worker answers "200" within 2 s. */
int listen_health(const char *address, struct err *e);

#endif
