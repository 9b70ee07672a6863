/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "proxy/plan.h"
#include "proxy/problems.h"
#include "proxy/yaml.h"

enum kind { TEXT, NUMBER, FLAG, SWITCH, HOSTS, SECTION, NAMES };
enum { TOP = 1, IN_E2B = 2 };

static const struct key {
	const char *name, *option;
	enum kind kind;
	int where;
} keys[] = {
	{ "target", "--target", TEXT, TOP },
	{ "timeout", "--timeout", NUMBER, TOP | IN_E2B },
	{ "network", "--network", HOSTS, TOP | IN_E2B },
	{ "install_deps", "--install-deps", SWITCH, TOP | IN_E2B },
	{ "e2b", NULL, SECTION, TOP },
	{ "template", "--template", TEXT, IN_E2B },
	{ "cpu", "--cpu", NUMBER, IN_E2B },
	{ "memory", "--memory", NUMBER, IN_E2B },
	{ "build_template", "--build-template", FLAG, IN_E2B },
	{ "templates", NULL, NAMES, IN_E2B },
};

struct reader {
	struct config_file *c;
	struct problems *p;
};

static char *copy(struct reader *r, const char *text)
{
	char *s = strdup(text);

	if (!s)
		r->p->no_memory = true;
	return s;
}

/* Takes the value, NULL too. */
static void add(struct reader *r, const struct key *k, char *value, int where, int line)
{
	struct config_file *c = r->c;

	if (!value || c->n == CONFIG_VALUES_MAX) {	/* no key comes twice: there is room */
		free(value);
		return;
	}
	c->values[c->n] = (struct config_value){ copy(r, k->option), value, where == IN_E2B, line };
	if (c->values[c->n].option)
		c->n++;
	else
		free(value);
}

static char *join(struct reader *r, const struct tree *list)
{
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;
	char *text;

	buf_init(&b, CONFIG_FILE_MAX);
	for (const struct tree *v = list->first; v; v = v->next) {
		if (v->type != TREE_STRING) {
			problems_add(r->p, v->line, "network: want strings");
			return NULL;
		}
		if ((v != list->first && buf_putc(&b, ',', &e) < 0) ||
		    buf_puts(&b, v->text, &e) < 0)
			break;
	}
	text = e.code ? NULL : buf_take_str(&b, &e);
	if (!text)
		r->p->no_memory = true;
	return text;
}

static void read_names(struct reader *r, const struct tree *map)
{
	if (map->type != TREE_MAP) {
		problems_add(r->p, map->line, "templates: want names with the template of each");
		return;
	}
	for (const struct tree *v = map->first; v; v = v->next) {
		struct config_name *n = &r->c->names[r->c->n_names];

		if (v->type != TREE_STRING || !*v->text) {
			problems_add(r->p, v->line, "templates.%s: want the name of a template",
				     v->key);
			continue;
		}
		if (r->c->n_names == CONFIG_NAMES_MAX) {
			problems_add(r->p, v->line, "templates: over %d", CONFIG_NAMES_MAX);
			return;
		}
		r->c->n_names++;
		n->name = copy(r, v->key);
		n->template_id = copy(r, v->text);
	}
}

static void read_map(struct reader *r, const struct tree *map, int where);

static void read_value(struct reader *r, const struct key *k, const struct tree *v, int where)
{
	static const char *const wants[] = {
		[TEXT] = "a string", [NUMBER] = "a number", [FLAG] = "true or false",
		[SWITCH] = "true or false",
		[HOSTS] = "off, on, or a list of hosts", [SECTION] = "a mapping",
	};
	bool fits = k->kind == NAMES || (k->kind == TEXT && v->type == TREE_STRING) ||
		    (k->kind == NUMBER && v->type == TREE_NUMBER) ||
		    ((k->kind == FLAG || k->kind == SWITCH) && v->type == TREE_BOOL) ||
		    (k->kind == HOSTS && (v->type == TREE_STRING || v->type == TREE_LIST)) ||
		    (k->kind == SECTION && v->type == TREE_MAP);

	if (!fits)
		problems_add(r->p, v->line, "%s: want %s", k->name, wants[k->kind]);
	else if (k->kind == NAMES)
		read_names(r, v);
	else if (k->kind == SECTION)
		read_map(r, v, IN_E2B);
	else if (k->kind == SWITCH) /* false counts too: the pipeline's goes before it */
		add(r, k, copy(r, strcmp(v->text, "true") == 0 ? "on" : "off"), where, v->line);
	else if (k->kind == FLAG)
		add(r, k, strcmp(v->text, "true") == 0 ? copy(r, "") : NULL, where, v->line);
	else
		add(r, k, v->type == TREE_LIST ? join(r, v) : copy(r, v->text), where, v->line);
}

static void read_map(struct reader *r, const struct tree *map, int where)
{
	for (const struct tree *v = map->first; v; v = v->next) {
		const char *names[ARRAY_LEN(keys) + 1], *near;
		const struct key *found = NULL;
		size_t n = 0;

		for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
			if (!(keys[i].where & where))
				continue;
			names[n++] = keys[i].name;
			if (strcmp(keys[i].name, v->key) == 0)
				found = &keys[i];
		}
		names[n] = NULL;
		near = found ? NULL : nearest(v->key, names);
		if (found)
			read_value(r, found, v, where);
		else
			problems_add(r->p, v->key_line, "unknown key '%s'%s%s%s", v->key,
				     near ? " (did you mean '" : "", near ? near : "",
				     near ? "'?)" : "");
	}
}

static void on_mistake(void *arg, int line, const char *what)
{
	problems_add(arg, line, "%s", what);
}

static int read_text(const char *text, size_t len, const char *file, struct config_file *c,
		     bool *is_pipeline, struct err *e)
{
	auto_free struct problems *p = calloc(1, sizeof(*p));
	struct reader r = { c, p };
	const struct tree_sink sink = { on_mistake, p };
	struct tree *root;
	int ret = 0;

	if (!p)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	root = tree_parse(text, len, &sink, e);
	*is_pipeline = root && root->type == TREE_MAP && tree_get(root, "steps");
	if (root && root->type == TREE_MAP && !*is_pipeline)
		read_map(&r, root, TOP);
	else if (root && root->type != TREE_MAP && root->type != TREE_NULL)
		problems_add(p, root->line, "want a mapping");
	tree_free(root);
	if (!*is_pipeline)
		ret = problems_report(p, file, NULL, e);
	problems_release(p);
	return root ? ret : -1;
}

struct config_file *config_file_load(const char *file, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	struct config_file *c;
	bool is_pipeline = false;

	buf_init(&text, CONFIG_FILE_MAX);
	if (access(file, F_OK) < 0 && errno == ENOENT)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	else if (fs_read(AT_FDCWD, file, CONFIG_FILE_MAX, &text, e) == 0 &&
		 read_text((const char *)buf_data(&text), buf_len(&text), file, c, &is_pipeline,
			   e) == 0 &&
		 !is_pipeline)
		return c;
	else if (!is_pipeline && e && e->code != ERR_NO_MEMORY)
		e->code = ERR_USAGE;
	config_file_free(c);
	return NULL;
}

void config_file_free(struct config_file *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++) {
		free(c->values[i].option);
		free(c->values[i].value);
	}
	for (size_t i = 0; i < c->n_names; i++) {
		free(c->names[i].name);
		free(c->names[i].template_id);
	}
	free(c);
}

const struct config_value *config_file_get(const struct config_file *c, const char *option,
					   bool is_e2b)
{
	const struct config_value *found = NULL;

	for (size_t i = 0; c && i < c->n; i++)
		if (strcmp(c->values[i].option, option) == 0 &&
		    (c->values[i].e2b_only ? is_e2b : !(found && found->e2b_only)))
			found = &c->values[i];
	return found;
}

const char *config_file_template(const struct config_file *c, const char *name)
{
	for (size_t i = 0; c && i < c->n_names; i++)
		if (strcmp(c->names[i].name, name) == 0)
			return c->names[i].template_id;
	return name;
}
