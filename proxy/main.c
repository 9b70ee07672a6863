/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep: the command line. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/version.h"
#include "proxy/cmd/cmd.h"
#include "proxy/plan.h"

const struct command commands[] = {
	{ "run", "PIPELINE", "prepare, execute and collect a pipeline",
	  "  farstep run pipeline.yaml\n  farstep run -j4 --secret API_TOKEN --out results "
	  "pipeline.yaml\n",
	  1, 1, cmd_run },
	{ "prepare", "PIPELINE", "check a pipeline and its files; write what execute needs",
	  "  farstep prepare pipeline.yaml -o run.json\n", 1, 1, cmd_prepare },
	{ "execute", "FILE", "run what was prepared", "  farstep execute run.json\n", 1, 1,
	  cmd_execute },
	{ "collect", "RUN", "verify a run offline and lay out its artifacts",
	  "  farstep collect last --out results\n", 1, 1, cmd_collect },
	{ "attach", "RUN", "go on with a run whose proxy died, or take it over",
	  "  farstep attach last\n  farstep attach --force 20261102t1011\n", 1, 1, cmd_attach },
	{ "cancel", "RUN [STEP]", "end a running run, or one step of it",
	  "  farstep cancel last train\n", 1, 2, cmd_cancel },
	{ "ps", "", "runs, with their state", NULL, 0, 0, cmd_ps },
	{ "status", "[RUN]", "how a run is, as JSON", "  farstep status last\n", 0, 1, cmd_status },
	{ "exec", "-- CMD ARG...", "one command in a sandbox: its streams and exit code are yours",
	  "  farstep exec -- uname -a\n  tar c src | farstep exec -- tar t\n", 1, -1, cmd_exec },
	{ "verify", "[RUN]", "check receipts and digests again, offline", "  farstep verify last\n",
	  0, 1, cmd_verify },
	{ "sandboxes", "list|kill ID...|gc", "sandboxes that are there: see them, end them",
	  "  farstep sandboxes list --json\n  farstep sandboxes kill "
	  "local-20261102t101112-3f9a1c07-0badcafe\n  farstep sandboxes gc --dry-run "
	  "--older-than 1h\n",
	  1, -1, cmd_sandboxes },
	{ "doctor", "", "check this machine; say how to mend what is missing", NULL, 0, 0,
	  cmd_doctor },
	{ "template", "list|build NAME", "sandbox templates: those there are, and building one",
	  "  farstep template list\n  farstep template build farstep-python\n"
	  "  farstep template build base --cpu 4 --memory 8\n",
	  1, 2, cmd_template },
	{ "completions", "SHELL", "a script that completes farstep's words: bash, zsh, fish",
	  "  . <(farstep completions bash)\n", 1, 1, cmd_completions },
	{ NULL, NULL, NULL, NULL, 0, 0, NULL },
};

/* Named by the documents, but not there yet: refused by name. */
static const char *const not_built[] = { "drivers", "report", "parity", "adapter", NULL };

static void open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR); /* lint-ok: meant to be inherited */
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

static int unknown_command(const char *name)
{
	const char *names[32];
	const char *near;
	size_t n = 0;
	struct err e = ERR_INIT;

	for (size_t i = 0; not_built[i]; i++) {
		if (strcmp(not_built[i], name) != 0)
			continue;
		err_set(&e, ERR_UNSUPPORTED, 0, "the command '%s' is not built yet", name);
		return cmd_fail(&e);
	}
	for (const struct command *c = commands; c->name; c++)
		names[n++] = c->name;
	names[n] = NULL;
	near = nearest(name, names);
	err_set(&e, ERR_USAGE, 0, "unknown command '%.64s'%s%s%s; see farstep --help", name,
	        near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
	return cmd_fail(&e);
}

static int dispatch(const struct command *c, int argc, char **argv)
{
	struct options o;
	struct err e = ERR_INIT;
	int code;

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			help_print(c->name);
			return 0;
		}
		if (strcmp(c->name, "exec") == 0 && argv[i][0] != '-')
			break;
	}
	if (options_parse(&o, c->name, argc, argv, &e) == 0 &&
	    (o.n_args < c->min_args || (c->max_args >= 0 && o.n_args > c->max_args)))
		err_set(&e, ERR_USAGE, 0, "usage: farstep %s [OPTIONS] %s", c->name, c->args);
	if (e.code) {
		options_release(&o);
		code = cmd_fail(&e);
		return strcmp(c->name, "exec") == 0 && code != 10 ? 125 : code;
	}
	log_open(2, o.log_level, o.log_json, "farstep");
	for (size_t i = 0; i < o.n_missing; i++)
		log_warn("--pass-env %s: the variable is not set; ignoring", o.missing[i]);
	code = c->run(&o);
	options_release(&o);
	return code;
}

int main(int argc, char **argv)
{
	open_standard_fds();
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		help_print(argc == 3 && strcmp(argv[1], "help") == 0 ? argv[2] : NULL);
		return argc < 2 ? 2 : 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("farstep %s (%s)\n", farstep_version(), farstep_build());
		return 0;
	}
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, argv[1]) == 0)
			return dispatch(c, argc - 1, argv + 1);
	return unknown_command(argv[1]);
}
