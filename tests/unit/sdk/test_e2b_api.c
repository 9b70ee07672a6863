/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of the control API against a scripted server. */
#include "tests/unit/sdk/script_server.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "sdk-wrapper/e2b_api.h"

#define KEY "e2b_00112233445566778899aabbccddeeff00112233"
#define ID  "i0123456789abcdefghij"
#define MADE                                                                           \
	"{\"templateID\":\"base\",\"sandboxID\":\"" ID "\",\"clientID\":\"6532622b\"," \
	"\"envdVersion\":\"0.6.13\",\"envdAccessToken\":\"feed\",\"domain\":null}"
#define LISTED(id)                                                                 \
	"{\"sandboxID\":\"" id "\",\"templateID\":\"base\",\"state\":\"running\"," \
	"\"metadata\":{\"farstep_create\":\"u1\"}}"
#define LIST "GET /v2/sandboxes?metadata=farstep_create%3Du1&state=running,paused&limit=100 "

struct client {
	struct loop *loop;
	struct http *http;
	struct e2b_api *api;
	struct e2b_env env;
};

struct got {
	int n, asked;
	struct failure failure;
	bool failed, found;
	struct e2b_sandbox sandbox;
	char items[16][64];
	int n_items;
	int64_t answer; /* an element of the answer */
};

static void client_init(struct client *c)
{
	struct err e = ERR_INIT;

	memset(c, 0, sizeof(*c));
	snprintf(c->env.api_url, sizeof(c->env.api_url), "http://127.0.0.1:%d", script_port);
	snprintf(c->env.api_key, sizeof(c->env.api_key), "%s", KEY);
	c->loop = loop_new(&e);
	c->http = http_new(c->loop, NULL, &e);
	c->api = c->http ? e2b_api_new(c->loop, c->http, &c->env, &e) : NULL;
	if (!c->api)
		fail_msg("%s", e.msg);
}

static void client_free(struct client *c)
{
	e2b_api_free(c->api);
	http_free(c->http);
	loop_free(c->loop);
}

static void on_done(void *user, const struct e2b_result *r)
{
	struct got *g = user;

	g->n++;
	g->failed = r->failure != NULL;
	if (r->failure)
		g->failure = *r->failure;
	if (r->sandbox)
		g->sandbox = *r->sandbox;
	g->found = r->found;
	g->answer = (int64_t)json_count(r->answer);
}

static void on_item(void *user, const struct e2b_sandbox *s, const json *item)
{
	struct got *g = user;

	assert_non_null(item);
	snprintf(g->items[g->n_items++ % 16], 64, "%s", s->id);
}

static void on_asked(void *user)
{
	((struct got *)user)->asked++;
}

static void run_until(struct client *c, const struct got *g, uint32_t ms)
{
	uint64_t until = now_ns() + (uint64_t)ms * 1000000;

	while (!g->n && now_ns() < until)
		loop_pass(c->loop, 20, NULL);
}

static void wait_done(struct client *c, struct got *g)
{
	assert_int_equal(g->n, 0); /* never from inside the call */
	run_until(c, g, 20000);
	assert_int_equal(g->n, 1);
}

static struct e2b_end end_at(struct got *g, uint32_t deadline_ms)
{
	return (struct e2b_end){ deadline_ms, on_done, g };
}

static const char *const labels[] = { "farstep_run", "r1", NULL };
static const struct e2b_create spec = { "base", 300, true, labels, "u1", NULL };

static void create(struct client *c, struct got *g, uint32_t deadline_ms)
{
	struct e2b_end end = end_at(g, deadline_ms);
	struct err e = ERR_INIT;

	if (!e2b_create(c->api, &spec, on_asked, &end, &e))
		fail_msg("%s", e.msg);
	wait_done(c, g);
}

#define CLIENT(...)                           \
	struct client c CLEANUP(client_free); \
	struct got g = { 0 };                 \
	SCRIPT(__VA_ARGS__);                  \
	client_init(&c)

TEST(a_create_is_one_request_with_the_key_and_nothing_of_the_environment)
{
	const char *asked;
	CLIENT({ "POST /v2/sandboxes ", JSON_ANSWER("201", "", MADE) });

	setenv("FARSTEP_TEST_SECRET", "hidden", 1);
	create(&c, &g, 20000);
	assert_false(g.failed);
	assert_string_equal(g.sandbox.id, ID);
	assert_string_equal(g.sandbox.access_token, "feed");
	assert_false(g.found);
	assert_int_equal(script->n_asked, 1);
	asked = script_asked("POST ", 0);
	assert_non_null(strstr(asked, "\r\nX-API-Key: " KEY "\r\n"));
	assert_non_null(strstr(asked, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(asked,
	                       "\r\n\r\n{\"templateID\":\"base\",\"timeout\":300,"
	                       "\"allow_internet_access\":true,\"metadata\":{\"farstep_run\":"
	                       "\"r1\",\"farstep_create\":\"u1\"}}"));
	assert_null(strstr(asked, "hidden"));
	assert_null(strstr(asked, "envVars"));
}

TEST(an_older_server_gets_the_first_version_with_secure)
{
	CLIENT({ "POST /v2/sandboxes ", "HTTP/1.1 404 x\r\n\r\n404 page not found" },
	       { "POST /sandboxes ", JSON_ANSWER("201", "", MADE) },
	       { "POST /sandboxes/" ID "/connect ", JSON_ANSWER("201", "", MADE) });
	struct got again = { 0 };
	struct e2b_end end = end_at(&again, 5000);

	create(&c, &g, 20000);
	assert_false(g.failed);
	assert_non_null(strstr(script_asked("POST /sandboxes ", 0), "\"secure\":true"));
	e2b_connect(c.api, ID, 60, &end, NULL); /* and it is remembered */
	wait_done(&c, &again);
	assert_false(again.failed);
	assert_int_equal(script->n_asked, 3);
}

TEST(an_unknown_template_is_no_older_server)
{
	CLIENT({ "POST /v2/sandboxes ",
	         JSON_ANSWER("404", "",
	                     "{\"code\":404,\"message\":\"template 'base' not found\"}") });

	create(&c, &g, 20000);
	assert_true(g.failed);
	assert_int_equal(g.failure.class, FAIL_TEMPLATE);
	assert_int_equal(script->n_asked, 1);
}

TEST(a_create_whose_answer_was_lost_is_found_and_not_repeated)
{
	static const char *const lost[] = {
		CUT,
		"HTTP/1.1 500 x\r\n\r\n",
		JSON_ANSWER("502", "", "<html>"),
		JSON_ANSWER("201", "", "{\"sand"),
	};

	for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
		CLIENT({ "POST /v2/sandboxes ", lost[i] },
		       { LIST, JSON_ANSWER("200", "", "[" LISTED(ID) "]") },
		       { "GET /sandboxes/" ID " ", JSON_ANSWER("200", "", MADE) });

		create(&c, &g, 20000);
		assert_false(g.failed);
		assert_true(g.found);
		assert_string_equal(g.sandbox.access_token, "feed");
		assert_int_equal(script_count("POST "), 1);
	}
}

TEST(a_create_that_hangs_is_looked_for_before_the_deadline)
{
	CLIENT({ "POST /v2/sandboxes ", HANG },
	       { LIST, JSON_ANSWER("200", "", "[" LISTED(ID) "]") },
	       { "GET /sandboxes/" ID " ", JSON_ANSWER("200", "", MADE) });

	create(&c, &g, 2500);
	assert_false(g.failed);
	assert_true(g.found);
	assert_int_equal(script_count("POST "), 1);
}

TEST(what_appears_only_after_a_while_is_still_found)
{
	CLIENT({ "POST /v2/sandboxes ", CUT }, { LIST, JSON_ANSWER("200", "", "[]") },
	       { LIST, JSON_ANSWER("200", "", "[" LISTED(ID) "]") },
	       { "GET /sandboxes/" ID " ", JSON_ANSWER("200", "", MADE) });

	create(&c, &g, 20000);
	assert_false(g.failed);
	assert_true(g.found);
	assert_int_equal(script_count("POST "), 1);
}

TEST(a_create_that_was_not_carried_out_is_repeated_and_then_swept)
{
	CLIENT({ "POST /v2/sandboxes ", "HTTP/1.1 500 x\r\n\r\n" },
	       { LIST, JSON_ANSWER("200", "", "[]") },
	       { "POST /v2/sandboxes ", JSON_ANSWER("201", "", MADE) },
	       { LIST, JSON_ANSWER("200", "", "[" LISTED("iother") "," LISTED(ID) "]") },
	       { "DELETE /sandboxes/iother ", "HTTP/1.1 204 x\r\n\r\n" });
	uint64_t until;

	create(&c, &g, 20000);
	assert_int_equal(g.asked, 1); /* of the first request alone */
	assert_false(g.failed);
	assert_false(g.found);
	assert_string_equal(g.sandbox.id, ID);
	until = now_ns() + 3000000000;
	while (!script_count("DELETE ") && now_ns() < until)
		loop_pass(c.loop, 20, NULL);
	assert_int_equal(script_count("DELETE /sandboxes/iother "), 1);
	assert_int_equal(script_count("DELETE "), 1);
}

TEST(two_of_one_create_leave_one)
{
	CLIENT({ "POST /v2/sandboxes ", CUT },
	       { LIST, JSON_ANSWER("200", "", "[" LISTED(ID) "," LISTED("iother") "]") },
	       { "GET /sandboxes/" ID " ", JSON_ANSWER("200", "", MADE) },
	       { "DELETE /sandboxes/iother ", "HTTP/1.1 204 x\r\n\r\n" });
	uint64_t until;

	create(&c, &g, 20000);
	assert_string_equal(g.sandbox.id, ID);
	until = now_ns() + 3000000000;
	while (!script_count("DELETE ") && now_ns() < until)
		loop_pass(c.loop, 20, NULL);
	assert_int_equal(script_count("DELETE /sandboxes/iother "), 1);
}

TEST(when_nobody_can_tell_the_failure_says_so)
{
	CLIENT({ "POST /v2/sandboxes ", CUT },
	       { LIST, JSON_ANSWER("401", "", "{\"code\":401,\"message\":\"no\"}") });

	create(&c, &g, 20000);
	assert_true(g.failed);
	assert_int_equal(g.failure.class, FAIL_CUT);
	assert_int_equal(g.failure.err.admitted, ADMITTED_UNKNOWN);
	assert_non_null(strstr(g.failure.err.msg, "whether it was made is unknown"));
	assert_int_equal(script_count("POST "), 1);
}

TEST(what_was_found_but_cannot_be_asked_for_may_still_be_there)
{
	static const struct {
		const char *answer;
		enum admitted admitted;
	} rows[] = {
		{ JSON_ANSWER("401", "", "{\"code\":401,\"message\":\"no\"}"), ADMITTED_UNKNOWN },
		{ JSON_ANSWER("400", "", "{\"code\":400,\"message\":\"no\"}"), ADMITTED_UNKNOWN },
		{ JSON_ANSWER("404", "",
			      "{\"code\":404,\"message\":\"Sandbox \\\"x\\\" is gone\"}"),
		  ADMITTED_NO },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLIENT({ "POST /v2/sandboxes ", CUT },
		       { LIST, JSON_ANSWER("200", "", "[" LISTED(ID) "]") },
		       { "GET /sandboxes/" ID " ", rows[i].answer });

		create(&c, &g, 20000);
		assert_true(g.failed);
		assert_true(g.found);
		assert_int_equal(g.failure.err.admitted, rows[i].admitted);
		assert_int_equal(script_count("POST "), 1);
	}
}

TEST(quota_and_key_are_final_after_one_request)
{
	static const struct {
		const char *answer;
		enum fail_class class;
		int exit;
	} rows[] = {
		{ JSON_ANSWER("429", "",
		              "{\"code\":429,\"message\":\"you have reached the maximum number "
		              "of concurrent E2B sandboxes (20).\"}"),
		  FAIL_QUOTA, 4 },
		{ JSON_ANSWER("401", "", "{\"code\":401,\"message\":\"Invalid API key\"}"),
		  FAIL_KEY, 8 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLIENT({ "POST /v2/sandboxes ", rows[i].answer });

		create(&c, &g, 20000);
		assert_true(g.failed);
		assert_int_equal(g.failure.class, rows[i].class);
		assert_int_equal(err_exit(g.failure.err.code), rows[i].exit);
		assert_int_equal(script->n_asked, 1);
	}
}

TEST(a_rate_limit_is_waited_out_for_as_long_as_it_says)
{
	uint64_t begun;
	CLIENT({ "POST /v2/sandboxes ",
	         JSON_ANSWER("429", "Retry-After: 1\r\n",
	                     "{\"code\":429,\"message\":\"Rate limit exceeded\"}") },
	       { "POST /v2/sandboxes ", JSON_ANSWER("201", "", MADE) });

	begun = now_ns();
	create(&c, &g, 20000);
	assert_false(g.failed);
	assert_true(now_ns() - begun >= UINT64_C(1000000000));
	assert_int_equal(script->n_asked, 2);
}

TEST(no_capacity_is_tried_again_without_asking)
{
	CLIENT({ "POST /v2/sandboxes ", JSON_ANSWER("503", "",
	                                            "{\"code\":503,\"message\":\"Failed to place "
	                                            "sandbox: not enough capacity\"}") },
	       { "POST /v2/sandboxes ", JSON_ANSWER("504", "",
	                                            "{\"code\":504,\"message\":\"Failed to place "
	                                            "sandbox: placement timed out\"}") },
	       { "POST /v2/sandboxes ", JSON_ANSWER("201", "", MADE) });

	create(&c, &g, 20000);
	assert_false(g.failed);
	assert_int_equal(script->n_asked, 3);
}

TEST(a_server_that_is_not_there_is_tried_until_the_deadline)
{
	uint64_t begun;
	CLIENT({ "POST ", CUT });

	snprintf(c.env.api_url, sizeof(c.env.api_url), "http://127.0.0.1:1");
	begun = now_ns();
	create(&c, &g, 1200);
	assert_true(g.failed);
	assert_int_equal(g.failure.class, FAIL_UNREACHED);
	assert_int_equal(g.failure.err.admitted, ADMITTED_NO);
	assert_int_equal(err_exit(g.failure.err.code), 3);
	assert_true(now_ns() - begun < UINT64_C(1600000000));
}

TEST(a_list_goes_through_all_pages)
{
	CLIENT({ "GET /v2/sandboxes?metadata=farstep_run%3Dr1&state=running&limit=100 ",
	         JSON_ANSWER("200", "X-Next-Token: a+b\r\n",
	                     "[" LISTED("i1") "," LISTED("i2") "]") },
	       { "GET "
	         "/v2/sandboxes?metadata=farstep_run%3Dr1&state=running&limit=100&nextToken=a%2Bb ",
	         JSON_ANSWER("200", "X-Next-Token: c\r\n", "[" LISTED("i3") "]") },
	       { "GET /v2/sandboxes?metadata=farstep_run%3Dr1&state=running&limit=100&nextToken=c ",
	         JSON_ANSWER("200", "", "[]") });
	struct e2b_end end = end_at(&g, 10000);

	e2b_list(c.api, labels, false, on_item, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(g.n_items, 3);
	assert_string_equal(g.items[2], "i3");
	assert_int_equal(http_connections(c.http), 1);
}

TEST(a_kill_of_what_is_gone_succeeds)
{
	CLIENT({ "DELETE /sandboxes/" ID " ", JSON_ANSWER("500", "", "") },
	       { "DELETE /sandboxes/" ID " ",
	         JSON_ANSWER("404", "",
	                     "{\"code\":404,\"message\":\"Sandbox \\\"" ID
	                     "\\\" doesn't exist or you don't have access\"}") });
	struct e2b_end end = end_at(&g, 10000);

	e2b_kill(c.api, ID, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(script->n_asked, 2); /* a kill may be repeated */
}

TEST(the_other_calls_have_these_paths_and_bodies)
{
	CLIENT({ "POST /sandboxes/" ID "/timeout ", "HTTP/1.1 204 x\r\n\r\n" },
	       { "POST /sandboxes/" ID "/pause ", "HTTP/1.1 204 x\r\n\r\n" },
	       { "POST /v2/sandboxes/" ID "/connect ", JSON_ANSWER("200", "", MADE) },
	       { "GET /sandboxes/" ID "/metrics ", JSON_ANSWER("200", "", "[{\"cpuCount\":2}]") },
	       { "GET /v2/sandboxes/" ID "/logs?limit=10 ",
	         JSON_ANSWER("200", "", "{\"logs\":[]}") },
	       { "GET /sandboxes/..%2Fx ",
	         JSON_ANSWER("400", "", "{\"code\":400,\"message\":\"Invalid sandbox ID\"}") });
	struct e2b_end end = end_at(&g, 10000);

	e2b_set_timeout(c.api, ID, 77, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_non_null(strstr(script_asked("POST ", 0), "\r\n\r\n{\"timeout\":77}"));
	g.n = 0;
	e2b_pause(c.api, ID, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	g.n = 0;
	e2b_connect(c.api, ID, 60, &end, NULL);
	wait_done(&c, &g);
	assert_string_equal(g.sandbox.id, ID);
	g.n = 0;
	e2b_metrics(c.api, ID, &end, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.answer, 1);
	g.n = 0;
	e2b_logs(c.api, ID, 10, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	g.n = 0;
	e2b_get(c.api, "../x", &end, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.failure.class, FAIL_GONE);
}

TEST(the_breaker_spares_a_server_that_fails_all_the_time)
{
	CLIENT({ "GET ", "HTTP/1.1 500 x\r\n\r\n" }, { "GET ", "HTTP/1.1 500 x\r\n\r\n" },
	       { "GET ", "HTTP/1.1 500 x\r\n\r\n" }, { "GET ", "HTTP/1.1 500 x\r\n\r\n" },
	       { "GET ", "HTTP/1.1 500 x\r\n\r\n" }, { "GET ", "HTTP/1.1 500 x\r\n\r\n" },
	       { "GET ", "HTTP/1.1 500 x\r\n\r\n" }, { "GET ", "HTTP/1.1 500 x\r\n\r\n" });
	struct e2b_end end = end_at(&g, 300);
	int asked;

	for (int i = 0; i < 8; i++) {
		g.n = 0;
		e2b_get(c.api, ID, &end, NULL);
		wait_done(&c, &g);
	}
	asked = script->n_asked;
	assert_in_range(asked, 8, 12);
	g.n = 0;
	e2b_get(c.api, ID, &end, NULL);
	wait_done(&c, &g);
	assert_int_equal(script->n_asked, asked);
	assert_int_equal(g.failure.class, FAIL_UNREACHED);
	assert_non_null(strstr(g.failure.err.msg, "left alone"));
	assert_non_null(strstr(g.failure.err.msg, "in a row"));
}

TEST(who_asks_too_often_is_told_that_it_was_farstep_that_waited)
{
	CLIENT({ "GET ", CUT });
	struct got others = { 0 };
	struct e2b_end end = end_at(&others, 5000), end2 = end_at(&g, 50);

	snprintf(c.env.api_url, sizeof(c.env.api_url), "http://127.0.0.1:1");
	for (int i = 0; i < 30; i++)
		e2b_get(c.api, ID, &end, NULL);
	loop_pass(c.loop, 0, NULL);
	e2b_get(c.api, ID, &end2, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.failure.class, FAIL_RATE);
	assert_int_equal(g.failure.err.admitted, ADMITTED_NO);
	assert_non_null(strstr(g.failure.err.msg, "farstep itself asks 10 times a second"));
	assert_null(strstr(g.failure.err.msg, "left alone"));
	assert_int_equal(script->n_asked, 0);
}

TEST(cancelled_calls_and_a_freed_api_are_silent)
{
	CLIENT({ "POST /v2/sandboxes ", CUT }, { LIST, HANG }, { "GET /sandboxes/a ", HANG });
	struct got other = { 0 };
	struct e2b_end end = end_at(&g, 10000), end2 = end_at(&other, 10000);
	struct e2b_call *call;
	uint64_t until;

	call = e2b_get(c.api, "a", &end2, NULL);
	e2b_create(c.api, &spec, NULL, &end, NULL);
	until = now_ns() + 2000000000;
	while (!script_count(LIST) && now_ns() < until)
		loop_pass(c.loop, 20, NULL);
	assert_int_equal(script_count(LIST), 1);
	e2b_cancel(call);
	e2b_cancel(NULL);
	e2b_api_free(c.api); /* the create is asking */
	c.api = NULL;
	run_until(&c, &g, 100);
	assert_int_equal(g.n + other.n, 0);
}

static int teardown(void **state)
{
	(void)state;
	script_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_create_is_one_request_with_the_key_and_nothing_of_the_environment),
		cmocka_unit_test(an_older_server_gets_the_first_version_with_secure),
		cmocka_unit_test(an_unknown_template_is_no_older_server),
		cmocka_unit_test(a_create_whose_answer_was_lost_is_found_and_not_repeated),
		cmocka_unit_test(a_create_that_hangs_is_looked_for_before_the_deadline),
		cmocka_unit_test(what_appears_only_after_a_while_is_still_found),
		cmocka_unit_test(a_create_that_was_not_carried_out_is_repeated_and_then_swept),
		cmocka_unit_test(two_of_one_create_leave_one),
		cmocka_unit_test(when_nobody_can_tell_the_failure_says_so),
		cmocka_unit_test(what_was_found_but_cannot_be_asked_for_may_still_be_there),
		cmocka_unit_test(quota_and_key_are_final_after_one_request),
		cmocka_unit_test(a_rate_limit_is_waited_out_for_as_long_as_it_says),
		cmocka_unit_test(no_capacity_is_tried_again_without_asking),
		cmocka_unit_test(a_server_that_is_not_there_is_tried_until_the_deadline),
		cmocka_unit_test(a_list_goes_through_all_pages),
		cmocka_unit_test(a_kill_of_what_is_gone_succeeds),
		cmocka_unit_test(the_other_calls_have_these_paths_and_bodies),
		cmocka_unit_test(the_breaker_spares_a_server_that_fails_all_the_time),
		cmocka_unit_test(who_asks_too_often_is_told_that_it_was_farstep_that_waited),
		cmocka_unit_test(cancelled_calls_and_a_freed_api_are_silent),
	};

	setenv("NO_PROXY", "*", 1);
	log_open(STDERR_FILENO, LOG_ERROR, false, "test");
	return cmocka_run_group_tests(tests, NULL, teardown);
}
