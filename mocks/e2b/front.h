/* SPDX-License-Identifier: Apache-2.0
 *
 * front - the mock's one port: takes requests and says whom each is for. */
#ifndef FARSTEP_E2B_FRONT_H
#define FARSTEP_E2B_FRONT_H

#include "mocks/e2b/cloud.h"
#include "mocks/e2b/http.h"

/* Takes listen_fd. */
struct http_server *front_start(struct cloud *c, int listen_fd, struct err *e);
/* Between two passes of the loop. */
void front_reap(void);
void front_end(struct http_server *s);	/* NULL is fine */

#endif
