/* SPDX-License-Identifier: Apache-2.0
 *
 * E2B's environment variables, requests and answers, byte by byte. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/e2b_env.h"
#include "sdk-wrapper/e2b_wire.h"

/* --- environment --- */

static const char *vars[16]; /* name, value, ... */

static const char *get(const char *name)
{
	for (size_t i = 0; vars[i]; i += 2)
		if (strcmp(vars[i], name) == 0)
			return vars[i + 1];
	return NULL;
}

#define WITH(...)                                            \
	do {                                                 \
		const char *list_[] = { __VA_ARGS__, NULL }; \
		memcpy(vars, list_, sizeof(list_));          \
	} while (0)

#define KEY "E2B_API_KEY", "e2b_0123456789abcdef"

static struct e2b_env env_of(void)
{
	struct e2b_env env;
	struct err e = ERR_INIT;

	assert_ok(e2b_env_read(get, &env, &e), &e);
	return env;
}

static const char *base_of(const struct e2b_env *env, const char *domain, int port, bool *shared)
{
	static struct e2b_place p;
	struct err e = ERR_INIT;

	assert_ok(e2b_place(env, domain, "i0123", port, &p, &e), &e);
	*shared = p.shared;
	return p.base;
}

TEST(without_more_than_a_key_it_is_the_official_cloud)
{
	struct e2b_env env;
	bool shared;

	WITH(KEY);
	env = env_of();
	assert_string_equal(env.api_url, "https://api.e2b.app");
	assert_string_equal(base_of(&env, "", 49983, &shared), "https://sandbox.e2b.app");
	assert_true(shared);
	assert_string_equal(base_of(&env, "", 49999, &shared), "https://49999-i0123.e2b.app");
	assert_false(shared);
}

TEST(the_domain_of_the_answer_goes_before_the_variable)
{
	struct e2b_env env;
	bool shared;

	WITH(KEY, "E2B_DOMAIN", "e2b.example.org");
	env = env_of();
	assert_string_equal(env.api_url, "https://api.e2b.example.org");
	assert_string_equal(base_of(&env, "", 49983, &shared),
	                    "https://49983-i0123.e2b.example.org");
	assert_string_equal(base_of(&env, "byoc.example", 49983, &shared),
	                    "https://49983-i0123.byoc.example");
}

TEST(urls_of_their_own_replace_both_and_lose_their_slash)
{
	struct e2b_env env;
	bool shared;

	WITH(KEY, "E2B_API_URL", "http://127.0.0.1:3000//", "E2B_SANDBOX_URL",
	     "http://127.0.0.1:3001/");
	env = env_of();
	assert_string_equal(env.api_url, "http://127.0.0.1:3000");
	assert_string_equal(base_of(&env, "other.domain", 49983, &shared), "http://127.0.0.1:3001");
	assert_true(shared);
	assert_string_equal(base_of(&env, "", 49999, &shared), "http://127.0.0.1:3001");
}

TEST(debug_means_this_machine_and_needs_no_key)
{
	struct e2b_env env;
	bool shared;

	WITH("E2B_DEBUG", "True");
	env = env_of();
	assert_true(env.debug);
	assert_string_equal(env.api_url, "http://localhost:3000");
	assert_string_equal(base_of(&env, "", 49983, &shared), "http://localhost:49983");
	assert_string_equal(base_of(&env, "", 49999, &shared), "http://localhost:49999");
	WITH(KEY, "E2B_DEBUG", "1"); /* only "true", as the official client has it */
	assert_false(env_of().debug);
}

TEST(keys_and_urls_that_cannot_be_right_are_named)
{
	struct e2b_env env;
	struct err e;

	WITH("E2B_DOMAIN", "x");
	assert_fails(e2b_env_read(get, &env, &e), &e, ERR_DENIED,
	             "E2B_API_KEY is not set: the target e2b needs the key of an E2B account");
	assert_int_equal(err_exit(e.code), 8);
	WITH("E2B_API_KEY", "sk_1234");
	assert_true(e2b_env_read(get, &env, &e) < 0);
	assert_null(strstr(e.msg, "sk_1234"));
	WITH("E2B_API_KEY", "sk_1234", "E2B_VALIDATE_API_KEY", "false");
	assert_ok(e2b_env_read(get, &env, &e), &e);
	WITH("E2B_API_KEY", "e2b_12\r\nX: y", "E2B_VALIDATE_API_KEY", "false");
	assert_true(e2b_env_read(get, &env, &e) < 0);
	WITH(KEY, "E2B_API_URL", "api.e2b.app");
	assert_fails(e2b_env_read(get, &env, &e), &e, ERR_USAGE,
	             "E2B_API_URL: 'api.e2b.app': want http://... or https://...");
}

/* --- requests --- */

static const char *const labels[] = { "farstep_run", "r1", NULL };

TEST(the_create_bodies_are_these_bytes)
{
	struct e2b_create c = { "base", 300, true, labels, "c\"1", NULL };
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&b, 4096);
	assert_ok(e2b_create_body(&c, E2B_V2, &b, &e), &e);
	assert_string_equal(
		buf_cstr(&b, NULL),
		"{\"templateID\":\"base\",\"timeout\":300,\"allow_internet_access\":true,"
		"\"metadata\":{\"farstep_run\":\"r1\",\"farstep_create\":\"c\\\"1\"}}");
	buf_reset(&b);
	c.internet = false;
	c.metadata = NULL;
	assert_ok(e2b_create_body(&c, E2B_V1, &b, &e), &e);
	assert_string_equal(
		buf_cstr(&b, NULL),
		"{\"templateID\":\"base\",\"timeout\":300,\"secure\":true,"
		"\"allow_internet_access\":false,\"metadata\":{\"farstep_create\":\"c\\\"1\"}}");
}

TEST(the_network_is_closed_unless_asked_for_and_hosts_are_openings_in_it)
{
	static const char *const hosts[] = { "*.example.org", "10.1.0.0/16", NULL };
	struct e2b_create c = { "base", 300, false, NULL, "c1", hosts };
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&b, 4096);
	assert_ok(e2b_create_body(&c, E2B_V2, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, NULL),
			    "{\"templateID\":\"base\",\"timeout\":300,"
			    "\"allow_internet_access\":false,"
			    "\"network\":{\"allowOut\":[\"*.example.org\",\"10.1.0.0/16\"],"
			    "\"denyOut\":[\"0.0.0.0/0\"]},"
			    "\"metadata\":{\"farstep_create\":\"c1\"}}");
	buf_reset(&b);
	c.internet = true;	/* then a list would take away */
	assert_ok(e2b_create_body(&c, E2B_V2, &b, &e), &e);
	assert_null(strstr(buf_cstr(&b, NULL), "network"));
	buf_reset(&b);
	c = (struct e2b_create){ "base", 300, false, NULL, "c1", NULL };
	assert_ok(e2b_create_body(&c, E2B_V2, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, NULL),
			    "{\"templateID\":\"base\",\"timeout\":300,"
			    "\"allow_internet_access\":false,"
			    "\"metadata\":{\"farstep_create\":\"c1\"}}");
}

TEST(metadata_filters_are_encoded_three_times)
{
	static const struct {
		const char *pairs[5];
		const char *want;
	} rows[] = {
		{ { "k", "v w", NULL }, "metadata=k%3Dv%252520w" },
		{ { "k", "plain-1.2_3~", NULL }, "metadata=k%3Dplain-1.2_3~" },
		{ { "a", "1", "b", "2", NULL }, "metadata=a%3D1%26b%3D2" },
		{ { "a&b", "c=d", NULL }, "metadata=a%252526b%3Dc%25253Dd" },
		{ { "k", "100%", NULL }, "metadata=k%3D100%252525" },
	};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b CLEANUP(buf_release), want CLEANUP(buf_release);

		buf_init(&b, 4096);
		buf_init(&want, 4096);
		assert_ok(e2b_list_path(rows[i].pairs, false, 100, &b, &e), &e);
		buf_printf(&want, NULL, "/v2/sandboxes?%s&state=running&limit=100", rows[i].want);
		assert_string_equal(buf_cstr(&b, NULL), buf_cstr(&want, NULL));
	}
}

TEST(a_filter_that_the_server_would_refuse_is_refused_here)
{
	static const char *const empty[] = { "k", "", NULL };
	struct buf b CLEANUP(buf_release);
	struct err e;

	buf_init(&b, 4096);
	assert_fails(e2b_list_path(empty, false, 100, &b, &e), &e, ERR_INVALID_PARAMS,
	             "metadata 'k': a filter needs a name and a value");
}

TEST(the_next_page_is_asked_for_with_the_token_that_came)
{
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&b, 4096);
	assert_ok(e2b_list_path(NULL, true, 2, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, NULL), "/v2/sandboxes?state=running,paused&limit=2");
	buf_reset(&b);
	assert_ok(e2b_next_page("/v2/sandboxes?limit=2", "ab+/=", &b, &e), &e);
	assert_string_equal(buf_cstr(&b, NULL), "/v2/sandboxes?limit=2&nextToken=ab%2B%2F%3D");
}

/* --- answers --- */

static int read_text(const char *text, struct e2b_sandbox *ret, struct err *e)
{
	auto_json json *v = json_parse(text, strlen(text), 1 << 20, 32, e);

	assert_non_null(v);
	return e2b_sandbox_read(v, ret, e);
}

TEST(an_answer_is_read_whether_it_has_much_or_little)
{
	struct e2b_sandbox s;
	struct err e = ERR_INIT;

	assert_ok(read_text("{\"templateID\":\"t\",\"sandboxID\":\"i0123456789abcdefghij\","
	                    "\"clientID\":"
	                    "\"6532622b\",\"envdVersion\":\"0.6.13\",\"envdAccessToken\":\"feed\","
	                    "\"trafficAccessToken\":null,\"domain\":null,\"new\":[1]}",
	                    &s, &e),
	          &e);
	assert_string_equal(s.id, "i0123456789abcdefghij");
	assert_string_equal(s.envd_version, "0.6.13");
	assert_string_equal(s.access_token, "feed");
	assert_string_equal(s.traffic_token, "");
	assert_string_equal(s.domain, "");
	assert_int_equal(s.state, E2B_RUNNING);
	assert_ok(
		read_text("{\"sandboxID\":\"i0\",\"state\":\"paused\",\"domain\":\"byoc.example\","
	                  "\"cpuCount\":2,\"memoryMB\":512}",
	                  &s, &e),
		&e);
	assert_int_equal(s.state, E2B_PAUSED);
	assert_string_equal(s.domain, "byoc.example");
	assert_int_equal(s.cpus, 2);
	assert_int_equal(s.memory_mb, 512);
}

TEST(an_answer_that_would_do_harm_is_refused)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"{\"sandboxID\":7}",
		"{\"sandboxID\":\"\"}",
		"{\"sandboxID\":\"../x\"}",
		"{\"sandboxID\":\"i0\",\"envdAccessToken\":\"a\\r\\nb\"}",
		"{\"sandboxID\":\"i0\",\"domain\":5}",
	};
	struct e2b_sandbox s;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		if (read_text(bad[i], &s, &e) == 0)
			fail_msg("%s was accepted", bad[i]);
	}
}

TEST(metadata_of_a_listed_sandbox_is_found)
{
	const char *text = "{\"metadata\":{\"farstep_run\":\"r1\"}}";
	auto_json json *v = json_parse(text, strlen(text), 1000, 8, NULL);
	char value[8];

	assert_true(e2b_metadata_get(v, "farstep_run", value, sizeof(value)));
	assert_string_equal(value, "r1");
	assert_false(e2b_metadata_get(v, "other", value, sizeof(value)));
	assert_false(e2b_metadata_get(NULL, "other", value, sizeof(value)));
}

TEST(versions_compare_by_number)
{
	static const char *const rising[] = { "",       "0.0.9",  "0.1",     "0.5.2",
		                              "0.5.7",  "0.5.13", "0.6",     "0.6.12",
		                              "0.10.0", "1.0.0",  "99.99.99" };

	for (size_t i = 1; i < ARRAY_LEN(rising); i++)
		if (e2b_version(rising[i - 1]) >= e2b_version(rising[i]))
			fail_msg("%s is not older than %s", rising[i - 1], rising[i]);
	assert_true(e2b_version("0.5.13-rc.1") == e2b_version("0.5.13"));
	assert_true(e2b_version("0.5") == e2b_version("0.5.0"));
	assert_true(e2b_version("v1") == 0);
}

TEST(what_an_envd_can_follows_its_version)
{
	assert_true(envd_can("0.5.13", ENVD_OCTET_STREAM));
	assert_true(envd_can("0.5.7", ENVD_OCTET_STREAM));
	assert_false(envd_can("0.5.6", ENVD_OCTET_STREAM));
	assert_true(envd_can("0.5.6", ENVD_COMPOSE));
	assert_false(envd_can("0.5.4", ENVD_COMPOSE));
	assert_false(envd_can("0.1.5", ENVD_SECURE));
	assert_false(envd_can("0.6.9", ENVD_EXIT_KEPT));
	assert_true(envd_can("0.6.12", ENVD_EXIT_KEPT));
	assert_false(envd_can("", ENVD_STDIN_CHOICE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_more_than_a_key_it_is_the_official_cloud),
		cmocka_unit_test(the_domain_of_the_answer_goes_before_the_variable),
		cmocka_unit_test(urls_of_their_own_replace_both_and_lose_their_slash),
		cmocka_unit_test(debug_means_this_machine_and_needs_no_key),
		cmocka_unit_test(keys_and_urls_that_cannot_be_right_are_named),
		unit_test_of_row(the_create_bodies_are_these_bytes, 33), /* [R33] */
		unit_test_of_row(
			the_network_is_closed_unless_asked_for_and_hosts_are_openings_in_it, 146),
		cmocka_unit_test(metadata_filters_are_encoded_three_times),
		cmocka_unit_test(a_filter_that_the_server_would_refuse_is_refused_here),
		cmocka_unit_test(the_next_page_is_asked_for_with_the_token_that_came),
		cmocka_unit_test(an_answer_is_read_whether_it_has_much_or_little),
		cmocka_unit_test(an_answer_that_would_do_harm_is_refused),
		cmocka_unit_test(metadata_of_a_listed_sandbox_is_found),
		cmocka_unit_test(versions_compare_by_number),
		cmocka_unit_test(what_an_envd_can_follows_its_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
