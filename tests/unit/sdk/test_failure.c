/* SPDX-License-Identifier: Apache-2.0
 *
 * What answers mean, and what is done about it: failure, retry, breaker, bucket. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/breaker.h"
#include "protocol/base/bucket.h"
#include "sdk-wrapper/retry.h"

#define SAID(code, text) "{\"code\":" #code ",\"message\":\"" text "\"}"

static const struct {
	enum fail_where where;
	int status;
	const char *body;
	enum fail_class class;
	int exit;
} answers[] = {
	{ FAIL_AT_API, 401, SAID(401, "authorization header is missing"), FAIL_KEY, 8 },
	{ FAIL_AT_API, 401, SAID(401, "Invalid API key, please visit https://e2b.dev/docs/api-key"),
	  FAIL_KEY, 8 },
	{ FAIL_AT_API, 403, SAID(403, "team is blocked: unpaid"), FAIL_KEY, 8 },
	{ FAIL_AT_API, 429,
	  SAID(429, "you have reached the maximum number of concurrent E2B sandboxes (20). If"),
	  FAIL_QUOTA, 4 },
	{ FAIL_AT_API, 429, SAID(429, "Rate limit exceeded"), FAIL_RATE, 4 },
	{ FAIL_AT_API, 429, "<html><head><title>429 Too Many Requests</title>", FAIL_RATE, 4 },
	{ FAIL_AT_API, 404, SAID(404, "template 'nope' not found"), FAIL_TEMPLATE, 3 },
	{ FAIL_AT_API, 404, SAID(404, "tag 'x' does not exist for template 'base'"), FAIL_TEMPLATE,
	  3 },
	{ FAIL_AT_API, 403, SAID(403, "you don't have access to template 'theirs'"), FAIL_TEMPLATE,
	  3 },
	{ FAIL_AT_API, 404,
	  SAID(404, "Sandbox \\\"i0\\\" doesn't exist or you don't have access to it"), FAIL_GONE,
	  6 },
	{ FAIL_AT_API, 404, "404 page not found", FAIL_NO_ROUTE, 10 },
	{ FAIL_AT_API, 405, "", FAIL_NO_ROUTE, 10 },
	{ FAIL_AT_API, 400, SAID(400, "Timeout cannot be greater than 1 hours"), FAIL_POLICY, 10 },
	{ FAIL_AT_API, 400, SAID(400, "Max instance length exceeded"), FAIL_POLICY, 10 },
	{ FAIL_AT_API, 400, SAID(400, "validation error: timeout"), FAIL_REQUEST, 3 },
	{ FAIL_AT_API, 409, SAID(409, "Sandbox \\\"i0\\\" is being paused"), FAIL_CONFLICT, 2 },
	{ FAIL_AT_API, 503, SAID(503, "Failed to place sandbox: not enough capacity"),
	  FAIL_NO_CAPACITY, 3 },
	{ FAIL_AT_API, 503,
	  "{\"code\":503,\"message\":\"x\",\"error_code\":"
	  "\"sandbox_no_compatible_node\"}",
	  FAIL_NO_CAPACITY, 3 },
	{ FAIL_AT_API, 504, SAID(504, "Failed to place sandbox: placement timed out after 3"),
	  FAIL_NO_CAPACITY, 3 },
	{ FAIL_AT_API, 504, "upstream request timeout", FAIL_TIMEOUT, 5 },
	{ FAIL_AT_API, 503, "no healthy upstream", FAIL_SERVER, 3 },
	{ FAIL_AT_API, 500, SAID(500, "Failed to create sandbox"), FAIL_SERVER, 3 },
	{ FAIL_AT_API, 502, "<html><title>502 Server Error</title></html>", FAIL_SERVER, 3 },
	{ FAIL_AT_SANDBOX, 502,
	  "{\"sandboxId\":\"i0\",\"message\":\"The sandbox was not found\",\"code\":502}",
	  FAIL_GONE, 6 },
	{ FAIL_AT_SANDBOX, 502,
	  "{\"sandboxId\":\"i0\",\"message\":\"The sandbox is running but port is "
	  "not open\",\"port\":49999,\"code\":502}",
	  FAIL_PORT_CLOSED, 6 },
	{ FAIL_AT_SANDBOX, 502, "<html><title>502</title>", FAIL_SERVER, 3 },
	{ FAIL_AT_SANDBOX, 401, SAID(401, "unauthorized access, please provide"), FAIL_KEY, 8 },
	{ FAIL_AT_SANDBOX, 403, SAID(403, "Sandbox is secured with traffic access token."),
	  FAIL_KEY, 8 },
	{ FAIL_AT_SANDBOX, 404, SAID(404, "path '/x' does not exist"), FAIL_NOT_FOUND, 2 },
	{ FAIL_AT_SANDBOX, 404, "404 page not found", FAIL_NO_ROUTE, 10 },
	{ FAIL_AT_SANDBOX, 507, SAID(507, "not enough disk space"), FAIL_NO_SPACE, 10 },
	{ FAIL_AT_SANDBOX, 404,
	  "{\"code\":\"not_found\",\"message\":\"process with pid 9 not found\"}", FAIL_NOT_FOUND,
	  2 },
	{ FAIL_AT_SANDBOX, 503, "{\"code\":\"unavailable\"}", FAIL_GONE, 6 },
	{ FAIL_AT_SANDBOX, 400, "{\"code\":\"out_of_range\",\"message\":\"x\"}", FAIL_REQUEST, 3 },
	{ FAIL_AT_SANDBOX, 500, "{\"code\":\"never_heard_of\"}", FAIL_SERVER, 3 },
	{ FAIL_AT_API, 302, "", FAIL_PROTOCOL, 7 },
	{ FAIL_AT_API, 418, "teapot", FAIL_REQUEST, 3 },
};

TEST(every_answer_has_its_class_and_its_exit_code)
{
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct failure f;

		failure_of_answer(answers[i].where, "try", answers[i].status, answers[i].body,
		                  strlen(answers[i].body), NULL, &f);
		if (f.class != answers[i].class || err_exit(f.err.code) != answers[i].exit)
			fail_msg("%d %s: %s, exit %d", answers[i].status, answers[i].body,
			         fail_name(f.class), err_exit(f.err.code));
		assert_int_equal(f.status, answers[i].status);
	}
}

TEST(messages_hold_what_was_tried_status_and_reason_on_one_line)
{
	struct failure f;
	const char *page = "<HTML><body>x<title>429 Slow\n down</title>";

	failure_of_answer(FAIL_AT_API, "create sandbox", 401, SAID(401, "no\\nkey"), 32, NULL, &f);
	assert_string_equal(f.err.msg, "create sandbox: key (HTTP 401: no key)");
	failure_of_answer(FAIL_AT_API, "list", 429, page, strlen(page), NULL, &f);
	assert_string_equal(f.err.msg, "list: rate limit (HTTP 429: 429 Slow  down)");
	failure_of_answer(FAIL_AT_API, "list", 500, "", 0, NULL, &f);
	assert_string_equal(f.err.msg, "list: server (HTTP 500)");
	failure_of_connect("start", "unavailable", "gone away", &f);
	assert_string_equal(f.err.msg, "start: gone (unavailable: gone away)");
}

TEST(only_what_may_have_been_carried_out_is_open)
{
	struct failure f;

	failure_of_answer(FAIL_AT_API, "create", 500, "", 0, NULL, &f);
	assert_int_equal(f.err.admitted, ADMITTED_UNKNOWN);
	failure_of_answer(FAIL_AT_API, "create", 429, "", 0, NULL, &f);
	assert_int_equal(f.err.admitted, ADMITTED_NO);
}

TEST(retry_after_counts_in_seconds)
{
	static const struct {
		const char *text;
		bool has;
		uint32_t ms;
	} rows[] = {
		{ "3", true, 3000 },
		{ "0", true, 0 },
		{ NULL, false, 0 },
		{ "", false, 0 },
		{ "-1", false, 0 },
		{ "5x", false, 0 },
		{ "Fri, 31 Dec 1999 23:59:59 GMT", false, 0 },
		{ "99999999999999999999", false, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct failure f;

		failure_of_answer(FAIL_AT_API, "x", 429, "", 0, rows[i].text, &f);
		assert_int_equal(f.has_retry_after, rows[i].has);
		assert_int_equal(f.retry_after_ms, rows[i].ms);
	}
}

TEST(a_request_that_ended_in_another_way_has_its_class_too)
{
	static const struct {
		struct http_response r;
		enum fail_class class;
		enum admitted admitted;
		uint32_t retry_after_ms;
	} rows[] = {
		{ { .end = HTTP_ANSWERED, .status = 204 }, FAIL_NONE, ADMITTED_NO, 0 },
		{ { .end = HTTP_ANSWERED, .status = 503, .headers = "retry-after: 7\r\n" },
		  FAIL_SERVER, ADMITTED_UNKNOWN, 7000 },
		{ { .end = HTTP_ANSWERED, .status = 429 }, FAIL_RATE, ADMITTED_NO, 0 },
		{ { .end = HTTP_NOT_SENT }, FAIL_UNREACHED, ADMITTED_NO, 0 },
		{ { .end = HTTP_CUT }, FAIL_CUT, ADMITTED_UNKNOWN, 0 },
		{ { .end = HTTP_DEADLINE }, FAIL_TIMEOUT, ADMITTED_UNKNOWN, 0 },
		{ { .end = HTTP_IDLE }, FAIL_CUT, ADMITTED_UNKNOWN, 0 },
		{ { .end = HTTP_STOPPED }, FAIL_PROTOCOL, ADMITTED_UNKNOWN, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_response r = rows[i].r;
		struct failure f;

		r.body = "";
		r.headers = r.headers ? r.headers : "";
		failure_of_response(FAIL_AT_SANDBOX, "try", &r, &f);
		assert_int_equal(f.class, rows[i].class);
		assert_int_equal(f.status, r.status);
		assert_int_equal(f.err.admitted, rows[i].admitted);
		assert_int_equal(f.retry_after_ms, rows[i].retry_after_ms);
	}
}

static struct retry_plan plan(enum retry_kind k, enum fail_class c, unsigned attempt)
{
	struct failure f = { .class = c };

	return retry_plan(k, &f, attempt, 60000, 12345);
}

TEST(a_create_is_never_repeated_blindly)
{
	for (int c = FAIL_NONE + 1; c < FAIL_CLASSES; c++) {
		enum retry_verdict v = plan(RETRY_CREATE, (enum fail_class)c, 1).verdict;

		if (fail_is_ambiguous((enum fail_class)c))
			assert_int_equal(v, RETRY_ASK);
		else
			assert_int_not_equal(v, RETRY_ASK);
	}
	assert_int_equal(plan(RETRY_CREATE, FAIL_UNREACHED, 1).verdict, RETRY_AGAIN);
	assert_int_equal(plan(RETRY_CREATE, FAIL_NO_CAPACITY, 1).verdict, RETRY_AGAIN);
}

TEST(quota_key_and_template_are_final)
{
	static const enum fail_class final[] = {
		FAIL_QUOTA, FAIL_KEY, FAIL_TEMPLATE, FAIL_GONE, FAIL_POLICY, FAIL_REQUEST,
	};

	for (size_t i = 0; i < ARRAY_LEN(final); i++)
		for (int k = RETRY_READ; k <= RETRY_CREATE; k++)
			assert_int_equal(plan((enum retry_kind)k, final[i], 1).verdict, RETRY_STOP);
}

TEST(waits_double_with_jitter_up_to_a_bound_and_end)
{
	struct failure f = { .class = FAIL_UNREACHED };
	uint32_t base = RETRY_BASE_MS;

	for (unsigned attempt = 1; attempt < RETRY_ATTEMPTS; attempt++) {
		for (uint32_t rnd = 0; rnd < 5000; rnd += 37) {
			struct retry_plan p = retry_plan(RETRY_READ, &f, attempt, 60000, rnd);

			assert_int_equal(p.verdict, RETRY_AGAIN);
			assert_in_range(p.wait_ms, base / 2, base);
		}
		base = base * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : base * 2;
	}
	assert_int_equal(retry_plan(RETRY_READ, &f, RETRY_ATTEMPTS, 60000, 1).verdict, RETRY_STOP);
}

TEST(the_server_says_how_long_and_the_deadline_says_whether)
{
	struct failure f = { .class = FAIL_RATE, .has_retry_after = true, .retry_after_ms = 3000 };
	struct retry_plan p = retry_plan(RETRY_CREATE, &f, 1, 60000, 7);

	assert_int_equal(p.verdict, RETRY_AGAIN);
	assert_in_range(p.wait_ms, 3000, 3000 + RETRY_BASE_MS);
	assert_int_equal(retry_plan(RETRY_CREATE, &f, 1, 2500, 7).verdict, RETRY_STOP);
}

TEST(the_breaker_opens_after_failures_in_a_row_and_probes)
{
	struct breaker b;

	breaker_init(&b, 3, 1000, 3000);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(breaker_ask(&b, 0), 0);
		breaker_report(&b, 0, false);
	}
	breaker_report(&b, 0, true); /* not in a row */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(breaker_ask(&b, 100), 0);
		breaker_report(&b, 100, false);
	}
	assert_int_equal(breaker_ask(&b, 600), 500);
	assert_int_equal(breaker_ask(&b, 1100), 0);     /* the probe */
	assert_int_not_equal(breaker_ask(&b, 1100), 0); /* and only one */
	breaker_report(&b, 1200, false);
	assert_int_equal(breaker_ask(&b, 1200), 2000); /* longer now */
	assert_int_equal(breaker_ask(&b, 3200), 0);
	breaker_report(&b, 3200, false);
	assert_int_equal(breaker_ask(&b, 3200), 3000); /* up to the bound */
	assert_int_equal(breaker_ask(&b, 6200), 0);
	breaker_forget(&b);
	assert_int_equal(breaker_ask(&b, 6200), 0);
	breaker_report(&b, 6200, true);
	assert_int_equal(breaker_ask(&b, 6200), 0);
	assert_int_equal(breaker_ask(&b, 6200), 0);
}

TEST(what_was_spent_in_advance_is_waited_for)
{
	struct bucket b;
	uint64_t now = 5000;

	bucket_init(&b, 1000, 10, now);
	assert_int_equal(bucket_spend(&b, 9, now), 0);
	assert_int_equal(bucket_spend(&b, 1, now), 1);
	assert_int_equal(bucket_spend(&b, 64, now), 65); /* one that is there again, and 64 */
	assert_int_equal(bucket_spend(&b, 0, now + 64), 1);
	assert_int_equal(bucket_spend(&b, 0, now + 65), 0);
	assert_int_equal(bucket_spend(&b, 0, now + 1000000), 0);
	assert_int_equal(bucket_spend(&b, 10, now + 1000000), 1); /* no more is saved */
}

TEST(the_bucket_allows_a_burst_and_then_its_rate)
{
	struct bucket b;
	uint64_t now = 5000;
	int taken = 0;

	bucket_init(&b, 10, 3, now);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bucket_take(&b, now), 0);
	assert_int_equal(bucket_take(&b, now), 100);
	assert_int_equal(bucket_take(&b, now + 99), 1);
	assert_int_equal(bucket_take(&b, now + 100), 0);
	for (; now < 5100 + 10000; now++)
		taken += bucket_take(&b, now) == 0;
	assert_in_range(taken, 98, 102);
	now += 1000000; /* idle: no more than a burst piles up */
	for (int i = 0; i < 3; i++)
		assert_int_equal(bucket_take(&b, now), 0);
	assert_int_not_equal(bucket_take(&b, now), 0);
	assert_int_not_equal(bucket_take(&b, now - 500), 0); /* the clock does not run back */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_test_of_row(every_answer_has_its_class_and_its_exit_code, 66), /* [R66] */
		unit_test_of_row(messages_hold_what_was_tried_status_and_reason_on_one_line, 66),
		/* [R66] */
		cmocka_unit_test(only_what_may_have_been_carried_out_is_open),
		cmocka_unit_test(retry_after_counts_in_seconds),
		cmocka_unit_test(a_request_that_ended_in_another_way_has_its_class_too),
		cmocka_unit_test(a_create_is_never_repeated_blindly),
		cmocka_unit_test(quota_key_and_template_are_final),
		cmocka_unit_test(waits_double_with_jitter_up_to_a_bound_and_end),
		cmocka_unit_test(the_server_says_how_long_and_the_deadline_says_whether),
		{ "the breaker opens after failures in a row and probes [R173]",
		  the_breaker_opens_after_failures_in_a_row_and_probes, NULL, NULL, NULL },
		cmocka_unit_test(what_was_spent_in_advance_is_waited_for),
		cmocka_unit_test(the_bucket_allows_a_burst_and_then_its_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
