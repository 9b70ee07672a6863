/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/osiris.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "proxy/plan.h"

#define PARAM      "${params."
#define PARAM_MAX  128 /* bytes of a parameter's name */
/* Before their parameters are filled in, files have at most LIMIT_PIPELINE_FILE. */
#define BYTES_MAX  (2 * LIMIT_PIPELINE_FILE)
/* Shorter values under a secret's name are placeholders, as Osiris sees it. */
#define SECRET_MIN 5

/* --- telling --- */

void osiris_tell(struct osiris *o, int line, const char *fmt, ...)
{
	char what[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	problems_add(o->problems, o->line ? o->line : line, "%s%s", o->where, what);
}

void osiris_set_where(struct osiris *o, const struct tree *id, size_t number)
{
	if (id && id->type == TREE_STRING && *id->text && strlen(id->text) <= LIMIT_STEP_ID)
		snprintf(o->where, sizeof(o->where), "step '%s': ", id->text);
	else if (number)
		snprintf(o->where, sizeof(o->where), "step %zu: ", number);
	else
		o->where[0] = 0;
}

void osiris_tell_unknown(struct osiris *o, const struct tree *v, const char *const *keys)
{
	const char *meant = nearest(v->key, keys);

	if (meant)
		osiris_tell(o, v->key_line, "unknown key '%.64s' (did you mean '%s'?)", v->key,
		            meant);
	else
		osiris_tell(o, v->key_line, "unknown key '%.64s'", v->key);
}

/* --- making nodes --- */

static void no_memory(struct osiris *o)
{
	if (!o->failed)
		err_set(o->e, ERR_NO_MEMORY, 0, "pipeline file");
	o->failed = true;
}

static struct tree *new_node(struct osiris *o, enum tree_type type, int line, const char *key,
                             const char *text)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t) {
		no_memory(o);
		return NULL;
	}
	t->type = type;
	t->line = t->key_line = o->line ? o->line : line;
	t->key = key ? strdup(key) : NULL;
	t->text = text ? strdup(text) : NULL;
	if ((key && !t->key) || (text && !t->text)) {
		no_memory(o);
		tree_free(t);
		return NULL;
	}
	return t;
}

struct tree *osiris_add(struct osiris *o, struct osiris_list *to, enum tree_type type, int line,
                        const char *key, const char *text)
{
	struct tree *t;

	if (o->failed || !(t = new_node(o, type, line, key, text)))
		return NULL;
	if (!to)
		return t;
	if (to->last)
		to->last->next = t;
	else
		to->node->first = t;
	to->last = t;
	to->node->count++;
	return t;
}

/* --- parameters --- */

/* The value of a parameter, NULL after a complaint: what its variable holds, else its default. */
static const char *param_value(struct osiris *o, const char *name, int line, enum tree_type *type)
{
	const struct tree *p = tree_get(o->params, name), *v;
	char variable[PARAM_MAX + 16] = "OSIRIS_PARAM_";
	size_t n = strlen(variable);
	const char *value;

	if (!p) {
		osiris_tell(o, line, "'" PARAM "%s}': no such parameter under 'params'", name);
		return NULL;
	}
	for (const char *s = name; *s; s++)
		variable[n++] = (char)toupper((unsigned char)*s);
	variable[n] = 0;
	value = getenv(variable);
	*type = TREE_STRING;
	if (value)
		return value;
	v = p->type == TREE_MAP ? tree_get(p, "default") : p;
	if (!v || !v->text || v->type == TREE_NULL) {
		osiris_tell(o, line,
		            "'" PARAM "%s}': the parameter has no default, and %s is not set", name,
		            variable);
		return NULL;
	}
	*type = v->type;
	return v->text;
}

/* s begins with PARAM; *len: of the whole reference. */
static const char *refer(struct osiris *o, const char *s, int line, size_t *len,
                         enum tree_type *type)
{
	const char *name = s + strlen(PARAM);
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
	char copy[PARAM_MAX + 1];

	if (n == 0 || n > PARAM_MAX || name[n] != '}') {
		osiris_tell(o, line, "'%.40s': want '" PARAM "NAME}'", s);
		*len = strlen(PARAM);
		return NULL;
	}
	memcpy(copy, name, n);
	copy[n] = 0;
	*len = strlen(PARAM) + n + 1;
	return param_value(o, copy, line, type);
}

/* The text with its parameters filled in.  One that is nothing but a parameter takes its type. */
static char *fill_in(struct osiris *o, const struct tree *v, enum tree_type *type)
{
	const char *s = v->text, *at, *value;
	enum tree_type kind;
	struct buf out;
	char *ret;
	size_t len;

	buf_init(&out, BYTES_MAX);
	for (; (at = strstr(s, PARAM)); s = at + len) {
		value = refer(o, at, v->line, &len, &kind);
		if (buf_put(&out, s, (size_t)(at - s), NULL) < 0 ||
		    (value && buf_puts(&out, value, NULL) < 0))
			o->bytes = BYTES_MAX;
		if (value && at == v->text && !at[len])
			*type = kind;
	}
	if (buf_puts(&out, s, NULL) < 0)
		o->bytes = BYTES_MAX;
	ret = buf_take_str(&out, o->e);
	if (!ret)
		o->failed = true;
	buf_release(&out);
	return ret;
}

static struct tree *copy_scalar(struct osiris *o, struct osiris_list *to, const struct tree *v,
                                const char *key)
{
	enum tree_type type = v->type;
	auto_free char *text = NULL;

	if (!v->text) /* an alias, which has been told */
		return osiris_add(o, to, type, v->line, key, "");
	if (o->params && type == TREE_STRING && strstr(v->text, PARAM) &&
	    !(text = fill_in(o, v, &type)))
		return NULL;
	o->bytes += strlen(text ? text : v->text);
	return osiris_add(o, to, type, v->line, key, text ? text : v->text);
}

void osiris_copy(struct osiris *o, struct osiris_list *to, const struct tree *v, const char *key)
{
	struct osiris_list sub = { NULL, NULL };

	if (!key)
		key = v->key;
	if (o->bytes >= BYTES_MAX) { /* told once, at the end */
		osiris_add(o, to, TREE_NULL, v->line, key, "");
		return;
	}
	if (v->type != TREE_LIST && v->type != TREE_MAP) {
		copy_scalar(o, to, v, key);
		return;
	}
	sub.node = osiris_add(o, to, v->type, v->line, key, NULL);
	for (const struct tree *t = v->first; t && sub.node; t = t->next)
		if (!t->is_repeated)
			osiris_copy(o, &sub, t, NULL);
}

/* --- steps --- */

bool osiris_add_driver(struct osiris *o, struct osiris_list *step, const struct tree *v)
{
	char offered[200];
	const char *meant;

	if (v->type != TREE_STRING || !*v->text) {
		osiris_tell(o, v->line, "%s: want a name", v->key);
		return false;
	}
	if (plan_driver_state(v->text, offered, sizeof(offered), &meant) == PLAN_DRIVER_UNKNOWN) {
		osiris_tell(o, v->line, "unknown driver '%.64s' (%s%s%soffered: %s)", v->text,
		            meant ? "did you mean '" : "", meant ? meant : "", meant ? "'? " : "",
		            offered);
		return false;
	}
	osiris_add(o, step, TREE_STRING, v->line, "driver", v->text);
	return true;
}

void osiris_add_stand_in(struct osiris *o, struct osiris_list *step, int line)
{
	struct osiris_list config = { NULL, NULL }, argv = { NULL, NULL };

	osiris_add(o, step, TREE_STRING, line, "driver", "exec");
	config.node = osiris_add(o, step, TREE_MAP, line, "config", NULL);
	if (config.node)
		argv.node = osiris_add(o, &config, TREE_LIST, line, "argv", NULL);
	if (argv.node)
		osiris_add(o, &argv, TREE_STRING, line, NULL, "true");
}

static bool is_secret_name(const char *key)
{
	static const char *const parts[] = { "password", "passwd",     "secret",     "token",
		                             "api_key",  "apikey",     "access_key", "private_key",
		                             "dsn",      "credential", NULL };
	char lower[65];
	size_t n = 0;

	for (; n < sizeof(lower) - 1 && key[n]; n++)
		lower[n] = (char)tolower((unsigned char)key[n]);
	lower[n] = 0;
	/* At the end only: a tokenizer is no secret. */
	for (const char *const *p = parts; *p; p++)
		if (n >= strlen(*p) && strcmp(lower + n - strlen(*p), *p) == 0)
			return true;
	return false;
}

static void check_secret(struct osiris *o, const struct tree *v)
{
	if (v->type == TREE_STRING && is_secret_name(v->key) && strlen(v->text) >= SECRET_MIN &&
	    strncmp(v->text, "${", 2) != 0)
		osiris_tell(o, v->line,
		            "config: %.64s: a secret in the file; give it by --secret NAME",
		            v->key);
}

static void check_connection(struct osiris *o, const struct tree *v)
{
	const char *dot = v->type == TREE_STRING ? strchr(v->text, '.') : NULL;

	if (!dot || v->text[0] != '@' || dot == v->text + 1 || !dot[1])
		osiris_tell(o, v->line, "config: connection: want '@family.alias'");
	else
		problems_unsupported(o->problems, o->line ? o->line : v->line,
		                     "%sconnection '%.80s'", o->where, v->text);
}

void osiris_add_config(struct osiris *o, struct osiris_list *step, const struct tree *v)
{
	struct osiris_list config = { NULL, NULL };

	if (v->type != TREE_MAP) { /* plan.c says what it wants */
		osiris_copy(o, step, v, "config");
		return;
	}
	config.node = osiris_add(o, step, TREE_MAP, v->line, "config", NULL);
	for (const struct tree *t = v->first; t && config.node; t = t->next) {
		if (t->is_repeated)
			continue;
		if (strcmp(t->key, "connection") == 0) {
			check_connection(o, t);
			continue;
		}
		check_secret(o, t);
		osiris_copy(o, &config, t, NULL);
		if (config.last && config.last->key)
			config.last->key_line = o->line ? o->line : t->key_line;
	}
}

void osiris_check_mode(struct osiris *o, const struct tree *v, const char *const *modes)
{
	char valid[80] = "";
	const char *meant = NULL;

	for (const char *const *m = modes; *m; m++) {
		if (v->type == TREE_STRING && strcmp(v->text, *m) == 0)
			return;
		snprintf(valid + strlen(valid), sizeof(valid) - strlen(valid), "%s%s",
		         *valid ? ", " : "", *m);
	}
	if (v->type == TREE_STRING)
		meant = nearest(v->text, modes);
	osiris_tell(o, v->line, "mode: want one of %s%s%s%s", valid,
	            meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
}
