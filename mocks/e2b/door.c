/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/door.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mocks/e2b/door_wire.h"
#include "protocol/base/cleanup.h"

/* Takes the place of a question whose asker has left. */
static void on_forgotten(struct door_ask *a, int sys __attribute__((unused)), int fd)
{
	close_fd(&fd);
	free(a);
}

static void answer_first(struct door *d, int sys, int fd)
{
	struct door_ask *a = d->first;

	d->first = a->next;
	if (!d->first)
		d->last = NULL;
	d->waiting--;
	a->door = NULL;
	a->on_answer(a, sys, fd);
}

static void fail_all(struct door *d)
{
	while (d->first)
		answer_first(d, EPIPE, -1);
}

/* 1: an answer; 0: none yet; -1: the other side is gone. */
static int receive(const struct door *d, struct door_answer *ret, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = control.room, .msg_controllen = sizeof(control.room) };
	ssize_t n = recvmsg(d->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	*ret_fd = -1;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n != sizeof(*ret))
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return 1;
}

static void on_ready(struct loop_io *io, unsigned got __attribute__((unused)))
{
	struct door *d = (struct door *)((char *)io - offsetof(struct door, io));
	struct door_answer a;
	int fd, r = 1;

	/* One a call: an asker may well close the door. */
	r = receive(d, &a, &fd);
	if (r > 0 && d->first) {
		answer_first(d, a.sys, fd);
		return;
	}
	close_fd(&fd);
	if (r == 0)
		return;
	loop_io_stop(&d->io);
	fail_all(d);
	if (d->on_gone)
		d->on_gone(d);
}

int door_open(struct door *d, struct loop *l, int fd, void (*on_gone)(struct door *),
	      struct err *e)
{
	*d = (struct door){ .fd = fd, .on_gone = on_gone };
	return loop_io_start(l, &d->io, fd, LOOP_IN, on_ready, e);
}

void door_close(struct door *d)
{
	loop_io_stop(&d->io);
	d->on_gone = NULL;
	fail_all(d);
}

static void ask(struct door *d, struct door_ask *a, struct door_question q)
{
	ssize_t n;

	if (!d->io.loop || d->waiting == DOOR_QUEUE) {
		a->on_answer(a, d->io.loop ? EBUSY : EPIPE, -1);
		return;
	}
	do
		n = send(d->fd, &q, sizeof(q), MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		a->on_answer(a, errno == EAGAIN ? EBUSY : EPIPE, -1);
		return;
	}
	a->door = d;
	a->next = NULL;
	if (d->last)
		d->last->next = a;
	else
		d->first = a;
	d->last = a;
	d->waiting++;
}

void door_connect(struct door *d, struct door_ask *a, unsigned port)
{
	ask(d, a, (struct door_question){ .what = DOOR_CONNECT, .port = (uint16_t)port });
}

void door_freeze(struct door *d, struct door_ask *a, bool freeze)
{
	ask(d, a, (struct door_question){ .what = freeze ? DOOR_FREEZE : DOOR_THAW });
}

void door_forget(struct door_ask *a)
{
	struct door *d = a->door;
	struct door_ask *stand_in, **at;

	if (!d)
		return;
	a->door = NULL;
	stand_in = calloc(1, sizeof(*stand_in));
	if (!stand_in)
		abort();	/* answers would go to the wrong askers */
	*stand_in = (struct door_ask){ .on_answer = on_forgotten, .door = d, .next = a->next };
	for (at = &d->first; *at != a; at = &(*at)->next)
		;
	*at = stand_in;
	if (d->last == a)
		d->last = stand_in;
}
