/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"

enum kind { TEXT, NUMBER, FLAG, LEVEL, FORMAT, CONFIG, ACTION };

static const struct row {
	const char *name, *argument, *help; /* help NULL: internal */
	enum kind kind;
	size_t at;
	int64_t min, max; /* NUMBER; ACTION: min is the action */
} rows[] = {
	{ "--listen", "unix:PATH|HOST:PORT", "where to wait for the proxy", TEXT,
	  offsetof(struct worker_options, listen), 0, 0 },
	{ "--token-sha256", "HEX", "SHA-256 of the token that opens sessions", TEXT,
	  offsetof(struct worker_options, token_sha256), 0, 0 },
	{ "--root", "DIR", "where sessions keep their files (default: a new directory in /tmp)",
	  TEXT, offsetof(struct worker_options, root), 0, 0 },
	{ "--sandbox-id", "ID", "what this sandbox is called (default: made up)", TEXT,
	  offsetof(struct worker_options, sandbox_id), 0, 0 },
	{ "--lease", "MS", "end everything unless a session renews in time", NUMBER,
	  offsetof(struct worker_options, lease_ms), 1000, LEASE_MAX_MS },
	{ "--scratch", "DIR:...", "emptied of what sessions left there, when none is open", TEXT,
	  offsetof(struct worker_options, scratch), 0, 0 },
	{ "--max-sessions", "N", "sessions at once (default 64)", NUMBER,
	  offsetof(struct worker_options, max_sessions), 1, LIMIT_SESSIONS },
	{ "--heartbeat", "MS", "how often both sides say that they live (default 10000)", NUMBER,
	  offsetof(struct worker_options, heartbeat_ms), HEARTBEAT_MIN_MS, HEARTBEAT_MAX_MS },
	{ "--once", NULL, "end when the first session is closed", FLAG,
	  offsetof(struct worker_options, once), 0, 0 },
	{ "--say-ready", NULL, "print \"ready\" on standard output when it listens", FLAG,
	  offsetof(struct worker_options, say_ready), 0, 0 },
	{ "--log-level", "LEVEL", "error, warn, info or debug (default info)", LEVEL, 0, 0, 0 },
	{ "--log-format", "FORMAT", "text or json", FORMAT, 0, 0, 0 },
	{ "--config", "FILE|-", "these options as a JSON object; - is standard input", CONFIG,
	  offsetof(struct worker_options, config), 0, 0 },
	{ "--job-config", "BASE64", "the same object, in base64", CONFIG,
	  offsetof(struct worker_options, job_config), 0, 0 },
	{ "--health", NULL, "ask the worker at --listen whether it is well: exit 0 or 1", ACTION, 0,
	  ACT_HEALTH, 0 },
	{ "--capabilities", NULL, "what this machine allows, as JSON", ACTION, 0, ACT_CAPABILITIES,
	  0 },
	{ "--version", NULL, "print the version", ACTION, 0, ACT_VERSION, 0 },
	{ "--help", NULL, "this text", ACTION, 0, ACT_HELP, 0 },
	{ "--role", "ROLE", NULL, TEXT, offsetof(struct worker_options, role), 0, 0 },
	{ "--generation", "N", NULL, NUMBER, offsetof(struct worker_options, generation), 1,
	  1000000000 },
	{ "--leased", NULL, NULL, FLAG, offsetof(struct worker_options, lease_ms), 0, 0 },
};

void worker_help(void)
{
	printf("usage: farstep-worker --listen ADDRESS --token-sha256 HEX [OPTIONS]\n\n"
	       "Runs the steps of farstep sessions. Started by `farstep`; by hand for a worker of "
	       "your own:\n\n"
	       "  farstep-worker --listen unix:/run/farstep.sock --token-sha256 $(printf %%s TOKEN "
	       "| sha256sum | cut -c1-64)\n\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].help)
			printf("  %-14s %-20s %s\n", rows[i].name,
			       rows[i].argument ? rows[i].argument : "", rows[i].help);
	printf("\n--config and --job-config take the long names as keys:\n\n"
	       "  {\"listen\":\"unix:/run/farstep.sock\",\"token-sha256\":\"HEX\","
	       "\"max-sessions\":4,\"once\":true}\n\n"
	       "The variable " CONFIG_VARIABLE " may hold that object too, or its base64. What the "
	       "command line\nsays counts first, then --job-config, --config, the variable.\n");
	printf("\nexit codes: 0 done, 1 not healthy, 100 usage, 101 a bug, 111 the system "
	       "refused\n");
}

static const struct row *find(const char *arg, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strlen(rows[i].name) == n && memcmp(rows[i].name, arg, n) == 0)
			return &rows[i];
	return NULL;
}

static int set_number(const struct row *r, const char *value, int64_t *ret, struct err *e)
{
	char *end;
	long long v = strtoll(value, &end, 10);

	if (end == value || *end || v < r->min || v > r->max)
		return err_set(e, ERR_USAGE, 0, "%s '%s': want a number from %lld to %lld", r->name,
		               value, (long long)r->min, (long long)r->max);
	*ret = v;
	return 0;
}

static int set_format(const char *value, bool *is_json, struct err *e)
{
	*is_json = strcmp(value, "json") == 0;
	return *is_json || strcmp(value, "text") == 0
	               ? 0
	               : err_set(e, ERR_USAGE, 0, "--log-format '%s': want text or json", value);
}

static int set_level(const char *value, enum log_level *ret, struct err *e)
{
	if (value[0] >= '0' && value[0] <= '3' && !value[1]) /* as the supervisor passes it on */
		*ret = (enum log_level)(value[0] - '0');
	else if (log_level_parse(value, ret) < 0)
		return err_set(e, ERR_USAGE, 0, "--log-level '%s': want error, warn, info or debug",
		               value);
	return 0;
}

/* Roles whose arguments are their own. */
static bool is_foreign_role(const struct worker_options *o)
{
	return o->role && (strcmp(o->role, "keeper") == 0 || strcmp(o->role, "unpack") == 0);
}

static int set(struct worker_options *o, const struct row *r, const char *value, struct err *e)
{
	void *at = (char *)o + r->at;

	switch (r->kind) {
	case TEXT:
	case CONFIG:
		*(const char **)at = value;
		return 0;
	case NUMBER:
		return set_number(r, value, at, e);
	case FLAG:
		if (r->at == offsetof(struct worker_options, lease_ms))
			o->lease_ms = LEASE_DEFAULT_MS;
		else
			*(bool *)at = true;
		return 0;
	case LEVEL:
		return set_level(value, &o->log_level, e);
	case FORMAT:
		return set_format(value, &o->log_json, e);
	case ACTION:
		o->action = (int)r->min;
		return 0;
	}
	return 0;
}

/* ---- the configuration ---- */

static bool may_stand_in_config(const struct row *r)
{
	return r->help && r->kind != CONFIG && r->kind != ACTION;
}

static const struct row *find_key(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (may_stand_in_config(&rows[i]) && strcmp(rows[i].name + 2, key) == 0)
			return &rows[i];
	return NULL;
}

static int unknown_key(const char *key, struct err *e)
{
	char valid[256] = "";
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows) && len < sizeof(valid); i++)
		if (may_stand_in_config(&rows[i]))
			len += (size_t)snprintf(valid + len, sizeof(valid) - len, "%s%s",
			                        len ? ", " : "", rows[i].name + 2);
	return err_set(e, ERR_USAGE, 0, "unknown key '%.64s'; there are %s", key, valid);
}

static int wrong_type(const struct row *r, const char *want, const json *v, struct err *e)
{
	return err_set(e, ERR_USAGE, 0, "%s: want %s, got %s", r->name + 2, want,
	               json_type_name(json_type(v)));
}

static int set_from_json(struct worker_options *o, const struct row *r, const json *v,
                         struct err *e)
{
	int64_t n = 0;

	switch (r->kind) {
	case NUMBER:
		if (json_type(v) != JSON_NUMBER)
			return wrong_type(r, "a number", v, e);
		if (json_number(v) < (double)r->min || json_number(v) > (double)r->max ||
		    json_number(v) != (double)(n = (int64_t)json_number(v)))
			return err_set(e, ERR_USAGE, 0, "%s: want a whole number from %lld to %lld",
			               r->name + 2, (long long)r->min, (long long)r->max);
		*(int64_t *)((char *)o + r->at) = n;
		return 0;
	case FLAG:
		if (json_type(v) != JSON_BOOL)
			return wrong_type(r, "true or false", v, e);
		*(bool *)((char *)o + r->at) = json_is_true(v);
		return 0;
	default:
		if (json_type(v) != JSON_STRING)
			return wrong_type(r, "a string", v, e);
		return set(o, r, json_string(v), e);
	}
}

/* Every member is checked, also one that a stronger source outdoes. */
static int apply(struct worker_options *o, const json *config, bool *given, struct err *e)
{
	bool now[ARRAY_LEN(rows)] = { false };

	for (const json *v = json_first(config); v; v = json_next(v)) {
		const struct row *r = find_key(json_key(v));
		struct worker_options scratch = *o;

		if (!r)
			return unknown_key(json_key(v), e);
		if (set_from_json(given[r - rows] ? &scratch : o, r, v, e) < 0)
			return -1;
		now[r - rows] = true;
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		given[i] |= now[i];
	return 0;
}

static int load_config(struct worker_options *o, bool *given, struct err *e)
{
	const char *values[CONFIG_SOURCES] = {
		[CONFIG_JOB] = o->job_config,
		[CONFIG_FILE] = o->config,
		[CONFIG_ENVIRONMENT] = getenv(CONFIG_VARIABLE),
	};

	for (int i = 0; i < CONFIG_SOURCES; i++) {
		if (!values[i] || (i == CONFIG_ENVIRONMENT && !*values[i]))
			continue;
		o->loaded[i] = config_load((enum config_source)i, values[i], e);
		if (!o->loaded[i])
			return -1;
		if (apply(o, o->loaded[i], given, e) < 0)
			return err_wrap(e, "%s", config_source_name((enum config_source)i));
	}
	return 0;
}

static bool needs_no_config(const struct worker_options *o)
{
	return o->role || o->action == ACT_HELP || o->action == ACT_VERSION ||
	       o->action == ACT_CAPABILITIES;
}

static bool has_config(const struct worker_options *o)
{
	return o->loaded[CONFIG_JOB] || o->loaded[CONFIG_FILE] || o->loaded[CONFIG_ENVIRONMENT];
}

static int check(const struct worker_options *o, struct err *e)
{
	uint8_t digest[SHA256_LEN];

	if (o->action == ACT_HELP || o->action == ACT_VERSION || o->action == ACT_CAPABILITIES)
		return 0;
	if (!o->listen && !o->role && !o->token_sha256 && !has_config(o))
		return err_set(e, ERR_USAGE, 0,
		               "nothing says where to listen and for whom: give --listen and "
		               "--token-sha256, or both as JSON by --config FILE, --config - "
		               "(standard input), --job-config BASE64 or " CONFIG_VARIABLE
		               "; see --help");
	if (!o->listen && !o->role)
		return err_set(e, ERR_USAGE, 0, "--listen is missing: unix:PATH or HOST:PORT");
	if (o->listen && strcmp(o->listen, "stdio") == 0)
		return err_set(e, ERR_UNSUPPORTED, 0,
		               "--listen stdio: not built yet; use unix:PATH or HOST:PORT");
	if (o->action == ACT_HEALTH)
		return 0;
	if (!o->token_sha256 ||
	    hex_decode(o->token_sha256, strlen(o->token_sha256), digest, sizeof(digest), NULL) < 0)
		return err_set(e, ERR_USAGE, 0,
		               "--token-sha256: want the 64 hex digits of the token's SHA-256");
	if (strlen(o->sandbox_id) > 100)
		return err_set(e, ERR_USAGE, 0, "--sandbox-id: at most 100 bytes");
	return 0;
}

/* ---- the command line ---- */

/* The options of argv; *given by row. */
static int parse_line(struct worker_options *o, int argc, char **argv, bool *given, struct err *e)
{
	for (int i = 1; i < argc; i++) {
		size_t n = strcspn(argv[i], "=");
		const struct row *r = find(argv[i], n);
		const char *value = argv[i][n] ? argv[i] + n + 1 : NULL;

		if (!r)
			return err_set(e, ERR_USAGE, 0, "unknown option '%s'; see --help", argv[i]);
		if (r->argument && !value && ++i < argc)
			value = argv[i];
		if (r->argument && !value)
			return err_set(e, ERR_USAGE, 0, "%s needs %s", r->name, r->argument);
		if (!r->argument && value)
			return err_set(e, ERR_USAGE, 0, "%s takes no value", r->name);
		if (set(o, r, value, e) < 0)
			return -1;
		given[r - rows] = true;
		if (is_foreign_role(o)) {
			o->rest = argv + i + 1;
			o->n_rest = argc - i - 1;
			return 0;
		}
	}
	return 0;
}

int worker_options_parse(struct worker_options *o, int argc, char **argv, struct err *e)
{
	bool given[ARRAY_LEN(rows)] = { false };

	memset(o, 0, sizeof(*o));
	o->max_sessions = LIMIT_SESSIONS;
	o->heartbeat_ms = HEARTBEAT_MS;
	o->log_level = LOG_INFO;
	o->sandbox_id = "";
	if (parse_line(o, argc, argv, given, e) < 0)
		return -1;
	if (is_foreign_role(o))
		return 0;
	if ((!needs_no_config(o) && load_config(o, given, e) < 0) || check(o, e) < 0) {
		worker_options_release(o);
		return -1;
	}
	return 0;
}

void worker_options_release(struct worker_options *o)
{
	for (int i = 0; i < CONFIG_SOURCES; i++)
		json_free(o->loaded[i]);
	memset(o, 0, sizeof(*o));
}
