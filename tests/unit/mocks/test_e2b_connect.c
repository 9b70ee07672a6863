/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/base64.h"
#include "mocks/e2b/connect.h"
#include "mocks/e2b/gzip.h"
#include "protocol/base/cleanup.h"

#define BUF(name, max) \
	struct buf name CLEANUP(buf_release); \
	buf_init(&name, max)

/* Three messages, one of them empty, and the end. */
static void make_stream(struct buf *out)
{
	struct err e;

	assert_ok(envelope_put(0, "{\"a\":1}", 7, out, &e), &e);
	assert_ok(envelope_put(ENVELOPE_COMPRESSED, "", 0, out, &e), &e);
	assert_ok(envelope_put(0, "{}", 2, out, &e), &e);
	assert_ok(connect_end(CONNECT_OK, NULL, out, &e), &e);
}

/* What a reader makes of n bytes: "FLAGS:MESSAGE;" for each whole envelope. */
static void read_part(struct envelope_reader *r, const uint8_t *p, size_t n, struct buf *seen)
{
	struct err e = ERR_INIT;

	while (n > 0) {
		size_t used = 0;
		int got = envelope_feed(r, p, n, &used, &e);

		assert_true(got >= 0 && used > 0 && used <= n);
		if (got)
			assert_ok(buf_printf(seen, &e, "%d:%.*s;", envelope_flags(r),
					     (int)buf_len(&r->message),
					     (const char *)buf_data(&r->message)), &e);
		p += used;
		n -= used;
	}
}

static const char all[] = "0:{\"a\":1};1:;0:{};2:{};";

TEST(a_stream_split_at_every_two_borders_gives_the_same_messages)
{
	BUF(stream, 256);

	make_stream(&stream);
	for (size_t a = 0; a <= buf_len(&stream); a++) {
		for (size_t b = a; b <= buf_len(&stream); b++) {
			struct envelope_reader r;
			const uint8_t *p = buf_data(&stream);
			BUF(seen, 256);

			envelope_reader_init(&r, 1024);
			read_part(&r, p, a, &seen);
			read_part(&r, p + a, b - a, &seen);
			read_part(&r, p + b, buf_len(&stream) - b, &seen);
			assert_string_equal(buf_cstr(&seen, NULL), all);
			assert_true(envelope_at_border(&r));
			envelope_reader_release(&r);
		}
	}
}

TEST(a_stream_truncated_at_every_offset_gives_a_prefix_and_knows_its_borders)
{
	static const size_t borders[] = { 0, 12, 17, 24, 31 };
	BUF(stream, 256);

	make_stream(&stream);
	assert_int_equal(buf_len(&stream), borders[4]);
	for (size_t n = 0; n <= buf_len(&stream); n++) {
		struct envelope_reader r;
		bool at_border = false;
		BUF(seen, 256);

		for (size_t i = 0; i < ARRAY_LEN(borders); i++)
			at_border |= n == borders[i];
		envelope_reader_init(&r, 1024);
		read_part(&r, buf_data(&stream), n, &seen);
		assert_memory_equal(buf_data(&seen), all, buf_len(&seen));
		assert_int_equal(envelope_at_border(&r), at_border);
		envelope_reader_release(&r);
	}
}

TEST(a_message_over_the_limit_is_refused_by_its_length)
{
	static const uint8_t head[] = { 0, 0, 0, 4, 1 };
	struct envelope_reader r;
	struct err e;
	size_t used;

	envelope_reader_init(&r, 1024);
	assert_int_equal(envelope_feed(&r, head, 4, &used, &e), 0);
	assert_fails(envelope_feed(&r, head + 4, 1, &used, &e), &e, ERR_LIMIT,
		     "message size 1025 is larger than configured max 1024");
	envelope_reader_release(&r);
}

TEST(errors_are_what_connect_says_they_are)
{
	BUF(text, 256);
	struct err e;

	assert_ok(connect_error(CONNECT_NOT_FOUND, "no \"x\"", &text, &e), &e);
	assert_string_equal(buf_cstr(&text, &e),
			    "{\"code\":\"not_found\",\"message\":\"no \\\"x\\\"\"}");
	assert_int_equal(connect_status(CONNECT_NOT_FOUND), 404);
	assert_int_equal(connect_status(CONNECT_CANCELED), 499);
	assert_int_equal(connect_status(CONNECT_FAILED_PRECONDITION), 400);
	assert_int_equal(connect_status(CONNECT_UNAUTHENTICATED), 401);
	assert_string_equal(connect_name(CONNECT_DATA_LOSS), "data_loss");
	buf_reset(&text);
	assert_ok(connect_end(CONNECT_DEADLINE_EXCEEDED, "late", &text, &e), &e);
	assert_int_equal(buf_data(&text)[0], ENVELOPE_END);
	assert_int_equal(get_u32(buf_data(&text) + 1), buf_len(&text) - ENVELOPE_HEAD);
	assert_string_equal(buf_cstr(&text, &e) + ENVELOPE_HEAD,
			    "{\"error\":{\"code\":\"deadline_exceeded\",\"message\":\"late\"}}");
}

TEST(timeouts_are_up_to_ten_digits)
{
	uint64_t ms = 1;
	struct err e;

	assert_ok(connect_timeout(NULL, &ms, &e), &e);
	assert_int_equal(ms, 0);
	assert_ok(connect_timeout("0", &ms, &e), &e);
	assert_int_equal(ms, 0);
	assert_ok(connect_timeout("9999999999", &ms, &e), &e);
	assert_int_equal(ms, 9999999999);
	assert_fails(connect_timeout("10000000000", &ms, &e), &e, ERR_PARSE,
		     "protocol error: invalid timeout \"10000000000\"");
	assert_fails(connect_timeout("-1", &ms, &e), &e, ERR_PARSE,
		     "protocol error: invalid timeout \"-1\"");
	assert_fails(connect_timeout("1s", &ms, &e), &e, ERR_PARSE,
		     "protocol error: invalid timeout \"1s\"");
}

/* --- base64, gzip --- */

TEST(base64_is_padded_going_out_and_taken_in_either_alphabet)
{
	static const struct {
		const char *text, *want;
	} in[] = { { "", "" }, { "aGk=", "hi" }, { "aGk", "hi" }, { "aA==", "h" }, { "aA", "h" },
		   { "aGkh", "hi!" }, { "Pz8_Pj4-", "??" "?>>>" }, { "Pz8/Pj4+", "??" "?>>>" } };
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(in); i++) {
		BUF(got, 64);

		assert_ok(base64_take(in[i].text, &got, &e), &e);
		assert_string_equal(buf_cstr(&got, &e), in[i].want);
	}
	for (size_t n = 0; n < 64; n++) {
		uint8_t bytes[64];
		BUF(text, 256);
		BUF(back, 256);

		for (size_t i = 0; i < n; i++)
			bytes[i] = (uint8_t)(251 * i + n);
		assert_ok(base64_put(bytes, n, &text, &e), &e);
		assert_int_equal(buf_len(&text), (n + 2) / 3 * 4);
		assert_ok(base64_take(buf_cstr(&text, &e), &back, &e), &e);
		assert_int_equal(buf_len(&back), n);
		assert_memory_equal(buf_data(&back), bytes, n);
	}
}

TEST(what_is_no_base64_is_refused)
{
	static const char *const bad[] = { "a", "a===", "ab*d", "=", "aGk=x" };
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		BUF(got, 64);

		memset(&e, 0, sizeof(e));
		assert_int_equal(base64_take(bad[i], &got, &e), -1);
		assert_int_equal(e.code, ERR_PARSE);
		assert_int_equal(buf_len(&got), 0);
	}
}

TEST(gzip_comes_back_split_at_every_border_and_cut_short_is_an_error)
{
	static const char text[] = "compress me, compress me, compress me";
	struct err e;
	BUF(packed, 1024);

	assert_ok(gzip_all(text, strlen(text), &packed, &e), &e);
	for (size_t at = 0; at <= buf_len(&packed); at++) {
		struct gzip *z = gzip_reader(&e);
		const uint8_t *p = buf_data(&packed);
		size_t used;
		BUF(back, 1024);
		BUF(part, 1024);

		assert_ok(gzip_read(z, p, at, &used, &back, &e), &e);
		assert_int_equal(used, at);
		assert_int_equal(gzip_at_end(z), at == buf_len(&packed));
		assert_ok(gzip_read(z, p + at, buf_len(&packed) - at, &used, &back, &e), &e);
		assert_true(gzip_at_end(z));
		assert_string_equal(buf_cstr(&back, &e), text);
		gzip_free(z);
		if (at < buf_len(&packed))
			assert_int_equal(gunzip_all(p, at, &part, &e), -1);
	}
}

TEST(gzip_that_grows_past_the_maximum_is_refused)
{
	static char zeros[1000000];
	struct err e;
	BUF(packed, 65536);
	BUF(back, 65536);

	assert_ok(gzip_all(zeros, sizeof(zeros), &packed, &e), &e);
	assert_fails(gunzip_all(buf_data(&packed), buf_len(&packed), &back, &e), &e, ERR_LIMIT,
		     "gzip: more than the maximum");
	assert_true(buf_len(&back) <= 65536);
	buf_reset(&back);
	assert_fails(gunzip_all("not gzip at all", 15, &back, &e), &e, ERR_PARSE,
		     "gzip: invalid header");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_split_at_every_two_borders_gives_the_same_messages),
		cmocka_unit_test(
			a_stream_truncated_at_every_offset_gives_a_prefix_and_knows_its_borders),
		cmocka_unit_test(a_message_over_the_limit_is_refused_by_its_length),
		cmocka_unit_test(errors_are_what_connect_says_they_are),
		cmocka_unit_test(timeouts_are_up_to_ten_digits),
		cmocka_unit_test(base64_is_padded_going_out_and_taken_in_either_alphabet),
		cmocka_unit_test(what_is_no_base64_is_refused),
		cmocka_unit_test(gzip_comes_back_split_at_every_border_and_cut_short_is_an_error),
		cmocka_unit_test(gzip_that_grows_past_the_maximum_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
