/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "worker/journal.h"

/* Lines handed out, each closed by a newline. */
struct got {
	struct buf text;
	int lines;
	int fail_at; /* which line is refused; 0: none */
};

static void got_release(struct got *g)
{
	buf_release(&g->text);
}

static struct got got(void)
{
	struct got g = { .lines = 0 };

	buf_init(&g.text, 64 << 20);
	return g;
}

static int on_line(void *arg, const char *line, size_t n, struct err *e)
{
	struct got *g = arg;

	if (++g->lines == g->fail_at)
		return err_set(e, ERR_INTERNAL, 0, "refused");
	buf_put(&g->text, line, n, NULL);
	buf_putc(&g->text, '\n', NULL);
	return 0;
}

static void on_old_line(void *arg, const char *line, size_t n)
{
	on_line(arg, line, n, NULL);
}

static void put(struct journal *j, const char *event)
{
	struct err e = ERR_INIT;

	assert_ok(journal_put(j, event, NULL, 0, 0, NULL, 0, &e), &e);
}

static void open_in(struct journal *j, const struct temp_dir *t)
{
	struct err e = ERR_INIT;

	assert_ok(journal_open(j, t->fd, NULL, NULL, &e), &e);
}

static void append(const struct temp_dir *t, const char *text)
{
	auto_close int fd = openat(t->fd, "events", O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

TEST(an_event_is_one_line_of_json_numbered_from_one)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct err e = ERR_INIT;
	struct stat st;
	const char *at;

	open_in(&j, &t);
	put(&j, "first");
	assert_ok(journal_put(&j, "loaded", "s\"1", 2, 77, "{\"a\":1}", 7, &e), &e);
	assert_int_equal(j.last, 2);
	/* Not there before the flush. */
	assert_int_equal(journal_read(&j, &c, 10, on_line, &g, &e), 0);
	assert_ok(journal_flush(&j, &e), &e);
	assert_ok(journal_flush(&j, &e), &e);
	assert_int_equal(journal_read(&j, &c, 10, on_line, &g, &e), 2);
	at = buf_cstr(&g.text, NULL);
	assert_true(strncmp(at, "{\"wseq\":1,\"ts\":\"20", 18) == 0);
	assert_non_null(strstr(at, "\",\"event\":\"first\"}\n{\"wseq\":2,\"ts\":\"20"));
	assert_non_null(strstr(at, "\"event\":\"loaded\",\"step_id\":\"s\\\"1\",\"attempt\":2,"
	                           "\"src\":\"77\",\"data\":{\"a\":1}}\n"));
	assert_int_equal(c.sent, 2);
	assert_int_equal(c.at, j.size);
	assert_int_equal(fstatat(t.fd, "events", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

TEST(a_reader_gets_at_most_what_it_asks_for_and_goes_on_there)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct err e = ERR_INIT;

	open_in(&j, &t);
	for (int i = 0; i < 5; i++)
		put(&j, "x");
	assert_ok(journal_flush(&j, &e), &e);
	assert_int_equal(journal_read(&j, &c, 2, on_line, &g, &e), 2);
	assert_int_equal(journal_read(&j, &c, 0, on_line, &g, &e), 0);
	assert_int_equal(journal_read(&j, &c, 10, on_line, &g, &e), 3);
	assert_int_equal(journal_read(&j, &c, 10, on_line, &g, &e), 0);
	for (int i = 1; i <= 5; i++) {
		char want[32];

		snprintf(want, sizeof(want), "{\"wseq\":%d,", i);
		assert_non_null(strstr(buf_cstr(&g.text, NULL), want));
	}
}

TEST(a_reader_that_refuses_a_line_gets_it_again)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct err e = ERR_INIT;

	open_in(&j, &t);
	put(&j, "a");
	put(&j, "b");
	assert_ok(journal_flush(&j, &e), &e);
	g.fail_at = 2;
	assert_fails(journal_read(&j, &c, 10, on_line, &g, &e), &e, ERR_INTERNAL, "refused");
	assert_int_equal(c.sent, 1);
	g.fail_at = 0;
	assert_int_equal(journal_read(&j, &c, 10, on_line, &g, &e), 1);
	assert_non_null(strstr(buf_cstr(&g.text, NULL), "\"event\":\"b\"}\n"));
	assert_int_equal(c.sent, 2);
}

TEST(a_cursor_is_placed_after_any_event_acknowledged_or_not)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor ends[11] = { { 0, 0 } }, c, reader = { 0, 0 };
	struct err e = ERR_INIT;

	open_in(&j, &t);
	for (int i = 1; i <= 10; i++) {
		struct got g CLEANUP(got_release) = got();

		put(&j, i % 2 ? "odd" : "even, and longer");
		assert_ok(journal_flush(&j, &e), &e);
		assert_int_equal(journal_read(&j, &reader, 1, on_line, &g, &e), 1);
		ends[i] = reader;
	}
	for (uint64_t acked = 0; acked <= 10; acked += 5) {
		journal_ack(&j, acked, &reader);
		assert_int_equal(j.acked, acked);
		assert_int_equal(j.acked_at, ends[acked].at);
		for (uint64_t have = 0; have <= 10; have++) {
			assert_ok(journal_seek(&j, have, &c, &e), &e);
			assert_int_equal(c.sent, have);
			assert_int_equal(c.at, ends[have].at);
		}
	}
	assert_fails(journal_seek(&j, 11, &c, &e), &e, ERR_NOT_FOUND,
	             "event 11 has not happened: the last is 10");
}

TEST(acknowledgements_do_not_fall_and_do_not_pass_what_was_sent)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct err e = ERR_INIT;

	open_in(&j, &t);
	for (int i = 0; i < 5; i++)
		put(&j, "x");
	assert_ok(journal_flush(&j, &e), &e);
	assert_int_equal(journal_read(&j, &c, 3, on_line, &g, &e), 3);
	journal_ack(&j, 4, &c);
	assert_int_equal(j.acked, 0);
	journal_ack(&j, 2, &c);
	assert_int_equal(j.acked, 2);
	journal_ack(&j, 1, &c);
	assert_int_equal(j.acked, 2);
	journal_ack(&j, 3, &c);
	assert_int_equal(j.acked_at, c.at);
}

TEST(opened_again_it_tells_every_line_and_goes_on_numbering)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j;
	struct err e = ERR_INIT;
	uint64_t size;

	open_in(&j, &t);
	for (int i = 0; i < 3000; i++) /* more than one piece of reading */
		assert_ok(journal_put(&j, "x", "step", 1, 0,
		                      "{\"text\":\"abcdefghijklmnopqrstuvwxyz"
		                      "abcdefghijklmnopqrstuvwxyz\"}",
		                      63, &e),
		          &e);
	assert_ok(journal_flush(&j, &e), &e);
	size = j.size;
	assert_true(size > 400000);
	put(&j, "lost"); /* never flushed */
	journal_close(&j);
	assert_ok(journal_open(&j, t.fd, on_old_line, &g, &e), &e);
	assert_int_equal(g.lines, 3000);
	assert_int_equal(j.last, 3000);
	assert_int_equal(j.size, size);
	put(&j, "next");
	assert_ok(journal_flush(&j, &e), &e);
	assert_int_equal(j.last, 3001);
	journal_close(&j);
}

TEST(a_torn_last_line_is_cut_off_wherever_it_tore)
{
	static const char line[] = "{\"wseq\":3,\"ts\":\"\",\"event\":\"c\"}";

	for (size_t n = 1; n < sizeof(line); n++) {
		struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
		struct got g CLEANUP(got_release) = got();
		struct journal j;
		struct err e = ERR_INIT;
		struct stat st;
		char torn[sizeof(line)];
		uint64_t size;

		open_in(&j, &t);
		put(&j, "a");
		put(&j, "b");
		assert_ok(journal_flush(&j, &e), &e);
		size = j.size;
		journal_close(&j);
		snprintf(torn, n + 1, "%s", line);
		append(&t, torn);
		assert_ok(journal_open(&j, t.fd, on_old_line, &g, &e), &e);
		assert_int_equal(g.lines, 2);
		assert_int_equal(j.last, 2);
		assert_int_equal(j.size, size);
		assert_int_equal(fstatat(t.fd, "events", &st, 0), 0);
		assert_int_equal(st.st_size, size);
		put(&j, "c");
		assert_ok(journal_flush(&j, &e), &e);
		assert_int_equal(j.last, 3);
		journal_close(&j);
	}
}

TEST(a_line_of_any_length_that_can_be_put_can_be_read_again)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j;
	struct err e = ERR_INIT;
	auto_free char *data = malloc(1 << 20);
	struct journal_cursor c = { 0, 0 };
	size_t longest = 0;

	open_in(&j, &t);
	for (size_t n = 1000; n < 1000000; n = n * 3 / 2) {
		memset(data, 'x', n);
		memcpy(data, "{\"a\":\"", 6);
		memcpy(data + n - 2, "\"}", 2);
		if (journal_put(&j, "x", NULL, 0, 0, data, n, &e) == 0)
			longest = n;
		assert_ok(journal_flush(&j, &e), &e);
	}
	assert_true(longest >= JOURNAL_LINE_MAX / 2);
	assert_int_equal(journal_read(&j, &c, 1000, on_line, &g, &e), j.last);
	g.lines = 0;
	put(&j, "after");
	assert_ok(journal_flush(&j, &e), &e);
	journal_close(&j);
	assert_ok(journal_open(&j, t.fd, on_old_line, &g, &e), &e);
	assert_int_equal(g.lines, c.sent + 1);
	journal_close(&j);
}

TEST(what_is_not_flushed_is_bounded_and_nothing_is_lost_by_that)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct err e = ERR_INIT;
	size_t most = 0;

	open_in(&j, &t);
	for (int i = 0; i < 100000; i++) {
		put(&j, "many small ones, and nobody calls for a flush");
		most = buf_len(&j.pending) > most ? buf_len(&j.pending) : most;
	}
	assert_true(most > 1024 * 1024 && most <= 4 * 1024 * 1024);
	assert_ok(journal_flush(&j, &e), &e);
	assert_int_equal(journal_read(&j, &c, 200000, on_line, &g, &e), 100000);
	assert_int_equal(c.at, j.size);
}

TEST(an_event_that_would_fit_into_no_frame_is_refused_and_leaves_no_trace)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g CLEANUP(got_release) = got();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct err e = ERR_INIT;
	auto_free char *data = malloc(LIMIT_TEXT);

	memset(data, 'x', LIMIT_TEXT);
	memcpy(data, "{\"a\":\"", 6);
	memcpy(data + LIMIT_TEXT - 2, "\"}", 2);
	open_in(&j, &t);
	put(&j, "before");
	assert_fails(journal_put(&j, "big", NULL, 0, 0, data, LIMIT_TEXT, &e), &e, ERR_LIMIT,
	             "event 'big': over 262080 bytes");
	put(&j, "after");
	assert_ok(journal_flush(&j, &e), &e);
	assert_int_equal(j.last, 2);
	assert_int_equal(journal_read(&j, &c, 10, on_line, &g, &e), 2);
	assert_null(strstr(buf_cstr(&g.text, NULL), "big"));
}

TEST(room_is_what_nobody_has_acknowledged_yet)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct journal j CLEANUP(journal_close);
	struct journal_cursor c = { 0, 0 };
	struct got g CLEANUP(got_release) = got();
	struct err e = ERR_INIT;
	auto_free char *data = malloc(60000);

	memset(data, 'x', 60000);
	memcpy(data, "{\"a\":\"", 6);
	memcpy(data + 59998, "\"}", 2);
	open_in(&j, &t);
	for (int i = 0; i < 1000 && journal_has_room(&j); i++) {
		assert_ok(journal_put(&j, "x", NULL, 0, 0, data, 60000, &e), &e);
		assert_ok(journal_flush(&j, &e), &e);
	}
	assert_false(journal_has_room(&j));
	assert_true(j.size >= JOURNAL_ROOM && j.size < JOURNAL_ROOM + 61000);
	assert_int_equal(journal_read(&j, &c, 2, on_line, &g, &e), 2);
	journal_ack(&j, 2, &c);
	assert_true(journal_has_room(&j));
}

TEST(a_link_in_its_place_is_not_followed)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct journal j CLEANUP(journal_close);
	struct err e = ERR_INIT;

	assert_int_equal(symlinkat("/etc/passwd", t.fd, "events"), 0);
	assert_true(journal_open(&j, t.fd, NULL, NULL, &e) < 0);
	assert_int_equal(e.code, ERR_SYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_is_one_line_of_json_numbered_from_one),
		cmocka_unit_test(a_reader_gets_at_most_what_it_asks_for_and_goes_on_there),
		cmocka_unit_test(a_reader_that_refuses_a_line_gets_it_again),
		cmocka_unit_test(a_cursor_is_placed_after_any_event_acknowledged_or_not),
		cmocka_unit_test(acknowledgements_do_not_fall_and_do_not_pass_what_was_sent),
		cmocka_unit_test(opened_again_it_tells_every_line_and_goes_on_numbering),
		cmocka_unit_test(a_torn_last_line_is_cut_off_wherever_it_tore),
		cmocka_unit_test(a_line_of_any_length_that_can_be_put_can_be_read_again),
		cmocka_unit_test(what_is_not_flushed_is_bounded_and_nothing_is_lost_by_that),
		cmocka_unit_test(
			an_event_that_would_fit_into_no_frame_is_refused_and_leaves_no_trace),
		cmocka_unit_test(room_is_what_nobody_has_acknowledged_yet),
		cmocka_unit_test(a_link_in_its_place_is_not_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
