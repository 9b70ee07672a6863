/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "proxy/osiris.h"
#include "proxy/problems.h"
#include "proxy/yaml.h"

enum {
	NAME_MAX_BYTES = 128,
	/* What a step may say in its one frame; the rest of the frame is for inputs and streams. */
	STEP_BODY_MAX = LIMIT_TEXT - 64 * 1024,
};

struct reader {
	struct plan *plan;
	struct problems *problems;
	const struct tree **needs;      /* per step, as written */
	char where[LIMIT_STEP_ID + 32]; /* "step 'sort': " or "" */
	struct err *e;
	bool failed; /* out of memory: e says so */
};

/* One row for every key that a file may have.  A row without read is not built yet. */
struct key {
	const char *name;
	void (*read)(struct reader *r, const struct key *k, const struct tree *v, void *into);
	bool required;
	size_t at, at_count; /* offsets in what is read into */
	int64_t min_ms, max_ms;
};

static void *member(void *into, size_t at)
{
	return (char *)into + at;
}

/* --- complaints --- */

static void complain(struct reader *r, const struct tree *v, const struct key *k, const char *fmt,
                     ...) PRINTF_LIKE(4, 5);

static void complain(struct reader *r, const struct tree *v, const struct key *k, const char *fmt,
                     ...)
{
	char what[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	problems_add(r->problems, v->line, "%s%s%s%s", r->where, k ? k->name : "", k ? ": " : "",
	             what);
}

static void want(struct reader *r, const struct tree *v, const struct key *k, const char *what)
{
	complain(r, v, k, "want %s, got %s", what, tree_type_name(v->type));
}

static void no_memory(struct reader *r)
{
	err_set(r->e, ERR_NO_MEMORY, 0, "plan");
	r->failed = true;
}

/* --- mappings by their rows --- */

static const struct key *key_find(const struct key *keys, const char *name)
{
	for (; keys->name; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

static void tell_unknown(struct reader *r, const struct key *keys, const struct tree *v)
{
	const char *names[32], *meant;
	size_t n = 0;

	for (; keys->name && n < ARRAY_LEN(names) - 1; keys++)
		names[n++] = keys->name;
	names[n] = NULL;
	meant = nearest(v->key, names);
	if (meant)
		problems_add(r->problems, v->key_line, "%sunknown key '%.64s' (did you mean '%s'?)",
		             r->where, v->key, meant);
	else
		problems_add(r->problems, v->key_line, "%sunknown key '%.64s'", r->where, v->key);
}

static void read_member(struct reader *r, const struct key *keys, const struct tree *v, void *into)
{
	const struct key *k = key_find(keys, v->key);

	if (v->is_repeated)
		return;
	if (!k)
		tell_unknown(r, keys, v);
	else if (!k->read)
		problems_unsupported(r->problems, v->key_line, "%s%s", r->where, k->name);
	else
		k->read(r, k, v, into);
}

static void read_map(struct reader *r, const struct key *keys, const struct tree *map, void *into)
{
	for (const struct tree *v = map->first; v; v = v->next)
		read_member(r, keys, v, into);
	for (; keys->name; keys++)
		if (keys->required && !tree_get(map, keys->name))
			problems_add(r->problems, map->line, "%s'%s' is missing", r->where,
			             keys->name);
}

/* --- values --- */

static char *copy(struct reader *r, const char *s)
{
	char *ret = strdup(s);

	if (!ret)
		no_memory(r);
	return ret;
}

/* A string that is not empty; NULL after a complaint. */
static const char *text_of(struct reader *r, const struct key *k, const struct tree *v)
{
	if (v->type != TREE_STRING)
		want(r, v, k, "a string");
	else if (!*v->text)
		complain(r, v, k, "is empty");
	else
		return v->text;
	return NULL;
}

static void read_name(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	const char *text = text_of(r, k, v);
	char **to = member(into, k->at);

	if (!text)
		return;
	for (const char *s = text; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || s - text >= NAME_MAX_BYTES) {
			complain(r, v, k, "want one line of at most %d bytes", NAME_MAX_BYTES);
			return;
		}
	*to = copy(r, text);
}

/* Where farstep looks is what the file's directory holds; so no path leads out of it. */
static bool is_path(struct reader *r, const struct key *k, const struct tree *v)
{
	const char *text = text_of(r, k, v);

	if (!text)
		return false;
	if (text[0] == '/')
		complain(r, v, k, "'%.80s' is an absolute path", text);
	else if (strcmp(text, "..") == 0 || strncmp(text, "../", 3) == 0 || strstr(text, "/../") ||
	         (strlen(text) > 3 && strcmp(text + strlen(text) - 3, "/..") == 0))
		complain(r, v, k, "'%.80s' leads upwards ('..')", text);
	else if (!fs_path_is_clean(text))
		complain(r, v, k,
		         "'%.80s' is no clean path (without './', '//' and a '/' at the end)",
		         text);
	else
		return true;
	return false;
}

static void read_paths(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	char ***to = member(into, k->at);
	size_t *n = member(into, k->at_count);

	if (v->type != TREE_LIST) {
		want(r, v, k, "a list of paths");
		return;
	}
	if (v->count > LIMIT_GLOBS) {
		complain(r, v, k, "%zu paths, the most is %d", v->count, LIMIT_GLOBS);
		return;
	}
	*to = calloc(v->count + 1, sizeof(**to));
	if (!*to) {
		no_memory(r);
		return;
	}
	for (const struct tree *t = v->first; t; t = t->next)
		if (is_path(r, k, t) && ((*to)[*n] = copy(r, t->text)))
			++*n;
}

static void read_bool(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	bool *to = member(into, k->at);

	if (v->type != TREE_BOOL)
		want(r, v, k, "true or false");
	else
		*to = v->text[0] == 't' || v->text[0] == 'T';
}

static void read_seconds(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	int64_t *to = member(into, k->at);
	double ms = v->type == TREE_NUMBER ? round(tree_number(v) * 1000) : NAN;

	if (v->type != TREE_NUMBER)
		want(r, v, k, "a number of seconds");
	else if (!(ms >= (double)k->min_ms && ms <= (double)k->max_ms))
		complain(r, v, k, "want %g to %lld seconds, got %.20s", (double)k->min_ms / 1000,
		         (long long)(k->max_ms / 1000), v->text);
	else
		*to = (int64_t)ms;
}

static bool is_env_name(const char *s)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	size_t n = strspn(s, letters);

	return n > 0 &&
	       s[n + strspn(s + n,
	                    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")] ==
	               0;
}

static void read_variable(struct reader *r, const struct key *k, const struct tree *v,
                          struct plan_step *s)
{
	struct plan_env *env = &s->env[s->n_env];

	if (v->is_repeated)
		return;
	if (!is_env_name(v->key)) {
		complain(r, v, k, "'%.64s' is no name of a variable", v->key);
	} else if (strncmp(v->key, "FARSTEP_", 8) == 0) {
		complain(r, v, k, "'%.64s' is set by farstep itself", v->key);
	} else if (!v->text || v->type == TREE_NULL) {
		complain(r, v, k, "%.64s: want a string (\"\" for an empty one), got %s", v->key,
		         tree_type_name(v->type));
	} else {
		env->name = copy(r, v->key);
		env->value = copy(r, v->text);
		s->n_env++;
	}
}

static void read_env(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	struct plan_step *s = into;

	if (v->type != TREE_MAP) {
		want(r, v, k, "a mapping of names to values");
		return;
	}
	if (v->count > LIMIT_ENV) {
		complain(r, v, k, "%zu variables, the most is %d", v->count, LIMIT_ENV);
		return;
	}
	s->env = calloc(v->count + 1, sizeof(*s->env));
	if (!s->env) {
		no_memory(r);
		return;
	}
	for (const struct tree *t = v->first; t; t = t->next)
		read_variable(r, k, t, s);
}

/* --- drivers and their config, which goes to the worker as it stands --- */

static void read_script(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	const char *text = text_of(r, k, v);

	if (text)
		jw_kstr(into, k->name, text);
}

static void read_argv(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	struct jw *w = into;

	if (v->type != TREE_LIST) {
		want(r, v, k, "a list of strings");
		return;
	}
	if (v->count < 1 || v->count > LIMIT_ARGV) {
		complain(r, v, k, "want 1 to %d strings, got %zu", LIMIT_ARGV, v->count);
		return;
	}
	jw_karr(w, k->name);
	for (const struct tree *t = v->first; t; t = t->next) {
		if (!t->text || t->type == TREE_NULL)
			want(r, t, k, "a string");
		else if (t == v->first && !*t->text)
			complain(r, t, k, "the program's name is empty");
		else
			jw_str(w, t->text); /* a number as it is written */
	}
	jw_end(w);
}

static void read_cwd(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	if (is_path(r, k, v))
		jw_kstr(into, k->name, v->text);
}

static const struct key shell_keys[] = {
	{ .name = "script", .read = read_script, .required = true },
	{ .name = "cwd", .read = read_cwd },
	{ .name = NULL },
};

static const struct key exec_keys[] = {
	{ .name = "argv", .read = read_argv, .required = true },
	{ .name = "cwd", .read = read_cwd },
	{ .name = NULL },
};

/* keys NULL: not built yet. */
static const struct driver {
	const char *name;
	const struct key *config;
} drivers[] = {
	{ "shell", shell_keys },
	{ "exec", exec_keys },
	{ "python", NULL },
};

static const struct driver *driver_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
		if (strcmp(drivers[i].name, name) == 0)
			return &drivers[i];
	return NULL;
}

enum plan_driver_state plan_driver_state(const char *name, char *offered, size_t size,
                                         const char **meant)
{
	const char *names[ARRAY_LEN(drivers) + 1] = { NULL };
	const struct driver *d = driver_find(name);
	size_t len = 0;

	*offered = 0;
	for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
		names[i] = drivers[i].name;
		if (drivers[i].config && len < size)
			len += (size_t)snprintf(offered + len, size - len, "%s%s",
			                        len ? ", " : "", drivers[i].name);
	}
	*meant = nearest(name, names);
	if (d ? d->config != NULL : strchr(name, ':') == NULL)
		return d ? PLAN_DRIVER_OFFERED : PLAN_DRIVER_UNKNOWN;
	return PLAN_DRIVER_NOT_BUILT;
}

static void tell_no_driver(struct reader *r, const struct key *k, const struct tree *v)
{
	const char *meant;
	char valid[128];

	plan_driver_state(v->text, valid, sizeof(valid), &meant);
	if (meant)
		complain(r, v, k, "no driver '%.64s' (did you mean '%s'?); there are %s", v->text,
		         meant, valid);
	else
		complain(r, v, k, "no driver '%.64s'; there are %s", v->text, valid);
}

static void read_driver(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	const char *text = text_of(r, k, v);
	const struct driver *d = text ? driver_find(text) : NULL;
	struct plan_step *s = into;

	if (!text)
		return;
	if (d ? !d->config : strchr(text, ':') != NULL)
		problems_unsupported(r->problems, v->line, "%sdriver '%.64s'", r->where, text);
	else if (!d)
		tell_no_driver(r, k, v);
	else
		s->driver = copy(r, text);
}

/* Which keys it may have depends on the driver, wherever that stands: see read_step. */
static void read_later(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	(void)r, (void)k, (void)v, (void)into;
}

static void read_config(struct reader *r, const struct tree *v, struct plan_step *s)
{
	size_t len = strlen(r->where);
	struct buf out;
	struct jw w;

	if (v->type != TREE_MAP) {
		complain(r, v, NULL, "config: want a mapping, got %s", tree_type_name(v->type));
		return;
	}
	buf_init(&out, LIMIT_PIPELINE_FILE * 6); /* as \u001f */
	jw_init(&w, &out);
	jw_obj(&w);
	snprintf(r->where + len, sizeof(r->where) - len, "config: ");
	read_map(r, driver_find(s->driver)->config, v, &w);
	r->where[len] = 0;
	jw_end(&w);
	if (jw_done(&w, r->e) < 0 || !(s->config = buf_take_str(&out, r->e)))
		r->failed = true;
	buf_release(&out);
}

/* --- steps --- */

static bool is_step_id(const char *s)
{
	static const char chars[] =
		"_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-";

	return *s && *s != '.' && *s != '-' && s[strspn(s, chars)] == 0 &&
	       strlen(s) <= LIMIT_STEP_ID;
}

static void read_id(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	const char *text = text_of(r, k, v);
	struct plan_step *s = into;

	if (!text)
		return;
	if (strncmp(text, RESERVED_STEPS, strlen(RESERVED_STEPS)) == 0)
		complain(r, v, k, "'%.80s': ids that begin with '" RESERVED_STEPS
		         "' are farstep's own", text);
	else if (!is_step_id(text))
		complain(r, v, k,
		         "'%.80s': want letters, digits, '_', '.' and '-' (not first), at most %d",
		         text, LIMIT_STEP_ID);
	else
		s->id = copy(r, text);
}

#define STEP(member) offsetof(struct plan_step, member)

static const struct key step_keys[] = {
	{ .name = "id", .read = read_id, .required = true },
	{ .name = "driver", .read = read_driver, .required = true },
	{ .name = "config", .read = read_later, .required = true },
	{ .name = "needs", .read = read_later },
	{ .name = "artifacts",
	  .read = read_paths,
	  .at = STEP(collect),
	  .at_count = STEP(n_collect) },
	{ .name = "env", .read = read_env },
	{ .name = "timeout",
	  .read = read_seconds,
	  .at = STEP(timeout_ms),
	  .min_ms = 1,
	  .max_ms = TIMEOUT_MAX_MS },
	{ .name = "grace", .read = read_seconds, .at = STEP(grace_ms), .max_ms = GRACE_MAX_MS },
	{ .name = "linger", .read = read_seconds, .at = STEP(linger_ms), .max_ms = LINGER_MAX_MS },
	{ .name = "backtrace", .read = read_bool, .at = STEP(backtrace) },
	{ .name = "limits" },
	{ .name = "network" },
	{ .name = "gpu" },
	{ .name = "retry" },
	{ .name = "continue_on_error" },
	{ .name = NULL },
};

static void set_where(struct reader *r, const struct tree *id, size_t number)
{
	if (id && id->type == TREE_STRING && is_step_id(id->text))
		snprintf(r->where, sizeof(r->where), "step '%s': ", id->text);
	else
		snprintf(r->where, sizeof(r->where), "step %zu: ", number + 1);
}

static void read_step(struct reader *r, const struct tree *v, size_t i)
{
	struct plan_step *s = &r->plan->steps[i];
	const struct tree *config = tree_get(v, "config");

	*s = (struct plan_step){ .line = v->line,
		                 .grace_ms = GRACE_DEFAULT_MS,
		                 .linger_ms = LINGER_DEFAULT_MS };
	set_where(r, tree_get(v, "id"), i);
	if (v->type != TREE_MAP) {
		want(r, v, NULL, "a mapping");
		return;
	}
	read_map(r, step_keys, v, s);
	r->needs[i] = tree_get(v, "needs");
	if (s->driver && config)
		read_config(r, config, s);
}

static void read_steps(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	struct plan *p = into;
	size_t i = 0;

	if (v->type != TREE_LIST) {
		want(r, v, k, "a list");
		return;
	}
	if (v->count < 1 || v->count > LIMIT_STEPS) {
		complain(r, v, k, v->count ? "%zu of them, the most is %d" : "there is none",
		         v->count, LIMIT_STEPS);
		return;
	}
	p->steps = calloc(v->count, sizeof(*p->steps));
	r->needs = calloc(v->count, sizeof(*r->needs));
	if (!p->steps || !r->needs) {
		no_memory(r);
		return;
	}
	p->n_steps = v->count;
	for (const struct tree *t = v->first; t; t = t->next)
		read_step(r, t, i++);
	r->where[0] = 0;
}

/* --- the file --- */

static void read_requirements(struct reader *r, const struct key *k, const struct tree *v,
                              void *into)
{
	(void)k;
	if (plan_read_requirements(into, v, r->problems, r->e) < 0)
		r->failed = true;
}

static void read_install(struct reader *r, const struct key *k, const struct tree *v, void *into)
{
	int *to = member(into, k->at);

	if (v->type != TREE_BOOL)
		want(r, v, k, "true or false");
	else
		*to = v->text[0] == 't' || v->text[0] == 'T' ? 1 : -1;
}

#define PLAN(member) offsetof(struct plan, member)

static const struct key pipeline_keys[] = {
	{ .name = "name", .read = read_name, .at = PLAN(name) },
	{ .name = "files", .read = read_paths, .at = PLAN(files), .at_count = PLAN(n_files) },
	{ .name = "steps", .read = read_steps, .required = true },
	{ .name = "params" },
	{ .name = "drivers" },
	{ .name = "requirements", .read = read_requirements },
	{ .name = "install_deps", .read = read_install, .at = PLAN(install_deps) },
	{ .name = NULL },
};

/* A step is one frame on the wire. */
static void check_sizes(struct reader *r)
{
	struct buf scratch;

	buf_init(&scratch, STEP_BODY_MAX);
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		const struct plan_step *s = &r->plan->steps[i];

		buf_reset(&scratch);
		if (plan_print_step(r->plan, i, &scratch, NULL) < 0)
			problems_add(r->problems, s->line,
			             "step '%s': more than %d KiB of config, environment and "
			             "globs: put it into a file under 'files'",
			             s->id, STEP_BODY_MAX / 1024);
	}
	buf_release(&scratch);
}

static int read_own(struct reader *r, const struct tree *root)
{
	if (root->type != TREE_MAP) {
		problems_add(r->problems, root->line, "want a mapping with 'steps', got %s",
		             tree_type_name(root->type));
		return 0;
	}
	read_map(r, pipeline_keys, root, r->plan);
	if (r->failed || plan_add_required_files(r->plan, r->e) < 0 ||
	    plan_resolve(r->plan, r->needs, r->problems, r->e) < 0)
		return -1;
	if (!r->problems->n)
		check_sizes(r);
	return 0;
}

/* Files of Osiris are told by their keys. */
static int read_tree(struct reader *r, const struct tree *root, const char *file)
{
	struct tree *own;
	int ret;

	r->plan->is_osiris = oml_is(root) || manifest_file_is(root);
	if (!r->plan->is_osiris)
		return read_own(r, root);
	own = oml_is(root) ? oml_read(root, r->problems, r->e)
	                   : manifest_file_read(root, file, r->problems, r->e);
	ret = own ? read_own(r, own) : -1;
	tree_free(own);
	return ret;
}

static void on_mistake(void *arg, int line, const char *what)
{
	problems_add(arg, line, "%s", what);
}

static int read_text(struct plan *p, const char *text, size_t len, const char *file,
                     struct problems *problems, struct err *e)
{
	struct reader r = { .plan = p, .problems = problems, .e = e };
	struct tree_sink sink = { on_mistake, problems };
	struct tree *root = tree_parse(text, len, &sink, e);
	int ret;

	if (!root)
		return problems->n ? 0 : -1;
	ret = read_tree(&r, root, file);
	free(r.needs);
	tree_free(root);
	return ret;
}

/* Its directory, absolute: the given one or the file's; and the pipeline's name when the file gives
 * none. */
static int set_place(struct plan *p, const char *file, const char *given, struct err *e)
{
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
	auto_free char *dir = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
	const char *dot = strrchr(base, '.');

	p->file = strdup(file);
	if (!dir || !p->file)
		return err_set(e, ERR_NO_MEMORY, 0, "plan");
	/* Paths in files of Osiris are relative to where it is started. */
	p->dir = given ? strdup(given) : realpath(p->is_osiris ? "." : dir, NULL);
	if (!p->dir)
		return err_set(e, ERR_NOT_FOUND, errno, "%s", dir);
	if (!p->name)
		p->name = dot && dot > base ? strndup(base, (size_t)(dot - base)) : strdup(base);
	return p->name ? 0 : err_set(e, ERR_NO_MEMORY, 0, "plan");
}

static int print_text(struct plan *p, struct err *e)
{
	struct buf out;

	buf_init(&out, 2 * LIMIT_PIPELINE_FILE);
	if (plan_print(p, &out, e) == 0 && buf_putc(&out, '\n', e) == 0)
		p->text = buf_take_str(&out, e);
	buf_release(&out);
	return p->text ? 0 : -1;
}

static int parse(struct plan *p, const char *text, size_t len, const char *file, const char *dir,
                 struct problems *problems, struct buf *all, struct err *e)
{
	if (len > LIMIT_PIPELINE_FILE)
		return err_set(e, ERR_PIPELINE, 0, "%s: larger than %d MiB", file,
		               LIMIT_PIPELINE_FILE >> 20);
	if (read_text(p, text, len, file, problems, e) < 0 ||
	    problems_report(problems, file, all, e) < 0)
		return -1;
	if (set_place(p, file, dir, e) < 0)
		return -1;
	if (p->is_osiris) /* complete in itself: no cfg/, no parameter, no other directory */
		return print_text(p, e);
	p->text = malloc(len + 1);
	if (!p->text)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	memcpy(p->text, text, len);
	p->text[len] = 0;
	return 0;
}

struct plan *plan_parse_in(const char *dir, const char *text, size_t len, const char *file,
                           struct buf *problems, struct err *e)
{
	struct plan *p = calloc(1, sizeof(*p));
	struct problems *found = calloc(1, sizeof(*found));
	int ret;

	if (!p || !found)
		ret = err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	else
		ret = parse(p, text, len, file, dir, found, problems, e);
	if (found)
		problems_release(found);
	free(found);
	if (ret == 0)
		return p;
	plan_free(p);
	return NULL;
}

struct plan *plan_parse(const char *text, size_t len, const char *file, struct buf *problems,
                        struct err *e)
{
	return plan_parse_in(NULL, text, len, file, problems, e);
}

struct plan *plan_load(const char *file, struct buf *problems, struct err *e)
{
	struct plan *p = NULL;
	struct err why = ERR_INIT;
	struct buf text;

	buf_init(&text, LIMIT_PIPELINE_FILE + 1);
	if (fs_read(AT_FDCWD, file, LIMIT_PIPELINE_FILE + 1, &text, &why) == 0)
		p = plan_parse((const char *)buf_data(&text), buf_len(&text), file, problems, e);
	else if (why.code == ERR_LIMIT)
		err_set(e, ERR_PIPELINE, 0, "%s: larger than %d MiB", file,
		        LIMIT_PIPELINE_FILE >> 20);
	else /* a wrong name, not a fault of this machine */
		err_set(e, why.code == ERR_SYS ? ERR_PIPELINE : why.code, 0, "%s", why.msg);
	buf_release(&text);
	if (p && plan_read_required_files(p, problems, e) < 0) {
		plan_free(p);
		return NULL;
	}
	return p;
}
