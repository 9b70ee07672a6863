/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/drivers.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/version.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct driver {
	const char *name, *category, *description;
	const char *parameters; /* JSON object for driver.list */
	int (*check)(const json *config, struct err *e);
	void (*argv)(const json *config, struct jw *w);
};

static int check_shell(const json *config, struct err *e)
{
	const char *script = NULL;

	return json_req_str(config, "params.config", "script", &script, e);
}

static void argv_shell(const json *config, struct jw *w)
{
	jw_str(w, "/bin/sh");
	jw_str(w, "-e");
	jw_str(w, "-c");
	jw_str(w, json_string(json_get(config, "script")));
	jw_str(w, "sh");
}

static int check_exec(const json *config, struct err *e)
{
	const json *argv = NULL;

	if (json_opt_strv(config, "params.config", "argv", &argv, e) < 0)
		return -1;
	if (json_count(argv) < 1 || json_count(argv) > LIMIT_ARGV)
		return err_set(e, ERR_INVALID_PARAMS, 0, "params.config.argv: want 1 to %d strings",
		               LIMIT_ARGV);
	return 0;
}

static void argv_exec(const json *config, struct jw *w)
{
	for (const json *a = json_first(json_get(config, "argv")); a; a = json_next(a))
		jw_str(w, json_string(a));
}

static const struct driver drivers[] = {
	{ "exec", "process", "a program with its arguments",
	  "{\"argv\":{\"type\":\"array\",\"required\":true},\"cwd\":{\"type\":\"string\"}}",
	  check_exec, argv_exec },
	{ "shell", "process", "a script for /bin/sh -e",
	  "{\"script\":{\"type\":\"string\",\"required\":true},\"cwd\":{\"type\":\"string\"}}",
	  check_shell, argv_shell },
};

void drivers_list(const char *category, struct jw *w)
{
	for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
		const struct driver *d = &drivers[i];

		if (category && strcmp(category, d->category) != 0)
			continue;
		jw_obj(w);
		jw_kstr(w, "name", d->name);
		jw_kstr(w, "version", farstep_version());
		jw_kstr(w, "category", d->category);
		jw_karr(w, "modes");
		jw_str(w, "batch");
		jw_end(w);
		jw_key(w, "parameters");
		jw_raw(w, d->parameters, strlen(d->parameters));
		jw_kstr(w, "description", d->description);
		jw_end(w);
	}
}

static const struct driver *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
		if (strcmp(drivers[i].name, name) == 0)
			return &drivers[i];
	return NULL;
}

const char *drivers_name(const char *name)
{
	const struct driver *d = find(name);

	return d ? d->name : "";
}

int drivers_check(const json *params, struct err *e)
{
	const char *name = NULL, *cwd = NULL;
	const json *config = NULL;
	const struct driver *d;

	if (json_req_str(params, "params", "driver", &name, e) < 0 ||
	    json_req_obj(params, "params", "config", &config, e) < 0)
		return -1;
	d = find(name);
	if (!d)
		return err_set(e, ERR_INVALID_PARAMS, 0,
		               "params.driver: no driver '%.64s'; there are: exec, shell", name);
	if (json_opt_str(config, "params.config", "cwd", &cwd, e) < 0)
		return -1;
	if (cwd && !fs_path_is_clean(cwd))
		return err_set(e, ERR_INVALID_PARAMS, 0,
		               "params.config.cwd: want a relative path without '..'");
	return d->check(config, e);
}

/* ---- the environment of a step ---- */

/* Later settings win: the keeper gets each name once. */
struct env_list {
	struct env_item {
		char *text; /* NAME=VALUE, owned */
		size_t name_len;
	} items[LIMIT_ENV * 3 + 32];
	int n;
	bool failed;
};

static void env_set(struct env_list *l, const char *name, const char *value)
{
	size_t n = strlen(name);
	struct env_item *at = NULL;

	for (int i = 0; i < l->n && !at; i++)
		if (l->items[i].name_len == n && memcmp(l->items[i].text, name, n) == 0)
			at = &l->items[i];
	if (!at && l->n < (int)ARRAY_LEN(l->items))
		at = &l->items[l->n++];
	if (!at) {
		l->failed = true;
		return;
	}
	free(at->text);
	at->name_len = n;
	if (asprintf(&at->text, "%s=%s", name, value) < 0) {
		at->text = NULL;
		l->failed = true;
		l->n--;
	}
}

static void env_from_json(struct env_list *l, const json *obj)
{
	for (const json *v = json_first(obj); v; v = json_next(v))
		env_set(l, json_key(v), json_string(v));
}

static void PRINTF_LIKE(3, 4) env_path(struct env_list *l, const char *name, const char *fmt, ...)
{
	char value[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	env_set(l, name, value);
}

/* FARSTEP_INPUT_<NAME>: upper case, everything but letters and digits as '_'. */
static void env_inputs(struct env_list *l, const struct session *s, const json *inputs)
{
	for (const json *v = json_first(inputs); v; v = json_next(v)) {
		char name[32 + LIMIT_STEP_ID * 2];
		int64_t attempt = 1;
		const char *step = "";
		size_t n = (size_t)snprintf(name, sizeof(name), "FARSTEP_INPUT_%s", json_key(v));

		for (size_t i = 0; i < n && name[i]; i++)
			name[i] = isalnum((unsigned char)name[i])
			                  ? (char)toupper((unsigned char)name[i])
			                  : '_';
		json_req_str(v, "", "step", &step, NULL);
		json_opt_int(v, "", "attempt", 1, LIMIT_ATTEMPT, &attempt, NULL);
		env_path(l, name, "%s/steps/%s.%d/out", s->dir, step, (int)attempt);
	}
}

/* Of the worker, not of the session: ROOT/cache beside ROOT/sessions/ID. */
static void env_cache(struct env_list *l, const struct session *s)
{
	size_t n = strlen(s->dir);

	for (int up = 0; up < 2; up++)
		while (n > 0 && s->dir[--n] != '/')
			;
	env_path(l, "FARSTEP_CACHE_DIR", "%.*s/cache", (int)n, s->dir);
}

static void env_contract(struct env_list *l, const struct session *s, const json *params,
                         const char *step, int attempt)
{
	env_set(l, "PATH", DEFAULT_PATH);
	env_path(l, "HOME", "%s/home", s->dir);
	env_path(l, "TMPDIR", "%s/tmp", s->dir);
	env_set(l, "USER", getuid() == 0 ? "root" : "user");
	env_set(l, "LANG", "C.UTF-8");
	env_from_json(l, json_get(s->blob, "env"));
	env_from_json(l, json_get(s->blob, "secrets"));
	env_from_json(l, json_get(params, "env"));
	env_set(l, "FARSTEP_RUN_ID", s->run);
	env_set(l, "FARSTEP_STEP_ID", step);
	env_path(l, "FARSTEP_ATTEMPT", "%d", attempt);
	env_path(l, "FARSTEP_CONFIG", "%s/steps/%s.%d/config.json", s->dir, step, attempt);
	if (json_count(json_get(params, "inputs")))
		env_path(l, "FARSTEP_INPUTS", "%s/steps/%s.%d/inputs.json", s->dir, step, attempt);
	else
		env_path(l, "FARSTEP_INPUTS", "%s/" NO_INPUTS_FILE, s->dir);
	env_path(l, "FARSTEP_OUTPUT_DIR", "%s/steps/%s.%d/out", s->dir, step, attempt);
	env_path(l, "FARSTEP_ARTIFACTS_DIR", "%s/steps/%s.%d/artifacts", s->dir, step, attempt);
	env_path(l, "FARSTEP_CHECKPOINT_DIR", "%s/checkpoints/%s", s->dir, step);
	env_cache(l, s);
	env_set(l, "FARSTEP_EVENT_FD", "3");
	env_inputs(l, s, json_get(params, "inputs"));
}

int drivers_plan(const struct session *s, const json *params, const char *step, int attempt,
                 struct jw *w, struct err *e)
{
	const json *config = json_get(params, "config");
	const char *cwd = NULL;
	char path[1200];
	static struct env_list list; /* 48 KiB: no need to be mapped anew for each step */
	struct env_list *l = &list;

	l->n = 0;
	l->failed = false;
	json_opt_str(config, "", "cwd", &cwd, NULL);
	snprintf(path, sizeof(path), "%s/work%s%s", s->dir, cwd ? "/" : "", cwd ? cwd : "");
	jw_kstr(w, "cwd", path);
	jw_karr(w, "argv");
	find(json_string(json_get(params, "driver")))->argv(config, w);
	jw_end(w);
	env_contract(l, s, params, step, attempt);
	jw_karr(w, "env");
	for (int i = 0; i < l->n; i++) {
		jw_str(w, l->items[i].text);
		wipe(l->items[i].text, strlen(l->items[i].text));
		free(l->items[i].text);
		l->items[i].text = NULL;
	}
	jw_end(w);
	return l->failed ? err_set(e, ERR_LIMIT, 0, "over %d variables in the environment",
	                        LIMIT_ENV * 3)
	              : 0;
}
