/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection, fed with frames: requests, batches, ids, channels, the gate of the methods. */
#include "tests/unit/worker/talk.h"

TEST(the_first_frame_is_a_hello_with_versions_limits_and_both_ids)
{
	struct fake_conn *c = dial();

	assert_true(c->open);
	assert_int_equal(c->n_out, 1);
	expect(c->out[0].text, "{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"params\":{");
	expect(c->out[0].text, "\"protocol\":{\"min\":1,\"max\":1}");
	expect(c->out[0].text, "\"sandbox\":\"box\",\"worker\":\"box/1\",\"generation\":1");
	expect(c->out[0].text, "\"limits\":{\"text\":262144,\"data\":65536,\"steps\":64}");
	expect(c->out[0].text, "\"heartbeat_ms\":10000");
	assert_null(strstr(c->out[0].text, "\"id\""));
}

TEST(every_method_of_the_table_has_a_handler)
{
	static const char *const names[] = {
#define METHOD(id, name, flags, text) name,
#include "protocol/methods.def"
#undef METHOD
	};
	struct fake_conn *c = dial();

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(names[i], names[k]);
		ask(c, (int)i, names[i], "");
		assert_non_null(answer_to(c, (int)i));
		assert_null(strstr(answer_to(c, (int)i), "method_not_found"));
		assert_int_equal(fake.w.count.by_method[i], 1);
	}
	assert_true(c->open);
}

TEST(a_method_that_is_not_in_the_table_is_method_not_found)
{
	struct fake_conn *c = dial();

	ask(c, 1, "step.explode", "");
	expect_refused(c, 1, -32601, "no method 'step.explode'");
	ask(c, 2, "", "");
	expect_refused(c, 2, -32601, "no method ''");
	ask(c, 3, "STATUS.GET", "");
	expect_refused(c, 3, -32601, "no method 'STATUS.GET'");
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"step.explode\"}");
	assert_int_equal(c->n_out, 4);
	assert_true(c->open);
}

TEST(what_is_no_json_is_a_parse_error_without_id_and_the_connection_lives_on)
{
	static const char *const bad[] = { "",     "{",    "{\"jsonrpc\":\"2.0\",\"id\":1",
		                           "nul",  "[1,]", "{\"a\":1,\"a\":2}",
		                           "\xff", "{} {}" };
	struct fake_conn *c = dial();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		say(c, "%s", bad[i]);
		assert_int_equal(c->n_out, i + 2);
		expect(c->out[i + 1].text,
		       "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,");
	}
	ask(c, 5, "status.get", "");
	expect(answer_to(c, 5), "\"state\":\"healthy\"");
}

TEST(bad_parameters_are_named)
{
	static const struct {
		const char *method, *params, *message;
	} bad[] = {
		{ "session.open", "", "params.client: missing" },
		{ "session.open", "\"client\":1", "params.client: want an object, got a number" },
		{ "session.open", "\"client\":{}", "params.client.protocol: missing" },
		{ "session.open", TEST_CLIENT, "params.session: missing" },
		{ "session.open", TEST_CLIENT ",\"session\":\"x\"", "params.run: missing" },
		{ "session.open", TEST_CLIENT ",\"session\":\"x\",\"run\":\"r\"",
		  "params.key: missing" },
		{ "session.open",
		  TEST_CLIENT ",\"session\":\"../x\",\"run\":\"r\",\"key\":\"" TEST_KEY "\"",
		  "params.session: want" },
		{ "session.open",
		  TEST_CLIENT ",\"session\":\"x\",\"run\":\"R\",\"key\":\"" TEST_KEY "\"",
		  "params.run: want" },
		{ "session.open", TEST_CLIENT ",\"session\":\"x\",\"run\":\"r\",\"key\":\"12\"",
		  "params.key: want" },
		{ "session.open", TEST_OPEN ",\"lease_ms\":1", "params.lease_ms: " },
		{ "session.open", TEST_OPEN ",\"env\":[]", "params.env: want an object" },
		{ "session.open", TEST_OPEN ",\"env\":{\"A=B\":\"x\"}", "params.env: want names" },
		{ "session.open", TEST_OPEN ",\"secrets\":{\"A\":1}",
		  "params.secrets: want names" },
		{ "session.resume", TEST_CLIENT, "params.session: missing" },
		{ "session.observe", TEST_CLIENT ",\"events_have\":-1", "params.events_have: " },
		{ "driver.list", "\"category\":7", "params.category: want a string" },
	};
	struct fake_conn *c = dial();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ask(c, (int)i, bad[i].method, bad[i].params);
		expect_refused(c, (int)i, -32602, bad[i].message);
	}
	assert_int_equal(fake.w.n_sessions, 0);
	say(c, "{\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"status.get\",\"params\":[1]}");
	expect(answer_to(c, 77), "params: want an object");
}

TEST(what_comes_in_the_wrong_order_is_refused_by_state)
{
	struct fake_conn *c = dial();

	ask(c, 1, "step.execute", "");
	expect_refused(c, 1, -32010, "step.execute needs a session: open or resume one first");
	ask(c, 2, "session.close", "");
	expect_refused(c, 2, -32010, "session.close needs a session");
	ask(c, 3, "session.open", TEST_OPEN);
	expect(answer_to(c, 3), "\"session\":\"s\"");
	ask(c, 4, "session.open", TEST_OPEN);
	expect_refused(c, 4, -32010, "the connection has session 's' already");
	ask(c, 5, "session.resume", TEST_OPEN);
	expect_refused(c, 5, -32010, "the connection has session 's' already");
	ask(c, 6, "session.close", "");
	ask(c, 7, "session.renew", "\"lease_ms\":5000");
	expect_refused(c, 7, -32010, "session 's' is being closed");
}

TEST(a_notification_with_an_id_and_a_request_without_one_are_refused)
{
	struct fake_conn *c = dial_and_open();
	size_t before = c->n_out;

	ask(c, 2, "event.ack", "\"wseq\":1");
	expect_refused(c, 2, -32600, "event.ack is a notification: it has no id");
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"session.close\",\"params\":{}}");
	assert_int_equal(c->n_out, before + 1);
	fake_pass();
	assert_int_equal(fake.w.n_sessions, 1);
}

TEST(an_id_comes_back_as_it_was_written)
{
	static const char *const ids[] = { "7", "\"a\\\"b\"", "1e3", "1.0", "-3", "\"\"", "0" };
	struct fake_conn *c = dial();

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		char want[80];

		say(c, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"driver.list\"}", ids[i]);
		snprintf(want, sizeof(want), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":", ids[i]);
		expect(c->out[i + 1].text, want);
	}
}

TEST(an_id_that_is_in_flight_is_refused_and_may_be_used_again_afterwards)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");

	ask(c, 2, "status.get", "");
	expect_refused(c, 2, -32600, "id 2 is still in flight");
	fake_keeper_finish(k, 0, false);
	fake_pass();
	fake_conn_flush(c);
	assert_int_equal(count_heard(c, "\"id\":2,\"result\":{\"status\":\"success\""), 1);
	ask(c, 2, "status.get", "");
	assert_int_equal(count_heard(c, "\"id\":2,\"result\":{\"state\":\"healthy\""), 1);
}

TEST(answers_of_a_batch_are_one_array_in_which_notifications_have_no_part)
{
	struct fake_conn *c = dial();

	say(c, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.list\",\"params\":{\"category\":"
	       "\"-\"}},"
	       "{\"jsonrpc\":\"2.0\",\"method\":\"heartbeat\",\"params\":{}},"
	       "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"no\"},5,"
	       "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"session.renew\"}]");
	assert_int_equal(c->n_out, 2);
	expect(c->out[1].text, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"drivers\":[]}},");
	expect(c->out[1].text, "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32601,");
	expect(c->out[1].text, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,");
	expect(c->out[1].text, "{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":-32010,");
	say(c, "[{\"jsonrpc\":\"2.0\",\"method\":\"heartbeat\"}]");
	assert_int_equal(c->n_out, 2);
	say(c, "[]");
	expect(c->out[2].text, "\"error\":{\"code\":-32600,\"message\":\"an empty batch\"");
}

TEST(a_batch_waits_for_the_last_of_its_answers)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k;
	struct err e = ERR_INIT;
	size_t texts;

	say(c,
	    "[{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"step.execute\",\"params\":{\"step\":\"a\","
	    "\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":\"x\"}}},"
	    "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"status.get\"}]");
	assert_null(strstr(heard(c), "\"id\":6"));
	texts = c->n_out;
	k = fake_keeper_last();
	assert_ok(fake_keeper_begin(k, &e), &e);
	fake_keeper_finish(k, 3, false);
	fake_pass();
	fake_conn_flush(c);
	assert_true(c->n_out > texts);
	expect(heard(c), "[{\"jsonrpc\":\"2.0\",\"id\":6,\"result\":{\"state\":\"healthy\"");
	expect(heard(c), ",{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"status\":\"error\"");
}

TEST(answers_that_do_not_fit_into_one_frame_come_in_several_arrays_each_whole)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");
	size_t arrays = 0, answers = 0, first;
	struct buf b;

	/* A receipt of some 20 kB as text in a text. */
	for (size_t i = 0; i < ARRAY_LEN(k->rc.refused); i++)
		memset(k->rc.refused[i], 1, sizeof(k->rc.refused[i]) - 1);
	fake_keeper_finish(k, 0, false);
	fake_pass();
	fake_conn_flush(c);
	first = c->n_out;
	buf_init(&b, LIMIT_TEXT);
	for (int i = 0; i < LIMIT_BATCH; i++)
		buf_printf(&b, NULL,
		           "%s{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"step.status\","
		           "\"params\":{\"step\":\"a\"}}",
		           i ? "," : "[", i);
	buf_putc(&b, ']', NULL);
	fake_feed(c, false, buf_data(&b), buf_len(&b));
	buf_release(&b);
	for (size_t i = first; i < c->n_out; i++) {
		struct err e = ERR_INIT;
		json *v =
			json_parse(c->out[i].text, c->out[i].len, LIMIT_TEXT, LIMIT_JSON_DEPTH, &e);

		if (!v)
			fail_msg("frame %zu: %s", i, e.msg);
		assert_int_equal(json_type(v), JSON_ARRAY);
		arrays++;
		answers += json_count(v);
		json_free(v);
	}
	assert_true(arrays > 1);
	assert_int_equal(answers, LIMIT_BATCH);
}

TEST(a_batch_over_the_bound_is_refused_whole)
{
	struct fake_conn *c = dial();
	struct buf b;

	buf_init(&b, LIMIT_TEXT);
	for (int i = 0; i <= LIMIT_BATCH; i++)
		buf_printf(&b, NULL, "%s{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"status.get\"}",
		           i ? "," : "[", i);
	buf_putc(&b, ']', NULL);
	fake_feed(c, false, buf_data(&b), buf_len(&b));
	buf_release(&b);
	assert_int_equal(c->n_out, 2);
	expect(c->out[1].text,
	       "\"id\":null,\"error\":{\"code\":-32003,\"message\":\"a batch of 65");
}

TEST(a_connection_that_goes_while_a_batch_is_open_costs_nothing)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k;
	struct err e = ERR_INIT;

	say(c,
	    "[{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"step.execute\",\"params\":{\"step\":\"a\","
	    "\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":\"x\"}}},"
	    "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"status.get\"}]");
	k = fake_keeper_last();
	assert_ok(fake_keeper_begin(k, &e), &e);
	fake_cut(c);
	assert_int_equal(fake.w.n_conns, 0);
	fake_keeper_finish(k, 0, false);
	fake_pass();
	assert_int_equal(fake.w.count.steps_finished, 1);
}

TEST(binary_frames_that_are_none_end_the_connection)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
		{ "", 0 },
		{ "\1\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 15 },         /* short */
		{ "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16 },       /* channel 0 */
		{ "\1\2\0\0\0\0\0\1\0\0\0\0\0\0\0\0", 16 },       /* unknown flag */
		{ "\1\0\1\0\0\0\0\1\0\0\0\0\0\0\0\0", 16 },       /* reserved bytes */
		{ "\4\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0", 16 },       /* reserved kind */
		{ "\7\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0", 16 },       /* unknown kind */
		{ "\2\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0", 19 }, /* half a window */
		{ "\1\0\0\0\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xff"
		  "x",
		  17 }, /* past 2^63 */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fake_conn *c = dial();

		fake_feed(c, true, bad[i].bytes, bad[i].n);
		expect_closed(c, CLOSE_PROTOCOL);
		assert_true(strncmp(c->close_reason, "frame: ", 7) == 0);
	}
	assert_int_equal(fake.w.n_conns, 0);
}

TEST(frames_for_a_channel_that_is_not_bound_are_dropped_in_silence)
{
	struct fake_conn *c = dial_and_open();
	size_t before = c->n_out;

	send_frame(c, FRAME_DATA, FRAME_END, 99, 0, "x", 1);
	send_window(c, 99, 5, 100);
	assert_true(c->open);
	assert_int_equal(c->n_out, before);
}

TEST(a_channel_is_free_again_when_its_step_was_released)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);

	ask(c, 3, "step.execute",
	    "\"step\":\"b\",\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":"
	    "\"x\"}" STREAMS);
	expect_refused(c, 3, -32602, "params.stdout.channel: 10 is in use");
	fake_keeper_finish(k, 0, false);
	fake_pass();
	fake_conn_flush(c);
	ask(c, 4, "step.release", "\"step\":\"a\",\"attempt\":1");
	expect(answer_to(c, 4), "\"result\":{}");
	execute(c, 5, "b", STREAMS);
}

TEST(one_connection_too_many_is_refused)
{
	for (int i = 0; i < LIMIT_CONNECTIONS; i++)
		assert_true(dial()->open);
	assert_true(dial()->refused);
	fake_cut(talking[7]);
	assert_true(dial()->open);
}

TEST(a_worker_that_drains_takes_no_connection_and_no_session)
{
	struct fake_conn *c = dial();

	ask(c, 9, "worker.shutdown", "\"grace_ms\":600001");
	expect_refused(c, 9, -32602, "params.grace_ms: want 0 to 600000");
	ask(c, 1, "worker.shutdown", "\"grace_ms\":5");
	expect(answer_to(c, 1), "\"result\":{}");
	assert_true(dial()->refused);
	ask(c, 2, "session.open", TEST_OPEN);
	expect_refused(c, 2, -32019, "the worker is shutting down");
	ask(c, 3, "status.get", "");
	expect(answer_to(c, 3), "\"state\":\"draining\"");
}

TEST(a_peer_that_does_not_read_is_closed_and_costs_bounded_memory)
{
	struct fake_conn *c = dial();
	int asked = 0;

	c->stuck = true;
	/* A close is only carried out when what waits has been written: hold it back too. */
	while (!c->carrier.closing && asked < 200000) {
		static const char text[] =
			"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.list\"}";

		c->carrier.on_frame(&c->carrier, false, (const uint8_t *)text, sizeof(text) - 1);
		asked++;
	}
	assert_true(c->carrier.closing);
	assert_true(c->carrier.queued <= LIMIT_SEND_QUEUE_HARD);
	expect(c->close_reason, "the peer does not read");
}

TEST(answers_and_notices_of_the_peer_do_no_harm)
{
	struct fake_conn *c = dial();
	size_t before = c->n_out;

	say(c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
	say(c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"x\"}}");
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"heartbeat\",\"params\":{\"uptime_ms\":1}}");
	assert_int_equal(c->n_out, before);
	assert_true(c->open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		talk_test(the_first_frame_is_a_hello_with_versions_limits_and_both_ids),
		{ "every method of methods.def has a handler [R17]",
		  every_method_of_the_table_has_a_handler, talk_setup, talk_teardown, NULL },
		{ "an unknown method is -32601, the connection lives on [R17]",
		  a_method_that_is_not_in_the_table_is_method_not_found, talk_setup, talk_teardown,
		  NULL },
		{ "no JSON is -32700, the connection lives on [R17]",
		  what_is_no_json_is_a_parse_error_without_id_and_the_connection_lives_on,
		  talk_setup, talk_teardown, NULL },
		{ "bad params are -32602 and named [R17]", bad_parameters_are_named, talk_setup,
		  talk_teardown, NULL },
		talk_test(what_comes_in_the_wrong_order_is_refused_by_state),
		talk_test(a_notification_with_an_id_and_a_request_without_one_are_refused),
		talk_test(an_id_comes_back_as_it_was_written),
		talk_test(an_id_that_is_in_flight_is_refused_and_may_be_used_again_afterwards),
		talk_test(answers_of_a_batch_are_one_array_in_which_notifications_have_no_part),
		talk_test(a_batch_waits_for_the_last_of_its_answers),
		talk_test(answers_that_do_not_fit_into_one_frame_come_in_several_arrays_each_whole),
		talk_test(a_batch_over_the_bound_is_refused_whole),
		talk_test(a_connection_that_goes_while_a_batch_is_open_costs_nothing),
		talk_test(binary_frames_that_are_none_end_the_connection),
		talk_test(frames_for_a_channel_that_is_not_bound_are_dropped_in_silence),
		talk_test(a_channel_is_free_again_when_its_step_was_released),
		talk_test(one_connection_too_many_is_refused),
		talk_test(a_worker_that_drains_takes_no_connection_and_no_session),
		talk_test(a_peer_that_does_not_read_is_closed_and_costs_bounded_memory),
		talk_test(answers_and_notices_of_the_peer_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
