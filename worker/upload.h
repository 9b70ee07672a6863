/* SPDX-License-Identifier: Apache-2.0
 *
 * upload - a package on its way in: bytes to package.part, digest, unpacking by the helper.
 *
 * A session takes one package.  What is received survives connections and the worker: the
 * file's size is the next offset. */
#ifndef FARSTEP_WORKER_UPLOAD_H
#define FARSTEP_WORKER_UPLOAD_H

#include "worker/session.h"

/* package.load; r is answered when the package is unpacked or refused. */
void upload_load(struct session *s, struct conn *c, const json *params, struct reply *r);
void upload_free(struct upload *u);
/* What a worker before us left: NULL when there was nothing. */
struct upload *upload_recover(struct session *s);
/* A child of the worker ended: is it the unpacking helper of some session? */
bool upload_on_child(struct worker *w, pid_t pid, int status);

#endif
