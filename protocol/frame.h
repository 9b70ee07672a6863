/* SPDX-License-Identifier: Apache-2.0
 *
 * frame - the binary frame of protocol/README.md 2.2: 16 bytes, then payload. */
#ifndef FARSTEP_FRAME_H
#define FARSTEP_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"

#define FRAME_HEADER 16

enum frame_kind {
	FRAME_DATA = 1,
	FRAME_WINDOW = 2,
	FRAME_GAP = 3,
	FRAME_RESIZE = 4,
	FRAME_COMMAND = 5,
};
#define FRAME_END 1u	/* flag: the stream ends after this payload */

struct frame {
	uint8_t kind;
	uint8_t flags;
	uint32_t channel;
	uint64_t offset;
	const uint8_t *payload;	/* borrowed from the bytes that were parsed */
	size_t len;
};

/* One whole frame.  ERR_PROTO: short, unknown kind or flag, reserved bits, channel 0,
 * END on another kind than DATA, offset + len past 2^63, a WINDOW or GAP whose payload
 * is not 8 bytes, lies below its offset or past 2^63; ERR_LIMIT: payload over LIMIT_DATA;
 * ERR_UNSUPPORTED: a reserved kind. */
int frame_parse(const uint8_t *p, size_t n, struct frame *ret, struct err *e);
/* Writes the 16 header bytes. */
void frame_header(uint8_t out[FRAME_HEADER], uint8_t kind, uint8_t flags, uint32_t channel,
		  uint64_t offset);
/* The u64 of a WINDOW or GAP that frame_parse accepted. */
uint64_t frame_u64(const struct frame *f);

#endif
