/* SPDX-License-Identifier: Apache-2.0
 *
 * The expected values were computed from README 3 by another implementation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/keys.h"

static const char run[] = "20261102t101112-3f9a1c";
static const char session_key_hex[] =
	"7021c4d3a1b66d8a5ebc03725298be1090cb61dfe575f60838c1a62d08bb2a20";

static const uint8_t *user_key(void)
{
	static uint8_t key[USER_KEY_LEN];

	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	return key;
}

static void the_token_is_derived_as_the_wire_specification_says(void **state)
{
	char token[SHA256_HEX];

	(void)state;
	key_token(user_key(), run, token);
	assert_string_equal(token,
			    "eb36783d2c168fdabf439ab469ccb2bdec715424d93b0ebbfc012a1043e2a3e4");
}

static void the_session_key_is_derived_as_the_wire_specification_says(void **state)
{
	char key[SHA256_HEX];

	(void)state;
	key_session(user_key(), run, key);
	assert_string_equal(key, session_key_hex);
}

static void the_step_key_is_derived_from_the_digits_of_the_session_key(void **state)
{
	uint8_t key[SHA256_LEN];
	char hex[SHA256_HEX];

	(void)state;
	key_step(session_key_hex, "train", 3, key);
	hex_encode(key, sizeof(key), hex);
	assert_string_equal(hex,
			    "9fcb2ad0f4875cd1a35572c5ebb31378c8aa5356b742bd11b4a870b5d0d6fe65");
}

static void each_step_and_attempt_has_a_key_of_its_own(void **state)
{
	uint8_t a[SHA256_LEN], b[SHA256_LEN], c[SHA256_LEN];

	(void)state;
	key_step(session_key_hex, "train", 1, a);
	key_step(session_key_hex, "train", 11, b);
	key_step(session_key_hex, "trains", 1, c);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_memory_not_equal(a, c, sizeof(a));
}

static void the_key_id_names_a_key(void **state)
{
	char id[17];

	(void)state;
	key_id(user_key(), id);
	assert_string_equal(id, "68e1f8abcce18ceb");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_token_is_derived_as_the_wire_specification_says),
		cmocka_unit_test(the_session_key_is_derived_as_the_wire_specification_says),
		cmocka_unit_test(the_step_key_is_derived_from_the_digits_of_the_session_key),
		cmocka_unit_test(each_step_and_attempt_has_a_key_of_its_own),
		cmocka_unit_test(the_key_id_names_a_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
