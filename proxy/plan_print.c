/* SPDX-License-Identifier: Apache-2.0
 *
 * A finished plan: printed, and freed. */
#include <stdlib.h>
#include <string.h>

#include "protocol/base/json.h"
#include "proxy/plan.h"

static void step_release(struct plan_step *s)
{
	for (size_t i = 0; i < s->n_collect; i++)
		free(s->collect[i]);
	for (size_t i = 0; i < s->n_env; i++) {
		free(s->env[i].name);
		free(s->env[i].value);
	}
	free(s->collect);
	free(s->env);
	free(s->needs);
	free(s->config);
	free(s->driver);
	free(s->id);
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_steps; i++)
		step_release(&p->steps[i]);
	for (size_t i = 0; i < p->n_files; i++)
		free(p->files[i]);
	for (int i = 0; i < TOOLS; i++)
		requirements_release(&p->requires[i]);
	free(p->wheels);
	free(p->files);
	free(p->steps);
	free(p->by_id);
	free(p->name);
	free(p->file);
	free(p->dir);
	free(p->text);
	free(p);
}

static void print_strings(struct jw *w, const char *key, char *const *list, size_t n)
{
	if (n == 0)
		return;
	jw_karr(w, key);
	for (size_t i = 0; i < n; i++)
		jw_str(w, list[i]);
	jw_end(w);
}

static void print_seconds(struct jw *w, const char *key, int64_t ms, int64_t usual_ms)
{
	if (ms != usual_ms)
		jw_knum(w, key, (double)ms / 1000);
}

static void print_step(struct jw *w, const struct plan *p, const struct plan_step *s)
{
	jw_obj(w);
	jw_kstr(w, "id", s->id);
	jw_kstr(w, "driver", s->driver);
	jw_key(w, "config");
	jw_raw(w, s->config, strlen(s->config));
	jw_karr(w, "needs");
	for (size_t i = 0; i < s->n_needs; i++)
		jw_str(w, p->steps[s->needs[i]].id);
	jw_end(w);
	print_strings(w, "artifacts", s->collect, s->n_collect);
	if (s->n_env)
		jw_kobj(w, "env");
	for (size_t i = 0; i < s->n_env; i++)
		jw_kstr(w, s->env[i].name, s->env[i].value);
	if (s->n_env)
		jw_end(w);
	print_seconds(w, "timeout", s->timeout_ms, 0);
	print_seconds(w, "grace", s->grace_ms, GRACE_DEFAULT_MS);
	print_seconds(w, "linger", s->linger_ms, LINGER_DEFAULT_MS);
	if (s->backtrace)
		jw_kbool(w, "backtrace", true);
	jw_end(w);
}

int plan_print_step(const struct plan *p, size_t step, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	print_step(&w, p, &p->steps[step]);
	return jw_done(&w, e);
}

int plan_print(const struct plan *p, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "name", p->name);
	print_strings(&w, "files", p->files, p->n_files);
	plan_print_requirements(p, &w);
	if (p->install_deps)
		jw_kbool(&w, "install_deps", p->install_deps > 0);
	jw_karr(&w, "steps");
	for (size_t i = 0; i < p->n_steps; i++)
		print_step(&w, p, &p->steps[i]);
	jw_end(&w);
	jw_end(&w);
	return jw_done(&w, e);
}
