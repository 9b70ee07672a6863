/* SPDX-License-Identifier: Apache-2.0
 *
 * A session, fed with frames: open, resume, observe, events, steps, streams, packages, the end. */
#include "tests/unit/worker/talk.h"

#include <sys/stat.h>

/* The keeper's word becomes the client's. */
static void settle(struct fake_conn *c)
{
	fake_pass();
	fake_conn_flush(c);
}

static bool exists(const char *path)
{
	return faccessat(fake.w.root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- open, resume, observe --- */

TEST(a_session_opens_with_ids_a_private_directory_and_its_first_event)
{
	struct fake_conn *c = dial();
	struct stat st;

	ask(c, 1, "session.open", TEST_OPEN ",\"lease_ms\":60000");
	expect(answer_to(c, 1), "\"result\":{\"session\":\"s\",\"sandbox\":\"box\",\"worker\":"
	                        "\"box/1\",\"generation\":1,"
	                        "\"protocol\":1,\"compression\":\"none\",\"lease_ms\":60000}");
	expect(heard(c), "\"method\":\"event\",\"params\":{\"wseq\":1,");
	expect(heard(c), "\"event\":\"session_initialized\",\"data\":{\"generation\":1}");
	assert_int_equal(fake.puts, 1);
	assert_int_equal(fstatat(fake.w.root_fd, "sessions/s", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

TEST(the_first_compression_that_both_have_is_chosen)
{
	static const struct {
		const char *offered, *got;
	} cases[] = {
		{ "[\"lz9\",\"zstd\",\"none\"]", "\"compression\":\"zstd\"" },
		{ "[\"none\",\"zstd\"]", "\"compression\":\"none\"" },
		{ "[\"lz9\"]", "no common compression" },
		{ "[]", "no common compression" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fake_conn *c = dial();

		say(c,
		    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session.open\",\"params\":{"
		    "\"session\":"
		    "\"s%zu\",\"run\":\"r\",\"key\":\"" TEST_KEY
		    "\",\"client\":{\"protocol\":{\"min\":1,\"max\":9},\"compressions\":%s}}}",
		    i, cases[i].offered);
		expect(answer_to(c, 1), cases[i].got);
	}
}

TEST(versions_that_do_not_meet_are_refused)
{
	struct fake_conn *c = dial();

	ask(c, 1, "session.open",
	    "\"session\":\"s\",\"run\":\"r\",\"key\":\"" TEST_KEY
	    "\",\"client\":{\"protocol\":{\"min\":2,\"max\":3}}");
	expect_refused(c, 1, -32018, "the client speaks protocol 2 to 3, this worker 1");
	assert_int_equal(fake.w.n_sessions, 0);
}

TEST(a_second_open_another_sandbox_and_one_session_too_many_are_refused)
{
	struct fake_conn *c = dial_and_open(), *other = dial();

	ask(other, 1, "session.open", TEST_OPEN);
	expect_refused(other, 1, -32008, "session 's' exists: resume it with its key");
	ask(other, 2, "session.open", TEST_OPEN ",\"sandbox\":\"elsewhere\"");
	expect_refused(other, 2, -32012, "this is sandbox 'box', not 'elsewhere'");
	fake.o.max_sessions = 1;
	ask(other, 3, "session.open",
	    "\"session\":\"t\",\"run\":\"r\",\"key\":\"" TEST_KEY "\"," TEST_CLIENT);
	expect_refused(other, 3, -32011, "1 sessions are open");
	assert_true(c->open);
	assert_int_equal(fake.w.n_sessions, 1);
}

TEST(secrets_over_the_bound_are_refused_and_leave_no_session)
{
	struct fake_conn *c = dial();
	auto_free char *big = malloc(LIMIT_SECRETS_BYTES + 8192);

	memset(big, 'x', LIMIT_SECRETS_BYTES + 8192);
	big[LIMIT_SECRETS_BYTES + 8000] = 0;
	say(c,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session.open\",\"params\":{" TEST_OPEN
	    ",\"secrets\":{\"A\":\"%s\"}}}",
	    big);
	expect(answer_to(c, 1), "\"class\":\"limit\"");
	assert_int_equal(fake.w.n_sessions, 0);
	assert_false(exists("sessions/s"));
}

TEST(resume_evicts_who_held_the_session_and_replays_what_is_missing)
{
	struct fake_conn *old = dial_and_open(), *c = dial();

	execute(old, 2, "a", "");
	ask(c, 1, "session.resume", TEST_OPEN ",\"events_have\":1");
	expect(answer_to(c, 1), "\"steps\":[{\"step\":\"a\",\"attempt\":1,\"state\":\"running\"}]");
	expect(answer_to(c, 1), "\"events_last\":2");
	fake_conn_flush(old);
	expect_closed(old, CLOSE_REPLACED);
	assert_int_equal(count_heard(c, "\"wseq\":1,"), 0);
	assert_int_equal(count_heard(c, "\"wseq\":2,"), 1);
	ask(c, 2, "session.renew", "\"lease_ms\":5000");
	expect(answer_to(c, 2), "\"result\":{\"lease_ms\":5000}");
}

TEST(resume_needs_the_key_the_sandbox_and_a_session_and_events_that_happened)
{
	struct fake_conn *held = dial_and_open(), *c = dial();

	ask(c, 1, "session.resume", "\"session\":\"s\",\"key\":\"b" TEST_KEY "\"," TEST_CLIENT);
	expect_refused(c, 1, -32006, "the key is not that of session 's'");
	ask(c, 2, "session.resume", "\"session\":\"s\",\"key\":\"\"," TEST_CLIENT);
	expect_refused(c, 2, -32006, "the key is not");
	ask(c, 3, "session.resume", "\"session\":\"t\",\"key\":\"" TEST_KEY "\"," TEST_CLIENT);
	expect_refused(c, 3, -32007, "no session 't' here");
	ask(c, 4, "session.resume", TEST_OPEN ",\"sandbox\":\"box2\"");
	expect_refused(c, 4, -32012, "this is sandbox 'box', not 'box2'");
	ask(c, 5, "session.resume", TEST_OPEN ",\"events_have\":99");
	expect_refused(c, 5, -32007, "event 99 has not happened: the last is 1");
	assert_true(held->open);
	assert_ptr_equal(fake.w.sessions->driver, (struct conn *)held->carrier.user);
}

TEST(environment_and_secrets_come_back_only_to_who_asks_with_the_key)
{
	struct fake_conn *c = dial(), *again = dial(), *observer = dial(), *plain = dial();

	ask(c, 1, "session.open", TEST_OPEN ",\"env\":{\"E\":\"1\"},\"secrets\":{\"S\":\"hush\"}");
	ask(observer, 1, "session.observe", TEST_OPEN ",\"want_secrets\":true");
	assert_null(strstr(answer_to(observer, 1), "hush"));
	ask(plain, 1, "session.resume", TEST_OPEN);
	assert_null(strstr(answer_to(plain, 1), "hush"));
	ask(again, 1, "session.resume", TEST_OPEN ",\"want_secrets\":true");
	expect(answer_to(again, 1), "\"env\":{\"E\":\"1\"},\"secrets\":{\"S\":\"hush\"}");
}

TEST(an_observer_reads_and_does_nothing_else)
{
	static const char *const driving[] = { "session.renew", "session.close", "package.load",
		                               "step.execute",  "step.cancel",   "step.release" };
	struct fake_conn *c = dial_and_open(), *o = dial();

	ask(o, 100, "session.observe", TEST_OPEN);
	expect(answer_to(o, 100), "\"session\":\"s\"");
	expect(heard(o), "\"wseq\":1,");
	for (size_t i = 0; i < ARRAY_LEN(driving); i++) {
		ask(o, (int)i, driving[i], "");
		expect(answer_to(o, (int)i), "an observer only reads");
	}
	ask(o, 50, "step.status", "\"step\":\"a\"");
	expect(answer_to(o, 50), "\"state\":\"unknown\"");
	execute(c, 2, "a", "");
	fake_conn_flush(o);
	expect(heard(o), "\"event\":\"step_start\"");
	/* What it has is no business of the journal's. */
	say(o, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":2}}");
	assert_int_equal(fake.w.sessions->journal.acked, 0);
	fake_cut(o);
	assert_true(c->open);
	assert_ptr_equal(fake.w.sessions->driver, (struct conn *)c->carrier.user);
}

/* --- events --- */

TEST(events_go_no_further_than_the_window_beyond_the_last_acknowledged)
{
	struct fake_conn *c = dial_and_open();
	struct session *s = fake.w.sessions;

	for (int i = 0; i < 2 * LIMIT_EVENT_WINDOW; i++)
		assert_int_equal(journal_put(&s->journal, "x", NULL, 0, 0, NULL, 0, NULL), 0);
	session_publish(s);
	fake_conn_flush(c);
	assert_int_equal(count_heard(c, "\"method\":\"event\""), LIMIT_EVENT_WINDOW);
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":10}}");
	assert_int_equal(count_heard(c, "\"method\":\"event\""), LIMIT_EVENT_WINDOW + 10);
	assert_int_equal(s->journal.acked, 10);
	/* An older one, one that was never sent, and none at all change nothing. */
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":9}}");
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":900}}");
	say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{}}");
	assert_int_equal(count_heard(c, "\"method\":\"event\""), LIMIT_EVENT_WINDOW + 10);
	assert_int_equal(s->journal.acked, 10);
}

TEST(lines_of_descriptor_3_become_events_and_names_of_ours_are_refused)
{
	static const char lines[] = "{\"type\":\"event\",\"name\":\"loaded\",\"data\":{\"t\":1}}\n"
				    "{\"type\":\"progress\",\"current\":1,\"total\":2}\n"
				    "{\"type\":\"event\",\"name\":\"step_complete\"}\n"
				    "no json\n"
				    "{\"type\":\"what\"}\n"
				    "{\"type\":\"complete\",\"success\":true}\n"
				    "{\"type\":\"event\",\"name\":\"half";
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");

	fake_keeper_print(k, KS_EVENTS, lines, sizeof(lines) - 1);
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	expect(heard(c), "\"event\":\"loaded\",\"step_id\":\"a\",\"attempt\":1,\"src\":\"48\","
	                 "\"data\":{\"t\":1}}");
	expect(heard(c), "\"data\":{\"current\":1,\"total\":2}}");
	expect(heard(c), "descriptor 3: an event with a name of farstep's own: ");
	expect(heard(c), "descriptor 3: a line that is no JSON object: no json");
	expect(heard(c), "descriptor 3: a message of an unknown type: ");
	assert_int_equal(count_heard(c, "step_complete\\\"}"), 1);
	assert_int_equal(count_heard(c, "\"event\":\"step_complete\""), 0);
	assert_null(strstr(heard(c), "\"half"));
	fake_keeper_print(k, KS_EVENTS, "\"}", 2);
	fake_keeper_finish(k, 0, false);
	settle(c);
	assert_int_equal(count_heard(c, "\"event\":\"half\""), 1);
	assert_true(strstr(heard(c), "\"event\":\"half\"") < strstr(heard(c), "\"step_ended\""));
}

TEST(no_line_of_descriptor_3_is_lost_however_many_come_at_once)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");
	char lines[65536];

	for (size_t i = 0; i < sizeof(lines); i += 2)
		memcpy(lines + i, "x\n", 2);
	for (int i = 0; i < 6; i++)
		fake_keeper_print(k, KS_EVENTS, lines, sizeof(lines));
	fake_keeper_finish(k, 0, false);
	settle(c);
	assert_null(answer_to(c, 2));
	/* As far as the journal has room; the rest follows the acknowledgements. */
	while (!answer_to(c, 2)) {
		uint64_t last = fake.w.sessions->journal.last;
		struct journal_cursor all = { last, fake.w.sessions->journal.size };

		((struct conn *)c->carrier.user)->events = all;
		say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":%d}}",
		    (int)last);
		if (fake.w.sessions->journal.last == last)
			break;
	}
	expect(answer_to(c, 2), "\"status\":\"success\"");
	/* session_initialized, step_start, one for each line, step_ended */
	assert_int_equal(fake.w.sessions->journal.last, 3 + 6 * sizeof(lines) / 2);
}

TEST(a_line_whose_numbers_grow_when_they_are_printed_still_fits)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");
	struct buf b;

	buf_init(&b, LIMIT_EVENT_LINE);
	buf_puts(&b, "{\"type\":\"progress\",\"a\":[0", NULL);
	while (buf_room(&b) > 10) /* each comes out as 16 digits */
		buf_puts(&b, ",4e15", NULL);
	buf_puts(&b, "]}", NULL);
	fake_keeper_print(k, KS_EVENTS, buf_data(&b), buf_len(&b));
	fake_keeper_print(k, KS_EVENTS, "\n{\"type\":\"progress\",\"a\":2}\n", 28);
	buf_release(&b);
	fake_keeper_finish(k, 0, false);
	settle(c);
	assert_int_equal(count_heard(c, "\"event\":\"progress\""), 2);
	expect(heard(c), ",4000000000000000]}}");
	expect(heard(c), "\"data\":{\"a\":2}}");
}

TEST(every_event_that_the_worker_writes_is_in_the_table)
{
	static const char *const table[] = {
#define EVENT(id, name, from, fields) "\"event\":\"" name "\"",
#include "protocol/events.def"
#undef EVENT
	};
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");

	fake_keeper_finish(k, 0, false);
	settle(c);
	k = execute(c, 3, "b", ",\"inputs\":{\"a\":{\"step\":\"a\",\"attempt\":1}}");
	fake_keeper_print(k, KS_EVENTS, "x\n{\"type\":\"log\"}\n{\"type\":\"metric\"}\n", 36);
	fake_keeper_finish(k, 1, false);
	settle(c);
	for (size_t i = 0; i < c->n_out; i++) {
		bool known = !strstr(c->out[i].text, "\"method\":\"event\"");

		for (size_t n = 0; n < ARRAY_LEN(table) && !known; n++)
			known = strstr(c->out[i].text, table[n]);
		if (!known)
			fail_msg("not in events.def: %s", c->out[i].text);
	}
	expect(heard(c), "\"event\":\"step_start\",\"step_id\":\"a\",\"attempt\":1,"
	                 "\"data\":{\"driver\":\"shell\",\"pid\":4711}");
	assert_int_equal(count_heard(c, "\"event\":\"inputs_resolved\""), 1);
	expect(heard(c), "\"data\":{\"name\":\"a\",\"from_step\":\"a\"}");
	assert_int_equal(count_heard(c, "\"event\":\"step_ended\""), 2);
}

/* --- steps --- */

TEST(output_goes_as_far_as_its_window_and_the_end_follows_the_last_byte)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);
	char text[250];
	bool end;

	memset(text, 'x', sizeof(text));
	fake_keeper_print(k, KS_STDOUT, text, sizeof(text));
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	assert_int_equal(strlen(data_of(c, 10, 0, &end)), 100);
	send_window(c, 10, 100, 240);
	assert_int_equal(strlen(data_of(c, 10, 0, &end)), 240);
	send_window(c, 10, 50, 200); /* values that fall are ignored */
	assert_int_equal(strlen(data_of(c, 10, 0, &end)), 240);
	assert_false(end);
	assert_null(answer_to(c, 2));
	fake_keeper_finish(k, 0, false);
	settle(c);
	expect(answer_to(c, 2), "\"result\":{\"status\":\"success\",\"receipt\":\"{");
	data_of(c, 11, 0, &end);
	assert_true(end);
	data_of(c, 10, 0, &end);
	assert_false(end);
	send_window(c, 10, 240, 1000);
	assert_int_equal(strlen(data_of(c, 10, 0, &end)), 250);
	assert_true(end);
}

/* The highest offset of the stream that the keeper was told to give up. */
static uint64_t told_to_give_up(struct fake_keeper *k, enum keeper_stream stream)
{
	uint8_t m[64];
	uint64_t offset, highest = 0;
	ssize_t n;

	while ((n = recv(k->sock, m, sizeof(m), MSG_DONTWAIT)) > 0) {
		if (n != 10 || m[0] != KO_ACK || m[1] != stream)
			continue;
		memcpy(&offset, m + 2, sizeof(offset));
		highest = offset > highest ? offset : highest;
	}
	return highest;
}

TEST(acknowledged_output_is_told_to_the_keeper)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);

	fake_keeper_print(k, KS_STDERR, "0123456789", 10);
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	send_window(c, 11, 7, 100);
	assert_int_equal(told_to_give_up(k, KS_STDERR), 7);
	assert_int_equal(told_to_give_up(k, KS_STDOUT), 0);
}

TEST(a_line_of_descriptor_3_is_kept_until_it_is_whole_and_written_down)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");
	char piece[2 * LIMIT_EVENT_LINE];

	fake_keeper_print(k, KS_EVENTS, "{\"type\":\"event\",\"name\":\"one\"}\n{\"type\"", 37);
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	/* Another worker begins behind the last whole line. */
	assert_int_equal(told_to_give_up(k, KS_EVENTS), 30);
	fake_keeper_print(k, KS_EVENTS, ":\"event\",\"name\":\"two\"}\n", 23);
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	assert_int_equal(told_to_give_up(k, KS_EVENTS), 60);
	/* One that is dropped for its length need not stay whole: there may be no room for it. */
	memset(piece, 'x', sizeof(piece));
	fake_keeper_print(k, KS_EVENTS, piece, sizeof(piece));
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	assert_int_equal(told_to_give_up(k, KS_EVENTS), 60 + sizeof(piece));
}

TEST(lines_that_waited_for_room_in_the_journal_are_given_up_too)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);
	char lines[65536];
	uint64_t told;

	for (size_t i = 0; i < sizeof(lines); i += 2)
		memcpy(lines + i, "x\n", 2);
	for (int i = 0; i < 6; i++)
		fake_keeper_print(k, KS_EVENTS, lines, sizeof(lines));
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	told = told_to_give_up(k, KS_EVENTS);
	assert_in_range(told, 1, 6 * sizeof(lines) - 1);
	while (told < 6 * sizeof(lines)) {
		uint64_t last = fake.w.sessions->journal.last, more;
		struct journal_cursor all = { last, fake.w.sessions->journal.size };

		((struct conn *)c->carrier.user)->events = all;
		say(c, "{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":%d}}",
		    (int)last);
		more = told_to_give_up(k, KS_EVENTS);
		assert_true(more > told);
		told = more;
	}
}

TEST(what_a_client_had_when_it_attached_is_kept_until_acknowledged)
{
	struct fake_conn *old = dial_and_open(), *c = dial();
	struct fake_keeper *k = execute(old, 2, "a", STREAMS);

	fake_keeper_print(k, KS_STDOUT, "0123456789", 10);
	fake_keeper_tell(k, KP_RUNNING);
	settle(old);
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\","
	    "\"stdout\":{\"channel\":77,\"offset\":\"8\",\"window\":\"100\"}");
	send_window(c, 77, 3, 200);
	assert_int_equal(told_to_give_up(k, KS_STDOUT), 3);
	/* It may begin again where it is durable. */
	ask(c, 3, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\","
	    "\"stdout\":{\"channel\":78,\"offset\":\"3\",\"window\":\"100\"}");
	assert_null(answer_to(c, 3));
}

TEST(frames_that_break_a_streams_rules_close_with_4002)
{
	static const struct {
		uint8_t kind;
		uint32_t channel;
		uint64_t offset, value;
		const char *reason;
	} bad[] = {
		{ FRAME_DATA, 10, 0, 0, "channel 10: want WINDOW frames" },
		{ FRAME_GAP, 10, 0, 5, "channel 10: want WINDOW frames" },
		{ FRAME_WINDOW, 10, 1, 5, "channel 10: acknowledges 1 bytes, 0 were sent" },
		{ FRAME_WINDOW, 9, 0, 5, "channel 9: want DATA frames" },
		{ FRAME_DATA, 9, 1, 0, "channel 9: data at 1, want it at 0" },
	};
	static const uint8_t bytes[8];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fake_conn *c = dial();
		char step[8];

		ask(c, 1, i ? "session.resume" : "session.open", TEST_OPEN);
		snprintf(step, sizeof(step), "s%zu", i);
		execute(c, 2, step, STREAMS ",\"stdin\":{\"channel\":9,\"offset\":\"0\"}");
		if (bad[i].kind == FRAME_DATA)
			send_frame(c, FRAME_DATA, 0, bad[i].channel, bad[i].offset, bytes,
			           bad[i].value);
		else
			send_frame(c, bad[i].kind, 0, bad[i].channel, bad[i].offset,
			           (const uint8_t[8]){ [7] = (uint8_t)bad[i].value }, 8);
		expect_closed(c, CLOSE_PROTOCOL);
		assert_string_equal(c->close_reason, bad[i].reason);
	}
}

TEST(input_beyond_the_granted_window_closes_with_4002)
{
	static const uint8_t bytes[LIMIT_DATA];
	struct fake_conn *c = dial_and_open();

	execute(c, 2, "a", ",\"stdin\":{\"channel\":9,\"offset\":\"0\"}");
	send_frame(c, FRAME_DATA, 0, 9, 0, bytes, 65536);
	assert_true(c->open);
	send_frame(c, FRAME_DATA, 0, 9, 65536, bytes, 1);
	expect_closed(c, CLOSE_PROTOCOL);
	assert_string_equal(c->close_reason, "channel 9: 1 bytes at 65536 pass the granted 65536");
}

TEST(input_waits_for_the_keepers_room_and_reaches_it_in_order)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", ",\"stdin\":{\"channel\":9,\"offset\":\"0\"}");
	struct frame f;
	uint8_t m[64];
	ssize_t n;
	char got[32] = "";
	bool end = false;

	assert_true(last_frame(c, FRAME_WINDOW, 9, &f));
	assert_int_equal(frame_u64(&f), 64 * 1024);
	send_frame(c, FRAME_DATA, 0, 9, 0, "hello ", 6);
	send_frame(c, FRAME_DATA, FRAME_END, 9, 6, "world", 5);
	assert_true(c->open);
	while ((n = recv(k->sock, m, sizeof(m), MSG_DONTWAIT)) > 0) {
		uint64_t offset;

		if (m[0] != KO_STDIN)
			continue;
		memcpy(&offset, m + 2, sizeof(offset));
		memcpy(got + offset, m + 10, (size_t)n - 10);
		end = m[1];
	}
	assert_string_equal(got, "hello world");
	assert_true(end);
	k->st.stdin_have = 11;
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	assert_true(last_frame(c, FRAME_WINDOW, 9, &f));
	assert_int_equal(f.offset, 11);
	send_frame(c, FRAME_DATA, 0, 9, 11, "!", 1); /* after the end */
	expect_closed(c, CLOSE_PROTOCOL);
}

TEST(the_same_request_attaches_and_another_body_conflicts)
{
	struct fake_conn *old = dial_and_open(), *c = dial();
	struct fake_keeper *k = execute(old, 2, "a", STREAMS);
	bool end;

	fake_keeper_print(k, KS_STDOUT, "0123456789", 10);
	fake_keeper_tell(k, KP_RUNNING);
	settle(old);
	assert_string_equal(data_of(old, 10, 0, &end), "0123456789");
	fake_cut(old);
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\","
	    "\"stdout\":{\"channel\":77,\"offset\":\"4\",\"window\":\"100\"}");
	assert_string_equal(data_of(c, 77, 4, &end), "456789");
	ask(c, 3, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"y\"},\"driver\":\"shell\"");
	expect(answer_to(c, 3), "\"class\":\"conflict\",\"admitted\":\"yes\"");
	ask(c, 4, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\"");
	expect(answer_to(c, 2), "another request attached to the step");
	fake_keeper_finish(k, 0, false);
	settle(c);
	expect(answer_to(c, 4), "\"status\":\"success\"");
	assert_int_equal(fake.n_keepers, 1);
}

TEST(bytes_that_were_given_up_cannot_be_asked_for_again)
{
	struct fake_conn *old = dial_and_open(), *c = dial();
	struct fake_keeper *k = execute(old, 2, "a", STREAMS);

	fake_keeper_print(k, KS_STDOUT, "0123456789", 10);
	fake_keeper_tell(k, KP_RUNNING);
	settle(old);
	send_window(old, 10, 8, 100);
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\","
	    "\"stdout\":{\"channel\":77,\"offset\":\"7\",\"window\":\"100\"}");
	expect_refused(c, 2, -32602,
	               "params.stdout.offset: 7: everything below 8 was acknowledged and is gone");
	ask(c, 3, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\","
	    "\"stdout\":{\"channel\":77,\"offset\":\"8\",\"window\":\"100\"}");
	assert_null(answer_to(c, 3));
}

TEST(a_record_that_is_not_signed_by_the_steps_key_proves_nothing)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");

	fake_keeper_finish(k, 0, true);
	settle(c);
	expect(answer_to(c, 2), "\"result\":{\"status\":\"lost\",\"receipt\":null,\"hmac\":null");
	expect(heard(c), "\"event\":\"step_ended\",\"step_id\":\"a\",\"attempt\":1,"
	                 "\"data\":{\"status\":\"lost\"");
	assert_int_equal(fake.sweeps, 1);
}

TEST(a_keeper_that_goes_without_a_record_loses_the_step)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);

	fake_keeper_die(k);
	settle(c);
	expect(answer_to(c, 2), "\"status\":\"lost\"");
	expect(answer_to(c, 2), "ended without a record");
	ask(c, 3, "step.status", "\"step\":\"a\"");
	expect(answer_to(c, 3), "{\"state\":\"lost\",\"attempt\":1,\"status\":\"lost\"}");
	ask(c, 4, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\"");
	expect(answer_to(c, 4), "\"status\":\"lost\"");
	assert_int_equal(fake.n_keepers, 1);
	ask(c, 5, "status.get", "");
	expect(answer_to(c, 5), "{\"running\":0,\"started\":1,\"finished\":0,\"lost\":1}");
	/* It was lost once. */
	fake_cut(c);
	fake_restart();
	c = dial();
	ask(c, 1, "session.resume", TEST_OPEN);
	expect(answer_to(c, 1), "{\"step\":\"a\",\"attempt\":1,\"state\":\"lost\"}");
	expect(heard(c), "\"data\":{\"generation\":2,\"adopted\":0,\"lost\":0}");
	assert_int_equal(count_heard(c, "\"event\":\"step_ended\""), 1);
}

TEST(a_step_without_streams_is_bound_to_no_connection)
{
	struct fake_conn *old = dial_and_open(), *c = dial();
	struct fake_keeper *k = execute(old, 2, "a", "");
	struct step *st = step_lookup(fake.w.sessions, "a", 1);

	assert_null(st->live->conn);
	fake_cut(old);
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":"
	    "\"shell\"" STREAMS);
	assert_ptr_equal(st->live->conn, c->carrier.user);
	fake_cut(c);
	assert_null(st->live->conn);
	fake_keeper_finish(k, 0, false);
	fake_pass();
	assert_int_equal(st->state, STEP_FINISHED);
}

TEST(a_step_is_cancelled_once)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");
	uint8_t m[64];
	int cancels = 0;

	ask(c, 3, "step.cancel", "\"step\":\"a\",\"grace_ms\":5");
	expect(answer_to(c, 3), "{\"cancelled\":true,\"state\":\"running\"}");
	ask(c, 4, "step.cancel", "\"step\":\"a\"");
	expect(answer_to(c, 4), "{\"cancelled\":false,\"state\":\"running\"}");
	while (recv(k->sock, m, sizeof(m), MSG_DONTWAIT) > 0)
		if (m[0] == KO_CANCEL) {
			cancels++;
			assert_string_equal((char *)m + 5, "cancel");
		}
	assert_int_equal(cancels, 1);
	ask(c, 5, "step.cancel", "\"step\":\"b\"");
	expect_refused(c, 5, -32007, "no step 'b'");
	ask(c, 6, "step.cancel", "\"step\":\"../a\"");
	expect_refused(c, 6, -32602, "params.step: want ");
}

TEST(a_step_is_released_when_it_has_ended_and_never_starts_again)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", "");

	ask(c, 3, "step.release", "\"step\":\"a\",\"attempt\":1");
	expect_refused(c, 3, -32010, "step 'a' is running");
	fake_keeper_print(k, KS_STDOUT, "x", 1);
	fake_keeper_finish(k, 0, false);
	settle(c);
	assert_true(exists("sessions/s/steps/a.1/stdout"));
	ask(c, 4, "step.release", "\"step\":\"a\",\"attempt\":1");
	expect(answer_to(c, 4), "\"result\":{}");
	assert_false(exists("sessions/s/steps/a.1/stdout"));
	assert_true(exists("sessions/s/steps/a.1/claim"));
	ask(c, 5, "step.execute",
	    "\"attempt\":1,\"step\":\"a\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\"");
	expect(answer_to(c, 5), "step 'a' attempt 1 was released");
	assert_int_equal(fake.n_keepers, 1);
}

TEST(what_step_execute_refuses_was_never_admitted)
{
	static const struct {
		const char *params, *message;
	} bad[] = {
		{ "", "params.step: missing" },
		{ "\"step\":\"a\"", "params.attempt: missing" },
		{ "\"step\":\"a\",\"attempt\":0", "params.attempt: want 1 to 1000, got 0" },
		{ "\"step\":\"a\",\"attempt\":1", "params.driver: missing" },
		{ "\"step\":\".a\",\"attempt\":1", "params.step: want" },
		{ "\"step\":\"a/b\",\"attempt\":1", "params.step: want" },
		{ "\"step\":\"a\",\"attempt\":1,\"driver\":\"shell\"", "params.config: missing" },
		{ "\"step\":\"a\",\"attempt\":1,\"driver\":\"shell\",\"config\":{}",
		  "params.config.script: missing" },
#define GOOD "\"step\":\"a\",\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":\"x\"},"
		{ GOOD "\"timeout_ms\":0", "params.timeout_ms: want 1 to" },
		{ GOOD "\"grace_ms\":-1", "params.grace_ms: want 0 to" },
		{ GOOD "\"linger_ms\":99999999", "params.linger_ms: want 0 to" },
		{ GOOD "\"env\":{\"A\":1}", "params.env: want names" },
		{ GOOD "\"collect\":[1]", "params.collect" },
		{ GOOD "\"collect\":[\"../*\"]", "params.collect: '../*': want" },
		{ GOOD "\"collect\":[\"ok\",\"/etc/*\"]", "params.collect: '/etc/*': want" },
		{ GOOD "\"collect\":[\"\"]", "params.collect: '': want" },
		{ GOOD "\"inputs\":{\"a\":{\"step\":\"b\"}}", "params.inputs.a: step 'b' has not" },
		{ GOOD "\"inputs\":{\"a\":{\"step\":\"../b\"}}",
		  "params.inputs.a: step '../b' has" },
		{ GOOD "\"inputs\":{\"a\":1}", "params.inputs.a: want an object" },
		{ GOOD "\"stdout\":{}", "params.stdout.channel: missing" },
		{ GOOD "\"stdout\":{\"channel\":0}", "params.stdout.channel: want 1 to" },
		{ GOOD "\"stdin\":{\"channel\":1,\"offset\":\"-1\"}", "params.stdin.offset: want" },
		{ GOOD "\"stdout\":{\"channel\":5},\"stderr\":{\"channel\":5}",
		  "params.stderr.channel: 5 is given twice" },
#undef GOOD
	};
	struct fake_conn *c = dial_and_open();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ask(c, (int)i + 10, "step.execute", bad[i].params);
		expect_refused(c, (int)i + 10, -32602, bad[i].message);
	}
	assert_int_equal(fake.n_keepers, 0);
	assert_int_equal(fake.w.sessions->n_steps, 0);
	assert_false(exists("sessions/s/steps/a.1"));
}

TEST(a_session_runs_so_many_steps_at_once_and_no_more)
{
	struct fake_conn *c = dial_and_open();
	char step[16];

	for (int i = 0; i < LIMIT_STEPS_RUNNING; i++) {
		snprintf(step, sizeof(step), "s%d", i);
		execute(c, 100 + i, step, "");
	}
	ask(c, 1000, "step.execute",
	    "\"attempt\":1,\"step\":\"more\",\"config\":{\"script\":\"x\"},\"driver\":\"shell\"");
	expect_refused(c, 1000, -32011, "64 steps are running");
	ask(c, 1001, "status.get", "");
	expect(answer_to(c, 1001), "\"steps\":{\"running\":64,\"started\":64,");
}

/* --- packages --- */

#define LOAD(sha) "\"sha256\":\"" sha "\",\"size\":\"3\",\"channel\":7"
#define SHA_ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

TEST(a_package_is_received_within_its_window_and_given_to_the_helper)
{
	struct fake_conn *c = dial_and_open();
	struct frame f;

	ask(c, 2, "package.load", LOAD(SHA_ABC));
	assert_true(last_frame(c, FRAME_WINDOW, 7, &f));
	assert_int_equal(frame_u64(&f), WINDOW_UPLOAD);
	send_frame(c, FRAME_DATA, 0, 7, 0, "ab", 2);
	assert_int_equal(fake.helper_report, -1);
	send_frame(c, FRAME_DATA, FRAME_END, 7, 2, "c", 1);
	assert_true(fake.helper_report >= 0);
	assert_null(answer_to(c, 2));
	assert_int_equal(write(fake.helper_report, "ok 5 600\n", 9), 9);
	assert_true(upload_on_child(&fake.w, FAKE_PID, 0));
	settle(c);
	expect(answer_to(c, 2), "\"result\":{\"files\":5,\"bytes\":\"600\"}");
	assert_false(exists("sessions/s/package.part"));
	ask(c, 3, "package.load", LOAD(SHA_ABC));
	expect(answer_to(c, 3), "\"files\":5");
	ask(c, 4, "package.load", LOAD(TEST_KEY));
	expect_refused(c, 4, -32009, "the session has another package");
}

TEST(a_package_with_another_digest_or_length_is_an_integrity_error)
{
	struct fake_conn *c = dial_and_open(), *other = dial();

	ask(c, 2, "package.load", LOAD(SHA_ABC));
	send_frame(c, FRAME_DATA, FRAME_END, 7, 0, "abd", 3);
	expect_refused(c, 2, -32005,
	               "package: the bytes received have another SHA-256 than announced");
	assert_int_equal(fake.helper_report, -1);
	ask(other, 1, "session.open",
	    "\"session\":\"t\",\"run\":\"r\",\"key\":\"" TEST_KEY "\"," TEST_CLIENT);
	ask(other, 2, "package.load", LOAD(SHA_ABC));
	send_frame(other, FRAME_DATA, 0, 7, 0, "abcd", 4);
	expect_refused(other, 2, -32005, "package: 4 bytes came, 3 were announced");
	send_frame(other, FRAME_DATA, FRAME_END, 7, 4, "", 0);
	assert_int_equal(fake.helper_report, -1);
}

TEST(an_upload_goes_on_where_it_stopped)
{
	struct fake_conn *old = dial_and_open(), *c = dial();
	struct frame f;

	ask(old, 2, "package.load", LOAD(SHA_ABC));
	send_frame(old, FRAME_DATA, 0, 7, 0, "ab", 2);
	fake_cut(old);
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "package.load", LOAD(SHA_ABC));
	assert_true(last_frame(c, FRAME_WINDOW, 7, &f));
	assert_int_equal(f.offset, 2);
	send_frame(c, FRAME_DATA, FRAME_END, 7, 2, "c", 1);
	assert_true(fake.helper_report >= 0);
}

TEST(what_the_helper_found_wrong_is_the_answer)
{
	struct fake_conn *c = dial_and_open();

	ask(c, 2, "package.load", LOAD(SHA_ABC));
	send_frame(c, FRAME_DATA, FRAME_END, 7, 0, "abc", 3);
	assert_int_equal(write(fake.helper_report, "integrity entry 2: no\n", 22), 22);
	assert_true(upload_on_child(&fake.w, FAKE_PID, 1 << 8));
	settle(c);
	expect_refused(c, 2, -32005, "package: entry 2: no");
}

TEST(frames_that_break_the_uploads_rules_close_with_4002)
{
	struct fake_conn *c = dial_and_open();

	ask(c, 2, "package.load", LOAD(SHA_ABC));
	send_frame(c, FRAME_DATA, 0, 7, 1, "b", 1);
	expect_closed(c, CLOSE_PROTOCOL);
	assert_string_equal(c->close_reason, "channel 7: data at 1, want it at 0");
	c = dial();
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "package.load", LOAD(SHA_ABC));
	send_window(c, 7, 0, 10);
	expect_closed(c, CLOSE_PROTOCOL);
	assert_string_equal(c->close_reason, "package: want DATA frames");
	assert_int_equal(fake.w.n_sessions, 1);
}

/* --- the end --- */

TEST(close_waits_for_the_steps_then_removes_everything)
{
	struct fake_conn *c = dial_and_open(), *o = dial();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);

	ask(o, 1, "session.observe", TEST_OPEN);
	ask(c, 3, "session.close", "");
	settle(c);
	assert_null(answer_to(c, 3));
	k->rc.exit.kind = EXIT_CANCELLED;
	fake_keeper_finish(k, 143, false);
	settle(c);
	fake_conn_flush(o);
	expect(answer_to(c, 2), "\"status\":\"error\"");
	expect(answer_to(c, 3), "\"result\":{\"leftovers\":0}");
	expect_closed(c, CLOSE_ENDED);
	expect_closed(o, CLOSE_ENDED);
	assert_false(exists("sessions/s"));
	assert_int_equal(fake.w.n_sessions, 0);
	assert_true(fake.dels >= 1);
	assert_false(fake.quit);
}

TEST(with_once_the_worker_ends_with_its_first_session)
{
	struct fake_conn *c = dial_and_open();

	fake.o.once = true;
	ask(c, 2, "session.close", "");
	settle(c);
	assert_true(fake.quit);
}

/* About, because time goes on. */
static void expect_lease(uint32_t ms)
{
	fake_drain_store();
	if (fake.lease_ms > ms || fake.lease_ms + 5000 < ms)
		fail_msg("the supervisor was told %u ms, want %u", fake.lease_ms, ms);
	fake.lease_ms = 0;
}

#define OTHER_OPEN \
	"\"session\":\"t\",\"run\":\"r2\",\"key\":\"" TEST_KEY "\"," TEST_CLIENT

TEST(the_supervisors_lease_is_that_of_the_session_that_has_longest)
{
	struct fake_conn *c = dial(), *other = dial();

	fake.o.lease_ms = LEASE_DEFAULT_MS;
	ask(c, 1, "session.open", TEST_OPEN ",\"lease_ms\":60000");
	expect_lease(60000);
	ask(other, 1, "session.open", OTHER_OPEN ",\"lease_ms\":20000");
	expect_lease(60000);
	ask(other, 2, "session.renew", "\"lease_ms\":200000");
	expect_lease(200000);
	ask(other, 3, "session.renew", "\"lease_ms\":30000");
	expect_lease(60000);
}

TEST(a_closed_session_leaves_its_lease_and_a_lapsed_one_leaves_none)
{
	struct fake_conn *c = dial(), *other = dial();

	fake.o.lease_ms = LEASE_DEFAULT_MS;
	ask(c, 1, "session.open", TEST_OPEN ",\"lease_ms\":60000");
	ask(other, 1, "session.open", OTHER_OPEN ",\"lease_ms\":90000");
	fake_drain_store();
	ask(c, 2, "session.close", "");
	fake_pass();
	expect_lease(90000);
	ask(other, 2, "session.renew", "\"lease_ms\":7000");
	fake_drain_store();
	fake.lease_ms = 0;
	ask(other, 3, "session.close", "");
	fake_pass();
	assert_int_equal(fake.w.n_sessions, 0);
	expect_lease(7000);
	c = dial();
	ask(c, 1, "session.open", TEST_OPEN ",\"lease_ms\":60000");
	expect_lease(60000);
	session_close(fake.w.sessions, NULL, "lease", CLOSE_GRACE_MS);
	fake_pass();
	fake_drain_store();
	assert_int_equal(fake.w.n_sessions, 0);
	assert_int_equal(fake.lease_ms, 0);
}

TEST(scratch_places_are_emptied_when_no_session_is_left)
{
	struct fake_conn *c = dial(), *other = dial();
	char place[100];
	struct err e = ERR_INIT;

	snprintf(place, sizeof(place), "%s/place", fake.root);
	assert_ok(fs_mkdirs(AT_FDCWD, place, 0700, &e), &e);
	fake.o.scratch = place;
	ask(c, 1, "session.open", TEST_OPEN);
	ask(other, 1, "session.open", OTHER_OPEN);
	assert_ok(fs_write(fake.w.root_fd, "place/left", "x", 1, 0600, false, &e), &e);
	ask(c, 2, "session.close", "");
	fake_pass();
	assert_true(exists("place/left"));
	ask(other, 2, "session.close", "");
	fake_pass();
	assert_true(exists("place"));
	assert_false(exists("place/left"));
}

TEST(a_detached_session_goes_on_and_its_end_needs_no_connection)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "a", STREAMS);

	fake_cut(c);
	assert_int_equal(fake.w.n_sessions, 1);
	fake_keeper_finish(k, 0, false);
	fake_pass();
	assert_int_equal(fake.w.count.steps_finished, 1);
	session_close(fake.w.sessions, NULL, "lease", CLOSE_GRACE_MS);
	fake_pass();
	assert_int_equal(fake.w.n_sessions, 0);
	assert_false(exists("sessions/s"));
}

TEST(another_worker_finds_the_session_its_steps_and_its_events)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k = execute(c, 2, "done", "");
	bool end;

	fake_keeper_finish(k, 0, false);
	settle(c);
	k = execute(c, 3, "gone", "");
	fake_keeper_die(k);
	k = execute(c, 4, "runs", STREAMS);
	fake_keeper_print(k, KS_STDOUT, "0123456789", 10);
	fake_keeper_print(k, KS_EVENTS, "{\"type\":\"event\",\"name\":\"one\"}\n{\"type\"", 37);
	fake_keeper_tell(k, KP_RUNNING);
	settle(c);
	expect(heard(c), "\"event\":\"one\"");
	fake_cut(c);
	fake_restart();
	c = dial();
	ask(c, 1, "session.resume", TEST_OPEN);
	expect(answer_to(c, 1), "\"generation\":2");
	expect(answer_to(c, 1), "{\"step\":\"done\",\"attempt\":1,\"state\":\"finished\"}");
	expect(answer_to(c, 1), "{\"step\":\"gone\",\"attempt\":1,\"state\":\"lost\"}");
	expect(answer_to(c, 1), "{\"step\":\"runs\",\"attempt\":1,\"state\":\"claimed\"}");
	expect(heard(c), "\"event\":\"worker_restarted\"");
	say(c, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"step.execute\",\"params\":{\"step\":"
	       "\"runs\","
	       "\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":\"x\"},"
	       "\"stdout\":{\"channel\":9,\"offset\":\"4\",\"window\":\"100\"}}}");
	fake_keeper_print(k, KS_EVENTS, ":\"event\",\"name\":\"two\"}\n", 23);
	fake_keeper_finish(k, 0, false);
	settle(c);
	assert_string_equal(data_of(c, 9, 4, &end), "456789");
	assert_true(end);
	expect(answer_to(c, 2), "\"status\":\"success\"");
	assert_int_equal(count_heard(c, "\"event\":\"one\""), 1);
	assert_int_equal(count_heard(c, "\"event\":\"two\""), 1);
	for (size_t i = 0; i < 3; i++) {
		static const char *const steps[] = { "done", "gone", "runs" };
		char want[80];

		snprintf(want, sizeof(want), "\"event\":\"step_ended\",\"step_id\":\"%s\"",
		         steps[i]);
		assert_int_equal(count_heard(c, want), 1);
	}
}

TEST(a_step_whose_keeper_never_got_its_plan_is_lost_with_the_worker)
{
	struct fake_conn *c = dial_and_open();
	struct fake_keeper *k;

	say(c, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"step.execute\",\"params\":{"
	       "\"step\":\"a\",\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":\"x\"}}}");
	k = fake_keeper_last();
	fake_cut(c);
	fake_restart();
	c = dial();
	ask(c, 1, "session.resume", TEST_OPEN);
	/* Three times it may be late, the fourth time it is so. */
	for (int i = 0; i < 4; i++) {
		ask(c, 10 + i, "step.status", "\"step\":\"a\"");
		expect(answer_to(c, 10 + i), "\"state\":\"running\"");
		fake_keeper_tell(k, KP_WAITING);
		fake_pass();
	}
	ask(c, 20, "step.status", "\"step\":\"a\"");
	expect(answer_to(c, 20), "\"state\":\"lost\"");
}

TEST(another_worker_goes_on_with_an_upload_or_knows_the_package)
{
	struct fake_conn *c = dial_and_open();
	struct frame f;

	ask(c, 2, "package.load", LOAD(SHA_ABC));
	send_frame(c, FRAME_DATA, 0, 7, 0, "ab", 2);
	fake_cut(c);
	fake_restart();
	c = dial();
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "package.load", LOAD(SHA_ABC));
	assert_true(last_frame(c, FRAME_WINDOW, 7, &f));
	assert_int_equal(f.offset, 2);
	send_frame(c, FRAME_DATA, FRAME_END, 7, 2, "c", 1);
	assert_int_equal(write(fake.helper_report, "ok 5 600\n", 9), 9);
	assert_true(upload_on_child(&fake.w, FAKE_PID, 0));
	fake_cut(c);
	fake_restart();
	c = dial();
	ask(c, 1, "session.resume", TEST_OPEN);
	ask(c, 2, "package.load", LOAD(SHA_ABC));
	expect(answer_to(c, 2), "\"result\":{\"files\":5,\"bytes\":\"600\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		talk_test(a_session_opens_with_ids_a_private_directory_and_its_first_event),
		talk_test(the_first_compression_that_both_have_is_chosen),
		talk_test(versions_that_do_not_meet_are_refused),
		talk_test(a_second_open_another_sandbox_and_one_session_too_many_are_refused),
		talk_test(secrets_over_the_bound_are_refused_and_leave_no_session),
		talk_test(resume_evicts_who_held_the_session_and_replays_what_is_missing),
		talk_test(resume_needs_the_key_the_sandbox_and_a_session_and_events_that_happened),
		talk_test(environment_and_secrets_come_back_only_to_who_asks_with_the_key),
		talk_test(an_observer_reads_and_does_nothing_else),
		talk_test(events_go_no_further_than_the_window_beyond_the_last_acknowledged),
		talk_test(lines_of_descriptor_3_become_events_and_names_of_ours_are_refused),
		talk_test(no_line_of_descriptor_3_is_lost_however_many_come_at_once),
		talk_test(a_line_whose_numbers_grow_when_they_are_printed_still_fits),
		talk_test(every_event_that_the_worker_writes_is_in_the_table),
		talk_test(output_goes_as_far_as_its_window_and_the_end_follows_the_last_byte),
		talk_test(acknowledged_output_is_told_to_the_keeper),
		talk_test(a_line_of_descriptor_3_is_kept_until_it_is_whole_and_written_down),
		talk_test(lines_that_waited_for_room_in_the_journal_are_given_up_too),
		talk_test(what_a_client_had_when_it_attached_is_kept_until_acknowledged),
		talk_test(frames_that_break_a_streams_rules_close_with_4002),
		talk_test(input_beyond_the_granted_window_closes_with_4002),
		talk_test(input_waits_for_the_keepers_room_and_reaches_it_in_order),
		talk_test(the_same_request_attaches_and_another_body_conflicts),
		talk_test(bytes_that_were_given_up_cannot_be_asked_for_again),
		talk_test(a_record_that_is_not_signed_by_the_steps_key_proves_nothing),
		talk_test(a_keeper_that_goes_without_a_record_loses_the_step),
		talk_test(a_step_without_streams_is_bound_to_no_connection),
		talk_test(a_step_is_cancelled_once),
		talk_test(a_step_is_released_when_it_has_ended_and_never_starts_again),
		talk_test(what_step_execute_refuses_was_never_admitted),
		talk_test(a_session_runs_so_many_steps_at_once_and_no_more),
		talk_test(a_package_is_received_within_its_window_and_given_to_the_helper),
		talk_test(a_package_with_another_digest_or_length_is_an_integrity_error),
		talk_test(an_upload_goes_on_where_it_stopped),
		talk_test(what_the_helper_found_wrong_is_the_answer),
		talk_test(frames_that_break_the_uploads_rules_close_with_4002),
		talk_test(close_waits_for_the_steps_then_removes_everything),
		talk_test(with_once_the_worker_ends_with_its_first_session),
		talk_test(the_supervisors_lease_is_that_of_the_session_that_has_longest),
		talk_test(a_closed_session_leaves_its_lease_and_a_lapsed_one_leaves_none),
		talk_test(scratch_places_are_emptied_when_no_session_is_left),
		talk_test(a_detached_session_goes_on_and_its_end_needs_no_connection),
		talk_test(another_worker_finds_the_session_its_steps_and_its_events),
		talk_test(a_step_whose_keeper_never_got_its_plan_is_lost_with_the_worker),
		talk_test(another_worker_goes_on_with_an_upload_or_knows_the_package),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
