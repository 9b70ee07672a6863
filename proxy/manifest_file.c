/* SPDX-License-Identifier: Apache-2.0
 *
 * Compiled manifests of Osiris: meta, pipeline, and steps whose configs are in cfg/ beside it.
 * What its compiler says of itself (meta, metadata, fingerprints) is not checked. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "proxy/osiris.h"

#define READ_PIECE (64 * 1024)

static const char *const top_keys[] = { "meta", "metadata", "name", "pipeline", "steps", NULL };
static const char *const step_keys[] = { "id",       "component", "driver", "mode",
	                                 "cfg_path", "config",    "needs",  NULL };
/* The compiler writes "extract" for "read". */
static const char *const modes[] = { "extract", "read", "write", "transform", NULL };

struct reading {
	struct osiris o;
	char *dir; /* of the manifest, as given */
	int dir_fd;
};

bool manifest_file_is(const struct tree *root)
{
	const struct tree *pipeline = tree_get(root, "pipeline");

	return pipeline && pipeline->type == TREE_MAP;
}

static bool has(const char *const *keys, const char *key)
{
	for (; *keys; keys++)
		if (strcmp(*keys, key) == 0)
			return true;
	return false;
}

/* --- cfg/STEP.json --- */

/* Never out of the manifest's directory, by no link either. */
static int read_file(struct reading *r, const char *path, struct buf *out, struct err *e)
{
	auto_close int fd =
		fs_open_beneath(r->dir_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, e);
	struct stat st;
	ssize_t n;

	if (fd < 0 && (e->sys == EXDEV || e->sys == ELOOP))
		return err_set(e, ERR_PIPELINE, 0, "%s: a link out of the manifest's directory",
		               path);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_PIPELINE, 0, "%s: not a regular file", path);
	do {
		uint8_t *at = buf_reserve(out, READ_PIECE, e);

		if (!at)
			return err_wrap(e, "%s", path);
		n = read(fd, at, READ_PIECE);
		if (n > 0)
			buf_commit(out, (size_t)n);
	} while (n > 0);
	return n < 0 ? err_set(e, ERR_SYS, errno, "%s", path) : 0;
}

struct cfg {
	struct osiris *o;
	const struct tree *path;
	bool wrong;
};

static void on_mistake(void *arg, int line, const char *what)
{
	struct cfg *c = arg;

	c->wrong = true;
	osiris_tell(c->o, c->path->line, "%.120s:%d: %s", c->path->text, line, what);
}

/* The tree of the file, NULL after a complaint. */
static struct tree *read_cfg(struct reading *r, const struct tree *path)
{
	struct cfg c = { &r->o, path, false };
	struct tree_sink sink = { on_mistake, &c };
	struct err e = ERR_INIT;
	struct tree *t = NULL;
	struct buf b;

	if (path->type != TREE_STRING || !fs_path_is_clean(path->text) || r->dir_fd < 0) {
		osiris_tell(&r->o, path->line,
		            "cfg_path: want a path below the manifest's directory, like "
		            "cfg/STEP.json");
		return NULL;
	}
	buf_init(&b, LIMIT_PIPELINE_FILE + READ_PIECE);
	if (read_file(r, path->text, &b, &e) < 0) {
		osiris_tell(&r->o, path->line, "cfg_path: %.200s (in %.100s)", e.msg, r->dir);
	} else {
		t = tree_parse((const char *)buf_data(&b), buf_len(&b), &sink, &e);
		if (!t && !c.wrong)
			osiris_tell(&r->o, path->line, "%.120s: %.200s", path->text, e.msg);
	}
	buf_release(&b);
	if (t && c.wrong) {
		tree_free(t);
		t = NULL;
	}
	return t;
}

/* Drops a member, so that the rest is the driver's alone. */
static void drop(struct tree *map, const char *key)
{
	for (struct tree **at = &map->first; *at; at = &(*at)->next) {
		struct tree *t = *at;

		if (strcmp(t->key, key) != 0)
			continue;
		*at = t->next;
		t->next = NULL;
		tree_free(t);
		map->count--;
		return;
	}
}

static void check_cfg(struct reading *r, const struct tree *step, const struct tree *cfg)
{
	const struct tree *mine = tree_get(step, "component"), *its = tree_get(cfg, "component");
	const struct tree *mode = tree_get(cfg, "mode");

	if (mine && its && mine->text && its->text && strcmp(mine->text, its->text) != 0)
		osiris_tell(&r->o, mine->line, "component: it is '%.64s', its cfg says '%.64s'",
		            mine->text, its->text);
	if (mode)
		osiris_check_mode(&r->o, mode, modes);
}

/* Its mistakes are told with the line of cfg_path: the other file's lines would mislead. */
static void add_cfg(struct reading *r, struct osiris_list *to, const struct tree *step,
                    const struct tree *path)
{
	struct tree *cfg = read_cfg(r, path);

	if (!cfg)
		return;
	r->o.line = path->line;
	if (cfg->type == TREE_MAP) {
		check_cfg(r, step, cfg);
		drop(cfg, "component");
		drop(cfg, "mode");
	}
	osiris_add_config(&r->o, to, cfg);
	r->o.line = 0;
	tree_free(cfg);
}

/* --- steps --- */

static void add_config(struct reading *r, struct osiris_list *to, const struct tree *step)
{
	const struct tree *path = tree_get(step, "cfg_path"), *config = tree_get(step, "config");

	if (path && config)
		osiris_tell(&r->o, config->key_line, "'config' and 'cfg_path': want one of them");
	else if (path)
		add_cfg(r, to, step, path);
	else if (config)
		osiris_add_config(&r->o, to, config);
	else
		osiris_tell(&r->o, step->line, "'cfg_path' is missing");
}

static bool has_config(const struct osiris_list *step)
{
	return tree_get(step->node, "config") != NULL;
}

/* Adds driver and config, or a stand-in when something is wrong with one of them. */
static void add_work(struct reading *r, struct osiris_list *step, const struct tree *v)
{
	const struct tree *driver = tree_get(v, "driver");
	struct osiris_list made = { osiris_add(&r->o, NULL, TREE_MAP, v->line, NULL, NULL), NULL };
	bool good = true;

	if (!made.node)
		return;
	if (!driver)
		driver = tree_get(v, "component");
	if (!driver)
		osiris_tell(&r->o, v->line, "'driver' is missing");
	good = driver && osiris_add_driver(&r->o, &made, driver);
	add_config(r, &made, v);
	good &= has_config(&made);
	if (good && !r->o.failed) {
		if (step->last)
			step->last->next = made.node->first;
		else
			step->node->first = made.node->first;
		step->last = made.last;
		step->node->count += made.node->count;
		made.node->first = NULL;
	} else {
		osiris_add_stand_in(&r->o, step, v->line);
	}
	tree_free(made.node);
}

static void read_step(struct reading *r, struct osiris_list *steps, const struct tree *v,
                      size_t number)
{
	struct osiris_list step = { NULL, NULL };

	osiris_set_where(&r->o, tree_get(v, "id"), number);
	if (v->type != TREE_MAP) {
		osiris_copy(&r->o, steps, v, NULL);
		return;
	}
	step.node = osiris_add(&r->o, steps, TREE_MAP, v->line, NULL, NULL);
	if (!step.node)
		return;
	for (const struct tree *t = v->first; t; t = t->next) {
		if (t->is_repeated)
			continue;
		if (strcmp(t->key, "id") == 0 || strcmp(t->key, "needs") == 0)
			osiris_copy(&r->o, &step, t, NULL);
		else if (strcmp(t->key, "mode") == 0)
			osiris_check_mode(&r->o, t, modes);
		else if (!has(step_keys, t->key))
			osiris_tell_unknown(&r->o, t, step_keys);
	}
	add_work(r, &step, v);
}

static void read_steps(struct reading *r, struct osiris_list *root, const struct tree *v)
{
	struct osiris_list steps = { NULL, NULL };
	size_t number = 0;

	if (v->type != TREE_LIST) {
		osiris_copy(&r->o, root, v, NULL);
		return;
	}
	steps.node = osiris_add(&r->o, root, TREE_LIST, v->line, "steps", NULL);
	for (const struct tree *t = v->first; t && steps.node; t = t->next)
		read_step(r, &steps, t, ++number);
	osiris_set_where(&r->o, NULL, 0);
}

/* --- the file --- */

static void read_top(struct reading *r, struct osiris_list *to, const struct tree *root)
{
	const struct tree *name = tree_get(root, "name");

	for (const struct tree *t = root->first; t; t = t->next)
		if (!t->is_repeated && !has(top_keys, t->key))
			osiris_tell_unknown(&r->o, t, top_keys);
	if (!name)
		name = tree_get(tree_get(root, "pipeline"), "id");
	if (name)
		osiris_copy(&r->o, to, name, "name");
	if (tree_get(root, "steps"))
		read_steps(r, to, tree_get(root, "steps"));
}

struct tree *manifest_file_read(const struct tree *root, const char *file,
                                struct problems *problems, struct err *e)
{
	struct reading r = { .o = { .problems = problems, .e = e }, .dir_fd = -1 };
	struct osiris_list ret = { NULL, NULL };
	const char *slash = strrchr(file, '/');

	r.dir = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
	if (!r.dir) {
		err_set(e, ERR_NO_MEMORY, 0, "%s", file);
		return NULL;
	}
	r.dir_fd = open(r.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret.node = osiris_add(&r.o, NULL, TREE_MAP, root->line, NULL, NULL);
	if (ret.node)
		read_top(&r, &ret, root);
	close_fd(&r.dir_fd);
	free(r.dir);
	if (r.o.failed) {
		tree_free(ret.node);
		return NULL;
	}
	return ret.node;
}
