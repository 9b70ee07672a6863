/* SPDX-License-Identifier: Apache-2.0
 *
 * problems - what is wrong with a file, all of it, in the order of its lines. */
#ifndef FARSTEP_PROXY_PROBLEMS_H
#define FARSTEP_PROXY_PROBLEMS_H

#include <stdbool.h>

#include "protocol/base/buf.h"

enum { PROBLEMS_MAX = 200 };	/* the rest is counted */

struct problem {
	int line;
	char *text;
};

struct problems {
	struct problem list[PROBLEMS_MAX];
	size_t n;
	size_t dropped;
	size_t mistakes;	/* the others are things not built yet */
	bool no_memory;
};

void problems_release(struct problems *p);
/* A mistake.  Control characters of what users wrote come out as '?'. */
void problems_add(struct problems *p, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* `what` is right, but not built yet. */
void problems_unsupported(struct problems *p, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* 0 when there is none.  Else -1, every "FILE:LINE: text\n" in all (may be NULL; what does not
 * fit is left out), and in e the first and how many more: ERR_PIPELINE, or ERR_UNSUPPORTED
 * when nothing is wrong but things not built yet. */
int problems_report(struct problems *p, const char *file, struct buf *all, struct err *e);

#endif
