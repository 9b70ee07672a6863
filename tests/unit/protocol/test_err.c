/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <errno.h>

TEST(setting_an_error_returns_minus_one_and_fills_all_of_it)
{
	struct err e = { .admitted = ADMITTED_UNKNOWN, .sys = 7 };

	assert_int_equal(err_set(&e, ERR_LIMIT, 0, "frame of %d bytes", 70000), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_int_equal(e.admitted, ADMITTED_NO);
	assert_int_equal(e.sys, 0);
	assert_string_equal(e.msg, "frame of 70000 bytes");
}

TEST(a_system_error_is_spelled_out)
{
	struct err e;

	err_set(&e, ERR_SYS, ENOENT, "/no/such: open");
	assert_int_equal(e.sys, ENOENT);
	assert_string_equal(e.msg, "/no/such: open: No such file or directory");
}

TEST(an_empty_message_is_the_system_error_alone)
{
	struct err e;
	const char *nothing = "";

	err_set(&e, ERR_SYS, ENOENT, "%s", nothing);
	assert_string_equal(e.msg, "No such file or directory");
}

TEST(wrapping_adds_context_in_front_and_keeps_the_rest)
{
	struct err e;

	err_set(&e, ERR_DENIED, EACCES, "open");
	e.admitted = ADMITTED_YES;
	assert_int_equal(err_wrap(&e, "step '%s'", "build"), -1);
	assert_int_equal(err_wrap(&e, "run"), -1);
	assert_string_equal(e.msg, "run: step 'build': open: Permission denied");
	assert_int_equal(e.code, ERR_DENIED);
	assert_int_equal(e.admitted, ADMITTED_YES);
	assert_int_equal(e.sys, EACCES);
}

TEST(a_caller_who_wants_no_error_passes_null)
{
	assert_int_equal(err_set(NULL, ERR_SYS, EIO, "read"), -1);
	assert_int_equal(err_wrap(NULL, "step"), -1);
}

TEST(an_error_may_be_built_from_its_own_message)
{
	struct err e;

	err_set(&e, ERR_SYS, 0, "inner");
	err_set(&e, ERR_PROTO, 0, "outer (%s)", e.msg);
	assert_string_equal(e.msg, "outer (inner)");
	err_wrap(&e, "again %s", e.msg);
	assert_string_equal(e.msg, "again outer (inner): outer (inner)");
}

TEST(messages_too_long_are_cut_and_terminated)
{
	struct err e;
	char text[3 * sizeof(e.msg)];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	err_set(&e, ERR_SYS, EIO, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	err_set(&e, ERR_SYS, 0, "short");
	err_wrap(&e, "%s", text);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
}

TEST(every_cut_of_a_wrap_stays_inside_the_message)
{
	struct err e;
	char text[sizeof(e.msg)];

	for (size_t n = 0; n < sizeof(text); n++) {
		memset(text, 'x', n);
		text[n] = 0;
		err_set(&e, ERR_SYS, EIO, "%s", text);
		err_wrap(&e, "%s", text);
		assert_true(strlen(e.msg) < sizeof(e.msg));
	}
}

TEST(every_row_is_found_by_its_name_and_its_number)
{
	for (int i = ERR_NONE + 1; i < ERR_COUNT; i++) {
		assert_int_equal(err_by_name(err_name((enum err_code)i)), i);
		assert_int_equal(err_by_rpc(err_rpc((enum err_code)i)), i);
	}
}

TEST(every_row_has_a_known_retry_an_exit_code_and_a_number_in_range)
{
	for (int i = ERR_NONE + 1; i < ERR_COUNT; i++) {
		const char *retry = err_retry((enum err_code)i);
		int rpc = err_rpc((enum err_code)i);

		assert_true(!strcmp(retry, "same") || !strcmp(retry, "changed") ||
			    !strcmp(retry, "never"));
		assert_in_range(err_exit((enum err_code)i), 1, 130);
		assert_true(rpc <= -32000 && rpc >= -32768);
	}
}

TEST(what_is_unknown_counts_as_internal)
{
	assert_int_equal(err_by_name("no_such_error"), ERR_INTERNAL);
	assert_int_equal(err_by_name(""), ERR_INTERNAL);
	assert_int_equal(err_by_name(NULL), ERR_INTERNAL);
	assert_int_equal(err_by_rpc(-1), ERR_INTERNAL);
	assert_string_equal(err_name((enum err_code)9999), "internal");
	assert_string_equal(err_name((enum err_code)-1), "internal");
}

TEST(the_table_says_what_the_protocol_says)
{
	assert_string_equal(err_name(ERR_INVALID_PARAMS), "invalid_params");
	assert_int_equal(err_rpc(ERR_INVALID_PARAMS), -32602);
	assert_string_equal(err_retry(ERR_BUSY), "same");
	assert_int_equal(err_exit(ERR_LOST), 6);
	assert_int_equal(err_exit(ERR_NONE), 0);
}

TEST(admission_has_three_names)
{
	assert_string_equal(admitted_name(ADMITTED_NO), "no");
	assert_string_equal(admitted_name(ADMITTED_YES), "yes");
	assert_string_equal(admitted_name(ADMITTED_UNKNOWN), "unknown");
	assert_string_equal(admitted_name((enum admitted)17), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(setting_an_error_returns_minus_one_and_fills_all_of_it),
		cmocka_unit_test(a_system_error_is_spelled_out),
		cmocka_unit_test(an_empty_message_is_the_system_error_alone),
		cmocka_unit_test(wrapping_adds_context_in_front_and_keeps_the_rest),
		cmocka_unit_test(a_caller_who_wants_no_error_passes_null),
		cmocka_unit_test(an_error_may_be_built_from_its_own_message),
		cmocka_unit_test(messages_too_long_are_cut_and_terminated),
		cmocka_unit_test(every_cut_of_a_wrap_stays_inside_the_message),
		cmocka_unit_test(every_row_is_found_by_its_name_and_its_number),
		cmocka_unit_test(every_row_has_a_known_retry_an_exit_code_and_a_number_in_range),
		cmocka_unit_test(what_is_unknown_counts_as_internal),
		cmocka_unit_test(the_table_says_what_the_protocol_says),
		cmocka_unit_test(admission_has_three_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
