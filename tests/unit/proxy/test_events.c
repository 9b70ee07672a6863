/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <signal.h>
#include <sys/stat.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "proxy/events.h"

#define TS "2026-11-02T10:11:12.123456Z"

static void open_events(struct events *ev, const struct temp_dir *t, const struct mask_set *m)
{
	struct err e = ERR_INIT;

	assert_ok(events_open(ev, t->fd, "run-1", m, &e), &e);
}

static void put(struct events *ev, const char *event, const char *fields)
{
	struct err e = ERR_INIT;

	assert_ok(events_put(ev, event, fields, &e), &e);
}

/* params of an event notification, as text. */
static int put_worker(struct events *ev, const char *params, struct err *e)
{
	auto_json json *v = json_parse(params, strlen(params), LIMIT_TEXT, LIMIT_JSON_DEPTH, e);

	if (!v)
		fail_msg("%s: %s", params, e->msg);
	return events_put_worker(ev, v, e);
}

static void worker(struct events *ev, const char *params)
{
	struct err e = ERR_INIT;

	if (put_worker(ev, params, &e) != 1)
		fail_msg("%s: %s", params, e.msg);
}

/* A file's text; freed by the caller. */
static char *text_of(const struct temp_dir *t, const char *name)
{
	struct err e = ERR_INIT;
	struct buf b;
	char *text;

	buf_init(&b, 8 << 20);
	assert_ok(fs_read(t->fd, name, 8 << 20, &b, &e), &e);
	text = buf_take_str(&b, &e);
	buf_release(&b);
	return text;
}

/* Our own time stamps become TS. */
static void hide_times(char *text)
{
	for (char *at = text; (at = strstr(at, "{\"ts\":\"")); at += 7 + 27)
		memcpy(at + 7, TS, 27);
}

static void assert_lines(const struct temp_dir *t, const char *name, const char *want)
{
	auto_free char *text = text_of(t, name);

	hide_times(text);
	assert_string_equal(text, want);
}

#define LINE(seq, rest) "{\"ts\":\"" TS "\",\"session\":\"run-1\",\"seq\":" #seq "," rest "}\n"
#define WORKER(wseq, event, data)                                  \
	"{\"wseq\":" #wseq ",\"ts\":\"" TS "\",\"event\":\"" event \
	"\",\"step_id\":\"s\",\"attempt\":1,\"data\":" data "}"

TEST(events_are_flat_compact_lines_numbered_by_the_file)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct events ev;
	struct stat st;

	open_events(&ev, &t, NULL);
	put(&ev, "run_start", "{\"pipeline\":\"p\",\"steps\":2}");
	worker(&ev, WORKER(1, "progress", "{\"current\":3,\"total\":10}"));
	put(&ev, "run_end", NULL);
	events_close(&ev);
	assert_lines(&t, "events.jsonl",
	             LINE(1, "\"event\":\"run_start\",\"pipeline\":\"p\",\"steps\":2") LINE(
			     2, "\"wseq\":1,\"event\":\"progress\",\"step_id\":\"s\",\"attempt\":1,"
				"\"current\":3,\"total\":10") LINE(3, "\"event\":\"run_end\""));
	assert_int_equal(fstatat(t.fd, "events.jsonl", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_lines(&t, "metrics.jsonl", "");
}

TEST(the_time_of_an_event_of_the_worker_is_the_workers)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	auto_free char *text = NULL;
	struct events ev;

	open_events(&ev, &t, NULL);
	worker(&ev, "{\"wseq\":1,\"ts\":\"2001-02-03T04:05:06.789012Z\",\"event\":\"x\"}");
	events_close(&ev);
	text = text_of(&t, "events.jsonl");
	assert_string_equal(text, "{\"ts\":\"2001-02-03T04:05:06.789012Z\",\"session\":\"run-1\","
	                          "\"seq\":1,\"wseq\":1,\"event\":\"x\"}\n");
}

TEST(metrics_have_a_file_of_their_own_and_no_seq)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct events ev;

	open_events(&ev, &t, NULL);
	worker(&ev, WORKER(1, "metric",
	                   "{\"name\":\"rows\",\"value\":100,\"unit\":\"rows\","
	                   "\"tags\":{\"part\":\"1\"}}"));
	worker(&ev, WORKER(2, "metric", "{\"name\":\"loss\",\"value\":0.25}"));
	worker(&ev, WORKER(3, "log", "{\"message\":\"m\"}"));
	assert_int_equal(ev.seq, 1);
	assert_int_equal(ev.wseq, 3);
	events_close(&ev);
	assert_lines(
		&t, "metrics.jsonl",
		"{\"ts\":\"" TS "\",\"session\":\"run-1\",\"wseq\":1,\"metric\":\"rows\","
		"\"value\":100,\"unit\":\"rows\",\"step_id\":\"s\",\"tags\":{\"part\":\"1\"}}\n"
		"{\"ts\":\"" TS "\",\"session\":\"run-1\",\"wseq\":2,\"metric\":\"loss\","
		"\"value\":0.25,\"step_id\":\"s\"}\n");
}

TEST(a_replayed_event_is_recognised_and_a_missing_one_is_an_error)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct events ev;

	open_events(&ev, &t, NULL);
	worker(&ev, WORKER(1, "a", "{}"));
	worker(&ev, WORKER(2, "b", "{}"));
	assert_int_equal(put_worker(&ev, WORKER(1, "a", "{}"), &e), 0);
	assert_int_equal(put_worker(&ev, WORKER(2, "b", "{}"), &e), 0);
	assert_fails(put_worker(&ev, WORKER(4, "d", "{}"), &e), &e, ERR_PROTO,
	             "worker: event 4 after event 2: some are missing");
	worker(&ev, WORKER(3, "c", "{}"));
	assert_int_equal(ev.seq, 3);
	events_close(&ev);
}

TEST(what_is_no_event_of_a_worker_is_refused_and_writes_nothing)
{
	static const struct {
		const char *params, *want;
	} rows[] = {
		{ "{\"ts\":\"" TS "\",\"event\":\"x\"}", "worker: event.wseq: missing" },
		{ "{\"wseq\":0,\"ts\":\"" TS "\",\"event\":\"x\"}", NULL },
		{ "{\"wseq\":1,\"event\":\"x\"}", "worker: event.ts: missing" },
		{ "{\"wseq\":1,\"ts\":\"yesterday\",\"event\":\"x\"}",
		  "worker: event.ts: no time: 'yesterday'" },
		{ "{\"wseq\":1,\"ts\":\"" TS "x\",\"event\":\"x\"}", NULL },
		{ "{\"wseq\":1,\"ts\":\"2026-11-02 10:11:12.123456Z\",\"event\":\"x\"}", NULL },
		{ "{\"wseq\":1,\"ts\":\"" TS "\"}", "worker: event.event: missing" },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":7}", NULL },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":\"x\",\"data\":[]}", NULL },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":\"x\",\"step_id\":7}",
		  "worker: event.step_id, event.attempt: want a string and a number" },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":\"step_complete\"}",
		  "worker: event 'step_complete' is not the worker's to send" },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":\"run_end\"}", NULL },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":\"metric\",\"data\":{\"value\":1}}",
		  NULL },
		{ "{\"wseq\":1,\"ts\":\"" TS "\",\"event\":\"metric\",\"data\":{\"name\":\"x\","
		  "\"value\":\"1\"}}",
		  "worker: metric.value: want a number" },
	};
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct events ev;

	open_events(&ev, &t, NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(put_worker(&ev, rows[i].params, &e), -1);
		assert_int_equal(e.code, ERR_PROTO);
		if (rows[i].want)
			assert_string_equal(e.msg, rows[i].want);
		assert_int_equal(ev.seq, 0);
		assert_int_equal(ev.wseq, 0);
	}
	events_close(&ev);
	assert_lines(&t, "events.jsonl", "");
	assert_lines(&t, "metrics.jsonl", "");
}

/* A step that names its members so cannot pass for another step, session or event. */
TEST(members_whose_names_are_taken_go_into_an_object_of_their_own)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct events ev;

	open_events(&ev, &t, NULL);
	worker(&ev, WORKER(1, "x",
	                   "{\"a\":1,\"step_id\":\"other\",\"seq\":9,\"ts\":\"never\",\"b\":2,"
	                   "\"event\":\"run_end\",\"data\":{},\"session\":\"s\"}"));
	events_close(&ev);
	assert_lines(&t, "events.jsonl",
	             LINE(1, "\"wseq\":1,\"event\":\"x\",\"step_id\":\"s\",\"attempt\":1,\"a\":1,"
	                     "\"b\":2,\"data\":{\"step_id\":\"other\",\"seq\":9,\"ts\":\"never\","
	                     "\"event\":\"run_end\",\"data\":{},\"session\":\"s\"}"));
}

TEST(a_line_is_one_line_whatever_its_values_are)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	auto_free char *text = NULL;
	auto_json json *v = NULL;
	struct events ev;
	struct err e = ERR_INIT;

	open_events(&ev, &t, NULL);
	worker(&ev, WORKER(1, "log",
	                   "{\"message\":\"a\\nb\\\"c\\\\d\\u001b\\u2028\","
	                   "\"deep\":{\"a\":[1,{\"b\":null},true,-1.5e-3]}}"));
	events_close(&ev);
	text = text_of(&t, "events.jsonl");
	assert_int_equal(strchr(text, '\n') - text, strlen(text) - 1);
	v = json_parse(text, strlen(text) - 1, LIMIT_TEXT, LIMIT_JSON_DEPTH, &e);
	assert_non_null(v);
	assert_string_equal(json_string(json_get(v, "message")), "a\nb\"c\\d\x1b\xe2\x80\xa8");
}

/* --- masking --- */

static struct mask_set *secrets(void)
{
	struct mask_set *m = mask_set_new();

	assert_int_equal(mask_set_add(m, "pass\"word\\1", true, NULL), 0);
	assert_int_equal(mask_set_add(m, "4711", true, NULL), 0);
	return m;
}

TEST(values_keys_names_and_numbers_are_masked_before_they_are_escaped)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct mask_set *m = secrets();
	struct events ev;

	open_events(&ev, &t, m);
	worker(&ev, WORKER(1, "log",
	                   "{\"message\":\"is pass\\\"word\\\\1!\",\"n\":4711,"
	                   "\"k4711\":{\"in\":[\"4711\",true]},\"ok\":47}"));
	put(&ev, "warning", "{\"message\":\"port 4711\"}");
	worker(&ev, WORKER(2, "metric", "{\"name\":\"4711\",\"value\":1}"));
	events_close(&ev);
	assert_lines(&t, "events.jsonl",
	             LINE(1, "\"wseq\":1,\"event\":\"log\",\"step_id\":\"s\",\"attempt\":1,"
	                     "\"message\":\"is " MASK_TEXT "!\",\"n\":\"" MASK_TEXT "\","
	                     "\"k" MASK_TEXT "\":{\"in\":[\"" MASK_TEXT "\",true]},\"ok\":47")
	                     LINE(2, "\"event\":\"warning\",\"message\":\"port " MASK_TEXT "\""));
	assert_lines(&t, "metrics.jsonl",
	             "{\"ts\":\"" TS "\",\"session\":\"run-1\",\"wseq\":2,\"metric\":\"" MASK_TEXT
	             "\",\"value\":1,\"step_id\":\"s\"}\n");
	mask_set_free(m);
}

TEST(keys_that_are_secrets_do_not_become_the_same_key)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct mask_set *m = secrets();
	struct events ev;

	open_events(&ev, &t, m);
	worker(&ev, WORKER(1, "x", "{\"4711\":1,\"pass\\\"word\\\\1\":2}"));
	events_close(&ev);
	assert_lines(&t, "events.jsonl",
	             LINE(1, "\"wseq\":1,\"event\":\"x\",\"step_id\":\"s\",\"attempt\":1,"
	                     "\"" MASK_TEXT "\":1,\"" MASK_TEXT "-2\":2"));
	mask_set_free(m);
}

/* --- going on --- */

TEST(numbers_go_on_after_reopening)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct events ev;

	open_events(&ev, &t, NULL);
	put(&ev, "run_start", NULL);
	worker(&ev, WORKER(1, "a", "{}"));
	worker(&ev, WORKER(2, "metric", "{\"name\":\"m\",\"value\":1}"));
	put(&ev, "warning", NULL);
	events_close(&ev);
	open_events(&ev, &t, NULL);
	assert_int_equal(ev.seq, 3);
	assert_int_equal(ev.wseq, 2); /* the metric's */
	assert_int_equal(put_worker(&ev, WORKER(2, "metric", "{\"name\":\"m\",\"value\":1}"), &e),
	                 0);
	worker(&ev, WORKER(3, "b", "{}"));
	events_close(&ev);
	assert_lines(
		&t, "events.jsonl",
		LINE(1, "\"event\":\"run_start\"") LINE(
			2, "\"wseq\":1,\"event\":\"a\",\"step_id\":\"s\",\"attempt\":1")
			LINE(3, "\"event\":\"warning\"") LINE(
				4, "\"wseq\":3,\"event\":\"b\",\"step_id\":\"s\",\"attempt\":1"));
}

TEST(a_torn_last_line_is_cut_off)
{
	static const char whole[] =
		LINE(1, "\"event\":\"a\"") LINE(2, "\"wseq\":1,\"event\":\"b\"");
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	size_t first = strlen(LINE(1, "\"event\":\"a\"")), n = strlen(whole);
	struct err e = ERR_INIT;

	for (size_t cut = 0; cut <= n; cut++) {
		struct events ev;

		assert_ok(fs_write(t.fd, "events.jsonl", whole, cut, 0600, false, &e), &e);
		open_events(&ev, &t, NULL);
		assert_int_equal(ev.seq, cut == n ? 2 : cut >= first ? 1 : 0);
		assert_int_equal(ev.wseq, cut == n ? 1 : 0);
		put(&ev, "c", NULL);
		assert_int_equal(ev.seq, cut == n ? 3 : cut >= first ? 2 : 1);
		events_close(&ev);
	}
}

TEST(the_last_number_of_the_worker_is_found_however_far_back)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	auto_free char *fields = calloc(1, 20001);
	struct events ev;
	char text[20100];

	memset(fields, 'x', 20000);
	snprintf(text, sizeof(text), "{\"message\":\"%s\"}", fields);
	open_events(&ev, &t, NULL);
	worker(&ev, WORKER(1, "a", "{}"));
	for (int i = 0; i < 300; i++) /* 6 MB */
		put(&ev, "warning", text);
	events_close(&ev);
	open_events(&ev, &t, NULL);
	assert_int_equal(ev.seq, 301);
	assert_int_equal(ev.wseq, 1);
	events_close(&ev);
}

TEST(a_damaged_file_is_not_gone_on_with)
{
	static const char *const texts[] = { "no JSON\n", "{\"event\":\"x\"}\n", "[1]\n", "\n",
		                             "{\"seq\":-1}\n" };
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct events ev;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct err e = ERR_INIT;

		assert_ok(
			fs_write(t.fd, "events.jsonl", texts[i], strlen(texts[i]), 0600, false, &e),
			&e);
		assert_int_equal(events_open(&ev, t.fd, "run-1", NULL, &e), -1);
		assert_int_equal(e.code, ERR_INTEGRITY);
		assert_non_null(strstr(e.msg, "events.jsonl"));
		assert_int_equal(ev.fd, -1);
	}
}

TEST(the_files_are_no_links_to_files_elsewhere)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct events ev;

	assert_int_equal(symlinkat("/dev/null", t.fd, "events.jsonl"), 0);
	assert_int_equal(events_open(&ev, t.fd, "run-1", NULL, &e), -1);
	assert_string_equal(e.msg, "events.jsonl: open: Too many levels of symbolic links");
}

TEST(fields_that_are_no_json_write_nothing)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct events ev;

	open_events(&ev, &t, NULL);
	assert_int_equal(events_put(&ev, "x", "{\"a\":", &e), -1);
	assert_memory_equal(e.msg, "event 'x': ", 11);
	assert_int_equal(ev.seq, 0);
	events_close(&ev);
	assert_lines(&t, "events.jsonl", "");
}

/* --- who else looks --- */

TEST(the_live_copy_is_the_file_and_its_reader_may_go)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	auto_free char *text = NULL;
	struct events ev;
	char got[4096];
	int fds[2];
	ssize_t n;

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	open_events(&ev, &t, NULL);
	ev.live_fd = fds[1];
	put(&ev, "a", "{\"n\":1}");
	worker(&ev, WORKER(1, "metric", "{\"name\":\"m\",\"value\":1}")); /* not among them */
	put(&ev, "b", NULL);
	n = read(fds[0], got, sizeof(got) - 1);
	assert_true(n > 0);
	got[n] = 0;
	text = text_of(&t, "events.jsonl");
	assert_string_equal(got, text);
	close(fds[0]);
	put(&ev, "c", NULL);
	assert_int_equal(ev.live_fd, -1);
	put(&ev, "d", NULL);
	assert_int_equal(ev.seq, 4);
	close(fds[1]);
	events_close(&ev);
}

static char seen[400];

static void on_event(void *arg, const char *event, const json *fields)
{
	size_t len = strlen(seen);

	assert_ptr_equal(arg, seen);
	assert_non_null(json_get(fields, "ts"));
	snprintf(seen + len, sizeof(seen) - len, "%s:%s ", event,
	         json_string(json_get(fields, "message")) ?: "-");
}

TEST(the_hook_sees_each_line_masked_after_it_was_written)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct mask_set *m = secrets();
	struct events ev;

	seen[0] = 0;
	open_events(&ev, &t, m);
	ev.on_event = on_event;
	ev.arg = seen;
	put(&ev, "warning", "{\"message\":\"4711\"}");
	worker(&ev, WORKER(1, "metric", "{\"name\":\"m\",\"value\":1}"));
	worker(&ev, WORKER(2, "log", "{\"message\":\"m\"}"));
	events_close(&ev);
	assert_string_equal(seen, "warning:" MASK_TEXT " metric:- log:m ");
	mask_set_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_flat_compact_lines_numbered_by_the_file),
		cmocka_unit_test(the_time_of_an_event_of_the_worker_is_the_workers),
		cmocka_unit_test(metrics_have_a_file_of_their_own_and_no_seq),
		cmocka_unit_test(a_replayed_event_is_recognised_and_a_missing_one_is_an_error),
		cmocka_unit_test(what_is_no_event_of_a_worker_is_refused_and_writes_nothing),
		cmocka_unit_test(members_whose_names_are_taken_go_into_an_object_of_their_own),
		cmocka_unit_test(a_line_is_one_line_whatever_its_values_are),
		cmocka_unit_test(values_keys_names_and_numbers_are_masked_before_they_are_escaped),
		cmocka_unit_test(keys_that_are_secrets_do_not_become_the_same_key),
		cmocka_unit_test(numbers_go_on_after_reopening),
		cmocka_unit_test(a_torn_last_line_is_cut_off),
		cmocka_unit_test(the_last_number_of_the_worker_is_found_however_far_back),
		cmocka_unit_test(a_damaged_file_is_not_gone_on_with),
		cmocka_unit_test(the_files_are_no_links_to_files_elsewhere),
		cmocka_unit_test(fields_that_are_no_json_write_nothing),
		cmocka_unit_test(the_live_copy_is_the_file_and_its_reader_may_go),
		cmocka_unit_test(the_hook_sees_each_line_masked_after_it_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
