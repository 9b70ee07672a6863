/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep.yaml: what is in it, what counts for which target, and what is wrong with it. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/config_file.h"

static void file_is(const char *text)
{
	struct err e = ERR_INIT;

	assert_ok(fs_write(AT_FDCWD, "c.yaml", text, strlen(text), 0600, false, &e), &e);
}

static struct config_file *load(const char *text)
{
	struct err e = ERR_INIT;
	struct config_file *c;

	file_is(text);
	c = config_file_load("c.yaml", &e);
	if (e.code)
		fail_msg("%s", e.msg);
	return c;
}

static void assert_value(const struct config_file *c, const char *option, bool is_e2b,
			 const char *want)
{
	const struct config_value *v = config_file_get(c, option, is_e2b);

	if (want)
		assert_string_equal(v ? v->value : "(none)", want);
	else
		assert_null(v);
}

TEST(what_is_said_for_e2b_counts_there_and_goes_before_the_rest)
{
	struct config_file *c = load("target: e2b\ntimeout: 900\nnetwork: off\n"
				     "e2b:\n  template: python\n  cpu: 4\n  memory: 0.5\n"
				     "  build_template: true\n  timeout: 1800\n"
				     "  network: [a.example, 10.0.0.0/8]\n");

	assert_value(c, "--target", false, "e2b");
	assert_value(c, "--timeout", false, "900");
	assert_value(c, "--timeout", true, "1800");
	assert_value(c, "--network", false, "off");
	assert_value(c, "--network", true, "a.example,10.0.0.0/8");
	assert_value(c, "--cpu", true, "4");
	assert_value(c, "--cpu", false, NULL);
	assert_value(c, "--memory", true, "0.5");
	assert_value(c, "--build-template", true, "");
	assert_value(c, "--strict", true, NULL);
	config_file_free(c);
	c = load("install_deps: true\ne2b: {install_deps: false}\n");
	assert_value(c, "--install-deps", false, "on");
	assert_value(c, "--install-deps", true, "off");
	config_file_free(c);
	/* Whatever their order. */
	c = load("e2b: {timeout: 5, build_template: false}\ntimeout: 6\n");
	assert_value(c, "--timeout", true, "5");
	assert_value(c, "--timeout", false, "6");
	assert_value(c, "--build-template", true, NULL);
	config_file_free(c);
}

TEST(names_stand_for_templates)
{
	struct config_file *c = load("e2b:\n  templates: {python: team/py3, go: abc123}\n");

	assert_string_equal(config_file_template(c, "python"), "team/py3");
	assert_string_equal(config_file_template(c, "go"), "abc123");
	assert_string_equal(config_file_template(c, "base"), "base");
	config_file_free(c);
	assert_string_equal(config_file_template(NULL, "x"), "x");
}

TEST(no_file_an_empty_one_and_a_pipeline_say_nothing)
{
	struct err e = ERR_INIT;
	struct config_file *c = load("");

	assert_value(c, "--target", false, NULL);
	config_file_free(c);
	assert_null(load("name: p\nsteps: []\n"));
	assert_null(config_file_load("not-there.yaml", &e));
	assert_int_equal(e.code, ERR_NONE);
	assert_value(NULL, "--target", true, NULL);
}

TEST(mistakes_are_told_with_their_lines)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "targt: e2b\n", "c.yaml:1: unknown key 'targt' (did you mean 'target'?)" },
		{ "cpu: 4\n", "c.yaml:1: unknown key 'cpu'" },	/* it is E2B's */
		{ "e2b:\n  cpus: 4\n", "c.yaml:2: unknown key 'cpus' (did you mean 'cpu'?)" },
		{ "e2b: 4\n", "c.yaml:1: e2b: want a mapping" },
		{ "timeout: long\n", "c.yaml:1: timeout: want a number" },
		{ "e2b: {build_template: maybe}\n",
		  "c.yaml:1: build_template: want true or false" },
		{ "network: true\n", "c.yaml:1: network: want off, on, or a list of hosts" },
		{ "network: [1]\n", "c.yaml:1: network: want strings" },
		{ "e2b: {templates: x}\n",
		  "c.yaml:1: templates: want names with the template of each" },
		{ "e2b: {templates: {a: 1}}\n",
		  "c.yaml:1: templates.a: want the name of a template" },
		{ "[1]\n", "c.yaml:1: want a mapping" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;

		file_is(rows[i].text);
		assert_null(config_file_load("c.yaml", &e));
		assert_string_equal(e.msg, rows[i].want);
		assert_int_equal(e.code, ERR_USAGE);
	}
	file_is("target: [\n");
	{
		struct err e = ERR_INIT;

		assert_null(config_file_load("c.yaml", &e));
		assert_int_equal(e.code, ERR_USAGE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_said_for_e2b_counts_there_and_goes_before_the_rest),
		unit_test_of_row(names_stand_for_templates, 84), /* [R84] */
		cmocka_unit_test(no_file_an_empty_one_and_a_pipeline_say_nothing),
		cmocka_unit_test(mistakes_are_told_with_their_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
