/* SPDX-License-Identifier: Apache-2.0
 *
 * stream - offsets and credit of one direction of one byte stream (README 5).
 *
 * Numbers only: who holds the bytes is the owner's business.  The sender's half
 * answers "how many bytes may go now", the receiver's half "is this piece the next
 * one" and "is a new grant due". */
#ifndef FARSTEP_STREAM_H
#define FARSTEP_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/err.h"
#include "protocol/frame.h"

struct stream_out {
	uint32_t channel;	/* 0: not bound to a connection */
	uint64_t sent;		/* next offset to send */
	uint64_t acked;		/* durable at the receiver */
	uint64_t limit;		/* granted */
	uint64_t total;		/* length, once known */
	bool ended;		/* total is final */
	bool end_sent;
};

/* Binds to a connection: the receiver has everything below offset for good and grants up
 * to window (absolute, as in a WINDOW frame).  The owner has checked acked <= offset and
 * that it holds the bytes from there. */
void stream_out_bind(struct stream_out *s, uint32_t channel, uint64_t offset, uint64_t window);
void stream_out_unbind(struct stream_out *s);
/* How many of the have bytes (stream length so far) may be sent in one frame now; 0 when
 * unbound. */
uint64_t stream_out_ready(const struct stream_out *s, uint64_t have);
/* The END flag is due: everything was sent and the end is known.  An empty DATA frame
 * carries it without credit; so does the last one with bytes, if the owner asks in time. */
bool stream_out_end_due(const struct stream_out *s);
void stream_out_sent(struct stream_out *s, uint64_t n, bool end);
/* A WINDOW frame; values that fall are ignored.  ERR_PROTO when it acknowledges bytes
 * that were never sent. */
int stream_out_window(struct stream_out *s, const struct frame *f, struct err *e);

struct stream_in {
	uint32_t channel;
	uint64_t next;		/* offset of the byte that must come next */
	uint64_t durable;	/* bytes below are safe here */
	uint64_t granted;	/* last limit given */
	uint64_t window;	/* how far ahead of durable we grant */
	bool ended;
};

/* Begins at offset: what lies below is durable here, what lies above comes (again), the
 * end too.  Nothing is granted yet: the first stream_in_grant says what goes into the
 * request or the WINDOW frame. */
void stream_in_bind(struct stream_in *s, uint32_t channel, uint64_t offset, uint64_t window);
void stream_in_unbind(struct stream_in *s);
/* A DATA frame: ERR_PROTO when it does not continue the stream, exceeds the grant, or
 * follows the end.  On 0, s->next has moved and s->ended is set by END. */
int stream_in_data(struct stream_in *s, const struct frame *f, struct err *e);
/* Is a WINDOW {durable, *limit} worth sending (the owner moved durable so far that half of
 * the window is free again, or force)?  Then s->granted is moved to *limit.  Once the
 * stream has ended only force is answered: the last bytes are acknowledged by it. */
bool stream_in_grant(struct stream_in *s, bool force, uint64_t *limit);

#endif
