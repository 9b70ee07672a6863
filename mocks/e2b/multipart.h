/* SPDX-License-Identifier: Apache-2.0
 *
 * multipart - takes a multipart/form-data body apart, whatever its borders.  Pure computation. */
#ifndef FARSTEP_E2B_MULTIPART_H
#define FARSTEP_E2B_MULTIPART_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"

enum { MULTIPART_BOUNDARY_MAX = 70, MULTIPART_HEAD_MAX = 10 * 1024 };

struct multipart_part {
	const char *name;	/* of the form field; NULL if it has none */
	const char *filename;	/* as it came, with its directories; NULL if it has none */
};

/* Each may stop the parser by returning -1 with *e set. */
struct multipart_calls {
	int (*on_part)(void *arg, const struct multipart_part *p, struct err *e);
	int (*on_data)(void *arg, const uint8_t *p, size_t n, struct err *e);
	int (*on_part_end)(void *arg, struct err *e);
};

struct multipart {
	const struct multipart_calls *calls;
	void *arg;
	char mark[MULTIPART_BOUNDARY_MAX + 8];	/* CRLF "--" boundary */
	size_t mark_len;
	int state;
	struct buf held;	/* bytes that may be part of a mark or a head */
};

/* content_type: of the request.  ERR_PARSE without a (legal) boundary. */
int multipart_init(struct multipart *m, const char *content_type,
		   const struct multipart_calls *calls, void *arg, struct err *e);
void multipart_release(struct multipart *m);
int multipart_feed(struct multipart *m, const uint8_t *p, size_t n, struct err *e);
/* The body is over: ERR_PARSE unless the last boundary was there. */
int multipart_end(const struct multipart *m, struct err *e);

/* The parameter of a header value such as `form-data; name="x"`, appended to out without quotes.
 * 1 if there, 0 if not. */
int header_param(const char *value, const char *name, struct buf *out, struct err *e);

#endif
