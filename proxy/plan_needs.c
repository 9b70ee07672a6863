/* SPDX-License-Identifier: Apache-2.0
 *
 * The second pass over a pipeline file: who needs whom. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "proxy/plan.h"
#include "proxy/problems.h"
#include "proxy/yaml.h"

enum { CIRCLE_SHOWN = 6 };

struct resolver {
	struct plan *plan;
	struct problems *problems;
	const char **ids;             /* NULL-ended, for nearest() */
	char who[LIMIT_STEP_ID + 16]; /* whose needs are read */
	size_t n_ids;
};

/* --- ids --- */

static int by_id(const void *a, const void *b, void *arg)
{
	const struct plan *p = arg;
	int x = *(const int *)a, y = *(const int *)b;
	int c = strcmp(p->steps[x].id, p->steps[y].id);

	return c ? c : x - y;
}

/* Steps without a usable id are left out: that has been told already. */
static int sort_ids(struct resolver *r, struct err *e)
{
	struct plan *p = r->plan;

	p->by_id = malloc((p->n_steps + 1) * sizeof(*p->by_id));
	r->ids = malloc((p->n_steps + 1) * sizeof(*r->ids));
	if (!p->by_id || !r->ids)
		return err_set(e, ERR_NO_MEMORY, 0, "plan");
	for (size_t i = 0; i < p->n_steps; i++)
		if (p->steps[i].id)
			p->by_id[r->n_ids++] = (int)i;
	qsort_r(p->by_id, r->n_ids, sizeof(*p->by_id), by_id, p);
	for (size_t i = 0; i < r->n_ids; i++)
		r->ids[i] = p->steps[p->by_id[i]].id;
	r->ids[r->n_ids] = NULL;
	return 0;
}

static void tell_duplicates(struct resolver *r)
{
	const struct plan_step *steps = r->plan->steps, *first = NULL;

	for (size_t i = 0; i < r->n_ids; i++) {
		const struct plan_step *s = &steps[r->plan->by_id[i]];

		if (first && strcmp(first->id, s->id) == 0)
			problems_add(r->problems, s->line,
			             "step '%s': another step has this id (line %d)", s->id,
			             first->line);
		else
			first = s;
	}
}

/* The first of the sorted ids that is not below id; n if all are. */
static size_t lower_bound(const struct plan *p, size_t n, const char *id)
{
	size_t from = 0, to = n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (strcmp(p->steps[p->by_id[mid]].id, id) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

static int find(const struct plan *p, size_t n, const char *id)
{
	size_t at = lower_bound(p, n, id);

	return at < n && strcmp(p->steps[p->by_id[at]].id, id) == 0 ? p->by_id[at] : -1;
}

int plan_find(const struct plan *p, const char *id)
{
	return find(p, p->n_steps, id);
}

/* --- needs --- */

/* As in all messages of a file: by its id, else by its number. */
static void set_who(struct resolver *r, size_t i)
{
	const char *id = r->plan->steps[i].id;

	if (id)
		snprintf(r->who, sizeof(r->who), "step '%s'", id);
	else
		snprintf(r->who, sizeof(r->who), "step %zu", i + 1);
}

static void tell_unknown(struct resolver *r, const struct tree *need)
{
	/* With very many mistakes the search for what was meant would take too long. */
	const char *meant = r->problems->n < PROBLEMS_MAX ? nearest(need->text, r->ids) : NULL;

	if (meant)
		problems_add(r->problems, need->line,
		             "%s: needs: no step '%.64s' (did you mean '%s'?)", r->who, need->text,
		             meant);
	else
		problems_add(r->problems, need->line, "%s: needs: no step '%.64s'", r->who,
		             need->text);
}

static bool has_need(const struct plan_step *s, int need)
{
	for (size_t i = 0; i < s->n_needs; i++)
		if (s->needs[i] == need)
			return true;
	return false;
}

static void add_need(struct resolver *r, struct plan_step *s, const struct tree *need)
{
	int at;

	if (need->type != TREE_STRING) {
		problems_add(r->problems, need->line, "%s: needs: want the id of a step, got %s",
		             r->who, tree_type_name(need->type));
		return;
	}
	at = find(r->plan, r->n_ids, need->text);
	if (at < 0)
		tell_unknown(r, need);
	else if (has_need(s, at))
		problems_add(r->problems, need->line, "%s: needs: '%s' is named twice", r->who,
		             need->text);
	else
		s->needs[s->n_needs++] = at;
}

/* One element: room for the step before. */
static int alloc_needs(struct plan_step *s, size_t n, struct err *e)
{
	s->needs = malloc((n + 1) * sizeof(*s->needs));
	return s->needs ? 0 : err_set(e, ERR_NO_MEMORY, 0, "plan");
}

static int resolve_step(struct resolver *r, size_t i, const struct tree *raw, struct err *e)
{
	struct plan_step *s = &r->plan->steps[i];
	bool is_list = raw && raw->type == TREE_LIST;

	set_who(r, i);
	if (alloc_needs(s, is_list && raw->count <= LIMIT_INPUTS ? raw->count : 0, e) < 0)
		return -1;
	if (!raw) {
		if (i > 0)
			s->needs[s->n_needs++] = (int)i - 1;
	} else if (!is_list) {
		problems_add(r->problems, raw->line, "%s: needs: want a list of step ids, got %s",
		             r->who, tree_type_name(raw->type));
	} else if (raw->count > LIMIT_INPUTS) {
		problems_add(r->problems, raw->line, "%s: needs: %zu steps, the most is %d", r->who,
		             raw->count, LIMIT_INPUTS);
	} else {
		for (const struct tree *t = raw->first; t; t = t->next)
			add_need(r, s, t);
	}
	return 0;
}

/* --- circles --- */

/* One whose id is missing may be needed as the step before. */
static const char *label(const struct plan_step *s)
{
	return s->id ? s->id : "?";
}

static void tell_circle(struct resolver *r, const int *circle, size_t n)
{
	const struct plan_step *steps = r->plan->steps;
	char names[CIRCLE_SHOWN * (LIMIT_STEP_ID + 8) + 16] = "";
	size_t len = 0;

	if (n == 1) {
		problems_add(r->problems, steps[circle[0]].line, "step '%s': needs itself",
		             label(&steps[circle[0]]));
		return;
	}
	for (size_t i = 0; i < n && i < CIRCLE_SHOWN; i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s needs ",
		                        label(&steps[circle[i]]));
	if (n > CIRCLE_SHOWN)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "... needs ");
	problems_add(r->problems, steps[circle[0]].line, "steps need each other in a circle: %s%s",
	             names, label(&steps[circle[0]]));
}

/* A walk in depth.  place: 1 + where the step stands on the path, LEFT once all that it needs
 * was seen. */
struct walk {
	int *path, *next; /* per depth: the step, and which of its needs comes next */
	int *place;
	bool *told; /* the step was named in a circle */
};

enum { UNSEEN = 0, LEFT = -1 };

static void tell_path(struct resolver *r, struct walk *w, size_t from, size_t n)
{
	bool known = false;

	for (size_t i = from; i < n; i++)
		known |= w->told[w->path[i]];
	if (known)
		return;
	for (size_t i = from; i < n; i++)
		w->told[w->path[i]] = true;
	tell_circle(r, w->path + from, n - from);
}

static void walk(struct resolver *r, struct walk *w, int from)
{
	size_t n = 0;
	int step = from;

	for (;;) {
		if (w->place[step] == UNSEEN) {
			w->path[n] = step;
			w->next[n] = 0;
			w->place[step] = (int)++n;
		} else if (w->place[step] > 0) {
			tell_path(r, w, (size_t)w->place[step] - 1, n);
		}
		while (n && (size_t)w->next[n - 1] == r->plan->steps[w->path[n - 1]].n_needs)
			w->place[w->path[--n]] = LEFT;
		if (n == 0)
			return;
		step = r->plan->steps[w->path[n - 1]].needs[w->next[n - 1]++];
	}
}

static int tell_circles(struct resolver *r, struct err *e)
{
	size_t n = r->plan->n_steps;
	auto_free int *path = calloc(n + 1, sizeof(*path));
	auto_free int *next = calloc(n + 1, sizeof(*next));
	auto_free int *place = calloc(n + 1, sizeof(*place));
	auto_free bool *told = calloc(n + 1, sizeof(*told));
	struct walk w = { path, next, place, told };

	if (!path || !next || !place || !told)
		return err_set(e, ERR_NO_MEMORY, 0, "plan");
	for (size_t i = 0; i < n; i++)
		if (place[i] == UNSEEN)
			walk(r, &w, (int)i);
	return 0;
}

int plan_resolve(struct plan *p, const struct tree *const *raw, struct problems *problems,
                 struct err *e)
{
	struct resolver r = { .plan = p, .problems = problems };
	int ret = sort_ids(&r, e);

	if (ret == 0)
		tell_duplicates(&r);
	for (size_t i = 0; ret == 0 && i < p->n_steps; i++)
		ret = resolve_step(&r, i, raw[i], e);
	if (ret == 0)
		ret = tell_circles(&r, e);
	free(r.ids);
	return ret;
}
