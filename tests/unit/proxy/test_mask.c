/* SPDX-License-Identifier: Apache-2.0
 *
 * What is masked is compared with a plain search that knows the whole text. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"
#include "proxy/mask.h"

#define M MASK_TEXT

/* The values of a set, NULL-ended; all of them named by --secret. */
static struct mask_set *set_of(const char *const *values)
{
	struct mask_set *m = mask_set_new();
	struct err e = ERR_INIT;

	assert_non_null(m);
	for (; *values; values++)
		assert_ok(mask_set_add(m, *values, true, &e), &e);
	return m;
}

#define SET(...) set_of((const char *const[]){ __VA_ARGS__, NULL })

static void feed(struct mask *k, const char *p, size_t n, struct buf *out)
{
	struct err e = ERR_INIT;

	assert_ok(mask_feed(k, p, n, out, &e), &e);
}

static void finish(struct mask *k, struct buf *out)
{
	struct err e = ERR_INIT;

	assert_ok(mask_finish(k, out, &e), &e);
}

static void assert_masked(const struct mask_set *m, const char *text, const char *want)
{
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 64 * 1024);
	assert_ok(mask_text(m, text, strlen(text), &out, &e), &e);
	assert_string_equal(buf_cstr(&out, NULL), want);
	buf_release(&out);
}

/* Cut in two at every place, and into pieces of every length. */
static void assert_masked_cut(const struct mask_set *m, const char *text, const char *want)
{
	size_t n = strlen(text);
	struct mask k;
	struct buf out;

	assert_masked(m, text, want);
	for (size_t at = 0; at <= n; at++) {
		buf_init(&out, 64 * 1024);
		mask_init(&k, m);
		feed(&k, text, at, &out);
		feed(&k, text + at, n - at, &out);
		finish(&k, &out);
		assert_string_equal(buf_cstr(&out, NULL), want);
		mask_release(&k);
		buf_release(&out);
	}
	for (size_t piece = 1; piece < n; piece++) {
		buf_init(&out, 64 * 1024);
		mask_init(&k, m);
		for (size_t at = 0; at < n; at += piece)
			feed(&k, text + at, n - at < piece ? n - at : piece, &out);
		finish(&k, &out);
		assert_string_equal(buf_cstr(&out, NULL), want);
		mask_release(&k);
		buf_release(&out);
	}
}

TEST(a_secret_is_masked_wherever_it_stands_and_however_the_text_is_cut)
{
	struct mask_set *m = SET("hunter2hunter2");

	assert_masked_cut(m, "the password is hunter2hunter2, and hunter2hunter2.",
	                  "the password is " M ", and " M ".");
	assert_masked_cut(m, "hunter2hunter2", M);
	assert_masked_cut(m, "hunter2hunter2x", M "x");
	assert_masked_cut(m, "xhunter2hunter2", "x" M);
	assert_masked_cut(m, "hunter2hunter", "hunter2hunter");
	assert_masked_cut(m, "hunter2hunter1", "hunter2hunter1");
	assert_masked_cut(m, "hunter2hunter2hunter2hunter2", M);
	assert_masked_cut(m, "", "");
	mask_set_free(m);
}

TEST(secrets_that_overlap_become_one_mask)
{
	struct mask_set *m = SET("abcdefgh", "efghijkl", "ghijklmnop");

	assert_masked_cut(m, ".abcdefghijklmnop.", "." M ".");
	assert_masked_cut(m, ".abcdefghijkl.", "." M ".");
	assert_masked_cut(m, ".abcdefghabcdefgh.", "." M M ".");
	mask_set_free(m);
	m = SET("aaaaaaaa");
	assert_masked_cut(m, "aaaaaaa", "aaaaaaa");
	assert_masked_cut(m, "-aaaaaaaaaaa-", "-" M "-");
	mask_set_free(m);
}

TEST(a_secret_inside_of_another_is_masked_with_or_without_it)
{
	struct mask_set *m = SET("pin", "my-pin-code");

	assert_masked_cut(m, "my-pin-code pin my-pin-cod", M " " M " my-" M "-cod");
	mask_set_free(m);
	m = SET("abcdefghij", "cdef");
	assert_masked_cut(m, "abcdefghi", "ab" M "ghi");
	mask_set_free(m);
}

TEST(a_beginning_that_comes_to_nothing_is_given_back_whole)
{
	struct mask_set *m = SET("aaaaaaab", "aabaab");

	assert_masked_cut(m, "aaaaaac aabaaaabaab", "aaaaaac aabaa" M);
	mask_set_free(m);
}

TEST(any_bytes_may_be_a_secret)
{
	struct mask_set *m = SET("\xff\xfe\x01\x80\n\r\t\"", "caf\xc3\xa9-caf\xc3\xa9");

	assert_masked_cut(m, "<\xff\xfe\x01\x80\n\r\t\">caf\xc3\xa9-caf\xc3\xa9<", "<" M ">" M "<");
	mask_set_free(m);
}

TEST(a_text_with_nul_bytes_is_masked_behind_them_too)
{
	static const char text[] = "a\0secret-value\0b";
	struct mask_set *m = SET("secret-value");
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 100);
	assert_ok(mask_text(m, text, sizeof(text) - 1, &out, &e), &e);
	assert_int_equal(buf_len(&out), 2 + strlen(M) + 2);
	assert_memory_equal(buf_data(&out), "a\0" M "\0b", buf_len(&out));
	buf_release(&out);
	mask_set_free(m);
}

TEST(a_short_value_is_masked_only_when_it_was_named_as_secret)
{
	struct mask_set *m = mask_set_new();
	struct err e = ERR_INIT;

	assert_ok(mask_set_add(m, "seven77", false, &e), &e);
	assert_true(mask_set_empty(m));
	assert_masked(m, "seven77", "seven77");
	assert_ok(mask_set_add(m, "eight888", false, &e), &e);
	assert_masked(m, "seven77 eight888", "seven77 " M);
	assert_ok(mask_set_add(m, "seven77", true, &e), &e);
	assert_masked(m, "seven77 eight888", M " " M);
	assert_ok(mask_set_add(m, "x", true, &e), &e);
	assert_masked(m, "axb", "a" M "b");
	assert_ok(mask_set_add(m, "", true, &e), &e); /* never */
	assert_masked(m, "ab", "ab");
	mask_set_free(m);
}

TEST(without_secrets_everything_passes_as_it_is)
{
	struct mask_set *m = mask_set_new();

	assert_true(mask_set_empty(NULL));
	assert_true(mask_set_empty(m));
	assert_masked(NULL, "anything", "anything");
	assert_masked(m, "anything", "anything");
	mask_set_free(m);
	mask_set_free(NULL);
}

/* A quote in a secret is still a secret after it was escaped: masking comes first. */
TEST(masking_comes_before_escaping)
{
	struct mask_set *m = SET("pass\"word\\with\nall");
	struct err e = ERR_INIT;
	struct buf masked, out;
	struct jw w;

	buf_init(&masked, 200);
	buf_init(&out, 200);
	assert_ok(mask_text(m, "say pass\"word\\with\nall!", 23, &masked, &e), &e);
	jw_init(&w, &out);
	jw_str(&w, buf_cstr(&masked, NULL));
	assert_ok(jw_done(&w, &e), &e);
	assert_string_equal(buf_cstr(&out, NULL), "\"say " M "!\"");
	buf_release(&masked);
	buf_release(&out);
	mask_set_free(m);
}

TEST(only_what_may_begin_a_secret_is_held_back)
{
	struct mask_set *m = SET("abcdefgh");
	struct mask k;
	struct buf out;

	buf_init(&out, 1000);
	mask_init(&k, m);
	feed(&k, "xxabcd", 6, &out);
	assert_string_equal(buf_cstr(&out, NULL), "xx");
	assert_int_equal(buf_len(&k.carry), 4);
	feed(&k, "x", 1, &out);
	assert_string_equal(buf_cstr(&out, NULL), "xxabcdx");
	assert_int_equal(buf_len(&k.carry), 0);
	feed(&k, "abcdefgh", 8, &out); /* goes on in no other secret */
	assert_string_equal(buf_cstr(&out, NULL), "xxabcdx" M);
	assert_int_equal(buf_len(&k.carry), 0);
	mask_release(&k);
	buf_release(&out);
	mask_set_free(m);
}

TEST(a_value_that_is_added_later_counts_from_the_next_piece_on)
{
	struct mask_set *m = SET("first-secret");
	struct err e = ERR_INIT;
	struct mask k;
	struct buf out;

	buf_init(&out, 1000);
	mask_init(&k, m);
	feed(&k, "later-secret fir", 16, &out);
	assert_ok(mask_set_add(m, "later-secret", true, &e), &e);
	feed(&k, "st-secret later-secret", 22, &out);
	finish(&k, &out);
	assert_string_equal(buf_cstr(&out, NULL), "later-secret " M " " M);
	mask_release(&k);
	buf_release(&out);
	mask_set_free(m);
}

TEST(a_value_that_is_added_before_the_end_counts_for_what_is_held_back)
{
	struct mask_set *m = SET("abcdefgh");
	struct err e = ERR_INIT;
	struct mask k;
	struct buf out;

	buf_init(&out, 1000);
	mask_init(&k, m);
	feed(&k, "abcd", 4, &out);
	assert_ok(mask_set_add(m, "bc", true, &e), &e);
	finish(&k, &out);
	assert_string_equal(buf_cstr(&out, NULL), "a" M "d");
	mask_release(&k);
	buf_release(&out);
	mask_set_free(m);
}

/* A journal keeps the carry and how much of it is covered: another masker goes on from there. */
static void assert_carried_over(const struct mask_set *m, const char *text, const char *want)
{
	size_t n = strlen(text);

	for (size_t at = 0; at <= n; at++) {
		struct err e = ERR_INIT;
		struct mask before, after;
		struct buf out;

		buf_init(&out, 4096);
		mask_init(&before, m);
		mask_init(&after, m);
		feed(&before, text, at, &out);
		assert_ok(mask_restore(&after, buf_data(&before.carry), buf_len(&before.carry),
		                       mask_covered(&before), &e),
		          &e);
		mask_release(&before);
		if (at < n)
			feed(&after, text + at, n - at, &out);
		finish(&after, &out);
		assert_string_equal(buf_cstr(&out, NULL), want);
		mask_release(&after);
		buf_release(&out);
	}
}

TEST(a_masker_goes_on_from_what_another_kept)
{
	struct mask_set *m = SET("abcdefgh", "ghijkl", "cdef");

	assert_carried_over(m, "xabcdefghijklx", "x" M "x");
	assert_carried_over(m, "xabcdefghijk", "x" M "ijk");
	assert_carried_over(m, "abcdefgabcdef", "ab" M "gab" M);
	mask_set_free(m);
	m = SET("aaaaaaaa");
	assert_carried_over(m, "aaaaaaaaaaaaab", M "b");
	mask_set_free(m);
}

TEST(what_was_kept_comes_first_also_when_there_are_no_secrets_any_more)
{
	struct err e = ERR_INIT;
	struct mask k;
	struct buf out;

	buf_init(&out, 100);
	mask_init(&k, NULL);
	assert_ok(mask_restore(&k, "abc", 3, 0, &e), &e);
	feed(&k, "def", 3, &out);
	finish(&k, &out);
	assert_string_equal(buf_cstr(&out, NULL), "abcdef");
	mask_release(&k);
	buf_release(&out);
}

TEST(a_carry_that_cannot_be_is_refused)
{
	struct mask_set *m = SET("abcdefgh");
	struct err e = ERR_INIT;
	struct mask k;

	mask_init(&k, m);
	assert_fails(mask_restore(&k, "abc", 3, 4, &e), &e, ERR_INTEGRITY,
	             "masking: 4 of 3 bytes are covered");
	mask_release(&k);
	mask_set_free(m);
}

TEST(secrets_together_have_a_bound)
{
	static char value[LIMIT_SECRETS_BYTES + 2];
	struct mask_set *m = mask_set_new();
	struct err e = ERR_INIT;

	memset(value, 'x', LIMIT_SECRETS_BYTES + 1);
	assert_fails(mask_set_add(m, value, false, &e), &e, ERR_LIMIT,
	             "the secrets together have more than 131072 bytes");
	value[LIMIT_SECRETS_BYTES] = 0;
	assert_ok(mask_set_add(m, value, false, &e), &e);
	assert_ok(mask_set_add(m, value, false, &e), &e); /* the same is no more */
	assert_int_equal(mask_set_add(m, "yyyyyyyy", false, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	mask_set_free(m);
}

TEST(a_secret_longer_than_any_piece_is_masked)
{
	enum { LONG = 100 * 1024 };
	auto_free char *value = calloc(1, LONG + 1);
	struct mask_set *m;
	struct mask k;
	struct buf out;

	for (int i = 0; i < LONG; i++)
		value[i] = (char)('a' + i * 7 % 26);
	value[LONG - 1] = '!';
	m = set_of((const char *const[]){ value, NULL });
	buf_init(&out, 4 * LONG);
	mask_init(&k, m);
	for (int round = 0; round < 2; round++)
		for (size_t at = 0; at < LONG; at += 1000)
			feed(&k, value + at, LONG - at < 1000 ? LONG - at : 1000, &out);
	finish(&k, &out);
	assert_string_equal(buf_cstr(&out, NULL), M M);
	mask_release(&k);
	buf_release(&out);
	mask_set_free(m);
}

/* --- against a plain search --- */

static void plain(const char *const *values, const char *text, char *out)
{
	size_t n = strlen(text);
	auto_free bool *hit = calloc(n + 1, sizeof(*hit));
	auto_free bool *joined = calloc(n + 1, sizeof(*joined)); /* with the byte before */

	for (; *values; values++) {
		size_t len = strlen(*values);

		for (size_t i = 0; i + len <= n; i++)
			for (size_t k = 0; memcmp(text + i, *values, len) == 0 && k < len; k++) {
				hit[i + k] = true;
				joined[i + k] |= k > 0;
			}
	}
	for (size_t i = 0; i < n; i++) {
		if (!hit[i])
			*out++ = text[i];
		else if (!joined[i])
			out = stpcpy(out, M);
	}
	*out = 0;
}

static void random_word(char *out, size_t n, unsigned *seed)
{
	for (size_t i = 0; i < n; i++)
		out[i] = "ab"[rand_r(seed) % 2];
	out[n] = 0;
}

TEST(masking_equals_a_plain_search_of_the_whole_text)
{
	unsigned seed = 815;

	for (int round = 0; round < 3000; round++) {
		char words[5][12], text[61], want[61 * 12 + 1];
		const char *values[6] = { NULL };
		struct mask_set *m;
		struct mask k;
		struct buf out;
		size_t n;

		for (int i = 0; i <= round % 5; i++) {
			random_word(words[i], 1 + (size_t)rand_r(&seed) % 11, &seed);
			values[i] = words[i];
		}
		random_word(text, (size_t)rand_r(&seed) % 60, &seed);
		plain(values, text, want);
		m = set_of(values);
		mask_init(&k, m);
		buf_init(&out, 4096);
		n = strlen(text);
		for (size_t at = 0, piece; at < n; at += piece) {
			piece = 1 + (size_t)rand_r(&seed) % 7;
			piece = piece < n - at ? piece : n - at;
			feed(&k, text + at, piece, &out);
		}
		finish(&k, &out);
		assert_string_equal(buf_cstr(&out, NULL), want);
		buf_release(&out);
		mask_release(&k);
		mask_set_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_secret_is_masked_wherever_it_stands_and_however_the_text_is_cut),
		cmocka_unit_test(secrets_that_overlap_become_one_mask),
		cmocka_unit_test(a_secret_inside_of_another_is_masked_with_or_without_it),
		cmocka_unit_test(a_beginning_that_comes_to_nothing_is_given_back_whole),
		cmocka_unit_test(any_bytes_may_be_a_secret),
		cmocka_unit_test(a_text_with_nul_bytes_is_masked_behind_them_too),
		cmocka_unit_test(a_short_value_is_masked_only_when_it_was_named_as_secret),
		cmocka_unit_test(without_secrets_everything_passes_as_it_is),
		cmocka_unit_test(masking_comes_before_escaping),
		cmocka_unit_test(only_what_may_begin_a_secret_is_held_back),
		cmocka_unit_test(a_value_that_is_added_later_counts_from_the_next_piece_on),
		cmocka_unit_test(a_value_that_is_added_before_the_end_counts_for_what_is_held_back),
		cmocka_unit_test(a_masker_goes_on_from_what_another_kept),
		cmocka_unit_test(what_was_kept_comes_first_also_when_there_are_no_secrets_any_more),
		cmocka_unit_test(a_carry_that_cannot_be_is_refused),
		cmocka_unit_test(secrets_together_have_a_bound),
		cmocka_unit_test(a_secret_longer_than_any_piece_is_masked),
		cmocka_unit_test(masking_equals_a_plain_search_of_the_whole_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
