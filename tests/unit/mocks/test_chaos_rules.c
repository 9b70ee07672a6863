/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/chaos/rules.h"
#include "protocol/base/cleanup.h"

/* The rules of a text as they would be written in full, with blanks between. */
static void assert_reads(const char *text, const char *want)
{
	struct rules r = { .n = 0 };
	struct buf got CLEANUP(buf_release);
	struct err e;

	buf_init(&got, 4096);
	assert_ok(rules_parse(&r, text, &e), &e);
	for (size_t i = 0; i < r.n; i++) {
		if (i)
			assert_ok(buf_putc(&got, ' ', &e), &e);
		assert_ok(rule_print(&r.rule[i], &got, &e), &e);
	}
	assert_string_equal(buf_cstr(&got, &e), want);
}

static void assert_refuses(const char *text, const char *why)
{
	struct rules r = { .n = 1, .rule[0] = { .kind = RULE_ONE_BYTE } };
	struct err e;

	assert_fails(rules_parse(&r, text, &e), &e, ERR_USAGE, why);
	assert_int_equal(r.n, 1);
}

TEST(every_rule_of_the_contract_is_understood)
{
	assert_reads("cut@4096", "cut@4096");
	assert_reads("cut-every 500", "cut-every 500");
	assert_reads("delay 20\xc2\xb1"
		     "5",
		     "delay 20\xc2\xb1"
		     "5");
	assert_reads("rate 64KB/s", "rate 64");
	assert_reads("stall 2000", "stall 2000");
	assert_reads("blackhole", "blackhole@0");
	assert_reads("truncate", "truncate");
	assert_reads("corrupt@100", "corrupt@100");
	assert_reads("one-byte", "one-byte");
}

TEST(what_may_be_added_is_understood)
{
	assert_reads("cut", "cut");
	assert_reads("stall 2000@77", "stall 2000@77");
	assert_reads("blackhole@1M", "blackhole@1048576");
	assert_reads("truncate@4k", "truncate@4096");
	assert_reads("cut@0", "cut@0");
	assert_reads("up:cut@5x2", "up:cut@5x2");
	assert_reads("down:delay 10", "down:delay 10");
	assert_reads("cut-every 800+-400", "cut-every 800\xc2\xb1"
					   "400");
	assert_reads("delay 2s", "delay 2000");
	assert_reads("delay 250ms+-1", "delay 250\xc2\xb1"
				       "1");
	assert_reads("delay=20", "delay 20");
	assert_reads("delay20", "delay 20");
	assert_reads("rate 64 kB/s", "rate 64");
}

TEST(several_rules_stand_in_one_text)
{
	assert_reads(" delay 20, rate 128 one-byte ,corrupt@3x1 corrupt@9 ",
		     "delay 20 rate 128 one-byte corrupt@3x1 corrupt@9");
}

TEST(a_wrong_rule_is_named_with_its_fault)
{
	assert_refuses("", "an empty rule");
	assert_refuses(" , ", "an empty rule");
	assert_refuses("cat@5",
		       "rule 'cat@5': unknown; want cut, cut-every, delay, rate, stall, blackhole, "
		       "truncate, corrupt or one-byte");
	assert_refuses("cut@", "rule 'cut@': wants a number of bytes behind @");
	assert_refuses("cut@x", "rule 'cut@x': wants a number of bytes behind @");
	assert_refuses("cut@-1", "rule 'cut@-1': wants a number of bytes behind @");
	assert_refuses("cut@99999999999999999999",
		       "rule 'cut@99999999999999999999': wants a number of bytes "
		       "behind @");
	assert_refuses("cut@5x", "rule 'cut@5x': wants a number of times behind x");
	assert_refuses("cut@5x0", "rule 'cut@5x0': wants a number of times behind x");
	assert_refuses("cut@5y", "rule 'cut@5y': has something behind it that is no part of it");
	assert_refuses("cut-every",
		       "rule 'cut-every': wants a time in milliseconds, at most a day");
	assert_refuses("cut-every 90000s",
		       "rule 'cut-every': wants a time in milliseconds, at most a day");
	assert_refuses("up:cut-every 5", "rule 'up:cut-every': has no direction");
	assert_refuses("delay 5+-6", "rule 'delay': varies by more than it is");
	assert_refuses("delay 5+-", "rule 'delay': wants a time in milliseconds behind ±");
	assert_refuses("delay 5@3", "rule 'delay': takes no @BYTES");
	assert_refuses("rate", "rule 'rate': wants a number of KB/s");
	assert_refuses("rate 0", "rule 'rate': wants a number of KB/s");
	assert_refuses("corrupt", "rule 'corrupt': wants @ and the number of a byte");
	assert_refuses("one-byte 5",
		       "rule '5': unknown; want cut, cut-every, delay, rate, stall, blackhole, "
		       "truncate, corrupt or one-byte");
	assert_refuses("delay 5 sideways:cut@5",
		       "rule 'sideways:cut@5': unknown; want cut, cut-every, delay, "
		       "rate, stall, blackhole, truncate, corrupt or one-byte");
}

TEST(more_rules_than_there_is_room_for_are_refused)
{
	struct rules r = { .n = 0 };
	struct err e;

	for (int i = 0; i < RULES_MAX; i++)
		assert_ok(rules_parse(&r, "cut@5", &e), &e);
	assert_fails(rules_parse(&r, "cut@5", &e), &e, ERR_LIMIT, "more than 32 rules");
	assert_int_equal(r.n, RULES_MAX);
}

TEST(chance_is_the_same_for_the_same_seed_and_place)
{
	struct rules a = { .n = 0, .seed = 7 }, b = { .n = 0, .seed = 7 },
		     c = { .n = 0, .seed = 8 };
	unsigned same = 0;
	struct err e;

	assert_ok(rules_parse(&a, "cut truncate stall 5", &e), &e);
	assert_ok(rules_parse(&b, "cut truncate stall 5", &e), &e);
	assert_ok(rules_parse(&c, "cut truncate stall 5", &e), &e);
	for (uint64_t conn = 1; conn < 100; conn++)
		for (size_t i = 0; i < 3; i++) {
			uint64_t at = rules_at(&a, conn, RULE_UP, i);

			assert_true(at >= 1 && at <= 65536);
			assert_true(at == rules_at(&b, conn, RULE_UP, i));
			same += at == rules_at(&c, conn, RULE_UP, i);
			same += at == rules_at(&a, conn + 1, RULE_UP, i);
			same += at == rules_at(&a, conn, RULE_DOWN, i);
			same += at == rules_at(&a, conn, RULE_UP, (i + 1) % 3);
		}
	assert_true(same < 10);
}

TEST(jitter_stays_in_its_bounds_and_reaches_them)
{
	struct rules r = { .n = 0, .seed = 1 };
	uint64_t least = UINT64_MAX, most = 0;
	struct err e;

	assert_ok(rules_parse(&r, "delay 20+-5", &e), &e);
	for (uint64_t n = 0; n < 1000; n++) {
		uint64_t ms = rules_ms(&r, 1, RULE_UP, 0, n);

		least = ms < least ? ms : least;
		most = ms > most ? ms : most;
	}
	assert_int_equal(least, 15);
	assert_int_equal(most, 25);
}

TEST(a_place_that_is_named_is_not_drawn)
{
	struct rules r = { .n = 0 };
	struct err e;

	assert_ok(rules_parse(&r, "cut@4096", &e), &e);
	for (uint64_t conn = 1; conn < 10; conn++)
		assert_int_equal(rules_at(&r, conn, RULE_DOWN, 0), 4096);
}

TEST(the_help_explains_every_rule)
{
	for (int k = 0; k < RULE_KINDS; k++)
		assert_non_null(strstr(rules_help(), rule_name((enum rule_kind)k)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_rule_of_the_contract_is_understood),
		cmocka_unit_test(what_may_be_added_is_understood),
		cmocka_unit_test(several_rules_stand_in_one_text),
		cmocka_unit_test(a_wrong_rule_is_named_with_its_fault),
		cmocka_unit_test(more_rules_than_there_is_room_for_are_refused),
		cmocka_unit_test(chance_is_the_same_for_the_same_seed_and_place),
		cmocka_unit_test(jitter_stays_in_its_bounds_and_reaches_them),
		cmocka_unit_test(a_place_that_is_named_is_not_drawn),
		cmocka_unit_test(the_help_explains_every_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
