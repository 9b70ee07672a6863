/* SPDX-License-Identifier: Apache-2.0
 *
 * gzip - as a content encoding, in pieces.  Over zlib, which only gzip.c knows. */
#ifndef FARSTEP_E2B_GZIP_H
#define FARSTEP_E2B_GZIP_H

#include <stdbool.h>

#include "protocol/base/buf.h"

struct gzip;

struct gzip *gzip_writer(struct err *e);
struct gzip *gzip_reader(struct err *e);
void gzip_free(struct gzip *z);		/* NULL is fine */

/* Turns n bytes into what they become, appended to out; the writer's last call says last.  The
 * reader takes at most so many bytes as fill out, *used of them: call again with the rest (and
 * once more with none) until out is no longer full. */
int gzip_write(struct gzip *z, const void *p, size_t n, bool last, struct buf *out,
	       struct err *e);
int gzip_read(struct gzip *z, const void *p, size_t n, size_t *used, struct buf *out,
	      struct err *e);
/* Has the reader seen the end of the data? */
bool gzip_at_end(const struct gzip *z);

/* All of it at once. */
int gzip_all(const void *p, size_t n, struct buf *out, struct err *e);
int gunzip_all(const void *p, size_t n, struct buf *out, struct err *e);

#endif
