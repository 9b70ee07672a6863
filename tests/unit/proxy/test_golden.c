/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of tests/golden at the proxy: what it says is those bytes, and those that a
 * worker says bring a step from its request to its proof. */
#include "tests/unit/golden.h"
#include "tests/unit/proxy/fake_ws.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/version.h"
#include "protocol/keys.h"
#include "protocol/step_body.h"
#include "proxy/events.h"
#include "proxy/step_run.h"

struct proxy {
	struct temp_dir dir;
	struct loop *loop;
	struct link *link;
	struct events events;
	struct sink out, err;
	struct fetch fetch;
	struct step_run step;
	char *run, *token, *key;
	int ups, done, fatals;
	struct err fatal;
};

static void on_up(void *arg, const json *hello, const json *result, bool again)
{
	struct proxy *p = arg;
	int64_t generation = 0;

	(void)again;
	p->ups++;
	assert_string_equal(json_string(json_get(hello, "worker")), "sb-1/1");
	assert_int_equal(json_opt_int(result, "", "generation", 1, 9, &generation, NULL), 0);
	assert_int_equal(generation, 1);
}

static void on_down(void *arg, int code, const char *reason)
{
	(void)arg, (void)code, (void)reason;
}

static int on_event(void *arg, const json *params, struct err *e)
{
	struct proxy *p = arg;

	if (events_put_worker(&p->events, params, e) < 0)
		return -1;
	step_run_events(&p->step, p->events.wseq);
	return 0;
}

static void on_fatal(void *arg, const struct err *e)
{
	struct proxy *p = arg;

	p->fatals++;
	p->fatal = *e;
}

static void on_done(struct step_run *r)
{
	((struct proxy *)r->user)->done++;
}

static void open_sink(struct proxy *p, struct sink *s, const char *name)
{
	struct err e = ERR_INIT;
	int fd = openat(p->dir.fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_ok(sink_open_fd(s, p->loop, fd, &e), &e);
}

static void proxy_init(struct proxy *p)
{
	const struct link_hooks hooks = { p, on_up, on_down, on_event, on_fatal, NULL };
	struct link_spec spec = {
		.address = "unix:/s",
		.sandbox = "sb-1",
		.lease_ms = 300000,
		.env = "{\"LANG\":\"C.UTF-8\"}",
		.secrets = "{\"TOKEN\":\"correct-horse\"}",
		.first_ms = 5000,
		.give_up_ms = 5000,
	};
	struct err e = ERR_INIT;

	memset(p, 0, sizeof(*p));
	memset(&ws, 0, sizeof(ws));
	p->dir = temp_dir();
	p->loop = loop_new(&e);
	spec.run = spec.session = p->run = golden_key("run");
	spec.token = p->token = golden_key("token");
	spec.key = p->key = golden_key("session_key");
	assert_ok(events_open(&p->events, p->dir.fd, p->run, NULL, &e), &e);
	open_sink(p, &p->out, "stdout");
	open_sink(p, &p->err, "stderr");
	fetch_init(&p->fetch, p->dir.fd, "sort");
	p->step = (struct step_run){
		.id = "sort",
		.driver = "shell",
		.attempt = 1,
		.config = "{\"script\":\"sort a > b\"}",
		.inputs = "{}",
		.env = "{\"LC_ALL\":\"C\"}",
		.collect = "[\"*.csv\"]",
		.timeout_ms = 60000,
		.grace_ms = 5000,
		.linger_ms = 2000,
		.run = p->run,
		.session = p->run,
		.session_key = p->key,
		.sandbox = "sb-1",
		.out = &p->out,
		.err = &p->err,
		.fetch = &p->fetch,
		.on_done = on_done,
		.user = p,
	};
	p->link = link_new(p->loop, NULL, &spec, &hooks, &e);
	assert_non_null(p->link);
	link_start(p->link);
}

static void proxy_release(struct proxy *p)
{
	step_run_release(&p->step);
	link_free(p->link);
	ws_release();
	close(p->out.fd);
	close(p->err.fd);
	sink_close(&p->out);
	sink_close(&p->err);
	fetch_release(&p->fetch);
	events_close(&p->events);
	loop_free(p->loop);
	free(p->run);
	free(p->token);
	free(p->key);
	temp_dir_release(&p->dir);
}

/* The worker says what is in the file. */
static void say(const char *name)
{
	if (strcmp(name + strlen(name) - 4, ".hex") == 0) {
		uint8_t bytes[256];
		size_t n = golden_hex(name, bytes, sizeof(bytes));

		ws_binary(bytes, n);
	} else {
		auto_golden *text = golden(name);

		ws_text(text);
	}
}

/* The next that the proxy said is what is in the file, but for its version. */
static void assert_said(const char *name, bool has_version)
{
	auto_golden *want = golden(name);
	char version[80];

	if (has_version) {
		snprintf(version, sizeof(version), "\"%s\"", farstep_version());
		want = golden_with(want, "version", version);
	}
	assert_ws_sent(want);
}

static void assert_said_frame(const char *name)
{
	uint8_t want[256];
	size_t n, want_n = golden_hex(name, want, sizeof(want));
	bool binary = false;
	auto_free char *got = ws_sent_frame(&binary, &n);

	if (!got || !binary)
		fail_msg("no frame was sent, want %s: %s", name, got ? got : "nothing");
	assert_int_equal(n, want_n);
	assert_memory_equal(got, want, n);
}

static void bring_up(struct proxy *p)
{
	ws_open();
	say("hello.json");
	assert_said("session.open.json", true);
	say("session.open.result.json");
	assert_int_equal(p->ups, 1);
	step_run_start(&p->step, p->loop, p->link);
	assert_said("step.execute.json", false);
}

TEST(a_session_from_its_hello_to_a_proved_step)
{
	struct proxy p;
	auto_golden *plan = NULL;

	proxy_init(&p);
	assert_string_equal(ws.token, p.token);
	bring_up(&p);
	say("event.session_initialized.json");
	say("event.progress.json");
	say("frame.data.hex");
	say("frame.end.hex");
	assert_said_frame("frame.window.hex");
	say("frame.end_empty.hex");
	assert_int_equal(p.done, 0);
	say("step.execute.result.json");
	loop_until(p.loop, p.done);
	if (p.step.status != STATUS_SUCCESS || !p.step.verified)
		fail_msg("%s: %s", status_name(p.step.status), p.step.error.msg);
	assert_int_equal(p.step.receipt.rows, 100);
	plan = golden("receipt.json");
	assert_string_equal(p.step.receipt_text, plan);
	assert_int_equal(p.fatals, 0);
	proxy_release(&p);
}

TEST(a_step_is_not_proved_before_everything_is_here)
{
	static const char *const all[] = { "event.session_initialized.json",
		                           "event.progress.json",
		                           "frame.data.hex",
		                           "frame.end.hex",
		                           "frame.end_empty.hex",
		                           "step.execute.result.json" };

	/* In another order, each of them last; what has an order of its own keeps it. */
	for (size_t last = 1; last < ARRAY_LEN(all); last++) {
		struct proxy p;
		struct err e = ERR_INIT;

		if (last == 2)
			continue; /* the end comes behind it */
		proxy_init(&p);
		bring_up(&p);
		for (size_t i = 0; i < ARRAY_LEN(all); i++)
			if (i != last)
				say(all[i]);
		for (int i = 0; i < 3; i++)
			assert_ok(loop_pass(p.loop, 0, &e), &e);
		assert_int_equal(p.done, 0);
		say(all[last]);
		loop_until(p.loop, p.done);
		assert_int_equal(p.step.status, STATUS_SUCCESS);
		proxy_release(&p);
	}
}

TEST(a_receipt_that_is_not_for_what_came_proves_nothing)
{
	struct proxy p;

	proxy_init(&p);
	bring_up(&p);
	say("event.session_initialized.json");
	say("event.progress.json");
	say("frame.end_empty.hex"); /* standard output, 7 bytes, never came ... */
	{
		uint8_t bytes[256];
		size_t n = golden_hex("frame.end.hex", bytes, sizeof(bytes));

		put_u64(bytes + 8, 0); /* ... it ends at 0 */
		ws_binary(bytes, n);
	}
	say("step.execute.result.json");
	loop_until(p.loop, p.done);
	assert_int_equal(p.step.status, STATUS_LOST);
	assert_string_equal(p.step.error.msg, "stdout: 0 bytes came, the receipt says 7");
	proxy_release(&p);
}

TEST(a_refused_step_has_the_class_of_the_refusal)
{
	struct proxy p;

	proxy_init(&p);
	bring_up(&p);
	say("step.execute.error.json");
	assert_int_equal(p.done, 1);
	assert_int_equal(p.step.status, STATUS_ERROR);
	assert_int_equal(p.step.error.code, ERR_BUSY);
	assert_string_equal(p.step.error.msg, "64 steps are running");
	proxy_release(&p);
}

TEST(events_are_acknowledged_and_written_as_lines)
{
	struct proxy p;
	auto_golden *want = golden("event.progress.line");
	struct err e = ERR_INIT;
	struct buf got;

	proxy_init(&p);
	bring_up(&p);
	say("event.session_initialized.json");
	say("event.progress.json");
	loop_until(p.loop, ws.c->queued);
	assert_said("event.ack.json", false);
	buf_init(&got, 4096);
	assert_ok(fs_read(p.dir.fd, "events.jsonl", 4096, &got, &e), &e);
	assert_ok(buf_putc(&got, 0, &e), &e);
	assert_string_equal(strchr((const char *)buf_data(&got), '\n') + 1 + strlen(want), "\n");
	assert_memory_equal(strchr((const char *)buf_data(&got), '\n') + 1, want, strlen(want));
	buf_release(&got);
	proxy_release(&p);
}

TEST(a_lost_connection_is_taken_up_with_these_bytes)
{
	struct proxy p;
	int before;

	proxy_init(&p);
	bring_up(&p);
	say("event.session_initialized.json");
	say("event.progress.json");
	before = ws.connects;
	ws_drop(CLOSE_LOST, "");
	loop_until(p.loop, ws.connects > before);
	ws_open();
	assert_said("session.resume.json", true);
	say("hello.json");
	say("session.resume.result.json");
	assert_int_equal(p.ups, 2);
	proxy_release(&p);
}

TEST(frames_are_what_they_say_here)
{
	uint8_t bytes[256], header[FRAME_HEADER];
	struct err e = ERR_INIT;
	struct frame f;
	size_t n;

	n = golden_hex("frame.data.hex", bytes, sizeof(bytes));
	assert_ok(frame_parse(bytes, n, &f, &e), &e);
	frame_header(header, f.kind, f.flags, f.channel, f.offset);
	assert_memory_equal(header, bytes, FRAME_HEADER);
	assert_int_equal(f.len, 7);
	n = golden_hex("frame.gap.hex", bytes, sizeof(bytes));
	assert_ok(frame_parse(bytes, n, &f, &e), &e);
	assert_int_equal(f.kind, FRAME_GAP);
	assert_int_equal(f.offset, 7);
	assert_int_equal(frame_u64(&f), 4096);
	n = golden_hex("frame.resize.hex", bytes, sizeof(bytes));
	assert_int_equal(frame_parse(bytes, n, &f, &e), -1);
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	n = golden_hex("frame.command.hex", bytes, sizeof(bytes));
	assert_int_equal(frame_parse(bytes, n, &f, &e), -1);
	assert_int_equal(e.code, ERR_UNSUPPORTED);
}

TEST(keys_are_derived_as_in_the_file)
{
	auto_golden *hex = golden_key("user_key");
	auto_golden *run = golden_key("run");
	auto_golden *token = golden_key("token");
	auto_golden *key = golden_key("session_key");
	uint8_t user_key[USER_KEY_LEN];
	char got[SHA256_HEX];

	assert_int_equal(hex_decode(hex, strlen(hex), user_key, sizeof(user_key), NULL), 0);
	key_token(user_key, run, got);
	assert_string_equal(got, token);
	key_session(user_key, run, got);
	assert_string_equal(got, key);
}

TEST(a_receipt_is_verified_with_the_session_key_and_any_change_is_seen)
{
	auto_golden *text = golden("receipt.json");
	auto_golden *hmac = golden("receipt.hmac");
	auto_golden *key = golden_key("session_key");
	auto_golden *run = golden_key("run");
	struct err e = ERR_INIT;
	struct receipt r;

	assert_ok(receipt_verify(text, hmac, key, run, run, "sort", 1, &r, &e), &e);
	assert_int_equal(r.status, STATUS_SUCCESS);
	assert_int_equal(receipt_verify(text, hmac, key, run, run, "sort", 2, &r, &e), -1);
	for (size_t i = 0; i < strlen(text); i++) {
		text[i] ^= 1;
		assert_int_equal(receipt_verify(text, hmac, key, run, run, "sort", 1, &r, &e), -1);
		assert_int_equal(e.code, ERR_INTEGRITY);
		text[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session_from_its_hello_to_a_proved_step),
		cmocka_unit_test(a_step_is_not_proved_before_everything_is_here),
		cmocka_unit_test(a_receipt_that_is_not_for_what_came_proves_nothing),
		cmocka_unit_test(a_refused_step_has_the_class_of_the_refusal),
		cmocka_unit_test(events_are_acknowledged_and_written_as_lines),
		cmocka_unit_test(a_lost_connection_is_taken_up_with_these_bytes),
		cmocka_unit_test(frames_are_what_they_say_here),
		cmocka_unit_test(keys_are_derived_as_in_the_file),
		cmocka_unit_test(a_receipt_is_verified_with_the_session_key_and_any_change_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
