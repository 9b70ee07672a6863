/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

enum { BATCH = 64, FIRST_TIMERS = 16 };

struct loop {
	int epfd;
	bool running;			/* inside loop_pass */
	unsigned ran;			/* callbacks in this pass */

	/* Events collected but not delivered yet; stopping an io empties its slot. */
	struct epoll_event batch[BATCH];
	int batch_len;
	int batch_at;

	struct loop_io timer_io;	/* the timerfd */
	struct loop_timer **heap;	/* the next one due first */
	unsigned heap_len;
	unsigned heap_cap;
	uint64_t armed_ns;		/* what the timerfd is set to; 0 when off */
	uint64_t expiry_ns;		/* while timers expire: the moment it is done for */

	struct loop_io signal_io;	/* the signalfd; not armed before the first signal */
	struct loop_signal *signals;
	struct loop_signal *next_signal;	/* while signals are delivered */
};

/* --- clocks --- */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t now_real_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* n decimal digits of v, then the byte that follows them. */
static char *put_digits(char *p, unsigned v, int n, char then)
{
	for (int i = n - 1; i >= 0; i--, v /= 10)
		p[i] = (char)('0' + v % 10);
	p[n] = then;
	return p + n + 1;
}

const char *time_rfc3339(uint64_t real_us, char buf[28])
{
	const uint64_t last_us = UINT64_C(253402300799999999);	/* the year 9999 */
	char *p = buf;
	struct tm tm;
	time_t sec;

	if (real_us > last_us)
		real_us = last_us;
	sec = (time_t)(real_us / 1000000);
	gmtime_r(&sec, &tm);
	p = put_digits(p, (unsigned)tm.tm_year + 1900, 4, '-');
	p = put_digits(p, (unsigned)tm.tm_mon + 1, 2, '-');
	p = put_digits(p, (unsigned)tm.tm_mday, 2, 'T');
	p = put_digits(p, (unsigned)tm.tm_hour, 2, ':');
	p = put_digits(p, (unsigned)tm.tm_min, 2, ':');
	p = put_digits(p, (unsigned)tm.tm_sec, 2, '.');
	p = put_digits(p, (unsigned)(real_us % 1000000), 6, 'Z');
	*p = 0;
	return buf;
}

/* --- descriptors --- */

static uint32_t epoll_bits(unsigned want)
{
	uint32_t in = want & LOOP_IN ? EPOLLIN : 0;

	return in | (want & LOOP_OUT ? EPOLLOUT : 0);
}

static int io_ctl(struct loop *l, int op, struct loop_io *io, unsigned want)
{
	struct epoll_event ev = { .events = epoll_bits(want), .data.ptr = io };

	return epoll_ctl(l->epfd, op, io->fd, &ev);
}

static int io_add(struct loop *l, struct loop_io *io, struct err *e)
{
	if (io_ctl(l, EPOLL_CTL_ADD, io, io->want) == 0) {
		io->loop = l;
		return 0;
	}
	if (errno == EPERM)
		return err_set(e, ERR_SYS, 0, "loop: descriptor %d is a file, always ready: "
			       "cannot be watched", io->fd);
	return err_set(e, ERR_SYS, errno, "loop: watch descriptor %d", io->fd);
}

int loop_io_start(struct loop *l, struct loop_io *io, int fd, unsigned want,
		  void (*on_ready)(struct loop_io *, unsigned), struct err *e)
{
	if (io->loop && (io->loop != l || io->fd != fd))
		loop_io_stop(io);
	io->on_ready = on_ready;
	if (!io->loop) {
		io->fd = fd;
		io->want = want;
		return io_add(l, io, e);
	}
	if (loop_io_want(io, want) < 0)
		return err_set(e, ERR_SYS, errno, "loop: watch descriptor %d", fd);
	return 0;
}

int loop_io_want(struct loop_io *io, unsigned want)
{
	if (!io->loop || io->want == want)
		return 0;
	if (io_ctl(io->loop, EPOLL_CTL_MOD, io, want) < 0)
		return -1;
	io->want = want;
	return 0;
}

void loop_io_stop(struct loop_io *io)
{
	struct loop *l = io->loop;

	if (!l)
		return;
	for (int i = l->batch_at; i < l->batch_len; i++)
		if (l->batch[i].data.ptr == io)
			l->batch[i].data.ptr = NULL;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, io->fd, NULL);
	io->loop = NULL;
}

/* --- timers: a binary heap, each timer knows its slot --- */

static void heap_set(struct loop *l, unsigned slot, struct loop_timer *t)
{
	l->heap[slot] = t;
	t->slot = slot;
}

static void heap_up(struct loop *l, struct loop_timer *t)
{
	unsigned slot = t->slot;

	while (slot > 0 && l->heap[(slot - 1) / 2]->due_ns > t->due_ns) {
		heap_set(l, slot, l->heap[(slot - 1) / 2]);
		slot = (slot - 1) / 2;
	}
	heap_set(l, slot, t);
}

static void heap_down(struct loop *l, struct loop_timer *t)
{
	unsigned slot = t->slot;

	for (;;) {
		unsigned child = 2 * slot + 1;

		if (child + 1 < l->heap_len && l->heap[child + 1]->due_ns < l->heap[child]->due_ns)
			child++;
		if (child >= l->heap_len || l->heap[child]->due_ns >= t->due_ns)
			break;
		heap_set(l, slot, l->heap[child]);
		slot = child;
	}
	heap_set(l, slot, t);
}

static int heap_grow(struct loop *l, struct err *e)
{
	unsigned cap = l->heap_cap ? 2 * l->heap_cap : FIRST_TIMERS;
	struct loop_timer **heap;

	if (l->heap_len < l->heap_cap)
		return 0;
	heap = realloc(l->heap, cap * sizeof(struct loop_timer *));
	if (!heap)
		return err_set(e, ERR_NO_MEMORY, 0, "loop: %u timers", cap);
	l->heap = heap;
	l->heap_cap = cap;
	return 0;
}

/* Sets the timerfd to the first timer; during a pass that is left for its end. */
static void rearm(struct loop *l)
{
	uint64_t due = l->heap_len ? l->heap[0]->due_ns : 0;
	struct itimerspec spec = { 0 };

	if (l->running || due == l->armed_ns)
		return;
	spec.it_value.tv_sec = (time_t)(due / 1000000000);
	spec.it_value.tv_nsec = (long)(due % 1000000000);
	/* Cannot fail with our own descriptor and a valid time. */
	timerfd_settime(l->timer_io.fd, TFD_TIMER_ABSTIME, &spec, NULL);
	l->armed_ns = due;
}

/* Never before the expiry under way, so that a timer which starts itself anew
 * with 0 ms does not keep the pass from ending. */
static uint64_t due_in(const struct loop *l, uint64_t in_ms)
{
	const uint64_t century_ms = UINT64_C(100) * 366 * 86400 * 1000;
	uint64_t due = now_ns() + (in_ms < century_ms ? in_ms : century_ms) * 1000000;

	return due > l->expiry_ns ? due : l->expiry_ns + 1;
}

int loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t in_ms,
		     void (*on_due)(struct loop_timer *), struct err *e)
{
	if (t->loop && t->loop != l)
		loop_timer_stop(t);
	if (!t->loop) {
		if (heap_grow(l, e) < 0)
			return -1;
		t->loop = l;
		heap_set(l, l->heap_len++, t);
	}
	t->on_due = on_due;
	t->due_ns = due_in(l, in_ms);
	heap_up(l, t);
	heap_down(l, t);
	rearm(l);
	return 0;
}

void loop_timer_stop(struct loop_timer *t)
{
	struct loop *l = t->loop;
	struct loop_timer *last;

	if (!l)
		return;
	t->loop = NULL;
	last = l->heap[--l->heap_len];
	if (last != t) {
		heap_set(l, t->slot, last);
		heap_up(l, last);
		heap_down(l, last);
	}
	rearm(l);
}

static void on_timerfd(struct loop_io *io, unsigned got)
{
	struct loop *l = io->loop;
	uint64_t expirations;

	(void)got;
	/* Read or not, the timers say what is due. */
	(void)!read(io->fd, &expirations, sizeof(expirations));
	l->armed_ns = 0;
	l->expiry_ns = now_ns();
	while (l->heap_len && l->heap[0]->due_ns <= l->expiry_ns) {
		struct loop_timer *t = l->heap[0];

		loop_timer_stop(t);
		l->ran++;
		t->on_due(t);
	}
	l->expiry_ns = 0;
}

/* --- signals --- */

static void deliver(struct loop *l, int sig)
{
	for (struct loop_signal *s = l->signals; s; s = l->next_signal) {
		l->next_signal = s->next;
		if (s->sig != sig)
			continue;
		l->ran++;
		s->on_signal(s);
	}
	l->next_signal = NULL;
}

static void on_signalfd(struct loop_io *io, unsigned got)
{
	struct signalfd_siginfo info[8];
	ssize_t n = read(io->fd, info, sizeof(info));

	(void)got;
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(info[0]); i++)
		deliver(io->loop, (int)info[i].ssi_signo);
}

static void wanted_signals(const struct loop *l, sigset_t *ret)
{
	sigemptyset(ret);
	for (const struct loop_signal *s = l->signals; s; s = s->next)
		sigaddset(ret, s->sig);
}

static int update_signalfd(struct loop *l, struct err *e)
{
	sigset_t set;
	int fd;

	wanted_signals(l, &set);
	fd = signalfd(l->signal_io.fd, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "loop: signalfd");
	return loop_io_start(l, &l->signal_io, fd, LOOP_IN, on_signalfd, e);
}

int loop_signal_start(struct loop *l, struct loop_signal *s, int sig,
		      void (*on_signal)(struct loop_signal *), struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	if (sig == SIGKILL || sig == SIGSTOP || sigaddset(&set, sig) < 0)
		return err_set(e, ERR_SYS, EINVAL, "loop: signal %d", sig);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_set(e, ERR_SYS, errno, "loop: block signal %d", sig);
	loop_signal_stop(s);
	*s = (struct loop_signal){ .sig = sig, .on_signal = on_signal, .loop = l };
	s->next = l->signals;
	l->signals = s;
	if (update_signalfd(l, e) == 0)
		return 0;
	loop_signal_stop(s);
	return -1;
}

void loop_signal_stop(struct loop_signal *s)
{
	struct loop *l = s->loop;
	struct loop_signal **at;

	if (!l)
		return;
	for (at = &l->signals; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	if (l->next_signal == s)
		l->next_signal = s->next;
	s->loop = NULL;
	if (l->signal_io.loop)
		update_signalfd(l, NULL);
}

/* --- the loop --- */

struct loop *loop_new(struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));
	int fd;

	if (!l) {
		err_set(e, ERR_NO_MEMORY, 0, "loop");
		return NULL;
	}
	l->signal_io.fd = l->timer_io.fd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (l->epfd < 0 || fd < 0) {
		err_set(e, ERR_SYS, errno, "loop");
		close_fd(&fd);
		loop_free(l);
		return NULL;
	}
	if (loop_io_start(l, &l->timer_io, fd, LOOP_IN, on_timerfd, e) < 0) {
		loop_free(l);
		return NULL;
	}
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close_fd(&l->timer_io.fd);
	close_fd(&l->signal_io.fd);
	close_fd(&l->epfd);
	free(l->heap);
	free(l);
}

int loop_fd(const struct loop *l)
{
	return l->epfd;
}

/* Only what its owner still wants: the interest may have changed since the
 * event was collected. */
static unsigned got_of(const struct loop_io *io, uint32_t events)
{
	unsigned got = 0;

	if (events & EPOLLIN)
		got |= LOOP_IN & io->want;
	if (events & EPOLLOUT)
		got |= LOOP_OUT & io->want;
	if (events & (EPOLLHUP | EPOLLERR))
		got |= LOOP_HUP;
	return got;
}

static void dispatch(struct loop *l, const struct epoll_event *ev)
{
	struct loop_io *io = ev->data.ptr;
	unsigned got = io ? got_of(io, ev->events) : 0;

	if (!got)
		return;
	if (io != &l->timer_io && io != &l->signal_io)
		l->ran++;
	io->on_ready(io, got);
}

int loop_pass(struct loop *l, int wait_ms, struct err *e)
{
	int n;

	if (l->running)
		return err_set(e, ERR_INTERNAL, 0, "loop: a pass inside a callback");
	n = epoll_wait(l->epfd, l->batch, BATCH, wait_ms);
	if (n < 0 && errno != EINTR)
		return err_set(e, ERR_SYS, errno, "loop: epoll_wait");
	l->running = true;
	l->ran = 0;
	l->batch_len = n < 0 ? 0 : n;
	for (l->batch_at = 0; l->batch_at < l->batch_len; l->batch_at++)
		dispatch(l, &l->batch[l->batch_at]);
	l->batch_len = 0;
	l->running = false;
	rearm(l);
	return (int)l->ran;
}
