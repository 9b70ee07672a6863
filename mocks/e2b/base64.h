/* SPDX-License-Identifier: Apache-2.0
 *
 * base64 - as JSON messages carry bytes: standard alphabet with padding on the way out, either
 * alphabet with or without padding on the way in.  Over nettle. */
#ifndef FARSTEP_E2B_BASE64_H
#define FARSTEP_E2B_BASE64_H

#include "protocol/base/buf.h"

/* Both append to out. */
int base64_put(const void *p, size_t n, struct buf *out, struct err *e);
int base64_take(const char *text, struct buf *out, struct err *e);	/* ERR_PARSE */

#endif
