/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a binary frame.  What is accepted keeps its promises and is written back as it
 * came; then it goes through both halves of a stream, whose invariants must hold. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "protocol/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int cond)
{
	if (!cond)
		abort();
}

static void check_promises(const struct frame *f, const uint8_t *p, size_t n)
{
	uint8_t head[FRAME_HEADER];

	must(f->channel != 0);
	must(f->kind == FRAME_DATA || f->kind == FRAME_WINDOW || f->kind == FRAME_GAP);
	must(f->len == n - FRAME_HEADER && f->len <= LIMIT_DATA);
	must(f->payload == p + FRAME_HEADER);
	if (f->kind == FRAME_DATA)
		must(f->offset <= (UINT64_C(1) << 63) - f->len);
	else
		must(f->len == 8 && f->flags == 0 && frame_u64(f) >= f->offset);
	frame_header(head, f->kind, f->flags, f->channel, f->offset);
	must(memcmp(head, p, sizeof(head)) == 0);
}

/* A receiver that began somewhere before the frame. */
static void receive(const struct frame *f)
{
	struct stream_in in;
	uint64_t limit;
	struct err e = ERR_INIT;

	stream_in_bind(&in, f->channel, f->offset, f->len);
	must(stream_in_grant(&in, true, &limit));
	must(stream_in_data(&in, f, &e) == 0);
	must(in.next == f->offset + f->len);
	in.durable = in.next;
	if (stream_in_grant(&in, false, &limit))
		must(limit >= in.next);
	/* The same again is a protocol error, unless it was nothing. */
	if (f->len || f->flags & FRAME_END)
		must(stream_in_data(&in, f, &e) < 0 && e.code == ERR_PROTO);
}

static void send(const struct frame *f)
{
	struct stream_out out = { 0 };
	struct err e = ERR_INIT;
	uint64_t have = f->offset + 10;

	must(stream_out_window(&out, f, &e) == 0); /* unbound: ignored */
	must(stream_out_ready(&out, have) == 0);
	stream_out_bind(&out, f->channel, 0, 0);
	if (stream_out_window(&out, f, &e) < 0) {
		must(f->offset > 0);
		stream_out_bind(&out, f->channel, f->offset, 0);
		must(stream_out_window(&out, f, &e) == 0);
	}
	must(out.acked <= out.sent && out.limit == frame_u64(f));
	while (stream_out_ready(&out, have)) {
		uint64_t more = stream_out_ready(&out, have);

		must(out.sent + more <= have && out.sent + more <= out.limit && more <= LIMIT_DATA);
		stream_out_sent(&out, more, false);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct frame f;
	struct err e = ERR_INIT;

	if (frame_parse(p, n, &f, &e) < 0) {
		must(e.code == ERR_PROTO || e.code == ERR_LIMIT || e.code == ERR_UNSUPPORTED);
		must(e.msg[0] != 0);
		return 0;
	}
	check_promises(&f, p, n);
	if (f.kind == FRAME_DATA)
		receive(&f);
	else
		send(&f);
	return 0;
}
