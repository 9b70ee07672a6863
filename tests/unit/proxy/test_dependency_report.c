/* SPDX-License-Identifier: Apache-2.0
 *
 * What a script of dependencies reported, and what steps get of it. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/dependencies/report.h"

static struct dependency_report read_ok(const char *text)
{
	struct dependency_report r;
	struct err e = ERR_INIT;

	if (dependency_report_parse(&r, text, strlen(text), &e) < 0)
		fail_msg("%s: %s", text, e.msg);
	return r;
}

TEST(a_report_is_read)
{
	struct dependency_report r = read_ok(
		"{\"present\":[\"a 1\"],\"missing\":[\"b==2\",\"c\"],\"reused\":true,"
		"\"installed\":[{\"package\":\"b\",\"version\":\"2\",\"duration_ms\":1.5}],"
		"\"environment\":\"/c/e\",\"bin\":\"/c/e/bin\",\"path\":\"/bin\","
		"\"env\":{\"V\":\"x\"},\"unknown\":{}}");
	char names[100];

	assert_int_equal(json_count(r.present), 1);
	assert_int_equal(json_count(r.installed), 1);
	assert_true(r.reused);
	assert_null(r.error);
	assert_string_equal(r.bin, "/c/e/bin");
	dependency_report_names(r.missing, names, sizeof(names));
	assert_string_equal(names, "b==2, c");
	dependency_report_release(&r);
	r = read_ok("{}");
	assert_null(r.env);
	dependency_report_names(r.missing, names, sizeof(names));
	assert_string_equal(names, "");
	dependency_report_release(&r);
	dependency_report_release(&r);
}

/* It comes from the sandbox. */
TEST(a_report_of_another_shape_is_refused)
{
	static const char *const bad[] = {
		"",
		"[]x",
		"{\"present\":[1]}",
		"{\"missing\":\"a\"}",
		"{\"reused\":1}",
		"{\"error\":[]}",
		"{\"env\":{\"A\":1}}",
		"{\"env\":[\"A\"]}",
		"{\"bin\":\"/b\"}",
		"{\"installed\":[\"a\"]}",
		"{\"installed\":[{\"package\":\"a\",\"version\":\"1\"}]}",
		"{\"installed\":[{\"package\":\"a\",\"duration_ms\":1}]}",
		"{\"installed\":[{\"package\":\"a\",\"version\":\"1\",\"duration_ms\":\"1\"}]}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct dependency_report r;
		struct err e = ERR_INIT;

		if (dependency_report_parse(&r, bad[i], strlen(bad[i]), &e) == 0)
			fail_msg("%s was taken", bad[i]);
		assert_null(r.v);
		assert_true(e.code != ERR_NONE);
	}
}

TEST(names_that_do_not_fit_are_counted)
{
	struct dependency_report r =
		read_ok("{\"missing\":[\"aaaaaaaaaa\",\"bbbbbbbbbb\",\"cccccccccc\",\"d\"]}");
	char names[48];

	dependency_report_names(r.missing, names, sizeof(names));
	assert_string_equal(names, "aaaaaaaaaa, bbbbbbbbbb and 2 more");
	dependency_report_names(r.missing, names, 24);
	assert_string_equal(names, "4 more");
	dependency_report_release(&r);
}

static void assert_words(const char *text, size_t size, const char *want)
{
	char to[256];

	dependency_log_words(text, strlen(text), to, size);
	assert_string_equal(to, want);
}

TEST(the_first_errors_of_a_log_are_its_words)
{
	assert_words("$ pip install\nLooking\nERROR: No x\nERROR: none\nbye\n", 256,
	             "ERROR: No x ERROR: none");
	assert_words("npm ERR! code E1\nnpm error a\tb\nnpm ERR! c\nnpm ERR! d\n", 256,
	             "npm ERR! code E1 npm error a b npm ERR! c");
	assert_words("one\ntwo\r\n\n", 256, "two ");
	assert_words("", 256, "");
	assert_words("\n\n", 256, "");
	assert_words("error", 256, "error");
	assert_words("ERROR: 0123456789\nERROR: x", 12, "ERROR: 0123");
}

/* --- variables --- */

static void assert_env(const char *one, const char *two, const struct plan_env *own, size_t n_own,
                       const char *want)
{
	struct dependency_report r[2];
	struct buf out;
	struct err e = ERR_INIT;
	struct jw w;
	size_t n = 0;

	if (one)
		r[n++] = read_ok(one);
	if (two)
		r[n++] = read_ok(two);
	buf_init(&out, 65536);
	jw_init(&w, &out);
	jw_obj(&w);
	dependency_reports_env(r, n, own, n_own, &w);
	jw_end(&w);
	assert_ok(jw_done(&w, &e), &e);
	assert_string_equal(buf_cstr(&out, NULL), want);
	buf_release(&out);
	while (n)
		dependency_report_release(&r[--n]);
}

#define PIP  "{\"bin\":\"/v/bin\",\"path\":\"/usr/bin:/bin\",\"env\":{\"VIRTUAL_ENV\":\"/v\"}}"
#define NODE "{\"bin\":\"/n/.bin\",\"path\":\"/usr/bin:/bin\",\"env\":{\"NODE_PATH\":\"/n\"}}"

TEST(without_an_environment_a_step_has_its_own_variables)
{
	char a[] = "A", one[] = "1", path[] = "PATH", x[] = "/x";
	struct plan_env own[] = { { a, one }, { path, x } };

	assert_env(NULL, NULL, NULL, 0, "{}");
	assert_env("{\"path\":\"/bin\"}", NULL, own, 2, "{\"A\":\"1\",\"PATH\":\"/x\"}");
}

TEST(environments_stand_in_front_of_the_path)
{
	assert_env(PIP, NULL, NULL, 0,
	           "{\"PATH\":\"/v/bin:/usr/bin:/bin\",\"VIRTUAL_ENV\":\"/v\"}");
	assert_env(PIP, NODE, NULL, 0,
	           "{\"PATH\":\"/v/bin:/n/.bin:/usr/bin:/bin\",\"VIRTUAL_ENV\":\"/v\","
	           "\"NODE_PATH\":\"/n\"}");
}

TEST(what_a_step_sets_counts_but_search_paths_are_put_in_front)
{
	char path[] = "PATH", x[] = "/x", node[] = "NODE_PATH", y[] = "/y";
	char venv[] = "VIRTUAL_ENV", mine[] = "/mine", b[] = "B", empty[] = "";
	struct plan_env own[] = { { path, x }, { node, y }, { venv, mine }, { b, empty } };

	assert_env(PIP, NODE, own, 4,
	           "{\"PATH\":\"/v/bin:/n/.bin:/x\",\"NODE_PATH\":\"/n:/y\","
	           "\"VIRTUAL_ENV\":\"/mine\",\"B\":\"\"}");
}

TEST(a_variable_of_two_reports_is_written_once)
{
	assert_env(PIP, "{\"env\":{\"VIRTUAL_ENV\":\"/w\",\"PATH\":\"/w\"}}", NULL, 0,
	           "{\"PATH\":\"/v/bin:/usr/bin:/bin\",\"VIRTUAL_ENV\":\"/v\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_report_is_read),
		cmocka_unit_test(a_report_of_another_shape_is_refused),
		cmocka_unit_test(names_that_do_not_fit_are_counted),
		cmocka_unit_test(the_first_errors_of_a_log_are_its_words),
		cmocka_unit_test(without_an_environment_a_step_has_its_own_variables),
		cmocka_unit_test(environments_stand_in_front_of_the_path),
		cmocka_unit_test(what_a_step_sets_counts_but_search_paths_are_put_in_front),
		cmocka_unit_test(a_variable_of_two_reports_is_written_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
