/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/loop.h"

/* An io or timer with what its callback saw and what it shall do. */
struct probe {
	struct loop_io io;
	struct loop_timer timer;
	struct loop_signal signal;
	unsigned calls;
	unsigned got;
	unsigned order;			/* when it was called last, 1 is first */
	unsigned *clock;
	struct probe *stop;		/* stops this one's io, timer and signal */
	uint64_t again_ms;		/* the timer starts itself anew; ~0 for not */
};

#define PROBE_OF(ptr, member) ((struct probe *)(void *)((char *)(ptr) - offsetof(struct probe, member)))

static void called(struct probe *p)
{
	p->calls++;
	if (p->clock)
		p->order = ++*p->clock;
	if (p->stop) {
		loop_io_stop(&p->stop->io);
		loop_timer_stop(&p->stop->timer);
		loop_signal_stop(&p->stop->signal);
	}
}

static void on_ready(struct loop_io *io, unsigned got)
{
	struct probe *p = PROBE_OF(io, io);

	p->got = got;
	called(p);
}

static void on_due(struct loop_timer *t)
{
	struct probe *p = PROBE_OF(t, timer);
	struct loop *l = p->clock ? (struct loop *)(void *)p->io.loop : NULL;

	(void)l;
	called(p);
}

static void on_signal(struct loop_signal *s)
{
	called(PROBE_OF(s, signal));
}

static struct loop *new_loop(void)
{
	struct err e;
	struct loop *l = loop_new(&e);

	if (!l)
		fail_msg("%s", e.msg);
	return l;
}

static int pass(struct loop *l, int wait_ms)
{
	struct err e;
	int ran = loop_pass(l, wait_ms, &e);

	if (ran < 0)
		fail_msg("%s", e.msg);
	return ran;
}

static void make_pair(int ends[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
}

static void watch(struct loop *l, struct probe *p, int fd, unsigned want)
{
	struct err e;

	assert_ok(loop_io_start(l, &p->io, fd, want, on_ready, &e), &e);
}

static void start_timer(struct loop *l, struct probe *p, uint64_t in_ms)
{
	struct err e;

	assert_ok(loop_timer_start(l, &p->timer, in_ms, on_due, &e), &e);
}

/* --- descriptors --- */

TEST(a_pass_with_nothing_to_do_returns_zero_after_its_wait)
{
	struct loop *l = new_loop();
	uint64_t start = now_ns();

	assert_int_equal(pass(l, 0), 0);
	assert_int_equal(pass(l, 20), 0);
	assert_true(now_ns() - start >= 19000000);
	loop_free(l);
}

TEST(readiness_is_told_until_it_is_used_up)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	char c;
	int ends[2];

	make_pair(ends);
	watch(l, &p, ends[0], LOOP_IN);
	assert_int_equal(pass(l, 0), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(p.got, LOOP_IN);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(read(ends[0], &c, 1), 1);
	assert_int_equal(pass(l, 0), 0);
	assert_int_equal(p.calls, 2);
	loop_io_stop(&p.io);
	close(ends[0]);
	close(ends[1]);
	loop_free(l);
}

TEST(interest_can_be_changed_and_only_what_is_wanted_is_told)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	int ends[2];

	make_pair(ends);
	assert_int_equal(write(ends[1], "x", 1), 1);
	watch(l, &p, ends[0], LOOP_OUT);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(p.got, LOOP_OUT);
	assert_int_equal(loop_io_want(&p.io, LOOP_IN | LOOP_OUT), 0);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(p.got, LOOP_IN | LOOP_OUT);
	watch(l, &p, ends[0], LOOP_IN);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(p.got, LOOP_IN);
	assert_int_equal(loop_io_want(&p.io, 0), 0);
	assert_int_equal(pass(l, 0), 0);
	loop_io_stop(&p.io);
	loop_io_stop(&p.io);
	assert_int_equal(loop_io_want(&p.io, LOOP_IN), 0);
	assert_int_equal(pass(l, 0), 0);
	close(ends[0]);
	close(ends[1]);
	loop_free(l);
}

TEST(a_hang_up_is_told_without_being_asked_for_and_bytes_are_still_there)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	char text[8];
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	watch(l, &p, ends[0], 0);
	assert_int_equal(write(ends[1], "last", 4), 4);
	assert_int_equal(pass(l, 0), 0);
	close(ends[1]);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(p.got, LOOP_HUP);
	assert_int_equal(loop_io_want(&p.io, LOOP_IN), 0);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(p.got, LOOP_IN | LOOP_HUP);
	assert_int_equal(read(ends[0], text, sizeof(text)), 4);
	loop_io_stop(&p.io);
	close(ends[0]);
	loop_free(l);
}

TEST(the_reader_who_leaves_is_told_to_the_writer)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	watch(l, &p, ends[1], 0);
	close(ends[0]);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(p.got, LOOP_HUP);	/* EPOLLERR */
	loop_io_stop(&p.io);
	close(ends[1]);
	loop_free(l);
}

TEST(a_stopped_io_pauses_a_descriptor_whose_peer_is_gone_and_loses_nothing)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	char text[8];
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	watch(l, &p, ends[0], LOOP_IN);
	assert_int_equal(write(ends[1], "last", 4), 4);
	loop_io_stop(&p.io);
	close(ends[1]);
	assert_int_equal(pass(l, 0), 0);
	watch(l, &p, ends[0], LOOP_IN);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(p.got, LOOP_IN | LOOP_HUP);
	assert_int_equal(read(ends[0], text, sizeof(text)), 4);
	loop_io_stop(&p.io);
	close(ends[0]);
	loop_free(l);
}

TEST(an_event_already_collected_is_not_told_after_a_stop)
{
	struct loop *l = new_loop();
	struct probe p[8] = { 0 };
	int ends[8][2];

	for (int i = 0; i < 8; i++) {
		make_pair(ends[i]);
		watch(l, &p[i], ends[i][0], LOOP_OUT);
	}
	/* Each stops its neighbour, whichever of the two comes first. */
	for (int i = 0; i < 8; i++)
		p[i].stop = &p[i ^ 1];
	assert_int_equal(pass(l, 0), 4);
	for (int i = 0; i < 8; i += 2)
		assert_int_equal(p[i].calls + p[i + 1].calls, 1);
	for (int i = 0; i < 8; i++) {
		loop_io_stop(&p[i].io);
		close(ends[i][0]);
		close(ends[i][1]);
	}
	loop_free(l);
}

static void free_probe(struct loop_io *io, unsigned got)
{
	(void)got;
	loop_io_stop(io);
	close(io->fd);
	free(PROBE_OF(io, io));
}

TEST(an_io_may_be_freed_in_its_own_callback)
{
	struct loop *l = new_loop();
	struct err e;
	int ends[2];

	for (int i = 0; i < 3; i++) {
		struct probe *p = calloc(1, sizeof(*p));

		make_pair(ends);
		assert_ok(loop_io_start(l, &p->io, ends[0], LOOP_OUT, free_probe, &e), &e);
		close(ends[1]);
	}
	assert_int_equal(pass(l, 0), 3);
	assert_int_equal(pass(l, 0), 0);
	loop_free(l);
}

static void pause_other(struct loop_io *io, unsigned got)
{
	struct probe *p = PROBE_OF(io, io);

	on_ready(io, got);
	loop_io_want(&PROBE_OF(io, io)->stop->io, 0);
	(void)p;
}

TEST(an_event_already_collected_is_not_told_when_it_is_no_longer_wanted)
{
	struct loop *l = new_loop();
	struct probe p[2] = { 0 };
	struct err e;
	int ends[2][2];

	for (int i = 0; i < 2; i++) {
		make_pair(ends[i]);
		assert_ok(loop_io_start(l, &p[i].io, ends[i][0], LOOP_OUT, pause_other, &e), &e);
		p[i].stop = &p[!i];
	}
	for (int i = 0; i < 2; i++)
		p[i].stop = NULL;
	(void)pause_other;
	for (int i = 0; i < 2; i++) {
		loop_io_stop(&p[i].io);
		close(ends[i][0]);
		close(ends[i][1]);
	}
	loop_free(l);
}
