/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/hash.h"
#include "protocol/limits.h"
#include "proxy/config_file.h"
#include "proxy/duration.h"
#include "proxy/plan.h"
#include "proxy/ws_address.h"
#include "sdk-wrapper/egress.h"
#include "sdk-wrapper/provider.h"

#define ENV_FILE_MAX (128 * 1024)

enum { CPUS_MAX = 1024, MEMORY_MAX_GB = 16384, MISSING_MAX = LIMIT_ENV };

/* Which commands take an option. */
enum {
	RUN = 1,
	PREPARE = 2,
	EXECUTE = 4,
	COLLECT = 8,
	ATTACH = 16,
	CANCEL = 32,
	PS = 64,
	STATUS = 128,
	EXEC = 256,
	VERIFY = 512,
	DOCTOR = 1024,
	SANDBOXES = 2048,
	TEMPLATE = 4096,
	COMPLETIONS = 8192,
	TARGET = RUN | EXECUTE | EXEC,  /* those that make a sandbox */
	WATCH = RUN | EXECUTE | ATTACH, /* those that see a run to its end */
	KEYED = TARGET | ATTACH | COLLECT | VERIFY | DOCTOR | SANDBOXES, /* those that prove */
	RUNS = WATCH | COLLECT | CANCEL | PS | STATUS | VERIFY | SANDBOXES,
	ALL = 8191,
};

enum kind {
	STRING,
	COUNT,
	SECONDS,
	DURATION,
	CPUS,
	GIGABYTES,
	ON,
	TARGET_NAME,
	TARGET_E2B,
	NETWORK,
	INSTALL,
	ENV,
	ENV_FROM,
	PASS_ENV,
	SECRET,
	VERBOSE,
	QUIET,
	LEVEL,
	FORMAT,
	NOT_BUILT,
};

static const struct option_row {
	const char *name, *e2b, *argument;
	unsigned commands;
	enum kind kind;
	size_t at;
	const char *help;
} rows[] = {
#define AT(member) offsetof(struct options, member)
	{ "--target", NULL, "TARGET", TARGET, TARGET_NAME, 0,
	  "local (bubblewrap, the default), native (no isolation), e2b, unix:PATH, ws://HOST:PORT, "
	  "wss://HOST" },
	{ "--e2b", NULL, NULL, TARGET, TARGET_E2B, 0, "the same as --target e2b" },
	{ "--template", "--e2b-template", "NAME", TARGET, STRING, AT(template_name),
	  "the sandbox's template (e2b: base)" },
	{ "--cpu", "--e2b-cpu", "N", TARGET | TEMPLATE, CPUS, 0,
	  "processors of the sandbox (e2b: 1, or an even number up to 32)" },
	{ "--memory", "--e2b-mem", "GB", TARGET | TEMPLATE, GIGABYTES, 0,
	  "its memory in GiB, also 0.5 or 1.5 (e2b: from 0.125 on)" },
	{ "--build-template", NULL, NULL, TARGET, ON, AT(build_template),
	  "e2b: build the template of that size if there is none yet" },
	{ "--install-deps", "--e2b-install-deps", NULL, TARGET, INSTALL, 0,
	  "install what the pipeline requires and the sandbox lacks" },
	{ "--keep", NULL, NULL, TARGET, ON, AT(keep),
	  "the sandbox stays, until nobody used it for 300 s (or --timeout, if shorter)" },
	{ "--sandbox", NULL, "ID", TARGET, STRING, AT(sandbox),
	  "use one that was kept, instead of a new one" },
	{ "--set", NULL, "NAME=VALUE", RUN | PREPARE, NOT_BUILT, 0, NULL },
	{ "-t", NULL, NULL, EXEC, NOT_BUILT, 0, NULL },
	{ "--timeout", "--e2b-timeout", "SECONDS", TARGET, SECONDS, AT(timeout_s),
	  "end the whole run after so long (exit 5; exec: 124)" },
	{ "--network", NULL, "off|on|HOST,...", TARGET, NETWORK, 0,
	  "what the sandbox reaches: nothing (default), all, or hosts (a.example, *.b.example, "
	  "10.0.0.0/8)" },
	{ "--env", "--e2b-env", "NAME=VALUE", TARGET, ENV, 0,
	  "a variable for every step; --pass-env keeps it off the command line" },
	{ "--env-from", "--e2b-env-from", "FILE", TARGET, ENV_FROM, 0,
	  "variables from a file: NAME=VALUE lines, # comments" },
	{ "--pass-env", "--e2b-pass-env", "NAME", TARGET, PASS_ENV, 0,
	  "a variable of this environment; a warning if it is not set" },
	{ "--strict", NULL, NULL, TARGET, ON, AT(strict),
	  "a variable of --pass-env that is not set is an error" },
	{ "--secret", NULL, "NAME", TARGET, SECRET, 0,
	  "as --pass-env, and its value is masked whatever its length" },
	{ "-j", NULL, "N", WATCH, COUNT, AT(jobs),
	  "steps at once (default: the sandbox's processors)" },
	{ "--out", NULL, "DIR", WATCH | COLLECT, STRING, AT(out_dir),
	  "copy the artifacts there as well" },
	{ "-o", NULL, "FILE", PREPARE, STRING, AT(output),
	  "where the prepared run goes (default: standard output)" },
	{ "--events", NULL, "FILE|-", WATCH, STRING, AT(events), "the event lines, live" },
	{ "--json", NULL, NULL, RUNS | TEMPLATE, ON, AT(json),
	  "one result object on standard output" },
	{ "--all", NULL, NULL, SANDBOXES, ON, AT(all),
	  "those of other user keys and other machines too" },
	{ "--older-than", NULL, "DURATION", SANDBOXES, DURATION, AT(older_than_s),
	  "only those made so long ago: 90s, 15m, 2h, 3d" },
	{ "--dry-run", NULL, NULL, RUN | SANDBOXES | TEMPLATE, ON, AT(dry_run),
	  "show what would be done as JSON (run, template), or a line each (gc); touch nothing" },
	{ "--force", NULL, NULL, ATTACH, ON, AT(force),
	  "take the run over from a proxy that lives" },
	{ "--run-dir", NULL, "DIR", RUNS, STRING, AT(run_dir),
	  "where runs are kept (default .farstep/runs)" },
	{ "--key-file", NULL, "FILE", KEYED, STRING, AT(key_file),
	  "the user key (default ~/.config/farstep/key)" },
	{ "--status-file", NULL, "FILE", EXEC, STRING, AT(status_file), "how it ended, as JSON" },
	{ "-v", NULL, NULL, ALL, VERBOSE, 0, "say more" },
	{ "-q", NULL, NULL, ALL, QUIET, 0, "say nothing but errors" },
	{ "--log-level", NULL, "LEVEL", ALL, LEVEL, 0, "error, warn (default), info, debug" },
	{ "--log-format", NULL, "FORMAT", ALL, FORMAT, 0, "text or json" },
#undef AT
};
_Static_assert(ARRAY_LEN(rows) <= 64, "rows of `given`");

static const struct {
	const char *name;
	unsigned bit;
} command_bits[] = {
	{ "run", RUN },         { "prepare", PREPARE }, { "execute", EXECUTE },
	{ "collect", COLLECT }, { "attach", ATTACH },   { "cancel", CANCEL },
	{ "ps", PS },           { "status", STATUS },   { "exec", EXEC },
	{ "verify", VERIFY },   { "doctor", DOCTOR },   { "sandboxes", SANDBOXES },
	{ "template", TEMPLATE },   { "completions", COMPLETIONS },
};

static unsigned bit_of(const char *command)
{
	for (size_t i = 0; i < ARRAY_LEN(command_bits); i++)
		if (strcmp(command_bits[i].name, command) == 0)
			return command_bits[i].bit;
	return 0;
}

/* ---- variables ---- */

static int add_env(struct options *o, const char *name, size_t name_len, const char *value,
                   bool secret, struct err *e)
{
	struct env_var *more;

	if (!name_len || memchr(name, '=', name_len))
		return err_set(e, ERR_USAGE, 0, "'%.*s' is no name of a variable", (int)name_len,
		               name);
	if (o->n_env >= LIMIT_ENV)
		return err_set(e, ERR_USAGE, 0, "over %d variables", LIMIT_ENV);
	more = realloc(o->env, (o->n_env + 1) * sizeof(*more));
	if (!more)
		return err_set(e, ERR_NO_MEMORY, 0, "variables");
	o->env = more;
	more[o->n_env] = (struct env_var){ strndup(name, name_len), strdup(value), secret };
	if (!more[o->n_env].name || !more[o->n_env].value)
		return err_set(e, ERR_NO_MEMORY, 0, "variables");
	o->n_env++;
	return 0;
}

static int set_env(struct options *o, char *value, struct err *e)
{
	char *eq = strchr(value, '=');
	int r;

	if (!eq)
		return err_set(e, ERR_USAGE, 0, "--env '%s': want NAME=VALUE", value);
	r = add_env(o, value, (size_t)(eq - value), eq + 1, false, e);
	memset(eq + 1, '*', strlen(eq + 1)); /* /proc/PID/cmdline shows it no longer */
	return r;
}

/* Whether that is an error is known when all options are. */
static int note_missing(struct options *o, const char *name, struct err *e)
{
	const char **more;

	if (o->n_missing >= MISSING_MAX)
		return err_set(e, ERR_USAGE, 0, "over %d variables", MISSING_MAX);
	more = realloc(o->missing, (o->n_missing + 1) * sizeof(*more));
	if (!more)
		return err_set(e, ERR_NO_MEMORY, 0, "variables");
	o->missing = more;
	more[o->n_missing++] = name;
	return 0;
}

static int pass_env(struct options *o, const char *name, bool secret, struct err *e)
{
	const char *value = getenv(name);

	if (!value && !secret)
		return note_missing(o, name, e);
	if (!value)
		return err_set(e, ERR_USAGE, 0, "--secret %s: the variable is not set", name);
	return add_env(o, name, strlen(name), value, secret, e);
}

static int env_from(struct options *o, const char *file, struct err *e)
{
	struct buf b;
	char *text = NULL, *save = NULL;
	int r, line_no = 0;

	buf_init(&b, ENV_FILE_MAX);
	r = fs_read(-100, file, ENV_FILE_MAX, &b, e); /* AT_FDCWD */
	if (r == 0 && !(text = buf_take_str(&b, e)))
		r = -1;
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; r == 0 && line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *eq;

		line_no++;
		line += strspn(line, " \t");
		line[strcspn(line, "\r")] = 0;
		if (!*line || *line == '#')
			continue;
		eq = strchr(line, '=');
		r = eq ? add_env(o, line, (size_t)(eq - line), eq + 1, false, e)
		       : err_set(e, ERR_USAGE, 0, "line %d: want NAME=VALUE", line_no);
	}
	if (text)
		wipe(text, strlen(text));
	free(text);
	buf_release(&b);
	if (r < 0)
		e->code = ERR_USAGE;
	return r < 0 ? err_wrap(e, "--env-from %s", file) : 0;
}

/* ---- one option ---- */

static int set_number(const char *name, const char *value, int64_t max, int64_t *ret, struct err *e)
{
	char *end;
	long long v = strtoll(value, &end, 10);

	if (end == value || *end || v < 1 || v > max)
		return err_set(e, ERR_USAGE, 0, "%s '%s': want a number from 1 to %lld", name,
		               value, (long long)max);
	*ret = v;
	return 0;
}

/* GiB, with decimals, in whole MiB.  No exponents, no signs, no hexadecimal. */
static int set_gigabytes(const char *name, const char *value, int64_t *ret, struct err *e)
{
	size_t n = strspn(value, "0123456789"), rest = 0;
	double mb = 0;

	if (value[n] == '.')
		rest = 1 + strspn(value + n + 1, "0123456789");
	if (n && n + rest < 20 && rest != 1 && !value[n + rest])
		mb = strtod(value, NULL) * 1024;
	if (mb < 1 || mb > MEMORY_MAX_GB * 1024.0)
		return err_set(e, ERR_USAGE, 0,
		               "%s '%s': want GiB, a number like 4 or 0.5, up to %d", name, value,
		               MEMORY_MAX_GB);
	if (mb != (double)(int64_t)mb)
		return err_set(e, ERR_USAGE, 0,
		               "%s '%s': that is %.3f MiB, want whole ones; the nearest is %.9g",
		               name, value, mb, (double)(int64_t)(mb + 0.5) / 1024);
	*ret = (int64_t)mb;
	return 0;
}

static int set_target(struct options *o, const char *value, struct err *e)
{
	static const char *const known[] = { "local", "native", "docker", "podman", "e2b", NULL };
	const char *near = nearest(value, known);

	if (strcmp(value, "local") == 0 || strcmp(value, "native") == 0 ||
	    strcmp(value, "e2b") == 0 ||
	    strncmp(value, "unix:", 5) == 0 || strncmp(value, "ws://", 5) == 0 ||
	    strncmp(value, "wss://", 6) == 0) {
		o->target = value;
		return 0;
	}
	if (strcmp(value, "docker") == 0 || strcmp(value, "podman") == 0)
		return err_set(e, ERR_UNSUPPORTED, 0,
		               "target %s: not built yet; there are local, native, e2b, unix:PATH, "
		               "ws://HOST:PORT, wss://HOST[:PORT]",
		               value);
	return err_set(
		e, ERR_USAGE, 0,
		"unknown target '%s'%s%s%s; there are local, native, e2b, unix:PATH, "
		"ws://HOST:PORT, "
		"wss://HOST[:PORT]",
		value, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

static int set_network(struct options *o, const char *value, struct err *e)
{
	free(o->hosts);
	o->hosts = NULL;
	o->network = strcmp(value, "on") == 0;
	o->network_off = strcmp(value, "off") == 0;
	if (o->network || o->network_off)
		return 0;
	o->hosts = egress_parse(value, e);
	return o->hosts ? 0 : -1;
}

static int parse_level(const char *name, const char *value, enum log_level *ret, struct err *e)
{
	return log_level_parse(value, ret) < 0
	               ? err_set(e, ERR_USAGE, 0, "%s '%s': want error, warn, info or debug", name,
	                         value)
	               : 0;
}

static int set(struct options *o, const struct option_row *r, char *value, struct err *e)
{
	void *at = (char *)o + r->at;
	int64_t n = 0;

	switch (r->kind) {
	case STRING:
		*(const char **)at = value;
		return 0;
	case COUNT:
		if (set_number(r->name, value, LIMIT_STEPS_RUNNING, &n, e) < 0)
			return -1;
		*(int *)at = (int)n;
		return 0;
	case SECONDS:
		return set_number(r->name, value, TIMEOUT_MAX_MS / 1000, at, e);
	case DURATION:
		return duration_parse(r->name, value, at, e);
	case CPUS:
		return set_number(r->name, value, CPUS_MAX, &o->cpu, e);
	case GIGABYTES:
		return set_gigabytes(r->name, value, &o->memory_mb, e);
	case ON:
		*(bool *)at = true;
		return 0;
	case TARGET_NAME:
		return set_target(o, value, e);
	case TARGET_E2B:
		return set_target(o, "e2b", e);
	case NETWORK:
		return set_network(o, value, e);
	case INSTALL:
		o->install_deps = 1;
		return 0;
	case ENV:
		return set_env(o, value, e);
	case ENV_FROM:
		return env_from(o, value, e);
	case PASS_ENV:
		return pass_env(o, value, false, e);
	case SECRET:
		return pass_env(o, value, true, e);
	case VERBOSE:
		o->verbose = 1;
		if (o->log_level < LOG_INFO)
			o->log_level = LOG_INFO;
		return 0;
	case QUIET:
		o->verbose = -1;
		o->log_level = LOG_ERROR;
		return 0;
	case LEVEL:
		o->level_named = true;
		return parse_level(r->name, value, &o->log_level, e);
	case FORMAT:
		o->log_json = strcmp(value, "json") == 0;
		return o->log_json || strcmp(value, "text") == 0
		               ? 0
		               : err_set(e, ERR_USAGE, 0, "--log-format '%s': want text or json",
		                         value);
	case NOT_BUILT:
		return err_set(e, ERR_UNSUPPORTED, 0, "%s: not built yet", r->name);
	}
	return 0;
}

static const struct option_row *find(const char *arg, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if ((strlen(rows[i].name) == n && memcmp(rows[i].name, arg, n) == 0) ||
		    (rows[i].e2b && strlen(rows[i].e2b) == n && memcmp(rows[i].e2b, arg, n) == 0))
			return &rows[i];
	return NULL;
}

static uint64_t bit(const struct option_row *r)
{
	return UINT64_C(1) << (r - rows);
}

static int unknown(const char *command, const char *arg, size_t n, struct err *e)
{
	const char *names[ARRAY_LEN(rows) + 1];
	char word[64];
	const char *near;
	size_t k = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].commands & bit_of(command))
			names[k++] = rows[i].name;
	names[k] = NULL;
	snprintf(word, sizeof(word), "%.*s", (int)n, arg);
	near = nearest(word, names);
	return err_set(e, ERR_USAGE, 0, "%s: unknown option '%s'%s%s%s; see farstep %s --help",
	               command, word, near ? " (did you mean '" : "", near ? near : "",
	               near ? "'?)" : "", command);
}

/* Returns how many of argv it used, or -1. */
static int take_option(struct options *o, const char *command, char **argv, int left, struct err *e)
{
	bool short_one = argv[0][0] == '-' && argv[0][1] != '-';
	size_t n = strcspn(argv[0], "=");
	const struct option_row *r;
	char *value = argv[0][n] ? argv[0] + n + 1 : NULL;
	int used = 1;

	if (short_one && argv[0][1] && argv[0][2] && strchr("jo", argv[0][1])) { /* -j4 */
		n = 2;
		value = argv[0] + 2 + (argv[0][2] == '=');
	}
	r = find(argv[0], n);
	if (!r || !(r->commands & bit_of(command)))
		return unknown(command, argv[0], n, e);
	if (!r->argument && value)
		return err_set(e, ERR_USAGE, 0, "%s takes no value", r->name);
	if (r->argument && !value) {
		if (left < 2 || strncmp(argv[1], "--", 2) == 0)
			return err_set(e, ERR_USAGE, 0, "%s needs %s", r->name, r->argument);
		value = argv[1];
		used = 2;
	}
	o->given |= bit(r);
	return set(o, r, value, e) < 0 ? -1 : used;
}

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static int set_install(struct options *o, const char *value, struct err *e)
{
	static const struct {
		const char *word;
		int means;
	} words[] = { { "1", 1 }, { "true", 1 }, { "yes", 1 }, { "on", 1 },
		      { "0", -1 }, { "false", -1 }, { "no", -1 }, { "off", -1 } };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcasecmp(value, words[i].word) == 0) {
			o->install_deps = words[i].means;
			o->from_env |= bit(find("--install-deps", 14));
			return 0;
		}
	return err_set(e, ERR_USAGE, 0, "FARSTEP_INSTALL_DEPS '%s': want 1 or 0", value);
}

/* A command has no pipeline, and so no requirements. */
static int complete_install(struct options *o, const char *command, struct err *e)
{
	const char *value = variable("FARSTEP_INSTALL_DEPS");

	if (bit_of(command) == EXEC && o->install_deps)
		return err_set(e, ERR_UNSUPPORTED, 0,
		               "exec --install-deps: a command has no requirements; they stand in "
		               "a pipeline file");
	if (!o->install_deps && value && (bit_of(command) & TARGET & ~(unsigned)EXEC))
		return set_install(o, value, e);
	return 0;
}

static int set_configured(struct options *o, const struct option_row *r, bool is_e2b, struct err *e)
{
	const struct config_value *v = config_file_get(o->config, r->name, is_e2b);

	if (!v || (o->given & bit(r)))
		return 0;
	o->from_file |= bit(r);
	return set(o, r, v->value, e) < 0 ? err_wrap(e, CONFIG_FILE ":%d", v->line) : 0;
}

/* It says how a sandbox is made: nothing to one that is there. */
static bool is_of_making(const struct option_row *r)
{
	return r->kind == CPUS || r->kind == GIGABYTES || strcmp(r->name, "--template") == 0 ||
	       strcmp(r->name, "--build-template") == 0;
}

/* What neither option nor environment said: from farstep.yaml.  The target first, because others
 * follow from it. */
static int read_config(struct options *o, struct err *e)
{
	const struct config_value *install;
	struct err mine = ERR_INIT;
	bool is_e2b;

	o->config = config_file_load(CONFIG_FILE, &mine);
	if (mine.code) {
		*e = mine;
		return -1;
	}
	if (!o->target && set_configured(o, find("--target", 8), false, e) < 0)
		return -1;
	is_e2b = o->target && strcmp(o->target, "e2b") == 0;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].kind != TARGET_NAME && rows[i].kind != INSTALL &&
		    !(o->sandbox && is_of_making(&rows[i])) &&
		    set_configured(o, &rows[i], is_e2b, e) < 0)
			return -1;
	install = config_file_get(o->config, "--install-deps", is_e2b);
	o->install_deps_default = install && strcmp(install->value, "on") == 0;
	if (install && !o->install_deps)
		o->from_file |= bit(find("--install-deps", 14));
	if (is_e2b && o->template_name)
		o->template_name = config_file_template(o->config, o->template_name);
	return 0;
}

/* What no option said: from the environment, from farstep.yaml, else the default. */
static int complete(struct options *o, const char *command, struct err *e)
{
	const char *target = variable("FARSTEP_TARGET"), *level = variable("FARSTEP_LOG_LEVEL");
	enum log_level ignored;

	if (o->sandbox && !o->target)
		o->target = provider_of_id(o->sandbox);
	if (!o->target && target && (bit_of(command) & TARGET)) {
		if (set_target(o, target, e) < 0)
			return err_wrap(e, "FARSTEP_TARGET");
		o->from_env |= bit(find("--target", 8));
	}
	if ((bit_of(command) & TARGET) && read_config(o, e) < 0)
		return -1;
	if (!o->target)
		o->target = "local";
	if (complete_install(o, command, e) < 0)
		return -1;
	/* A good one was set first, because options build on it (-v). */
	return level && !o->level_named ? parse_level("FARSTEP_LOG_LEVEL", level, &ignored, e) : 0;
}

/* What of --keep and --sandbox makes no sense. */
static int check_lifetime(const struct options *o, struct err *e)
{
	const char *option = o->sandbox ? "--sandbox" : "--keep";

	if (!o->sandbox && !o->keep)
		return 0;
	if (strchr(o->target, ':'))
		return err_set(e, ERR_POLICY, 0,
		               "%s: target %.*s is a worker of your own, which stays anyway",
		               option, (int)ws_address_public(o->target), o->target);
	/* Which hosts a kept one may reach is not remembered, only that its network is off. */
	if (o->hosts)
		return err_set(e, ERR_UNSUPPORTED, 0,
		               "%s: not with a list of hosts: want --network off or on", option);
	if (!o->sandbox)
		return 0;
	if (strspn(o->sandbox, SANDBOX_ID_BYTES) != strlen(o->sandbox) || !*o->sandbox)
		return err_set(e, ERR_USAGE, 0, "--sandbox '%.100s': no id of a sandbox",
		               o->sandbox);
	if (strcmp(provider_of_id(o->sandbox), o->target) != 0)
		return err_set(e, ERR_USAGE, 0, "--sandbox %.100s is of target %s, not %s",
		               o->sandbox, provider_of_id(o->sandbox), o->target);
	option = o->template_name      ? "--template"
	         : o->cpu              ? "--cpu"
	         : o->memory_mb        ? "--memory"
	         : o->build_template ? "--build-template"
	                               : NULL;
	return option ? err_set(e, ERR_POLICY, 0,
	                        "%s: sandbox %.100s is made already: leave one of the two out",
	                        option, o->sandbox)
	              : 0;
}

/* A worker that runs already has what it has. */
static int check_there(const struct options *o, struct err *e)
{
	const char *what = o->template_name    ? "--template"
	                   : o->cpu            ? "--cpu"
	                   : o->memory_mb      ? "--memory"
	                   : o->build_template ? "--build-template"
	                   : o->network        ? "--network on"
	                   : o->hosts          ? "--network with hosts"
	                                       : NULL;

	if (!what)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, 0, "%s: target %.*s is a worker that runs already", what,
	               (int)ws_address_public(o->target), o->target);
}

/* What goes together with what. */
static int check_together(const struct options *o, struct err *e)
{
	if (o->strict && o->n_missing)
		return err_set(e, ERR_USAGE, 0, "--pass-env %s: the variable is not set",
		               o->missing[0]);
	if (o->network_off && (strcmp(o->target, "native") == 0 || strchr(o->target, ':')))
		return err_set(e, ERR_POLICY, 0,
		               "--network off: target %.*s cannot keep the network away",
		               (int)ws_address_public(o->target), o->target);
	if (strchr(o->target, ':'))
		return check_there(o, e);
	if (o->build_template && !o->cpu && !o->memory_mb)
		return err_set(e, ERR_USAGE, 0,
		               "--build-template: of which size? It goes with --cpu or --memory");
	return 0;
}

int options_parse(struct options *o, const char *command, int argc, char **argv, struct err *e)
{
	int i = 1, n = 0;

	memset(o, 0, sizeof(*o));
	o->log_level = LOG_WARN;
	if (variable("FARSTEP_LOG_LEVEL"))
		log_level_parse(variable("FARSTEP_LOG_LEVEL"), &o->log_level);
	o->args = calloc((size_t)argc + 1, sizeof(*o->args));
	if (!o->args)
		return err_set(e, ERR_NO_MEMORY, 0, "arguments");
	while (i < argc) {
		int used = 1;

		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (argv[i][0] == '-' && argv[i][1]) {
			used = take_option(o, command, argv + i, argc - i, e);
			if (used < 0)
				return -1;
		} else if (bit_of(command) ==
		           EXEC) { /* the command begins: its options are its own */
			break;
		} else {
			o->args[n++] = argv[i];
		}
		i += used;
	}
	while (i < argc)
		o->args[n++] = argv[i++];
	o->n_args = n;
	if (complete(o, command, e) < 0)
		return -1;
	if (check_lifetime(o, e) < 0)
		return -1;
	return check_together(o, e);
}

/* ---- what was said ---- */

static void print_hosts(const struct options *o, struct jw *w)
{
	if (!o->hosts) {
		jw_str(w, o->network ? "on" : "off");
		return;
	}
	jw_arr(w);
	for (char **h = o->hosts; *h; h++)
		jw_str(w, *h);
	jw_end(w);
}

static void print_value(const struct options *o, const struct option_row *r, struct jw *w)
{
	const void *at = (const char *)o + r->at;

	switch (r->kind) {
	case STRING:
		jw_str(w, *(char *const *)at);
		break;
	case COUNT:
		jw_int(w, *(const int *)at);
		break;
	case SECONDS:
	case DURATION:
		jw_int(w, *(const int64_t *)at);
		break;
	case CPUS:
		jw_int(w, o->cpu);
		break;
	case GIGABYTES:
		jw_num(w, (double)o->memory_mb / 1024);
		break;
	case NETWORK:
		print_hosts(o, w);
		break;
	case TARGET_NAME:
	case TARGET_E2B:
		jw_strn(w, o->target, ws_address_public(o->target));
		break;
	case INSTALL:
		jw_bool(w, o->install_deps ? o->install_deps > 0 : o->install_deps_default);
		break;
	case FORMAT:
		jw_str(w, o->log_json ? "json" : "text");
		break;
	case LEVEL:
		jw_int(w, o->log_level);
		break;
	default:
		jw_bool(w, true);
	}
}

void options_print(const struct options *o, struct jw *w)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct option_row *r = &rows[i];
		const char *from = o->given & bit(r)       ? "option"
		                   : o->from_env & bit(r)  ? "environment"
		                   : o->from_file & bit(r) ? CONFIG_FILE
		                                           : NULL;

		if (!from || r->kind == ENV || r->kind == ENV_FROM || r->kind == PASS_ENV ||
		    r->kind == SECRET)
			continue;
		jw_kobj(w, r->kind == TARGET_E2B ? "target" : r->name + strspn(r->name, "-"));
		jw_key(w, "value");
		print_value(o, r, w);
		jw_kstr(w, "from", from);
		jw_end(w);
	}
}

void options_release(struct options *o)
{
	for (size_t i = 0; i < o->n_env; i++) {
		if (o->env[i].value)
			wipe(o->env[i].value, strlen(o->env[i].value));
		free(o->env[i].value);
		free(o->env[i].name);
	}
	free(o->env);
	free(o->missing);
	free(o->hosts);
	config_file_free(o->config);
	free(o->args);
	memset(o, 0, sizeof(*o));
}

/* ---- help ---- */

static void help_overview(void)
{
	printf("usage: farstep COMMAND [OPTIONS] [ARGUMENTS]\n\n"
	       "Runs the steps of a pipeline in an ephemeral sandbox and proves each result.\n\n");
	for (const struct command *c = commands; c->name; c++)
		printf("  %-11s %-19s %s\n", c->name, c->args, c->summary);
	printf("\n  farstep COMMAND --help   options and examples\n"
	       "  farstep --version\n\n"
	       "RUN is a run directory, a run id, a unique prefix of one, or 'last'.\n\n"
	       "exit codes: 0 proved success, 1 a step failed, 2 usage or pipeline, 3 no sandbox, "
	       "4 quota, 5 deadline,\n"
	       "  6 lost or taken over, 7 protocol or integrity, 8 key refused, 9 dependencies, 10 "
	       "not possible here,\n"
	       "  130/143 interrupted; exec passes the command's own code, 124 deadline, 125 "
	       "farstep's own failure\n");
}

bool option_of(const char *command, size_t n, struct option_info *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!(rows[i].commands & bit_of(command)) || !rows[i].help || n--)
			continue;
		*ret = (struct option_info){ rows[i].name, rows[i].e2b, rows[i].argument,
			                     rows[i].help };
		return true;
	}
	return false;
}

void help_print(const char *command)
{
	const struct command *c = commands;
	struct option_info o;

	if (!command) {
		help_overview();
		return;
	}
	while (c->name && strcmp(c->name, command) != 0)
		c++;
	if (!c->name)
		return;
	printf("usage: farstep %s [OPTIONS] %s\n\n%s\n\n", c->name, c->args, c->summary);
	for (size_t i = 0; option_of(command, i, &o); i++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", o.name, o.argument ? o.argument : "");
		printf("  %-24s %s\n", left, o.help);
	}
	if (c->examples)
		printf("\nexamples:\n%s", c->examples);
}
