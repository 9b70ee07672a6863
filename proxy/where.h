/* SPDX-License-Identifier: Apache-2.0
 *
 * where - finds farstep's own files on this machine. */
#ifndef FARSTEP_PROXY_WHERE_H
#define FARSTEP_PROXY_WHERE_H

#include "protocol/base/err.h"

/* The worker's program: FARSTEP_WORKER, else beside this program, else ../lib/farstep. */
int worker_path(char out[1024], struct err *e);

#endif
