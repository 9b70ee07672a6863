/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/stream.h"

#include <assert.h>
#include <inttypes.h>

#include "protocol/limits.h"

#define OFFSET_MAX (UINT64_C(1) << 63)

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- the sender --- */

void stream_out_bind(struct stream_out *s, uint32_t channel, uint64_t offset, uint64_t window)
{
	s->channel = channel;
	s->sent = offset;
	s->acked = larger(s->acked, offset);
	s->limit = window;
	s->end_sent = false;
}

void stream_out_unbind(struct stream_out *s)
{
	s->channel = 0;
	s->limit = 0;
}

uint64_t stream_out_ready(const struct stream_out *s, uint64_t have)
{
	uint64_t until = smaller(s->limit, s->ended ? smaller(have, s->total) : have);

	if (s->channel == 0 || until <= s->sent)
		return 0;
	return smaller(until - s->sent, LIMIT_DATA);
}

bool stream_out_end_due(const struct stream_out *s)
{
	return s->channel && s->ended && !s->end_sent && s->sent == s->total;
}

void stream_out_sent(struct stream_out *s, uint64_t n, bool end)
{
	assert(n <= larger(s->limit, s->sent) - s->sent && !s->end_sent);
	s->sent += n;
	if (end) {
		assert(s->ended && s->sent == s->total);
		s->end_sent = true;
	}
}

int stream_out_window(struct stream_out *s, const struct frame *f, struct err *e)
{
	if (s->channel == 0)
		return 0;
	if (f->offset > s->sent)
		return err_set(e, ERR_PROTO, 0,
			       "channel %" PRIu32 ": acknowledges %" PRIu64 " bytes, %" PRIu64
			       " were sent", s->channel, f->offset, s->sent);
	s->acked = larger(s->acked, f->offset);
	s->limit = larger(s->limit, frame_u64(f));
	return 0;
}

/* --- the receiver --- */

void stream_in_bind(struct stream_in *s, uint32_t channel, uint64_t offset, uint64_t window)
{
	*s = (struct stream_in){
		.channel = channel,
		.next = offset,
		.durable = offset,
		.granted = offset,
		.window = window,
	};
}

void stream_in_unbind(struct stream_in *s)
{
	s->channel = 0;
}

int stream_in_data(struct stream_in *s, const struct frame *f, struct err *e)
{
	if (s->ended)
		return err_set(e, ERR_PROTO, 0, "channel %" PRIu32 ": data after the end",
			       s->channel);
	if (f->offset != s->next)
		return err_set(e, ERR_PROTO, 0,
			       "channel %" PRIu32 ": data at %" PRIu64 ", want it at %" PRIu64,
			       s->channel, f->offset, s->next);
	if (f->len > s->granted - s->next)
		return err_set(e, ERR_PROTO, 0,
			       "channel %" PRIu32 ": %zu bytes at %" PRIu64
			       " pass the granted %" PRIu64,
			       s->channel, f->len, f->offset, s->granted);
	s->next += f->len;
	s->ended = f->flags & FRAME_END;
	return 0;
}

bool stream_in_grant(struct stream_in *s, bool force, uint64_t *limit)
{
	uint64_t until;

	if (s->channel == 0)
		return false;
	until = larger(s->granted, s->durable + smaller(s->window, OFFSET_MAX - s->durable));
	if (!force && (s->ended || until == s->granted || until - s->granted < s->window / 2))
		return false;
	s->granted = until;
	*limit = until;
	return true;
}
