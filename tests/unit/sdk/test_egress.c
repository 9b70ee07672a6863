/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of hosts of --network. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/egress.h"

TEST(names_domains_addresses_and_networks_are_a_list)
{
	struct err e = ERR_INIT;
	auto_free char **list =
		egress_parse("api.example.org,*.example.net,192.0.2.7,10.0.0.0/8,0.0.0.0/0,a", &e);

	if (!list)
		fail_msg("%s", e.msg);
	assert_string_equal(list[0], "api.example.org");
	assert_string_equal(list[1], "*.example.net");
	assert_string_equal(list[2], "192.0.2.7");
	assert_string_equal(list[3], "10.0.0.0/8");
	assert_string_equal(list[4], "0.0.0.0/0");
	assert_string_equal(list[5], "a");
	assert_null(list[6]);
}

#define HINT "; want off, on, or hosts (api.example.org, *.example.org, 192.0.2.7, 10.0.0.0/8) " \
	     "with commas between"

#define BITS "the bits behind the slash are a number from 0 to 32"

TEST(what_cannot_be_a_host_is_named_with_the_reason)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "", "--network '': it is empty" HINT },
		{ "a.b,,c.d", "--network '': it is empty" HINT },
		{ "a.b,", "--network '': it is empty" HINT },
		{ "https://a.b", "--network 'https://a.b': ports and IPv6 addresses cannot be told "
				 "apart there" HINT },
		{ "a.b:443", "--network 'a.b:443': ports and IPv6 addresses cannot be told apart "
			     "there" HINT },
		{ "a.b/x", "--network 'a.b/x': want a host, not a URL" HINT },
		{ "a.*.b", "--network 'a.*.b': a '*' stands only in front, for all names below: "
			   "*.example.org" HINT },
		{ "*", "--network '*': a '*' stands only in front, for all names below: "
		       "*.example.org" HINT },
		{ "a..b", "--network 'a..b': a part of the name is empty" HINT },
		{ "a.", "--network 'a.': a part of the name is empty" HINT },
		{ "a b", "--network 'a b': no host has such a name" HINT },
		{ "300.1.1.1", "--network '300.1.1.1': that is no IPv4 address" HINT },
		{ "10.0.0.0/33", "--network '10.0.0.0/33': " BITS HINT },
		{ "10.0.0.0/", "--network '10.0.0.0/': " BITS HINT },
		{ "10.0.0.0/-1", "--network '10.0.0.0/-1': " BITS HINT },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;

		assert_null(egress_parse(rows[i].text, &e));
		assert_string_equal(e.msg, rows[i].want);
		assert_int_equal(e.code, ERR_USAGE);
	}
}

TEST(names_and_lists_have_their_bounds)
{
	char text[4 * EGRESS_MAX], label[70];
	struct err e = ERR_INIT;
	auto_free char **list = NULL;

	memset(text, 0, sizeof(text));
	for (size_t i = 0; i < EGRESS_MAX; i++)
		memcpy(text + 2 * i, "a,", 2);
	assert_null(egress_parse(text, &e));	/* one more than there may be, and empty */
	assert_string_equal(e.msg, "--network: over 128 hosts");
	text[2 * EGRESS_MAX - 1] = 0;
	list = egress_parse(text, &e);
	assert_non_null(list);
	assert_non_null(list[EGRESS_MAX - 1]);
	assert_null(list[EGRESS_MAX]);
	memset(label, 'x', 64);
	label[64] = 0;
	assert_null(egress_parse(label, &e));
	assert_non_null(strstr(e.msg, "longer than 63"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_domains_addresses_and_networks_are_a_list),
		cmocka_unit_test(what_cannot_be_a_host_is_named_with_the_reason),
		cmocka_unit_test(names_and_lists_have_their_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
