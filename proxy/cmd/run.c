/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep run, prepare, execute, collect, attach: the three phases, together and one by one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/version.h"
#include "proxy/cmd/cmd.h"
#include "proxy/dependencies.h"
#include "proxy/out.h"
#include "proxy/run.h"
#include "proxy/target.h"
#include "proxy/verify.h"
#include "proxy/where.h"
#include "proxy/ws_address.h"

#define PREPARED_MAX (64 * 1024 * 1024)

static struct plan *load(const char *file, struct err *e)
{
	struct buf problems;
	struct plan *p;

	buf_init(&problems, 1024 * 1024);
	p = plan_load(file, &problems, e);
	/* All mistakes at once: a line each, the first one in *e. */
	if (!p && buf_len(&problems))
		fwrite(buf_data(&problems), 1, buf_len(&problems), stderr);
	buf_release(&problems);
	return p;
}

static void print_result(const struct run *r)
{
	struct buf b;

	buf_init(&b, PREPARED_MAX);
	if (run_status_print(r, true, &b, NULL) == 0) {
		buf_putc(&b, '\n', NULL);
		fs_write_all(1, buf_data(&b), buf_len(&b), NULL);
	}
	buf_release(&b);
}

static void report(const struct run *r)
{
	char text[sizeof(r->error.msg)];

	run_error_text(r, text);
	if (r->o->json)
		print_result(r);
	if (r->error.code && !r->o->json)
		fprintf(stderr, "farstep: %s: %s\n", err_name(r->error.code), text);
	if (r->o->verbose >= 0 && !r->o->json)
		fprintf(stderr, "%s: %s (exit %d)\n", r->run, r->dir.path, r->exit_code);
	if (r->taken_over)
		fprintf(stderr, "farstep: run %s was taken over\n", r->run);
}

static int finish(struct run *r)
{
	struct err e = ERR_INIT;
	int code = run_execute(r);

	if (r->o->out_dir && !r->taken_over && out_copy(r->dir.fd, r->o->out_dir, &e) < 0) {
		fprintf(stderr, "farstep: --out: %s\n", e.msg);
		code = code ? code : err_exit(e.code);
	}
	report(r);
	run_release(r);
	free(r);
	return code;
}

/* ---- --dry-run ---- */

static int describe_sandbox(const struct options *o, struct jw *w, struct err *e)
{
	const struct provider *p = provider_find(o->target, e);
	struct sandbox_spec spec = { .run = "RUN",
		                     .key_id = "KEY",
		                     .state_dir = "/RUN_DIR/sandbox",
		                     .socket_dir = "/RUNTIME_DIR/RUN",
		                     .log_fd = -1 };
	char worker[1024], zeros[SHA256_HEX];
	struct buf b;
	int r;

	if (!p || worker_path(worker, e) < 0)
		return -1;
	if (o->sandbox) {
		jw_kobj(w, "sandbox");
		jw_kstr(w, "reuse", o->sandbox);
		jw_end(w);
		jw_kstr(w, "isolation", p->isolation);
		return 0;
	}
	memset(zeros, '0', sizeof(zeros) - 1); /* stands for the digest of a token not made yet */
	zeros[sizeof(zeros) - 1] = 0;
	spec.worker_path = worker;
	target_spec(o, &spec);
	spec.token_sha256 = zeros;
	buf_init(&b, LIMIT_TEXT);
	r = p->check(&spec, e);
	if (r == 0)
		r = p->describe(&spec, &b, e);
	if (r == 0) {
		jw_key(w, "sandbox");
		jw_raw(w, (const char *)buf_data(&b), buf_len(&b));
		jw_kstr(w, "isolation", p->isolation);
	}
	buf_release(&b);
	return r;
}

static int package_of(const struct plan *plan, struct package *p, struct err *e)
{
	package_init(p);
	for (size_t i = 0; i < plan->n_files; i++)
		if (package_glob(p, plan->dir, plan->files[i], e) < 0)
			return -1;
	return package_index(p, e);
}

static int print_plan(struct jw *w, const struct plan *plan, struct err *e)
{
	struct package p;
	struct buf b;
	int r;

	package_init(&p);
	buf_init(&b, PREPARED_MAX);
	r = plan_print(plan, &b, e);
	if (r == 0) {
		jw_key(w, "plan");
		jw_raw(w, (const char *)buf_data(&b), buf_len(&b));
		buf_reset(&b);
		r = package_of(plan, &p, e);
	}
	if (r == 0 && (r = package_index_print(&p, &b, e)) == 0) {
		jw_key(w, "package");
		jw_raw(w, (const char *)buf_data(&b), buf_len(&b));
	}
	package_release(&p);
	buf_release(&b);
	return r;
}

/* As they are looked for: files read, in their one form, with their lock digest. */
static void print_requirements(struct jw *w, const struct options *o, const struct plan *plan)
{
	char lock[SHA256_HEX];

	if (!plan_has_requirements(plan))
		return;
	jw_kobj(w, "requirements");
	jw_kbool(w, "install", dependencies_may_install(o, plan));
	for (int i = 0; i < TOOLS; i++) {
		const struct requirements *r = &plan->requires[i];

		if (!r->n)
			continue;
		requirements_digest(r, (enum package_tool)i, lock);
		jw_kobj(w, package_tool_names[i]);
		jw_kstr(w, "lock", lock);
		jw_karr(w, "list");
		for (size_t k = 0; k < r->n; k++)
			jw_str(w, r->list[k]);
		jw_end(w);
		jw_end(w);
	}
	jw_end(w);
}

static int dry_run(const struct options *o, const struct plan *plan, struct err *e)
{
	struct buf b;
	struct jw w;
	int r;

	buf_init(&b, PREPARED_MAX);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_key(&w, "target");
	jw_strn(&w, o->target, ws_address_public(o->target));
	r = strchr(o->target, ':') ? 0 : describe_sandbox(o, &w, e);
	jw_kobj(&w, "settings");
	options_print(o, &w);
	jw_end(&w);
	/* Names only: values are nobody's business. */
	jw_karr(&w, "env");
	for (size_t i = 0; i < o->n_env; i++)
		jw_str(&w, o->env[i].name);
	jw_end(&w);
	if (o->timeout_s)
		jw_kint(&w, "timeout_s", o->timeout_s);
	print_requirements(&w, o, plan);
	if (r == 0)
		r = print_plan(&w, plan, e);
	jw_end(&w);
	if (r == 0)
		r = jw_done(&w, e);
	if (r == 0)
		r = buf_putc(&b, '\n', e) < 0 ? -1 : fs_write_all(1, buf_data(&b), buf_len(&b), e);
	buf_release(&b);
	return r;
}

/* ---- the commands ---- */

static int run_plan(struct options *o, struct plan *plan)
{
	struct run *r = run_new();
	struct err e = ERR_INIT;
	int code;

	if (!r) {
		err_set(&e, ERR_NO_MEMORY, 0, "run");
		return cmd_fail(&e);
	}
	if (run_prepare(r, o, plan, &e) == 0)
		return finish(r);
	code = cmd_fail(&e);
	if (r->dir.lock_fd >= 0) { /* a run directory is complete after any run, failed or not */
		r->error = e;
		r->finished = true;
		r->exit_code = code;
		if (r->steps)
			run_status_write(r, NULL);
	}
	run_release(r);
	free(r);
	return code;
}

int cmd_run(struct options *o)
{
	struct err e = ERR_INIT;
	struct plan *plan = load(o->args[0], &e);
	int r;

	if (!plan)
		return cmd_fail(&e);
	if (!o->dry_run)
		return run_plan(o, plan);
	r = dry_run(o, plan, &e);
	plan_free(plan);
	return r < 0 ? cmd_fail(&e) : 0;
}

int cmd_prepare(struct options *o)
{
	struct err e = ERR_INIT;
	struct plan *plan = load(o->args[0], &e);
	struct buf b;
	struct jw w;
	int r;

	if (!plan)
		return cmd_fail(&e);
	buf_init(&b, PREPARED_MAX);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kint(&w, "prepared", 1);
	jw_kstr(&w, "version", farstep_version());
	jw_kstr(&w, "file", plan->file);
	jw_kstr(&w, "directory", plan->dir);
	jw_kstr(&w, "text", plan->text);
	r = print_plan(&w, plan, &e);
	jw_end(&w);
	if (r == 0)
		r = jw_done(&w, &e);
	if (r == 0)
		r = buf_putc(&b, '\n', &e);
	if (r == 0)
		r = o->output && strcmp(o->output, "-") != 0
		            ? fs_write(AT_FDCWD, o->output, buf_data(&b), buf_len(&b), 0600, false,
		                       &e)
		            : fs_write_all(1, buf_data(&b), buf_len(&b), &e);
	buf_release(&b);
	plan_free(plan);
	return r < 0 ? cmd_fail(&e) : 0;
}

/* What was prepared must still be what is there. */
static int compare_package(const json *prepared, const struct plan *plan, struct err *e)
{
	struct package p;
	struct buf now, then;
	int r;

	buf_init(&now, PREPARED_MAX);
	buf_init(&then, PREPARED_MAX);
	r = package_of(plan, &p, e);
	if (r == 0)
		r = package_index_print(&p, &now, e);
	if (r == 0)
		r = json_print(json_get(prepared, "package"), &then, e);
	if (r == 0 && (buf_len(&now) != buf_len(&then) ||
	               memcmp(buf_data(&now), buf_data(&then), buf_len(&now)) != 0))
		r = err_set(e, ERR_INTEGRITY, 0,
		            "the files have changed since it was prepared: prepare it again");
	package_release(&p);
	buf_release(&now);
	buf_release(&then);
	return r;
}

static struct plan *read_prepared(const char *file, struct err *e)
{
	struct buf b;
	json *v = NULL;
	const char *text = NULL, *name = NULL, *dir = NULL;
	struct plan *plan = NULL;

	buf_init(&b, PREPARED_MAX);
	if (fs_read(AT_FDCWD, file, PREPARED_MAX, &b, e) == 0)
		v = json_parse((const char *)buf_data(&b), buf_len(&b), PREPARED_MAX,
		               LIMIT_JSON_DEPTH * 2, e);
	if (v && json_req_str(v, "prepared", "text", &text, e) == 0 &&
	    json_req_str(v, "prepared", "file", &name, e) == 0 &&
	    json_req_str(v, "prepared", "directory", &dir, e) == 0) {
		plan = plan_parse_in(dir, text, strlen(text), name, NULL, e);
		if (plan && (compare_package(v, plan, e) < 0 ||
		             plan_read_required_files(plan, NULL, e) < 0)) {
			plan_free(plan);
			plan = NULL;
		}
	}
	json_free(v);
	buf_release(&b);
	if (!plan)
		err_wrap(e, "%s", file);
	return plan;
}

int cmd_execute(struct options *o)
{
	struct err e = ERR_INIT;
	struct plan *plan = read_prepared(o->args[0], &e);

	return plan ? run_plan(o, plan) : cmd_fail(&e);
}

int cmd_attach(struct options *o)
{
	char root[1024], path[1024];
	struct err e = ERR_INIT;
	struct run *r = run_new();

	if (r && rundir_root(o->run_dir, root, false, &e) == 0 &&
	    rundir_find(root, o->args[0], path, &e) == 0 &&
	    run_attach(r, o, path, o->force, &e) == 0)
		return finish(r);
	if (r)
		run_release(r);
	free(r);
	return cmd_fail(&e);
}

/* ---- collect: offline ---- */

int cmd_collect(struct options *o)
{
	char root[1024], path[1024];
	struct err e = ERR_INIT;
	struct verify_result v;
	struct buf b;
	auto_close int fd = -1;

	if (rundir_root(o->run_dir, root, false, &e) < 0 ||
	    rundir_find(root, o->args[0], path, &e) < 0)
		return cmd_fail(&e);
	buf_init(&b, PREPARED_MAX);
	if (verify_run(path, o->key_file, &v, &b, &e) < 0) {
		buf_release(&b);
		return cmd_fail(&e);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->out_dir && (fd < 0 || out_copy(fd, o->out_dir, &e) < 0)) {
		buf_release(&b);
		return cmd_fail(&e);
	}
	fs_write_all(1, buf_data(&b), buf_len(&b), NULL);
	buf_release(&b);
	return v.exit_code;
}
