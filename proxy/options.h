/* SPDX-License-Identifier: Apache-2.0
 *
 * options - one table of command line options, shared by every command.
 *
 * A row names the option, its --e2b- spelling if it has one, which commands take it, its
 * argument, its help and its setter.  Parsing, --help, completions and the man page all come
 * from the table.  No option is accepted and ignored: what is not possible on the chosen
 * target, or not built yet, is an error by name (exit 10). */
#ifndef FARSTEP_PROXY_OPTIONS_H
#define FARSTEP_PROXY_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"
#include "protocol/base/json.h"
#include "protocol/base/log.h"

struct env_var {
	char *name, *value;
	bool secret;
}; /* secret: --secret, always masked */

struct options {
	/* target */
	const char *target; /* default "local" */
	const char *template_name, *sandbox;
	int64_t timeout_s;                             /* whole run; 0: none */
	int64_t cpu, memory_mb;                        /* 0: the template's */
	bool build_template;
	bool network, network_off, keep;               /* network_off: asked for by name */
	int install_deps; /* 1 on, -1 off, 0: the pipeline file decides, and if it does not: */
	bool install_deps_default; /* farstep.yaml */
	char **hosts;                                  /* off but for these; NULL: none */
	struct env_var *env; /* --env, --env-from, --pass-env, --secret: in order, last wins */
	size_t n_env;
	const char **missing; /* of --pass-env: not set here; for a warning */
	size_t n_missing;
	bool strict; /* then an error */
	/* run */
	int jobs; /* 0: the sandbox's processors */
	const char *run_dir, *out_dir, *key_file, *events;
	bool json, dry_run, force, all;
	int64_t older_than_s;
	const char *output; /* -o */
	const char *status_file;
	/* talk */
	int verbose; /* -v: 1, -q: -1 */
	enum log_level log_level;
	bool level_named; /* by --log-level */
	bool log_json;
	/* rows of the table that the command line has, the environment, farstep.yaml */
	uint64_t given, from_env, from_file;
	struct config_file *config; /* farstep.yaml; NULL: none */
	/* what is left */
	char **args;
	int n_args;
};

/* argv[0] is the command's name.  Where the option was not given, also reads the environment
 * (FARSTEP_TARGET ...) and then farstep.yaml (config_file.h).  Takes secrets out of argv
 * (overwrites --env values).  ERR_USAGE with the nearest valid name; ERR_UNSUPPORTED for what is
 * not built yet. */
int options_parse(struct options *o, const char *command, int argc, char **argv, struct err *e);
void options_release(struct options *o); /* wipes values */
/* What was said about the sandbox and the run, and where: members of the open object, by option,
 * {"value":...,"from":"option"|"environment"|"farstep.yaml"}.  Of variables only their names. */
void options_print(const struct options *o, struct jw *w);

struct command {
	const char *name;
	const char *args; /* "PIPELINE" */
	const char *summary;
	const char *examples;          /* lines for --help */
	int min_args, max_args;        /* -1: any */
	int (*run)(struct options *o); /* returns the exit code */
};
extern const struct command commands[]; /* NULL name ends */
/* One option of a command, as its help shows it; argument and e2b may be NULL. */
struct option_info {
	const char *name, *e2b, *argument, *help;
};
/* The i-th of a command; false: there are no more. */
bool option_of(const char *command, size_t i, struct option_info *ret);
void help_print(const char *command);   /* NULL: overview */

#endif
