/* SPDX-License-Identifier: Apache-2.0
 *
 * lines - cuts a byte stream into lines; a partial line is kept for the next
 * piece, a line over the bound is dropped whole and counted. */
#ifndef FARSTEP_LINES_H
#define FARSTEP_LINES_H

#include <stdbool.h>

#include "protocol/base/buf.h"

struct lines {
	struct buf part; /* what has no newline yet */
	size_t max;
	bool skipping;     /* inside a line that was too long */
	uint64_t too_long; /* how many were dropped */
	uint64_t taken;    /* bytes of the stream up to the end of the last line handed out */
	uint64_t seen;     /* bytes fed */
};

void lines_init(struct lines *l, size_t max_line);
void lines_release(struct lines *l);
/* Calls on_line for every complete line, without its newline (not NUL-terminated).
 * -1 when on_line returned -1 (the rest is lost) or memory ran out. */
int lines_feed(struct lines *l, const void *p, size_t n,
               int (*on_line)(void *arg, const char *line, size_t len, struct err *e), void *arg,
               struct err *e);
/* The last line if it has no newline; at the end of the stream. */
int lines_finish(struct lines *l,
                 int (*on_line)(void *arg, const char *line, size_t len, struct err *e), void *arg,
                 struct err *e);

#endif
