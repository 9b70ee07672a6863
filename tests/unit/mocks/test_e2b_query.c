/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/query.h"
#include "protocol/base/cleanup.h"

static void assert_gets(const char *query, const char *key, const char *want)
{
	struct buf got CLEANUP(buf_release);
	struct err e;

	buf_init(&got, 256);
	assert_int_equal(query_get(query, key, &got, &e), want ? 1 : 0);
	if (want)
		assert_string_equal(buf_cstr(&got, &e), want);
}

TEST(values_are_found_and_decoded_once)
{
	assert_gets("a=1&b=2", "b", "2");
	assert_gets("a=1&&b=x%20y+z", "b", "x y z");
	assert_gets("metadata=k%3Dv%252520w", "metadata", "k=v%2520w");
	assert_gets("%61=1", "a", "1");
	assert_gets("a=1=2", "a", "1=2");
	assert_gets("a", "a", "");
	assert_gets("a=", "a", "");
	assert_gets("a=1&a=2", "a", "1");
	assert_gets("aa=1", "a", NULL);
	assert_gets("", "a", NULL);
	assert_gets("=1&%zz=2", "a", NULL);
}

TEST(a_value_that_cannot_be_decoded_is_an_error)
{
	struct buf got CLEANUP(buf_release);
	struct err e;

	buf_init(&got, 256);
	assert_fails(query_get("a=%", "a", &got, &e), &e, ERR_PARSE,
		     "query parameter 'a': '%' at byte 0: want two hex digits behind it");
	assert_fails(query_get("a=xx%1", "a", &got, &e), &e, ERR_PARSE,
		     "query parameter 'a': '%' at byte 2: want two hex digits behind it");
	assert_fails(query_get("a=%1g", "a", &got, &e), &e, ERR_PARSE,
		     "query parameter 'a': '%' at byte 0: want two hex digits behind it");
	assert_fails(query_get("a=%00", "a", &got, &e), &e, ERR_PARSE,
		     "query parameter 'a': a NUL byte");
}

TEST(what_is_encoded_decodes_to_the_same)
{
	struct buf coded CLEANUP(buf_release), got CLEANUP(buf_release);
	char all[256];
	struct err e;

	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = 0;
	buf_init(&coded, 1024);
	buf_init(&got, 1024);
	assert_ok(url_encode(all, NULL, &coded, &e), &e);
	assert_null(strpbrk(buf_cstr(&coded, &e), " +&=/?"));
	assert_ok(url_decode(buf_cstr(&coded, &e), buf_len(&coded), true, &got, &e), &e);
	assert_string_equal(buf_cstr(&got, &e), all);
	buf_reset(&coded);
	assert_ok(url_encode("/a b", "/", &coded, &e), &e);
	assert_string_equal(buf_cstr(&coded, &e), "/a%20b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_found_and_decoded_once),
		cmocka_unit_test(a_value_that_cannot_be_decoded_is_an_error),
		cmocka_unit_test(what_is_encoded_decodes_to_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
