/* SPDX-License-Identifier: Apache-2.0
 *
 * Sizes at E2B: which there are, the templates that have them, and what is said when there is
 * none. */
#include "tests/unit/check.h"

#include "sdk-wrapper/e2b_tier.h"

static void assert_size(uint32_t cpu, uint32_t mb, uint32_t want_cpu, uint32_t want_mb)
{
	struct e2b_size s;
	struct err e = ERR_INIT;

	assert_ok(e2b_size_of(cpu, mb, &s, &e), &e);
	assert_int_equal(s.cpu, want_cpu);
	assert_int_equal(s.memory_mb, want_mb);
}

TEST(what_is_not_asked_for_is_the_builders_default)
{
	assert_size(4, 8192, 4, 8192);
	assert_size(4, 0, 4, 1024);
	assert_size(0, 512, 2, 512);
	assert_size(1, 128, 1, 128);
	assert_size(32, 65536, 32, 65536);
}

TEST(a_size_that_there_is_not_is_refused_with_the_nearest)
{
	struct e2b_size s = { 77, 77 };
	struct err e;

	assert_fails(e2b_size_of(3, 0, &s, &e), &e, ERR_POLICY,
		     "--cpu 3: E2B has sandboxes with 1 processor or an even number of them up to "
		     "32; the nearest is 4");
	assert_int_equal(err_exit(e.code), 10);
	assert_true(e2b_size_of(33, 0, &s, &e) < 0);
	assert_non_null(strstr(e.msg, "the nearest is 32"));
	assert_fails(e2b_size_of(2, 100, &s, &e), &e, ERR_POLICY,
		     "--memory: 100 MiB: E2B has sandboxes with an even number of MiB from 128 on; "
		     "the nearest is 128 (--memory 0.125)");
	assert_true(e2b_size_of(2, 1025, &s, &e) < 0);
	assert_non_null(strstr(e.msg, "the nearest is 1026 (--memory 1.00195312)"));
	assert_int_equal(s.cpu, 77);
}

static const char *name_of(const char *base, uint32_t cpu, uint32_t mb)
{
	static char name[E2B_TEMPLATE_NAME_MAX];
	struct e2b_size s = { cpu, mb };
	struct err e = ERR_INIT;

	assert_ok(e2b_tier_name(base, &s, name, &e), &e);
	return name;
}

TEST(the_name_says_base_and_size)
{
	assert_string_equal(name_of("base", 4, 8192), "farstep-base-4c-8192m");
	assert_string_equal(name_of("my_tools-2", 1, 512), "farstep-my_tools-2-1c-512m");
}

TEST(bases_that_look_alike_in_a_name_have_names_of_their_own)
{
	char first[E2B_TEMPLATE_NAME_MAX];

	snprintf(first, sizeof(first), "%s", name_of("team/base", 2, 1024));
	assert_int_equal(strncmp(first, "farstep-team-base-", 18), 0);
	assert_int_equal(strlen(first), strlen("farstep-team-base-01234567-2c-1024m"));
	assert_string_not_equal(first, name_of("team:base", 2, 1024));
	assert_string_not_equal(first, name_of("team-base", 2, 1024));
	assert_string_equal(first, name_of("team/base", 2, 1024));
	for (const char *p = first; *p; p++)
		assert_non_null(strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", *p));
}

TEST(a_name_that_would_be_too_long_is_refused)
{
	char base[E2B_TEMPLATE_NAME_MAX + 1], name[E2B_TEMPLATE_NAME_MAX];
	struct e2b_size s = { 2, 1024 };
	struct e2b_fit fit;
	struct err e = ERR_INIT;

	memset(base, 'a', sizeof(base) - 1);
	base[sizeof(base) - 1] = 0;
	assert_int_equal(e2b_tier_name(base, &s, name, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_int_equal(e2b_fit(base, 0, 0, &fit, &e), -1);
	base[E2B_TEMPLATE_NAME_MAX - 1] = 0;
	assert_int_equal(e2b_tier_name(base, &s, name, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_ok(e2b_fit(base, 0, 0, &fit, &e), &e);
	base[110] = 0;
	assert_ok(e2b_tier_name(base, &s, name, &e), &e);
}

TEST(without_a_size_it_is_the_template_itself_and_nothing_is_checked)
{
	const struct e2b_size any = { 64, 3 };
	struct e2b_fit fit;
	struct err e = ERR_INIT;

	assert_ok(e2b_fit(NULL, 0, 0, &fit, &e), &e);
	assert_string_equal(fit.template_name, "base");
	assert_false(fit.is_sized);
	assert_ok(e2b_fit_check(&fit, &any, &e), &e);
	assert_ok(e2b_fit("team/mine:v2", 0, 0, &fit, &e), &e);
	assert_string_equal(fit.template_name, "team/mine:v2");
}

TEST(another_size_than_asked_for_is_an_error_that_says_what_to_do)
{
	struct e2b_size got = { 4, 8192 };
	struct e2b_fit fit;
	struct err e = ERR_INIT;

	assert_ok(e2b_fit("base", 4, 8192, &fit, &e), &e);
	assert_ok(e2b_fit_check(&fit, &got, &e), &e);
	got.memory_mb = 512;
	assert_fails(e2b_fit_check(&fit, &got, &e), &e, ERR_POLICY,
		     "asked for 4 processors and 8192 MiB, but template farstep-base-4c-8192m "
		     "gave 4 and 512 MiB: build it again (farstep template build base --cpu 4 "
		     "--memory 8)");
	got = (struct e2b_size){ 2, 8192 };
	assert_int_equal(e2b_fit_check(&fit, &got, &e), -1);
	got = (struct e2b_size){ 0, 0 };	/* it does not say */
	assert_int_equal(e2b_fit_check(&fit, &got, &e), -1);
}

TEST(a_missing_template_is_told_with_the_command_that_builds_it)
{
	struct e2b_fit fit;
	struct err e = ERR_INIT;

	assert_ok(e2b_fit("python", 0, 1536, &fit, &e), &e);
	assert_fails(e2b_fit_missing(&fit, &e), &e, ERR_POLICY,
		     "there is no template farstep-python-2c-1536m yet, which has 2 processors and "
		     "1536 MiB: build it with 'farstep template build python --cpu 2 --memory "
		     "1.5', or allow it with --build-template");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_asked_for_is_the_builders_default),
		cmocka_unit_test(a_size_that_there_is_not_is_refused_with_the_nearest),
		cmocka_unit_test(the_name_says_base_and_size),
		cmocka_unit_test(bases_that_look_alike_in_a_name_have_names_of_their_own),
		cmocka_unit_test(a_name_that_would_be_too_long_is_refused),
		cmocka_unit_test(without_a_size_it_is_the_template_itself_and_nothing_is_checked),
		cmocka_unit_test(another_size_than_asked_for_is_an_error_that_says_what_to_do),
		cmocka_unit_test(a_missing_template_is_told_with_the_command_that_builds_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
