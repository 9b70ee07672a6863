/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/tunnel.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

static void end(struct tunnel *t)
{
	loop_io_stop(&t->side[0].io);
	loop_io_stop(&t->side[1].io);
	t->on_end(t);
}

static void watch(struct tunnel_side *s)
{
	bool may_read = !s->ended && buf_room(&s->in) > 0;

	loop_io_want(&s->io, (may_read ? LOOP_IN : 0) | (buf_len(&s->other->in) ? LOOP_OUT : 0));
}

/* What was read at s goes to the other; false if that one broke. */
static bool flush(struct tunnel_side *s)
{
	while (buf_len(&s->in)) {
		ssize_t n = send(s->other->io.fd, buf_data(&s->in), buf_len(&s->in), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0)
			return false;
		buf_consume(&s->in, (size_t)n);
	}
	if (s->ended && !s->shut) {
		s->shut = true;
		shutdown(s->other->io.fd, SHUT_WR);
	}
	return true;
}

static bool fill(struct tunnel_side *s)
{
	size_t room = buf_room(&s->in);
	uint8_t *to;
	ssize_t n;

	if (s->ended || room == 0)
		return true;
	room = room < 65536 ? room : 65536;
	to = buf_reserve(&s->in, room, NULL);
	if (!to)
		return false;
	n = recv(s->io.fd, to, room, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		s->ended = true;
	buf_commit(&s->in, (size_t)n);
	s->bytes += (uint64_t)n;
	return true;
}

static void on_ready(struct loop_io *io, unsigned got);

/* Starts again what a hang-up had stopped. */
static bool go_on(struct tunnel_side *s)
{
	if (s->io.loop || s->ended || buf_room(&s->in) == 0)
		return true;
	return loop_io_start(s->tunnel->loop, &s->io, s->io.fd, LOOP_IN, on_ready, NULL) == 0;
}

static void on_ready(struct loop_io *io, unsigned got)
{
	struct tunnel_side *s =
		(struct tunnel_side *)((char *)io - offsetof(struct tunnel_side, io));
	struct tunnel_side *o = s->other;

	if ((got & (LOOP_IN | LOOP_HUP)) && !fill(s)) {
		end(s->tunnel);
		return;
	}
	if (!flush(s) || !flush(o) || (s->shut && o->shut) ||
	    ((got & LOOP_HUP) && s->ended && !buf_len(&s->in))) {
		end(s->tunnel);
		return;
	}
	if ((got & LOOP_HUP) && (s->ended || buf_room(&s->in) == 0))
		loop_io_stop(io);	/* it is told on every pass */
	watch(s);
	watch(o);
	if (!go_on(s) || !go_on(o))
		end(s->tunnel);
}

int tunnel_start(struct tunnel *t, struct loop *l, const int fd[2],
		 const struct buf *const first[2], void (*on_end)(struct tunnel *), struct err *e)
{
	t->loop = l;
	t->on_end = on_end;
	for (int i = 0; i < 2; i++) {
		struct tunnel_side *s = &t->side[i];

		s->tunnel = t;
		s->other = &t->side[1 - i];
		buf_init(&s->in, TUNNEL_BUFFER);
	}
	for (int i = 0; i < 2; i++) {
		struct tunnel_side *s = &t->side[i];

		s->bytes = buf_len(first[i]);
		if (buf_put(&s->in, buf_data(first[i]), buf_len(first[i]), e) < 0 ||
		    loop_io_start(l, &s->io, fd[i], LOOP_IN | LOOP_OUT, on_ready, e) < 0) {
			tunnel_stop(t);
			return -1;
		}
	}
	return 0;
}

void tunnel_stop(struct tunnel *t)
{
	for (int i = 0; i < 2; i++) {
		loop_io_stop(&t->side[i].io);
		buf_release(&t->side[i].in);
	}
}
