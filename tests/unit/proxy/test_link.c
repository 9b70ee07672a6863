/* SPDX-License-Identifier: Apache-2.0
 *
 * A link whose worker is the test: what it says, and what it makes of what it hears. */
#include "tests/unit/proxy/fake_ws.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/version.h"
#include "proxy/link.h"

#define SESSION "20261102t101112-3f9a1c07"
#define HELLO \
	"{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"params\":{\"sandbox\":\"sb-1\",\"pid\":7}}"
#define OPENED(id) \
	"{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"result\":{\"sandbox\":\"sb-1\",\"generation\":1}}"
#define ERROR_(id, rpc, class)                                                                \
	"{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"error\":{\"code\":" #rpc ",\"message\":\"m\"," \
	"\"data\":{\"class\":\"" class "\",\"admitted\":\"no\",\"retry\":\"same\"}}}"
#define EVENT(wseq)                                                                           \
	"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"wseq\":" #wseq ",\"event\":" \
	"\"x\"}}"

struct seen {
	int ups, downs, fatals, events;
	bool again, has_hello, refuse_event, is_gone;
	int down_code;
	struct err fatal;
};

struct bench {
	struct loop *loop;
	struct link *link;
	struct seen seen;
};

static void on_up(void *arg, const json *hello, const json *result, bool again)
{
	struct seen *s = arg;

	s->ups++;
	s->again = again;
	s->has_hello = json_get(hello, "pid") != NULL;
	assert_string_equal(json_string(json_get(result, "sandbox")), "sb-1");
}

static void on_down(void *arg, int code, const char *reason)
{
	struct seen *s = arg;

	(void)reason;
	s->downs++;
	s->down_code = code;
}

static int on_event(void *arg, const json *params, struct err *e)
{
	struct seen *s = arg;

	assert_non_null(json_get(params, "event"));
	s->events++;
	return s->refuse_event ? err_set(e, ERR_INTEGRITY, 0, "not this one") : 0;
}

static void on_fatal(void *arg, const struct err *e)
{
	struct seen *s = arg;

	s->fatals++;
	s->fatal = *e;
}

static bool is_there(void *arg)
{
	return !((struct seen *)arg)->is_gone;
}

static void bench_init(struct bench *b, struct link_spec spec)
{
	const struct link_hooks hooks = { &b->seen, on_up, on_down, on_event, on_fatal, is_there };
	struct err e = ERR_INIT;

	memset(b, 0, sizeof(*b));
	memset(&ws, 0, sizeof(ws));
	spec.address = "unix:/s";
	spec.token = "the-token";
	spec.session = spec.run = SESSION;
	spec.key = "the-key";
	spec.lease_ms = 300000;
	if (!spec.first_ms)
		spec.first_ms = 5000;
	if (!spec.give_up_ms)
		spec.give_up_ms = 5000;
	b->loop = loop_new(&e);
	b->link = link_new(b->loop, NULL, &spec, &hooks, &e);
	assert_non_null(b->link);
	link_start(b->link);
}

static void bench_release(struct bench *b)
{
	link_free(b->link);
	loop_free(b->loop);
	ws_release();
}

/* Frees what was sent so far. */
static void pass_over(void)
{
	bool binary;
	size_t n;
	char *got;

	while ((got = ws_sent_frame(&binary, &n)))
		free(got);
}

static void bench_up(struct bench *b, struct link_spec spec)
{
	bench_init(b, spec);
	ws_open();
	pass_over();
	ws_text(HELLO);
	ws_text(OPENED(1));
	assert_int_equal(b->seen.ups, 1);
}

/* The connection is lost, and there is the next one, on which nothing was said yet. */
static void reconnect(struct bench *b)
{
	int before = ws.connects;

	ws_drop(CLOSE_LOST, "lost");
	loop_until(b->loop, ws.connects > before);
	ws_open();
}

/* --- calls --- */

struct asked {
	struct call call;
	int renders, answers;
	char result[64];
	struct err error;
};

static int render(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct asked *a = (struct asked *)((char *)c - offsetof(struct asked, call));

	(void)l;
	return buf_printf(out, e, "{\"n\":%d}", ++a->renders);
}

static void on_done(struct call *c, const json *result, const struct err *error)
{
	struct asked *a = (struct asked *)((char *)c - offsetof(struct asked, call));

	a->answers++;
	if (error)
		a->error = *error;
	else
		snprintf(a->result, sizeof(a->result), "%s", json_string(json_get(result, "r")));
}

static struct asked asked(const char *method)
{
	return (struct asked){
		.call = { .method = method, .render = render, .on_done = on_done },
	};
}

TEST(the_session_is_opened_with_the_first_frame_before_the_hello_came)
{
	struct bench b;
	char want[600];

	bench_init(&b, (struct link_spec){ .env = "{\"A\":\"b\"}" });
	assert_string_equal(ws.address, "unix:/s");
	assert_string_equal(ws.token, "the-token");
	ws_open();
	snprintf(want, sizeof(want),
	         "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session.open\",\"params\":{"
	         "\"session\":\"" SESSION "\",\"run\":\"" SESSION "\",\"key\":\"the-key\","
	         "\"client\":{\"name\":\"farstep\",\"version\":\"%s\",\"protocol\":{\"min\":1,"
	         "\"max\":1},\"compressions\":[\"zstd\",\"none\"]},\"lease_ms\":300000,"
	         "\"env\":{\"A\":\"b\"}}}",
	         farstep_version());
	assert_ws_sent(want);
	assert_false(link_is_up(b.link));
	assert_null(link_carrier(b.link));
	ws_text(HELLO);
	ws_text(OPENED(1));
	assert_true(link_is_up(b.link));
	assert_ptr_equal(link_carrier(b.link), ws.c);
	assert_true(b.seen.has_hello && !b.seen.again);
	assert_ws_silent();
	bench_release(&b);
}

TEST(calls_wait_for_the_session_and_find_their_answers)
{
	struct asked one = asked("driver.list"), two = asked("status.get");
	struct bench b;

	bench_init(&b, (struct link_spec){ 0 });
	link_call(b.link, &one.call); /* before anything is there */
	ws_open();
	link_call(b.link, &two.call);
	pass_over();
	assert_int_equal(one.renders + two.renders, 0);
	ws_text(OPENED(2)); /* the second id: the first went to the call */
	assert_ws_sent("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.list\",\"params\":{"
	               "\"n\":1}}");
	assert_ws_sent("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"status.get\",\"params\":{"
	               "\"n\":1}}");
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"r\":\"second\"}}");
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{\"r\":\"nobody's\"}}");
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{\"r\":\"nobody's\"}}");
	assert_int_equal(one.answers, 0);
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"r\":\"first\"}}");
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"r\":\"again\"}}"); /* late: ignored */
	assert_string_equal(one.result, "first");
	assert_string_equal(two.result, "second");
	assert_int_equal(one.answers + two.answers, 2);
	bench_release(&b);
}

TEST(a_refusal_comes_with_its_class)
{
	struct asked a = asked("step.execute");
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	link_call(b.link, &a.call);
	ws_text(ERROR_(2, -32011, "busy"));
	assert_int_equal(a.answers, 1);
	assert_int_equal(a.error.code, ERR_BUSY);
	assert_int_equal(a.error.admitted, ADMITTED_NO);
	assert_string_equal(a.error.msg, "m");
	assert_true(link_is_up(b.link));
	bench_release(&b);
}

TEST(a_forgotten_call_gets_no_answer_and_is_not_repeated)
{
	struct asked a = asked("status.get");
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	link_call(b.link, &a.call);
	link_forget(b.link, &a.call);
	link_forget(b.link, &a.call); /* twice is once */
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"r\":\"x\"}}");
	reconnect(&b);
	pass_over();
	ws_text(OPENED(3));
	assert_ws_silent();
	assert_int_equal(a.answers, 0);
	bench_release(&b);
}

/* --- losing the connection --- */

TEST(a_lost_connection_is_resumed_and_what_had_no_answer_repeated)
{
	struct asked done = asked("driver.list"), open = asked("step.execute");
	struct bench b;
	char want[600];

	bench_up(&b, (struct link_spec){ 0 });
	link_call(b.link, &done.call);
	link_call(b.link, &open.call);
	pass_over();
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"r\":\"x\"}}");
	ws_text(EVENT(1));
	reconnect(&b);
	assert_int_equal(b.seen.downs, 1);
	assert_int_equal(b.seen.down_code, CLOSE_LOST);
	snprintf(want, sizeof(want),
	         "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"session.resume\",\"params\":{"
	         "\"session\":\"" SESSION "\",\"run\":\"" SESSION "\",\"key\":\"the-key\","
	         "\"client\":{\"name\":\"farstep\",\"version\":\"%s\",\"protocol\":{\"min\":1,"
	         "\"max\":1},\"compressions\":[\"zstd\",\"none\"]},\"sandbox\":\"sb-1\","
	         "\"events_have\":1}}",
	         farstep_version());
	assert_ws_sent(want);
	assert_ws_silent();
	ws_text(OPENED(4));
	assert_true(b.seen.again);
	/* Its parameters are those of now. */
	assert_ws_sent("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"step.execute\",\"params\":{"
	               "\"n\":2}}");
	assert_ws_silent();
	assert_int_equal(done.answers, 1);
	assert_int_equal(b.seen.fatals, 0);
	bench_release(&b);
}

TEST(an_open_whose_answer_was_lost_becomes_a_resume)
{
	struct bench b;
	int before;

	bench_init(&b, (struct link_spec){ 0 });
	ws_open();
	pass_over();
	before = ws.connects;
	ws_text(ERROR_(1, -32008, "exists"));
	loop_until(b.loop, ws.connects > before);
	ws_open();
	ws_text(OPENED(2));
	assert_true(link_is_up(b.link));
	assert_false(b.seen.again); /* for us it is the first time */
	bench_release(&b);
}

TEST(an_attached_session_is_resumed_and_asks_for_what_must_be_masked)
{
	struct bench b;
	bool binary;
	size_t n;
	char *got;

	bench_init(&b,
	           (struct link_spec){ .resume = true, .events_have = 12, .want_secrets = true });
	ws_open();
	got = ws_sent_frame(&binary, &n);
	assert_non_null(strstr(got, "\"method\":\"session.resume\""));
	assert_non_null(strstr(got, "\"events_have\":12,\"want_secrets\":true"));
	assert_null(strstr(got, "lease_ms"));
	free(got);
	bench_release(&b);
}

TEST(some_ends_are_final)
{
	static const struct {
		int close;
		enum err_code code;
	} rows[] = {
		{ CLOSE_REPLACED, ERR_REPLACED },
		{ CLOSE_ENDED, ERR_LOST },
		{ CLOSE_DENIED, ERR_DENIED },
		{ CLOSE_PROTOCOL, ERR_PROTO },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		struct err e = ERR_INIT;

		bench_up(&b, (struct link_spec){ 0 });
		ws_drop(rows[i].close, "why");
		assert_int_equal(b.seen.fatals, 1);
		assert_int_equal(b.seen.fatal.code, rows[i].code);
		assert_int_equal(ws.connects, 1);
		assert_ok(loop_pass(b.loop, 0, &e), &e);
		link_fail(b.link, &e); /* told once */
		assert_int_equal(b.seen.fatals, 1);
		bench_release(&b);
	}
}

TEST(a_refused_open_is_final)
{
	struct bench b;

	bench_init(&b, (struct link_spec){ 0 });
	ws_open();
	ws_text(ERROR_(1, -32018, "version"));
	assert_int_equal(b.seen.fatals, 1);
	assert_int_equal(b.seen.fatal.code, ERR_VERSION);
	assert_int_equal(ws.close_code, CLOSE_PROTOCOL);
	bench_release(&b);
}

TEST(an_open_that_is_answered_with_nonsense_is_final)
{
	static const char *const answers[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"sandbox\":7}}",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}",
	};

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct bench b;

		bench_init(&b, (struct link_spec){ 0 });
		ws_open();
		ws_text(answers[i]);
		assert_int_equal(b.seen.ups, 0);
		assert_int_equal(b.seen.fatals, 1);
		assert_int_equal(b.seen.fatal.code, ERR_PROTO);
		bench_release(&b);
	}
}

TEST(a_worker_that_never_comes_is_given_up)
{
	struct bench b;

	bench_init(&b, (struct link_spec){ .first_ms = 50 });
	ws.refuse = true;
	ws_drop(CLOSE_LOST, "no");
	loop_until(b.loop, b.seen.fatals);
	assert_int_equal(b.seen.fatal.code, ERR_DEADLINE);
	assert_true(ws.connects > 2);
	assert_int_equal(b.seen.downs, 0); /* it never was up */
	bench_release(&b);
}

TEST(a_worker_that_does_not_come_back_is_lost)
{
	struct bench b;

	bench_up(&b, (struct link_spec){ .give_up_ms = 60 });
	ws.refuse = true;
	ws_drop(CLOSE_LOST, "");
	loop_until(b.loop, b.seen.fatals);
	assert_int_equal(b.seen.fatal.code, ERR_LOST);
	bench_release(&b);
}

TEST(a_sandbox_that_is_gone_is_not_waited_for)
{
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	b.seen.is_gone = true;
	ws_drop(CLOSE_LOST, "");
	loop_until(b.loop, b.seen.fatals);
	assert_int_equal(b.seen.fatal.code, ERR_LOST);
	assert_string_equal(b.seen.fatal.msg, "the sandbox is gone");
	bench_release(&b);
}

/* --- events --- */

TEST(events_are_acknowledged_after_a_while_or_many)
{
	struct bench b;
	char text[200];

	bench_up(&b, (struct link_spec){ 0 });
	ws_text(EVENT(1));
	ws_text(EVENT(2));
	assert_ws_silent();
	loop_until(b.loop, ws.c->queued);
	assert_ws_sent("{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":2}}");
	for (int i = 3; i < 3 + 64; i++) {
		assert_ws_silent();
		snprintf(text, sizeof(text),
		         "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"wseq\":%d,"
		         "\"event\":\"x\"}}",
		         i);
		ws_text(text);
	}
	assert_ws_sent("{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":66}}");
	assert_int_equal(link_events_have(b.link), 66);
	ws_text(EVENT(5)); /* a replay takes nothing back */
	assert_int_equal(link_events_have(b.link), 66);
	bench_release(&b);
}

TEST(an_event_that_cannot_be_kept_is_final_and_not_acknowledged)
{
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	b.seen.refuse_event = true;
	ws_text(EVENT(1));
	assert_int_equal(b.seen.fatal.code, ERR_INTEGRITY);
	assert_int_equal(link_events_have(b.link), 0);
	bench_release(&b);
}

TEST(messages_that_break_the_protocol_are_final)
{
	static const char *const texts[] = {
		"no JSON",
		"{\"jsonrpc\":\"1.0\",\"id\":2,\"result\":{}}",
		"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"event\":\"x\"}}",
		"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"wseq\":0}}",
		"[]",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct bench b;

		bench_up(&b, (struct link_spec){ 0 });
		ws_text(texts[i]);
		if (b.seen.fatals != 1)
			fail_msg("%s was taken", texts[i]);
		assert_int_equal(ws.close_code, CLOSE_PROTOCOL);
		bench_release(&b);
	}
}

TEST(unknown_notices_are_passed_over)
{
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	ws_text("{\"jsonrpc\":\"2.0\",\"method\":\"heartbeat\",\"params\":{\"uptime_ms\":1}}");
	ws_text("{\"jsonrpc\":\"2.0\",\"method\":\"of.the.future\",\"params\":{}}");
	ws_text("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a.request\"}");
	assert_true(link_is_up(b.link));
	bench_release(&b);
}

/* --- channels --- */

struct heard {
	int frames;
	uint64_t offset;
};

static void on_frame(void *owner, const struct frame *f)
{
	struct heard *h = owner;

	h->frames++;
	h->offset = f->offset;
}

static void send_data(uint32_t channel, uint64_t offset)
{
	uint8_t bytes[FRAME_HEADER + 1];

	frame_header(bytes, FRAME_DATA, 0, channel, offset);
	bytes[FRAME_HEADER] = 'x';
	ws_binary(bytes, sizeof(bytes));
}

TEST(frames_go_to_whom_their_channel_belongs)
{
	struct heard one = { 0 }, two = { 0 };
	struct bench b;
	uint32_t a, c;

	bench_up(&b, (struct link_spec){ 0 });
	a = link_bind(b.link, &one, on_frame);
	c = link_bind(b.link, &two, on_frame);
	send_data(a, 1);
	send_data(c, 2);
	send_data(c, 3);
	send_data(4711, 0); /* nobody's: perhaps on its way when it was unbound */
	assert_int_equal(one.frames, 1);
	assert_int_equal(two.frames, 2);
	assert_int_equal(two.offset, 3);
	link_unbind(b.link, a);
	link_unbind(b.link, a);
	send_data(a, 2);
	assert_int_equal(one.frames, 1);
	send_data(c, 4);
	assert_int_equal(two.frames, 3);
	assert_int_equal(b.seen.fatals, 0);
	bench_release(&b);
}

TEST(channels_end_with_their_connection)
{
	struct heard h = { 0 };
	struct bench b;
	uint32_t before, after;

	bench_up(&b, (struct link_spec){ 0 });
	before = link_bind(b.link, &h, on_frame);
	reconnect(&b);
	ws_text(OPENED(2));
	send_data(before, 0);
	assert_int_equal(h.frames, 0);
	after = link_bind(b.link, &h, on_frame);
	assert_int_not_equal(after, before); /* a late frame finds no new owner */
	send_data(after, 0);
	assert_int_equal(h.frames, 1);
	bench_release(&b);
}

TEST(channels_have_a_bound)
{
	struct heard h = { 0 };
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	for (int i = 0; i < LIMIT_CHANNELS; i++)
		assert_true(link_bind(b.link, &h, on_frame) > 0);
	assert_int_equal(link_bind(b.link, &h, on_frame), 0);
	bench_release(&b);
}

TEST(a_frame_that_is_none_is_final)
{
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	ws_binary((const uint8_t *)"short", 5);
	assert_int_equal(b.seen.fatals, 1);
	assert_int_equal(b.seen.fatal.code, ERR_PROTO);
	bench_release(&b);
}

/* A connection that ends from inside of an answer takes nothing with it. */
struct ending {
	struct call call;
	struct link *link;
};

static void end_link(struct call *c, const json *result, const struct err *error)
{
	struct err e = { .code = ERR_PROTO, .msg = "from inside" };

	(void)result, (void)error;
	link_fail(((struct ending *)c)->link, &e);
}

TEST(an_answer_may_end_the_link)
{
	struct ending a = { .call = { .method = "status.get", .on_done = end_link } };
	struct bench b;

	bench_up(&b, (struct link_spec){ 0 });
	a.link = b.link;
	link_call(b.link, &a.call);
	ws_text("[{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}," EVENT(1) "]");
	assert_int_equal(b.seen.fatals, 1);
	assert_int_equal(b.seen.events, 0); /* what followed it is not heard any more */
	bench_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_session_is_opened_with_the_first_frame_before_the_hello_came),
		cmocka_unit_test(calls_wait_for_the_session_and_find_their_answers),
		cmocka_unit_test(a_refusal_comes_with_its_class),
		cmocka_unit_test(a_forgotten_call_gets_no_answer_and_is_not_repeated),
		cmocka_unit_test(a_lost_connection_is_resumed_and_what_had_no_answer_repeated),
		cmocka_unit_test(an_open_whose_answer_was_lost_becomes_a_resume),
		cmocka_unit_test(an_attached_session_is_resumed_and_asks_for_what_must_be_masked),
		cmocka_unit_test(some_ends_are_final),
		cmocka_unit_test(a_refused_open_is_final),
		cmocka_unit_test(an_open_that_is_answered_with_nonsense_is_final),
		cmocka_unit_test(a_worker_that_never_comes_is_given_up),
		cmocka_unit_test(a_worker_that_does_not_come_back_is_lost),
		cmocka_unit_test(a_sandbox_that_is_gone_is_not_waited_for),
		cmocka_unit_test(events_are_acknowledged_after_a_while_or_many),
		cmocka_unit_test(an_event_that_cannot_be_kept_is_final_and_not_acknowledged),
		cmocka_unit_test(messages_that_break_the_protocol_are_final),
		cmocka_unit_test(unknown_notices_are_passed_over),
		cmocka_unit_test(frames_go_to_whom_their_channel_belongs),
		cmocka_unit_test(channels_end_with_their_connection),
		cmocka_unit_test(channels_have_a_bound),
		cmocka_unit_test(a_frame_that_is_none_is_final),
		cmocka_unit_test(an_answer_may_end_the_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
