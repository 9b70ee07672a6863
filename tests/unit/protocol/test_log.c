/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <errno.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/base/log.h"

static int ends[2];
static char line[32 * 1024];

/* The log goes to a pipe, so that each read shows what one write wrote. */
static int set_up(void **state)
{
	(void)state;
	return pipe2(ends, O_CLOEXEC | O_NONBLOCK | O_DIRECT);
}

static int tear_down(void **state)
{
	(void)state;
	close(ends[0]);
	close(ends[1]);
	log_open(2, LOG_INFO, false, "farstep");
	return 0;
}

/* What the last write wrote; "" if there was none. */
static const char *written(void)
{
	ssize_t n = read(ends[0], line, sizeof(line) - 1);

	line[n > 0 ? n : 0] = 0;
	return line;
}

/* The line behind its time stamp, which is checked for its form. */
static const char *behind_time(void)
{
	static const char form[] = "0000-00-00T00:00:00.000000Z ";
	const char *text = written();

	for (size_t i = 0; i < strlen(form); i++)
		if (form[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
			fail_msg("no time stamp: %s", text);
	return text + strlen(form);
}

TEST(a_line_has_time_level_program_and_message)
{
	log_open(ends[1], LOG_INFO, false, "farstep-worker");
	log_info("listening on %s", "socket");
	assert_string_equal(behind_time(), "info farstep-worker: listening on socket\n");
	log_error("gone");
	assert_string_equal(behind_time(), "error farstep-worker: gone\n");
	log_warn("odd");
	assert_string_equal(behind_time(), "warn farstep-worker: odd\n");
}

TEST(a_json_line_is_one_object)
{
	struct err e;
	const char *text;

	log_open(ends[1], LOG_DEBUG, true, "farstep");
	log_debug("frame \"%s\"\n", "a\\b");
	text = written();
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	auto_json json *v = json_parse(text, strlen(text), sizeof(line), 2, &e);
	assert_non_null(v);
	assert_int_equal(json_count(v), 4);
	assert_int_equal(strlen(json_string(json_get(v, "ts"))), 27);
	assert_string_equal(json_string(json_get(v, "level")), "debug");
	assert_string_equal(json_string(json_get(v, "program")), "farstep");
	assert_string_equal(json_string(json_get(v, "msg")), "frame \"a\\b\"\n");
}

TEST(levels_below_the_threshold_are_not_written)
{
	log_open(ends[1], LOG_WARN, false, "p");
	assert_true(log_enabled(LOG_ERROR));
	assert_true(log_enabled(LOG_WARN));
	assert_false(log_enabled(LOG_INFO));
	assert_false(log_enabled(LOG_DEBUG));
	log_info("no");
	log_debug("no");
	assert_string_equal(written(), "");
	log_warn("yes");
	assert_string_equal(behind_time(), "warn p: yes\n");
}

TEST(a_message_cannot_forge_a_second_line_or_a_terminal_command)
{
	log_open(ends[1], LOG_INFO, false, "p");
	log_info("peer said '%s'", "a\nb\r\x1b[2J\x7f\xff\xc3\xa4");
	assert_string_equal(behind_time(),
			    "info p: peer said 'a\\x0ab\\x0d\\x1b[2J\\x7f\\xff\xc3\xa4'\n");
}

TEST(a_long_message_is_clipped_and_says_so)
{
	char text[5000];
	const char *got;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	log_open(ends[1], LOG_INFO, false, "p");
	log_info("%s", text);
	got = behind_time();
	assert_in_range(strlen(got), 2040, 2060);
	assert_string_equal(got + strlen(got) - 5, "x...\n");
}

/* All that is in the pipe: packets are cut at a page. */
static void read_all(struct buf *ret)
{
	struct err e;

	buf_reset(ret);
	while (*written())
		assert_ok(buf_puts(ret, line, &e), &e);
}

TEST(the_longest_lines_of_the_worst_bytes_are_written_in_both_forms)
{
	char text[5000];
	struct buf all;
	struct err e;

	memset(text, 1, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	buf_init(&all, 1 << 20);
	log_open(ends[1], LOG_INFO, false, "p");
	log_info("%s", text);
	read_all(&all);
	assert_true(buf_len(&all) > 8000);
	log_open(ends[1], LOG_INFO, true, "p");
	log_info("%s", text);
	read_all(&all);
	assert_true(buf_len(&all) > 12000);
	assert_ok(json_check((const char *)buf_data(&all), buf_len(&all), 1 << 20, 2, &e), &e);
	buf_release(&all);
}

TEST(a_log_that_takes_no_more_does_not_hold_up_the_program)
{
	log_open(ends[1], LOG_INFO, false, "p");
	for (int i = 0; i < 5000; i++)
		log_info("line %d", i);
	assert_string_equal(behind_time(), "info p: line 0\n");
	log_open(-1, LOG_INFO, false, "p");
	log_info("to nowhere");
}

TEST(errno_is_kept)
{
	log_open(-1, LOG_INFO, false, "p");
	errno = ENOTTY;
	log_info("x");
	assert_int_equal(errno, ENOTTY);
}

TEST(levels_are_known_by_name)
{
	enum log_level level = LOG_INFO;

	assert_int_equal(log_level_parse("error", &level), 0);
	assert_int_equal(level, LOG_ERROR);
	assert_int_equal(log_level_parse("debug", &level), 0);
	assert_int_equal(level, LOG_DEBUG);
	assert_int_equal(log_level_parse("verbose", &level), -1);
	assert_int_equal(log_level_parse("", &level), -1);
	assert_int_equal(log_level_parse("INFO", &level), -1);
	assert_int_equal(level, LOG_DEBUG);
}

#define WITH_PIPE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PIPE(a_line_has_time_level_program_and_message),
		WITH_PIPE(a_json_line_is_one_object),
		WITH_PIPE(levels_below_the_threshold_are_not_written),
		WITH_PIPE(a_message_cannot_forge_a_second_line_or_a_terminal_command),
		WITH_PIPE(a_long_message_is_clipped_and_says_so),
		WITH_PIPE(the_longest_lines_of_the_worst_bytes_are_written_in_both_forms),
		WITH_PIPE(a_log_that_takes_no_more_does_not_hold_up_the_program),
		WITH_PIPE(errno_is_kept),
		WITH_PIPE(levels_are_known_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
