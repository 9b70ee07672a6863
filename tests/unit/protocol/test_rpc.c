/* SPDX-License-Identifier: Apache-2.0
 *
 * What rpc_read says of a text is written down as lines, one a callback, and
 * compared with the lines expected. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/rpc.h"

enum { TEXT_MAX = 2 * LIMIT_TEXT };

/* --- a sink that takes notes --- */

struct notes {
	struct buf lines;
	int messages, faults, begun, ended;
};

static void note_value(struct notes *n, const char *name, const json *v)
{
	struct err e = ERR_INIT;

	if (!v)
		return;
	assert_ok(buf_printf(&n->lines, &e, " %s=", name), &e);
	assert_ok(json_print(v, &n->lines, &e), &e);
}

static void note_message(void *arg, const struct rpc_message *m)
{
	static const char *const kinds[] = { "request", "notice", "result", "error" };
	struct notes *n = arg;
	struct err e = ERR_INIT;

	n->messages++;
	assert_ok(buf_puts(&n->lines, kinds[m->kind], &e), &e);
	if (m->id.raw[0])
		assert_ok(buf_printf(&n->lines, &e, " %s", m->id.raw), &e);
	if (m->method)
		assert_ok(buf_printf(&n->lines, &e, " %s", m->method), &e);
	note_value(n, "params", m->params);
	note_value(n, "result", m->result);
	if (m->kind == RPC_ERROR)
		assert_ok(buf_printf(&n->lines, &e, " %s admitted=%s \"%s\"",
				     err_name(m->error.code), admitted_name(m->error.admitted),
				     m->error.msg), &e);
	note_value(n, "data", m->error_data);
	assert_ok(buf_putc(&n->lines, '\n', &e), &e);
}

static void note_fault(void *arg, const struct rpc_fault *f)
{
	struct notes *n = arg;
	struct err e = ERR_INIT;

	n->faults++;
	assert_ok(buf_printf(&n->lines, &e, "fault %s %s \"%s\"\n", f->id.raw,
			     err_name(f->error.code), f->error.msg), &e);
}

static void note_batch(void *arg, bool begins)
{
	struct notes *n = arg;
	struct err e = ERR_INIT;

	assert_int_equal(n->begun - n->ended, begins ? 0 : 1);
	n->begun += begins;
	n->ended += !begins;
	assert_ok(buf_puts(&n->lines, begins ? "[\n" : "]\n", &e), &e);
}

static void notes_release(struct notes *n)
{
	buf_release(&n->lines);
}
#define auto_notes CLEANUP(notes_release) struct notes
#define auto_buf CLEANUP(buf_release)

/* From memory of exactly the text's size, so that a read past its end is seen. */
static struct notes read_text(const char *text, size_t len)
{
	struct notes n = { 0 };
	struct rpc_sink sink = { &n, note_message, note_fault, note_batch };
	auto_free char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, text, len);
	buf_init(&n.lines, TEXT_MAX);
	rpc_read(copy, len, &sink);
	assert_int_equal(n.begun, n.ended);
	return n;
}

static void reads(const char *text, const char *want)
{
	auto_notes n = read_text(text, strlen(text));
	struct err e = ERR_INIT;

	assert_string_equal(buf_cstr(&n.lines, &e), want);
}

#define V2 "\"jsonrpc\":\"2.0\""

/* --- what is accepted --- */

TEST(a_request_has_an_id_and_a_notification_has_none)
{
	reads("{" V2 ",\"id\":7,\"method\":\"step.execute\",\"params\":{\"step\":\"a\"}}",
	      "request 7 step.execute params={\"step\":\"a\"}\n");
	reads("{" V2 ",\"method\":\"heartbeat\",\"params\":{}}", "notice heartbeat params={}\n");
}

TEST(params_may_be_left_out_and_members_come_in_any_order)
{
	reads("{\"method\":\"a\",\"id\":7," V2 "}", "request 7 a\n");
	reads(" \t\r\n{ \"method\" : \"a\" ,\n\"id\"\t: 7 , " V2 " } \n", "request 7 a\n");
}

TEST(unknown_members_are_ignored)
{
	reads("{" V2 ",\"id\":7,\"method\":\"a\",\"trace\":[1]}", "request 7 a\n");
	reads("{" V2 ",\"id\":7,\"result\":1,\"trace\":[1]}", "result 7 result=1\n");
}

TEST(a_result_may_be_any_value)
{
	reads("{" V2 ",\"id\":7,\"result\":{\"a\":1}}", "result 7 result={\"a\":1}\n");
	reads("{" V2 ",\"id\":7,\"result\":null}", "result 7 result=null\n");
	reads("{" V2 ",\"id\":7,\"result\":[]}", "result 7 result=[]\n");
}

TEST(an_id_is_kept_as_its_token)
{
	static const char *const ids[] = { "7", "0", "-7", "1e3", "1E+3", "1.50", "-0.0",
					   "9007199254740993", "123456789012345678901234567890",
					   "\"\"", "\"a\"", "\"a b\"", "\"7\"", "\"\\u0041\\n\"",
					   "\"\\\"}],\\\\\"", "\"\xc3\xa4\"", "\"null\"" };
	char text[512], want[512];

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		snprintf(text, sizeof(text), "{" V2 ",\"id\": %s ,\"method\":\"a\"}", ids[i]);
		snprintf(want, sizeof(want), "request %s a\n", ids[i]);
		reads(text, want);
		snprintf(text, sizeof(text), "[{" V2 ",\"result\":1,\"id\":%s}]", ids[i]);
		snprintf(want, sizeof(want), "[\nresult %s result=1\n]\n", ids[i]);
		reads(text, want);
	}
}

TEST(a_key_may_be_written_with_escapes)
{
	reads("{" V2 ",\"\\u0069d\":1e1,\"m\\u0065thod\":\"a\"}", "request 1e1 a\n");
}

TEST(only_the_id_of_the_message_itself_counts)
{
	reads("{" V2 ",\"params\":{\"id\":1},\"method\":\"a\"}", "notice a params={\"id\":1}\n");
	reads("{" V2 ",\"params\":{\"id\":1},\"method\":\"a\",\"id\":2}",
	      "request 2 a params={\"id\":1}\n");
}

/* --- errors from the peer --- */

TEST(an_error_is_known_by_its_class)
{
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":-32011,\"message\":\"full\",\"data\":"
	      "{\"class\":\"busy\",\"admitted\":\"no\",\"retry\":\"same\"}}}",
	      "error 7 busy admitted=no \"full\""
	      " data={\"class\":\"busy\",\"admitted\":\"no\",\"retry\":\"same\"}\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":-32603,\"message\":\"m\",\"data\":"
	      "{\"class\":\"conflict\",\"admitted\":\"yes\"}}}",
	      "error 7 conflict admitted=yes \"m\""
	      " data={\"class\":\"conflict\",\"admitted\":\"yes\"}\n");
}

TEST(an_error_without_a_class_known_here_goes_by_its_number)
{
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":-32601,\"message\":\"m\"}}",
	      "error 7 method_not_found admitted=unknown \"m\"\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":-32011,\"message\":\"m\","
	      "\"data\":{\"class\":\"new\"}}}",
	      "error 7 busy admitted=unknown \"m\" data={\"class\":\"new\"}\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":-32011,\"message\":\"m\",\"data\":[1]}}",
	      "error 7 busy admitted=unknown \"m\" data=[1]\n");
}

TEST(an_error_is_never_taken_for_none)
{
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":0,\"message\":\"m\"}}",
	      "error 7 internal admitted=unknown \"m\"\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":1,\"message\":\"m\","
	      "\"data\":{\"class\":\"none\",\"admitted\":\"?\"}}}",
	      "error 7 internal admitted=unknown \"m\""
	      " data={\"class\":\"none\",\"admitted\":\"?\"}\n");
}

TEST(every_class_comes_back_from_what_the_writer_wrote)
{
	for (int code = ERR_NONE + 1; code < ERR_COUNT; code++)
		for (int admitted = ADMITTED_NO; admitted <= ADMITTED_UNKNOWN; admitted++) {
			struct err error = { .code = (enum err_code)code,
					     .admitted = (enum admitted)admitted, .msg = "m" };
			struct rpc_id id = { "\"x\"" };
			struct err e = ERR_INIT;
			auto_buf struct buf text, want;

			buf_init(&text, 1000);
			buf_init(&want, 1000);
			assert_ok(rpc_write_error(&text, &id, &error, NULL, &e), &e);
			assert_ok(buf_printf(&want, &e,
					     "error \"x\" %s admitted=%s \"m\""
					     " data={\"class\":\"%s\","
					     "\"admitted\":\"%s\",\"retry\":\"%s\"}\n",
					     err_name(error.code), admitted_name(error.admitted),
					     err_name(error.code), admitted_name(error.admitted),
					     err_retry(error.code)), &e);
			reads(buf_cstr(&text, &e), buf_cstr(&want, &e));
		}
}

TEST(the_answer_to_an_unreadable_text_has_a_null_id)
{
	reads("{" V2 ",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"m\"}}",
	      "error null parse_error admitted=unknown \"m\"\n");
	reads("{" V2 ",\"id\":null,\"result\":1}",
	      "fault null invalid_request \"id: want a string or a number, got null\"\n");
}

TEST(a_long_error_message_is_clipped)
{
	auto_free char *text = malloc(4096);
	auto_notes n = { 0 };
	struct err e = ERR_INIT;

	assert_non_null(text);
	snprintf(text, 4096, "{" V2 ",\"id\":7,\"error\":{\"code\":-32011,"
		 "\"message\":\"%02000d\"}}", 0);
	n = read_text(text, strlen(text));
	assert_non_null(strstr(buf_cstr(&n.lines, &e), "error 7 busy admitted=unknown \"0000"));
	assert_true(buf_len(&n.lines) < sizeof(e.msg) + 50);
}

/* --- faults --- */

TEST(text_that_is_no_json_is_one_parse_error_without_an_id)
{
	reads("", "fault null parse_error \"json: byte 0: the text ends too early\"\n");
	reads("{\"id\":7", "fault null parse_error \"json: byte 7: the text ends too early\"\n");
	reads("[{" V2 ",\"id\":7,\"method\":\"a\"},",
	      "fault null parse_error \"json: byte 39: the text ends too early\"\n");
}

TEST(other_json_is_no_request)
{
	static const char *const texts[][2] = {
		{ "null", "null" }, { "1", "a number" }, { "\"a\"", "a string" },
		{ "true", "a boolean" },
	};
	char want[200];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		snprintf(want, sizeof(want),
			 "fault null invalid_request \"a message: want an object, got %s\"\n",
			 texts[i][1]);
		reads(texts[i][0], want);
	}
	reads("{}", "fault null invalid_request \"jsonrpc: want \"2.0\"\"\n");
}

TEST(the_version_must_be_2_0)
{
	static const char *const versions[] = { "\"1.0\"", "2.0", "\"2.00\"", "null", "[\"2.0\"]" };
	char text[200];

	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		snprintf(text, sizeof(text), "{\"jsonrpc\":%s,\"id\":7,\"method\":\"a\"}",
			 versions[i]);
		reads(text, "fault 7 invalid_request \"jsonrpc: want \"2.0\"\"\n");
	}
}

TEST(an_id_is_a_string_or_a_number)
{
	static const char *const ids[][2] = {
		{ "null", "null" }, { "true", "a boolean" }, { "[1]", "an array" },
		{ "{\"a\":1}", "an object" },
	};
	char text[200], want[200];

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		snprintf(text, sizeof(text), "{" V2 ",\"id\":%s,\"method\":\"a\"}", ids[i][0]);
		snprintf(want, sizeof(want), "fault null invalid_request"
			 " \"id: want a string or a number, got %s\"\n", ids[i][1]);
		reads(text, want);
	}
}

TEST(an_id_has_at_most_128_bytes)
{
	char text[400], want[400], id[LIMIT_RPC_ID + 2];

	memset(id, 'x', sizeof(id));
	id[LIMIT_RPC_ID] = 0;
	snprintf(text, sizeof(text), "{" V2 ",\"id\":\"%s\",\"method\":\"a\"}", id);
	snprintf(want, sizeof(want), "request \"%s\" a\n", id);
	reads(text, want);
	id[LIMIT_RPC_ID] = 'x';
	id[LIMIT_RPC_ID + 1] = 0;
	snprintf(text, sizeof(text), "{" V2 ",\"id\":\"%s\",\"method\":\"a\"}", id);
	reads(text, "fault null invalid_request \"id: longer than 128 bytes\"\n");
}

TEST(params_must_be_an_object)
{
	reads("{" V2 ",\"id\":7,\"method\":\"a\",\"params\":[1]}",
	      "fault 7 invalid_request \"params: want an object, got an array\"\n");
	reads("{" V2 ",\"id\":\"q\",\"method\":\"a\",\"params\":null}",
	      "fault \"q\" invalid_request \"params: want an object, got null\"\n");
	reads("{" V2 ",\"method\":\"a\",\"params\":\"b\"}",
	      "fault null invalid_request \"params: want an object, got a string\"\n");
}

TEST(a_method_must_be_a_string)
{
	reads("{" V2 ",\"id\":7,\"method\":1}",
	      "fault 7 invalid_request \"method: want a string, got a number\"\n");
	reads("{" V2 ",\"id\":7,\"method\":null}",
	      "fault 7 invalid_request \"method: want a string, got null\"\n");
	reads("{" V2 ",\"id\":7}",
	      "fault 7 invalid_request \"neither a method nor a result nor an error\"\n");
}

TEST(a_request_must_not_be_an_answer_too)
{
	reads("{" V2 ",\"id\":7,\"method\":\"a\",\"result\":1}", "fault 7 invalid_request"
	      " \"a method and a result or error in one message\"\n");
	reads("{" V2 ",\"id\":7,\"method\":\"a\",\"error\":null}", "fault 7 invalid_request"
	      " \"a method and a result or error in one message\"\n");
}

/* It would look like the answer to a request of the peer with the same id. */
TEST(a_fault_in_an_answer_has_no_id)
{
	reads("{" V2 ",\"id\":7,\"result\":1,\"error\":{\"code\":1,\"message\":\"\"}}",
	      "fault null invalid_request \"a result and an error in one message\"\n");
	reads("{\"id\":7,\"result\":1}", "fault null invalid_request \"jsonrpc: want \"2.0\"\"\n");
	reads("{" V2 ",\"result\":1}", "fault null invalid_request \"an answer without an id\"\n");
	reads("{" V2 ",\"id\":7,\"error\":\"no\"}",
	      "fault null invalid_request \"error: want an object, got a string\"\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"message\":\"m\"}}",
	      "fault null invalid_request \"error.code: missing\"\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":1e300,\"message\":\"m\"}}",
	      "fault null invalid_request \"error.code: want an integer of at most 2^52,"
	      " got 1.0000000000000001e+300\"\n");
	reads("{" V2 ",\"id\":7,\"error\":{\"code\":1}}",
	      "fault null invalid_request \"error.message: missing\"\n");
}

TEST(json_that_farstep_forbids_is_refused_whole)
{
	char deep[3 * LIMIT_JSON_DEPTH + 100], want[200];
	int n;

	reads("{" V2 ",\"id\":7,\"id\":8,\"method\":\"a\"}",
	      "fault null parse_error \"json: byte 24: a key comes twice in one object\"\n");
	reads("{" V2 ",\"id\":\"\\u0000\",\"method\":\"a\"}",
	      "fault null parse_error \"json: byte 24: \\u0000 is not allowed\"\n");
	n = snprintf(deep, sizeof(deep), "{" V2 ",\"id\":7,\"method\":\"a\",\"params\":{\"a\":");
	memset(deep + n, '[', LIMIT_JSON_DEPTH);
	memset(deep + n + LIMIT_JSON_DEPTH, ']', LIMIT_JSON_DEPTH);
	memcpy(deep + n + 2 * LIMIT_JSON_DEPTH, "}}", 3);
	snprintf(want, sizeof(want), "fault null limit \"json: byte %d: deeper than %d levels\"\n",
		 n + LIMIT_JSON_DEPTH - 2, LIMIT_JSON_DEPTH);
	reads(deep, want);
}

TEST(a_text_over_the_limit_is_refused)
{
	auto_free char *text = malloc(LIMIT_TEXT + 1);
	auto_notes fits = { 0 }, longer = { 0 };
	struct err e = ERR_INIT;
	int n;

	assert_non_null(text);
	n = snprintf(text, LIMIT_TEXT, "{" V2 ",\"id\":7,\"method\":\"a\"}");
	memset(text + n, ' ', (size_t)(LIMIT_TEXT + 1 - n));
	fits = read_text(text, LIMIT_TEXT);
	assert_string_equal(buf_cstr(&fits.lines, &e), "request 7 a\n");
	longer = read_text(text, LIMIT_TEXT + 1);
	assert_string_equal(buf_cstr(&longer.lines, &e), "fault null limit"
			    " \"json: 262145 bytes, the maximum is 262144\"\n");
}

/* --- batches --- */

TEST(a_batch_is_read_in_order_between_two_marks)
{
	reads(" [ {" V2 ",\"id\":1,\"method\":\"a\",\"params\":{\"x\":[\"],{\"]}} ,\n"
	      "{" V2 ",\"method\":\"b\"}\t, 5,[],{" V2 ",\"id\":\"],\",\"result\":[[1],{}]} ] ",
	      "[\n"
	      "request 1 a params={\"x\":[\"],{\"]}\n"
	      "notice b\n"
	      "fault null invalid_request \"a message: want an object, got a number\"\n"
	      "fault null invalid_request \"a message: want an object, got an array\"\n"
	      "result \"],\" result=[[1],{}]\n"
	      "]\n");
	reads("[1]", "[\n"
	      "fault null invalid_request \"a message: want an object, got a number\"\n]\n");
}

TEST(an_empty_batch_is_one_fault)
{
	reads("[]", "fault null invalid_request \"an empty batch\"\n");
	reads(" [ ] ", "fault null invalid_request \"an empty batch\"\n");
}

TEST(a_batch_over_the_limit_is_one_fault)
{
	for (int n = LIMIT_BATCH; n <= LIMIT_BATCH + 1; n++) {
		struct err e = ERR_INIT;
		auto_buf struct buf text;
		auto_notes notes = { 0 };

		buf_init(&text, TEXT_MAX);
		for (int i = 0; i < n; i++)
			assert_ok(buf_printf(&text, &e, "%c{" V2 ",\"id\":%d,\"method\":\"a\"}",
					     i ? ',' : '[', i), &e);
		assert_ok(buf_puts(&text, "]", &e), &e);
		notes = read_text(buf_cstr(&text, &e), buf_len(&text));
		assert_int_equal(notes.messages, n <= LIMIT_BATCH ? n : 0);
		assert_int_equal(notes.faults, n <= LIMIT_BATCH ? 0 : 1);
		assert_int_equal(notes.begun, n <= LIMIT_BATCH ? 1 : 0);
		if (n > LIMIT_BATCH)
			assert_string_equal(buf_cstr(&notes.lines, &e), "fault null limit"
					    " \"a batch of 65, the maximum is 64\"\n");
	}
}

TEST(a_sink_without_on_batch_is_fine)
{
	struct notes n = { 0 };
	struct rpc_sink sink = { &n, note_message, note_fault, NULL };

	buf_init(&n.lines, TEXT_MAX);
	rpc_read("[1]", 3, &sink);
	assert_int_equal(n.faults, 1);
	notes_release(&n);
}

/* --- damaged texts --- */

static const char *const samples[] = {
	"{" V2 ",\"id\":7,\"method\":\"step.execute\","
	"\"params\":{\"step\":\"a\",\"x\":[1,\"\\n\"]}}",
	"{" V2 ",\"id\":\"a-1\",\"result\":{\"files\":1,\"bytes\":\"120\"}}",
	"{" V2 ",\"id\":7,\"error\":{\"code\":-32011,\"message\":\"m\","
	"\"data\":{\"class\":\"busy\",\"admitted\":\"no\",\"retry\":\"same\"}}}",
	"[{" V2 ",\"id\":1,\"method\":\"a\"},{" V2 ",\"method\":\"b\"},3]",
};

TEST(a_text_cut_anywhere_is_exactly_one_fault)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++)
		for (size_t len = 0; len < strlen(samples[i]); len++) {
			auto_notes n = read_text(samples[i], len);

			assert_int_equal(n.faults, 1);
			assert_int_equal(n.messages + n.begun, 0);
		}
}

TEST(a_text_with_flipped_bits_leads_to_one_callback_per_element)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		size_t len = strlen(samples[i]);
		auto_free char *text = malloc(len + 1);

		assert_non_null(text);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			auto_notes n = { 0 };

			memcpy(text, samples[i], len + 1);
			text[bit / 8] = (char)(text[bit / 8] ^ (char)(1 << bit % 8));
			n = read_text(text, len);
			assert_int_equal(n.messages + n.faults, n.begun ? 3 : 1);
		}
	}
}

/* --- writing --- */

static void is_text(struct buf *b, const char *want)
{
	struct err e = ERR_INIT;

	assert_string_equal(buf_cstr(b, &e), want);
	buf_reset(b);
}

TEST(what_is_written_has_a_fixed_form)
{
	struct rpc_id seven, text = { "\"a\\n\"" }, none = { "" };
	struct err e = ERR_INIT, busy = ERR_INIT;
	auto_buf struct buf b;

	buf_init(&b, 1000);
	rpc_id_number(&seven, 7);
	assert_ok(rpc_write_request(&b, &seven, "step.cancel", "{\"a\":1}", 7, &e), &e);
	is_text(&b, "{" V2 ",\"id\":7,\"method\":\"step.cancel\",\"params\":{\"a\":1}}");
	assert_ok(rpc_write_request(&b, &text, "a", NULL, 0, &e), &e);
	is_text(&b, "{" V2 ",\"id\":\"a\\n\",\"method\":\"a\",\"params\":{}}");
	assert_ok(rpc_write_notice(&b, "event.ack", "{\"wseq\":3}, and more", 10, &e), &e);
	is_text(&b, "{" V2 ",\"method\":\"event.ack\",\"params\":{\"wseq\":3}}");
	assert_ok(rpc_write_result(&b, &seven, NULL, 0, &e), &e);
	is_text(&b, "{" V2 ",\"id\":7,\"result\":{}}");
	assert_ok(rpc_write_result(&b, &seven, "null", 4, &e), &e);
	is_text(&b, "{" V2 ",\"id\":7,\"result\":null}");
	err_set(&busy, ERR_BUSY, 0, "%d steps \"run\"", 64);
	busy.admitted = ADMITTED_UNKNOWN;
	assert_ok(rpc_write_error(&b, &none, &busy, NULL, &e), &e);
	is_text(&b, "{" V2 ",\"id\":null,\"error\":{\"code\":-32011,"
		"\"message\":\"64 steps \\\"run\\\"\","
		"\"data\":{\"class\":\"busy\",\"admitted\":\"unknown\",\"retry\":\"same\"}}}");
	assert_ok(rpc_write_error(&b, NULL, &busy, "\"step\":\"a\",\"attempt\":2", &e), &e);
	is_text(&b, "{" V2 ",\"id\":null,\"error\":{\"code\":-32011,"
		"\"message\":\"64 steps \\\"run\\\"\","
		"\"data\":{\"class\":\"busy\",\"admitted\":\"unknown\",\"retry\":\"same\","
		"\"step\":\"a\",\"attempt\":2}}}");
}

TEST(an_error_that_is_none_is_written_as_a_bug)
{
	struct err none = ERR_INIT, e = ERR_INIT;
	struct rpc_id id = { "1" };
	auto_buf struct buf b;

	buf_init(&b, 1000);
	assert_ok(rpc_write_error(&b, &id, &none, NULL, &e), &e);
	is_text(&b, "{" V2 ",\"id\":1,\"error\":{\"code\":-32603,\"message\":\"\","
		"\"data\":{\"class\":\"internal\",\"admitted\":\"no\",\"retry\":\"never\"}}}");
}

TEST(a_message_of_broken_utf8_is_written_as_json)
{
	struct err bad = { .code = ERR_SYS, .msg = "\xff \xc3" }, e = ERR_INIT;
	struct rpc_id id = { "1" };
	auto_buf struct buf b;

	buf_init(&b, 1000);
	assert_ok(rpc_write_error(&b, &id, &bad, NULL, &e), &e);
	assert_ok(json_check((const char *)buf_data(&b), buf_len(&b), LIMIT_TEXT,
			     LIMIT_JSON_DEPTH, &e), &e);
}

static int write_one(int which, struct buf *b, struct err *e)
{
	struct err busy = { .code = ERR_BUSY, .msg = "full" };
	struct rpc_id id = { "\"a\"" };

	switch (which) {
	case 0:
		return rpc_write_request(b, &id, "a", "{\"x\":1}", 7, e);
	case 1:
		return rpc_write_notice(b, "a", "{\"x\":1}", 7, e);
	case 2:
		return rpc_write_result(b, &id, "{\"x\":1}", 7, e);
	default:
		return rpc_write_error(b, &id, &busy, "\"step\":\"a\"", e);
	}
}

TEST(a_full_buffer_is_left_as_it_was)
{
	for (int which = 0; which < 4; which++) {
		bool fits = false;

		for (size_t max = 4; !fits; max++) {
			struct err e = ERR_INIT;
			auto_buf struct buf b;

			assert_true(max < 1000);
			buf_init(&b, max);
			assert_ok(buf_puts(&b, "[{}\n", &e), &e);
			fits = write_one(which, &b, &e) == 0;
			if (!fits) {
				assert_int_equal(e.code, ERR_LIMIT);
				is_text(&b, "[{}\n");
			}
		}
	}
}

TEST(what_is_written_is_read_back)
{
	static const char *const want[] = {
		"request \"a\" a params={\"x\":1}\n",
		"notice a params={\"x\":1}\n",
		"result \"a\" result={\"x\":1}\n",
		"error \"a\" busy admitted=no \"full\""
		" data={\"class\":\"busy\",\"admitted\":\"no\",\"retry\":\"same\","
		"\"step\":\"a\"}\n",
	};

	for (int which = 0; which < 4; which++) {
		struct err e = ERR_INIT;
		auto_buf struct buf b;

		buf_init(&b, 1000);
		assert_ok(write_one(which, &b, &e), &e);
		reads(buf_cstr(&b, &e), want[which]);
	}
}

TEST(the_largest_number_is_an_id)
{
	struct rpc_id id;

	rpc_id_number(&id, UINT64_MAX);
	assert_string_equal(id.raw, "18446744073709551615");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_has_an_id_and_a_notification_has_none),
		cmocka_unit_test(params_may_be_left_out_and_members_come_in_any_order),
		cmocka_unit_test(unknown_members_are_ignored),
		cmocka_unit_test(a_result_may_be_any_value),
		cmocka_unit_test(an_id_is_kept_as_its_token),
		cmocka_unit_test(a_key_may_be_written_with_escapes),
		cmocka_unit_test(only_the_id_of_the_message_itself_counts),
		cmocka_unit_test(an_error_is_known_by_its_class),
		cmocka_unit_test(an_error_without_a_class_known_here_goes_by_its_number),
		cmocka_unit_test(an_error_is_never_taken_for_none),
		cmocka_unit_test(every_class_comes_back_from_what_the_writer_wrote),
		cmocka_unit_test(the_answer_to_an_unreadable_text_has_a_null_id),
		cmocka_unit_test(a_long_error_message_is_clipped),
		cmocka_unit_test(text_that_is_no_json_is_one_parse_error_without_an_id),
		cmocka_unit_test(other_json_is_no_request),
		cmocka_unit_test(the_version_must_be_2_0),
		cmocka_unit_test(an_id_is_a_string_or_a_number),
		cmocka_unit_test(an_id_has_at_most_128_bytes),
		cmocka_unit_test(params_must_be_an_object),
		cmocka_unit_test(a_method_must_be_a_string),
		cmocka_unit_test(a_request_must_not_be_an_answer_too),
		cmocka_unit_test(a_fault_in_an_answer_has_no_id),
		cmocka_unit_test(json_that_farstep_forbids_is_refused_whole),
		cmocka_unit_test(a_text_over_the_limit_is_refused),
		cmocka_unit_test(a_batch_is_read_in_order_between_two_marks),
		cmocka_unit_test(an_empty_batch_is_one_fault),
		cmocka_unit_test(a_batch_over_the_limit_is_one_fault),
		cmocka_unit_test(a_sink_without_on_batch_is_fine),
		cmocka_unit_test(a_text_cut_anywhere_is_exactly_one_fault),
		cmocka_unit_test(a_text_with_flipped_bits_leads_to_one_callback_per_element),
		cmocka_unit_test(what_is_written_has_a_fixed_form),
		cmocka_unit_test(an_error_that_is_none_is_written_as_a_bug),
		cmocka_unit_test(a_message_of_broken_utf8_is_written_as_json),
		cmocka_unit_test(a_full_buffer_is_left_as_it_was),
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(the_largest_number_is_an_id),
	};

	return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
