/* SPDX-License-Identifier: Apache-2.0
 *
 * OML 0.1.0: oml_version, name, params, steps of components with modes. */
#include <string.h>

#include "protocol/base/cleanup.h"
#include "proxy/osiris.h"

#define VERSION "0.1.0"

static const char *const top_keys[] = { "oml_version", "name",  "description", "metadata",
	                                "params",      "steps", "profiles",    NULL };
static const char *const step_keys[] = { "id", "component", "mode", "needs", "config", NULL };
static const char *const param_keys[] = { "default", "description", NULL };
static const char *const modes[] = { "read", "write", "transform", NULL };

/* Keys of older versions, which OML 0.1.0 forbids by name. */
static const struct {
	const char *key, *instead;
} forbidden[] = {
	{ "version", "'oml_version'" },
	{ "tasks", "'steps'" },
	{ "connectors", "'config' of a step: connection: '@family.alias'" },
	{ "outputs", "a step of mode 'write'" },
};

bool oml_is(const struct tree *root)
{
	return tree_get(root, "oml_version") != NULL;
}

static bool has(const char *const *keys, const char *key)
{
	for (; *keys; keys++)
		if (strcmp(*keys, key) == 0)
			return true;
	return false;
}

/* --- parameters --- */

static void check_param(struct osiris *o, const struct tree *p)
{
	const struct tree *v = p;

	if (p->type == TREE_MAP) {
		for (const struct tree *t = p->first; t; t = t->next)
			if (strcmp(t->key, "type") == 0)
				problems_unsupported(o->problems, t->key_line,
				                     "params: %.64s: type", p->key);
			else if (!has(param_keys, t->key))
				osiris_tell_unknown(o, t, param_keys);
		v = tree_get(p, "default");
	}
	if (v && (v->type == TREE_LIST || v->type == TREE_MAP))
		osiris_tell(o, v->line, "params: %.64s: want a string, number or boolean, got %s",
		            p->key, tree_type_name(v->type));
}

static void check_params(struct osiris *o, const struct tree *params)
{
	if (params->type != TREE_MAP) {
		osiris_tell(o, params->line, "params: want a mapping, got %s",
		            tree_type_name(params->type));
		return;
	}
	for (const struct tree *p = params->first; p; p = p->next)
		check_param(o, p);
	o->params = params;
}

/* --- steps --- */

static void read_members(struct osiris *o, struct osiris_list *step, const struct tree *v)
{
	for (const struct tree *t = v->first; t; t = t->next) {
		if (t->is_repeated)
			continue;
		if (strcmp(t->key, "id") == 0 || strcmp(t->key, "needs") == 0)
			osiris_copy(o, step, t, NULL);
		else if (strcmp(t->key, "mode") == 0)
			osiris_check_mode(o, t, modes);
		else if (!has(step_keys, t->key))
			osiris_tell_unknown(o, t, step_keys);
	}
}

static void read_step(struct osiris *o, struct osiris_list *steps, const struct tree *v,
                      size_t number)
{
	const struct tree *component, *config;
	struct osiris_list step = { NULL, NULL };

	osiris_set_where(o, tree_get(v, "id"), number);
	if (v->type != TREE_MAP) {
		osiris_copy(o, steps, v, NULL);
		return;
	}
	step.node = osiris_add(o, steps, TREE_MAP, v->line, NULL, NULL);
	if (!step.node)
		return;
	component = tree_get(v, "component");
	config = tree_get(v, "config");
	read_members(o, &step, v);
	if (!tree_get(v, "mode"))
		osiris_tell(o, v->line, "'mode' is missing");
	if (!component)
		osiris_tell(o, v->line, "'component' is missing");
	if (component && osiris_add_driver(o, &step, component)) {
		if (config)
			osiris_add_config(o, &step, config);
	} else {
		struct tree *unused = osiris_add(o, NULL, TREE_MAP, v->line, NULL, NULL);
		struct osiris_list aside = { unused, NULL };

		/* What is wrong with its config is told as well, as far as that is known. */
		if (config && unused)
			osiris_add_config(o, &aside, config);
		tree_free(unused);
		osiris_add_stand_in(o, &step, v->line);
	}
}

static void read_steps(struct osiris *o, struct osiris_list *root, const struct tree *v)
{
	struct osiris_list steps = { NULL, NULL };
	size_t number = 0;

	if (v->type != TREE_LIST) {
		osiris_copy(o, root, v, NULL);
		return;
	}
	steps.node = osiris_add(o, root, TREE_LIST, v->line, "steps", NULL);
	for (const struct tree *t = v->first; t && steps.node; t = t->next)
		read_step(o, &steps, t, ++number);
	osiris_set_where(o, NULL, 0);
}

/* --- the file --- */

static void tell_forbidden(struct osiris *o, const struct tree *v)
{
	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
		if (strcmp(v->key, forbidden[i].key) != 0)
			continue;
		osiris_tell(o, v->key_line, "'%s' is not in OML " VERSION "; there is %s", v->key,
		            forbidden[i].instead);
		return;
	}
	osiris_tell_unknown(o, v, top_keys);
}

static void check_top(struct osiris *o, const struct tree *root)
{
	const struct tree *version = tree_get(root, "oml_version");

	if (version->type != TREE_STRING || strcmp(version->text, VERSION) != 0)
		osiris_tell(o, version->line, "oml_version: want \"" VERSION "\", got %.20s",
		            version->text ? version->text : tree_type_name(version->type));
	if (!tree_get(root, "name"))
		osiris_tell(o, root->line, "'name' is missing");
	for (const struct tree *t = root->first; t; t = t->next)
		if (strcmp(t->key, "profiles") == 0)
			problems_unsupported(o->problems, t->key_line, "profiles");
		else if (!t->is_repeated && !has(top_keys, t->key))
			tell_forbidden(o, t);
	if (tree_get(root, "params"))
		check_params(o, tree_get(root, "params"));
}

struct tree *oml_read(const struct tree *root, struct problems *problems, struct err *e)
{
	struct osiris o = { .problems = problems, .e = e };
	struct tree none = { .type = TREE_MAP };
	struct osiris_list ret = { NULL, NULL };

	o.params = &none;
	check_top(&o, root);
	ret.node = osiris_add(&o, NULL, TREE_MAP, root->line, NULL, NULL);
	if (ret.node && tree_get(root, "name"))
		osiris_copy(&o, &ret, tree_get(root, "name"), NULL);
	if (ret.node && tree_get(root, "steps"))
		read_steps(&o, &ret, tree_get(root, "steps"));
	if (o.failed) {
		tree_free(ret.node);
		return NULL;
	}
	if (o.bytes >= 2 * LIMIT_PIPELINE_FILE)
		osiris_tell(&o, root->line, "more than %d MiB with its parameters filled in",
		            2 * LIMIT_PIPELINE_FILE >> 20);
	return ret.node;
}
