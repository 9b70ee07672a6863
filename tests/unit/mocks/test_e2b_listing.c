/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/listing.h"
#include "protocol/base/cleanup.h"

static bool fits(const char *text, const char *metadata)
{
	struct filter f CLEANUP(filter_release) = { 0 };
	auto_json json *doc = json_parse(metadata, strlen(metadata), 4096, 8, NULL);
	struct err e;

	assert_non_null(doc);
	assert_ok(filter_parse(text, &f, &e), &e);
	return filter_fits(&f, doc);
}

static void assert_refuses(const char *text)
{
	struct filter f CLEANUP(filter_release) = { 0 };
	struct err e = ERR_INIT;

	assert_true(filter_parse(text, &f, &e) < 0);
	assert_int_equal(e.code, ERR_PARSE);
}

TEST(a_filter_is_decoded_once_as_a_whole_and_once_in_its_parts)
{
	assert_true(fits("k=v%2520w", "{\"k\":\"v w\"}"));	/* as the SDK's, decoded once */
	assert_true(fits("k=v", "{\"k\":\"v\",\"l\":\"w\"}"));
	assert_true(fits("a%253Db=c%2526d", "{\"a=b\":\"c&d\"}"));
	assert_true(fits("k=a%252Bb", "{\"k\":\"a+b\"}"));
	assert_true(fits("k=a%2Bb", "{\"k\":\"a b\"}"));
	assert_true(fits("k%3Dv", "{\"k\":\"v\"}"));
}

TEST(a_filter_fits_only_what_has_all_its_pairs)
{
	assert_true(fits("a=1&b=2", "{\"b\":\"2\",\"a\":\"1\",\"c\":\"3\"}"));
	assert_false(fits("a=1&b=2", "{\"a\":\"1\"}"));
	assert_false(fits("a=1", "{\"a\":\"2\"}"));
	assert_false(fits("a=1", "{}"));
}

TEST(pairs_with_an_empty_side_or_a_bare_equals_sign_are_refused)
{
	assert_refuses("");
	assert_refuses("a");
	assert_refuses("a=");
	assert_refuses("=b");
	assert_refuses("a=b=c");
	assert_refuses("a=b&");
	assert_refuses("a=%25zz");
	assert_refuses("%zz");
}

TEST(there_is_a_bound_on_pairs)
{
	struct filter f CLEANUP(filter_release) = { 0 };
	struct err e = ERR_INIT;
	char text[FILTER_MAX * 4 + 8] = "a=b";

	for (int i = 1; i < FILTER_MAX; i++)
		memcpy(text + strlen(text), "&a=b", 5);
	assert_ok(filter_parse(text, &f, &e), &e);
	assert_int_equal(f.n, FILTER_MAX);
	filter_release(&f);
	memcpy(text + strlen(text), "&a=b", 5);
	assert_true(filter_parse(text, &f, &e) < 0);
	assert_int_equal(e.code, ERR_LIMIT);
}

static void assert_round_trip(uint64_t us, const char *id, bool ascending)
{
	struct page_token t = { .us = us, .ascending = ascending }, back;
	struct buf text CLEANUP(buf_release);
	struct err e;

	snprintf(t.id, sizeof(t.id), "%s", id);
	buf_init(&text, 1024);
	assert_ok(page_token_print(&t, &text, &e), &e);
	assert_ok(page_token_parse(buf_cstr(&text, &e), ascending, &back, &e), &e);
	assert_int_equal(back.us, us);
	assert_string_equal(back.id, id);
	assert_int_equal(back.ascending, ascending);
	assert_fails(page_token_parse(buf_cstr(&text, &e), !ascending, &back, &e), &e, ERR_PARSE,
		     "Invalid next token");
	assert_null(strpbrk(buf_cstr(&text, &e), "+/"));
}

TEST(a_page_token_comes_back_as_it_went_and_only_in_its_own_order)
{
	assert_round_trip(UINT64_C(1762077072123456), "i0123456789abcdefghij", false);
	assert_round_trip(UINT64_C(1762077072123456), "i0123456789abcdefghij", true);
	assert_round_trip(0, "i", false);
}

TEST(what_is_no_page_token_is_refused)
{
	static const char *const texts[] = { "", "a", "!!!!", "bm90aGluZw==",
					     /* time__id__desc, and a time that is none */
					     "MjAyNi0xMS0wMlQxMDoxMToxMi4xMjM0NTZaX19pX19kZXNj",
					     "eWVzdGVyZGF5X19p" };
	struct page_token t;
	struct err e;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_fails(page_token_parse(texts[i], false, &t, &e), &e, ERR_PARSE,
			     "Invalid next token");
}

TEST(times_are_read_with_fractions_and_offsets)
{
	uint64_t us, other;
	struct err e;

	assert_ok(time_parse("1970-01-01T00:00:01Z", &us, &e), &e);
	assert_int_equal(us, 1000000);
	assert_ok(time_parse("1970-01-01T00:00:01.5Z", &us, &e), &e);
	assert_int_equal(us, 1500000);
	assert_ok(time_parse("2026-11-02T10:11:12.123456789Z", &us, &e), &e);
	assert_ok(time_parse("2026-11-02T12:11:12.123456+02:00", &other, &e), &e);
	assert_int_equal(us, other);
	assert_true(time_parse("2026-11-02", &us, NULL) < 0);
	assert_true(time_parse("2026-11-02T10:11:12", &us, NULL) < 0);
	assert_true(time_parse("2026-11-02T10:11:12Zx", &us, NULL) < 0);
	assert_true(time_parse("tomorrow", &us, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_filter_is_decoded_once_as_a_whole_and_once_in_its_parts),
		cmocka_unit_test(a_filter_fits_only_what_has_all_its_pairs),
		cmocka_unit_test(pairs_with_an_empty_side_or_a_bare_equals_sign_are_refused),
		cmocka_unit_test(there_is_a_bound_on_pairs),
		cmocka_unit_test(a_page_token_comes_back_as_it_went_and_only_in_its_own_order),
		cmocka_unit_test(what_is_no_page_token_is_refused),
		cmocka_unit_test(times_are_read_with_fractions_and_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
