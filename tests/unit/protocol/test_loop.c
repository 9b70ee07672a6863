/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/loop.h"

/* One of each, with what its callback saw and what it does then. */
struct probe {
	struct loop_io io;
	struct loop_timer timer;
	struct loop_signal signal;
	unsigned calls;
	unsigned got;
	void (*then)(struct probe *p);
	struct probe *other;
	struct loop *loop;
};

#define PROBE_OF(ptr, member) \
	((struct probe *)(void *)((char *)(ptr) - offsetof(struct probe, member)))

static void called(struct probe *p)
{
	p->calls++;
	if (p->then)
		p->then(p);
}

static void on_ready(struct loop_io *io, unsigned got)
{
	PROBE_OF(io, io)->got = got;
	called(PROBE_OF(io, io));
}

static void on_due(struct loop_timer *t)
{
	called(PROBE_OF(t, timer));
}

static void on_signal(struct loop_signal *s)
{
	called(PROBE_OF(s, signal));
}

static void stop_all(struct probe *p)
{
	loop_io_stop(&p->io);
	loop_timer_stop(&p->timer);
	loop_signal_stop(&p->signal);
}

static void stop_other(struct probe *p)
{
	stop_all(p->other);
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
	int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

	assert_int_equal(socketpair(AF_UNIX, type, 0, ends), 0);
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

TEST(a_hang_up_is_told_unasked_and_bytes_are_still_there)
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

TEST(a_stopped_io_pauses_even_a_hang_up_and_loses_nothing)
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
	for (int i = 0; i < 8; i++) {
		p[i].then = stop_other;
		p[i].other = &p[i ^ 1];
	}
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

static void pause_other(struct probe *p)
{
	loop_io_want(&p->other->io, 0);
}

TEST(an_event_already_collected_is_not_told_once_unwanted)
{
	struct loop *l = new_loop();
	struct probe p[2] = { 0 };
	int ends[2][2];

	for (int i = 0; i < 2; i++) {
		make_pair(ends[i]);
		watch(l, &p[i], ends[i][0], LOOP_OUT);
		p[i].then = pause_other;
		p[i].other = &p[!i];
	}
	assert_int_equal(pass(l, 0), 1);
	for (int i = 0; i < 2; i++) {
		loop_io_stop(&p[i].io);
		close(ends[i][0]);
		close(ends[i][1]);
	}
	loop_free(l);
}

static void free_self(struct probe *p)
{
	int fd = p->io.fd;

	stop_all(p);
	close(fd);
	free(p);
}

TEST(an_io_may_be_freed_in_its_own_callback)
{
	struct loop *l = new_loop();
	int ends[2];

	for (int i = 0; i < 3; i++) {
		struct probe *p = calloc(1, sizeof(*p));

		make_pair(ends);
		p->then = free_self;
		watch(l, p, ends[0], LOOP_OUT);
		close(ends[1]);
	}
	assert_int_equal(pass(l, 0), 3);
	assert_int_equal(pass(l, 0), 0);
	loop_free(l);
}

/* Stops itself and starts again on another descriptor, which is not ready. */
static void move_self(struct probe *p)
{
	struct err e;

	loop_io_stop(&p->io);
	p->then = NULL;
	assert_ok(loop_io_start(p->loop, &p->io, p->other->io.fd, LOOP_IN, on_ready, &e), &e);
}

TEST(an_io_that_moves_hears_nothing_of_its_old_descriptor)
{
	struct loop *l = new_loop();
	struct probe quiet = { 0 };
	struct probe p = { .then = move_self, .other = &quiet, .loop = l };
	int a[2], b[2];

	make_pair(a);
	make_pair(b);
	quiet.io.fd = b[0];
	watch(l, &p, a[0], LOOP_OUT);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(pass(l, 0), 0);
	assert_int_equal(write(b[1], "x", 1), 1);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(p.got, LOOP_IN);
	/* Also without a stop in between. */
	watch(l, &p, a[0], LOOP_OUT);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(p.got, LOOP_OUT);
	loop_io_stop(&p.io);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
	loop_free(l);
}

TEST(more_ready_descriptors_than_one_batch_holds_are_all_told)
{
	enum { MANY = 150 };
	struct loop *l = new_loop();
	struct probe p[MANY] = { 0 };
	int ends[2];

	for (int i = 0; i < MANY; i++) {
		make_pair(ends);
		close(ends[1]);
		watch(l, &p[i], ends[0], LOOP_IN);
	}
	for (int i = 0; i < 4; i++)
		pass(l, 0);
	for (int i = 0; i < MANY; i++) {
		assert_true(p[i].calls > 0);
		loop_io_stop(&p[i].io);
		close(p[i].io.fd);
	}
	loop_free(l);
}

TEST(a_file_is_refused_with_a_clear_message)
{
	auto_close int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct loop *l = new_loop();
	struct probe p = { 0 };
	struct err e;
	char want[100];

	snprintf(want, sizeof(want), "loop: descriptor %d is a file, always ready: "
		 "cannot be watched", fd);
	assert_fails(loop_io_start(l, &p.io, fd, LOOP_IN, on_ready, &e), &e, ERR_SYS, want);
	assert_null(p.io.loop);
	loop_io_stop(&p.io);
	assert_int_equal(loop_io_start(l, &p.io, -1, LOOP_IN, on_ready, &e), -1);
	assert_int_equal(e.sys, EBADF);
	loop_free(l);
}

TEST(an_object_started_on_another_loop_leaves_the_first)
{
	struct loop *l = new_loop(), *m = new_loop();
	struct probe p = { 0 };
	int ends[2];

	make_pair(ends);
	watch(l, &p, ends[0], LOOP_OUT);
	watch(m, &p, ends[0], LOOP_OUT);
	start_timer(l, &p, 0);
	start_timer(m, &p, 0);
	assert_int_equal(pass(l, 0), 0);
	pass(m, 10);
	assert_int_equal(p.calls, 2);
	stop_all(&p);
	close(ends[0]);
	close(ends[1]);
	loop_free(l);
	loop_free(m);
}

static void pass_inside(struct probe *p)
{
	struct err e;

	assert_fails(loop_pass(p->loop, 0, &e), &e, ERR_INTERNAL,
		     "loop: a pass inside a callback");
}

TEST(a_pass_inside_a_callback_is_refused)
{
	struct loop *l = new_loop();
	struct probe p = { .then = pass_inside, .loop = l };

	start_timer(l, &p, 0);
	assert_int_equal(pass(l, 1000), 1);
	loop_free(l);
}

/* --- timers --- */

TEST(a_timer_comes_once_and_not_before_its_time)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	uint64_t start = now_ns();

	start_timer(l, &p, 20);
	while (!p.calls)
		pass(l, -1);
	assert_true(now_ns() - start >= 20000000);
	assert_null(p.timer.loop);
	assert_int_equal(pass(l, 5), 0);
	assert_int_equal(p.calls, 1);
	loop_free(l);
}

TEST(a_timer_that_is_due_does_not_need_a_wait)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };

	start_timer(l, &p, 0);
	assert_int_equal(pass(l, 0), 1);
	loop_free(l);
}

TEST(starting_an_armed_timer_moves_it)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };

	start_timer(l, &p, 0);
	start_timer(l, &p, 60000);
	assert_int_equal(pass(l, 5), 0);
	start_timer(l, &p, 0);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(pass(l, 5), 0);
	loop_free(l);
}

TEST(a_stopped_timer_does_not_come_even_when_it_was_due)
{
	struct loop *l = new_loop();
	struct probe p[2] = { 0 };

	for (int i = 0; i < 2; i++) {
		p[i].then = stop_other;
		p[i].other = &p[!i];
		start_timer(l, &p[i], 0);
	}
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(pass(l, 5), 0);
	assert_int_equal(p[0].calls, 1);
	start_timer(l, &p[0], 1);
	loop_timer_stop(&p[0].timer);
	loop_timer_stop(&p[0].timer);
	assert_int_equal(pass(l, 5), 0);
	loop_free(l);
}

static void start_again(struct probe *p)
{
	start_timer(p->loop, p, 0);
}

TEST(a_timer_that_starts_itself_at_once_comes_once_a_pass)
{
	struct loop *l = new_loop();
	struct probe p = { .then = start_again, .loop = l };

	start_timer(l, &p, 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(pass(l, 1000), 1);
	loop_timer_stop(&p.timer);
	loop_free(l);
}

static void free_timer(struct probe *p)
{
	free(p);
}

TEST(a_timer_may_be_freed_in_its_own_callback)
{
	struct loop *l = new_loop();
	struct probe *p = calloc(1, sizeof(*p));

	p->then = free_timer;
	start_timer(l, p, 0);
	assert_int_equal(pass(l, 1000), 1);
	loop_free(l);
}

TEST(a_timer_for_the_end_of_time_is_fine)
{
	struct loop *l = new_loop();
	struct probe p = { 0 }, q = { 0 };

	start_timer(l, &p, UINT64_MAX);
	start_timer(l, &q, 0);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(pass(l, 5), 0);
	assert_int_equal(p.calls, 0);
	loop_timer_stop(&p.timer);
	loop_free(l);
}

static struct probe *came[1000];
static size_t came_len;

static void note(struct probe *p)
{
	came[came_len++] = p;
}

TEST(many_timers_come_in_order_and_stopped_ones_not_at_all)
{
	enum { MANY = 1000 };
	static struct probe p[MANY];
	struct loop *l = new_loop();
	uint32_t seed = 1;
	size_t left = 0;

	came_len = 0;
	for (int i = 0; i < MANY; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = (struct probe){ .then = note };
		start_timer(l, &p[i], seed >> 16 & 15);
	}
	for (int i = 0; i < MANY; i += 3)
		loop_timer_stop(&p[i].timer);
	for (int i = 1; i < MANY; i += 6)
		start_timer(l, &p[i], 3);
	for (int i = 0; i < MANY; i++)
		left += p[i].timer.loop != NULL;
	for (uint64_t start = now_ns(); came_len < left && now_ns() - start < 5000000000u;)
		pass(l, 100);
	assert_int_equal(came_len, left);
	for (size_t i = 1; i < came_len; i++)
		assert_true(came[i - 1]->timer.due_ns <= came[i]->timer.due_ns);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(p[i].calls, i % 3 ? 1 : 0);
	loop_free(l);
}

TEST(a_foreign_loop_sees_timers_and_descriptors_on_one_descriptor)
{
	struct loop *l = new_loop();
	struct pollfd foreign = { .fd = loop_fd(l), .events = POLLIN };
	struct probe p = { 0 };
	int ends[2];

	assert_int_equal(poll(&foreign, 1, 0), 0);
	start_timer(l, &p, 5);
	assert_int_equal(poll(&foreign, 1, 5000), 1);
	assert_int_equal(pass(l, 0), 1);
	assert_int_equal(poll(&foreign, 1, 0), 0);
	make_pair(ends);
	watch(l, &p, ends[0], LOOP_OUT);
	assert_int_equal(poll(&foreign, 1, 0), 1);
	assert_int_equal(pass(l, 0), 1);
	loop_io_stop(&p.io);
	assert_int_equal(poll(&foreign, 1, 0), 0);
	/* A timer stopped in time does not wake it. */
	start_timer(l, &p, 1);
	loop_timer_stop(&p.timer);
	assert_int_equal(poll(&foreign, 1, 10), 0);
	close(ends[0]);
	close(ends[1]);
	loop_free(l);
}

/* --- signals and children --- */

static void start_signal(struct loop *l, struct probe *p, int sig)
{
	struct err e;

	assert_ok(loop_signal_start(l, &p->signal, sig, on_signal, &e), &e);
}

TEST(a_signal_is_delivered_to_everyone_who_asked_for_it)
{
	struct loop *l = new_loop();
	struct probe a = { 0 }, b = { 0 }, other = { 0 };

	start_signal(l, &a, SIGUSR1);
	start_signal(l, &b, SIGUSR1);
	start_signal(l, &other, SIGUSR2);
	raise(SIGUSR1);
	assert_int_equal(pass(l, 1000), 2);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 1);
	assert_int_equal(other.calls, 0);
	raise(SIGUSR2);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(other.calls, 1);
	assert_int_equal(pass(l, 0), 0);
	stop_all(&a);
	stop_all(&b);
	stop_all(&other);
	loop_free(l);
}

TEST(a_signal_stopped_by_another_ones_callback_is_not_delivered)
{
	struct loop *l = new_loop();
	struct probe p[2] = { 0 };

	for (int i = 0; i < 2; i++) {
		p[i].then = stop_other;
		p[i].other = &p[!i];
		start_signal(l, &p[i], SIGUSR1);
	}
	raise(SIGUSR1);
	assert_int_equal(pass(l, 1000), 1);
	assert_int_equal(p[0].calls + p[1].calls, 1);
	stop_all(&p[0]);
	stop_all(&p[1]);
	loop_free(l);
}

static void stop_self(struct probe *p)
{
	stop_all(p);
}

TEST(a_signal_that_stops_itself_comes_once_and_stays_blocked)
{
	struct loop *l = new_loop();
	struct probe p = { .then = stop_self };
	const struct timespec now = { 0, 0 };
	sigset_t set;

	start_signal(l, &p, SIGUSR1);
	raise(SIGUSR1);
	assert_int_equal(pass(l, 1000), 1);
	raise(SIGUSR1);
	assert_int_equal(pass(l, 5), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGUSR1);
	/* It can be started again. */
	p.then = NULL;
	start_signal(l, &p, SIGUSR1);
	raise(SIGUSR1);
	assert_int_equal(pass(l, 1000), 1);
	stop_all(&p);
	loop_free(l);
}

TEST(signals_that_cannot_be_caught_are_refused)
{
	static const int signals[] = { SIGKILL, SIGSTOP, 0, -1, 1000 };
	struct loop *l = new_loop();
	struct probe p = { 0 };
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		assert_int_equal(loop_signal_start(l, &p.signal, signals[i], on_signal, &e), -1);
		assert_int_equal(e.sys, EINVAL);
		assert_null(p.signal.loop);
	}
	loop_free(l);
}

TEST(the_end_of_a_child_is_seen_by_its_pidfd)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	pid_t pid = fork();
	int fd, status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(7);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0) {
		waitpid(pid, NULL, 0);
		loop_free(l);
		skip();
	}
	watch(l, &p, fd, LOOP_IN);
	assert_int_equal(pass(l, 5000), 1);
	assert_true(p.got & LOOP_IN);
	assert_int_equal(waitpid(pid, &status, WNOHANG), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	loop_io_stop(&p.io);
	close(fd);
	loop_free(l);
}

static void ignore(int sig)
{
	(void)sig;
}

TEST(a_wait_cut_short_by_a_signal_handler_is_no_error)
{
	struct sigaction act = { .sa_handler = ignore }, before;
	const struct itimerval soon = { .it_value = { .tv_usec = 5000 } };
	struct loop *l = new_loop();

	assert_int_equal(sigaction(SIGALRM, &act, &before), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	assert_int_equal(pass(l, 5000), 0);
	sigaction(SIGALRM, &before, NULL);
	loop_free(l);
}

TEST(nothing_of_the_loop_is_inherited_by_a_program)
{
	struct loop *l = new_loop();
	struct probe p = { 0 };
	int last;

	start_signal(l, &p, SIGUSR1);
	last = dup(0);
	for (int fd = 3; fd < last; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && fd >= loop_fd(l))
			assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(last);
	stop_all(&p);
	loop_free(l);
	loop_free(NULL);
}

/* --- clocks --- */

TEST(times_are_written_as_rfc_3339_says)
{
	static const struct { uint64_t us; const char *text; } rows[] = {
		{ 0, "1970-01-01T00:00:00.000000Z" },
		{ 1, "1970-01-01T00:00:00.000001Z" },
		{ UINT64_C(951782400000000), "2000-02-29T00:00:00.000000Z" },
		{ UINT64_C(1793614272123456), "2026-11-02T10:11:12.123456Z" },
		{ UINT64_C(4107542399999999), "2100-02-28T23:59:59.999999Z" },
		{ UINT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z" },
		{ UINT64_MAX, "9999-12-31T23:59:59.999999Z" },
	};
	char buf[28];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_ptr_equal(time_rfc3339(rows[i].us, buf), buf);
		assert_string_equal(buf, rows[i].text);
	}
}

TEST(clocks_go_forward)
{
	uint64_t ns = now_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t next = now_ns();

		assert_true(next >= ns);
		ns = next;
	}
	assert_true(now_real_us() > UINT64_C(1600000000000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pass_with_nothing_to_do_returns_zero_after_its_wait),
		cmocka_unit_test(readiness_is_told_until_it_is_used_up),
		cmocka_unit_test(interest_can_be_changed_and_only_what_is_wanted_is_told),
		cmocka_unit_test(a_hang_up_is_told_unasked_and_bytes_are_still_there),
		cmocka_unit_test(the_reader_who_leaves_is_told_to_the_writer),
		cmocka_unit_test(a_stopped_io_pauses_even_a_hang_up_and_loses_nothing),
		cmocka_unit_test(an_event_already_collected_is_not_told_after_a_stop),
		cmocka_unit_test(an_event_already_collected_is_not_told_once_unwanted),
		cmocka_unit_test(an_io_may_be_freed_in_its_own_callback),
		cmocka_unit_test(an_io_that_moves_hears_nothing_of_its_old_descriptor),
		cmocka_unit_test(more_ready_descriptors_than_one_batch_holds_are_all_told),
		cmocka_unit_test(a_file_is_refused_with_a_clear_message),
		cmocka_unit_test(an_object_started_on_another_loop_leaves_the_first),
		cmocka_unit_test(a_pass_inside_a_callback_is_refused),
		cmocka_unit_test(a_timer_comes_once_and_not_before_its_time),
		cmocka_unit_test(a_timer_that_is_due_does_not_need_a_wait),
		cmocka_unit_test(starting_an_armed_timer_moves_it),
		cmocka_unit_test(a_stopped_timer_does_not_come_even_when_it_was_due),
		cmocka_unit_test(a_timer_that_starts_itself_at_once_comes_once_a_pass),
		cmocka_unit_test(a_timer_may_be_freed_in_its_own_callback),
		cmocka_unit_test(a_timer_for_the_end_of_time_is_fine),
		cmocka_unit_test(many_timers_come_in_order_and_stopped_ones_not_at_all),
		cmocka_unit_test(a_foreign_loop_sees_timers_and_descriptors_on_one_descriptor),
		cmocka_unit_test(a_signal_is_delivered_to_everyone_who_asked_for_it),
		cmocka_unit_test(a_signal_stopped_by_another_ones_callback_is_not_delivered),
		cmocka_unit_test(a_signal_that_stops_itself_comes_once_and_stays_blocked),
		cmocka_unit_test(signals_that_cannot_be_caught_are_refused),
		cmocka_unit_test(the_end_of_a_child_is_seen_by_its_pidfd),
		cmocka_unit_test(a_wait_cut_short_by_a_signal_handler_is_no_error),
		cmocka_unit_test(nothing_of_the_loop_is_inherited_by_a_program),
		cmocka_unit_test(times_are_written_as_rfc_3339_says),
		cmocka_unit_test(clocks_go_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
