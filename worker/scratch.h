/* SPDX-License-Identifier: Apache-2.0
 *
 * scratch - places beside the sessions' own directories that programs write into: /tmp and the
 * like.  In a sandbox that is used again they are emptied of what sessions left there.
 *
 * Knows nothing of sessions.  What was there before the first of them is remembered by name and
 * stays; what became of its contents is not looked at. */
#ifndef FARSTEP_WORKER_SCRATCH_H
#define FARSTEP_WORKER_SCRATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"

#define SCRATCH_KNOWN_MAX (64 * 1024)

/* places: absolute paths with ':' between them; one that is missing has nothing in it.  Appends the
 * path of each entry, NUL-ended.  ERR_LIMIT: over SCRATCH_KNOWN_MAX bytes. */
int scratch_look(const char *places, struct buf *known, struct err *e);
/* Removes every entry whose path is not among the n bytes of known, until until_ns (0: as long as
 * it takes).  false: there is more, to be called again.  What cannot be removed is logged at the
 * end. */
bool scratch_empty(const char *places, const void *known, size_t n, uint64_t until_ns);

#endif
