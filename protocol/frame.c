/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/frame.h"

#include <string.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"

#define OFFSET_MAX (UINT64_C(1) << 63)	/* so that sums of an offset and a length never wrap */

static int check_kind(const struct frame *f, struct err *e)
{
	switch (f->kind) {
	case FRAME_DATA:
	case FRAME_WINDOW:
	case FRAME_GAP:
		return 0;
	case FRAME_RESIZE:
	case FRAME_COMMAND:
		return err_set(e, ERR_UNSUPPORTED, 0, "frame: kind %u is reserved", f->kind);
	default:
		return err_set(e, ERR_PROTO, 0, "frame: unknown kind %u", f->kind);
	}
}

static int check_payload(const struct frame *f, struct err *e)
{
	if (f->len > LIMIT_DATA)
		return err_set(e, ERR_LIMIT, 0, "frame: %zu bytes of payload, the maximum is %d",
			       f->len, LIMIT_DATA);
	if (f->kind == FRAME_DATA) {
		if (f->offset > OFFSET_MAX - f->len)
			return err_set(e, ERR_PROTO, 0, "frame: ends past 2^63");
		return 0;
	}
	if (f->len != 8)
		return err_set(e, ERR_PROTO, 0, "frame: want 8 bytes of payload, got %zu",
			       f->len);
	if (frame_u64(f) < f->offset || frame_u64(f) > OFFSET_MAX)
		return err_set(e, ERR_PROTO, 0,
			       "frame: the payload is below the offset or past 2^63");
	return 0;
}

int frame_parse(const uint8_t *p, size_t n, struct frame *ret, struct err *e)
{
	struct frame f;

	if (n < FRAME_HEADER)
		return err_set(e, ERR_PROTO, 0, "frame: %zu bytes are no header", n);
	f.kind = p[0];
	f.flags = p[1];
	f.channel = get_u32(p + 4);
	f.offset = get_u64(p + 8);
	f.payload = p + FRAME_HEADER;
	f.len = n - FRAME_HEADER;
	if (p[2] || p[3])
		return err_set(e, ERR_PROTO, 0, "frame: reserved bytes are not 0");
	if (f.channel == 0)
		return err_set(e, ERR_PROTO, 0, "frame: channel 0");
	if (check_kind(&f, e) < 0)
		return -1;
	if (f.flags & ~(f.kind == FRAME_DATA ? FRAME_END : 0u))
		return err_set(e, ERR_PROTO, 0, "frame: flags %#x on kind %u", f.flags, f.kind);
	if (check_payload(&f, e) < 0)
		return -1;
	*ret = f;
	return 0;
}

void frame_header(uint8_t out[FRAME_HEADER], uint8_t kind, uint8_t flags, uint32_t channel,
		  uint64_t offset)
{
	memset(out, 0, FRAME_HEADER);
	out[0] = kind;
	out[1] = flags;
	put_u32(out + 4, channel);
	put_u64(out + 8, offset);
}

uint64_t frame_u64(const struct frame *f)
{
	return get_u64(f->payload);
}
