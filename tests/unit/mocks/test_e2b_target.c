/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/target.h"

#define ID "i0123456789abcdefghij"

static void assert_target(const char *host, const char *id, const char *port,
			  enum target_kind kind, unsigned want_port)
{
	struct target t = target_find(host, id, port);

	assert_int_equal(t.kind, kind);
	if (kind != TARGET_SANDBOX)
		return;
	assert_string_equal(t.id, ID);
	assert_int_equal(t.port, want_port);
}

TEST(a_shared_host_is_chosen_on_by_headers)
{
	static const char *const hosts[] = {
		"127.0.0.1:4000", "127.0.0.1", "localhost:1", "[::1]:80", "sandbox.e2b.app",
		"LOCALHOST", "", NULL,
	};

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		assert_target(hosts[i], ID, "49983", TARGET_SANDBOX, 49983);
		assert_target(hosts[i], NULL, NULL, TARGET_CONTROL, 0);
		assert_target(hosts[i], ID, NULL, TARGET_NO_HEADER, 0);
		assert_target(hosts[i], NULL, "80", TARGET_NO_HEADER, 0);
	}
}

TEST(elsewhere_the_first_label_chooses)
{
	assert_target("3000-" ID ".e2b.app", NULL, NULL, TARGET_SANDBOX, 3000);
	assert_target("3000-" ID ".localhost:4711", NULL, NULL, TARGET_SANDBOX, 3000);
	assert_target("49983-" ID "-6532622b.x", NULL, NULL, TARGET_SANDBOX, 49983);
	assert_target("49983-" ID, NULL, NULL, TARGET_SANDBOX, 49983);
	assert_target("3000-I0123456789ABCDEFGHIJ.e2b.app", NULL, NULL, TARGET_SANDBOX, 3000);
}

TEST(headers_do_not_count_where_the_label_does)
{
	assert_target("api.e2b.app", ID, "80", TARGET_CONTROL, 0);
	assert_target("3000-" ID ".e2b.app", "other", "80", TARGET_SANDBOX, 3000);
}

TEST(hosts_of_another_shape_are_the_control_api)
{
	assert_target("api.e2b.app", NULL, NULL, TARGET_CONTROL, 0);
	assert_target("my-api.example", NULL, NULL, TARGET_CONTROL, 0);
	assert_target("-" ID ".e2b.app", NULL, NULL, TARGET_CONTROL, 0);
}

TEST(bad_ids_and_ports_are_told_apart)
{
	assert_target("localhost", "../etc", "80", TARGET_BAD_ID, 0);
	assert_target("localhost", "", "80", TARGET_BAD_ID, 0);
	assert_target("localhost", "I" ID, "80", TARGET_BAD_ID, 0);
	assert_target("localhost", ID, "0", TARGET_BAD_PORT, 0);
	assert_target("localhost", ID, "65536", TARGET_BAD_PORT, 0);
	assert_target("localhost", ID, "80x", TARGET_BAD_PORT, 0);
	assert_target("localhost", ID, "", TARGET_BAD_PORT, 0);
	assert_target("localhost", ID, "-1", TARGET_BAD_PORT, 0);
	assert_target("localhost", ID, "000080", TARGET_BAD_PORT, 0);
	assert_target("http-" ID ".e2b.app", NULL, NULL, TARGET_BAD_PORT, 0);
	assert_target("3000-a_b.e2b.app", NULL, NULL, TARGET_BAD_ID, 0);
	assert_target("localhost", ID, "65535", TARGET_SANDBOX, 65535);
}

TEST(an_id_has_a_bound_and_may_have_a_client_behind_it)
{
	char long_id[SANDBOX_ID_MAX + 1], ret[SANDBOX_ID_MAX];

	memset(long_id, 'a', sizeof(long_id));
	long_id[SANDBOX_ID_MAX] = 0;
	assert_false(sandbox_id_parse(long_id, ret));
	long_id[SANDBOX_ID_MAX - 1] = 0;
	assert_true(sandbox_id_parse(long_id, ret));
	assert_string_equal(ret, long_id);
	assert_true(sandbox_id_parse(ID "-6532622b", ret));
	assert_string_equal(ret, ID);
	assert_false(sandbox_id_parse(ID "-a-b", ret));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_shared_host_is_chosen_on_by_headers),
		cmocka_unit_test(elsewhere_the_first_label_chooses),
		cmocka_unit_test(headers_do_not_count_where_the_label_does),
		cmocka_unit_test(hosts_of_another_shape_are_the_control_api),
		cmocka_unit_test(bad_ids_and_ports_are_told_apart),
		cmocka_unit_test(an_id_has_a_bound_and_may_have_a_client_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
