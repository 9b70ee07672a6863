/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/buf.h"
#include "protocol/frame.h"
#include "protocol/limits.h"

#define OFFSET_MAX (UINT64_C(1) << 63)

/* A frame in memory of exactly its size, so that a read past its end is seen. */
struct bytes {
	uint8_t *p;
	size_t n;
};

static void bytes_release(struct bytes *b)
{
	free(b->p);
}
#define auto_bytes __attribute__((cleanup(bytes_release))) struct bytes

static struct bytes copy_of(const uint8_t *p, size_t n)
{
	struct bytes b = { malloc(n ? n : 1), n };

	assert_non_null(b.p);
	if (n)
		memcpy(b.p, p, n);
	return b;
}

static struct bytes data_frame(uint8_t flags, uint32_t channel, uint64_t offset, size_t len)
{
	struct bytes b = { malloc(FRAME_HEADER + len), FRAME_HEADER + len };

	assert_non_null(b.p);
	frame_header(b.p, FRAME_DATA, flags, channel, offset);
	for (size_t i = 0; i < len; i++)
		b.p[FRAME_HEADER + i] = (uint8_t)i;
	return b;
}

static struct bytes u64_frame(uint8_t kind, uint32_t channel, uint64_t offset, uint64_t value)
{
	struct bytes b = { malloc(FRAME_HEADER + 8), FRAME_HEADER + 8 };

	assert_non_null(b.p);
	frame_header(b.p, kind, 0, channel, offset);
	put_u64(b.p + FRAME_HEADER, value);
	return b;
}

static void refused(const struct bytes *b, enum err_code want)
{
	struct frame f = { .kind = 77 };
	struct err e = ERR_INIT;

	assert_int_equal(frame_parse(b->p, b->n, &f, &e), -1);
	assert_int_equal(e.code, want);
	assert_true(e.msg[0]);
	assert_int_equal(f.kind, 77);
}

/* Whatever is accepted has one way to be written: its bytes. */
static void rewrites_to_its_bytes(const struct frame *f, const uint8_t *p, size_t n)
{
	uint8_t header[FRAME_HEADER];

	frame_header(header, f->kind, f->flags, f->channel, f->offset);
	assert_memory_equal(header, p, FRAME_HEADER);
	assert_ptr_equal(f->payload, p + FRAME_HEADER);
	assert_int_equal(f->len, n - FRAME_HEADER);
}

static void accepted(const struct bytes *b)
{
	struct err e = ERR_INIT;
	struct frame f;

	assert_ok(frame_parse(b->p, b->n, &f, &e), &e);
	rewrites_to_its_bytes(&f, b->p, b->n);
}

TEST(a_header_is_sixteen_big_endian_bytes)
{
	static const uint8_t want[FRAME_HEADER] = { 1, 1, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d,
						    1, 2, 3, 4, 5, 6, 7, 8 };
	uint8_t got[FRAME_HEADER];

	memset(got, 0xff, sizeof(got));
	frame_header(got, FRAME_DATA, FRAME_END, 0x0a0b0c0d, UINT64_C(0x0102030405060708));
	assert_memory_equal(got, want, sizeof(want));
}

TEST(a_frame_comes_back_from_its_bytes)
{
	auto_bytes b = data_frame(FRAME_END, 5, 1000, 3);
	struct err e = ERR_INIT;
	struct frame f;

	assert_ok(frame_parse(b.p, b.n, &f, &e), &e);
	assert_int_equal(f.kind, FRAME_DATA);
	assert_int_equal(f.flags, FRAME_END);
	assert_int_equal(f.channel, 5);
	assert_int_equal(f.offset, 1000);
	assert_int_equal(f.len, 3);
	assert_ptr_equal(f.payload, b.p + FRAME_HEADER);
	assert_int_equal(e.code, ERR_NONE);
}

TEST(a_window_and_a_gap_carry_a_second_offset)
{
	for (uint8_t kind = FRAME_WINDOW; kind <= FRAME_GAP; kind++) {
		auto_bytes b = u64_frame(kind, UINT32_MAX, 7, UINT64_C(0x0102030405060708));
		struct err e = ERR_INIT;
		struct frame f;

		assert_ok(frame_parse(b.p, b.n, &f, &e), &e);
		assert_true(frame_u64(&f) == UINT64_C(0x0102030405060708));
		assert_true(f.channel == UINT32_MAX);
	}
}

TEST(data_may_be_empty_and_may_be_as_long_as_the_limit)
{
	auto_bytes empty = data_frame(0, 1, 0, 0);
	auto_bytes longest = data_frame(0, 1, 0, LIMIT_DATA);
	auto_bytes longer = data_frame(0, 1, 0, LIMIT_DATA + 1);

	accepted(&empty);
	accepted(&longest);
	refused(&longer, ERR_LIMIT);
}

TEST(a_data_frame_cut_in_its_header_is_refused_and_later_is_shorter)
{
	auto_bytes whole = data_frame(FRAME_END, 9, 12, 20);

	for (size_t n = 0; n < whole.n; n++) {
		auto_bytes b = copy_of(whole.p, n);

		if (n < FRAME_HEADER)
			refused(&b, ERR_PROTO);
		else
			accepted(&b);
	}
}

TEST(a_window_or_gap_cut_anywhere_is_refused)
{
	for (uint8_t kind = FRAME_WINDOW; kind <= FRAME_GAP; kind++) {
		auto_bytes whole = u64_frame(kind, 9, 12, 20);

		for (size_t n = 0; n < whole.n; n++) {
			auto_bytes b = copy_of(whole.p, n);

			refused(&b, ERR_PROTO);
		}
	}
}

/* Every single bit, then every pair of bits in the header. */
static void flip_all(const struct bytes *whole)
{
	size_t bits = 8 * whole->n, accepted_count = 0;

	for (size_t i = 0; i < bits; i++) {
		for (size_t j = i; j < (i < 8 * FRAME_HEADER ? bits : i + 1); j++) {
			auto_bytes b = copy_of(whole->p, whole->n);
			struct err e = ERR_INIT;
			struct frame f;

			b.p[i / 8] ^= (uint8_t)(1u << i % 8);
			if (j != i)
				b.p[j / 8] ^= (uint8_t)(1u << j % 8);
			if (frame_parse(b.p, b.n, &f, &e) < 0) {
				assert_true(e.code == ERR_PROTO || e.code == ERR_UNSUPPORTED);
				continue;
			}
			rewrites_to_its_bytes(&f, b.p, b.n);
			accepted_count++;
		}
	}
	assert_true(accepted_count > 0);
}

TEST(a_frame_with_flipped_bits_is_refused_or_means_what_its_bytes_say)
{
	auto_bytes data = data_frame(0, 3, 0x1000, 8);
	auto_bytes window = u64_frame(FRAME_WINDOW, 3, 0x1000, 0x2000);
	auto_bytes gap = u64_frame(FRAME_GAP, 3, 0x1000, 0x2000);

	flip_all(&data);
	flip_all(&window);
	flip_all(&gap);
}

TEST(only_five_kinds_are_known_and_two_of_them_are_reserved)
{
	for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
		auto_bytes b = u64_frame((uint8_t)kind, 1, 0, 0);

		if (kind >= FRAME_DATA && kind <= FRAME_GAP)
			accepted(&b);
		else if (kind == FRAME_RESIZE || kind == FRAME_COMMAND)
			refused(&b, ERR_UNSUPPORTED);
		else
			refused(&b, ERR_PROTO);
	}
}

TEST(end_is_the_only_flag_and_only_for_data)
{
	for (unsigned flags = 0; flags <= UINT8_MAX; flags++)
		for (uint8_t kind = FRAME_DATA; kind <= FRAME_GAP; kind++) {
			auto_bytes b = u64_frame(kind, 1, 0, 0);

			b.p[1] = (uint8_t)flags;
			if (flags == 0 || (flags == FRAME_END && kind == FRAME_DATA))
				accepted(&b);
			else
				refused(&b, ERR_PROTO);
		}
}

TEST(reserved_bytes_and_channel_0_are_refused)
{
	auto_bytes channel = data_frame(0, 0, 0, 1);

	refused(&channel, ERR_PROTO);
	for (int i = 2; i <= 3; i++) {
		auto_bytes b = data_frame(0, 1, 0, 1);

		b.p[i] = 1;
		refused(&b, ERR_PROTO);
	}
}

TEST(no_offset_lies_past_two_to_the_63)
{
	auto_bytes last = data_frame(0, 1, OFFSET_MAX - 1, 1);
	auto_bytes end = data_frame(FRAME_END, 1, OFFSET_MAX, 0);
	auto_bytes past = data_frame(0, 1, OFFSET_MAX, 1);
	auto_bytes wraps = data_frame(0, 1, UINT64_MAX, 1);
	auto_bytes all = u64_frame(FRAME_WINDOW, 1, OFFSET_MAX, OFFSET_MAX);
	auto_bytes more = u64_frame(FRAME_WINDOW, 1, 0, OFFSET_MAX + 1);

	accepted(&last);
	accepted(&end);
	refused(&past, ERR_PROTO);
	refused(&wraps, ERR_PROTO);
	accepted(&all);
	refused(&more, ERR_PROTO);
}

TEST(a_window_or_gap_below_its_own_offset_is_refused)
{
	for (uint8_t kind = FRAME_WINDOW; kind <= FRAME_GAP; kind++) {
		auto_bytes same = u64_frame(kind, 1, 100, 100);
		auto_bytes below = u64_frame(kind, 1, 100, 99);

		accepted(&same);
		refused(&below, ERR_PROTO);
	}
}

TEST(a_window_or_gap_of_another_length_is_refused)
{
	for (size_t len = 0; len <= 24; len++) {
		auto_bytes b = data_frame(0, 1, 0, len);

		b.p[0] = FRAME_WINDOW;
		if (len == 8)
			accepted(&b);
		else
			refused(&b, ERR_PROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_sixteen_big_endian_bytes),
		cmocka_unit_test(a_frame_comes_back_from_its_bytes),
		cmocka_unit_test(a_window_and_a_gap_carry_a_second_offset),
		cmocka_unit_test(data_may_be_empty_and_may_be_as_long_as_the_limit),
		cmocka_unit_test(a_data_frame_cut_in_its_header_is_refused_and_later_is_shorter),
		cmocka_unit_test(a_window_or_gap_cut_anywhere_is_refused),
		cmocka_unit_test(a_frame_with_flipped_bits_is_refused_or_means_what_its_bytes_say),
		cmocka_unit_test(only_five_kinds_are_known_and_two_of_them_are_reserved),
		cmocka_unit_test(end_is_the_only_flag_and_only_for_data),
		cmocka_unit_test(reserved_bytes_and_channel_0_are_refused),
		cmocka_unit_test(no_offset_lies_past_two_to_the_63),
		cmocka_unit_test(a_window_or_gap_below_its_own_offset_is_refused),
		cmocka_unit_test(a_window_or_gap_of_another_length_is_refused),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
