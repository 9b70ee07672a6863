/* SPDX-License-Identifier: Apache-2.0
 *
 * A pipeline file is right, or all that is wrong with it is told at once. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/step_body.h"
#include "proxy/plan.h"
#include "proxy/problems.h"

static struct plan *parse_n(const char *text, size_t n, struct buf *problems, struct err *e)
{
	return plan_parse(text, n, "dir/p.yaml", problems, e);
}

/* Without a directory: the plan's own is the working directory. */
static struct plan *parse_ok(const char *text)
{
	struct err e = ERR_INIT;
	struct plan *p = plan_parse(text, strlen(text), "p.yaml", NULL, &e);

	if (!p)
		fail_msg("%s: %s", text, e.msg);
	return p;
}

/* All that is told of the text, and the class of the failure. */
static void assert_told(const char *text, const char *want, enum err_code code)
{
	struct err e = ERR_INIT;
	struct buf problems;
	struct plan *p;

	buf_init(&problems, 256 * 1024);
	p = parse_n(text, strlen(text), &problems, &e);
	assert_null(p);
	assert_string_equal(buf_cstr(&problems, NULL), want);
	assert_int_equal(e.code, code);
	buf_release(&problems);
}

/* One mistake in a file that is right otherwise: a step's line. */
#define STEP_WITH(more) "steps:\n- id: a\n  driver: shell\n  config: {script: \"true\"}\n" more

#define BAD_STEP(more, want) \
	assert_told(STEP_WITH(more), "dir/p.yaml:5: step 'a': " want "\n", ERR_PIPELINE)

/* --- what is right --- */

TEST(a_whole_file_becomes_a_plan)
{
	static const char text[] = "name: totals\n"
				   "files: [data/*.csv, lib]\n"
				   "steps:\n"
				   "- id: extract\n"
				   "  driver: shell\n"
				   "  config: {script: \"sort x\", cwd: data}\n"
				   "  needs: []\n"
				   "  artifacts: [\"*.csv\", out/**]\n"
				   "  env: {LC_ALL: C, N: 7, EMPTY: \"\"}\n"
				   "  timeout: 60\n"
				   "  grace: 0\n"
				   "  linger: 0.25\n"
				   "- id: sum\n"
				   "  driver: exec\n"
				   "  config: {argv: [awk, 1.50, \"\"]}\n";
	struct plan *p = parse_ok(text);
	const struct plan_step *s = &p->steps[0];

	assert_string_equal(p->name, "totals");
	assert_int_equal(p->n_files, 2);
	assert_string_equal(p->files[0], "data/*.csv");
	assert_int_equal(p->n_steps, 2);
	assert_string_equal(s->id, "extract");
	assert_string_equal(s->driver, "shell");
	assert_string_equal(s->config, "{\"script\":\"sort x\",\"cwd\":\"data\"}");
	assert_int_equal(s->n_needs, 0);
	assert_int_equal(s->n_collect, 2);
	assert_string_equal(s->collect[1], "out/**");
	assert_int_equal(s->n_env, 3);
	assert_string_equal(s->env[1].name, "N");
	assert_string_equal(s->env[1].value, "7");
	assert_string_equal(s->env[2].value, "");
	assert_int_equal(s->timeout_ms, 60000);
	assert_int_equal(s->grace_ms, 0);
	assert_int_equal(s->linger_ms, 250);
	assert_int_equal(s->line, 4);
	s = &p->steps[1];
	assert_string_equal(s->config, "{\"argv\":[\"awk\",\"1.50\",\"\"]}");
	assert_int_equal(s->n_needs, 1);
	assert_int_equal(s->needs[0], 0);
	assert_int_equal(s->timeout_ms, 0);
	assert_int_equal(s->grace_ms, GRACE_DEFAULT_MS);
	assert_int_equal(s->linger_ms, LINGER_DEFAULT_MS);
	assert_string_equal(p->text, text);
	assert_int_equal(plan_find(p, "sum"), 1);
	assert_int_equal(plan_find(p, "su"), -1);
	plan_free(p);
}

TEST(json_is_a_pipeline_file_too)
{
	struct plan *p = parse_ok("{\"steps\":[{\"id\":\"a\",\"driver\":\"shell\","
	                          "\"config\":{\"script\":\"echo \\u00e9\"}}]}");

	assert_string_equal(p->steps[0].config, "{\"script\":\"echo \xc3\xa9\"}");
	assert_string_equal(p->name, "p"); /* of the file */
	plan_free(p);
}

TEST(a_step_may_need_one_that_stands_below)
{
	struct plan *p = parse_ok("steps:\n"
	                          "- {id: b, driver: shell, config: {script: x}, needs: [a]}\n"
	                          "- {id: a, driver: shell, config: {script: x}, needs: []}\n"
	                          "- {id: c, driver: shell, config: {script: x}, needs: [a, b]}\n");

	assert_int_equal(p->steps[0].needs[0], 1);
	assert_int_equal(p->steps[2].n_needs, 2);
	plan_free(p);
}

/* What the worker takes as a step's id is what the plan takes. */
TEST(plan_and_worker_agree_on_ids)
{
	static const char *const ids[] = {
		"a",
		"A-b.c_9",
		"_x",
		"9",
		".a",
		"-a",
		"a b",
		"a/b",
		"\xc3\xa9",
		"..",
		"a\"b",
		"0123456789012345678901234567890123456789012345678901234567890123",
		"01234567890123456789012345678901234567890123456789012345678901234",
	};
	struct err e = ERR_INIT;
	char text[400];

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct plan *p;

		snprintf(text, sizeof(text),
		         "steps:\n- {id: '%s', driver: shell, config: {script: x}}\n", ids[i]);
		p = plan_parse(text, strlen(text), "p.yaml", NULL, &e);
		assert_int_equal(p != NULL, step_id_is_good(ids[i]));
		plan_free(p);
	}
}

/* --- all at once --- */

TEST(every_mistake_of_a_file_is_told_at_once_in_the_order_of_lines)
{
	static const char text[] = "nmae: x\n"                           /* 1 */
				   "files: [/etc/passwd, ../up, a//b]\n" /* 2 */
				   "steps:\n"                            /* 3 */
				   "- id: one\n"                         /* 4 */
				   "  driver: shel\n"                    /* 5 */
				   "  config: {script: x}\n"             /* 6 */
				   "- id: two words\n"                   /* 7 */
				   "  driver: shell\n"                   /* 8 */
				   "  config: {scirpt: x}\n"             /* 9 */
				   "  needs: [oen]\n"                    /* 10 */
				   "  timeout: soon\n"                   /* 11 */
				   "- driver: exec\n"                    /* 12 */
				   "  config: {argv: ls}\n"              /* 13 */
				   "  retires: 3\n"                      /* 14 */
				   "- id: one\n"                         /* 15 */
				   "  driver: exec\n"                    /* 16 */
				   "  config: {argv: []}\n"              /* 17 */
				   "  retry: {max_attempts: 2}\n";       /* 18 */

	assert_told(text,
	            "dir/p.yaml:1: unknown key 'nmae' (did you mean 'name'?)\n"
	            "dir/p.yaml:2: files: '/etc/passwd' is an absolute path\n"
	            "dir/p.yaml:2: files: '../up' leads upwards ('..')\n"
	            "dir/p.yaml:2: files: 'a//b' is no clean path (without './', '//' and a '/' at "
	            "the end)\n"
	            "dir/p.yaml:5: step 'one': driver: no driver 'shel' (did you mean 'shell'?); "
	            "there are shell, exec\n"
	            "dir/p.yaml:7: step 2: id: 'two words': want letters, digits, '_', '.' and '-' "
	            "(not first), at most 64\n"
	            "dir/p.yaml:9: step 2: config: unknown key 'scirpt' (did you mean 'script'?)\n"
	            "dir/p.yaml:9: step 2: config: 'script' is missing\n"
	            "dir/p.yaml:10: step 2: needs: no step 'oen' (did you mean 'one'?)\n"
	            "dir/p.yaml:11: step 2: timeout: want a number of seconds, got a string\n"
	            "dir/p.yaml:12: step 3: 'id' is missing\n"
	            "dir/p.yaml:13: step 3: config: argv: want a list of strings, got a string\n"
	            "dir/p.yaml:14: step 3: unknown key 'retires' (did you mean 'retry'?)\n"
	            "dir/p.yaml:15: step 'one': another step has this id (line 4)\n"
	            "dir/p.yaml:17: step 'one': config: argv: want 1 to 1024 strings, got 0\n"
	            "dir/p.yaml:18: step 'one': retry: not built yet\n",
	            ERR_PIPELINE);
}

TEST(the_error_is_the_first_mistake_and_how_many_more)
{
	struct err e = ERR_INIT;

	assert_null(parse_n("x: 1\ny: 2\nsteps: 3\n", 19, NULL, &e));
	assert_string_equal(e.msg, "dir/p.yaml:1: unknown key 'x' (and 2 more)");
	assert_null(parse_n("steps: 3\n", 9, NULL, &e));
	assert_string_equal(e.msg, "dir/p.yaml:1: steps: want a list, got a number");
	assert_int_equal(err_exit(e.code), 2);
}

TEST(very_many_mistakes_are_counted)
{
	struct err e = ERR_INIT;
	struct buf text, problems;
	const char *told;

	buf_init(&text, 1 << 20);
	buf_init(&problems, 1 << 20);
	for (int i = 0; i < PROBLEMS_MAX + 50; i++)
		buf_printf(&text, NULL, "zzzzzz%d: 1\n", i);
	assert_null(parse_n((const char *)buf_data(&text), buf_len(&text), &problems, &e));
	told = buf_cstr(&problems, NULL);
	assert_non_null(strstr(told, "dir/p.yaml: and 51 more\n")); /* 'steps' is missing, too */
	assert_non_null(strstr(e.msg, "(and 250 more)"));
	buf_release(&text);
	buf_release(&problems);
}

TEST(what_users_wrote_cannot_steer_a_terminal)
{
	assert_told("\"a\\e[2Jb\": 1\nsteps: []\n",
	            "dir/p.yaml:1: unknown key 'a?[2Jb'\n"
	            "dir/p.yaml:2: steps: there is none\n",
	            ERR_PIPELINE);
}

/* --- one by one --- */

TEST(a_file_that_is_no_mapping_or_has_no_steps_is_told)
{
	assert_told("", "dir/p.yaml:1: want a mapping with 'steps', got nothing\n", ERR_PIPELINE);
	assert_told("- a\n", "dir/p.yaml:1: want a mapping with 'steps', got a list\n",
	            ERR_PIPELINE);
	assert_told("name: x\n", "dir/p.yaml:1: 'steps' is missing\n", ERR_PIPELINE);
	assert_told("steps: {}\n", "dir/p.yaml:1: steps: want a list, got a mapping\n",
	            ERR_PIPELINE);
	assert_told("steps: [x]\n", "dir/p.yaml:1: step 1: want a mapping, got a string\n",
	            ERR_PIPELINE);
	assert_told("steps: [\n",
	            "dir/p.yaml:2: no YAML: while parsing a flow node, did not find "
	            "expected node content\n",
	            ERR_PIPELINE);
}

TEST(names_and_files_are_checked)
{
	assert_told("name: [x]\n" STEP_WITH(""), "dir/p.yaml:1: name: want a string, got a list\n",
	            ERR_PIPELINE);
	assert_told("name: \"\"\n" STEP_WITH(""), "dir/p.yaml:1: name: is empty\n", ERR_PIPELINE);
	assert_told("name: \"a\\nb\"\n" STEP_WITH(""),
	            "dir/p.yaml:1: name: want one line of at most 128 bytes\n", ERR_PIPELINE);
	assert_told("files: data\n" STEP_WITH(""),
	            "dir/p.yaml:1: files: want a list of paths, got a string\n", ERR_PIPELINE);
	assert_told("files: [1, '', a/, ./a, a/.., a/../b]\n" STEP_WITH(""),
	            "dir/p.yaml:1: files: want a string, got a number\n"
	            "dir/p.yaml:1: files: is empty\n"
	            "dir/p.yaml:1: files: 'a/' is no clean path (without './', '//' and a '/' at "
	            "the end)\n"
	            "dir/p.yaml:1: files: './a' is no clean path (without './', '//' and a '/' at "
	            "the end)\n"
	            "dir/p.yaml:1: files: 'a/..' leads upwards ('..')\n"
	            "dir/p.yaml:1: files: 'a/../b' leads upwards ('..')\n",
	            ERR_PIPELINE);
}

TEST(values_of_a_step_are_checked)
{
	BAD_STEP("  timeout: 0\n", "timeout: want 0.001 to 2592000 seconds, got 0");
	BAD_STEP("  timeout: -1\n", "timeout: want 0.001 to 2592000 seconds, got -1");
	BAD_STEP("  timeout: 1e99\n", "timeout: want 0.001 to 2592000 seconds, got 1e99");
	BAD_STEP("  timeout: \"5\"\n", "timeout: want a number of seconds, got a string");
	BAD_STEP("  grace: 601\n", "grace: want 0 to 600 seconds, got 601");
	BAD_STEP("  linger: 61\n", "linger: want 0 to 60 seconds, got 61");
	BAD_STEP("  env: [A]\n", "env: want a mapping of names to values, got a list");
	BAD_STEP("  env: {1A: x}\n", "env: '1A' is no name of a variable");
	BAD_STEP("  env: {\"A=B\": x}\n", "env: 'A=B' is no name of a variable");
	BAD_STEP("  env: {FARSTEP_X: x}\n", "env: 'FARSTEP_X' is set by farstep itself");
	BAD_STEP("  env: {A: }\n", "env: A: want a string (\"\" for an empty one), got nothing");
	BAD_STEP("  env: {A: [x]}\n", "env: A: want a string (\"\" for an empty one), got a list");
	BAD_STEP("  artifacts: \"*.csv\"\n", "artifacts: want a list of paths, got a string");
	BAD_STEP("  artifacts: [/tmp/x]\n", "artifacts: '/tmp/x' is an absolute path");
	BAD_STEP("  needs: a\n", "needs: want a list of step ids, got a string");
	BAD_STEP("  needs: [1]\n", "needs: want the id of a step, got a number");
}

TEST(drivers_and_their_config_are_checked)
{
#define STEP(driver, config) "steps: [{id: a, driver: " driver ", config: " config "}]\n"
#define BAD(driver, config, want) \
	assert_told(STEP(driver, config), "dir/p.yaml:1: step 'a': " want "\n", ERR_PIPELINE)
	BAD("sh", "{}", "driver: no driver 'sh'; there are shell, exec");
	BAD("[x]", "{}", "driver: want a string, got a list");
	BAD("shell", "{}", "config: 'script' is missing");
	BAD("shell", "[]", "config: want a mapping, got a list");
	BAD("shell", "{script: [x]}", "config: script: want a string, got a list");
	BAD("shell", "{script: ''}", "config: script: is empty");
	BAD("shell", "{script: x, argv: [y]}", "config: unknown key 'argv'");
	BAD("shell", "{script: x, cwd: /tmp}", "config: cwd: '/tmp' is an absolute path");
	BAD("exec", "{argv: [[x]]}", "config: argv: want a string, got a list");
	BAD("exec", "{argv: ['', x]}", "config: argv: the program's name is empty");
	assert_told("steps: [{id: a}]\n",
	            "dir/p.yaml:1: step 'a': 'driver' is missing\n"
	            "dir/p.yaml:1: step 'a': 'config' is missing\n",
	            ERR_PIPELINE);
}

TEST(a_step_of_the_size_that_no_frame_holds_is_told)
{
	struct err e = ERR_INIT;
	struct buf text;

	buf_init(&text, 1 << 20);
	buf_puts(&text, "steps:\n- id: a\n  driver: shell\n  config: {script: \"", NULL);
	for (int i = 0; i < 200 * 1024; i++)
		buf_putc(&text, 'x', NULL);
	buf_puts(&text, "\"}\n", NULL);
	assert_null(parse_n((const char *)buf_data(&text), buf_len(&text), NULL, &e));
	assert_string_equal(e.msg, "dir/p.yaml:2: step 'a': more than 192 KiB of config, "
	                           "environment and globs: put it into a file under 'files'");
	buf_release(&text);
}

TEST(a_file_over_its_bound_is_refused)
{
	auto_free char *text = calloc(1, LIMIT_PIPELINE_FILE + 1);
	struct err e = ERR_INIT;

	memset(text, '#', LIMIT_PIPELINE_FILE + 1);
	assert_null(parse_n(text, LIMIT_PIPELINE_FILE + 1, NULL, &e));
	assert_string_equal(e.msg, "dir/p.yaml: larger than 8 MiB");
	assert_int_equal(e.code, ERR_PIPELINE);
}

/* --- who needs whom --- */

#define S(id, needs) "- {id: " id ", driver: shell, config: {script: x}, needs: [" needs "]}\n"

TEST(needs_that_do_not_exist_or_repeat_are_told)
{
	assert_told("steps:\n" S("load", "") S("sum", "laod, load, load, nothing_like_it"),
	            "dir/p.yaml:3: step 'sum': needs: no step 'laod' (did you mean 'load'?)\n"
	            "dir/p.yaml:3: step 'sum': needs: 'load' is named twice\n"
	            "dir/p.yaml:3: step 'sum': needs: no step 'nothing_like_it'\n",
	            ERR_PIPELINE);
}

TEST(circles_are_told_with_who_is_in_them)
{
	assert_told("steps:\n" S("a", "a"), "dir/p.yaml:2: step 'a': needs itself\n", ERR_PIPELINE);
	assert_told("steps:\n" S("a", "c") S("b", "a") S("c", "b"),
	            "dir/p.yaml:2: steps need each other in a circle: a needs c needs b needs a\n",
	            ERR_PIPELINE);
	/* Two that have nothing to do with each other are two; what hangs on one is no other. */
	assert_told("steps:\n" S("a", "b") S("b", "a") S("c", "d") S("d", "c") S("e", "a, c"),
	            "dir/p.yaml:2: steps need each other in a circle: a needs b needs a\n"
	            "dir/p.yaml:4: steps need each other in a circle: c needs d needs c\n",
	            ERR_PIPELINE);
	/* The first has no id; the second needs the step before. */
	assert_told("steps:\n- {driver: shell, config: {script: x}, needs: [b]}\n"
	            "- {id: b, driver: shell, config: {script: x}}\n",
	            "dir/p.yaml:2: step 1: 'id' is missing\n"
	            "dir/p.yaml:2: steps need each other in a circle: ? needs b needs ?\n",
	            ERR_PIPELINE);
	assert_told("steps:\n" S("a", "b") S("b", "c") S("c", "d") S("d", "e") S("e", "f")
	                    S("f", "g") S("g", "h") S("h", "a"),
	            "dir/p.yaml:2: steps need each other in a circle: a needs b needs c needs d "
	            "needs e needs f needs ... needs a\n",
	            ERR_PIPELINE);
}

TEST(a_diamond_is_no_circle)
{
	struct plan *p = parse_ok("steps:\n" S("a", "") S("b", "a") S("c", "a") S("d", "b, c"));

	assert_int_equal(p->steps[3].n_needs, 2);
	plan_free(p);
}

TEST(a_long_chain_takes_no_stack)
{
	struct err e = ERR_INIT;
	struct buf text;
	struct plan *p;

	buf_init(&text, 4 << 20);
	buf_puts(&text, "steps:\n", NULL);
	for (int i = 0; i < LIMIT_STEPS; i++)
		buf_printf(&text, NULL,
		           "- {id: s%d, driver: shell, config: {script: x}, needs: [s%d]}\n", i,
		           (i + 1) % LIMIT_STEPS);
	p = parse_n((const char *)buf_data(&text), buf_len(&text), NULL, &e);
	assert_null(p);
	assert_string_equal(e.msg, "dir/p.yaml:2: steps need each other in a circle: s0 needs s1 "
	                           "needs s2 needs s3 needs s4 needs s5 needs ... needs s0");
	buf_puts(&text, "- {id: more, driver: shell, config: {script: x}}\n", NULL);
	assert_null(parse_n((const char *)buf_data(&text), buf_len(&text), NULL, &e));
	assert_string_equal(e.msg, "dir/p.yaml:2: steps: 20001 of them, the most is 20000");
	buf_release(&text);
}

TEST(a_step_needs_no_more_than_the_bound)
{
	struct err e = ERR_INIT;
	struct buf text;

	buf_init(&text, 1 << 20);
	buf_puts(&text,
	         "steps:\n" S("a", "") "- {id: b, driver: shell, config: {script: x}, "
	                               "needs: [a",
	         NULL);
	for (int i = 0; i < LIMIT_INPUTS; i++)
		buf_puts(&text, ",a", NULL);
	buf_puts(&text, "]}\n", NULL);
	assert_null(parse_n((const char *)buf_data(&text), buf_len(&text), NULL, &e));
	assert_string_equal(e.msg, "dir/p.yaml:3: step 'b': needs: 257 steps, the most is 256");
	buf_release(&text);
}

/* --- requirements --- */

TEST(requirements_are_a_list_a_file_or_both_tools)
{
	struct plan *p = parse_ok(STEP_WITH("requirements: [Pandas == 1.5.3, numpy]\n"));

	assert_int_equal(p->requires[TOOL_PIP].n, 2);
	assert_string_equal(p->requires[TOOL_PIP].list[1], "pandas==1.5.3");
	assert_true(plan_has_requirements(p));
	assert_int_equal(p->install_deps, 0);
	plan_free(p);
	p = parse_ok(STEP_WITH("requirements: req/lock.txt\ninstall_deps: true\n"));
	assert_string_equal(p->requires[TOOL_PIP].file, "req/lock.txt");
	assert_int_equal(p->install_deps, 1);
	assert_int_equal(p->n_files, 1); /* it travels */
	assert_string_equal(p->files[0], "req/lock.txt");
	plan_free(p);
	p = parse_ok(STEP_WITH("requirements: {pip: [a], npm: package.json, wheels: w}\n"
	                       "install_deps: false\nfiles: [w, x]\n"));
	assert_string_equal(p->requires[TOOL_NPM].file, "package.json");
	assert_string_equal(p->wheels, "w");
	assert_int_equal(p->install_deps, -1);
	assert_int_equal(p->n_files, 3);
	plan_free(p);
	p = parse_ok(STEP_WITH(""));
	assert_false(plan_has_requirements(p));
	plan_free(p);
}

TEST(requirements_are_printed_as_they_are_read)
{
	static const char text[] =
		STEP_WITH("requirements: {pip: r.txt, npm: [b, a@1], wheels: w}\n"
	                  "install_deps: false\n");
	struct plan *p = parse_ok(text), *again;
	struct buf out, twice;
	struct err e = ERR_INIT;

	buf_init(&out, 4096);
	buf_init(&twice, 4096);
	assert_ok(plan_print(p, &out, &e), &e);
	assert_non_null(strstr(buf_cstr(&out, NULL),
	                       "\"files\":[\"r.txt\",\"w\"],\"requirements\":{\"pip\":\"r.txt\","
	                       "\"npm\":[\"a@1\",\"b\"],\"wheels\":\"w\"},\"install_deps\":false"));
	again = parse_ok(buf_cstr(&out, NULL));
	assert_ok(plan_print(again, &twice, &e), &e);
	assert_string_equal(buf_cstr(&out, NULL), buf_cstr(&twice, NULL));
	plan_free(p);
	plan_free(again);
	buf_release(&out);
	buf_release(&twice);
}

#define BAD_FILE(line, want) \
	assert_told(STEP_WITH(line "\n"), "dir/p.yaml:5: " want "\n", ERR_PIPELINE)
#define PATH_WANT \
	": a clean path relative to this file, without '..' and without '*', '?' and '['"

TEST(every_mistake_in_requirements_is_told)
{
	BAD_FILE("requirements: [\"-r x\"]",
	         "requirements: '-r x': an option is no requirement; what pip is to know goes "
	         "into its variables (--env, --pass-env)");
	BAD_FILE("requirements: 7",
	         "requirements: pip: want a list, or the name of a requirements file, "
	         "got a number");
	BAD_FILE("requirements: [[]]", "requirements: pip: want a string, got a list");
	BAD_FILE("requirements: {npm: {}}",
	         "requirements: npm: want a list, or the name of a package.json, got a mapping");
	BAD_FILE("requirements: {pipp: []}",
	         "requirements: unknown key 'pipp' (did you mean 'pip'?)");
	BAD_FILE("requirements: {gem: []}", "requirements: unknown key 'gem'");
	BAD_FILE("requirements: ../r.txt",
	         "requirements: want a list, or the name of a requirements file" PATH_WANT);
	BAD_FILE("requirements: '*.txt'",
	         "requirements: want a list, or the name of a requirements file" PATH_WANT);
	BAD_FILE("requirements: {pip: [a], wheels: /w}",
	         "requirements: want a directory of wheels" PATH_WANT);
	BAD_FILE("requirements: {wheels: w}", "requirements: wheels: there is nothing for 'pip'");
	BAD_FILE("install_deps: 1", "install_deps: want true or false, got a number");
	BAD_FILE("requirement: []",
	         "unknown key 'requirement' (did you mean 'requirements'?)");
}

TEST(ids_of_our_own_steps_are_taken)
{
	assert_told("steps:\n- id: _deps.pip\n  driver: shell\n  config: {script: x}\n",
	            "dir/p.yaml:2: step '_deps.pip': id: '_deps.pip': ids that begin with '_deps' "
	            "are farstep's own\n",
	            ERR_PIPELINE);
}

/* --- right, but not built --- */

static void assert_not_built(const char *text, const char *what)
{
	struct err e = ERR_INIT;
	char want[200];

	snprintf(want, sizeof(want), "%s: not built yet", what);
	assert_null(parse_n(text, strlen(text), NULL, &e));
	assert_non_null(strstr(e.msg, want));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_int_equal(err_exit(e.code), 10);
}

TEST(what_is_not_built_is_refused_by_name_with_exit_10)
{
	static const char *const of_a_step[] = { "limits", "network", "gpu", "retry",
		                                 "continue_on_error" };
	static const char *const of_a_file[] = { "params", "drivers" };
	char text[400], what[80];

	for (size_t i = 0; i < ARRAY_LEN(of_a_step); i++) {
		snprintf(text, sizeof(text), STEP_WITH("  %s: {}\n"), of_a_step[i]);
		snprintf(what, sizeof(what), "5: step 'a': %s", of_a_step[i]);
		assert_not_built(text, what);
	}
	for (size_t i = 0; i < ARRAY_LEN(of_a_file); i++) {
		snprintf(text, sizeof(text), STEP_WITH("%s: []\n"), of_a_file[i]);
		snprintf(what, sizeof(what), "5: %s", of_a_file[i]);
		assert_not_built(text, what);
	}
	assert_not_built("steps: [{id: a, driver: python, config: {}}]\n", "driver 'python'");
	assert_not_built("steps: [{id: a, driver: 'pkg.mod:Class', config: {}}]\n",
	                 "driver 'pkg.mod:Class'");
}

/* A mistake outweighs: repairing it comes first. */
TEST(with_a_mistake_beside_it_the_file_is_wrong)
{
	struct err e = ERR_INIT;

	assert_null(parse_n("params: {}\nsteps: []\n", 21, NULL, &e));
	assert_int_equal(e.code, ERR_PIPELINE);
	assert_int_equal(err_exit(e.code), 2);
}

/* --- printing and loading --- */

TEST(a_printed_plan_is_a_pipeline_file_that_says_the_same)
{
	struct plan *p = parse_ok(
		"name: n\nfiles: [x]\nsteps:\n"
		"- {id: a, driver: shell, config: {script: \"q\\\"\\n\"}, env: {B: '2', A: ''}, "
		"timeout: 1.5, grace: 0, artifacts: ['*']}\n"
		"- {id: b, driver: exec, config: {argv: [ls]}, linger: 3}\n");
	struct plan *again;
	struct err e = ERR_INIT;
	struct buf one, two;

	buf_init(&one, 4096);
	buf_init(&two, 4096);
	assert_ok(plan_print(p, &one, &e), &e);
	assert_string_equal(
		buf_cstr(&one, NULL),
		"{\"name\":\"n\",\"files\":[\"x\"],\"steps\":[{\"id\":\"a\",\"driver\":\"shell\","
		"\"config\":{\"script\":\"q\\\"\\n\"},\"needs\":[],\"artifacts\":[\"*\"],"
		"\"env\":{\"B\":\"2\",\"A\":\"\"},\"timeout\":1.5,\"grace\":0},"
		"{\"id\":\"b\",\"driver\":\"exec\",\"config\":{\"argv\":[\"ls\"]},"
		"\"needs\":[\"a\"],\"linger\":3}]}");
	again = parse_ok(buf_cstr(&one, NULL));
	assert_ok(plan_print(again, &two, &e), &e);
	assert_string_equal(buf_cstr(&one, NULL), buf_cstr(&two, NULL));
	plan_free(p);
	plan_free(again);
	buf_release(&one);
	buf_release(&two);
}

/* Characters that YAML writes as escapes only. */
TEST(a_printed_plan_says_the_same_whatever_its_characters_are)
{
	struct plan *p = parse_ok("steps: [{id: a, driver: shell, config: {script: "
	                          "\"\\x7f\\x80\\N\\L\\P\\uFEFF\\uFFFE\\U0001F600\\e\"}}]\n");
	struct plan *again;
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 4096);
	assert_ok(plan_print(p, &out, &e), &e);
	again = parse_ok(buf_cstr(&out, NULL));
	assert_string_equal(p->steps[0].config, again->steps[0].config);
	plan_free(p);
	plan_free(again);
	buf_release(&out);
}

TEST(a_loaded_plan_knows_its_place)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	char path[300], real[4096];
	struct plan *p;

	assert_ok(fs_write(t.fd, "totals.v2.yaml", STEP_WITH(""), strlen(STEP_WITH("")), 0600,
	                   false, &e),
	          &e);
	snprintf(path, sizeof(path), "%s/totals.v2.yaml", t.path);
	p = plan_load(path, NULL, &e);
	if (!p)
		fail_msg("%s", e.msg);
	assert_string_equal(p->file, path);
	assert_string_equal(p->dir, realpath(t.path, real));
	assert_string_equal(p->name, "totals.v2");
	plan_free(p);
}

TEST(a_file_that_cannot_be_read_is_a_mistake_of_the_caller)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;

	assert_null(plan_load("/no/such.yaml", NULL, &e));
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(err_exit(e.code), 2);
	assert_null(plan_load(t.path, NULL, &e)); /* a directory */
	assert_int_equal(err_exit(e.code), 2);
}

/* --- the nearest name --- */

TEST(the_nearest_name_is_what_was_meant_or_nothing)
{
	static const char *const names[] = { "needs", "name", "network", "id", "env", NULL };
	static const struct {
		const char *word, *want;
	} rows[] = {
		{ "nedes", "needs" },      { "Needs", "needs" },
		{ "nmae", "name" },        { "netwrok", "network" },
		{ "network_", "network" }, { "di", "id" },
		{ "evn", "env" },          { "i", "id" },
		{ "zzz", NULL },           { "", NULL },
		{ "completely", NULL },    { "xy", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *got = nearest(rows[i].word, names);

		if ((got == NULL) != (rows[i].want == NULL) ||
		    (got && strcmp(got, rows[i].want) != 0))
			fail_msg("'%s': %s", rows[i].word, got ? got : "nothing");
	}
}

TEST(a_word_of_any_length_is_compared)
{
	static const char *const names[] = { "needs", NULL };
	char word[200];

	for (size_t n = 0; n < sizeof(word); n++) {
		memset(word, 'n', n);
		word[n] = 0;
		(void)nearest(word, names);
	}
	assert_null(nearest(word, names));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_file_becomes_a_plan),
		cmocka_unit_test(json_is_a_pipeline_file_too),
		cmocka_unit_test(a_step_may_need_one_that_stands_below),
		cmocka_unit_test(plan_and_worker_agree_on_ids),
		cmocka_unit_test(every_mistake_of_a_file_is_told_at_once_in_the_order_of_lines),
		cmocka_unit_test(the_error_is_the_first_mistake_and_how_many_more),
		cmocka_unit_test(very_many_mistakes_are_counted),
		cmocka_unit_test(what_users_wrote_cannot_steer_a_terminal),
		cmocka_unit_test(a_file_that_is_no_mapping_or_has_no_steps_is_told),
		cmocka_unit_test(names_and_files_are_checked),
		cmocka_unit_test(values_of_a_step_are_checked),
		cmocka_unit_test(drivers_and_their_config_are_checked),
		cmocka_unit_test(a_step_of_the_size_that_no_frame_holds_is_told),
		cmocka_unit_test(a_file_over_its_bound_is_refused),
		cmocka_unit_test(needs_that_do_not_exist_or_repeat_are_told),
		cmocka_unit_test(circles_are_told_with_who_is_in_them),
		cmocka_unit_test(a_diamond_is_no_circle),
		cmocka_unit_test(a_long_chain_takes_no_stack),
		cmocka_unit_test(a_step_needs_no_more_than_the_bound),
		cmocka_unit_test(requirements_are_a_list_a_file_or_both_tools),
		cmocka_unit_test(requirements_are_printed_as_they_are_read),
		cmocka_unit_test(every_mistake_in_requirements_is_told),
		cmocka_unit_test(ids_of_our_own_steps_are_taken),
		cmocka_unit_test(what_is_not_built_is_refused_by_name_with_exit_10),
		cmocka_unit_test(with_a_mistake_beside_it_the_file_is_wrong),
		cmocka_unit_test(a_printed_plan_is_a_pipeline_file_that_says_the_same),
		cmocka_unit_test(a_printed_plan_says_the_same_whatever_its_characters_are),
		cmocka_unit_test(a_loaded_plan_knows_its_place),
		cmocka_unit_test(a_file_that_cannot_be_read_is_a_mistake_of_the_caller),
		cmocka_unit_test(the_nearest_name_is_what_was_meant_or_nothing),
		cmocka_unit_test(a_word_of_any_length_is_compared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
