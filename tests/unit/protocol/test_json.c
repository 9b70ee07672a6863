/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <math.h>
#include <time.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"

enum { BIG = 16 << 20 };

/* One of everything, with every kind of escape. */
static const char golden[] =
	"{ \"jsonrpc\" : \"2.0\", \"id\": 4503599627370495,\n"
	"  \"params\": {\"step\": \"b\\u00fcild\", \"argv\": [\"sh\", \"-c\", "
	"\"a\\\\b\\\"c\\/d\"],\r\n"
	"\t\"env\": {}, \"none\": [], \"deep\": [[[{\"x\": [null, true, false]}]]],\n"
	"    \"numbers\": [0, -0, -1, 10, 1.5, -2.25e3, 1E+2, 1e-7, 0.1, 123456.789],\n"
	"    \"text\": \"\\b\\f\\n\\r\\t \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 "
	"\\ud83d\\ude00\"} }";

/* Parses a copy that ends where its memory ends, so that a sanitizer sees one
 * byte read too many. */
static json *parse_n(const char *text, size_t len, struct err *e)
{
	auto_free char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	return json_parse(copy, len, BIG, 32, e);
}

static json *parse(const char *text)
{
	struct err e;
	json *v = parse_n(text, strlen(text), &e);

	if (!v)
		fail_msg("%s: %s", text, e.msg);
	return v;
}

static void assert_refused(const char *text, size_t len, const char *why)
{
	struct err e = ERR_INIT;

	assert_null(parse_n(text, len, &e));
	assert_string_equal(e.msg, why);
	assert_int_equal(e.code, ERR_PARSE);
}

static void refused(const char *text, const char *why)
{
	assert_refused(text, strlen(text), why);
}

static bool same(const json *a, const json *b)
{
	if (json_type(a) != json_type(b) || json_count(a) != json_count(b))
		return false;
	if (json_key(a) && strcmp(json_key(a), json_key(b)) != 0)
		return false;
	if (json_type(a) == JSON_STRING)
		return strcmp(json_string(a), json_string(b)) == 0;
	if (json_type(a) == JSON_NUMBER)
		return json_number(a) == json_number(b);
	if (json_is_true(a) != json_is_true(b))
		return false;
	a = json_first(a);
	b = json_first(b);
	for (; a && b; a = json_next(a), b = json_next(b))
		if (!same(a, b))
			return false;
	return !a && !b;
}

static void assert_survives(const json *v)
{
	struct buf out;
	struct err e;

	buf_init(&out, BIG);
	assert_ok(json_print(v, &out, &e), &e);
	auto_json json *again = parse_n((const char *)buf_data(&out), buf_len(&out), &e);
	if (!again)
		fail_msg("%s: %s", buf_cstr(&out, NULL), e.msg);
	if (!same(v, again))
		fail_msg("changed: %s", buf_cstr(&out, NULL));
	buf_release(&out);
}

static void assert_prints(const char *text, const char *want)
{
	auto_json json *v = parse(text);
	struct buf out;
	struct err e;

	buf_init(&out, BIG);
	assert_ok(json_print(v, &out, &e), &e);
	assert_string_equal(buf_cstr(&out, &e), want);
	buf_release(&out);
}

/* --- what is accepted --- */

TEST(the_golden_document_is_read_and_survives_printing)
{
	auto_json json *v = parse(golden);

	assert_int_equal(json_count(v), 3);
	assert_survives(v);
}

TEST(every_kind_of_value_may_stand_alone)
{
	assert_prints(" null ", "null");
	assert_prints("true", "true");
	assert_prints("false", "false");
	assert_prints("\"\"", "\"\"");
	assert_prints("-0", "0");
	assert_prints("[ ]", "[]");
	assert_prints("\t{\r\n}", "{}");
}

TEST(escapes_are_decoded)
{
	auto_json json *v = parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t"
				  "\\u0041\\u00e4\\u20AC\\uD83D\\uDE00\"");

	assert_string_equal(json_string(v),
			    "\"\\/\b\f\n\r\tA\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
}

/* --- what is refused --- */

TEST(a_document_cut_anywhere_is_refused)
{
	struct err e;

	for (size_t n = 0; n < strlen(golden); n++) {
		assert_null(parse_n(golden, n, &e));
		assert_int_equal(e.code, ERR_PARSE);
	}
}

TEST(a_document_with_any_bit_flipped_is_refused_or_survives)
{
	char text[sizeof(golden)];
	size_t accepted = 0;
	struct err e;

	memcpy(text, golden, sizeof(text));
	for (size_t i = 0; i < 8 * strlen(golden); i++) {
		text[i / 8] ^= (char)(1 << i % 8);
		auto_json json *v = parse_n(text, strlen(golden), &e);
		text[i / 8] ^= (char)(1 << i % 8);
		if (!v)
			continue;
		accepted++;
		assert_survives(v);
	}
	assert_in_range(accepted, 100, 8 * strlen(golden) - 100);
}

TEST(numbers_that_json_does_not_know_are_refused)
{
	static const char *const texts[] = {
		"01", "-01", "00", "1.", ".5", "-.5", "+1", "0x10", "0x", "1e", "1e+", "1.e3", "-",
		"--1", "1.5.2", "1e5.5", "1e5e5", "NaN", "nan", "inf", "Infinity", "-Infinity",
		"1_000", "1,5", "1f", "1 2",
	};
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_null(parse_n(texts[i], strlen(texts[i]), &e));
		assert_int_equal(e.code, ERR_PARSE);
	}
	refused("[1, 02]", "json: byte 4: a number must not start with 0");
	refused("[1.]", "json: byte 3: want a digit");
}

TEST(numbers_that_would_become_infinite_are_refused)
{
	refused("1e400", "json: byte 2: a number too large");
	refused("-1e400", "json: byte 3: a number too large");
	refused("[10e307]", "json: byte 4: a number too large");
	refused("1e99999999999999999999999", "json: byte 2: a number too large");
	assert_prints("9.9e307", "9.9e+307");
	assert_prints("1e-99999999999999", "0");
	assert_prints("99e306", "9.9e+307");
}

TEST(a_number_longer_than_cjson_can_hold_is_refused)
{
	char text[66];

	memset(text, '1', 64);
	text[64] = 0;
	refused(text, "json: byte 0: a number of more than 63 characters");
	text[63] = 0;
	auto_json json *v = parse(text);
	assert_survives(v);
}

TEST(anything_after_the_value_is_refused)
{
	refused("{\"a\":1}trailing", "json: byte 7: something after the value");
	refused("1 2", "json: byte 2: something after the value");
	refused("{}{}", "json: byte 2: something after the value");
	refused("[]]", "json: byte 2: something after the value");
	assert_refused("1\0", 2, "json: byte 1: something after the value");
	assert_refused("{}\0{}", 5, "json: byte 2: something after the value");
}

TEST(text_that_is_no_value_is_refused)
{
	refused("", "json: byte 0: the text ends too early");
	refused(" \n", "json: byte 2: the text ends too early");
	refused("nul", "json: byte 0: want a value");
	refused("True", "json: byte 0: want a value");
	refused("'a'", "json: byte 0: want a value");
	refused("/* a */ 1", "json: byte 0: want a value");
	refused("[1,]", "json: byte 3: want a value");
	refused("[,1]", "json: byte 1: want a value");
	refused("[1 2]", "json: byte 3: want a comma or the end of the object or array");
	refused("[1}", "json: byte 2: want a comma or the end of the object or array");
	refused("{\"a\":1]", "json: byte 6: want a comma or the end of the object or array");
	refused("{\"a\":1,}", "json: byte 7: want a key");
	refused("{,}", "json: byte 1: want a key");
	refused("{a:1}", "json: byte 1: want a key");
	refused("{1:1}", "json: byte 1: want a key");
	refused("{\"a\" 1}", "json: byte 5: want a colon");
	refused("{\"a\"}", "json: byte 4: want a colon");
	refused("{\"a\":}", "json: byte 5: want a value");
	refused("\v1", "json: byte 0: want a value");
	refused("\xc2\xa0" "1", "json: byte 0: want a value");
}

TEST(a_byte_order_mark_is_refused)
{
	refused("\xef\xbb\xbf{}", "json: byte 0: want a value");
}

TEST(raw_control_characters_are_refused)
{
	char text[] = "\"a?b\"";

	for (int c = 0; c < 0x20; c++) {
		text[2] = (char)c;
		assert_refused(text, 5, "json: byte 2: a control character in a string");
	}
	text[2] = 0x7f;
	auto_json json *v = parse(text);
	assert_string_equal(json_string(v), "a\x7f" "b");
}

TEST(an_escaped_nul_is_refused_in_values_and_keys)
{
	refused("\"a\\u0000b\"", "json: byte 3: \\u0000 is not allowed");
	refused("{\"a\\u0000b\":1}", "json: byte 4: \\u0000 is not allowed");
}

TEST(half_a_surrogate_pair_is_refused)
{
	refused("\"\\ud83d\"", "json: byte 7: half a surrogate pair");
	refused("\"\\ude00\"", "json: byte 2: half a surrogate pair");
	refused("\"\\ud83d\\ud83d\"", "json: byte 7: half a surrogate pair");
	refused("\"\\ud83d\\n\"", "json: byte 7: half a surrogate pair");
	refused("\"\\ud83dxxxxxx\"", "json: byte 7: half a surrogate pair");
	refused("\"\\ud83d\\u00e4\"", "json: byte 7: half a surrogate pair");
}

TEST(escapes_that_json_does_not_know_are_refused)
{
	refused("\"\\x41\"", "json: byte 2: no such escape");
	refused("\"\\'\"", "json: byte 2: no such escape");
	refused("\"\\U0041\"", "json: byte 2: no such escape");
	assert_refused("\"\\\0\"", 4, "json: byte 2: no such escape");
	refused("\"\\u12g4\"", "json: byte 2: \\u wants four hex digits");
	refused("\"\\u 123\"", "json: byte 2: \\u wants four hex digits");
	refused("\"\\u12", "json: byte 2: \\u wants four hex digits");
}

TEST(invalid_utf_8_is_refused)
{
	static const char *const texts[] = {
		"\"\x80\"", "\"\xbf\"", "\"\xc3\"", "\"\xc3(\"", "\"\xe2\x82\"", "\"\xf0\x9f\x98\"",
		"\"\xc0\x80\"", "\"\xc1\xbf\"",				/* too long */
		"\"\xe0\x80\x80\"", "\"\xe0\x9f\xbf\"", "\"\xf0\x80\x80\x80\"",
		"\"\xf0\x8f\xbf\xbf\"",
		"\"\xed\xa0\x80\"", "\"\xed\xbf\xbf\"",			/* surrogates */
		"\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xff\"", "\"\xfe\"",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		refused(texts[i], "json: byte 1: invalid UTF-8");
	refused("\"\xf0\x9f\x98", "json: byte 1: invalid UTF-8");
}

TEST(the_borders_of_utf_8_are_accepted)
{
	static const char *const texts[] = {
		"\"\xc2\x80\"", "\"\xdf\xbf\"", "\"\xe0\xa0\x80\"", "\"\xed\x9f\xbf\"",
		"\"\xee\x80\x80\"", "\"\xef\xbf\xbf\"", "\"\xf0\x90\x80\x80\"",
		"\"\xf4\x8f\xbf\xbf\"",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_prints(texts[i], texts[i]);
}

TEST(a_key_that_comes_twice_is_refused)
{
	refused("{\"a\":1,\"a\":2}", "json: byte 7: a key comes twice in one object");
	refused("{\"\":1,\"\":2}", "json: byte 6: a key comes twice in one object");
	refused("[{\"x\":{\"a\":1,\"b\":2,\"a\":3}}]",
		"json: byte 19: a key comes twice in one object");
}

TEST(keys_are_compared_after_unescaping)
{
	refused("{\"a\":1,\"\\u0061\":2}", "json: byte 7: a key comes twice in one object");
	refused("{\"\\u00e4\":1,\"\xc3\xa4\":2}", "json: byte 12: a key comes twice in one object");
	refused("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}",
		"json: byte 18: a key comes twice in one object");
	refused("{\"\\n\":1,\"\\u000a\":2}", "json: byte 8: a key comes twice in one object");
	refused("{\"\\/\":1,\"/\":2}", "json: byte 8: a key comes twice in one object");
}

TEST(keys_that_only_look_alike_are_different)
{
	assert_prints("{\"a\":1,\"A\":2,\"aa\":3,\"\":4}", "{\"a\":1,\"A\":2,\"aa\":3,\"\":4}");
	assert_prints("{\"\\\\u0061\":1,\"a\":2}", "{\"\\\\u0061\":1,\"a\":2}");
	assert_prints("{\"\\u0061\":1,\"\\u0061b\":2}", "{\"a\":1,\"ab\":2}");
}

TEST(the_same_key_in_different_objects_is_fine)
{
	const char *text = "{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}";

	assert_prints(text, text);
}

/* {"k0":0,...}, the key number `odd` replaced by that of `like` */
static char *many_keys(size_t n, size_t odd, size_t like)
{
	struct buf b;
	struct err e;

	buf_init(&b, BIG);
	assert_ok(buf_putc(&b, '{', &e), &e);
	for (size_t i = 0; i < n; i++) {
		size_t k = i == odd ? like : i;

		assert_ok(buf_printf(&b, &e, "%s\"k%zu\":0", i ? "," : "", k), &e);
	}
	assert_ok(buf_putc(&b, '}', &e), &e);
	return buf_take_str(&b, &e);
}

TEST(a_key_that_comes_twice_is_found_wherever_the_two_stand)
{
	struct err e;

	for (size_t n = 2; n < 80; n += 3) {
		for (size_t odd = 1; odd < n; odd += 2) {
			auto_free char *text = many_keys(n, odd, odd / 2);
			auto_free char *good = many_keys(n, n, 0);

			assert_int_equal(json_check(text, strlen(text), BIG, 32, &e), -1);
			assert_non_null(strstr(e.msg, "a key comes twice"));
			assert_ok(json_check(good, strlen(good), BIG, 32, &e), &e);
		}
	}
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

TEST(a_hundred_thousand_keys_take_no_quadratic_time)
{
	auto_free char *good = many_keys(100000, SIZE_MAX, 0);
	auto_free char *text = many_keys(100000, 99999, 5);
	double start = cpu_seconds();
	struct err e;

	assert_ok(json_check(good, strlen(good), BIG, 32, &e), &e);
	assert_int_equal(json_check(text, strlen(text), BIG, 32, &e), -1);
	/* 5e9 comparisons would take many seconds. */
	assert_true(cpu_seconds() - start < 3);
}

TEST(depth_is_bounded)
{
	struct err e;

	assert_ok(json_check("[[[]]]", 6, BIG, 3, &e), &e);
	assert_ok(json_check("[[{\"a\":1}],[[]]]", 16, BIG, 3, &e), &e);
	assert_fails(json_check("[[[]]]", 6, BIG, 2, &e), &e, ERR_LIMIT,
		     "json: byte 2: deeper than 2 levels");
	assert_fails(json_check("{\"a\":{\"b\":{}}}", 14, BIG, 2, &e), &e, ERR_LIMIT,
		     "json: byte 10: deeper than 2 levels");
	assert_ok(json_check("1", 1, BIG, 0, &e), &e);
}

TEST(no_more_than_64_levels_are_accepted_whatever_is_allowed)
{
	char text[130];
	struct err e;

	memset(text, '[', 65);
	memset(text + 65, ']', 65);
	assert_ok(json_check(text + 1, 128, BIG, 1000, &e), &e);
	assert_fails(json_check(text, 130, BIG, 1000, &e), &e, ERR_LIMIT,
		     "json: byte 64: deeper than 64 levels");
}

TEST(a_million_brackets_do_not_exhaust_the_stack)
{
	auto_free char *text = malloc(1000000);
	struct err e;

	memset(text, '[', 1000000);
	assert_int_equal(json_check(text, 1000000, BIG, 1000, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
}

TEST(length_is_bounded)
{
	struct err e;

	assert_ok(json_check("[1,2]", 5, 5, 2, &e), &e);
	assert_fails(json_check("[1,2]", 5, 4, 2, &e), &e, ERR_LIMIT,
		     "json: 5 bytes, the maximum is 4");
}

/* --- numbers --- */

TEST(integers_up_to_two_to_the_53_print_as_they_came)
{
	static const char *const texts[] = {
		"4503599627370495", "4503599627370496", "4503599627370497", "-4503599627370497",
		"9007199254740991", "9007199254740992", "-9007199254740991", "9007199254740990",
		"9007199254740989", "1700000000123457", "2147483648", "-2147483649", "0", "7",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_prints(texts[i], texts[i]);
}

TEST(fractions_print_as_short_as_they_can_and_come_back)
{
	assert_prints("0.1", "0.1");
	assert_prints("1.5", "1.5");
	assert_prints("0.30000000000000004", "0.30000000000000004");
	assert_prints("1e100", "1e+100");
	assert_prints("-1e-7", "-1e-07");
	assert_prints("100e-2", "1");
	auto_json json *v = parse("[5e-324,2.2250738585072014e-308,1.7976931348623157e307,1e22,"
				  "0.1234567890123456789,9007199254740993,18446744073709551615]");
	assert_survives(v);
}

TEST(random_doubles_survive_printing)
{
	uint64_t seed = 42;
	char text[64];
	struct err e;

	for (int i = 0; i < 20000; i++) {
		double v;

		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		memcpy(&v, &seed, sizeof(v));
		if (!isfinite(v) || fabs(v) >= 1e307)
			continue;
		snprintf(text, sizeof(text), "%.17g", v);
		auto_json json *parsed = parse_n(text, strlen(text), &e);
		assert_non_null(parsed);
		assert_true(json_number(parsed) == v);
		assert_survives(parsed);
	}
}

TEST(an_integer_is_taken_up_to_two_to_the_52_and_no_further)
{
	auto_json json *v = parse("{\"a\":4503599627370495,\"b\":4503599627370496,"
				  "\"c\":4503599627370497,\"d\":-4503599627370496,"
				  "\"e\":-4503599627370497,\"f\":9007199254740993}");
	int64_t n = 1;
	struct err e;

	assert_ok(json_req_int(v, "p", "a", INT64_MIN, INT64_MAX, &n, &e), &e);
	assert_true(n == INT64_C(4503599627370495));
	assert_ok(json_req_int(v, "p", "b", INT64_MIN, INT64_MAX, &n, &e), &e);
	assert_true(n == JSON_INT_MAX);
	assert_ok(json_req_int(v, "p", "d", INT64_MIN, INT64_MAX, &n, &e), &e);
	assert_true(n == -JSON_INT_MAX);
	assert_fails(json_req_int(v, "p", "c", INT64_MIN, INT64_MAX, &n, &e), &e,
		     ERR_INVALID_PARAMS,
		     "p.c: want an integer of at most 2^52, got 4503599627370497");
	assert_int_equal(json_req_int(v, "p", "e", INT64_MIN, INT64_MAX, &n, &e), -1);
	assert_int_equal(json_req_int(v, "p", "f", INT64_MIN, INT64_MAX, &n, &e), -1);
	assert_true(n == -JSON_INT_MAX);
}

TEST(an_integer_keeps_to_its_range_and_is_whole)
{
	auto_json json *v = parse("{\"a\":0,\"b\":64,\"c\":65,\"d\":1.5,\"e\":\"7\",\"f\":1e3}");
	int64_t n = -1;
	struct err e;

	assert_ok(json_req_int(v, "p", "b", 1, 64, &n, &e), &e);
	assert_int_equal(n, 64);
	assert_ok(json_req_int(v, "p", "f", 1, 1000, &n, &e), &e);
	assert_int_equal(n, 1000);
	assert_fails(json_req_int(v, "p", "a", 1, 64, &n, &e), &e, ERR_INVALID_PARAMS,
		     "p.a: want 1 to 64, got 0");
	assert_fails(json_req_int(v, "p", "c", 1, 64, &n, &e), &e, ERR_INVALID_PARAMS,
		     "p.c: want 1 to 64, got 65");
	assert_fails(json_req_int(v, "p", "d", 1, 64, &n, &e), &e, ERR_INVALID_PARAMS,
		     "p.d: want an integer of at most 2^52, got 1.5");
	assert_fails(json_opt_int(v, "p", "e", 1, 64, &n, &e), &e, ERR_INVALID_PARAMS,
		     "p.e: want a number, got a string");
}

TEST(a_64_bit_value_travels_as_a_decimal_string_or_a_safe_integer)
{
	auto_json json *v = parse("{\"a\":\"18446744073709551615\",\"b\":\"0\",\"c\":7,"
				  "\"d\":4503599627370496}");
	uint64_t n;
	struct err e;

	assert_ok(json_req_u64(v, "", "a", &n, &e), &e);
	assert_true(n == UINT64_MAX);
	assert_ok(json_req_u64(v, "", "b", &n, &e), &e);
	assert_true(n == 0);
	assert_ok(json_req_u64(v, "", "c", &n, &e), &e);
	assert_true(n == 7);
	assert_ok(json_opt_u64(v, "", "d", &n, &e), &e);
	assert_true(n == UINT64_C(4503599627370496));
	assert_ok(json_opt_u64(v, "", "absent", &n, &e), &e);
	assert_true(n == UINT64_C(4503599627370496));
}

TEST(a_64_bit_value_of_another_form_is_refused)
{
	auto_json json *v = parse("[\"18446744073709551616\",\"99999999999999999999\",\"\",\"01\","
				  "\"-1\",\"+1\",\" 1\",\"1 \",\"0x1\",\"1.0\","
				  "-1,1.5,4503599627370497,true,[]]");
	uint64_t n = 5;
	struct err e;

	for (const json *it = json_first(v); it; it = json_next(it)) {
		struct buf b;

		buf_init(&b, 100);
		assert_ok(buf_puts(&b, "{\"x\":", &e), &e);
		assert_ok(json_print(it, &b, &e), &e);
		assert_ok(buf_putc(&b, '}', &e), &e);
		auto_json json *obj = parse(buf_cstr(&b, &e));
		assert_int_equal(json_req_u64(obj, "p", "x", &n, &e), -1);
		assert_int_equal(json_opt_u64(obj, "p", "x", &n, &e), -1);
		assert_int_equal(e.code, ERR_INVALID_PARAMS);
		assert_true(strncmp(e.msg, "p.x: want ", 10) == 0);
		buf_release(&b);
	}
	assert_true(n == 5);
}

/* --- getters --- */

TEST(a_missing_key_names_its_path)
{
	auto_json json *v = parse("{\"other\":1}");
	const char *s = "before";
	const json *o;
	uint64_t u;
	int64_t n;
	struct err e;

	assert_fails(json_req_str(v, "params", "step", &s, &e), &e, ERR_INVALID_PARAMS,
		     "params.step: missing");
	assert_fails(json_req_int(v, "params", "step", 0, 1, &n, &e), &e, ERR_INVALID_PARAMS,
		     "params.step: missing");
	assert_fails(json_req_u64(v, "params", "step", &u, &e), &e, ERR_INVALID_PARAMS,
		     "params.step: missing");
	assert_fails(json_req_obj(v, "params", "step", &o, &e), &e, ERR_INVALID_PARAMS,
		     "params.step: missing");
	assert_fails(json_req_str(v, "", "step", &s, &e), &e, ERR_INVALID_PARAMS, "step: missing");
	assert_fails(json_req_str(v, NULL, "step", &s, &e), &e, ERR_INVALID_PARAMS,
		     "step: missing");
	assert_fails(json_req_str(NULL, "params", "step", &s, &e), &e, ERR_INVALID_PARAMS,
		     "params.step: missing");
	assert_string_equal(s, "before");
}

TEST(a_wrong_type_is_named_with_the_one_that_came)
{
	auto_json json *v = parse("{\"n\":1,\"s\":\"x\",\"a\":[],\"o\":{},\"b\":true,\"z\":null}");
	const char *s;
	const json *o;
	int64_t n;
	bool b;
	struct err e;

	assert_fails(json_req_str(v, "params", "n", &s, &e), &e, ERR_INVALID_PARAMS,
		     "params.n: want a string, got a number");
	assert_fails(json_opt_str(v, "params", "b", &s, &e), &e, ERR_INVALID_PARAMS,
		     "params.b: want a string, got a boolean");
	assert_fails(json_req_str(v, "params", "z", &s, &e), &e, ERR_INVALID_PARAMS,
		     "params.z: want a string, got null");
	assert_fails(json_req_int(v, "params", "s", 0, 1, &n, &e), &e, ERR_INVALID_PARAMS,
		     "params.s: want a number, got a string");
	assert_fails(json_opt_bool(v, "params", "n", &b, &e), &e, ERR_INVALID_PARAMS,
		     "params.n: want a boolean, got a number");
	assert_fails(json_req_obj(v, "params", "a", &o, &e), &e, ERR_INVALID_PARAMS,
		     "params.a: want an object, got an array");
	assert_fails(json_opt_obj(v, "params", "s", &o, &e), &e, ERR_INVALID_PARAMS,
		     "params.s: want an object, got a string");
	assert_fails(json_opt_arr(v, "params", "o", &o, &e), &e, ERR_INVALID_PARAMS,
		     "params.o: want an array, got an object");
	assert_fails(json_opt_strv(v, "params", "o", &o, &e), &e, ERR_INVALID_PARAMS,
		     "params.o: want an array, got an object");
}

TEST(parameters_that_are_no_object_are_named_themselves)
{
	auto_json json *v = parse("[1]");
	const char *s;
	struct err e;

	assert_fails(json_req_str(v, "params", "step", &s, &e), &e, ERR_INVALID_PARAMS,
		     "params: want an object, got an array");
	assert_fails(json_opt_str(v, "", "step", &s, &e), &e, ERR_INVALID_PARAMS,
		     "the value: want an object, got an array");
}

TEST(an_absent_or_null_option_leaves_the_default)
{
	auto_json json *v = parse("{\"z\":null}");
	const char *const keys[] = { "z", "absent" };
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *s = "default";
		const json *o = v, *a = v;
		int64_t n = 5;
		uint64_t u = 6;
		bool b = true;

		assert_ok(json_opt_str(v, "p", keys[i], &s, &e), &e);
		assert_ok(json_opt_int(v, "p", keys[i], 0, 9, &n, &e), &e);
		assert_ok(json_opt_u64(v, "p", keys[i], &u, &e), &e);
		assert_ok(json_opt_bool(v, "p", keys[i], &b, &e), &e);
		assert_ok(json_opt_obj(v, "p", keys[i], &o, &e), &e);
		assert_ok(json_opt_arr(v, "p", keys[i], &a, &e), &e);
		assert_string_equal(s, "default");
		assert_int_equal(n, 5);
		assert_int_equal(u, 6);
		assert_true(b);
		assert_ptr_equal(o, v);
		assert_ptr_equal(a, v);
		assert_ok(json_opt_strv(v, "p", keys[i], &a, &e), &e);
		assert_null(a);
	}
}

TEST(a_present_option_is_taken)
{
	auto_json json *v = parse("{\"s\":\"x\",\"n\":7,\"b\":false,\"o\":{\"k\":1},\"a\":[1,2]}");
	const char *s = NULL;
	const json *o = NULL, *a = NULL;
	int64_t n = 0;
	bool b = true;
	struct err e;

	assert_ok(json_opt_str(v, "p", "s", &s, &e), &e);
	assert_ok(json_opt_int(v, "p", "n", 0, 9, &n, &e), &e);
	assert_ok(json_opt_bool(v, "p", "b", &b, &e), &e);
	assert_ok(json_opt_obj(v, "p", "o", &o, &e), &e);
	assert_ok(json_opt_arr(v, "p", "a", &a, &e), &e);
	assert_string_equal(s, "x");
	assert_int_equal(n, 7);
	assert_false(b);
	assert_string_equal(json_key(json_first(o)), "k");
	assert_int_equal(json_count(a), 2);
}

TEST(a_list_of_strings_names_the_element_that_is_none)
{
	auto_json json *v = parse("{\"argv\":[\"a\",\"b\",3,\"c\"],"
				  "\"good\":[\"a\",\"b\"],\"none\":[]}");
	const json *list = NULL;
	struct err e;

	assert_fails(json_opt_strv(v, "params", "argv", &list, &e), &e, ERR_INVALID_PARAMS,
		     "params.argv[2]: want a string, got a number");
	assert_null(list);
	assert_ok(json_opt_strv(v, "params", "good", &list, &e), &e);
	assert_string_equal(json_string(json_next(json_first(list))), "b");
	assert_ok(json_opt_strv(v, "params", "none", &list, &e), &e);
	assert_int_equal(json_count(list), 0);
}

TEST(keys_are_case_sensitive)
{
	auto_json json *v = parse("{\"Step\":1,\"step\":2}");

	assert_true(json_number(json_get(v, "step")) == 2);
	assert_true(json_number(json_get(v, "Step")) == 1);
	assert_null(json_get(v, "STEP"));
}

TEST(reading_what_is_not_there_is_harmless)
{
	auto_json json *v = parse("[1,\"x\"]");

	assert_int_equal(json_type(NULL), JSON_NULL);
	assert_null(json_get(v, "x"));
	assert_null(json_get(NULL, "x"));
	assert_null(json_string(v));
	assert_null(json_string(NULL));
	assert_true(json_number(NULL) == 0);
	assert_false(json_is_true(NULL));
	assert_int_equal(json_count(NULL), 0);
	assert_null(json_first(NULL));
	assert_null(json_first(json_first(v)));
	assert_null(json_key(json_first(v)));
	json_free(NULL);
}

TEST(members_are_visited_in_their_order)
{
	auto_json json *v = parse("{\"b\":1,\"a\":2,\"c\":3}");
	char order[8] = "";

	for (const json *it = json_first(v); it; it = json_next(it))
		strncat(order, json_key(it), 1);
	assert_string_equal(order, "bac");
}

TEST(types_have_names_for_messages)
{
	assert_string_equal(json_type_name(JSON_NULL), "null");
	assert_string_equal(json_type_name(JSON_BOOL), "a boolean");
	assert_string_equal(json_type_name(JSON_OBJECT), "an object");
	assert_string_equal(json_type_name((enum json_type)77), "nothing");
}

/* --- raw members --- */

static void assert_raw(const char *text, const char *key, const char *want)
{
	size_t len = 0;
	auto_free char *copy = malloc(strlen(text));
	const char *got;
	struct err e;

	assert_ok(json_check(text, strlen(text), BIG, 32, &e), &e);
	memcpy(copy, text, strlen(text));
	got = json_raw_member(copy, strlen(text), key, &len);
	if (!want) {
		assert_null(got);
		return;
	}
	assert_non_null(got);
	assert_int_equal(len, strlen(want));
	assert_memory_equal(got, want, len);
}

TEST(a_raw_member_is_the_text_as_it_came)
{
	assert_raw("{\"id\":12345678901234567890}", "id", "12345678901234567890");
	assert_raw(" { \"id\" : 1.50 , \"x\":2}", "id", "1.50");
	assert_raw("{\"a\":{\"id\":1},\"id\":2}", "id", "2");
	assert_raw("{\"a\":\"\\\"id\\\":3}\",\"id\":\"x\\\"]}\"\n}", "id", "\"x\\\"]}\"");
	assert_raw("{\"id\":[1,{\"b\":\"]\"}] ,\"c\":1}", "id", "[1,{\"b\":\"]\"}]");
	assert_raw("{\"i\\u0064\":null}", "id", "null");
	assert_raw("{\"idx\":1,\"i\":2}", "id", NULL);
	assert_raw("{}", "id", NULL);
	assert_raw("[\"id\",1]", "id", NULL);
	assert_raw("7", "id", NULL);
}

TEST(every_member_of_the_golden_document_is_found_raw)
{
	auto_json json *v = parse(golden);
	struct err e;

	for (const json *it = json_first(v); it; it = json_next(it)) {
		size_t len;
		const char *raw = json_raw_member(golden, strlen(golden), json_key(it), &len);

		assert_non_null(raw);
		auto_json json *again = parse_n(raw, len, &e);
		assert_non_null(again);
		assert_int_equal(json_count(again), json_count(it));
	}
}

TEST(a_raw_member_of_text_that_is_cut_reads_nothing_behind_it)
{
	for (size_t n = 0; n < strlen(golden); n++) {
		auto_free char *copy = malloc(n ? n : 1);
		size_t len = 0;

		memcpy(copy, golden, n);
		const char *got = json_raw_member(copy, n, "params", &len);
		assert_true(!got || (got >= copy && got + len <= copy + n));
	}
}

/* --- printing --- */

TEST(sorted_text_is_the_same_for_every_order_of_keys)
{
	auto_json json *a = parse("{\"b\":{\"y\":1,\"x\":[{\"q\":1,\"p\":2}]},"
				  "\"a\":2,\"B\":3,\"\":4}");
	auto_json json *b = parse("{\"\":4,\"B\":3,\"a\":2,"
				  "\"b\":{\"x\":[{\"p\":2,\"q\":1}],\"y\":1}}");
	struct buf x, y;
	struct err e;

	buf_init(&x, 1000);
	buf_init(&y, 1000);
	assert_ok(json_print_sorted(a, &x, &e), &e);
	assert_ok(json_print_sorted(b, &y, &e), &e);
	assert_string_equal(buf_cstr(&x, &e), buf_cstr(&y, &e));
	assert_string_equal(buf_cstr(&x, &e),
			    "{\"\":4,\"B\":3,\"a\":2,\"b\":{\"x\":[{\"p\":2,\"q\":1}],\"y\":1}}");
	buf_release(&x);
	buf_release(&y);
}

TEST(keys_sort_by_their_bytes)
{
	auto_json json *v = parse("{\"\xc3\xa4\":1,\"z\":2,"
				  "\"\xf0\x9f\x98\x80\":3,\"\xef\xbf\xbf\":4}");
	struct buf out;
	struct err e;

	buf_init(&out, 1000);
	assert_ok(json_print_sorted(v, &out, &e), &e);
	assert_string_equal(buf_cstr(&out, &e),
			    "{\"z\":2,\"\xc3\xa4\":1,\"\xef\xbf\xbf\":4,\"\xf0\x9f\x98\x80\":3}");
	buf_release(&out);
}

TEST(a_print_that_does_not_fit_leaves_the_buffer_as_it_was)
{
	auto_json json *v = parse("{\"a\":\"0123456789\"}");
	struct buf out;
	struct err e;

	buf_init(&out, 12);
	assert_ok(buf_puts(&out, "kept", &e), &e);
	assert_int_equal(json_print(v, &out, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_int_equal(json_print_sorted(v, &out, &e), -1);
	assert_string_equal(buf_cstr(&out, &e), "kept");
	buf_release(&out);
}

/* --- the writer --- */

TEST(the_writer_sets_commas_and_nests)
{
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 1000);
	jw_init(&w, &out);
	jw_obj(&w);
	jw_kstr(&w, "a", "x");
	jw_kint(&w, "b", INT64_MIN);
	jw_ku64s(&w, "c", UINT64_MAX);
	jw_kbool(&w, "d", true);
	jw_karr(&w, "e");
	jw_int(&w, 1);
	jw_obj(&w);
	jw_end(&w);
	jw_arr(&w);
	jw_end(&w);
	jw_null(&w);
	jw_end(&w);
	jw_kobj(&w, "f");
	jw_kstr(&w, "g", NULL);
	jw_end(&w);
	jw_key(&w, "h");
	jw_raw(&w, "[1.50]", 6);
	jw_knum(&w, "i", 0.25);
	jw_end(&w);
	assert_ok(jw_done(&w, &e), &e);
	assert_string_equal(buf_cstr(&out, &e),
			    "{\"a\":\"x\",\"b\":-9223372036854775808,"
			    "\"c\":\"18446744073709551615\",\"d\":true,\"e\":[1,{},[],null],"
			    "\"f\":{\"g\":null},\"h\":[1.50],\"i\":0.25}");
	buf_release(&out);
}

TEST(the_writer_takes_parsed_values)
{
	auto_json json *v = parse("{\"a\":[1,{\"b\":\"c\"}]}");
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 1000);
	jw_init(&w, &out);
	jw_arr(&w);
	jw_json(&w, v);
	jw_json(&w, NULL);
	jw_obj(&w);
	jw_kjson(&w, "k", json_get(v, "a"));
	jw_end(&w);
	jw_end(&w);
	assert_ok(jw_done(&w, &e), &e);
	assert_string_equal(buf_cstr(&out, &e),
			    "[{\"a\":[1,{\"b\":\"c\"}]},null,{\"k\":[1,{\"b\":\"c\"}]}]");
	buf_release(&out);
}

static void assert_writes_str(const char *s, size_t n, const char *want)
{
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 1000);
	jw_init(&w, &out);
	jw_strn(&w, s, n);
	assert_ok(jw_done(&w, &e), &e);
	assert_string_equal(buf_cstr(&out, &e), want);
	buf_release(&out);
}

TEST(written_strings_are_escaped)
{
	assert_writes_str("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
	assert_writes_str("\b\f\n\r\t\x01\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
	assert_writes_str("\xc3\xa4\xf0\x9f\x98\x80", 6, "\"\xc3\xa4\xf0\x9f\x98\x80\"");
	assert_writes_str(NULL, 0, "\"\"");
}

TEST(bytes_that_are_no_text_become_replacement_characters)
{
	assert_writes_str("a\xff" "b", 3, "\"a\xef\xbf\xbd" "b\"");
	assert_writes_str("\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	assert_writes_str("a\0b", 3, "\"a\xef\xbf\xbd" "b\"");
	assert_writes_str("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

TEST(whatever_string_is_written_is_read_again)
{
	char bytes[2];
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 100);
	for (int i = 0; i < 65536; i++) {
		bytes[0] = (char)(i >> 8);
		bytes[1] = (char)i;
		buf_reset(&out);
		jw_init(&w, &out);
		jw_obj(&w);
		jw_key(&w, "k");
		jw_strn(&w, bytes, 2);
		jw_end(&w);
		assert_ok(jw_done(&w, &e), &e);
		assert_ok(json_check((const char *)buf_data(&out), buf_len(&out), BIG, 32, &e), &e);
	}
	buf_release(&out);
}

static void assert_writes_num(double v, const char *want)
{
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 1000);
	jw_init(&w, &out);
	jw_num(&w, v);
	assert_ok(jw_done(&w, &e), &e);
	assert_string_equal(buf_cstr(&out, &e), want);
	buf_release(&out);
}

TEST(written_numbers_have_three_decimals_at_most)
{
	assert_writes_num(0, "0");
	assert_writes_num(1.0 / 3, "0.333");
	assert_writes_num(-12.5, "-12.5");
	assert_writes_num(0.0001, "0");
	assert_writes_num(-0.0001, "0");
	assert_writes_num(0.9999, "1");
	assert_writes_num(100, "100");
	assert_writes_num(1e300, "1e+300");
	assert_writes_num(1700000000123456.0, "1700000000123456");
	assert_writes_num(NAN, "null");
	assert_writes_num(INFINITY, "null");
	assert_writes_num(-INFINITY, "null");
}

TEST(a_writer_whose_buffer_is_full_says_so_once_at_the_end)
{
	struct buf out;
	struct jw w;
	struct err e = ERR_INIT;

	buf_init(&out, 10);
	jw_init(&w, &out);
	jw_arr(&w);
	for (int i = 0; i < 100; i++)
		jw_int(&w, i);
	jw_end(&w);
	assert_int_equal(jw_done(&w, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_true(buf_len(&out) <= 10);
	buf_release(&out);
}

TEST(a_writer_nests_64_levels_and_no_more)
{
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 1000);
	for (int levels = 64; levels <= 65; levels++) {
		jw_init(&w, &out);
		for (int i = 0; i < levels; i++)
			jw_arr(&w);
		for (int i = 0; i < levels; i++)
			jw_end(&w);
		if (levels == 64)
			assert_ok(jw_done(&w, &e), &e);
	}
	assert_fails(jw_done(&w, &e), &e, ERR_LIMIT, "json: deeper than 64 levels");
	buf_release(&out);
}

TEST(a_writer_used_in_the_wrong_order_fails)
{
	struct buf out;
	struct jw w;
	struct err e;

	buf_init(&out, 1000);
	jw_init(&w, &out);
	jw_obj(&w);
	jw_int(&w, 1);
	jw_end(&w);
	assert_fails(jw_done(&w, &e), &e, ERR_INTERNAL, "json: a value without a key");
	jw_init(&w, &out);
	jw_obj(&w);
	jw_key(&w, "a");
	jw_end(&w);
	assert_fails(jw_done(&w, &e), &e, ERR_INTERNAL, "json: a key without a value");
	jw_init(&w, &out);
	jw_arr(&w);
	jw_key(&w, "a");
	jw_end(&w);
	assert_fails(jw_done(&w, &e), &e, ERR_INTERNAL, "json: a key where none can be");
	jw_init(&w, &out);
	jw_arr(&w);
	assert_fails(jw_done(&w, &e), &e, ERR_INTERNAL, "json: an object or array was not ended");
	jw_init(&w, &out);
	jw_end(&w);
	assert_fails(jw_done(&w, &e), &e, ERR_INTERNAL, "json: nothing to end");
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_golden_document_is_read_and_survives_printing),
		cmocka_unit_test(every_kind_of_value_may_stand_alone),
		cmocka_unit_test(escapes_are_decoded),
		cmocka_unit_test(a_document_cut_anywhere_is_refused),
		cmocka_unit_test(a_document_with_any_bit_flipped_is_refused_or_survives),
		cmocka_unit_test(numbers_that_json_does_not_know_are_refused),
		cmocka_unit_test(numbers_that_would_become_infinite_are_refused),
		cmocka_unit_test(a_number_longer_than_cjson_can_hold_is_refused),
		cmocka_unit_test(anything_after_the_value_is_refused),
		cmocka_unit_test(text_that_is_no_value_is_refused),
		cmocka_unit_test(a_byte_order_mark_is_refused),
		cmocka_unit_test(raw_control_characters_are_refused),
		cmocka_unit_test(an_escaped_nul_is_refused_in_values_and_keys),
		cmocka_unit_test(half_a_surrogate_pair_is_refused),
		cmocka_unit_test(escapes_that_json_does_not_know_are_refused),
		cmocka_unit_test(invalid_utf_8_is_refused),
		cmocka_unit_test(the_borders_of_utf_8_are_accepted),
		cmocka_unit_test(a_key_that_comes_twice_is_refused),
		cmocka_unit_test(keys_are_compared_after_unescaping),
		cmocka_unit_test(keys_that_only_look_alike_are_different),
		cmocka_unit_test(the_same_key_in_different_objects_is_fine),
		cmocka_unit_test(a_key_that_comes_twice_is_found_wherever_the_two_stand),
		cmocka_unit_test(a_hundred_thousand_keys_take_no_quadratic_time),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(no_more_than_64_levels_are_accepted_whatever_is_allowed),
		cmocka_unit_test(a_million_brackets_do_not_exhaust_the_stack),
		cmocka_unit_test(length_is_bounded),
		cmocka_unit_test(integers_up_to_two_to_the_53_print_as_they_came),
		cmocka_unit_test(fractions_print_as_short_as_they_can_and_come_back),
		cmocka_unit_test(random_doubles_survive_printing),
		cmocka_unit_test(an_integer_is_taken_up_to_two_to_the_52_and_no_further),
		cmocka_unit_test(an_integer_keeps_to_its_range_and_is_whole),
		cmocka_unit_test(a_64_bit_value_travels_as_a_decimal_string_or_a_safe_integer),
		cmocka_unit_test(a_64_bit_value_of_another_form_is_refused),
		cmocka_unit_test(a_missing_key_names_its_path),
		cmocka_unit_test(a_wrong_type_is_named_with_the_one_that_came),
		cmocka_unit_test(parameters_that_are_no_object_are_named_themselves),
		cmocka_unit_test(an_absent_or_null_option_leaves_the_default),
		cmocka_unit_test(a_present_option_is_taken),
		cmocka_unit_test(a_list_of_strings_names_the_element_that_is_none),
		cmocka_unit_test(keys_are_case_sensitive),
		cmocka_unit_test(reading_what_is_not_there_is_harmless),
		cmocka_unit_test(members_are_visited_in_their_order),
		cmocka_unit_test(types_have_names_for_messages),
		cmocka_unit_test(a_raw_member_is_the_text_as_it_came),
		cmocka_unit_test(every_member_of_the_golden_document_is_found_raw),
		cmocka_unit_test(a_raw_member_of_text_that_is_cut_reads_nothing_behind_it),
		cmocka_unit_test(sorted_text_is_the_same_for_every_order_of_keys),
		cmocka_unit_test(keys_sort_by_their_bytes),
		cmocka_unit_test(a_print_that_does_not_fit_leaves_the_buffer_as_it_was),
		cmocka_unit_test(the_writer_sets_commas_and_nests),
		cmocka_unit_test(the_writer_takes_parsed_values),
		cmocka_unit_test(written_strings_are_escaped),
		cmocka_unit_test(bytes_that_are_no_text_become_replacement_characters),
		cmocka_unit_test(whatever_string_is_written_is_read_again),
		cmocka_unit_test(written_numbers_have_three_decimals_at_most),
		cmocka_unit_test(a_writer_whose_buffer_is_full_says_so_once_at_the_end),
		cmocka_unit_test(a_writer_nests_64_levels_and_no_more),
		cmocka_unit_test(a_writer_used_in_the_wrong_order_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
