/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/upstream.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/base/cleanup.h"

static void fail(struct upstream *u, const char *why)
{
	u->ended = true;
	loop_io_stop(&u->io);
	u->calls->on_fail(u, why);
}

static void watch(struct upstream *u)
{
	bool room = buf_room(&u->in) > 0 && !u->paused;

	if (u->fd < 0 || u->ended || !u->io.loop)
		return;
	loop_io_want(&u->io, (room ? LOOP_IN : 0) | (buf_len(&u->out) ? LOOP_OUT : 0));
}

/* --- the request --- */

static void flush(struct upstream *u)
{
	while (buf_len(&u->out)) {
		ssize_t n = send(u->fd, buf_data(&u->out), buf_len(&u->out), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {	/* it may have answered all the same */
			buf_reset(&u->out);
			break;
		}
		buf_consume(&u->out, (size_t)n);
	}
	if (u->full && buf_len(&u->out) <= UPSTREAM_QUEUE / 2) {
		u->full = false;
		u->calls->on_room(u);
	}
}

size_t upstream_send(struct upstream *u, const void *p, size_t n)
{
	if (u->fd < 0 || u->ended)
		return n;	/* nobody wants it */
	if (n > buf_room(&u->out)) {
		n = buf_room(&u->out);
		u->full = true;
	}
	if (buf_put(&u->out, p, n, NULL) < 0) {
		u->full = true;
		return 0;
	}
	watch(u);
	return n;
}

/* --- the answer --- */

static bool is_final(int status)
{
	return status >= 200 || status == 101;
}

/* True: there was one. */
static bool take_head(struct upstream *u)
{
	size_t n = answer_head_len((const char *)buf_data(&u->in), buf_len(&u->in));
	struct err e = ERR_INIT;

	if (n == 0) {
		if (buf_len(&u->in) >= ANSWER_HEAD_MAX)
			fail(u, "the head of its answer is too long");
		return false;
	}
	free(u->head_text);
	u->head_text = malloc(n + 1);
	if (!u->head_text) {
		fail(u, "no memory");
		return false;
	}
	memcpy(u->head_text, buf_data(&u->in), n);
	buf_consume(&u->in, n);
	if (answer_parse(u->head_text, n, &u->head, &e) < 0 ||
	    body_init(&u->body, &u->head, u->method, &e) < 0) {
		fail(u, e.msg);
		return false;
	}
	u->has_head = is_final(u->head.status);
	if (u->has_head)
		u->calls->on_head(u, &u->head);
	return true;
}

static void finish(struct upstream *u)
{
	u->ended = true;
	loop_io_stop(&u->io);
	u->calls->on_end(u);
}

/* True: some was taken, and more may be. */
static bool take_body(struct upstream *u)
{
	const uint8_t *data;
	struct err e = ERR_INIT;
	size_t len;
	ssize_t n;

	if (u->paused || buf_len(&u->in) == 0)
		return false;
	n = body_next(&u->body, buf_data(&u->in), buf_len(&u->in), &data, &len, &e);
	if (n < 0) {
		fail(u, e.msg);
		return false;
	}
	if (len && !u->calls->on_body(u, data, len))
		u->paused = true;
	if (u->fd < 0)
		return false;	/* stopped */
	buf_consume(&u->in, (size_t)n);
	return !u->body.done;
}

/* Hands on what has come; stops where a callback stopped it. */
static void digest(struct upstream *u)
{
	while (u->fd >= 0 && !u->ended && !u->has_head)
		if (!take_head(u))
			return;
	if (u->head.status == 101)
		return;
	while (u->fd >= 0 && !u->ended && !u->body.done)
		if (!take_body(u))
			break;
	if (u->fd >= 0 && !u->ended && u->body.done)
		finish(u);
}

static void on_eof(struct upstream *u)
{
	digest(u);
	if (u->fd < 0 || u->ended || u->paused)
		return;
	if (u->has_head && u->body.kind == BODY_TO_END)
		finish(u);
	else
		fail(u, u->has_head ? "it hung up in the middle of its answer"
				    : "it hung up without an answer");
}

static void on_ready(struct loop_io *io, unsigned got)
{
	struct upstream *u = (struct upstream *)((char *)io - offsetof(struct upstream, io));
	uint8_t *to;
	ssize_t n = -1;

	if (got & LOOP_OUT)
		flush(u);
	if (u->fd < 0 || u->ended)
		return;
	if (u->paused || !(got & (LOOP_IN | LOOP_HUP))) {
		if (got & LOOP_HUP)	/* told on every pass; on_soon starts it again */
			loop_io_stop(io);
		watch(u);
		return;
	}
	to = buf_reserve(&u->in, buf_room(&u->in) < 65536 ? buf_room(&u->in) : 65536, NULL);
	if (to)
		n = recv(u->fd, to, buf_room(&u->in) < 65536 ? buf_room(&u->in) : 65536, 0);
	if (n < 0 && to && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		on_eof(u);
		return;
	}
	buf_commit(&u->in, (size_t)n);
	digest(u);
	watch(u);
}

/* Not from within the caller's own callback: there may be something to hand on at once. */
static void on_soon(struct loop_timer *t)
{
	struct upstream *u = (struct upstream *)((char *)t - offsetof(struct upstream, soon));
	struct err e = ERR_INIT;

	if (!u->io.loop && loop_io_start(u->loop, &u->io, u->fd, LOOP_IN, on_ready, &e) < 0) {
		fail(u, e.msg);
		return;
	}
	digest(u);
	watch(u);
}

void upstream_pause(struct upstream *u, bool pause)
{
	struct err e = ERR_INIT;

	if (u->fd < 0 || u->ended || u->paused == pause)
		return;
	u->paused = pause;
	if (pause)
		loop_timer_stop(&u->soon);
	else if (loop_timer_start(u->loop, &u->soon, 0, on_soon, &e) < 0)
		fail(u, e.msg);
}

int upstream_start(struct upstream *u, struct loop *l, int fd, const char *method,
		   const struct upstream_calls *calls, struct err *e)
{
	*u = (struct upstream){ .loop = l, .fd = fd, .method = method, .calls = calls };
	buf_init(&u->in, UPSTREAM_BUFFER);
	buf_init(&u->out, UPSTREAM_QUEUE);
	if (loop_io_start(l, &u->io, fd, LOOP_IN, on_ready, e) < 0) {
		upstream_stop(u);
		return -1;
	}
	return 0;
}

int upstream_release(struct upstream *u)
{
	loop_io_stop(&u->io);
	loop_timer_stop(&u->soon);
	u->ended = true;
	return take_fd(&u->fd);
}

/* What is on the stack of a callback looks at fd before it goes on. */
void upstream_stop(struct upstream *u)
{
	if (!u->loop)
		return;
	loop_io_stop(&u->io);
	loop_timer_stop(&u->soon);
	close_fd(&u->fd);
	buf_release(&u->in);
	buf_release(&u->out);
	free(u->head_text);
	u->head_text = NULL;
	u->ended = true;
}
