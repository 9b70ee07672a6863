/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/crc.h"

/* RFC 3720, B.4. */
TEST(known_sums_come_out)
{
	uint8_t b[32];

	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(b, 0, sizeof(b));
	assert_int_equal(crc32c(0, b, sizeof(b)), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_int_equal(crc32c(0, b, sizeof(b)), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, b, sizeof(b)), 0x46dd794e);
	assert_int_equal(crc32c_portable(0, b, sizeof(b)), 0x46dd794e);
}

TEST(with_and_without_the_instruction_it_is_the_same_in_any_pieces)
{
	uint8_t b[1000];

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(i * 131 + i / 7);
	for (size_t n = 0; n < 100; n++)
		for (size_t from = 0; from < 9; from++)
			assert_int_equal(crc32c(0, b + from, n), crc32c_portable(0, b + from, n));
	for (size_t cut = 0; cut < sizeof(b); cut += 13) {
		uint32_t first = crc32c(0, b, cut);

		assert_int_equal(crc32c(first, b + cut, sizeof(b) - cut), crc32c(0, b, sizeof(b)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_sums_come_out),
		cmocka_unit_test(with_and_without_the_instruction_it_is_the_same_in_any_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
