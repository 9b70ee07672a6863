/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep template list | build NAME: sandbox templates, those defined here and those at E2B. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "proxy/cmd/cmd.h"
#include "proxy/template.h"
#include "sdk-wrapper/e2b_templates.h"

enum { LIST_MS = 60000, OUTPUT_MAX = 4 << 20 };

static int print_json(struct jw *w, struct buf *b, struct err *e)
{
	const char *text;

	if (jw_done(w, e) < 0 || !(text = buf_cstr(b, e)))
		return -1;
	if (puts(text) < 0 || fflush(stdout) != 0)
		return err_set(e, ERR_SYS, 0, "standard output");
	return 0;
}

static int fail(const struct err *e, struct buf *problems)
{
	/* More than one mistake: all of them first. */
	if (problems && buf_len(problems) && e->code == ERR_PIPELINE)
		fwrite(buf_data(problems), 1, buf_len(problems), stderr);
	return cmd_fail(e);
}

/* --- list --- */

static void on_wrong(const char *dir, const struct err *err)
{
	(void)dir; /* it is in the message */
	log_warn("%s; ignoring", err->msg);
}

static void put_size(struct jw *w, uint32_t cpu, uint32_t memory_mb)
{
	jw_kint(w, "cpu", cpu);
	jw_kint(w, "memory_mb", memory_mb);
}

static void on_item_json(void *user, const struct e2b_template *t)
{
	struct jw *w = user;

	jw_obj(w);
	jw_kstr(w, "name", t->name);
	jw_kstr(w, "id", t->id);
	put_size(w, t->cpu, t->memory_mb);
	jw_kstr(w, "status", t->status);
	jw_kbool(w, "public", t->is_public);
	jw_end(w);
}

static void print_row(const char *name, uint32_t cpu, uint32_t memory_mb, const char *where)
{
	char c[16] = "-", m[24] = "-";

	if (cpu)
		snprintf(c, sizeof(c), "%u", cpu);
	if (memory_mb)
		snprintf(m, sizeof(m), "%u MiB", memory_mb);
	printf("%-36s %4s %10s  %s\n", name, c, m, where);
}

static void on_item_row(void *user, const struct e2b_template *t)
{
	char where[80];

	(void)user;
	snprintf(where, sizeof(where), "e2b (%.30s)", t->status ? t->status : "no build");
	print_row(t->name, t->cpu, t->memory_mb, where);
}

static bool has_key(void)
{
	const char *key = getenv("E2B_API_KEY");

	return key && *key;
}

static int list_plain(const struct template_def *here, int n, struct err *e)
{
	printf("%-36s %4s %10s  %s\n", "NAME", "CPU", "MEMORY", "WHERE");
	for (int i = 0; i < n; i++)
		print_row(here[i].name, here[i].cpu, here[i].memory_mb, here[i].dir);
	if (has_key())
		return e2b_templates_list(on_item_row, NULL, LIST_MS, e);
	log_warn("E2B_API_KEY is not set: only the definitions on this machine");
	return 0;
}

static int list_json(const struct template_def *here, int n, struct err *e)
{
	struct buf b CLEANUP(buf_release), there CLEANUP(buf_release);
	struct err failed = ERR_INIT;
	struct jw w, items;
	int r = 0;

	buf_init(&b, OUTPUT_MAX);
	buf_init(&there, OUTPUT_MAX);
	jw_init(&items, &there);
	jw_arr(&items);
	if (has_key())
		r = e2b_templates_list(on_item_json, &items, LIST_MS, &failed);
	jw_end(&items);
	if (jw_done(&items, e) < 0)
		return -1;
	jw_init(&w, &b);
	jw_obj(&w);
	jw_karr(&w, "here");
	for (int i = 0; i < n; i++) {
		jw_obj(&w);
		jw_kstr(&w, "name", here[i].name);
		jw_kstr(&w, "description", here[i].description);
		put_size(&w, here[i].cpu, here[i].memory_mb);
		jw_kstr(&w, "dir", here[i].dir);
		jw_end(&w);
	}
	jw_end(&w);
	jw_key(&w, "e2b");
	if (has_key() && r == 0)
		jw_raw(&w, (const char *)buf_data(&there), buf_len(&there));
	else
		jw_null(&w);
	jw_kstr(&w, "e2b_error", !has_key() ? "E2B_API_KEY is not set" : r < 0 ? failed.msg : NULL);
	jw_end(&w);
	if (print_json(&w, &b, e) < 0)
		return -1;
	if (r < 0)
		*e = failed;
	return r;
}

static int template_list_command(const struct options *o)
{
	auto_free struct template_def *here = calloc(TEMPLATES_HERE_MAX, sizeof(*here));
	struct err e = ERR_INIT;
	int n = 0, r;

	if (!here) {
		err_set(&e, ERR_NO_MEMORY, 0, "templates");
		return cmd_fail(&e);
	}
	n = template_list(here, on_wrong, &e);
	r = n < 0 ? -1 : o->json ? list_json(here, n, &e) : list_plain(here, n, &e);
	for (int i = 0; i < n; i++)
		template_release(&here[i]);
	return r < 0 ? cmd_fail(&e) : 0;
}

/* --- build --- */

struct work {
	const struct options *o;
	struct template_def def;
	bool is_defined; /* here; else it is one of E2B's in another size */
	char name[E2B_TEMPLATE_NAME_MAX];
	struct template_build build;
	struct e2b_build_spec spec;
	struct buf problems;
};

/* Its name and size: the definition's own, or those of the size asked for. */
static int name_it(struct work *k, const char *base, struct err *e)
{
	const struct options *o = k->o;

	if (o->cpu || o->memory_mb) {
		if (e2b_size_of((uint32_t)o->cpu, (uint32_t)o->memory_mb, &k->spec.size, e) < 0)
			return -1;
		return e2b_tier_name(base, &k->spec.size, k->name, e);
	}
	if (e2b_size_of(k->def.cpu, k->def.memory_mb, &k->spec.size, e) < 0)
		return err_wrap(e, "template %s", base);
	snprintf(k->name, sizeof(k->name), "%s", base);
	return 0;
}

static int plan_build(struct work *k, const char *name, struct err *e)
{
	bool sized = k->o->cpu || k->o->memory_mb;

	k->is_defined = template_find(name, &k->def, &k->problems, e) == 0;
	if (!k->is_defined && (e->code != ERR_NOT_FOUND || strchr(name, '/')))
		return -1;
	if (!k->is_defined && !sized) {
		e->code = ERR_USAGE;
		return err_wrap(e,
		                "template build: with --cpu or --memory, E2B's own '%.60s' would "
		                "be built in that size",
		                name);
	}
	if (name_it(k, k->is_defined ? k->def.name : name, e) < 0)
		return -1;
	k->spec.name = k->name;
	if (!k->is_defined) {
		k->spec.from_template = name;
		return 0;
	}
	if (template_steps(&k->def, &k->build, &k->problems, e) < 0)
		return -1;
	k->spec.from_image = k->build.file.from;
	k->spec.steps = k->build.steps;
	k->spec.n_steps = k->build.n;
	return 0;
}

static int put_request(struct jw *w, const char *request,
                       int (*body_of)(const struct e2b_build_spec *spec, struct buf *out,
                                      struct err *e),
                       const struct e2b_build_spec *spec, struct err *e)
{
	struct buf body CLEANUP(buf_release);

	buf_init(&body, LIMIT_TEXT);
	if (body_of(spec, &body, e) < 0)
		return -1;
	jw_obj(w);
	jw_kstr(w, "request", request);
	jw_key(w, "body");
	jw_raw(w, (const char *)buf_data(&body), buf_len(&body));
	jw_end(w);
	return 0;
}

static int dry_run(const struct work *k, struct err *e)
{
	struct buf b CLEANUP(buf_release);
	struct jw w;

	buf_init(&b, OUTPUT_MAX);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "template", k->name);
	put_size(&w, k->spec.size.cpu, k->spec.size.memory_mb);
	jw_karr(&w, "files");
	for (size_t i = 0; i < k->spec.n_steps; i++) {
		if (!k->spec.steps[i].hash[0])
			continue;
		jw_obj(&w);
		jw_kstr(&w, "source", k->spec.steps[i].args[0]);
		jw_kstr(&w, "hash", k->spec.steps[i].hash);
		jw_kint(&w, "bytes", (int64_t)k->spec.steps[i].len);
		jw_end(&w);
	}
	jw_end(&w);
	jw_karr(&w, "requests");
	if (put_request(&w, "POST /v3/templates", e2b_template_body, &k->spec, e) < 0 ||
	    put_request(&w, "POST /v2/templates/{templateID}/builds/{buildID}", e2b_build_body,
	                &k->spec, e) < 0)
		return -1;
	jw_end(&w);
	jw_end(&w);
	return print_json(&w, &b, e);
}

static void on_line(void *user, const char *line)
{
	const struct work *k = user;

	if (k->o->verbose >= 0)
		fprintf(stderr, "%s\n", line);
}

static int build(struct work *k, struct err *e)
{
	struct buf b CLEANUP(buf_release);
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	if (e2b_templates_build(&k->spec, on_line, k, E2B_BUILD_MS, e) < 0)
		return -1;
	if (!k->o->json) {
		if (k->o->verbose >= 0)
			printf("template %s is ready: %u processors, %u MiB\n", k->name,
			       k->spec.size.cpu, k->spec.size.memory_mb);
		return 0;
	}
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "template", k->name);
	put_size(&w, k->spec.size.cpu, k->spec.size.memory_mb);
	jw_kstr(&w, "status", "ready");
	jw_end(&w);
	return print_json(&w, &b, e);
}

static int template_build_command(const struct options *o)
{
	auto_free struct work *k = calloc(1, sizeof(*k));
	struct err e = ERR_INIT;
	int r, code = 0;

	if (!k) {
		err_set(&e, ERR_NO_MEMORY, 0, "template");
		return cmd_fail(&e);
	}
	k->o = o;
	buf_init(&k->problems, LIMIT_TEXT);
	r = plan_build(k, o->args[1], &e);
	if (r == 0)
		r = o->dry_run ? dry_run(k, &e) : build(k, &e);
	if (r < 0)
		code = fail(&e, &k->problems);
	template_build_release(&k->build);
	template_release(&k->def);
	buf_release(&k->problems);
	return code;
}

int cmd_template(struct options *o)
{
	bool lists = strcmp(o->args[0], "list") == 0;
	struct err e = ERR_INIT;

	if (!lists && strcmp(o->args[0], "build") != 0)
		err_set(&e, ERR_USAGE, 0, "template '%.40s': want list or build", o->args[0]);
	else if (lists && (o->n_args > 1 || o->cpu || o->memory_mb || o->dry_run))
		err_set(&e, ERR_USAGE, 0, "template list: takes --json, and nothing else");
	else if (!lists && o->n_args < 2)
		err_set(&e, ERR_USAGE, 0,
		        "template build: of which name? See farstep template list");
	if (e.code)
		return cmd_fail(&e);
	return lists ? template_list_command(o) : template_build_command(o);
}
