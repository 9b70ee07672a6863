/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/ws_address.h"

static struct ws_address parsed(const char *text)
{
	struct ws_address a;
	struct err e = ERR_INIT;

	assert_ok(ws_address_parse(text, &a, &e), &e);
	return a;
}

TEST(a_unix_socket_is_connected_directly)
{
	struct ws_address a = parsed("unix:/run/w.sock");

	assert_string_equal(a.host, "+/run/w.sock");
	assert_int_equal(a.port, 0);
	assert_string_equal(a.shown, "localhost");
	assert_string_equal(a.path, "/farstep");
	assert_string_equal(a.tunnel, "");
}

TEST(numbers_are_connected_directly_and_names_through_a_tunnel)
{
	assert_string_equal(parsed("ws://127.0.0.1:80").tunnel, "");
	assert_string_equal(parsed("ws://[::1]:80").tunnel, "");
	assert_string_equal(parsed("ws://[::1]:80").host, "::1");
	assert_string_equal(parsed("ws://[::1]:80").shown, "[::1]:80");
	assert_int_equal(parsed("ws://[::1]:80").port, 80);
	assert_string_equal(parsed("ws://node-7:8080").tunnel, "http://node-7:8080");
}

TEST(tls_always_takes_a_tunnel)
{
	struct ws_address a = parsed("wss://49999-i0.e2b.app");

	assert_string_equal(a.tunnel, "https://49999-i0.e2b.app");
	assert_string_equal(a.shown, "49999-i0.e2b.app");
	assert_int_equal(a.port, 443);
	assert_string_equal(parsed("wss://127.0.0.1:9").tunnel, "https://127.0.0.1:9");
	assert_string_equal(parsed("wss://h/").path, "/farstep");
	assert_string_equal(parsed("wss://h/a/b?c").path, "/a/b?c");
}

TEST(headers_stand_behind_the_hash)
{
	struct ws_address a =
		parsed("ws://127.0.0.1:80/x#E2b-Sandbox-Id=i0&E2b-Sandbox-Port=49999");

	assert_string_equal(a.path, "/x");
	assert_int_equal(a.n_headers, 2);
	assert_string_equal(a.headers[0].name, "E2b-Sandbox-Id");
	assert_string_equal(a.headers[0].value, "i0");
	assert_string_equal(a.headers[1].value, "49999");
	assert_int_equal(parsed("ws://127.0.0.1:80#").n_headers, 0);
}

TEST(anything_else_is_refused_with_what_is_wanted)
{
	static const char *const texts[] = {
		"",
		"http://h:1",
		"ws://127.0.0.1",
		"ws://:1",
		"ws://h:0",
		"ws://h:70000",
		"ws://h:1x",
		"ws://[::1:80",
		"ws://[::1]80",
		"unix:",
		"wss://",
		"wss://user@h",
		"wss://h:",
		"ws://h:1#x",
		"ws://h:1#a b=c",
		"ws://h:1#a=b c",
		"ws://h:1#a=1&b=2&c=3&d=4&e=5",
		"wss://h\r\nx",
	};
	struct ws_address a;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct err e = ERR_INIT;

		if (ws_address_parse(texts[i], &a, &e) == 0)
			fail_msg("'%s' was accepted", texts[i]);
		assert_int_equal(e.code, ERR_USAGE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_unix_socket_is_connected_directly),
		cmocka_unit_test(numbers_are_connected_directly_and_names_through_a_tunnel),
		cmocka_unit_test(tls_always_takes_a_tunnel),
		cmocka_unit_test(headers_stand_behind_the_hash),
		cmocka_unit_test(anything_else_is_refused_with_what_is_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
