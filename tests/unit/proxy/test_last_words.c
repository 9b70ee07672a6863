/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/last_words.h"

static const char *words_of(const char *text, off_t from, size_t size)
{
	static char out[300];
	auto_close int fd = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	memset(out, 'z', sizeof(out));
	last_words(fd, from, out, size);
	return out;
}

TEST(the_last_line_that_is_not_empty_counts)
{
	assert_string_equal(words_of("first\nlast\n", 0, 200), "last");
	assert_string_equal(words_of("first\nlast", 0, 200), "last");
	assert_string_equal(words_of("first\nlast \n\n \n", 0, 200), "last");
	assert_string_equal(words_of("only", 0, 200), "only");
	assert_string_equal(words_of("", 0, 200), "");
	assert_string_equal(words_of("\n \n", 0, 200), "");
}

TEST(what_another_worker_said_before_does_not_count)
{
	assert_string_equal(words_of("old\nnew\n", 4, 200), "new");
	assert_string_equal(words_of("old\n", 4, 200), "");
	assert_string_equal(words_of("old\n", 99, 200), "");
}

TEST(it_is_clipped_and_no_terminal_obeys_it)
{
	static char text[20000];

	assert_string_equal(words_of("abcdef", 0, 4), "abc");
	assert_string_equal(words_of("a\tb\033[31mc\177", 0, 200), "a?b?[31mc?");
	memset(text, 'x', sizeof(text) - 1);
	assert_int_equal(strlen(words_of(text, 0, 200)), 199);
}

TEST(an_error_gets_the_words_and_lost_becomes_no_sandbox)
{
	struct err e = ERR_INIT;
	auto_close int fd = memfd_create("log", MFD_CLOEXEC);

	last_words_explain(fd, 0, &e);
	assert_int_equal(e.code, ERR_NONE);
	err_set(&e, ERR_LOST, 0, "it is gone");
	last_words_explain(fd, 0, &e);
	assert_int_equal(e.code, ERR_PROVIDER);
	assert_string_equal(e.msg, "it is gone; the worker never got ready, and it said nothing");
	assert_int_equal(write(fd, "boom\n", 5), 5);
	err_set(&e, ERR_DEADLINE, 0, "too late");
	last_words_explain(fd, 0, &e);
	assert_int_equal(e.code, ERR_DEADLINE);
	assert_string_equal(e.msg, "too late; the worker never got ready, its last words: boom");
	err_set(&e, ERR_LOST, 0, "it is gone");
	last_words_explain(-1, 0, &e);
	assert_string_equal(e.msg, "it is gone; the worker never got ready, and it said nothing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_line_that_is_not_empty_counts),
		cmocka_unit_test(what_another_worker_said_before_does_not_count),
		cmocka_unit_test(it_is_clipped_and_no_terminal_obeys_it),
		cmocka_unit_test(an_error_gets_the_words_and_lost_becomes_no_sandbox),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
