/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of tests/golden at the worker: it understands those of the proxy, and what it
 * answers is those bytes.  The connection's other end is the test; the keeper never runs. */
#include "tests/unit/golden.h"

#include <sys/socket.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "protocol/keys.h"
#include "protocol/receipt.h"
#include "worker/session.h"
#include "worker/step.h"
#include "worker/tree.h"

#define NOBODY 0x7ffffff0 /* above every pid_max */

/* A worker without its supervisor: what it stores goes into a socket that the test reads. */
struct bench {
	struct temp_dir dir;
	struct worker_options o;
	struct worker w;
	struct carrier *c; /* the newest connection */
	struct carrier *ending[4];
	int n_ending;
	int store;
	int keeper; /* the end of the keeper that waits, and never runs a step */
	int closed; /* code of the last that the worker ended */
};

static struct bench *now; /* whose carrier it is; one at a time */

/* A driver tells of the end later, never from inside of close. */
static void on_close(struct carrier *c, int code, const char *reason)
{
	(void)reason;
	if (c->closing)
		return;
	c->closing = true;
	now->closed = code;
	now->ending[now->n_ending++] = c;
}

static void settle(struct bench *b)
{
	while (b->n_ending) {
		struct carrier *c = b->ending[--b->n_ending];

		c->on_closed(c, CLOSE_DONE, "");
		carrier_release(c);
		free(c);
	}
}

static void connect_to(struct bench *b)
{
	b->c = malloc(sizeof(*b->c));
	if (!b->c)
		abort();
	carrier_init(b->c);
	b->c->close = on_close;
	assert_true(conn_open(&b->w, b->c));
}

static void bench_init(struct bench *b)
{
	struct err e = ERR_INIT;
	int pair[2], keeper[2];

	memset(b, 0, sizeof(*b));
	log_open(2, LOG_ERROR, false, "test");
	now = b;
	b->dir = temp_dir();
	b->o = (struct worker_options){
		.root = b->dir.path, .sandbox_id = "sb-1", .max_sessions = 1,
		.heartbeat_ms = HEARTBEAT_MS, .generation = 1
	};
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	b->store = pair[1];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeper), 0);
	b->keeper = keeper[1];
	b->w = (struct worker){ .o = &b->o,
		                .store_fd = pair[0],
		                .self_fd = -1,
		                .spare = { .n = 1, .idle = { { .pid = NOBODY, .fd = keeper[0] } } },
		                .id = "sb-1/1",
		                .started_ns = 4711000000,
		                .root_fd = b->dir.fd,
		                .loop = loop_new(&e) };
	connect_to(b);
}

static struct session *session_of(struct bench *b)
{
	assert_non_null(b->w.sessions);
	return b->w.sessions;
}

static int on_line(void *arg, const char *line, size_t n, struct err *e)
{
	(void)arg, (void)line, (void)n, (void)e;
	return 0;
}

/* Ends the session; its keeper dies before. */
static void bench_release(struct bench *b)
{
	struct err e = ERR_INIT;
	uint64_t until = now_ns() + UINT64_C(5000000000);

	close(b->keeper);
	if (b->w.sessions)
		session_close(b->w.sessions, NULL, "test", CLOSE_GRACE_MS);
	while (b->w.sessions && now_ns() < until)
		assert_ok(loop_pass(b->w.loop, 100, &e), &e);
	assert_null(b->w.sessions);
	settle(b);
	while (b->w.conns) {
		conn_close(b->w.conns, CLOSE_DONE, "");
		settle(b);
	}
	close(b->store);
	close(b->w.store_fd);
	loop_free(b->w.loop);
	temp_dir_release(&b->dir);
}

static void say_text(struct bench *b, const char *text)
{
	b->c->on_frame(b->c, false, (const uint8_t *)text, strlen(text));
}

/* The proxy says what is in the file. */
static void say(struct bench *b, const char *name)
{
	auto_golden *text = golden(name);

	say_text(b, text);
}

/* The next text that the worker said; the caller frees. */
static char *said(struct bench *b)
{
	struct out_frame *f = carrier_take(b->c);
	char *ret;

	if (!f)
		fail_msg("nothing was said");
	assert_false(f->binary);
	ret = calloc(1, f->len + 1);
	memcpy(ret, out_frame_payload(f), f->len);
	carrier_written(b->c, f);
	return ret;
}

static void assert_said(struct bench *b, const char *name)
{
	auto_golden *want = golden(name);
	auto_golden *got = said(b);

	assert_string_equal(got, want);
}

/* An event, but for its time. */
static void assert_said_event(struct bench *b, const char *name)
{
	auto_golden *want = golden(name);
	auto_golden *got = golden_with(said(b), "ts", "\"2026-11-02T10:11:12.123456Z\"");

	assert_string_equal(got, want);
}

static void open_session(struct bench *b)
{
	auto_golden *hello = NULL;

	bench_init(b);
	hello = said(b);
	say(b, "session.open.json");
	assert_said(b, "session.open.result.json");
	assert_said_event(b, "event.session_initialized.json");
	assert_null(carrier_take(b->c));
}

TEST(the_hello_has_the_members_of_the_file)
{
	struct bench b;
	auto_golden *want = golden("hello.json");
	auto_golden *got = NULL;
	char text[80];

	bench_init(&b);
	got = said(&b);
	/* What differs from build to build and machine to machine. */
	snprintf(text, sizeof(text), "\"%s\"", farstep_version());
	want = golden_with(want, "version", text);
	snprintf(text, sizeof(text), "\"%s\"", farstep_build());
	want = golden_with(want, "build", text);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	want = golden_with(want, "pid", text);
	want = golden_with(want, "sealed", "false");
	want = golden_with(want, "proc", tree_can_see() ? "true" : "false");
	snprintf(text, sizeof(text), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	want = golden_with(want, "cpus", text);
	assert_string_equal(got, want);
	bench_release(&b);
}

TEST(a_session_is_opened_as_in_the_file)
{
	struct bench b;
	auto_golden *key = golden_key("session_key");
	auto_golden *run = golden_key("run");
	struct session *s;

	open_session(&b);
	s = session_of(&b);
	assert_string_equal(s->id, run);
	assert_string_equal(s->run, run);
	assert_string_equal(s->key, key);
	assert_int_equal(s->lease_ms, 300000);
	assert_string_equal(json_string(json_get(json_get(s->blob, "env"), "LANG")), "C.UTF-8");
	assert_string_equal(json_string(json_get(json_get(s->blob, "secrets"), "TOKEN")),
	                    "correct-horse");
	bench_release(&b);
}

TEST(a_session_is_resumed_as_in_the_file_and_the_old_connection_replaced)
{
	struct bench b;
	auto_golden *hello = NULL;

	open_session(&b);
	say(&b, "step.execute.json");
	assert_int_equal(
		journal_put(&session_of(&b)->journal, "progress", "sort", 1, 0, "{}", 2, NULL), 0);
	connect_to(&b);
	hello = said(&b);
	say(&b, "session.resume.json");
	assert_int_equal(b.closed, CLOSE_REPLACED);
	assert_said(&b, "session.resume.result.json");
	bench_release(&b);
}

/* The claim is what the worker made of the request: its body is the plan of the receipt. */
TEST(a_step_is_claimed_with_the_digest_of_its_request)
{
	struct bench b;
	struct err e = ERR_INIT;
	struct step *st;
	auto_golden *run = golden_key("run");
	auto_golden *text = golden("receipt.json");
	struct receipt r;
	struct buf claim;
	char path[300], want[200];

	open_session(&b);
	say(&b, "step.execute.json");
	assert_ok(receipt_parse(text, strlen(text), &r, &e), &e);
	st = step_lookup(session_of(&b), "sort", 1);
	assert_non_null(st);
	assert_string_equal(st->body, r.plan);
	assert_int_equal(st->live->out[0].channel, 1);
	assert_int_equal(st->live->out[1].channel, 2);
	assert_int_equal(st->live->artifacts.channel, 3);
	assert_int_equal(st->live->out[0].limit, 4194304);
	snprintf(path, sizeof(path), "sessions/%s/steps/sort.1/claim", run);
	buf_init(&claim, 4096);
	assert_ok(fs_read(b.dir.fd, path, 4096, &claim, &e), &e);
	snprintf(want, sizeof(want),
	         "{\"step\":\"sort\",\"attempt\":1,\"driver\":\"shell\",\"body\":\"%s\"}\n",
	         r.plan);
	assert_string_equal(buf_cstr(&claim, &e), want);
	buf_release(&claim);
	bench_release(&b);
}

TEST(a_step_that_finds_no_room_is_refused_as_in_the_file)
{
	struct bench b;

	open_session(&b);
	session_of(&b)->n_running = LIMIT_STEPS_RUNNING;
	say(&b, "step.execute.json");
	assert_said(&b, "step.execute.error.json");
	session_of(&b)->n_running = 0;
	bench_release(&b);
}

TEST(an_event_of_a_step_and_its_acknowledgement_are_those_of_the_files)
{
	static const char data[] = "{\"current\":3,\"total\":10,\"unit\":\"files\"}";
	struct journal_cursor cursor = { 0 };
	struct bench b;
	struct err e = ERR_INIT;
	struct session *s;

	open_session(&b);
	s = session_of(&b);
	assert_ok(journal_put(&s->journal, "progress", "sort", 1, 0, data, strlen(data), &e), &e);
	session_publish(s);
	assert_said_event(&b, "event.progress.json");
	assert_int_equal(b.w.conns->events_acked, 0);
	say(&b, "event.ack.json");
	assert_int_equal(b.w.conns->events_acked, 2);
	assert_int_equal(s->journal.acked, 2);
	assert_int_equal(journal_read(&s->journal, &cursor, 10, on_line, NULL, &e), 2);
	bench_release(&b);
}

/* The keeper's part: the receipt is these bytes, and so is its signature. */
TEST(a_receipt_is_written_and_signed_as_in_the_files)
{
	auto_golden *want = golden("receipt.json");
	auto_golden *want_hmac = golden("receipt.hmac");
	auto_golden *key = golden_key("session_key");
	auto_golden *step_hex = golden_key("step_key");
	uint8_t step_key[SHA256_LEN];
	char hmac[SHA256_HEX], hex[SHA256_HEX];
	struct err e = ERR_INIT;
	struct receipt r, made;
	struct buf out;

	assert_ok(receipt_parse(want, strlen(want), &r, &e), &e);
	receipt_init(&made);
	memcpy(made.run, r.run, sizeof(made.run));
	memcpy(made.session, r.session, sizeof(made.session));
	memcpy(made.plan, r.plan, sizeof(made.plan));
	snprintf(made.step, sizeof(made.step), "sort");
	made.attempt = made.generation = 1;
	snprintf(made.sandbox, sizeof(made.sandbox), "sb-1");
	snprintf(made.worker, sizeof(made.worker), "sb-1/1");
	snprintf(made.build, sizeof(made.build), "v0.1.0");
	made.exit.kind = EXIT_EXITED;
	made.status = receipt_status(&made);
	made.out.bytes = 7;
	made.events.bytes = 57;
	memcpy(made.out.sha256, r.out.sha256, SHA256_HEX);
	memcpy(made.events.sha256, r.events.sha256, SHA256_HEX);
	made.usage.wall_ms = 3.125;
	made.usage.user_ms = 1;
	made.usage.sys_ms = 0.8;
	made.usage.max_rss_kb = 2100;
	made.usage.written_kb = 4;
	made.rows = 100;
	made.started_us = UINT64_C(1793614272123456);
	made.ended_us = UINT64_C(1793614272126581);
	buf_init(&out, LIMIT_TEXT);
	assert_ok(receipt_print(&made, &out, &e), &e);
	assert_string_equal(buf_cstr(&out, &e), want);
	key_step(key, "sort", 1, step_key);
	hex_encode(step_key, sizeof(step_key), hex);
	assert_string_equal(hex, step_hex);
	receipt_sign(step_key, want, strlen(want), hmac);
	assert_string_equal(hmac, want_hmac);
	buf_release(&out);
}

TEST(the_answer_of_a_step_that_ended_is_that_of_the_file)
{
	static const char data[] = "{}";
	struct bench b;
	struct err e = ERR_INIT;
	struct session *s;
	struct step *st;
	auto_golden *hmac = golden("receipt.hmac");

	open_session(&b);
	s = session_of(&b);
	say(&b, "step.execute.json");
	assert_ok(journal_put(&s->journal, "progress", "sort", 1, 0, data, 2, &e), &e);
	st = step_lookup(s, "sort", 1);
	assert_non_null(st);
	st->status = STATUS_SUCCESS;
	st->rows = 100;
	st->live->receipt = golden("receipt.json");
	memcpy(st->live->hmac, hmac, SHA256_HEX);
	st->ended_seen = true;
	step_answer(st);
	assert_said(&b, "step.execute.result.json");
	bench_release(&b);
}

TEST(frames_of_the_proxy_are_understood_and_those_of_the_worker_are_these)
{
	struct stream_out out = { 0 };
	uint8_t bytes[256], header[FRAME_HEADER];
	struct err e = ERR_INIT;
	struct frame f;
	size_t n;

	/* 7 bytes and the end, as a worker sends them on a stream of so many bytes. */
	stream_out_bind(&out, 1, 0, WINDOW_STREAM);
	n = golden_hex("frame.data.hex", bytes, sizeof(bytes));
	assert_int_equal(stream_out_ready(&out, 7), n - FRAME_HEADER);
	frame_header(header, FRAME_DATA, 0, out.channel, out.sent);
	assert_memory_equal(bytes, header, FRAME_HEADER);
	stream_out_sent(&out, 7, false);
	out.total = 7;
	out.ended = true;
	n = golden_hex("frame.end.hex", bytes, sizeof(bytes));
	assert_int_equal(n, FRAME_HEADER);
	assert_true(stream_out_end_due(&out));
	frame_header(header, FRAME_DATA, FRAME_END, out.channel, out.sent);
	assert_memory_equal(bytes, header, FRAME_HEADER);
	/* The proxy has them. */
	n = golden_hex("frame.window.hex", bytes, sizeof(bytes));
	assert_ok(frame_parse(bytes, n, &f, &e), &e);
	assert_ok(stream_out_window(&out, &f, &e), &e);
	assert_int_equal(out.acked, 7);
	assert_int_equal(out.limit, 7 + WINDOW_STREAM);
}

TEST(a_frame_that_is_reserved_ends_the_connection)
{
	static const char *const names[] = { "frame.resize.hex", "frame.command.hex" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct bench b;
		uint8_t bytes[256];
		size_t n = golden_hex(names[i], bytes, sizeof(bytes));

		open_session(&b);
		b.c->on_frame(b.c, true, bytes, n);
		assert_int_equal(b.closed, CLOSE_PROTOCOL);
		bench_release(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_hello_has_the_members_of_the_file),
		cmocka_unit_test(a_session_is_opened_as_in_the_file),
		cmocka_unit_test(
			a_session_is_resumed_as_in_the_file_and_the_old_connection_replaced),
		cmocka_unit_test(a_step_is_claimed_with_the_digest_of_its_request),
		cmocka_unit_test(a_step_that_finds_no_room_is_refused_as_in_the_file),
		cmocka_unit_test(an_event_of_a_step_and_its_acknowledgement_are_those_of_the_files),
		cmocka_unit_test(a_receipt_is_written_and_signed_as_in_the_files),
		cmocka_unit_test(the_answer_of_a_step_that_ended_is_that_of_the_file),
		cmocka_unit_test(
			frames_of_the_proxy_are_understood_and_those_of_the_worker_are_these),
		cmocka_unit_test(a_frame_that_is_reserved_ends_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
