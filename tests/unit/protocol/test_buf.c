/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/buf.h"

TEST(bytes_come_out_in_the_order_they_went_in)
{
	struct buf b;
	struct err e;

	buf_init(&b, 100);
	assert_ok(buf_puts(&b, "hello ", &e), &e);
	assert_ok(buf_put(&b, "world!", 5, &e), &e);
	assert_ok(buf_putc(&b, '.', &e), &e);
	assert_int_equal(buf_len(&b), 12);
	assert_memory_equal(buf_data(&b), "hello world.", 12);
	buf_consume(&b, 6);
	assert_int_equal(buf_len(&b), 6);
	assert_memory_equal(buf_data(&b), "world.", 6);
	buf_release(&b);
}

TEST(numbers_are_big_endian)
{
	struct buf b;
	struct err e;
	uint8_t raw[8];

	buf_init(&b, 100);
	assert_ok(buf_put_u32(&b, 0x01020304, &e), &e);
	assert_int_equal(buf_len(&b), 4);
	assert_memory_equal(buf_data(&b), "\1\2\3\4", 4);
	assert_true(get_u32(buf_data(&b)) == 0x01020304);
	put_u64(raw, UINT64_C(0xf1f2f3f4f5f6f7f8));
	assert_memory_equal(raw, "\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8", 8);
	assert_true(get_u64(raw) == UINT64_C(0xf1f2f3f4f5f6f7f8));
	buf_release(&b);
}

TEST(a_put_over_the_maximum_changes_nothing)
{
	struct buf b;
	struct err e;

	buf_init(&b, 8);
	assert_ok(buf_puts(&b, "12345", &e), &e);
	assert_fails(buf_puts(&b, "6789", &e), &e, ERR_LIMIT,
		     "buffer: 5 bytes and 4 more pass the maximum of 8");
	assert_fails(buf_put_u32(&b, 1, &e), &e, ERR_LIMIT,
		     "buffer: 5 bytes and 4 more pass the maximum of 8");
	assert_fails(buf_printf(&b, &e, "%d", 6789), &e, ERR_LIMIT,
		     "buffer: 5 bytes and 4 more pass the maximum of 8");
	assert_int_equal(buf_len(&b), 5);
	assert_int_equal(buf_room(&b), 3);
	assert_ok(buf_puts(&b, "678", &e), &e);
	assert_memory_equal(buf_data(&b), "12345678", 8);
	buf_release(&b);
}

TEST(a_length_near_the_top_of_size_t_is_refused)
{
	struct buf b;
	struct err e;

	buf_init(&b, 8);
	assert_ok(buf_putc(&b, 'x', &e), &e);
	assert_null(buf_reserve(&b, SIZE_MAX, &e));
	assert_int_equal(e.code, ERR_LIMIT);
	assert_int_equal(buf_len(&b), 1);
	buf_release(&b);
}

TEST(a_buffer_without_room_takes_nothing_but_nothing)
{
	struct buf b;
	struct err e;

	buf_init(&b, 0);
	assert_ok(buf_put(&b, "", 0, &e), &e);
	assert_int_equal(buf_putc(&b, 'x', &e), -1);
	assert_string_equal(buf_cstr(&b, &e), "");
	buf_release(&b);
}

TEST(an_empty_buffer_has_an_address)
{
	struct buf b;
	uint8_t none[1] = { 7 };

	buf_init(&b, 10);
	assert_non_null(buf_data(&b));
	memcpy(none, buf_data(&b), buf_len(&b));
	assert_int_equal(none[0], 7);
	buf_release(&b);
}

TEST(a_full_buffer_read_and_written_in_turn_keeps_bytes_and_bound)
{
	struct buf b;
	struct err e;
	uint8_t next_in = 0, next_out = 0;

	buf_init(&b, 1000);
	for (int i = 0; i < 20000; i++) {
		size_t n = (size_t)(i * 7 % 64);

		while (buf_room(&b) >= n && n-- > 0)
			assert_ok(buf_putc(&b, next_in++, &e), &e);
		n = (size_t)(i * 11 % 64);
		for (; n > 0 && buf_len(&b) > 0; n--) {
			assert_int_equal(buf_data(&b)[0], next_out++);
			buf_consume(&b, 1);
		}
		assert_true(b.cap <= 1501);
	}
	buf_release(&b);
}

TEST(memory_grows_with_use_not_with_the_maximum)
{
	struct buf b;
	struct err e;

	buf_init(&b, SIZE_MAX);
	for (int i = 0; i < 1000; i++)
		assert_ok(buf_puts(&b, "12345678", &e), &e);
	assert_in_range(b.cap, 8000, 16384);
	buf_release(&b);
}

TEST(reserved_bytes_count_once_committed)
{
	struct buf b;
	struct err e;
	uint8_t *to;

	buf_init(&b, 300);
	assert_ok(buf_puts(&b, "ab", &e), &e);
	to = buf_reserve(&b, 200, &e);
	assert_non_null(to);
	assert_int_equal(buf_len(&b), 2);
	memset(to, 'c', 200);
	buf_commit(&b, 3);
	assert_string_equal(buf_cstr(&b, &e), "abccc");
	assert_null(buf_reserve(&b, 296, &e));
	buf_release(&b);
}

TEST(formatted_text_fits_to_the_byte)
{
	struct buf b;
	struct err e;

	buf_init(&b, 10);
	assert_ok(buf_printf(&b, &e, "%s=%d", "answer", 421), &e);
	assert_int_equal(buf_len(&b), 10);
	assert_string_equal(buf_cstr(&b, &e), "answer=421");
	buf_release(&b);
}

TEST(formatting_nothing_is_fine)
{
	struct buf b;
	struct err e;
	const char *nothing = "";

	buf_init(&b, 10);
	assert_ok(buf_printf(&b, &e, "%s", nothing), &e);
	assert_int_equal(buf_len(&b), 0);
	buf_release(&b);
}

TEST(the_string_view_fits_a_full_buffer_and_is_not_counted)
{
	struct buf b;
	struct err e;

	buf_init(&b, 64);
	for (int i = 0; i < 64; i++)
		assert_ok(buf_putc(&b, 'x', &e), &e);
	assert_int_equal(strlen(buf_cstr(&b, &e)), 64);
	assert_int_equal(buf_len(&b), 64);
	buf_consume(&b, 60);
	assert_string_equal(buf_cstr(&b, &e), "xxxx");
	buf_release(&b);
}

TEST(a_taken_string_belongs_to_the_caller_and_leaves_an_empty_buffer)
{
	struct buf b;
	struct err e;
	char *str;

	buf_init(&b, 64);
	assert_ok(buf_puts(&b, "skip this: text", &e), &e);
	buf_consume(&b, 11);
	str = buf_take_str(&b, &e);
	assert_string_equal(str, "text");
	free(str);
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(buf_room(&b), 64);
	assert_ok(buf_puts(&b, "again", &e), &e);
	str = buf_take_str(&b, &e);
	assert_string_equal(str, "again");
	free(str);
	str = buf_take_str(&b, &e);
	assert_string_equal(str, "");
	free(str);
	buf_release(&b);
}

TEST(a_reset_forgets_the_bytes_and_keeps_the_memory)
{
	struct buf b;
	struct err e;
	uint8_t *mem;

	buf_init(&b, 64);
	assert_ok(buf_puts(&b, "abc", &e), &e);
	mem = b.mem;
	buf_reset(&b);
	assert_int_equal(buf_len(&b), 0);
	assert_ok(buf_puts(&b, "def", &e), &e);
	assert_ptr_equal(b.mem, mem);
	assert_memory_equal(buf_data(&b), "def", 3);
	buf_release(&b);
}

TEST(a_release_may_come_twice)
{
	struct buf b;
	struct err e;

	buf_init(&b, 64);
	assert_ok(buf_puts(&b, "abc", &e), &e);
	buf_release(&b);
	buf_release(&b);
	assert_int_equal(buf_len(&b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_in_the_order_they_went_in),
		cmocka_unit_test(numbers_are_big_endian),
		cmocka_unit_test(a_put_over_the_maximum_changes_nothing),
		cmocka_unit_test(a_length_near_the_top_of_size_t_is_refused),
		cmocka_unit_test(a_buffer_without_room_takes_nothing_but_nothing),
		cmocka_unit_test(an_empty_buffer_has_an_address),
		cmocka_unit_test(a_full_buffer_read_and_written_in_turn_keeps_bytes_and_bound),
		cmocka_unit_test(memory_grows_with_use_not_with_the_maximum),
		cmocka_unit_test(reserved_bytes_count_once_committed),
		cmocka_unit_test(formatted_text_fits_to_the_byte),
		cmocka_unit_test(formatting_nothing_is_fine),
		cmocka_unit_test(the_string_view_fits_a_full_buffer_and_is_not_counted),
		cmocka_unit_test(a_taken_string_belongs_to_the_caller_and_leaves_an_empty_buffer),
		cmocka_unit_test(a_reset_forgets_the_bytes_and_keeps_the_memory),
		cmocka_unit_test(a_release_may_come_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
