/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "protocol/base/log.h"
#include "protocol/base/loop.h"
#include "protocol/lines.h"
#include "worker/crash.h"
#include "worker/keeper_plan.h"
#include "worker/manifest.h"
#include "worker/self.h"
#include "worker/spawn.h"
#include "worker/spool.h"
#include "worker/tree.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#define STDIN_BUFFER      (64 * 1024)
#define LEFTOVER_GRACE_MS 1000 /* how long what a step left running gets after TERM */
#define TREE_END_MS       10000
#define DRAIN_MAX_MS \
	5000 /* after everything was killed: only a pipe held from outside can still be open */
#define ALIVE_NS  1000000000ull
#define ORDER_MAX (LIMIT_DATA + 64)

static struct keeper {
	struct loop *loop;
	struct keeper_plan plan;
	struct receipt rc;
	enum keeper_phase phase;
	int dir_fd;
	pid_t leader;
	bool leader_dead;
	int pipes[KS_COUNT][2]; /* made while it waits for a plan */
	struct spool spool[KS_COUNT];
	struct lines lines;
	char said[400]; /* the reason that the step gave for its failure */
	int stdin_fd; /* our end of the step's standard input; -1: none or closed */
	struct buf stdin_wait;
	uint64_t stdin_have;
	bool stdin_end, stdin_closed;
	enum exit_kind why; /* EXIT_TIMEOUT, EXIT_CANCELLED: decided before the leader ended */
	bool ending;        /* TERM was sent */
	uint64_t started_ns;
	struct rusage used; /* by all that was reaped */
	int64_t rows_rank;
	bool told_changed, finished;
	bool killed; /* somebody had to be ended by us */
	bool again;  /* this step is over, and another may come */
	uint64_t told_ns; /* when the worker was told something last */
	struct loop_io orders, lifeline, stdin_io;
	struct loop_timer timeout, kill, linger, leftover, hard;
	struct loop_signal on_chld;
} k;

static uint8_t order[ORDER_MAX]; /* the message that is being read */

static void check_drained(void);

/* ---- what the worker is told ---- */

/* Never waits: what cannot be sent now is said by a later state. */
static void tell(void)
{
	struct keeper_state st = {
		.type = 'S',
		.phase = (uint8_t)k.phase,
		.stdin_closed = k.stdin_closed,
		.again = k.again,
		.pid = k.leader,
		.stdin_have = k.stdin_have,
		.stdin_room = k.stdin_closed ? 0 : STDIN_BUFFER - buf_len(&k.stdin_wait),
	};

	for (int i = 0; i < KS_COUNT; i++)
		st.len[i] = k.spool[i].len;
	(void)!send(KEEPER_FD, &st, sizeof(st), MSG_DONTWAIT | MSG_NOSIGNAL);
	k.told_changed = false;
	k.told_ns = now_ns();
}

/* The worker ends a keeper that says nothing for long, and hashing takes as long as it takes. */
static void alive(void)
{
	if (now_ns() - k.told_ns >= ALIVE_NS)
		tell();
}

/* ---- the step's own word on descriptor 3 ---- */

static int rank_of(const char *name)
{
	static const char *const names[] = { "rows", "rows_read", "rows_processed",
		                             "rows_written" };

	for (int i = 0; name && i < (int)ARRAY_LEN(names); i++)
		if (strcmp(names[i], name) == 0)
			return i + 1;
	return 0;
}

static void note_message(const json *v)
{
	const char *type = json_string(json_get(v, "type"));
	const char *error = json_string(json_get(v, "error"));
	int rank;

	if (!type)
		return;
	if (strcmp(type, "complete") == 0) {
		k.rc.said_complete = true;
		k.rc.said_success = !json_get(v, "success") || json_is_true(json_get(v, "success"));
		if (!k.rc.said_success && error && *error) {
			snprintf(k.said, sizeof(k.said), "%s", error);
			receipt_note_said(&k.rc, k.said);
		}
	} else if (strcmp(type, "metric") == 0 && json_type(json_get(v, "value")) == JSON_NUMBER) {
		rank = rank_of(json_string(json_get(v, "name")));
		if (rank && rank >= k.rows_rank && json_number(json_get(v, "value")) >= 0 &&
		    json_number(json_get(v, "value")) < (double)JSON_INT_MAX) {
			k.rows_rank = rank;
			k.rc.rows = (int64_t)json_number(json_get(v, "value"));
		}
	}
}

static int on_line(void *arg, const char *line, size_t n, struct err *e)
{
	json *v;

	(void)arg, (void)e;
	/* Most lines are none of ours: a look before the parser. */
	if (!memmem(line, n, "complete", 8) && !memmem(line, n, "rows", 4))
		return 0;
	v = json_parse(line, n, LIMIT_EVENT_LINE, LIMIT_JSON_DEPTH, NULL);
	if (v && json_type(v) == JSON_OBJECT)
		note_message(v);
	json_free(v);
	return 0;
}

static void on_event_bytes(struct spool *s, const uint8_t *p, size_t n)
{
	(void)s;
	lines_feed(&k.lines, p, n, on_line, NULL, NULL);
}

/* ---- standard input ---- */

static void close_stdin(void)
{
	loop_io_stop(&k.stdin_io);
	close_fd(&k.stdin_fd);
	k.stdin_closed = true;
	buf_reset(&k.stdin_wait);
}

static void pump_stdin(struct loop_io *io, unsigned got)
{
	(void)io, (void)got;
	while (k.stdin_fd >= 0 && buf_len(&k.stdin_wait)) {
		ssize_t n = write(k.stdin_fd, buf_data(&k.stdin_wait), buf_len(&k.stdin_wait));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) { /* nobody reads it any more */
			close_stdin();
			break;
		}
		buf_consume(&k.stdin_wait, (size_t)n);
	}
	if (k.stdin_fd >= 0 && !buf_len(&k.stdin_wait)) {
		loop_io_stop(&k.stdin_io);
		if (k.stdin_end)
			close_stdin();
	} else if (k.stdin_fd >= 0 && !k.stdin_io.loop) {
		loop_io_start(k.loop, &k.stdin_io, k.stdin_fd, LOOP_OUT, pump_stdin, NULL);
	}
	k.told_changed = true;
}

static void order_stdin(const uint8_t *p, size_t n)
{
	uint64_t offset, skip;

	if (n < 9)
		return;
	memcpy(&offset, p + 1, sizeof(offset));
	if (offset > k.stdin_have) /* a hole: the client comes again after a STATE */
		return;
	skip = k.stdin_have - offset;
	if (skip <= n - 9) {
		size_t more = n - 9 - (size_t)skip;

		if (!k.stdin_closed && buf_put(&k.stdin_wait, p + 9 + skip, more, NULL) < 0)
			return;
		k.stdin_have += more;
	}
	if (p[0])
		k.stdin_end = true;
	pump_stdin(NULL, 0);
}

/* ---- the end ---- */

/* One line behind the claim's: no file more, and torn it is no record. */
static int append_record(const struct buf *line, struct err *e)
{
	auto_close int fd = openat(k.dir_fd, "claim", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "claim");
	return fs_write_all(fd, buf_data(line), buf_len(line), e);
}

/* It ended by itself, nobody else was there, and nothing of ours is changed by it. */
static bool is_clean(void)
{
	return !k.ending && !k.killed && !k.plan.backtrace &&
	       (k.rc.exit.kind == EXIT_EXITED || k.rc.exit.kind == EXIT_SIGNALED);
}

static void write_record(void)
{
	char hmac[SHA256_HEX];
	struct buf text, record;
	struct jw w;
	struct err e = ERR_INIT;
	const char *s = NULL;

	buf_init(&text, LIMIT_RECORD / 2);
	buf_init(&record, LIMIT_RECORD);
	if (receipt_print(&k.rc, &text, &e) == 0)
		s = buf_cstr(&text, &e);
	if (s) {
		receipt_sign(k.plan.key, s, buf_len(&text), hmac);
		jw_init(&w, &record);
		jw_obj(&w);
		jw_kstr(&w, "receipt", s);
		jw_kstr(&w, "hmac", hmac);
		if (k.said[0])
			jw_kstr(&w, "said", k.said);
		jw_end(&w);
		if (jw_done(&w, &e) == 0 && buf_putc(&record, '\n', &e) == 0 &&
		    append_record(&record, &e) == 0)
			k.phase = KP_FINISHED;
	}
	/* Without a record the worker sees us go and calls the step lost: there is no proof. */
	if (k.phase != KP_FINISHED)
		log_error("step %s: no record: %s", k.rc.step, e.msg);
	buf_release(&text);
	buf_release(&record);
	wipe(k.plan.key, sizeof(k.plan.key));
	k.again = k.phase == KP_FINISHED && is_clean();
	tell();
	k.finished = true;
}

static void sum(struct stream_sum *to, const struct spool *s)
{
	to->bytes = s->len;
	hash_hex(&s->hash, to->sha256);
}

static void note_usage(void)
{
	const struct rusage u = k.used;

	k.rc.usage.user_ms = (double)u.ru_utime.tv_sec * 1e3 + (double)u.ru_utime.tv_usec / 1e3;
	k.rc.usage.sys_ms = (double)u.ru_stime.tv_sec * 1e3 + (double)u.ru_stime.tv_usec / 1e3;
	k.rc.usage.max_rss_kb = u.ru_maxrss;
	k.rc.usage.read_kb = u.ru_inblock / 2;
	k.rc.usage.written_kb = u.ru_oublock / 2;
}

static void note_failure(enum step_status status)
{
	static const char *const names[KS_COUNT] = { "stdout", "stderr", "events" };

	for (int i = 0; i < KS_COUNT; i++)
		if (k.spool[i].error.code && !k.rc.error[0])
			snprintf(k.rc.error, sizeof(k.rc.error), "%s could not be kept: %.300s",
			         names[i], k.spool[i].error.msg);
	if (status == STATUS_SUCCESS || k.rc.error[0])
		return;
	if (status == STATUS_ERROR && k.rc.exit.kind == EXIT_EXITED && k.rc.exit.code == 0)
		snprintf(k.rc.error, sizeof(k.rc.error), "the step reported a failure");
	else if (k.rc.exit.kind == EXIT_TIMEOUT)
		snprintf(k.rc.error, sizeof(k.rc.error), "timed out after %lld ms",
		         (long long)k.plan.timeout_ms);
	else if (k.rc.exit.kind == EXIT_CANCELLED)
		snprintf(k.rc.error, sizeof(k.rc.error), "ended by %s", k.rc.exit.by);
	else if (k.rc.exit.signal)
		snprintf(k.rc.error, sizeof(k.rc.error), "ended by signal %d (%s)",
		         k.rc.exit.signal, strsignal(k.rc.exit.signal));
	else
		snprintf(k.rc.error, sizeof(k.rc.error), "exit code %d", k.rc.exit.code);
}

static void conclude(void)
{
	struct err e = ERR_INIT;
	bool broken = false;

	lines_finish(&k.lines, on_line, NULL, NULL);
	sum(&k.rc.out, &k.spool[KS_STDOUT]);
	sum(&k.rc.err, &k.spool[KS_STDERR]);
	sum(&k.rc.events, &k.spool[KS_EVENTS]);
	for (int i = 0; i < KS_COUNT; i++)
		broken |= k.spool[i].error.code != 0;
	k.rc.stdin_bytes = k.stdin_have;
	k.rc.ended_us = now_real_us();
	k.rc.usage.wall_ms = k.started_ns ? (double)(now_ns() - k.started_ns) / 1e6 : 0;
	note_usage();
	k.plan.artifacts.alive = alive;
	if (manifest_make(&k.plan.artifacts, k.dir_fd, &k.rc, &e) < 0) {
		broken = true;
		snprintf(k.rc.error, sizeof(k.rc.error), "%.400s", e.msg);
	}
	k.rc.status = receipt_status(&k.rc);
	if (broken && k.rc.status == STATUS_SUCCESS)
		k.rc.status = STATUS_ERROR;
	note_failure(k.rc.status);
	if (k.rc.status != STATUS_SUCCESS)
		crash_note(k.rc.error, sizeof(k.rc.error));
	write_record();
}

static void end_all(void)
{
	int n = tree_end(k.leader, NULL, 0, TREE_END_MS, &k.used);

	k.killed = true;
	if (n > 0)
		k.rc.leftovers += n;
}

static void on_hard(struct loop_timer *t)
{
	(void)t;
	for (int i = 0; i < KS_COUNT; i++)
		spool_stop(&k.spool[i]);
	check_drained();
}

static void kill_leftovers(struct loop_timer *t)
{
	(void)t;
	loop_timer_stop(&k.leftover);
	loop_timer_stop(&k.linger);
	end_all();
	/* Everything is dead; what the pipes hold is still read to the end. */
	loop_timer_start(k.loop, &k.hard, DRAIN_MAX_MS, on_hard, NULL);
	check_drained();
}

/* The leader is gone and something else still runs: it gets a TERM, then a KILL. */
static void end_leftovers(void)
{
	if (k.leftover.loop || k.hard.loop)
		return;
	k.killed = true;
	if (tree_signal(getpid(), 0, SIGTERM) == 0) {
		kill_leftovers(NULL);
		return;
	}
	loop_timer_start(k.loop, &k.leftover,
	                 k.plan.grace_ms < LEFTOVER_GRACE_MS ? (uint64_t)k.plan.grace_ms
	                                                     : LEFTOVER_GRACE_MS,
	                 kill_leftovers, NULL);
}

static void on_linger(struct loop_timer *t)
{
	(void)t;
	end_leftovers();
}

static bool children_left(void)
{
	siginfo_t info;

	info.si_pid = 0;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static bool pipes_open(void)
{
	for (int i = 0; i < KS_COUNT; i++)
		if (!k.spool[i].eof)
			return true;
	return false;
}

static void check_drained(void)
{
	if (k.phase != KP_DRAINING || !k.leader_dead || k.finished)
		return;
	if (pipes_open()) {
		if (!k.linger.loop && !k.leftover.loop && !k.hard.loop)
			loop_timer_start(k.loop, &k.linger, (uint64_t)k.plan.linger_ms, on_linger,
			                 NULL);
		return;
	}
	if (children_left() && !k.hard.loop) {
		end_leftovers();
		return;
	}
	conclude();
}

static void leader_ended(int status)
{
	k.leader_dead = true;
	k.phase = KP_DRAINING;
	k.told_changed = true;
	k.rc.exit.kind = k.why ? k.why : WIFSIGNALED(status) ? EXIT_SIGNALED : EXIT_EXITED;
	k.rc.exit.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	k.rc.exit.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	k.rc.exit.core = WIFSIGNALED(status) && WCOREDUMP(status);
	loop_timer_stop(&k.timeout);
	close_stdin();
	/* Last, because it may conclude: the rest of the tree has had its TERM. */
	if (k.kill.loop) {
		loop_timer_stop(&k.kill);
		end_leftovers();
	}
}

static void on_child(struct loop_signal *s)
{
	struct rusage one;
	int status;
	pid_t pid;

	(void)s;
	while ((pid = wait4(-1, &status, WNOHANG | __WALL, &one)) > 0) {
		if (crash_on_status(pid, status))
			continue;
		tree_count(&k.used, &one);
		if (pid == k.leader && !k.leader_dead)
			leader_ended(status);
	}
	check_drained();
}

/* tree_end reaps what it ends, the leader among it: its status is then only that we killed it. */
static void kill_step(void)
{
	end_all();
	if (!k.leader_dead) {
		int status = SIGKILL;

		waitpid(k.leader, &status, WNOHANG);
		leader_ended(status);
	}
	check_drained();
}

static void on_kill(struct loop_timer *t)
{
	(void)t;
	kill_step();
}

static void on_spool(struct spool *s)
{
	if (s->len != s->told) {
		s->told = s->len;
		k.told_changed = true;
	}
	if (s->error.code && k.phase == KP_RUNNING && !k.ending) {
		/* A full disk: going on would lose output. */
		log_error("step %s: %s", k.rc.step, s->error.msg);
		k.ending = true;
		kill_step();
	}
	if (s->eof)
		check_drained();
}

static void end_step(enum exit_kind why, const char *by, int64_t grace_ms)
{
	if (k.leader_dead || k.ending || k.finished)
		return;
	k.ending = true;
	k.why = why;
	snprintf(k.rc.exit.by, sizeof(k.rc.exit.by), "%s", by);
	tree_signal(getpid(), k.leader, SIGTERM);
	/* A stopped process would not see its TERM. */
	tree_signal(getpid(), k.leader, SIGCONT);
	loop_timer_start(k.loop, &k.kill, (uint64_t)grace_ms, on_kill, NULL);
}

static void on_timeout(struct loop_timer *t)
{
	(void)t;
	end_step(EXIT_TIMEOUT, "timeout", k.plan.grace_ms);
}

/* ---- the beginning ---- */

static int make_pipes(struct err *e)
{
	for (int i = 0; i < KS_COUNT; i++) {
		if (pipe2(k.pipes[i], O_CLOEXEC) < 0)
			return err_set(e, ERR_SYS, errno, "pipe");
		fcntl(k.pipes[i][0], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

static void spawn_failed(const struct spawn_failure *why, const struct err *e)
{
	k.rc.exit.kind = EXIT_SPAWN_FAILED;
	k.rc.exit.stage = why->stage;
	k.rc.exit.sys = why->sys;
	k.rc.exit.code = why->sys == ENOENT ? 127 : 126;
	snprintf(k.rc.error, sizeof(k.rc.error), "%.400s", e->msg);
	k.leader_dead = true;
	k.phase = KP_DRAINING;
}

/* A program that cannot be traced after all runs on; the step's events say so. */
static void follow(int events_fd)
{
	struct err e = ERR_INIT;
	char line[400];
	int n;

	if (crash_follow(k.leader, k.plan.artifacts.artifacts_dir, &e) == 0)
		return;
	n = snprintf(line, sizeof(line),
	             "{\"type\":\"log\",\"level\":\"warning\",\"message\":\"%.200s\"}\n", e.msg);
	(void)!write(events_fd, line, (size_t)n);
}

static int start(struct err *e)
{
	static const char *const names[KS_COUNT] = { "stdout", "stderr", "events" };
	int in[2] = { -1, -1 };
	struct spawn_failure why = { STAGE_NONE, 0 };
	struct err failed = ERR_INIT;
	struct spawn_spec spec = { k.plan.argv,
		                   k.plan.envp,
		                   k.plan.cwd,
		                   { -1, -1, -1, -1 },
		                   (uint64_t)k.plan.memory_mb << 20,
		                   k.plan.backtrace };

	k.dir_fd = openat(AT_FDCWD, k.plan.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k.dir_fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", k.plan.dir);
	for (int i = 0; i < KS_COUNT; i++) {
		if (spool_open(&k.spool[i], k.loop, k.dir_fd, names[i], k.pipes[i][0],
		               (uint64_t)k.plan.spool_bytes, e) < 0)
			return -1;
		k.spool[i].on_change = on_spool;
		spec.fds[i + 1] = k.pipes[i][1];
	}
	k.spool[KS_EVENTS].on_bytes = on_event_bytes;
	if (k.plan.has_stdin) {
		if (pipe2(in, O_CLOEXEC) < 0)
			return err_set(e, ERR_SYS, errno, "pipe");
		spec.fds[0] = in[0];
		k.stdin_fd = in[1];
		fs_nonblock(in[1], true);
	} else {
		k.stdin_closed = true;
	}
	k.rc.started_us = now_real_us();
	k.started_ns = now_ns();
	k.leader = spawn(&spec, &why, &failed);
	if (k.leader > 0 && k.plan.backtrace)
		follow(k.pipes[KS_EVENTS][1]);
	for (int i = 0; i < KS_COUNT; i++)
		close_fd(&k.pipes[i][1]);
	close_fd(&in[0]);
	keeper_plan_forget_env(&k.plan);
	if (k.leader < 0) {
		k.leader = 0;
		spawn_failed(&why, &failed);
		return 0;
	}
	k.phase = KP_RUNNING;
	return k.plan.timeout_ms ? loop_timer_start(k.loop, &k.timeout, (uint64_t)k.plan.timeout_ms,
	                                            on_timeout, e)
	                         : 0;
}

static void order_plan(int fd, uint8_t *text, size_t n)
{
	struct err e = ERR_INIT;
	int r;

	if (k.phase != KP_WAITING || k.leader)
		return;
	r = fd < 0 ? keeper_plan_take(text, n, &k.plan, &k.rc, &e)
	           : keeper_plan_read(fd, &k.plan, &k.rc, &e);
	if (r < 0 || start(&e) < 0) {
		log_error("keeper: %s", e.msg);
		/* No record can be written: the worker sees us go. */
		k.finished = true;
		return;
	}
	tell();
	check_drained();
}

static void order_cancel(const uint8_t *p, size_t n)
{
	int32_t grace;

	if (n < sizeof(grace) + 2 || p[n - 1] != 0)
		return;
	memcpy(&grace, p, sizeof(grace));
	end_step(EXIT_CANCELLED, (const char *)p + sizeof(grace), grace < 0 ? 0 : grace);
}

static void order_ack(const uint8_t *p, size_t n)
{
	uint64_t offset;

	if (n != 9 || p[0] >= KS_COUNT)
		return;
	memcpy(&offset, p + 1, sizeof(offset));
	spool_ack(&k.spool[p[0]], offset);
}

static ssize_t receive(int *fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { order, sizeof(order) };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = &control,
		            .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(KEEPER_FD, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	return n;
}

static void on_orders(struct loop_io *io, unsigned got)
{
	ssize_t n;
	int fd;

	(void)got;
	while (!k.finished && (n = receive(&fd)) > 0) {
		uint8_t *p = order + 1;
		size_t len = (size_t)n - 1;

		if (k.phase == KP_WAITING && order[0] != KO_PLAN && order[0] != KO_STATE) {
			close_fd(&fd); /* it came too late for the step before */
			continue;
		}
		switch ((enum keeper_order)order[0]) {
		case KO_PLAN:
			order_plan(fd, p, len);
			break;
		case KO_STATE:
			k.told_changed = true;
			break;
		case KO_STDIN:
			order_stdin(p, len);
			break;
		case KO_CANCEL:
			order_cancel(p, len);
			break;
		case KO_ACK:
			order_ack(p, len);
			break;
		}
		close_fd(&fd);
	}
	/* Both holders of the other end are gone: the lifeline says so too. */
	if (got & LOOP_HUP)
		loop_io_stop(io);
	if (k.phase == KP_WAITING && !k.leader && (got & LOOP_HUP))
		k.finished = true;
}

/* The supervisor is gone: nobody could ever ask for this step again. */
static void on_lifeline(struct loop_io *io, unsigned got)
{
	(void)got;
	loop_io_stop(io);
	end_all();
	k.finished = true;
}

static void protect(void)
{
	self_protect();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setsid();
	signal(SIGPIPE, SIG_IGN);
}

/* Its code is mapped while it waits, not page by page while its step waits.  What an old kernel
 * does not know is no loss. */
static void warm_up(void)
{
	extern const char __executable_start[], etext[];
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t)__executable_start & ~(page - 1);

	madvise((void *)from, (uintptr_t)etext - from, MADV_POPULATE_READ);
	/* musl maps memory a group of blocks at a time and unmaps it with its last block. */
	for (size_t size = 16; size <= 2048; size *= 2) {
		void *stays = malloc(size);

		free(stays ? malloc(size) : NULL);
	}
}

/* As it is before a step; -1: it could not take one. */
static int begin(struct err *e)
{
	k.stdin_fd = k.dir_fd = -1;
	for (int i = 0; i < KS_COUNT; i++)
		k.spool[i].pipe_fd = k.spool[i].file_fd = -1;
	receipt_init(&k.rc);
	buf_init(&k.stdin_wait, STDIN_BUFFER);
	lines_init(&k.lines, LIMIT_EVENT_LINE);
	return make_pipes(e);
}

/* Nothing stays of the step: no descriptor, no timer, no byte of its plan. */
static void end(void)
{
	loop_timer_stop(&k.timeout);
	loop_timer_stop(&k.kill);
	loop_timer_stop(&k.linger);
	loop_timer_stop(&k.leftover);
	loop_timer_stop(&k.hard);
	close_stdin();
	for (int i = 0; i < KS_COUNT; i++)
		spool_close(&k.spool[i]);
	close_fd(&k.dir_fd);
	keeper_plan_release(&k.plan);
	buf_release(&k.stdin_wait);
	lines_release(&k.lines);
	k = (struct keeper){ .loop = k.loop,
		             .orders = k.orders,
		             .lifeline = k.lifeline,
		             .on_chld = k.on_chld };
}

int keeper_main(void)
{
	struct err e = ERR_INIT;

	protect();
	fcntl(KEEPER_FD, F_SETFD, FD_CLOEXEC);
	fcntl(KEEPER_LIFELINE_FD, F_SETFD, FD_CLOEXEC);
	k.loop = loop_new(&e);
	if (!k.loop || loop_signal_start(k.loop, &k.on_chld, SIGCHLD, on_child, &e) < 0 ||
	    loop_io_start(k.loop, &k.lifeline, KEEPER_LIFELINE_FD, LOOP_IN, on_lifeline, &e) < 0 ||
	    loop_io_start(k.loop, &k.orders, KEEPER_FD, LOOP_IN, on_orders, &e) < 0 ||
	    begin(&e) < 0) {
		log_error("keeper: %s", e.msg);
		return 111;
	}
	warm_up();
	while (!k.finished) {
		if (loop_pass(k.loop, -1, &e) < 0) {
			log_error("keeper: %s", e.msg);
			end_all();
			return 111;
		}
		if (k.told_changed && !k.finished)
			tell();
		/* Nobody holds the other end any more: no plan could come. */
		if (k.again && k.orders.loop) {
			/* Who waits for the step goes first: the worker may have been woken on
			 * this processor. */
			sched_yield();
			end();
			if (begin(&e) < 0) {
				log_error("keeper: %s", e.msg);
				return 111;
			}
		}
	}
	return 0;
}
