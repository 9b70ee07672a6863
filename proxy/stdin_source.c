/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stdin_source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/limits.h"
#include "protocol/stream.h"

#define KEEP_MAX (2 * WINDOW_STDIN)

struct stdin_source {
	struct loop *loop;
	struct loop_io io;
	int fd;
	bool pollable, ended;
	struct buf keep; /* from out.acked on */
	struct stream_out out;
	struct link *link;
};

static void on_readable(struct loop_io *io, unsigned got);

/* Reads once; a regular file never blocks, a pipe is known to be ready. */
static void read_some(struct stdin_source *s)
{
	uint8_t *at;
	ssize_t n;

	if (s->ended || buf_room(&s->keep) < LIMIT_DATA)
		return;
	at = buf_reserve(&s->keep, LIMIT_DATA, NULL);
	if (!at)
		return;
	n = read(s->fd, at, LIMIT_DATA);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		s->ended = true;
		loop_io_stop(&s->io);
	} else {
		buf_commit(&s->keep, (size_t)n);
	}
}

static uint64_t have(const struct stdin_source *s)
{
	return s->out.acked + buf_len(&s->keep);
}

static void want_more(struct stdin_source *s)
{
	bool more = !s->ended && buf_room(&s->keep) >= LIMIT_DATA && s->out.channel;

	if (!s->pollable || s->ended)
		return;
	if (!more) {
		loop_io_stop(&s->io);
	} else if (!s->io.loop &&
	           loop_io_start(s->loop, &s->io, s->fd, LOOP_IN, on_readable, NULL) < 0) {
		s->pollable = false; /* /dev/null and the like: never wait, never poll */
		stdin_source_pump(s);
	}
}

static bool send_one(struct stdin_source *s)
{
	struct carrier *c = link_carrier(s->link);
	uint64_t n;
	struct out_frame *f;
	bool end;

	if (!c || !s->out.channel || !carrier_has_room(c))
		return false;
	s->out.ended = s->ended;
	s->out.total = have(s);
	n = stream_out_ready(&s->out, have(s));
	if (n > carrier_piece(c))
		n = carrier_piece(c);
	if (!n && !stream_out_end_due(&s->out))
		return false;
	f = carrier_frame(c, true, true, FRAME_HEADER + (size_t)n, NULL);
	if (!f)
		return false;
	end = s->ended && s->out.sent + n == s->out.total;
	frame_header(out_frame_payload(f), FRAME_DATA, end ? FRAME_END : 0, s->out.channel,
	             s->out.sent);
	if (n)
		memcpy(out_frame_payload(f) + FRAME_HEADER,
		       buf_data(&s->keep) + (s->out.sent - s->out.acked), (size_t)n);
	stream_out_sent(&s->out, n, end);
	carrier_push(c, f);
	return true;
}

void stdin_source_pump(struct stdin_source *s)
{
	do {
		if (!s->pollable)
			while (!s->ended && have(s) == s->out.sent &&
			       buf_room(&s->keep) >= LIMIT_DATA)
				read_some(s);
	} while (send_one(s));
	want_more(s);
}

static void on_readable(struct loop_io *io, unsigned got)
{
	struct stdin_source *s =
		(struct stdin_source *)((char *)io - offsetof(struct stdin_source, io));

	(void)got;
	read_some(s);
	stdin_source_pump(s);
}

static void on_window(void *owner, const struct frame *f)
{
	struct stdin_source *s = owner;
	uint64_t before = s->out.acked;
	struct err e = ERR_INIT;

	/* The worker may have got more than it could tell before the last connection was lost. */
	if (f->kind == FRAME_WINDOW && f->offset > s->out.sent && f->offset <= have(s))
		s->out.sent = f->offset;
	if (f->kind != FRAME_WINDOW || stream_out_window(&s->out, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "standard input: want WINDOW frames");
		link_fail(s->link, &e);
		return;
	}
	buf_consume(&s->keep, (size_t)(s->out.acked - before));
	stdin_source_pump(s);
}

void stdin_source_bind(struct stdin_source *s, struct link *l, struct jw *w)
{
	uint64_t acked = s->out.acked;

	s->link = l;
	/* Everything after what the worker acknowledged is sent again; it drops what it has. */
	stream_out_bind(&s->out, link_bind(l, s, on_window), acked, acked);
	jw_kobj(w, "stdin");
	jw_kint(w, "channel", s->out.channel);
	jw_ku64s(w, "offset", acked);
	jw_end(w);
}

struct stdin_source *stdin_source_new(struct loop *l, int fd, struct err *e)
{
	struct stdin_source *s = calloc(1, sizeof(*s));
	struct stat st;

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "standard input");
		return NULL;
	}
	s->loop = l;
	s->fd = fd;
	buf_init(&s->keep, KEEP_MAX);
	if (fstat(fd, &st) < 0)
		s->ended = true;
	else
		s->pollable = !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
	return s;
}

void stdin_source_free(struct stdin_source *s)
{
	if (!s)
		return;
	loop_io_stop(&s->io);
	buf_release(&s->keep);
	free(s);
}
