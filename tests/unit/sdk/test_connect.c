/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "sdk-wrapper/connect.h"

/* Messages one after another, each followed by a line break. */
static int note(void *user, const char *text, size_t len, struct err *e)
{
	struct buf *b = user;

	return buf_put(b, text, len, e) < 0 || buf_putc(b, '\n', e) < 0 ? -1 : 0;
}

static void envelope(struct buf *b, uint8_t flags, const char *text)
{
	buf_putc(b, flags, NULL);
	buf_put_u32(b, (uint32_t)strlen(text), NULL);
	buf_puts(b, text, NULL);
}

struct stream {
	struct buf bytes, seen;
	struct connect_reader r;
	struct err e;
};

static void stream_init(struct stream *s)
{
	memset(s, 0, sizeof(*s));
	buf_init(&s->bytes, 4 << 20);
	buf_init(&s->seen, 4 << 20);
	connect_init(&s->r);
}

static void stream_release(struct stream *s)
{
	buf_release(&s->bytes);
	buf_release(&s->seen);
	connect_release(&s->r);
}

static int feed(struct stream *s, size_t from, size_t to)
{
	return connect_feed(&s->r, buf_data(&s->bytes) + from, to - from, note, &s->seen, &s->e);
}

static void sample(struct buf *b)
{
	envelope(b, 0, "{\"event\":{\"start\":{\"pid\":7}}}");
	envelope(b, 0, "");
	envelope(b, 0, "{\"event\":{\"data\":{\"stdout\":\"aGk=\"}}}");
	envelope(b, 2, "{}");
}

#define SEEN "{\"event\":{\"start\":{\"pid\":7}}}\n\n{\"event\":{\"data\":{\"stdout\":\"aGk=\"}}}\n"

TEST(messages_are_whole_wherever_the_bytes_are_split)
{
	struct buf all CLEANUP(buf_release);

	buf_init(&all, 1000);
	sample(&all);
	for (size_t cut = 0; cut <= buf_len(&all); cut++)
		for (size_t cut2 = cut; cut2 <= buf_len(&all); cut2++) {
			struct stream s CLEANUP(stream_release);

			stream_init(&s);
			sample(&s.bytes);
			assert_ok(feed(&s, 0, cut), &s.e);
			assert_ok(feed(&s, cut, cut2), &s.e);
			assert_ok(feed(&s, cut2, buf_len(&s.bytes)), &s.e);
			assert_true(s.r.ended);
			assert_string_equal(buf_cstr(&s.seen, NULL), SEEN);
		}
}

TEST(a_stream_cut_anywhere_has_not_ended)
{
	struct buf all CLEANUP(buf_release);

	buf_init(&all, 1000);
	sample(&all);
	for (size_t cut = 0; cut < buf_len(&all); cut++) {
		struct stream s CLEANUP(stream_release);

		stream_init(&s);
		sample(&s.bytes);
		assert_ok(feed(&s, 0, cut), &s.e);
		assert_false(s.r.ended);
	}
}

TEST(the_end_may_carry_an_error)
{
	struct stream s CLEANUP(stream_release);

	stream_init(&s);
	envelope(&s.bytes, 2,
	         "{\"error\":{\"code\":\"deadline_exceeded\",\"message\":\"too late\"},"
	         "\"metadata\":{}}");
	assert_ok(feed(&s, 0, buf_len(&s.bytes)), &s.e);
	assert_true(s.r.ended);
	assert_string_equal(s.r.code, "deadline_exceeded");
	assert_string_equal(s.r.message, "too late");
}

TEST(an_error_without_a_code_is_unknown)
{
	struct stream s CLEANUP(stream_release);

	stream_init(&s);
	envelope(&s.bytes, 2, "{\"error\":{}}");
	assert_ok(feed(&s, 0, buf_len(&s.bytes)), &s.e);
	assert_string_equal(s.r.code, "unknown");
}

TEST(what_is_no_stream_is_refused_by_name)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *says;
	} rows[] = {
		{ "\1\0\0\0\2{}", 7, "stream: compressed, which nobody asked for" },
		{ "<html", 5, "stream: unknown flags 0x3c" },
		{ "\0\0\x10\0\1", 5, "stream: a message of 1048577 bytes, over 1048576" },
		{ "\2\0\0\0\2{}x", 8, "stream: bytes behind its end" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct stream s CLEANUP(stream_release);

		stream_init(&s);
		buf_put(&s.bytes, rows[i].bytes, rows[i].n, NULL);
		assert_fails(feed(&s, 0, rows[i].n), &s.e, ERR_PROTO, rows[i].says);
	}
	{
		struct stream s CLEANUP(stream_release);

		stream_init(&s);
		envelope(&s.bytes, 2, "{");
		assert_true(feed(&s, 0, buf_len(&s.bytes)) < 0);
		assert_int_equal(s.e.code, ERR_PROTO);
		assert_false(s.r.ended);
	}
}

TEST(the_largest_message_passes_and_many_do_in_one_piece)
{
	struct stream s CLEANUP(stream_release);
	char *big = malloc(LIMIT_ENVELOPE + 1);

	stream_init(&s);
	memset(big, ' ', LIMIT_ENVELOPE);
	big[LIMIT_ENVELOPE] = 0;
	envelope(&s.bytes, 0, big);
	envelope(&s.bytes, 0, big);
	envelope(&s.bytes, 0, "x");
	assert_ok(feed(&s, 0, buf_len(&s.bytes)), &s.e);
	assert_int_equal(buf_len(&s.seen), 2 * LIMIT_ENVELOPE + 4);
	free(big);
}

TEST(what_is_written_is_read_again)
{
	struct stream s CLEANUP(stream_release);

	stream_init(&s);
	assert_ok(connect_envelope(&s.bytes, "{\"a\":1}", 7, &s.e), &s.e);
	assert_memory_equal(buf_data(&s.bytes), "\0\0\0\0\7{\"a\":1}", 12);
	assert_ok(feed(&s, 0, buf_len(&s.bytes)), &s.e);
	assert_string_equal(buf_cstr(&s.seen, NULL), "{\"a\":1}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_whole_wherever_the_bytes_are_split),
		cmocka_unit_test(a_stream_cut_anywhere_has_not_ended),
		cmocka_unit_test(the_end_may_carry_an_error),
		cmocka_unit_test(an_error_without_a_code_is_unknown),
		cmocka_unit_test(what_is_no_stream_is_refused_by_name),
		cmocka_unit_test(the_largest_message_passes_and_many_do_in_one_piece),
		cmocka_unit_test(what_is_written_is_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
