/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/tunnel.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/limits.h"

enum { BLOCK = 64 * 1024, BLOCKS_A_PASS = 16 };

/* One direction.  Bytes wait here for a receiver that is full. */
struct flow {
	struct buf bytes;
	/* The receiver was full: OpenSSL wants the same bytes again, at the same place (or fails
	 * with "bad write retry"), so nothing is added, which might move them. */
	bool is_stuck;
	bool ended;	/* the sender sends no more */
	bool told;	/* and the receiver knows */
};

struct tunnel {
	struct loop *loop;
	struct http_stream *stream;
	struct loop_io listener, local, remote;
	int listen_fd, local_fd;
	struct flow up, down;	/* up: to the remote end */
	bool broken;
	char name[64];
	void (*on_ready)(void *user, const char *name, const struct err *err);
	void *user;
};

/* --- moving bytes: both ends look alike --- */

static ssize_t local_recv(struct tunnel *t, void *p, size_t n)
{
	ssize_t got = recv(t->local_fd, p, n, MSG_DONTWAIT);

	return got < 0 ? (errno == EAGAIN || errno == EINTR ? -EAGAIN : -EIO) : got;
}

static ssize_t local_send(struct tunnel *t, const void *p, size_t n)
{
	ssize_t sent = send(t->local_fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	return sent < 0 ? (errno == EAGAIN || errno == EINTR ? -EAGAIN : -EIO) : sent;
}

static ssize_t remote_recv(struct tunnel *t, void *p, size_t n)
{
	return http_stream_recv(t->stream, p, n);
}

static ssize_t remote_send(struct tunnel *t, const void *p, size_t n)
{
	return http_stream_send(t->stream, p, n);
}

static bool may_fill(const struct flow *f)
{
	return !f->ended && !f->is_stuck && buf_room(&f->bytes) >= BLOCK;
}

/* Reads as much as fits; TLS may hold bytes that the socket does not show, so it reads until
 * there are none. */
static bool fill(struct tunnel *t, struct flow *f,
		 ssize_t (*recv_some)(struct tunnel *, void *, size_t))
{
	while (may_fill(f)) {
		uint8_t *to = buf_reserve(&f->bytes, BLOCK, NULL);
		ssize_t n = to ? recv_some(t, to, BLOCK) : -EIO;

		if (n == -EAGAIN)
			return true;
		if (n < 0)
			return false;
		if (n == 0)
			f->ended = true;
		buf_commit(&f->bytes, (size_t)n);
	}
	return true;
}

static bool drain(struct tunnel *t, struct flow *f,
		  ssize_t (*send_some)(struct tunnel *, const void *, size_t))
{
	while (buf_len(&f->bytes)) {
		ssize_t n = send_some(t, buf_data(&f->bytes), buf_len(&f->bytes));

		f->is_stuck = n == -EAGAIN;
		if (f->is_stuck)
			return true;
		if (n <= 0)
			return false;
		buf_consume(&f->bytes, (size_t)n);
	}
	return true;
}

/* Both directions until nothing moves, or for a while: others want the loop too. */
static bool move(struct tunnel *t)
{
	for (int i = 0; i < BLOCKS_A_PASS; i++) {
		size_t up = buf_len(&t->up.bytes), down = buf_len(&t->down.bytes);

		if (!fill(t, &t->down, remote_recv) || !drain(t, &t->down, local_send) ||
		    !fill(t, &t->up, local_recv) || !drain(t, &t->up, remote_send))
			return false;
		if (buf_len(&t->up.bytes) == up && buf_len(&t->down.bytes) == down)
			break;
	}
	if (t->down.ended && !buf_len(&t->down.bytes) && !t->down.told) {
		t->down.told = true;
		shutdown(t->local_fd, SHUT_WR);
	}
	return true;
}

static int watch(struct tunnel *t, struct loop_io *io, int fd, const struct flow *in,
		 const struct flow *out, void (*on_ready)(struct loop_io *, unsigned))
{
	unsigned want = 0;

	if (may_fill(in))
		want |= LOOP_IN;
	if (buf_len(&out->bytes))
		want |= LOOP_OUT;
	/* Without an interest a hang-up would be told again and again. */
	if (!want) {
		loop_io_stop(io);
		return 0;
	}
	return loop_io_start(t->loop, io, fd, want, on_ready, NULL);
}

static void on_local(struct loop_io *io, unsigned got);
static void on_remote(struct loop_io *io, unsigned got);

static void pump(struct tunnel *t)
{
	if (!t->broken && move(t) &&
	    watch(t, &t->local, t->local_fd, &t->up, &t->down, on_local) == 0 &&
	    watch(t, &t->remote, http_stream_fd(t->stream), &t->down, &t->up, on_remote) == 0)
		return;
	/* The local peer sees the end, and reports it with what it knows. */
	t->broken = true;
	loop_io_stop(&t->local);
	loop_io_stop(&t->remote);
	shutdown(t->local_fd, SHUT_RDWR);
}

static void on_local(struct loop_io *io, unsigned got)
{
	(void)got;
	pump((struct tunnel *)((char *)io - offsetof(struct tunnel, local)));
}

static void on_remote(struct loop_io *io, unsigned got)
{
	(void)got;
	pump((struct tunnel *)((char *)io - offsetof(struct tunnel, remote)));
}

/* --- the local end --- */

static bool is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == getpid();
}

static void on_listener(struct loop_io *io, unsigned got)
{
	struct tunnel *t = (struct tunnel *)((char *)io - offsetof(struct tunnel, listener));
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)got;
	if (fd < 0)
		return;
	if (!is_ours(fd)) {	/* a stranger found the name: the own one is still to come */
		close(fd);
		return;
	}
	loop_io_stop(io);
	close_fd(&t->listen_fd);
	t->local_fd = fd;
	pump(t);
}

static int listen_locally(struct tunnel *t, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	uint8_t rnd[16];
	char hex[2 * sizeof(rnd) + 1];
	socklen_t len;

	if (random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(rnd, sizeof(rnd), hex);
	snprintf(t->name, sizeof(t->name), "@farstep-%s", hex);
	snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "%s", t->name + 1);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(t->name));
	t->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (t->listen_fd < 0 || bind(t->listen_fd, (struct sockaddr *)&un, len) < 0 ||
	    listen(t->listen_fd, 4) < 0)
		return err_set(e, ERR_SYS, errno, "tunnel: local socket");
	return loop_io_start(t->loop, &t->listener, t->listen_fd, LOOP_IN, on_listener, e);
}

static void on_stream(void *user, const struct err *failed)
{
	struct tunnel *t = user;
	struct err e = ERR_INIT;

	if (!failed && listen_locally(t, &e) < 0)
		failed = &e;
	t->on_ready(t->user, failed ? NULL : t->name, failed);
}

struct tunnel *tunnel_open(struct http *h, struct loop *l, const char *url, uint32_t connect_ms,
			   void (*on_ready)(void *user, const char *name, const struct err *err),
			   void *user, struct err *e)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (!t) {
		err_set(e, ERR_NO_MEMORY, 0, "tunnel");
		return NULL;
	}
	t->loop = l;
	t->listen_fd = t->local_fd = -1;
	t->on_ready = on_ready;
	t->user = user;
	buf_init(&t->up.bytes, LIMIT_TUNNEL);
	buf_init(&t->down.bytes, LIMIT_TUNNEL);
	t->stream = http_stream_open(h, url, connect_ms, on_stream, t, e);
	if (!t->stream) {
		tunnel_close(t);
		return NULL;
	}
	return t;
}

void tunnel_close(struct tunnel *t)
{
	if (!t)
		return;
	if (t->local_fd >= 0 && !t->broken)
		move(t);
	loop_io_stop(&t->listener);
	loop_io_stop(&t->local);
	loop_io_stop(&t->remote);
	http_stream_close(t->stream);
	close_fd(&t->listen_fd);
	close_fd(&t->local_fd);
	buf_release(&t->up.bytes);
	buf_release(&t->down.bytes);
	free(t);
}
