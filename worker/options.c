/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"

enum kind { TEXT, NUMBER, FLAG, LEVEL, FORMAT, ACTION };

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
	{ "--max-sessions", "N", "sessions at once (default 64)", NUMBER,
	  offsetof(struct worker_options, max_sessions), 1, LIMIT_SESSIONS },
	{ "--once", NULL, "end when the first session is closed", FLAG,
	  offsetof(struct worker_options, once), 0, 0 },
	{ "--log-level", "LEVEL", "error, warn, info or debug (default info)", LEVEL, 0, 0, 0 },
	{ "--log-format", "FORMAT", "text or json", FORMAT, 0, 0, 0 },
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

static int set_format(const char *value, bool *json, struct err *e)
{
	*json = strcmp(value, "json") == 0;
	return *json || strcmp(value, "text") == 0
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

static int set(struct worker_options *o, const struct row *r, const char *value, struct err *e)
{
	void *at = (char *)o + r->at;

	switch (r->kind) {
	case TEXT:
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

static int check(const struct worker_options *o, struct err *e)
{
	uint8_t digest[SHA256_LEN];

	if (o->action == ACT_HELP || o->action == ACT_VERSION || o->action == ACT_CAPABILITIES)
		return 0;
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

int worker_options_parse(struct worker_options *o, int argc, char **argv, struct err *e)
{
	memset(o, 0, sizeof(*o));
	o->max_sessions = LIMIT_SESSIONS;
	o->log_level = LOG_INFO;
	o->sandbox_id = "";
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
		if (o->role && (strcmp(o->role, "keeper") == 0 || strcmp(o->role, "unpack") == 0)) {
			o->rest = argv + i + 1;
			o->n_rest = argc - i - 1;
			return 0;
		}
	}
	return check(o, e);
}
