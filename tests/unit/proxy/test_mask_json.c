/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "proxy/mask_json.h"

static void assert_masked(const struct mask_set *m, const char *text, const char *want)
{
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 4096);
	assert_ok(mask_json(m, text, strlen(text), &out, &e), &e);
	assert_string_equal(buf_cstr(&out, NULL), want);
	buf_release(&out);
}

static struct mask_set *secrets(void)
{
	struct mask_set *m = mask_set_new();

	assert_int_equal(mask_set_add(m, "pass\"word\\\n1", true, NULL), 0);
	assert_int_equal(mask_set_add(m, "4711", true, NULL), 0);
	assert_int_equal(mask_set_add(m, "rue", true, NULL), 0);
	return m;
}

TEST(a_secret_is_masked_before_it_was_escaped)
{
	struct mask_set *m = secrets();

	assert_masked(m, "{\"a\":\"is pass\\\"word\\\\\\n1!\",\"b\":[\"4711\",{\"c\":\"x4711\"}]}",
	              "{\"a\":\"is " MASK_TEXT "!\",\"b\":[\"" MASK_TEXT "\",{\"c\":\"x" MASK_TEXT
	              "\"}]}");
	mask_set_free(m);
}

TEST(what_is_no_string_stays_json)
{
	struct mask_set *m = secrets();

	assert_masked(m, "{\"size\":14711,\"ok\":true,\"none\":null,\"f\":0.4711}",
	              "{\"size\":14711,\"ok\":true,\"none\":null,\"f\":0.4711}");
	mask_set_free(m);
}

TEST(names_are_masked_and_stay_apart)
{
	struct mask_set *m = secrets();

	assert_masked(m, "{\"4711\":1,\"x4711\":2,\"y\":3}",
	              "{\"" MASK_TEXT "\":1,\"" MASK_TEXT "-2\":2,\"y\":3}");
	mask_set_free(m);
}

TEST(without_secrets_the_text_stays_as_it_is)
{
	assert_masked(NULL, "{ \"a\" : 1 }", "{ \"a\" : 1 }");
}

TEST(what_is_no_json_is_an_error)
{
	struct mask_set *m = secrets();
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 4096);
	assert_int_equal(mask_json(m, "{\"a\":", 5, &out, &e), -1);
	assert_int_equal(e.code, ERR_PARSE);
	buf_release(&out);
	buf_init(&out, 8);
	assert_int_equal(mask_json(m, "[\"4711\"]", 8, &out, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	buf_release(&out);
	mask_set_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_secret_is_masked_before_it_was_escaped),
		cmocka_unit_test(what_is_no_string_stays_json),
		cmocka_unit_test(names_are_masked_and_stay_apart),
		cmocka_unit_test(without_secrets_the_text_stays_as_it_is),
		cmocka_unit_test(what_is_no_json_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
