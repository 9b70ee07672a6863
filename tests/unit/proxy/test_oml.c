/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/plan.h"

#define HEAD "oml_version: \"0.1.0\"\nname: demo\n"
#define STEP "  - {id: a, component: shell, mode: read, config: {script: \"true\"}}\n"

static struct plan *must(const char *text)
{
	struct err e = ERR_INIT;
	struct plan *p = plan_parse(text, strlen(text), "demo.yaml", NULL, &e);

	if (!p)
		fail_msg("%s", e.msg);
	return p;
}

/* All mistakes, one a line. */
static void wrong(const char *text, enum err_code code, const char *want)
{
	struct err e = ERR_INIT;
	struct buf all CLEANUP(buf_release);
	struct plan *p;

	buf_init(&all, 65536);
	p = plan_parse(text, strlen(text), "f", &all, &e);
	assert_null(p);
	assert_string_equal(buf_cstr(&all, &e), want);
	assert_int_equal(e.code, code);
}

TEST(an_oml_file_becomes_a_plan_with_its_components_as_drivers)
{
	struct plan *p = must(HEAD "steps:\n"
	                           "  - id: one\n    component: shell\n    mode: read\n"
	                           "    config: {script: echo}\n"
	                           "  - id: two\n    component: exec\n    mode: transform\n"
	                           "    config: {argv: [cat, 1]}\n");

	assert_string_equal(p->name, "demo");
	assert_int_equal(p->n_steps, 2);
	assert_string_equal(p->steps[0].driver, "shell");
	assert_string_equal(p->steps[0].config, "{\"script\":\"echo\"}");
	assert_string_equal(p->steps[1].driver, "exec");
	assert_string_equal(p->steps[1].config, "{\"argv\":[\"cat\",\"1\"]}");
	plan_free(p);
}

TEST(a_step_without_needs_needs_the_step_before)
{
	struct plan *p = must(
		HEAD
		"steps:\n" STEP "  - {id: b, component: shell, mode: read, config: {script: x}}\n"
		"  - {id: c, component: shell, mode: read, needs: [], config: {script: x}}\n"
		"  - {id: d, component: shell, mode: write, needs: [b, c], config: {script: x}}\n");

	assert_int_equal(p->steps[0].n_needs, 0);
	assert_int_equal(p->steps[1].n_needs, 1);
	assert_int_equal(p->steps[1].needs[0], 0);
	assert_int_equal(p->steps[2].n_needs, 0);
	assert_int_equal(p->steps[3].n_needs, 2);
	assert_int_equal(p->steps[3].needs[1], 2);
	plan_free(p);
}

TEST(parameters_are_filled_in_with_their_defaults)
{
	struct plan *p = must(
		HEAD
		"params:\n  who: {default: world}\n  n: {default: 3}\n  x-y: z\n"
		"steps:\n"
		"  - id: a\n    component: shell\n    mode: read\n"
		"    config: {script: 'echo ${params.who}${params.n} ${params.x-y} ${HOME}'}\n");

	assert_string_equal(p->steps[0].config, "{\"script\":\"echo world3 z ${HOME}\"}");
	plan_free(p);
}

TEST(a_variable_of_the_environment_goes_before_the_default)
{
	struct plan *p;

	setenv("OSIRIS_PARAM_WHO", "you ${params.n}", 1);
	p = must(HEAD "params: {who: {default: world}, n: 1}\n"
	              "steps: [{id: a, component: shell, mode: read, config: {script: 'hi "
	              "${params.who}'}}]\n");
	unsetenv("OSIRIS_PARAM_WHO");
	/* Not filled in again: what a variable holds is a value. */
	assert_string_equal(p->steps[0].config, "{\"script\":\"hi you ${params.n}\"}");
	plan_free(p);
}

TEST(parameters_that_are_not_there_are_mistakes)
{
	unsetenv("OSIRIS_PARAM_B");
	wrong(HEAD "params: {b: {description: no default}}\nsteps:\n"
	           "  - id: a\n    component: shell\n    mode: read\n    config:\n"
	           "      script: ${params.b}\n"
	           "      cwd: ${params.c}\n"
	           "  - id: b\n    component: shell\n    mode: read\n    config:\n"
	           "      script: 'x${params.}'\n",
	      ERR_PIPELINE,
	      "f:9: step 'a': '${params.b}': the parameter has no default, and OSIRIS_PARAM_B is "
	      "not set\n"
	      "f:9: step 'a': config: script: is empty\n"
	      "f:10: step 'a': '${params.c}': no such parameter under 'params'\n"
	      "f:10: step 'a': config: cwd: is empty\n"
	      "f:15: step 'b': '${params.}': want '${params.NAME}'\n");
}

TEST(all_mistakes_of_a_file_are_told_at_once_with_their_lines)
{
	wrong("oml_version: 0.2.0\n"
	      "tasks: []\n"
	      "params: {p: [1]}\n"
	      "steps:\n"
	      "  - id: a\n"
	      "    component: shel\n"
	      "    mode: reads\n"
	      "    config: {}\n"
	      "  - id: a\n"
	      "    component: shell\n"
	      "    mode: read\n"
	      "    need: [b]\n"
	      "    config: {scrip: x}\n"
	      "  - mode: read\n"
	      "    config: {password: hunter22}\n"
	      "  - 5\n"
	      "  - {id: e, component: shell, mode: read, needs: [f], config: {script: x}}\n",
	      ERR_PIPELINE,
	      "f:1: oml_version: want \"0.1.0\", got 0.2.0\n"
	      "f:1: 'name' is missing\n"
	      "f:2: 'tasks' is not in OML 0.1.0; there is 'steps'\n"
	      "f:3: params: p: want a string, number or boolean, got a list\n"
	      "f:6: step 'a': unknown driver 'shel' (did you mean 'shell'? offered: shell, exec)\n"
	      "f:7: step 'a': mode: want one of read, write, transform (did you mean 'read'?)\n"
	      "f:9: step 'a': another step has this id (line 5)\n"
	      "f:12: step 'a': unknown key 'need' (did you mean 'needs'?)\n"
	      "f:13: step 'a': config: unknown key 'scrip' (did you mean 'script'?)\n"
	      "f:13: step 'a': config: 'script' is missing\n"
	      "f:14: step 3: 'component' is missing\n"
	      "f:14: step 3: 'id' is missing\n"
	      "f:15: step 3: config: password: a secret in the file; give it by --secret NAME\n"
	      "f:16: step 4: want a mapping, got a number\n"
	      "f:17: step 'e': needs: no step 'f'\n");
}

TEST(a_component_that_no_driver_offers_is_a_mistake_of_the_file)
{
	wrong(HEAD "steps:\n"
	           "  - id: get\n    component: filesystem.csv_extractor\n    mode: read\n"
	           "    config: {path: data/a.csv}\n",
	      ERR_PIPELINE,
	      "f:5: step 'get': unknown driver 'filesystem.csv_extractor' (offered: shell, "
	      "exec)\n");
}

TEST(an_alias_is_a_mistake_wherever_it_stands)
{
	wrong(HEAD "steps:\n"
	           "  - {id: a, component: shell, mode: read, config: {script: *x}}\n",
	      ERR_PIPELINE,
	      "f:4: aliases (*x) are not supported: write the value out\n"
	      "f:4: step 'a': config: script: want a string, got nothing\n");
}

TEST(secrets_in_the_file_are_mistakes)
{
	wrong(HEAD "params: {pw: x}\nsteps:\n"
	           "  - id: a\n    component: shell\n    mode: read\n    config:\n"
	           "      script: x\n"
	           "      accessToken: abcdefgh\n"
	           "      password: ${params.pw}\n"
	           "      api_key: '${KEY}'\n"
	           "      tokenizer: some words\n",
	      ERR_PIPELINE,
	      "f:10: step 'a': config: accessToken: a secret in the file; give it by --secret "
	      "NAME\n"
	      "f:10: step 'a': config: unknown key 'accessToken'\n"
	      "f:11: step 'a': config: unknown key 'password'\n"
	      "f:12: step 'a': config: unknown key 'api_key'\n"
	      "f:13: step 'a': config: unknown key 'tokenizer'\n");
}

TEST(what_is_not_built_is_refused_by_name)
{
	wrong(HEAD "profiles: {dev: {}}\nsteps:\n"
	           "  - id: a\n    component: shell\n    mode: read\n"
	           "    config: {script: x, connection: '@mysql.main'}\n",
	      ERR_UNSUPPORTED,
	      "f:3: profiles: not built yet\n"
	      "f:8: step 'a': connection '@mysql.main': not built yet\n");
	wrong(HEAD "steps:\n"
	           "  - id: a\n    component: shell\n    mode: read\n"
	           "    config: {script: x, connection: mysql}\n",
	      ERR_PIPELINE, "f:7: step 'a': config: connection: want '@family.alias'\n");
}

TEST(a_file_that_grows_too_large_with_its_parameters_is_refused)
{
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&b, 8 << 20);
	buf_puts(&b, HEAD "params: {p: ", &e);
	for (int i = 0; i < 100000; i++)
		buf_puts(&b, "0123456789", &e);
	buf_puts(&b,
	         "x}\nsteps:\n  - id: a\n    component: exec\n    mode: read\n    config:\n      "
	         "argv:\n",
	         &e);
	for (int i = 0; i < 1000; i++)
		buf_puts(&b, "        - ${params.p}\n", &e);
	assert_null(plan_parse((const char *)buf_data(&b), buf_len(&b), "f", NULL, &e));
	assert_int_equal(e.code, ERR_PIPELINE);
	assert_non_null(strstr(e.msg, "with its parameters filled in"));
}

TEST(paths_are_relative_to_where_farstep_is_started_and_the_text_is_complete)
{
	auto_free char *here = realpath(".", NULL);
	static const char text[] =
		HEAD "params: {w: x}\nsteps: [{id: a, component: shell, mode: read,"
		     " config: {script: '${params.w}'}}]\n";
	struct err e = ERR_INIT;
	struct plan *p = plan_parse(text, strlen(text), "/usr/demo.yaml", NULL, &e), *again;

	assert_non_null(p);
	assert_string_equal(p->dir, here);
	assert_null(strstr(p->text, "params"));
	again = plan_parse(p->text, strlen(p->text), "m.yaml", NULL, &e);
	assert_non_null(again);
	assert_string_equal(again->steps[0].config, "{\"script\":\"x\"}");
	assert_string_equal(again->name, "demo");
	plan_free(again);
	plan_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_oml_file_becomes_a_plan_with_its_components_as_drivers),
		cmocka_unit_test(a_step_without_needs_needs_the_step_before),
		cmocka_unit_test(parameters_are_filled_in_with_their_defaults),
		cmocka_unit_test(a_variable_of_the_environment_goes_before_the_default),
		cmocka_unit_test(parameters_that_are_not_there_are_mistakes),
		cmocka_unit_test(all_mistakes_of_a_file_are_told_at_once_with_their_lines),
		cmocka_unit_test(a_component_that_no_driver_offers_is_a_mistake_of_the_file),
		cmocka_unit_test(an_alias_is_a_mistake_wherever_it_stands),
		cmocka_unit_test(secrets_in_the_file_are_mistakes),
		cmocka_unit_test(what_is_not_built_is_refused_by_name),
		cmocka_unit_test(a_file_that_grows_too_large_with_its_parameters_is_refused),
		cmocka_unit_test(
			paths_are_relative_to_where_farstep_is_started_and_the_text_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
