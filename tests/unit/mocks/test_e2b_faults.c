/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/faults.h"

static struct fault parsed(const char *text)
{
	struct faults f = { .n = 0 };
	struct err e;

	assert_ok(faults_parse(&f, text, &e), &e);
	assert_int_equal(f.n, 1);
	return f.fault[0];
}

static void assert_refuses(const char *text, const char *why)
{
	struct faults f = { .n = 0 };
	struct err e;

	assert_fails(faults_parse(&f, text, &e), &e, ERR_USAGE, why);
	assert_int_equal(f.n, 0);
}

TEST(every_rule_that_the_help_names_is_understood)
{
	const char *help = faults_help();
	char text[64];

	for (int k = FAULT_NONE + 1; k < FAULT_KINDS; k++) {
		bool wants_at = k >= FAULT_FILES_CUT;

		snprintf(text, sizeof(text), "%s%s", fault_name((enum fault_kind)k),
			 wants_at ? "@7" : "");
		assert_int_equal(parsed(text).kind, k);
		assert_non_null(strstr(help, fault_name((enum fault_kind)k)));
	}
}

TEST(a_rule_has_its_place_and_its_count)
{
	struct fault r = parsed("files:cut@4kx3");

	assert_int_equal(r.kind, FAULT_FILES_CUT);
	assert_int_equal(r.at, 4096);
	assert_int_equal(r.left, 3);
	assert_int_equal(parsed("process:drop@0").at, 0);
	assert_int_equal(parsed("files:corrupt@2M").at, 2 * 1024 * 1024);
	assert_int_equal(parsed("create:503").left, -1);
	r = parsed("create:429:quotax12");
	assert_int_equal(r.kind, FAULT_CREATE_QUOTA);
	assert_int_equal(r.left, 12);
	assert_int_equal(parsed("create:500x1").kind, FAULT_CREATE_500);
}

TEST(a_wrong_rule_is_named_with_its_fault)
{
	assert_refuses("", "fault '': unknown; --help lists the rules");
	assert_refuses("create:418", "fault 'create:418': unknown; --help lists the rules");
	assert_refuses("create:50", "fault 'create:50': unknown; --help lists the rules");
	assert_refuses("x5", "fault 'x5': unknown; --help lists the rules");
	assert_refuses("files:cut", "fault 'files:cut': wants @ and a number");
	assert_refuses("files:cutx2", "fault 'files:cutx2': wants @ and a number");
	assert_refuses("files:cut@", "fault 'files:cut@': wants a number behind @");
	assert_refuses("files:cut@-1", "fault 'files:cut@-1': wants a number behind @");
	assert_refuses("files:cut@9999999999999",
		       "fault 'files:cut@9999999999999': wants a number behind @");
	assert_refuses("create:hang@5", "fault 'create:hang@5': takes no @");
	assert_refuses("create:503x0", "fault 'create:503x0': wants a number of times behind x");
	assert_refuses("edge:502@1x", "fault 'edge:502@1x': wants a number of times behind x");
	assert_refuses("edge:502@1y",
		       "fault 'edge:502@1y': has something behind it that is no part of it");
}

TEST(a_rule_acts_as_often_as_it_says_and_then_the_next_of_its_kind)
{
	struct faults f = { .n = 0 };
	struct fault *r;
	struct err e;

	assert_ok(faults_parse(&f, "files:cut@1x2", &e), &e);
	assert_ok(faults_parse(&f, "create:503", &e), &e);
	assert_ok(faults_parse(&f, "files:cut@9", &e), &e);
	for (int i = 0; i < 2; i++) {
		r = faults_find(&f, FAULT_FILES_CUT);
		assert_non_null(r);
		assert_int_equal(r->at, 1);
		assert_true(fault_act(r));
	}
	assert_false(fault_act(&f.fault[0]));
	for (int i = 0; i < 100; i++) {
		r = faults_find(&f, FAULT_FILES_CUT);
		assert_non_null(r);
		assert_int_equal(r->at, 9);
		assert_true(fault_act(r));
	}
	assert_null(faults_find(&f, FAULT_VANISH));
}

TEST(there_is_a_bound_on_rules)
{
	struct faults f = { .n = 0 };
	struct err e;

	for (int i = 0; i < FAULTS_MAX; i++)
		assert_ok(faults_parse(&f, "create:503", &e), &e);
	assert_fails(faults_parse(&f, "create:503", &e), &e, ERR_LIMIT, "more than 32 faults");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_rule_that_the_help_names_is_understood),
		cmocka_unit_test(a_rule_has_its_place_and_its_count),
		cmocka_unit_test(a_wrong_rule_is_named_with_its_fault),
		cmocka_unit_test(a_rule_acts_as_often_as_it_says_and_then_the_next_of_its_kind),
		cmocka_unit_test(there_is_a_bound_on_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
