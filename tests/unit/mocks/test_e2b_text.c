/* SPDX-License-Identifier: Apache-2.0
 *
 * The edge's own words, and the names of templates. */
#include "tests/unit/check.h"

#include "mocks/e2b/edge_text.h"
#include "mocks/e2b/template.h"
#include "protocol/base/cleanup.h"

static void assert_says(enum edge_case c, bool html, const char *text, int status, const char *want)
{
	struct buf out CLEANUP(buf_release);
	struct err e;

	buf_init(&out, 4096);
	assert_ok(edge_body(c, "iabc", 3000, text, html, &out, &e), &e);
	assert_string_equal(buf_cstr(&out, &e), want);
	assert_int_equal(edge_status(c), status);
}

TEST(each_case_of_the_edge_has_its_status_and_its_members)
{
	assert_says(EDGE_NOT_FOUND, false, NULL, 502,
		    "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox was not found\","
		    "\"code\":502}");
	assert_says(EDGE_PORT_CLOSED, false, NULL, 502,
		    "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox is running but port is not "
		    "open\",\"port\":3000,\"code\":502}");
	assert_says(EDGE_NO_TOKEN, false, NULL, 403,
		    "{\"sandboxId\":\"iabc\",\"message\":\"Sandbox is secured with traffic access "
		    "token. Token header 'e2b-traffic-access-token' is missing\",\"code\":403}");
	assert_says(EDGE_WRONG_TOKEN, false, NULL, 403,
		    "{\"sandboxId\":\"iabc\",\"message\":\"Sandbox is secured with traffic access "
		    "token. Provided token in header 'e2b-traffic-access-token' is invalid\","
		    "\"code\":403}");
	assert_says(EDGE_IN_TRANSITION, false, NULL, 409,
		    "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox is still transitioning. Try "
		    "again in a moment.\",\"code\":409}");
	assert_says(EDGE_QUOTA, false, "full", 429,
		    "{\"sandboxId\":\"iabc\",\"message\":\"full\",\"code\":429}");
	assert_says(EDGE_RESERVED, false, "/init", 404,
		    "{\"message\":\"This endpoint is reserved for the E2B control plane and is not "
		    "reachable through the sandbox URL\",\"path\":\"/init\",\"code\":404}");
}

TEST(a_page_for_a_browser_is_escaped)
{
	assert_says(EDGE_QUOTA, true, "a<b>&c", 429,
		    "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>429</title>"
		    "</head>\n<body><h1>a&lt;b>&amp;c</h1><p>Sandbox iabc</p></body></html>\n");
}

TEST(only_what_looks_like_a_browser_gets_a_page)
{
	assert_true(edge_wants_html("Mozilla/5.0 (X11)", "text/html,application/xml"));
	assert_true(edge_wants_html("Mozilla/5.0 (X11)", NULL));
	assert_true(edge_wants_html("Mozilla/5.0 (X11)", "application/json, text/html"));
	assert_false(edge_wants_html("Mozilla/5.0 (X11)", "application/json"));
	assert_false(edge_wants_html("curl/8", "text/html"));
	assert_false(edge_wants_html(NULL, NULL));
}

static void assert_name(const char *text, const char *want_name, const char *want_tag)
{
	char name[TEMPLATE_NAME_MAX], tag[TEMPLATE_NAME_MAX];

	assert_true(template_name_parse(text, name, tag));
	assert_string_equal(name, want_name);
	assert_string_equal(tag, want_tag);
}

TEST(names_of_templates_are_taken_apart)
{
	assert_name("base", "base", "");
	assert_name(" Base\n", "base", "");
	assert_name("team/Base:V1.2", "base", "v1.2");
	assert_name("farstep-base-2c-1024m", "farstep-base-2c-1024m", "");
	assert_name("base:default", "base", "");
}

TEST(what_is_no_name_is_refused)
{
	static const char *const texts[] = { "", "  ", "a b", "a:", "a:b:c", "ä", "team/", "a.b",
					     "a:b/c" };
	char name[TEMPLATE_NAME_MAX], tag[TEMPLATE_NAME_MAX], text[TEMPLATE_NAME_MAX + 2];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (template_name_parse(texts[i], name, tag))
			fail_msg("'%s' was taken as '%s', '%s'", texts[i], name, tag);
	memset(text, 'a', sizeof(text));
	text[TEMPLATE_NAME_MAX] = 0;
	assert_false(template_name_parse(text, name, tag));
	text[TEMPLATE_NAME_MAX - 1] = 0;
	assert_true(template_name_parse(text, name, tag));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_case_of_the_edge_has_its_status_and_its_members),
		cmocka_unit_test(a_page_for_a_browser_is_escaped),
		cmocka_unit_test(only_what_looks_like_a_browser_gets_a_page),
		cmocka_unit_test(names_of_templates_are_taken_apart),
		cmocka_unit_test(what_is_no_name_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
