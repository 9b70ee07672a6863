/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/e2b_fleet.h"

TEST(times_are_read_as_e2b_writes_them)
{
	static const struct {
		const char *text;
		uint64_t us;
	} rows[] = {
		{ "1970-01-01T00:00:01Z", 1000000 },
		{ "2026-11-21T03:21:07Z", UINT64_C(1795231267000000) },
		{ "2026-11-21T03:21:07.5Z", UINT64_C(1795231267500000) },
		{ "2026-11-21T03:21:07.123456789Z", UINT64_C(1795231267123456) },
	};
	static const char *const none[] = { "", "yesterday", "2026-11-21", "03:21:07" };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_true(e2b_time(rows[i].text) == rows[i].us);
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_true(e2b_time(none[i]) == 0);
}

TEST(without_a_key_nobody_is_asked)
{
	struct e2b_found f;
	struct err e = ERR_INIT;

	unsetenv("E2B_API_KEY");
	assert_false(e2b_is_usable());
	assert_int_equal(e2b_find_one("itisnotknown", 1000, &f, &e), -1);
	assert_int_equal(e.code, ERR_DENIED);
	setenv("E2B_API_KEY", "", 1);
	assert_false(e2b_is_usable());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_read_as_e2b_writes_them),
		cmocka_unit_test(without_a_key_nobody_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
