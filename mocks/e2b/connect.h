/* SPDX-License-Identifier: Apache-2.0
 *
 * connect - the Connect protocol's own pieces: codes, envelopes, errors.  Pure computation.
 *
 * A stream is a sequence of envelopes: flags (1 byte), length (4 bytes, big endian), message. */
#ifndef FARSTEP_E2B_CONNECT_H
#define FARSTEP_E2B_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"

enum {
	ENVELOPE_HEAD = 5,
	ENVELOPE_COMPRESSED = 1,
	ENVELOPE_END = 2,
	CONNECT_MESSAGE_MAX = 16 * 1024 * 1024,	/* one message, either way */
};

enum connect_code {
	CONNECT_OK = 0,
	CONNECT_CANCELED,
	CONNECT_UNKNOWN,
	CONNECT_INVALID_ARGUMENT,
	CONNECT_DEADLINE_EXCEEDED,
	CONNECT_NOT_FOUND,
	CONNECT_ALREADY_EXISTS,
	CONNECT_PERMISSION_DENIED,
	CONNECT_RESOURCE_EXHAUSTED,
	CONNECT_FAILED_PRECONDITION,
	CONNECT_ABORTED,
	CONNECT_OUT_OF_RANGE,
	CONNECT_UNIMPLEMENTED,
	CONNECT_INTERNAL,
	CONNECT_UNAVAILABLE,
	CONNECT_DATA_LOSS,
	CONNECT_UNAUTHENTICATED,
};
const char *connect_name(enum connect_code c);	/* "not_found"; "ok" for CONNECT_OK */
int connect_status(enum connect_code c);	/* the HTTP status of a unary error */

/* {"code":"..","message":".."}, appended to out. */
int connect_error(enum connect_code c, const char *message, struct buf *out, struct err *e);
/* The last envelope of a stream, appended to out; message may be NULL for CONNECT_OK. */
int connect_end(enum connect_code c, const char *message, struct buf *out, struct err *e);
int envelope_put(uint8_t flags, const void *p, size_t n, struct buf *out, struct err *e);

/* Takes a stream apart at any border. */
struct envelope_reader {
	uint8_t head[ENVELOPE_HEAD];
	size_t have;		/* bytes of head */
	struct buf message;	/* whole when envelope_feed returned 1 */
	size_t max;
};
void envelope_reader_init(struct envelope_reader *r, size_t max);
void envelope_reader_release(struct envelope_reader *r);
/* Takes what belongs to the envelope at hand, *used of n bytes.  1: it is whole, and stands until
 * the next call; 0: more is needed; -1: ERR_LIMIT, longer than max. */
int envelope_feed(struct envelope_reader *r, const uint8_t *p, size_t n, size_t *used,
		  struct err *e);
static inline uint8_t envelope_flags(const struct envelope_reader *r) { return r->head[0]; }
/* Did the stream end between two envelopes? */
bool envelope_at_border(const struct envelope_reader *r);

/* Connect-Timeout-Ms: up to ten digits; 0, for none, when text is NULL or "0". */
int connect_timeout(const char *text, uint64_t *ret_ms, struct err *e);

#endif
