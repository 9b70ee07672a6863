/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"
#include "proxy/env_json.h"
#include "proxy/options.h"

/* Those of the program are in its main.c. */
const struct command commands[] = {
	{ "run", "PIPELINE", "runs it", "  farstep run p.yaml\n", 1, 1, NULL },
	{ "exec", "-- CMD", "executes it", NULL, 1, -1, NULL },
	{ 0 },
};

/* A command line is a text: words by blanks.  The words may be written to, as argv's may. */
struct line {
	char text[1024];
	char *argv[64];
	int argc;
	struct options o;
	struct err e;
};

static int parse(struct line *l, const char *words)
{
	char *save = NULL;

	memset(l, 0, sizeof(*l));
	snprintf(l->text, sizeof(l->text), "%s", words);
	for (char *w = strtok_r(l->text, " ", &save); w; w = strtok_r(NULL, " ", &save))
		l->argv[l->argc++] = w;
	return options_parse(&l->o, l->argv[0], l->argc, l->argv, &l->e);
}

static void accept(struct line *l, const char *words)
{
	if (parse(l, words) < 0)
		fail_msg("%s: %s", words, l->e.msg);
}

static void assert_refused(const char *words, enum err_code code, const char *want)
{
	struct line l;

	assert_int_equal(parse(&l, words), -1);
	if (want)
		assert_string_equal(l.e.msg, want);
	if (l.e.code != code)
		fail_msg("%s: %s: %s", words, err_name(l.e.code), l.e.msg);
	options_release(&l.o);
}

static int no_variables(void **state)
{
	(void)state;
	unsetenv("FARSTEP_TARGET");
	unsetenv("FARSTEP_LOG_LEVEL");
	setenv("PASSED", "passed-value", 1);
	unsetenv("ABSENT");
	return 0;
}

/* --- who takes what --- */

#define MAKES "run execute exec "
#define SEES  "run execute attach "
#define ALL_  "run prepare execute collect attach cancel ps status exec verify doctor sandboxes " \
	      "template "

static const struct {
	const char *option, *by;
} accepted[] = {
	{ "--target native", MAKES },
	{ "--target=unix:/s", MAKES },
	{ "--timeout 10", MAKES },
	{ "--e2b-timeout 10", MAKES },
	{ "--network off", MAKES },
	{ "--network=on", MAKES },
	{ "--network a.example,10.0.0.0/8", MAKES },
	{ "--template x", MAKES },
	{ "--e2b-template x", MAKES },
	{ "--cpu 2", MAKES "template " },
	{ "--e2b-cpu 2", MAKES "template " },
	{ "--memory 4", MAKES "template " },
	{ "--e2b-mem 4", MAKES "template " },
	{ "--cpu 2 --build-template", MAKES },
	{ "--strict", MAKES },
	{ "--e2b", MAKES },
	{ "--env A=b", MAKES },
	{ "--e2b-env A=b", MAKES },
	{ "--env-from vars", MAKES },
	{ "--e2b-env-from vars", MAKES },
	{ "--pass-env PASSED", MAKES },
	{ "--e2b-pass-env PASSED", MAKES },
	{ "--secret PASSED", MAKES },
	{ "-j 4", SEES },
	{ "-j4", SEES },
	{ "-j=4", SEES },
	{ "--out d", SEES "collect " },
	{ "-o f", "prepare " },
	{ "--events -", SEES },
	{ "--keep", MAKES },
	{ "--sandbox local-r-1", MAKES },
	{ "--e2b", MAKES },
	{ "--template t", MAKES },
	{ "--json", SEES "collect cancel ps status verify sandboxes template " },
	{ "--dry-run", "run sandboxes template " },
	{ "--all", "sandboxes " },
	{ "--older-than 2h", "sandboxes " },
	{ "--force", "attach " },
	{ "--run-dir d", SEES "collect cancel ps status verify sandboxes " },
	{ "--key-file f", MAKES "collect attach verify doctor sandboxes " },
	{ "--status-file f", "exec " },
	{ "-v", ALL_ },
	{ "-q", ALL_ },
	{ "--log-level debug", ALL_ },
	{ "--log-format json", ALL_ },
};

static bool takes(const char *list, const char *command)
{
	size_t n = strlen(command);

	for (const char *at = list; (at = strstr(at, command)); at += n)
		if ((at == list || at[-1] == ' ') && at[n] == ' ')
			return true;
	return false;
}

TEST(every_option_is_taken_by_its_commands_and_by_no_other)
{
	static const char *const all[] = { "run",    "prepare", "execute", "collect",
		                           "attach", "cancel",  "ps",      "status",
		                           "exec",   "verify",  "doctor",  "sandboxes",
		                           "template" };
	struct err e = ERR_INIT;
	struct line l;
	char words[200];

	assert_ok(fs_write(AT_FDCWD, "vars", "X=y\n", 4, 0600, false, &e), &e);
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++)
		for (size_t k = 0; k < ARRAY_LEN(all); k++) {
			snprintf(words, sizeof(words), "%s %s", all[k], accepted[i].option);
			if (takes(accepted[i].by, all[k])) {
				accept(&l, words);
				options_release(&l.o);
			} else {
				assert_refused(words, ERR_USAGE, NULL);
			}
		}
}

TEST(what_is_not_built_is_refused_by_name_with_exit_10)
{
	static const char *const rows[] = {
		"run --set a=b",
		"exec -t",
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_refused(rows[i], ERR_UNSUPPORTED, NULL);
	assert_refused("run --set a=b", ERR_UNSUPPORTED, "--set: not built yet");
	assert_refused("run --target docker", ERR_UNSUPPORTED,
	               "target docker: not built yet; there are local, native, e2b, unix:PATH, "
	               "ws://HOST:PORT, wss://HOST[:PORT]");
	assert_int_equal(err_exit(ERR_UNSUPPORTED), 10);
}

TEST(a_sandbox_to_use_says_its_target)
{
	struct line l;

	accept(&l, "run --sandbox native-20261102t101112-3f9a1c07-0badcafe");
	assert_string_equal(l.o.target, "native");
	assert_string_equal(l.o.sandbox, "native-20261102t101112-3f9a1c07-0badcafe");
	options_release(&l.o);
	setenv("FARSTEP_TARGET", "native", 1);
	accept(&l, "exec --sandbox ikxm3p9a1c07");
	assert_string_equal(l.o.target, "e2b");
	options_release(&l.o);
	unsetenv("FARSTEP_TARGET");
	assert_refused("run --target native --sandbox local-r-1", ERR_USAGE,
	               "--sandbox local-r-1 is of target local, not native");
	assert_refused("run --sandbox a/b", ERR_USAGE, "--sandbox 'a/b': no id of a sandbox");
	assert_refused("run --sandbox=", ERR_USAGE, "--sandbox '': no id of a sandbox");
	assert_refused("run --template t --sandbox ikxm3p9a1c07", ERR_POLICY,
	               "--template: sandbox ikxm3p9a1c07 is made already: leave one of the two "
	               "out");
	assert_refused("run --cpu 2 --sandbox ikxm3p9a1c07", ERR_POLICY,
	               "--cpu: sandbox ikxm3p9a1c07 is made already: leave one of the two out");
	assert_refused("run --memory 4 --sandbox ikxm3p9a1c07", ERR_POLICY, NULL);
	assert_refused("run --build-template --sandbox ikxm3p9a1c07", ERR_POLICY, NULL);
	assert_refused("run --network a.example --sandbox ikxm3p9a1c07", ERR_UNSUPPORTED, NULL);
	assert_refused("run --e2b --network a.example --keep", ERR_UNSUPPORTED,
	               "--keep: not with a list of hosts: want --network off or on");
	assert_refused("run --keep --target unix:/s", ERR_POLICY,
	               "--keep: target unix:/s is a worker of your own, which stays anyway");
}

TEST(an_age_has_a_unit)
{
	struct line l;

	accept(&l, "sandboxes --older-than 2h gc");
	assert_int_equal(l.o.older_than_s, 7200);
	options_release(&l.o);
	assert_refused("sandboxes --older-than soon gc", ERR_USAGE, NULL);
}

TEST(values_are_where_they_belong)
{
	struct line l;

	accept(&l, "run --target native --timeout=90 -j 4 --out o --events e --json --dry-run "
	           "--run-dir r --key-file k --log-format json p.yaml");
	assert_string_equal(l.o.target, "native");
	assert_int_equal(l.o.timeout_s, 90);
	assert_int_equal(l.o.jobs, 4);
	assert_string_equal(l.o.out_dir, "o");
	assert_string_equal(l.o.events, "e");
	assert_string_equal(l.o.run_dir, "r");
	assert_string_equal(l.o.key_file, "k");
	assert_true(l.o.json && l.o.dry_run && l.o.log_json);
	assert_int_equal(l.o.n_args, 1);
	assert_string_equal(l.o.args[0], "p.yaml");
	options_release(&l.o);
	accept(&l, "attach --force last");
	assert_true(l.o.force);
	options_release(&l.o);
	accept(&l, "prepare p.yaml -o f");
	assert_string_equal(l.o.output, "f");
	options_release(&l.o);
}

TEST(installing_is_said_by_the_flag_or_else_by_the_variable)
{
	static const struct {
		const char *value, *words;
		int want;
	} rows[] = {
		{ NULL, "run", 0 },
		{ NULL, "run --install-deps", 1 },
		{ NULL, "execute --e2b-install-deps", 1 },
		{ "1", "run", 1 },
		{ "Yes", "execute", 1 },
		{ "0", "run", -1 },
		{ "off", "run", -1 },
		{ "", "run", 0 },
		{ "0", "run --install-deps", 1 },
		{ "maybe", "run --install-deps", 1 }, /* nobody looks at it */
		{ "1", "exec -- true", 0 },
	};
	struct line l;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].value)
			setenv("FARSTEP_INSTALL_DEPS", rows[i].value, 1);
		accept(&l, rows[i].words);
		assert_int_equal(l.o.install_deps, rows[i].want);
		options_release(&l.o);
		unsetenv("FARSTEP_INSTALL_DEPS");
	}
	setenv("FARSTEP_INSTALL_DEPS", "maybe", 1);
	assert_refused("run", ERR_USAGE, "FARSTEP_INSTALL_DEPS 'maybe': want 1 or 0");
	unsetenv("FARSTEP_INSTALL_DEPS");
	assert_refused("exec --install-deps -- true", ERR_UNSUPPORTED,
	               "exec --install-deps: a command has no requirements; they stand in a "
	               "pipeline file");
}

TEST(what_is_not_given_has_its_default)
{
	struct line l;

	accept(&l, "run");
	assert_string_equal(l.o.target, "local");
	assert_int_equal(l.o.log_level, LOG_WARN);
	assert_int_equal(l.o.timeout_s, 0);
	assert_int_equal(l.o.jobs, 0);
	assert_null(l.o.run_dir);
	assert_null(l.o.key_file);
	assert_false(l.o.network || l.o.network_off || l.o.json || l.o.dry_run);
	options_release(&l.o);
}

/* --- mistakes --- */

TEST(an_unknown_option_is_told_with_the_nearest)
{
	assert_refused("run --taget x", ERR_USAGE,
	               "run: unknown option '--taget' (did you mean '--target'?); see farstep run "
	               "--help");
	assert_refused("run --jsno", ERR_USAGE,
	               "run: unknown option '--jsno' (did you mean '--json'?); see farstep run "
	               "--help");
	assert_refused("run --completely-different=1", ERR_USAGE,
	               "run: unknown option '--completely-different'; see farstep run --help");
	/* Only what the command takes is proposed. */
	assert_refused("ps --taget x", ERR_USAGE,
	               "ps: unknown option '--taget'; see farstep ps --help");
}

TEST(an_unknown_target_names_the_valid_ones)
{
	assert_refused("run --target lcoal", ERR_USAGE,
	               "unknown target 'lcoal' (did you mean 'local'?); there are local, native, "
	               "e2b, unix:PATH, ws://HOST:PORT, wss://HOST[:PORT]");
	assert_refused("run --target http://x", ERR_USAGE,
	               "unknown target 'http://x'; there are local, native, e2b, unix:PATH, "
	               "ws://HOST:PORT, wss://HOST[:PORT]");
}

TEST(wrong_values_are_told)
{
	assert_refused("run --timeout 0", ERR_USAGE,
	               "--timeout '0': want a number from 1 to 2592000");
	assert_refused("run --timeout 1h", ERR_USAGE,
	               "--timeout '1h': want a number from 1 to 2592000");
	assert_refused("run -j 65", ERR_USAGE, "-j '65': want a number from 1 to 64");
	assert_refused("run -jx", ERR_USAGE, "-j 'x': want a number from 1 to 64");
	assert_refused("run -j 99999999999999999999", ERR_USAGE, NULL);
	assert_refused("run --log-level loud", ERR_USAGE,
	               "--log-level 'loud': want error, warn, info or debug");
	assert_refused("run --log-format xml", ERR_USAGE, "--log-format 'xml': want text or json");
	assert_refused("run --json=1", ERR_USAGE, "--json takes no value");
	assert_refused("run --out", ERR_USAGE, "--out needs DIR");
	assert_refused("run --out --json", ERR_USAGE, "--out needs DIR");
	assert_refused("run --env A", ERR_USAGE, "--env 'A': want NAME=VALUE");
	assert_refused("run --env =b", ERR_USAGE, "'' is no name of a variable");
	assert_refused("run --secret ABSENT", ERR_USAGE,
	               "--secret ABSENT: the variable is not set");
}

TEST(a_network_that_cannot_be_kept_away_is_refused)
{
	struct line l;

	assert_refused("run --network off --target native", ERR_POLICY,
	               "--network off: target native cannot keep the network away");
	assert_refused("run --target unix:/s --network off", ERR_POLICY, NULL);
	assert_int_equal(err_exit(ERR_POLICY), 10);
	accept(&l, "run --network off --network on --target native");
	assert_true(l.o.network);
	options_release(&l.o);
}

/* --- size, template, network --- */

TEST(a_size_is_processors_and_gibibytes)
{
	struct line l;

	accept(&l, "run --e2b --e2b-cpu 4 --e2b-mem=0.5 --e2b-template x");
	assert_string_equal(l.o.target, "e2b");
	assert_int_equal(l.o.cpu, 4);
	assert_int_equal(l.o.memory_mb, 512);
	assert_string_equal(l.o.template_name, "x");
	options_release(&l.o);
	accept(&l, "run --cpu 1 --memory 8");
	assert_int_equal(l.o.memory_mb, 8192);
	options_release(&l.o);
	accept(&l, "run --memory 1.001953125");
	assert_int_equal(l.o.memory_mb, 1026);
	options_release(&l.o);
}

TEST(a_bad_number_is_a_mistake_of_the_command_line)
{
	static const char *const cpus[] = { "0", "-1", "two", "1.5", "", "1025", "4x", "0x4" };
	static const char *const sizes[] = { "0", "-4", "4G", "1e3", ".", "4.", ".5", "nan", "inf",
		                             "0x4", "", "16385", "99999999999999999999" };
	char words[80];

	for (size_t i = 0; i < ARRAY_LEN(cpus); i++) {
		snprintf(words, sizeof(words), "run --e2b-cpu=%s", cpus[i]);
		assert_refused(words, ERR_USAGE, NULL);
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(words, sizeof(words), "run --e2b-mem=%s", sizes[i]);
		assert_refused(words, ERR_USAGE, NULL);
	}
	assert_int_equal(err_exit(ERR_USAGE), 2);
	assert_refused("run --cpu two", ERR_USAGE, "--cpu 'two': want a number from 1 to 1024");
	assert_refused("run --memory 4G", ERR_USAGE,
	               "--memory '4G': want GiB, a number like 4 or 0.5, up to 16384");
	assert_refused("run --memory 0.3", ERR_USAGE,
	               "--memory '0.3': that is 307.200 MiB, want whole ones; the nearest is "
	               "0.299804688");
}

TEST(the_last_word_on_the_network_counts)
{
	struct line l;

	accept(&l, "run --network a.example,*.b.example");
	assert_false(l.o.network || l.o.network_off);
	assert_string_equal(l.o.hosts[1], "*.b.example");
	options_release(&l.o);
	accept(&l, "run --network a.example --network on");
	assert_true(l.o.network);
	assert_null(l.o.hosts);
	options_release(&l.o);
	accept(&l, "run --network on --network a.example --network b.example");
	assert_false(l.o.network);
	assert_string_equal(l.o.hosts[0], "b.example");
	assert_null(l.o.hosts[1]);
	options_release(&l.o);
	accept(&l, "run --e2b --network off");
	assert_true(l.o.network_off);
	options_release(&l.o);
	assert_refused("run --network https://a.example", ERR_USAGE, NULL);
}

TEST(a_worker_that_runs_already_cannot_be_given_what_only_its_maker_can)
{
	static const char *const rows[] = { "--template x", "--cpu 2", "--memory 2", "--network on",
		                            "--network a.example" };
	char words[100];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(words, sizeof(words), "run --target unix:/s %s", rows[i]);
		assert_refused(words, ERR_UNSUPPORTED, NULL);
		snprintf(words, sizeof(words), "exec --target wss://h %s -- true", rows[i]);
		assert_refused(words, ERR_UNSUPPORTED, NULL);
	}
	assert_refused("run --target unix:/s --cpu 2", ERR_UNSUPPORTED,
	               "--cpu: target unix:/s is a worker that runs already");
}

TEST(a_template_is_built_of_a_size)
{
	assert_refused("run --e2b --build-template", ERR_USAGE,
	               "--build-template: of which size? It goes with --cpu or --memory");
}

/* --- variables --- */

TEST(a_variable_that_is_not_set_is_noted_or_strictly_an_error)
{
	struct line l;

	accept(&l, "run --e2b-pass-env ABSENT --pass-env PASSED");
	assert_int_equal(l.o.n_env, 1);
	assert_int_equal(l.o.n_missing, 1);
	assert_string_equal(l.o.missing[0], "ABSENT");
	options_release(&l.o);
	assert_refused("run --pass-env ABSENT --strict", ERR_USAGE,
	               "--pass-env ABSENT: the variable is not set");
	assert_refused("run --strict --e2b-pass-env ABSENT", ERR_USAGE, NULL);
	accept(&l, "run --strict --pass-env PASSED");
	options_release(&l.o);
}

TEST(each_e2b_spelling_does_the_same)
{
	static const char *const pairs[][2] = {
		{ "run --env A=b=c --env D=", "run --e2b-env A=b=c --e2b-env D=" },
		{ "run --env-from vars", "run --e2b-env-from vars" },
		{ "run --pass-env PASSED", "run --e2b-pass-env PASSED" },
	};
	struct err e = ERR_INIT;

	assert_ok(fs_write(AT_FDCWD, "vars", "X=y=z\nPASSED=other\n", 20, 0600, false, &e), &e);
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		struct line plain, e2b;

		accept(&plain, pairs[i][0]);
		accept(&e2b, pairs[i][1]);
		assert_true(plain.o.n_env > 0);
		assert_int_equal(plain.o.n_env, e2b.o.n_env);
		for (size_t k = 0; k < plain.o.n_env; k++) {
			assert_string_equal(plain.o.env[k].name, e2b.o.env[k].name);
			assert_string_equal(plain.o.env[k].value, e2b.o.env[k].value);
			assert_int_equal(plain.o.env[k].secret, e2b.o.env[k].secret);
		}
		options_release(&plain.o);
		options_release(&e2b.o);
	}
}

TEST(variables_come_in_their_order_and_secrets_are_marked)
{
	struct line l;
	char *text;

	accept(&l, "run --env A=1=2 --pass-env PASSED --secret PASSED --env A= p");
	assert_int_equal(l.o.n_env, 4);
	assert_string_equal(l.o.env[0].name, "A");
	assert_string_equal(l.o.env[0].value, "1=2");
	assert_false(l.o.env[1].secret);
	assert_string_equal(l.o.env[2].value, "passed-value");
	assert_true(l.o.env[2].secret);
	assert_ok(env_json(&l.o, false, &text, &l.e), &l.e);
	assert_string_equal(text, "{\"A\":\"\"}"); /* the last counts, of all */
	env_json_free(text);
	assert_ok(env_json(&l.o, true, &text, &l.e), &l.e);
	assert_string_equal(text, "{\"PASSED\":\"passed-value\"}");
	env_json_free(text);
	options_release(&l.o);
	accept(&l, "run p");
	assert_ok(env_json(&l.o, true, &text, &l.e), &l.e);
	assert_null(text);
	options_release(&l.o);
}

TEST(values_given_on_the_command_line_are_taken_out_of_it)
{
	struct line l;

	accept(&l, "run --env TOKEN=verysecret --env=B=othersecret p");
	assert_string_equal(l.argv[2], "TOKEN=**********");
	assert_string_equal(l.argv[3], "--env=B=***********");
	assert_string_equal(l.o.env[0].value, "verysecret");
	assert_string_equal(l.o.env[1].value, "othersecret");
	options_release(&l.o);
}

TEST(a_file_of_variables_is_read)
{
	static const char text[] = "# comment\n\n  A=1\nB=x y=z \r\nC=\n";
	static const char bad[] = "A=1\nnothing\n";
	struct err e = ERR_INIT;
	struct line l;

	assert_ok(fs_write(AT_FDCWD, "good.env", text, strlen(text), 0600, false, &e), &e);
	assert_ok(fs_write(AT_FDCWD, "bad.env", bad, strlen(bad), 0600, false, &e), &e);
	accept(&l, "run --env-from good.env p");
	assert_int_equal(l.o.n_env, 3);
	assert_string_equal(l.o.env[0].name, "A");
	assert_string_equal(l.o.env[1].value, "x y=z ");
	assert_string_equal(l.o.env[2].value, "");
	options_release(&l.o);
	assert_refused("run --env-from bad.env", ERR_USAGE,
	               "--env-from bad.env: line 2: want NAME=VALUE");
	assert_refused("run --env-from no.env", ERR_USAGE, NULL);
}

TEST(variables_have_a_bound)
{
	static char text[LIMIT_ENV * 8 + 64];
	struct err e = ERR_INIT;
	size_t n = 0;

	for (int i = 0; i <= LIMIT_ENV; i++)
		n += (size_t)sprintf(text + n, "V%d=\n", i);
	assert_ok(fs_write(AT_FDCWD, "many.env", text, n, 0600, false, &e), &e);
	assert_refused("run --env-from many.env", ERR_USAGE,
	               "--env-from many.env: over 1024 variables");
}

/* --- what counts more --- */

TEST(an_option_counts_more_than_the_environment_and_that_more_than_the_default)
{
	struct line l;

	setenv("FARSTEP_TARGET", "native", 1);
	setenv("FARSTEP_LOG_LEVEL", "debug", 1);
	accept(&l, "run p");
	assert_string_equal(l.o.target, "native");
	assert_int_equal(l.o.log_level, LOG_DEBUG);
	options_release(&l.o);
	accept(&l, "run --target local --log-level error p");
	assert_string_equal(l.o.target, "local");
	assert_int_equal(l.o.log_level, LOG_ERROR);
	options_release(&l.o);
	setenv("FARSTEP_TARGET", "", 1); /* as if it were not there */
	setenv("FARSTEP_LOG_LEVEL", "", 1);
	accept(&l, "run p");
	assert_string_equal(l.o.target, "local");
	assert_int_equal(l.o.log_level, LOG_WARN);
	options_release(&l.o);
}

static void config_is(const char *text)
{
	struct err e = ERR_INIT;

	assert_ok(fs_write(AT_FDCWD, "farstep.yaml", text, strlen(text), 0600, false, &e), &e);
}

static int no_config(void **state)
{
	(void)state;
	unlink("farstep.yaml");
	unsetenv("FARSTEP_TARGET");
	return 0;
}

TEST(farstep_yaml_counts_after_options_and_environment)
{
	struct line l;

	config_is("target: e2b\ntimeout: 900\n"
	          "e2b: {template: python, cpu: 4, memory: 8, network: [a.example],\n"
	          "      templates: {python: team/py}}\n");
	accept(&l, "run p");
	assert_string_equal(l.o.target, "e2b");
	assert_string_equal(l.o.template_name, "team/py");
	assert_int_equal(l.o.timeout_s, 900);
	assert_int_equal(l.o.cpu, 4);
	assert_int_equal(l.o.memory_mb, 8192);
	assert_string_equal(l.o.hosts[0], "a.example");
	options_release(&l.o);
	accept(&l, "exec --cpu 2 --e2b-timeout 5 --network off --template base -- x");
	assert_int_equal(l.o.cpu, 2);
	assert_int_equal(l.o.timeout_s, 5);
	assert_true(l.o.network_off && !l.o.hosts);
	assert_string_equal(l.o.template_name, "base");
	options_release(&l.o);
	accept(&l, "run --target local p"); /* what is for E2B is not for it */
	assert_int_equal(l.o.cpu, 0);
	assert_int_equal(l.o.timeout_s, 900);
	assert_null(l.o.template_name);
	assert_null(l.o.hosts);
	options_release(&l.o);
	setenv("FARSTEP_TARGET", "native", 1);
	accept(&l, "run p");
	assert_string_equal(l.o.target, "native");
	assert_int_equal(l.o.cpu, 0);
	options_release(&l.o);
	unsetenv("FARSTEP_TARGET");
	accept(&l, "run --sandbox ikxm3p9a1c07 --network off p"); /* it is made already */
	assert_int_equal(l.o.cpu, 0);
	assert_null(l.o.template_name);
	assert_int_equal(l.o.timeout_s, 900);
	options_release(&l.o);
	accept(&l, "template build x"); /* makes no sandbox */
	assert_int_equal(l.o.cpu, 0);
	options_release(&l.o);
}

TEST(a_mistake_in_farstep_yaml_is_told_with_its_line)
{
	config_is("e2b:\n  cpu: 2.5\ntarget: e2b\n");
	assert_refused("run p", ERR_USAGE,
	               "farstep.yaml:2: --cpu '2.5': want a number from 1 to 1024");
	config_is("target: e2c\n");
	assert_refused("run p", ERR_USAGE, NULL);
	config_is("tagret: e2b\n");
	assert_refused("run p", ERR_USAGE,
	               "farstep.yaml:1: unknown key 'tagret' (did you mean 'target'?)");
}

TEST(a_wrong_variable_is_told_by_name)
{
	setenv("FARSTEP_TARGET", "lcoal", 1);
	assert_refused("run p", ERR_USAGE,
	               "FARSTEP_TARGET: unknown target 'lcoal' (did you mean 'local'?); there are "
	               "local, native, e2b, unix:PATH, ws://HOST:PORT, wss://HOST[:PORT]");
	unsetenv("FARSTEP_TARGET");
	setenv("FARSTEP_LOG_LEVEL", "loud", 1);
	assert_refused("ps", ERR_USAGE,
	               "FARSTEP_LOG_LEVEL 'loud': want error, warn, info or debug");
}

TEST(a_variable_that_an_option_outdoes_is_not_looked_at)
{
	struct line l;

	setenv("FARSTEP_TARGET", "docker", 1);
	setenv("FARSTEP_LOG_LEVEL", "loud", 1);
	accept(&l, "run --target native --log-level info p");
	assert_string_equal(l.o.target, "native");
	assert_int_equal(l.o.log_level, LOG_INFO);
	options_release(&l.o);
}

TEST(a_target_in_the_environment_is_nothing_to_a_command_that_takes_none)
{
	struct line l;

	setenv("FARSTEP_TARGET", "docker", 1);
	accept(&l, "ps");
	options_release(&l.o);
	accept(&l, "doctor");
	options_release(&l.o);
	assert_refused("exec true", ERR_UNSUPPORTED, NULL);
}

TEST(more_or_less_said_stands_above_the_environments_level)
{
	struct line l;

	setenv("FARSTEP_LOG_LEVEL", "debug", 1);
	accept(&l, "run -v p");
	assert_int_equal(l.o.log_level, LOG_DEBUG); /* more already */
	assert_int_equal(l.o.verbose, 1);
	options_release(&l.o);
	accept(&l, "run -q p");
	assert_int_equal(l.o.log_level, LOG_ERROR);
	assert_int_equal(l.o.verbose, -1);
	options_release(&l.o);
	unsetenv("FARSTEP_LOG_LEVEL");
	accept(&l, "run -v p");
	assert_int_equal(l.o.log_level, LOG_INFO);
	options_release(&l.o);
}

/* --- arguments --- */

TEST(a_command_that_is_executed_keeps_its_own_options)
{
	struct line l;

	accept(&l, "exec --target native ls --json -- -l");
	assert_int_equal(l.o.n_args, 4);
	assert_string_equal(l.o.args[0], "ls");
	assert_string_equal(l.o.args[1], "--json");
	assert_string_equal(l.o.args[2], "--");
	options_release(&l.o);
	accept(&l, "exec -- --odd");
	assert_int_equal(l.o.n_args, 1);
	assert_string_equal(l.o.args[0], "--odd");
	options_release(&l.o);
}

TEST(options_may_follow_arguments_and_two_dashes_end_them)
{
	struct line l;

	accept(&l, "run p.yaml --json -- --strange");
	assert_true(l.o.json);
	assert_int_equal(l.o.n_args, 2);
	assert_string_equal(l.o.args[1], "--strange");
	options_release(&l.o);
	accept(&l, "run -");
	assert_string_equal(l.o.args[0], "-");
	options_release(&l.o);
}

/* --- help --- */

/* What help_print writes; the caller frees. */
static char *help_of(const char *command)
{
	int saved = fcntl(1, F_DUPFD_CLOEXEC, 10);
	int fd = open("help", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct err e = ERR_INIT;
	struct buf b;
	char *ret;

	fflush(stdout);
	dup2(fd, 1);
	help_print(command);
	fflush(stdout);
	dup2(saved, 1);
	close(saved);
	close(fd);
	buf_init(&b, 64 * 1024);
	assert_ok(fs_read(AT_FDCWD, "help", 64 * 1024, &b, &e), &e);
	ret = buf_take_str(&b, &e);
	buf_release(&b);
	return ret;
}

TEST(help_names_what_a_command_takes_and_nothing_else)
{
	auto_free char *run = help_of("run"), *exec = help_of("exec");
	auto_free char *none = help_of("nothing"), *all = help_of(NULL);

	assert_non_null(strstr(run, "usage: farstep run [OPTIONS] PIPELINE\n\nruns it\n"));
	assert_non_null(strstr(run, "  --target TARGET "));
	assert_non_null(strstr(run, "  --dry-run "));
	assert_null(strstr(run, "--status-file"));
	assert_null(strstr(run, "--set")); /* not built: not offered */
	assert_non_null(strstr(run, "  --keep "));
	assert_non_null(strstr(run, "\nexamples:\n  farstep run p.yaml\n"));
	assert_non_null(strstr(exec, "  --status-file FILE "));
	assert_null(strstr(exec, "--dry-run"));
	assert_null(strstr(exec, "examples"));
	assert_string_equal(none, "");
	assert_non_null(strstr(all, "\n  run         PIPELINE            runs it\n"));
	assert_non_null(strstr(all, "exit codes: 0 proved success"));
}

#define test(name) cmocka_unit_test_setup(name, no_variables)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(every_option_is_taken_by_its_commands_and_by_no_other),
		test(what_is_not_built_is_refused_by_name_with_exit_10),
		test(a_sandbox_to_use_says_its_target),
		test(an_age_has_a_unit),
		test(values_are_where_they_belong),
		test(installing_is_said_by_the_flag_or_else_by_the_variable),
		test(what_is_not_given_has_its_default),
		test(an_unknown_option_is_told_with_the_nearest),
		test(an_unknown_target_names_the_valid_ones),
		test(wrong_values_are_told),
		test(a_network_that_cannot_be_kept_away_is_refused),
		test(a_size_is_processors_and_gibibytes),
		{ "a_bad_number_is_a_mistake_of_the_command_line [R71]",
		  a_bad_number_is_a_mistake_of_the_command_line, no_variables, NULL, NULL },
		test(the_last_word_on_the_network_counts),
		test(a_worker_that_runs_already_cannot_be_given_what_only_its_maker_can),
		test(a_template_is_built_of_a_size),
		{ "a_variable_that_is_not_set_is_noted_or_strictly_an_error [R76]",
		  a_variable_that_is_not_set_is_noted_or_strictly_an_error, no_variables, NULL,
		  NULL },
		test(each_e2b_spelling_does_the_same),
		test(variables_come_in_their_order_and_secrets_are_marked),
		test(values_given_on_the_command_line_are_taken_out_of_it),
		test(a_file_of_variables_is_read),
		test(variables_have_a_bound),
		test(an_option_counts_more_than_the_environment_and_that_more_than_the_default),
		cmocka_unit_test_setup_teardown(farstep_yaml_counts_after_options_and_environment,
		                                no_variables, no_config),
		cmocka_unit_test_setup_teardown(a_mistake_in_farstep_yaml_is_told_with_its_line,
		                                no_variables, no_config),
		test(a_wrong_variable_is_told_by_name),
		test(a_variable_that_an_option_outdoes_is_not_looked_at),
		test(a_target_in_the_environment_is_nothing_to_a_command_that_takes_none),
		test(more_or_less_said_stands_above_the_environments_level),
		test(a_command_that_is_executed_keeps_its_own_options),
		test(options_may_follow_arguments_and_two_dashes_end_them),
		test(help_names_what_a_command_takes_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
