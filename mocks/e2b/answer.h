/* SPDX-License-Identifier: Apache-2.0
 *
 * answer - what a server says in HTTP/1.x: the head, and where the body ends.  Pure computation. */
#ifndef FARSTEP_E2B_ANSWER_H
#define FARSTEP_E2B_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/err.h"

enum {
	ANSWER_HEADERS = 128,
	ANSWER_HEAD_MAX = 64 * 1024,
	CHUNK_LINE_MAX = 256,	/* size line or trailer of a chunked body */
};

struct answer_head {
	int status;
	struct {
		const char *name, *value;
	} header[ANSWER_HEADERS];
	size_t n;
};

enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_TO_END };

struct body {
	enum body_kind kind;
	bool done;
	uint64_t left;		/* of the body, or of this chunk */
	enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_CRLF, CHUNK_TRAILER } at;
	char line[CHUNK_LINE_MAX];
	size_t line_len;
};

/* Bytes of the head with its empty line at the front of text; 0 if that is not there yet. */
size_t answer_head_len(const char *text, size_t n);
/* text: exactly the head and one byte more to write a NUL to; it is taken apart in place and
 * must outlive *ret.  ERR_PROTO. */
int answer_parse(char *text, size_t n, struct answer_head *ret, struct err *e);
const char *answer_header(const struct answer_head *h, const char *name);	/* NULL if none */
/* How the body of this answer to a request of `method` is framed.  ERR_PROTO. */
int body_init(struct body *b, const struct answer_head *h, const char *method, struct err *e);
/* Takes some of n > 0 bytes: returns how many; *ret and *ret_n are the part that is body (maybe
 * none).  -1: ERR_PROTO.  b->done says that nothing more belongs to it. */
ssize_t body_next(struct body *b, const uint8_t *p, size_t n, const uint8_t **ret, size_t *ret_n,
		  struct err *e);

#endif
