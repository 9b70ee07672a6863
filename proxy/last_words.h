/* SPDX-License-Identifier: Apache-2.0
 *
 * last_words - what a worker that never got ready said last on its standard error.
 *
 * Knows a log file; knows nothing of sandboxes or links. */
#ifndef FARSTEP_PROXY_LAST_WORDS_H
#define FARSTEP_PROXY_LAST_WORDS_H

#include <stddef.h>
#include <sys/types.h>

#include "protocol/base/err.h"

/* The last line that is not empty, of what is in the file from that offset on, clipped to
 * size - 1 bytes, control characters as '?'.  "" when there is none. */
void last_words(int fd, off_t from, char *out, size_t size);
/* Adds them to the error for which a worker never answered.  "Lost" becomes ERR_PROVIDER: there
 * was nothing to lose yet.  An error with code 0 stays as it is. */
void last_words_explain(int fd, off_t from, struct err *e);

#endif
