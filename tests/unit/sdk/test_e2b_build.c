/* SPDX-License-Identifier: Apache-2.0
 *
 * Builds of templates against a scripted server. */
#include "tests/unit/sdk/script_server.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/e2b_build.h"

#define KEY "e2b_00112233445566778899aabbccddeeff00112233"
#define HASH "0011223344556677889900112233445566778899001122334455667788990011"

#define NAMED                                                                         \
	{ "POST /v3/templates ",                                                      \
	  JSON_ANSWER("202", "", "{\"templateID\":\"t1\",\"buildID\":\"b1\",\"names\":[]}") }
#define TRIGGERED { "POST /v2/templates/t1/builds/b1 ", "HTTP/1.1 202 x\r\n\r\n" }
#define STATUS(offset, body)                                                             \
	{ "GET /templates/t1/builds/b1/status?logsOffset=" offset "&limit=100 ", \
	  JSON_ANSWER("200", "", body) }
#define READY STATUS("0", "{\"status\":\"ready\",\"logEntries\":[]}")

static const struct e2b_build_step steps[] = {
	{ .type = "ENV", .args = { "A", "b \"c\"" }, .fd = -1 },
	{ .type = "COPY", .args = { "w", "/opt/w", "root:root", "0755" }, .fd = -1, .hash = HASH },
	{ .type = "RUN", .args = { "true" }, .fd = -1 },
};
static const struct e2b_build_spec from_image = {
	.name = "mine", .size = { 2, 1024 }, .from_image = "debian:12-slim", .steps = steps,
	.n_steps = 3
};
static const struct e2b_build_spec from_template = {
	.name = "farstep-base-4c-8192m", .size = { 4, 8192 }, .from_template = "base"
};

TEST(the_requests_are_these_bytes)
{
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&b, 4096);
	assert_ok(e2b_template_body(&from_template, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, &e), "{\"name\":\"farstep-base-4c-8192m\",\"cpuCount\":4,"
					      "\"memoryMB\":8192}");
	buf_reset(&b);
	assert_ok(e2b_build_body(&from_template, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, &e),
			    "{\"fromTemplate\":\"base\",\"steps\":[],\"force\":false}");
	buf_reset(&b);
	assert_ok(e2b_build_body(&from_image, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, &e),
			    "{\"fromImage\":\"debian:12-slim\",\"steps\":["
			    "{\"type\":\"ENV\",\"args\":[\"A\",\"b \\\"c\\\"\"]},"
			    "{\"type\":\"COPY\",\"args\":[\"w\",\"/opt/w\",\"root:root\",\"0755\"],"
			    "\"filesHash\":\"" HASH "\"},"
			    "{\"type\":\"RUN\",\"args\":[\"true\"]}],\"force\":false}");
}

/* --- a build --- */

struct got {
	int n;
	bool failed;
	struct err err;
	char lines[2000];
};

static void on_line(void *user, const char *line)
{
	struct got *g = user;
	size_t n = strlen(g->lines);

	snprintf(g->lines + n, sizeof(g->lines) - n, "%s\n", line);
}

static void on_done(void *user, const struct err *err)
{
	struct got *g = user;

	g->n++;
	g->failed = err != NULL;
	if (err)
		g->err = *err;
}

static struct got build(const struct e2b_build_spec *spec, uint32_t deadline_ms)
{
	struct got g = { .n = 0 };
	const struct e2b_build_hooks hooks = { &g, on_line, on_done };
	uint64_t until = now_ns() + UINT64_C(20000000000);
	struct e2b_env env = { .api_key = KEY };
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	struct http *h = http_new(l, NULL, &e);
	struct e2b_api *a;

	snprintf(env.api_url, sizeof(env.api_url), "http://127.0.0.1:%d", script_port);
	a = e2b_api_new(l, h, &env, &e);
	if (!e2b_build_start(l, h, a, spec, deadline_ms, &hooks, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(g.n, 0);	/* never from inside the call */
	while (!g.n && now_ns() < until)
		loop_pass(l, 20, NULL);
	assert_int_equal(g.n, 1);
	e2b_api_free(a);
	http_free(h);
	loop_free(l);
	return g;
}

TEST(a_template_is_named_built_and_waited_for)
{
	struct got g;

	SCRIPT(NAMED, TRIGGERED,
	       STATUS("0", "{\"status\":\"building\",\"logEntries\":[{\"message\":\"one\\n\"},"
			   "{\"message\":\"two\\u001b[0m\"}]}"),
	       STATUS("2", "{\"status\":\"ready\",\"logEntries\":[{\"message\":\"three\"}]}"));
	g = build(&from_template, 10000);
	if (g.failed)
		fail_msg("%s", g.err.msg);
	assert_string_equal(g.lines, "building\none\ntwo [0m\nthree\n");
	assert_non_null(strstr(script_asked("POST /v3/templates ", 0),
			       "\r\n\r\n{\"name\":\"farstep-base-4c-8192m\",\"cpuCount\":4,"
			       "\"memoryMB\":8192}"));
	assert_non_null(strstr(script_asked("POST /v2/templates/", 0),
			       "\r\n\r\n{\"fromTemplate\":\"base\",\"steps\":[],\"force\":false}"));
	assert_non_null(strcasestr(script_asked("POST /v2/templates/", 0), "x-api-key: " KEY));
}

TEST(files_that_are_there_already_are_not_sent_again)
{
	struct got g;

	SCRIPT(NAMED,
	       { "GET /templates/t1/files/" HASH " ",
		 JSON_ANSWER("201", "", "{\"present\":true}") },
	       TRIGGERED, READY);
	g = build(&from_image, 10000);
	if (g.failed)
		fail_msg("%s", g.err.msg);
	assert_int_equal(script_count("PUT "), 0);
	assert_int_equal(script_count("GET /templates/t1/files/"), 1);
}

TEST(a_build_that_fails_says_why_and_where)
{
	struct got g;

	SCRIPT(NAMED, TRIGGERED,
	       STATUS("0", "{\"status\":\"error\",\"logEntries\":[{\"message\":\"E: no\"}],"
			   "\"reason\":{\"message\":\"exit status 100\",\"step\":\"2\"}}"));
	g = build(&from_template, 10000);
	assert_true(g.failed);
	assert_string_equal(g.err.msg, "template farstep-base-4c-8192m: the build failed at step "
				       "2: exit status 100");
	assert_int_equal(err_exit(g.err.code), 3);
	assert_string_equal(g.lines, "building\nE: no\n");
}

TEST(refusals_are_what_they_are)
{
	struct got g;

	SCRIPT({ "POST /v3/templates ",
		 JSON_ANSWER("400", "",
			     "{\"code\":400,\"message\":\"CPU count can't be higher than 8\"}") });
	g = build(&from_template, 10000);
	assert_true(g.failed);
	assert_non_null(strstr(g.err.msg, "CPU count can't be higher than 8"));
	assert_int_equal(script_count("POST "), 1);
	SCRIPT({ "POST /v3/templates ",
		 JSON_ANSWER("429", "",
			     "{\"code\":429,\"message\":\"you have reached the maximum number of "
			     "concurrent template builds (20).\"}") });
	g = build(&from_template, 10000);
	assert_int_equal(err_exit(g.err.code), 4);
	SCRIPT(NAMED, { "POST /v2/templates/t1/builds/b1 ",
			JSON_ANSWER("404", "",
				    "{\"code\":404,\"message\":\"template 'base' not found\"}") });
	g = build(&from_template, 10000);
	assert_non_null(strstr(g.err.msg, "template 'base' not found"));
}

TEST(a_start_whose_answer_was_lost_is_found_to_have_begun)
{
	struct got g;

	SCRIPT(NAMED, { "POST /v2/templates/t1/builds/b1 ", CUT },
	       { "POST /v2/templates/t1/builds/b1 ",
		 JSON_ANSWER("400", "",
			     "{\"code\":400,\"message\":\"build is not in waiting state\"}") },
	       STATUS("0", "{\"status\":\"building\"}"), READY);
	g = build(&from_template, 10000);
	if (g.failed)
		fail_msg("%s", g.err.msg);
	SCRIPT(NAMED,
	       { "POST /v2/templates/t1/builds/b1 ",
		 JSON_ANSWER("400", "", "{\"code\":400,\"message\":\"validation error: no\"}") },
	       STATUS("0", "{\"status\":\"waiting\"}"));
	g = build(&from_template, 10000);	/* it has not: that is the reason */
	assert_true(g.failed);
	assert_non_null(strstr(g.err.msg, "validation error: no"));
}

TEST(what_cannot_be_an_answer_is_an_error)
{
	struct got g;

	SCRIPT({ "POST /v3/templates ", JSON_ANSWER("202", "", "{\"templateID\":\"t1\"}") });
	g = build(&from_template, 10000);
	assert_int_equal(err_exit(g.err.code), 7);
	SCRIPT(NAMED, TRIGGERED, STATUS("0", "{\"status\":\"odd\"}"));
	g = build(&from_template, 10000);
	assert_string_equal(g.err.msg,
			    "template farstep-base-4c-8192m: a build cannot be 'odd'");
	SCRIPT(NAMED,
	       { "GET /templates/t1/files/" HASH " ",
		 JSON_ANSWER("201", "", "{\"present\":false}") });
	g = build(&from_image, 10000);
	assert_string_equal(g.err.msg, "template mine: there is no link to upload the files to");
}

TEST(a_build_that_is_not_ready_in_time_is_given_up)
{
	struct got g;

	SCRIPT(NAMED, TRIGGERED, STATUS("0", "{\"status\":\"building\"}"),
	       STATUS("0", "{\"status\":\"building\"}"), STATUS("0", "{\"status\":\"building\"}"));
	g = build(&from_template, 2500);
	assert_true(g.failed);
	assert_int_equal(err_exit(g.err.code), 5);
}

static int stop(void **state)
{
	(void)state;
	script_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_requests_are_these_bytes),
		cmocka_unit_test(a_template_is_named_built_and_waited_for),
		cmocka_unit_test(files_that_are_there_already_are_not_sent_again),
		cmocka_unit_test(a_build_that_fails_says_why_and_where),
		cmocka_unit_test(refusals_are_what_they_are),
		cmocka_unit_test(a_start_whose_answer_was_lost_is_found_to_have_begun),
		cmocka_unit_test(what_cannot_be_an_answer_is_an_error),
		cmocka_unit_test(a_build_that_is_not_ready_in_time_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, stop);
}
