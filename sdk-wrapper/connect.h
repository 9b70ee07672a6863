/* SPDX-License-Identifier: Apache-2.0
 *
 * connect - the envelopes of Connect streams; pure: fed with bytes, in whatever pieces.
 *
 * An envelope is flags (1 byte), length (4 bytes, big endian), JSON.  The last one of a stream
 * has flag 2; a stream without it was dropped on the way, whatever the HTTP status said. */
#ifndef FARSTEP_SDK_CONNECT_H
#define FARSTEP_SDK_CONNECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/buf.h"

#define CONNECT_COMPRESSED 1u
#define CONNECT_END 2u

enum { CONNECT_HEADER = 5 };

struct connect_reader {
	struct buf in;
	bool ended;		/* the end envelope has come */
	char code[40];		/* of the error in it; "" when there is none */
	char message[240];
};

void connect_init(struct connect_reader *r);
void connect_release(struct connect_reader *r);

/* Takes n bytes; on_message is called for each complete message (not for the end), and may
 * end the reading by returning -1.  ERR_PROTO: compressed, too long, unknown flags, bytes behind
 * the end, an end that is no JSON.  After -1 the stream is of no use any more. */
int connect_feed(struct connect_reader *r, const uint8_t *p, size_t n,
		 int (*on_message)(void *user, const char *text, size_t len, struct err *e),
		 void *user, struct err *e);

/* One envelope around a message. */
int connect_envelope(struct buf *out, const void *text, size_t len, struct err *e);

#endif
