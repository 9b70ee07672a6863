/* SPDX-License-Identifier: Apache-2.0
 *
 * The key `requirements` of a pipeline file: a list or a file (of pip), or a mapping of both
 * tools to such. */
#include <stdlib.h>
#include <string.h>

#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "proxy/plan.h"
#include "proxy/problems.h"
#include "proxy/yaml.h"

#define KEY "requirements"

struct reading {
	struct plan *plan;
	struct problems *problems;
	struct err *e;
	bool failed;
};

/* A name that travels by itself: below the pipeline's directory and no glob. */
static char *path_of(struct reading *r, const struct tree *v, const char *what)
{
	char *ret = NULL;

	if (v->type != TREE_STRING || !fs_path_is_clean(v->text) || strpbrk(v->text, "*?[\\"))
		problems_add(r->problems, v->line,
		             "%s: want %s: a clean path relative to this file, without '..' and "
		             "without '*', '?' and '['",
		             KEY, what);
	else if (!(ret = strdup(v->text)))
		r->failed = true;
	return ret;
}

static void read_list(struct reading *r, const struct tree *v, enum package_tool tool)
{
	for (const struct tree *t = v->first; t; t = t->next) {
		struct err e = ERR_INIT;

		if (!t->text || t->type == TREE_NULL)
			problems_add(r->problems, t->line, "%s: %s: want a string, got %s", KEY,
			             package_tool_names[tool], tree_type_name(t->type));
		else if (requirements_add(&r->plan->requires[tool], tool, t->text, &e) < 0) {
			problems_add(r->problems, t->line, "%s: %s", KEY, e.msg);
			if (e.code == ERR_NO_MEMORY)
				r->failed = true;
		}
	}
	requirements_sort(&r->plan->requires[tool]);
}

static void read_tool(struct reading *r, const struct tree *v, enum package_tool tool)
{
	static const char *const files[TOOLS] = { "a list, or the name of a requirements file",
		                                  "a list, or the name of a package.json" };

	if (v->type == TREE_LIST)
		read_list(r, v, tool);
	else if (v->type == TREE_STRING)
		r->plan->requires[tool].file = path_of(r, v, files[tool]);
	else
		problems_add(r->problems, v->line, "%s: %s: want %s, got %s", KEY,
		             package_tool_names[tool], files[tool], tree_type_name(v->type));
}

static void read_member(struct reading *r, const struct tree *v)
{
	static const char *const names[] = { "pip", "npm", "wheels", NULL };
	const char *meant;

	if (v->is_repeated)
		return;
	for (int tool = 0; tool < TOOLS; tool++)
		if (strcmp(v->key, package_tool_names[tool]) == 0) {
			read_tool(r, v, (enum package_tool)tool);
			return;
		}
	if (strcmp(v->key, "wheels") == 0) {
		r->plan->wheels = path_of(r, v, "a directory of wheels");
		return;
	}
	meant = nearest(v->key, names);
	if (meant)
		problems_add(r->problems, v->key_line,
		             KEY ": unknown key '%.64s' (did you mean '%s'?)", v->key, meant);
	else
		problems_add(r->problems, v->key_line, KEY ": unknown key '%.64s'", v->key);
}

int plan_read_requirements(struct plan *p, const struct tree *v, struct problems *problems,
                           struct err *e)
{
	struct reading r = { .plan = p, .problems = problems, .e = e };

	if (v->type == TREE_MAP)
		for (const struct tree *t = v->first; t; t = t->next)
			read_member(&r, t);
	else
		read_tool(&r, v, TOOL_PIP);
	if (p->wheels && !p->requires[TOOL_PIP].file && !p->requires[TOOL_PIP].n)
		problems_add(problems, v->line, KEY ": wheels: there is nothing for 'pip'");
	return r.failed ? err_set(e, ERR_NO_MEMORY, 0, "plan") : 0;
}

/* ---- what travels ---- */

static int add_file(struct plan *p, const char *path, struct err *e)
{
	char **more;

	for (size_t i = 0; i < p->n_files; i++)
		if (!path || strcmp(p->files[i], path) == 0)
			return 0;
	if (!path)
		return 0;
	more = realloc(p->files, (p->n_files + 1) * sizeof(*more));
	if (!more)
		return err_set(e, ERR_NO_MEMORY, 0, "plan");
	p->files = more;
	more[p->n_files] = strdup(path);
	if (!more[p->n_files])
		return err_set(e, ERR_NO_MEMORY, 0, "plan");
	p->n_files++;
	return 0;
}

int plan_add_required_files(struct plan *p, struct err *e)
{
	for (int i = 0; i < TOOLS; i++)
		if (add_file(p, p->requires[i].file, e) < 0)
			return -1;
	return add_file(p, p->wheels, e);
}

int plan_read_required_files(struct plan *p, struct buf *problems, struct err *e)
{
	int ret = 0;

	for (int i = 0; i < TOOLS; i++) {
		struct err why = ERR_INIT;

		if (requirements_read(&p->requires[i], (enum package_tool)i, p->dir, problems,
		                      &why) < 0 &&
		    ret == 0) {
			*e = why;
			ret = -1;
		}
	}
	return ret;
}

bool plan_has_requirements(const struct plan *p)
{
	for (int i = 0; i < TOOLS; i++)
		if (p->requires[i].file || p->requires[i].n)
			return true;
	return false;
}

void plan_print_requirements(const struct plan *p, struct jw *w)
{
	if (!plan_has_requirements(p))
		return;
	jw_kobj(w, KEY);
	for (int i = 0; i < TOOLS; i++) {
		const struct requirements *r = &p->requires[i];

		if (r->file) {
			jw_kstr(w, package_tool_names[i], r->file);
		} else if (r->n) {
			jw_karr(w, package_tool_names[i]);
			for (size_t k = 0; k < r->n; k++)
				jw_str(w, r->list[k]);
			jw_end(w);
		}
	}
	if (p->wheels)
		jw_kstr(w, "wheels", p->wheels);
	jw_end(w);
}
