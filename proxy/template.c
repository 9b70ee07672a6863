/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "proxy/plan.h"
#include "proxy/problems.h"
#include "proxy/tarball.h"
#include "proxy/where.h"
#include "proxy/yaml.h"

#define DEFINITION "template.yaml"

enum { DEFINITION_MAX = 64 * 1024, DIR_ENTRIES_MAX = 10000 };

/* --- where they are --- */

size_t template_places(char ret[TEMPLATE_DIRS][1024])
{
	static const char *const beside[] = { "../templates", "../share/farstep/templates" };
	const char *named = getenv("FARSTEP_TEMPLATES");
	char self[900];
	ssize_t len;
	char *dir;
	size_t n = 0;

	if (named && *named) {
		snprintf(ret[0], sizeof(ret[0]), "%s", named);
		return 1;
	}
	snprintf(ret[n++], sizeof(ret[0]), "templates");
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[len > 0 ? len : 0] = 0;
	dir = dirname(self);
	for (size_t i = 0; i < ARRAY_LEN(beside); i++)
		snprintf(ret[n++], sizeof(ret[0]), "%s/%s", dir, beside[i]);
	return n;
}

/* --- template.yaml --- */

static void on_mistake(void *arg, int line, const char *what)
{
	problems_add(arg, line, "%s", what);
}

static bool is_template_name(const char *s)
{
	return *s && strlen(s) < E2B_TEMPLATE_NAME_MAX &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == strlen(s);
}

static void read_number(struct problems *p, const struct tree *v, double times, double max,
			uint32_t *ret)
{
	double n = v->type == TREE_NUMBER ? tree_number(v) * times : 0;

	if (n < 1 || n > max || n != (double)(uint32_t)n)
		problems_add(p, v->line, "%s: want a number%s", v->key,
			     times > 1 ? " of GiB, like 4 or 0.5" : " of processors");
	else
		*ret = (uint32_t)n;
}

static void read_key(struct problems *p, const struct tree *v, struct template_def *t)
{
	static const char *const keys[] = { "name", "description", "cpu", "memory", "worker",
					    NULL };
	const char *near;

	if (strcmp(v->key, "cpu") == 0) {
		read_number(p, v, 1, 1024, &t->cpu);
	} else if (strcmp(v->key, "memory") == 0) {
		read_number(p, v, 1024, 16384 * 1024.0, &t->memory_mb);
	} else if (strcmp(v->key, "name") == 0 || strcmp(v->key, "description") == 0 ||
		   strcmp(v->key, "worker") == 0) {
		char **at = *v->key == 'n' ? &t->name
			    : *v->key == 'd' ? &t->description
					     : &t->worker;

		if (v->type != TREE_STRING)
			problems_add(p, v->line, "%s: want a string", v->key);
		else if (*v->key == 'n' && !is_template_name(v->text))
			problems_add(p, v->line, "name: want small letters, digits, - and _");
		else if (*v->key == 'w' && (!fs_path_is_clean(v->text) || strchr(v->text, '/')))
			problems_add(p, v->line, "worker: want the name of a file");
		else if (!*at && !(*at = strdup(v->text)))
			p->no_memory = true;
	} else {
		near = nearest(v->key, keys);
		problems_add(p, v->key_line, "unknown key '%s'%s%s%s", v->key,
			     near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
	}
}

static int read_definition(const char *text, size_t len, const char *file, struct template_def *t,
			   struct buf *problems, struct err *e)
{
	auto_free struct problems *p = calloc(1, sizeof(*p));
	const struct tree_sink sink = { on_mistake, p };
	struct tree *root;
	int r;

	if (!p)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	root = tree_parse(text, len, &sink, e);
	if (root && root->type != TREE_MAP)
		problems_add(p, root->line,
			     "want a mapping: name, description, cpu, memory, worker");
	else if (root)
		for (const struct tree *v = root->first; v; v = v->next)
			read_key(p, v, t);
	if (root && root->type == TREE_MAP && !tree_get(root, "name"))
		problems_add(p, root->line, "there is no name");
	tree_free(root);
	r = problems_report(p, file, problems, e);
	problems_release(p);
	return root ? r : -1;
}

int template_load(const char *dir, struct template_def *ret, struct buf *problems, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	char file[1100];
	char *real = realpath(dir, NULL);

	*ret = (struct template_def){ .cpu = 0 };
	buf_init(&text, DEFINITION_MAX);
	if (!real || strlen(real) >= sizeof(ret->dir)) {
		free(real);
		return err_set(e, ERR_NOT_FOUND, errno, "template '%.200s'", dir);
	}
	snprintf(ret->dir, sizeof(ret->dir), "%s", real);
	free(real);
	snprintf(file, sizeof(file), "%s/" DEFINITION, dir);
	if (fs_read(AT_FDCWD, file, DEFINITION_MAX, &text, e) == 0 &&
	    read_definition((const char *)buf_data(&text), buf_len(&text), file, ret, problems,
			    e) == 0)
		return 0;
	template_release(ret);
	return -1;
}

void template_release(struct template_def *t)
{
	free(t->name);
	free(t->description);
	free(t->worker);
	*t = (struct template_def){ .cpu = 0 };
}

/* --- finding --- */

static bool is_known(const struct template_def *list, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return true;
	return false;
}

/* A directory that is not there is empty. */
static int list_place(const char *place, struct template_def *list, int n,
		      void (*on_wrong)(const char *dir, const struct err *err))
{
	auto_closedir DIR *d = opendir(place);
	int seen = 0;

	for (struct dirent *ent; d && (ent = readdir(d)) && n < TEMPLATES_HERE_MAX &&
				 seen < DIR_ENTRIES_MAX;
	     seen++) {
		char dir[1400], file[1500];
		struct err e = ERR_INIT;

		snprintf(dir, sizeof(dir), "%s/%s", place, ent->d_name);
		snprintf(file, sizeof(file), "%s/" DEFINITION, dir);
		if (ent->d_name[0] == '.' || access(file, F_OK) < 0)
			continue;
		if (template_load(dir, &list[n], NULL, &e) < 0)
			on_wrong(dir, &e);
		else if (is_known(list, n, list[n].name))
			template_release(&list[n]);
		else
			n++;
	}
	return n;
}

static int by_name(const void *a, const void *b)
{
	const struct template_def *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int template_list(struct template_def ret[TEMPLATES_HERE_MAX],
		  void (*on_wrong)(const char *dir, const struct err *err), struct err *e)
{
	char places[TEMPLATE_DIRS][1024];
	size_t n_places = template_places(places);
	int n = 0;

	(void)e;
	for (size_t i = 0; i < n_places; i++)
		n = list_place(places[i], ret, n, on_wrong);
	qsort(ret, (size_t)n, sizeof(*ret), by_name);
	return n;
}

static void ignore_wrong(const char *dir, const struct err *err)
{
	(void)dir, (void)err;
}

/* -1: a directory of that name has a definition, and it is wrong. */
static int check_named(const char *name, struct buf *problems, struct err *e)
{
	char places[TEMPLATE_DIRS][1024], dir[1400], file[1500];
	size_t n_places = template_places(places);

	for (size_t i = 0; i < n_places; i++) {
		struct template_def def;

		snprintf(dir, sizeof(dir), "%s/%.300s", places[i], name);
		snprintf(file, sizeof(file), "%s/" DEFINITION, dir);
		if (access(file, F_OK) < 0)
			continue;
		if (template_load(dir, &def, problems, e) < 0)
			return -1;
		template_release(&def);
	}
	return 0;
}

int template_find(const char *name, struct template_def *ret, struct buf *problems, struct err *e)
{
	auto_free struct template_def *list = NULL;
	char known[400] = "", dir[1024] = "";
	int n;

	if (strchr(name, '/'))
		return template_load(name, ret, problems, e);
	list = calloc(TEMPLATES_HERE_MAX, sizeof(*list));
	if (!list)
		return err_set(e, ERR_NO_MEMORY, 0, "templates");
	n = template_list(list, ignore_wrong, e);
	for (int i = 0; i < n; i++) {
		size_t used = strlen(known);

		if (strcmp(list[i].name, name) == 0)
			snprintf(dir, sizeof(dir), "%s", list[i].dir);
		snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
			 list[i].name);
		template_release(&list[i]);
	}
	if (dir[0])
		return template_load(dir, ret, problems, e);
	if (check_named(name, problems, e) < 0)
		return -1;
	return err_set(e, ERR_NOT_FOUND, 0, "no definition of a template '%.60s' here%s%s", name,
		       known[0] ? "; there are " : "", known);
}

/* --- building --- */

static int add_plain(struct template_build *b, const char *type, const char *a, const char *c,
		     struct err *e)
{
	if (b->n >= E2B_STEPS_MAX)
		return err_set(e, ERR_LIMIT, 0, "over %d steps", E2B_STEPS_MAX);
	b->steps[b->n++] = (struct e2b_build_step){ .type = type, .args = { a, c }, .fd = -1 };
	return 0;
}

/* The worker's program is no file of the directory. */
static int pack_worker(struct package *p, const char *name, struct err *e)
{
	char path[1024], dir[1024], base[1024];
	char *renamed;

	if (worker_path(path, e) < 0)
		return -1;
	snprintf(dir, sizeof(dir), "%s", path);
	snprintf(base, sizeof(base), "%s", path);
	if (package_add(p, dirname(dir), basename(base), e) < 0)
		return -1;
	renamed = strdup(name);
	if (!renamed || p->n != 1) {
		free(renamed);
		return err_set(e, ERR_INTERNAL, 0, "worker program '%s'", path);
	}
	free(p->files[0].path);
	p->files[0].path = renamed;
	return 0;
}

static int pack(const struct template_def *t, const struct docker_step *d, struct e2b_build_step *s,
		struct err *e)
{
	struct package p;
	int r;

	package_init(&p);
	r = t->worker && strcmp(d->args[0], t->worker) == 0 ? pack_worker(&p, t->worker, e)
							   : package_add(&p, t->dir, d->args[0], e);
	if (r == 0)
		r = package_index(&p, e);
	if (r == 0) {
		s->fd = memfd_create("files", MFD_CLOEXEC);
		r = s->fd < 0 ? err_set(e, ERR_SYS, errno, "memory file") :
				tarball_write(&p, s->fd, s->hash, &s->len, e);
	}
	package_release(&p);
	return r < 0 ? err_wrap(e, "Dockerfile:%d: COPY", d->line) : 0;
}

static int add_docker(const struct template_def *t, const struct docker_step *d,
		      struct template_build *b, struct err *e)
{
	static const char *const types[] = { [DOCKER_ENV] = "ENV", [DOCKER_RUN] = "RUN",
					     [DOCKER_COPY] = "COPY", [DOCKER_WORKDIR] = "WORKDIR",
					     [DOCKER_USER] = "USER" };
	struct e2b_build_step *s;

	if (add_plain(b, types[d->verb], d->args[0], d->args[1], e) < 0)
		return -1;
	s = &b->steps[b->n - 1];
	s->args[2] = d->args[2];
	s->args[3] = d->args[3];
	return d->verb == DOCKER_COPY ? pack(t, d, s, e) : 0;
}

/* As Docker has it, everything begins as root in /; and as the official client has it, sandboxes
 * belong to `user` unless the file names another. */
static int add_all(const struct template_def *t, struct template_build *b, struct err *e)
{
	bool has_user = false, has_dir = false;

	if (add_plain(b, "USER", "root", NULL, e) < 0 || add_plain(b, "WORKDIR", "/", NULL, e) < 0)
		return -1;
	for (size_t i = 0; i < b->file.n; i++) {
		has_user = has_user || b->file.steps[i].verb == DOCKER_USER;
		has_dir = has_dir || b->file.steps[i].verb == DOCKER_WORKDIR;
		if (add_docker(t, &b->file.steps[i], b, e) < 0)
			return -1;
	}
	if (!has_user && add_plain(b, "USER", "user", NULL, e) < 0)
		return -1;
	return has_dir ? 0 : add_plain(b, "WORKDIR", "/home/user", NULL, e);
}

int template_steps(const struct template_def *t, struct template_build *ret, struct buf *problems,
		   struct err *e)
{
	struct buf text CLEANUP(buf_release);
	char file[1100];

	*ret = (struct template_build){ .n = 0 };
	buf_init(&text, DOCKERFILE_MAX + 1);
	snprintf(file, sizeof(file), "%s/Dockerfile", t->dir);
	if (fs_read(AT_FDCWD, file, DOCKERFILE_MAX, &text, e) < 0 ||
	    dockerfile_parse((const char *)buf_data(&text), buf_len(&text), file, &ret->file,
			     problems, e) < 0)
		return -1;
	return add_all(t, ret, e);
}

void template_build_release(struct template_build *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->steps[i].fd >= 0)
			close(b->steps[i].fd);
	dockerfile_release(&b->file);
	b->n = 0;
}
