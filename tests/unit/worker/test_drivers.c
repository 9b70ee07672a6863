/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "worker/drivers.h"

static json *parse(const char *text)
{
	struct err e = ERR_INIT;
	json *v = json_parse(text, strlen(text), 1 << 20, LIMIT_JSON_DEPTH, &e);

	if (!v)
		fail_msg("%s: %s", text, e.msg);
	return v;
}

static int check(const char *params, struct err *e)
{
	auto_json json *v = parse(params);

	return drivers_check(v, e);
}

/* What the keeper is told, as a JSON text. */
static const char *plan(const char *blob, const char *params)
{
	static struct buf out;
	struct session s = { .dir = "/root/sessions/s", .run = "run-1", .id = "s" };
	auto_json json *p = parse(params);
	struct err e = ERR_INIT;
	struct jw w;

	s.blob = parse(blob);
	buf_release(&out);
	buf_init(&out, 1 << 20);
	jw_init(&w, &out);
	jw_obj(&w);
	assert_ok(drivers_plan(&s, p, "st", 2, &w, &e), &e);
	jw_end(&w);
	assert_ok(jw_done(&w, &e), &e);
	json_free(s.blob);
	return buf_cstr(&out, NULL);
}

static void has(const char *text, const char *want)
{
	if (!strstr(text, want))
		fail_msg("want %s in %s", want, text);
}

static const char *list(const char *category)
{
	static struct buf out;
	struct jw w;

	buf_release(&out);
	buf_init(&out, 1 << 20);
	jw_init(&w, &out);
	jw_arr(&w);
	drivers_list(category, &w);
	jw_end(&w);
	assert_int_equal(jw_done(&w, NULL), 0);
	return buf_cstr(&out, NULL);
}

TEST(the_list_says_of_each_what_a_client_must_know)
{
	static const char *const keys[] = { "name",  "version",    "category",
		                            "modes", "parameters", "description" };
	auto_json json *all = parse(list(NULL));

	assert_int_equal(json_count(all), 2);
	for (const json *d = json_first(all); d; d = json_next(d)) {
		auto_free char *params = NULL;

		for (size_t i = 0; i < ARRAY_LEN(keys); i++)
			if (!json_get(d, keys[i]))
				fail_msg("%s misses", keys[i]);
		/* Each that is listed can be checked: it is a driver. */
		assert_true(asprintf(&params, "{\"driver\":\"%s\",\"config\":{}}",
		                     json_string(json_get(d, "name"))) > 0);
		struct err e = ERR_INIT;

		assert_int_equal(check(params, &e), -1);
		has(e.msg, "params.config.");
	}
	has(list("process"), "\"name\":\"shell\"");
	assert_string_equal(list("none"), "[]");
	assert_string_equal(list(""), "[]");
}

TEST(what_is_wrong_is_refused_and_named)
{
	static const struct {
		const char *params, *message;
	} bad[] = {
		{ "{}", "params.driver: missing" },
		{ "{\"driver\":1,\"config\":{}}", "params.driver: want a string, got a number" },
		{ "{\"driver\":\"shell\"}", "params.config: missing" },
		{ "{\"driver\":\"shell\",\"config\":[]}", "params.config: want an object" },
		{ "{\"driver\":\"Shell\",\"config\":{}}",
		  "params.driver: no driver 'Shell'; there are: exec, shell" },
		{ "{\"driver\":\"\",\"config\":{}}", "params.driver: no driver ''" },
		{ "{\"driver\":\"shell\",\"config\":{}}", "params.config.script: missing" },
		{ "{\"driver\":\"shell\",\"config\":{\"script\":[]}}",
		  "params.config.script: want a string, got an array" },
		{ "{\"driver\":\"exec\",\"config\":{}}",
		  "params.config.argv: want 1 to 1024 strings" },
		{ "{\"driver\":\"exec\",\"config\":{\"argv\":[]}}",
		  "params.config.argv: want 1 to 1024 strings" },
		{ "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\",2]}}", "params.config.argv" },
		{ "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\"],\"cwd\":\"/\"}}",
		  "params.config.cwd: want a relative path without '..'" },
		{ "{\"driver\":\"shell\",\"config\":{\"script\":\"\",\"cwd\":\"a/../b\"}}",
		  "params.config.cwd: want a relative path without '..'" },
		{ "{\"driver\":\"shell\",\"config\":{\"script\":\"\",\"cwd\":\"\"}}",
		  "params.config.cwd: want a relative path without '..'" },
		{ "{\"driver\":\"shell\",\"config\":{\"script\":\"\",\"cwd\":7}}",
		  "params.config.cwd: want a string, got a number" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(check(bad[i].params, &e), -1);
		has(e.msg, bad[i].message);
		assert_int_equal(e.code, ERR_INVALID_PARAMS);
	}
}

TEST(more_arguments_than_the_bound_are_refused)
{
	struct buf b;
	struct err e = ERR_INIT;

	for (int n = LIMIT_ARGV; n <= LIMIT_ARGV + 1; n++) {
		buf_init(&b, 1 << 20);
		buf_puts(&b, "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\"", NULL);
		for (int i = 1; i < n; i++)
			buf_puts(&b, ",\"a\"", NULL);
		buf_puts(&b, "]}}", NULL);
		assert_int_equal(check(buf_cstr(&b, NULL), &e), n > LIMIT_ARGV ? -1 : 0);
		buf_release(&b);
	}
}

TEST(shell_is_bin_sh_that_stops_at_the_first_error)
{
	const char *got =
		plan("{}", "{\"driver\":\"shell\",\"config\":{\"script\":\"a \\\"b\\\"\"}}");

	has(got, "\"argv\":[\"/bin/sh\",\"-e\",\"-c\",\"a \\\"b\\\"\",\"sh\"]");
	has(got, "{\"cwd\":\"/root/sessions/s/work\",");
}

TEST(exec_is_its_arguments_in_a_directory_below_the_work_directory)
{
	const char *got =
		plan("{}", "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\",\"\",\"-x\"],"
	                   "\"cwd\":\"sub/dir\"}}");

	has(got, "\"argv\":[\"a\",\"\",\"-x\"]");
	has(got, "\"cwd\":\"/root/sessions/s/work/sub/dir\"");
}

TEST(the_environment_is_that_of_the_contract)
{
	const char *got =
		plan("{}", "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\"]},\"inputs\":{"
	                   "\"sort-by.x\":{\"step\":\"sorted\",\"attempt\":3}}}");
	static const char *const want[] = {
		"\"PATH=/usr/local/sbin:",
		"\"HOME=/root/sessions/s/home\"",
		"\"TMPDIR=/root/sessions/s/tmp\"",
		"\"LANG=C.UTF-8\"",
		"\"FARSTEP_RUN_ID=run-1\"",
		"\"FARSTEP_STEP_ID=st\"",
		"\"FARSTEP_ATTEMPT=2\"",
		"\"FARSTEP_CONFIG=/root/sessions/s/steps/st.2/config.json\"",
		"\"FARSTEP_INPUTS=/root/sessions/s/steps/st.2/inputs.json\"",
		"\"FARSTEP_OUTPUT_DIR=/root/sessions/s/steps/st.2/out\"",
		"\"FARSTEP_ARTIFACTS_DIR=/root/sessions/s/steps/st.2/artifacts\"",
		"\"FARSTEP_CHECKPOINT_DIR=/root/sessions/s/checkpoints/st\"",
		"\"FARSTEP_CACHE_DIR=/root/cache\"",
		"\"FARSTEP_EVENT_FD=3\"",
		"\"FARSTEP_INPUT_SORT_BY_X=/root/sessions/s/steps/sorted.3/out\"",
		"\"USER=",
	};

	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		has(got, want[i]);
	assert_int_equal(setenv("CANARY", "1", 1), 0);
	assert_null(strstr(plan("{}", "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\"]}}"),
	                   "CANARY"));
}

TEST(the_later_setting_of_a_name_wins_and_none_may_take_the_contracts)
{
	const char *got =
		plan("{\"env\":{\"A\":\"env\",\"B\":\"env\",\"C\":\"env\",\"PATH\":\"/mine\"},"
	             "\"secrets\":{\"B\":\"secret\",\"C\":\"secret\"}}",
	             "{\"driver\":\"exec\",\"config\":{\"argv\":[\"a\"]},"
	             "\"env\":{\"C\":\"step=1\",\"FARSTEP_STEP_ID\":\"other\"}}");

	has(got, "\"A=env\"");
	has(got, "\"B=secret\"");
	has(got, "\"C=step=1\"");
	has(got, "\"PATH=/mine\"");
	has(got, "\"FARSTEP_STEP_ID=st\"");
	assert_null(strstr(got, "B=env"));
	assert_null(strstr(got, "C=env"));
	assert_null(strstr(got, "C=secret"));
	assert_null(strstr(got, "=other"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_list_says_of_each_what_a_client_must_know),
		cmocka_unit_test(what_is_wrong_is_refused_and_named),
		cmocka_unit_test(more_arguments_than_the_bound_are_refused),
		cmocka_unit_test(shell_is_bin_sh_that_stops_at_the_first_error),
		cmocka_unit_test(exec_is_its_arguments_in_a_directory_below_the_work_directory),
		cmocka_unit_test(the_environment_is_that_of_the_contract),
		cmocka_unit_test(the_later_setting_of_a_name_wins_and_none_may_take_the_contracts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
