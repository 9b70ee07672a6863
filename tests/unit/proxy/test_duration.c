/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/duration.h"

TEST(a_duration_is_seconds_or_has_a_unit)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} rows[] = { { "0", 0 },      { "90", 90 },      { "90s", 90 },        { "15m", 900 },
		     { "2h", 7200 },  { "3d", 259200 },  { "000000000007", 7 },
		     { "3653d", 315619200 } };
	struct err e = ERR_INIT;
	int64_t s = -1;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_ok(duration_parse("--older-than", rows[i].text, &s, &e), &e);
		assert_int_equal(s, rows[i].seconds);
	}
}

TEST(anything_else_is_refused_by_name)
{
	static const char *const rows[] = { "",    "h",   "-1",  "1.5h", "2w",    "2hh",
		                            " 2h", "2 h", "0x2", "3654d", "99999999999999999999" };
	struct err e = ERR_INIT;
	int64_t s = -1;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(duration_parse("--older-than", rows[i], &s, &e), -1);
		assert_int_equal(e.code, ERR_USAGE);
	}
	assert_int_equal(s, -1);
	assert_fails(duration_parse("--older-than", "2w", &s, &e), &e, ERR_USAGE,
	             "--older-than '2w': want seconds, or a number with s, m, h or d");
}

TEST(people_see_the_largest_unit)
{
	static const struct {
		uint64_t seconds;
		const char *text;
	} rows[] = { { 0, "0s" },     { 59, "59s" },     { 60, "1m" },      { 3599, "59m" },
		     { 3600, "1h" },  { 86399, "23h" },  { 86400, "1d" },   { 8640000, "100d" } };
	char text[24];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		duration_text(rows[i].seconds, text);
		assert_string_equal(text, rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_duration_is_seconds_or_has_a_unit),
		cmocka_unit_test(anything_else_is_refused_by_name),
		cmocka_unit_test(people_see_the_largest_unit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
