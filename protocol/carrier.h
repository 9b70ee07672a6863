/* SPDX-License-Identifier: Apache-2.0
 *
 * carrier - one connection that moves whole frames; the part that every carrier shares.
 *
 * Outgoing frames wait in two queues: control (JSON, WINDOW) goes before bulk (DATA), so
 * that control never waits behind more than the one frame being written.  A frame is built
 * in place, with headroom for the framing of the carrier below, and copied nowhere.
 *
 * A carrier's driver (ws.c) takes frames with carrier_take when the socket accepts one, and
 * calls the on_ functions.  The upper layer sets them.  After on_closed the carrier is not
 * touched again by its driver; the upper layer calls carrier_release in it. */
#ifndef FARSTEP_CARRIER_H
#define FARSTEP_CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"
#include "protocol/frame.h"
#include "protocol/limits.h"

#define CARRIER_HEADROOM 32 /* bytes before the payload that the driver may overwrite */
#define CARRIER_SEAL     8  /* bytes behind it, at most, on a carrier that is checked */

enum close_code {
	CLOSE_DONE = 1000,
	CLOSE_AWAY = 1001,
	CLOSE_LOST = 1006, /* no close frame came */
	CLOSE_TOO_LARGE = 1009,
	CLOSE_REPLACED = 4001,
	CLOSE_PROTOCOL = 4002,
	CLOSE_DENIED = 4003,
	CLOSE_NO_ROOM = 4004,
	CLOSE_SILENT = 4005,
	CLOSE_ENDED = 4006,
	CLOSE_DAMAGED = 4007, /* the link changed or lost a frame: connect again */
};

struct out_frame {
	struct out_frame *next;
	bool binary, bulk;
	size_t len, room;
	uint8_t mem[]; /* CARRIER_HEADROOM bytes, the payload, CARRIER_SEAL bytes */
};
static inline uint8_t *out_frame_payload(struct out_frame *f)
{
	return f->mem + CARRIER_HEADROOM;
}

struct carrier {
	/* the driver's */
	void (*kick)(struct carrier *c); /* something waits to be written */
	void (*close)(struct carrier *c, int code,
	              const char *reason); /* after what is queued; on_closed follows */
	/* Reads nothing until it is let go; what was read already may still come.  May be NULL. */
	void (*hold)(struct carrier *c, bool on);
	/* the upper layer's */
	void (*on_frame)(struct carrier *c, bool binary, const uint8_t *p, size_t n);
	void (*on_room)(struct carrier *c); /* the bulk queue has room again */
	void (*on_closed)(struct carrier *c, int code, const char *reason);
	/* Every frame that is about to be written, without its seal; NULL: nobody looks. */
	void (*on_sent)(struct carrier *c, bool binary, const uint8_t *p, size_t n);
	void *user;
	/* shared state */
	struct {
		struct out_frame *head, **tail;
	} control, bulk;
	size_t queued; /* payload bytes in both */
	size_t queued_bulk;
	struct out_frame *spare;
	bool closing;
	bool checked; /* every frame carries a seal (README 1.3) */
	uint64_t frames_in, frames_out, bytes_in, bytes_out;
};

void carrier_init(struct carrier *c);
void carrier_release(struct carrier *c); /* frees the queues, not c */

/* A new frame of exactly n payload bytes, to be filled and pushed; NULL: ERR_NO_MEMORY, or
 * ERR_LIMIT when a peer that does not read let LIMIT_SEND_QUEUE_HARD pile up. */
struct out_frame *carrier_frame(struct carrier *c, bool binary, bool bulk, size_t n, struct err *e);
void carrier_push(struct carrier *c, struct out_frame *f);
int carrier_send_text(struct carrier *c, const void *p, size_t n, struct err *e);
int carrier_send_window(struct carrier *c, uint32_t channel, uint64_t durable, uint64_t limit,
                        struct err *e);
/* Is there room for one more bulk frame? */
static inline bool carrier_has_room(const struct carrier *c)
{
	return !c->closing && c->queued_bulk < LIMIT_SEND_QUEUE;
}

/* How many bytes the next DATA frame may carry: no more than this connection has carried in
 * all, from CARRIER_FIRST_PIECE on.  A frame that is cut is lost whole, so on a link that never
 * lives long full frames would never come through. */
#define CARRIER_FIRST_PIECE 4096
static inline uint64_t carrier_piece(const struct carrier *c)
{
	uint64_t n = c->bytes_out + c->queued;

	return n < CARRIER_FIRST_PIECE ? CARRIER_FIRST_PIECE : n < LIMIT_DATA ? n : LIMIT_DATA;
}

/* For drivers: the next frame to write, NULL if none; given back with carrier_written, or freed if
 * it could not be written. */
struct out_frame *carrier_take(struct carrier *c);
void carrier_written(struct carrier *c, struct out_frame *f);
/* Puts the seal behind the payload; how many bytes are to be written. */
size_t carrier_seal(const struct carrier *c, struct out_frame *f);
/* Is the frame p[0 .. *n) what was sent, and the next one?  Takes the seal off *n. */
bool carrier_unseal(const struct carrier *c, bool binary, const uint8_t *p, size_t *n);

#endif
