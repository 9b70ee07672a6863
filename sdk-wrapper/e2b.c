/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "sdk-wrapper/e2b_build.h"
#include "sdk-wrapper/e2b_desk.h"
#include "sdk-wrapper/e2b_package.h"
#include "sdk-wrapper/e2b_spec.h"
#include "sdk-wrapper/e2b_worker.h"

#define DEBUG_ENVD "99.99.99"
#define OUR_TEMPLATES "farstep-"

struct e2b {
	struct e2b_desk desk;
	/* bring-up */
	const struct sandbox_spec *spec;
	struct sandbox *ret;
	struct make_hooks hooks;
	uint64_t until_ns, step_ns;
	struct e2b_fit fit;
	struct e2b_order order;
	struct e2b_build *build;	/* of a template of that size */
	struct e2b_build_spec build_spec;
	bool was_built;
	struct e2b_call *call;
	struct e2b_sandbox made;
	struct e2b_worker *worker;	/* watched on when it is up */
	struct make_file file;		/* the package; fd -1: there is none, or it is there */
	char file_path[100];
	struct e2b_package *package;	/* what brings it, if not the worker's upload */
	struct loop_timer timer;
	/* the other calls */
	void (*on_done)(void *user, const struct err *err);
	void (*on_state)(void *user, enum sandbox_state state, const char *why);
	void *user;
	void (*on_reached)(void *user, const struct err *err);	/* beside one of those */
	void *reach_user;
};

/* --- life --- */

struct e2b *e2b_open(struct loop *l, struct err *e)
{
	struct e2b *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "e2b");
		return NULL;
	}
	if (e2b_desk_open(&s->desk, l, e) == 0)
		return s;
	e2b_close(s);
	return NULL;
}

/* What only the bring-up needs. */
static void up_release(struct e2b *s)
{
	loop_timer_stop(&s->timer);
	e2b_cancel(s->call);
	s->call = NULL;
	e2b_build_cancel(s->build);
	s->build = NULL;
	e2b_worker_close(s->worker);
	s->worker = NULL;
	e2b_package_cancel(s->package);
	s->package = NULL;
	s->spec = NULL;
}

void e2b_close(struct e2b *s)
{
	if (!s)
		return;
	up_release(s);
	e2b_desk_close(&s->desk);
	wipe(&s->made, sizeof(s->made));
	free(s);
}

/* --- bring-up --- */

static uint32_t left_ms(const struct e2b *s)
{
	uint64_t now = now_ns();

	return now >= s->until_ns ? 0 : (uint32_t)((s->until_ns - now) / 1000000);
}

static void tell_step(struct e2b *s, enum make_step step, uint64_t bytes)
{
	uint64_t now = now_ns();

	if (s->hooks.on_step)
		s->hooks.on_step(s->hooks.user, step, (now - s->step_ns) / 1000000, bytes);
	s->step_ns = now;
}

static void up_failed(struct e2b *s, const struct err *err)
{
	struct err copy = *err;

	up_release(s);
	s->hooks.on_done(s->hooks.user, &copy);
}

/* 3: the worker */

static void package_ends(struct e2b *s, const char *path)
{
	s->file.fd = -1;
	s->hooks.on_package(s->hooks.user, path);
}

static void on_worker_step(void *user, enum make_step step, uint64_t bytes)
{
	struct e2b *s = user;

	tell_step(s, step, bytes);
	if (step == MADE_UPLOAD && s->file.fd >= 0 && !s->package)
		package_ends(s, s->file_path);
}

/* It can come another way. */
static void on_package_end(void *user, const struct err *err)
{
	struct e2b *s = user;

	if (err)
		log_info("the package: %s", err->msg);
	package_ends(s, err ? NULL : s->file_path);
}

static void on_worker_up(void *user, const struct err *err)
{
	struct e2b *s = user;

	if (err) {
		up_failed(s, err);
		return;
	}
	s->spec = NULL;
	s->hooks.on_done(s->hooks.user, NULL);
}

static void on_worker_end(void *user, const struct err *why)
{
	struct e2b *s = user;

	if (s->hooks.on_worker_end)
		s->hooks.on_worker_end(s->hooks.user, why);
}

/* In the request that brings the worker, if it is small and there is such a request; else beside
 * it. */
static void bring_package(struct e2b *s, struct e2b_worker_place *place)
{
	struct err e = ERR_INIT;

	s->file = (struct make_file){ .fd = -1 };
	if (!s->hooks.package || !s->hooks.package(s->hooks.user, &s->file))
		return;
	snprintf(s->file_path, sizeof(s->file_path), E2B_PACKAGE_PATH, s->order.unique);
	if (!place->may_be_there && s->file.size <= E2B_PACKAGE_ONE_REQUEST) {
		place->package = s->file;
		place->package_path = s->file_path;
		return;
	}
	s->package = e2b_package_start(s->desk.loop, s->desk.http, &s->desk.env, &s->made,
				       s->order.unique, s->file.fd, s->file.size, on_package_end, s,
				       &e);
	if (!s->package)
		on_package_end(s, &e);
}

static void bring_worker(struct e2b *s)
{
	const struct e2b_worker_hooks hooks = { s, on_worker_step, on_worker_up, on_worker_end };
	struct e2b_worker_place place = {
		.spec = s->spec,
		.package = { .fd = -1 },
		.sandbox = &s->made,
		.unique = s->order.unique,
		.may_be_there = strncmp(s->fit.base, OUR_TEMPLATES, strlen(OUR_TEMPLATES)) == 0,
		.until_ns = s->until_ns,
	};
	struct err e = ERR_INIT;

	bring_package(s, &place);
	if (e2b_worker_start(s->worker, s->desk.http, &s->desk.env, &place, &hooks, &e) < 0)
		up_failed(s, &e);
}

/* 2: it is there */

static void on_sized(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;
	struct e2b_size got = { 0, 0 };
	struct err e = ERR_INIT;

	s->call = NULL;
	if (r->failure) {
		up_failed(s, &r->failure->err);
		return;
	}
	got = (struct e2b_size){ r->sandbox->cpus, r->sandbox->memory_mb };
	if (e2b_fit_check(&s->fit, &got, &e) < 0) {
		err_wrap(&e, "sandbox %s", s->made.id);
		up_failed(s, &e);
		return;
	}
	bring_worker(s);
}

/* The answer to create does not say it. */
static void ask_size(struct e2b *s)
{
	struct e2b_end end = { left_ms(s), on_sized, s };
	struct err e = ERR_INIT;

	s->call = e2b_get(s->desk.api, s->made.id, &end, &e);
	if (!s->call)
		up_failed(s, &e);
}

static void sandbox_is_there(struct e2b *s)
{
	struct err e = ERR_INIT;

	snprintf(s->ret->id, sizeof(s->ret->id), "%s", s->made.id);
	if (e2b_address(&s->desk.env, &s->made, s->ret->address, sizeof(s->ret->address), &e) < 0) {
		up_failed(s, &e);
		return;
	}
	tell_step(s, MADE_SANDBOX, 0);
	if (s->fit.is_sized) {	/* nothing goes there before */
		ask_size(s);
		return;
	}
	bring_worker(s);
}

static void on_created(void *user, const struct e2b_result *r);

static void on_build_line(void *user, const char *line)
{
	struct e2b *s = user;

	log_info("template %s: %s", s->fit.template_name, line);
}

static void on_built(void *user, const struct err *err)
{
	struct e2b *s = user;
	struct e2b_end end = { 0, on_created, s };
	struct err e = ERR_INIT;

	s->build = NULL;
	if (err) {
		up_failed(s, err);
		return;
	}
	/* That took its own time. */
	s->until_ns += now_ns() - s->step_ns;
	s->step_ns = now_ns();
	end.deadline_ms = left_ms(s);
	s->call = e2b_create(s->desk.api, &s->order.create, NULL, &end, &e);
	if (s->call)
		snprintf(s->ret->id, sizeof(s->ret->id), E2B_PENDING "%s", s->order.unique);
	else
		up_failed(s, &e);
}

/* Of the size that was asked for.  While it is built there is nothing to end. */
static void template_is_missing(struct e2b *s)
{
	const struct e2b_build_hooks hooks = { s, on_build_line, on_built };
	struct err e = ERR_INIT;

	s->ret->id[0] = 0;
	if (!s->spec->build_template) {
		e2b_fit_missing(&s->fit, &e);
	} else {
		log_warn("template %s: there is none yet; building it, which takes minutes",
			 s->fit.template_name);
		s->was_built = true;
		s->build_spec = (struct e2b_build_spec){ .name = s->fit.template_name,
							 .size = s->fit.size,
							 .from_template = s->fit.base };
		s->build = e2b_build_start(s->desk.loop, s->desk.http, s->desk.api, &s->build_spec,
					   E2B_BUILD_MS, &hooks, &e);
		if (s->build)
			return;
	}
	up_failed(s, &e);
}

static void on_asked_for(void *user)
{
	struct e2b *s = user;

	if (s->hooks.on_asked)
		s->hooks.on_asked(s->hooks.user);
}

static void on_created(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;

	s->call = NULL;
	if (r->failure && r->failure->class == FAIL_TEMPLATE && s->fit.is_sized && !s->was_built) {
		template_is_missing(s);
		return;
	}
	if (r->failure) {
		/* Nothing was made: nothing is to be destroyed. */
		if (r->failure->err.admitted == ADMITTED_NO)
			s->ret->id[0] = 0;
		up_failed(s, &r->failure->err);
		return;
	}
	s->made = *r->sandbox;
	sandbox_is_there(s);
}

static void on_debug_timer(struct loop_timer *t)
{
	sandbox_is_there((struct e2b *)((char *)t - offsetof(struct e2b, timer)));
}

/* 1: the request */

int e2b_up(struct e2b *s, const struct sandbox_spec *spec, struct sandbox *ret,
	   uint32_t deadline_ms, const struct make_hooks *hooks, struct err *e)
{
	struct e2b_end end = { deadline_ms, on_created, s };

	s->spec = spec;
	s->ret = ret;
	s->hooks = *hooks;
	s->step_ns = now_ns();
	s->until_ns = s->step_ns + (uint64_t)deadline_ms * 1000000;
	s->was_built = false;
	*ret = (struct sandbox){ .provider = "e2b", .network = spec->network };
	snprintf(ret->run, sizeof(ret->run), "%s", spec->run);
	s->worker = e2b_worker_open(s->desk.loop, spec->worker_path, e);
	if (!s->worker)
		goto fail;
	if (e2b_fit(spec->template_name, spec->cpu, spec->memory_mb, &s->fit, e) < 0 ||
	    (s->desk.env.debug && e2b_check_debug(spec, e) < 0) ||
	    e2b_order(spec, &s->fit, &s->order, e) < 0)
		goto fail;
	if (s->desk.env.debug) {
		s->made = (struct e2b_sandbox){ .id = E2B_DEBUG_SANDBOX,
						.envd_version = DEBUG_ENVD };
		if (loop_timer_start(s->desk.loop, &s->timer, 0, on_debug_timer, e) < 0)
			goto fail;
		return 0;
	}
	snprintf(ret->id, sizeof(ret->id), E2B_PENDING "%s", s->order.unique);
	s->call = e2b_create(s->desk.api, &s->order.create, on_asked_for, &end, e);
	if (s->call)
		return 0;
fail:
	ret->id[0] = 0;
	up_release(s);
	return -1;
}

/* --- while it lives --- */

static void on_extended(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;

	s->on_done(s->user, r->failure ? &r->failure->err : NULL);
}

int e2b_extend(struct e2b *s, const char *id, uint32_t lease_ms, uint32_t deadline_ms,
	       void (*on_done)(void *user, const struct err *err), void *user, struct err *e)
{
	struct e2b_end end = { deadline_ms, on_extended, s };

	s->on_done = on_done;
	s->user = user;
	return e2b_set_timeout(s->desk.api, id, (lease_ms + 999) / 1000, &end, e) ? 0 : -1;
}

static void on_reached(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;

	s->on_reached(s->reach_user, r->failure ? &r->failure->err : NULL);
}

int e2b_reach(struct e2b *s, const char *id, bool network, const char *const *hosts,
	      uint32_t deadline_ms, void (*on_done)(void *user, const struct err *err), void *user,
	      struct err *e)
{
	struct e2b_end end = { deadline_ms, on_reached, s };

	s->on_reached = on_done;
	s->reach_user = user;
	return e2b_set_network(s->desk.api, id, network, hosts, &end, e) ? 0 : -1;
}

static void on_asked(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;
	enum sandbox_state state = SANDBOX_RUNNING;
	const char *why = "";

	if (r->failure && r->failure->class == FAIL_GONE) {
		state = SANDBOX_GONE;
		why = "E2B does not know it any more: killed, or past its time";
	} else if (r->failure) {
		state = SANDBOX_UNKNOWN;
		why = r->failure->err.msg;
	} else if (r->sandbox->state == E2B_PAUSED) {
		state = SANDBOX_GONE;
		why = "it was paused";
	}
	s->on_state(s->user, state, why);
}

int e2b_ask(struct e2b *s, const char *id, uint32_t deadline_ms,
	    void (*on_state)(void *user, enum sandbox_state state, const char *why), void *user,
	    struct err *e)
{
	struct e2b_end end = { deadline_ms, on_asked, s };

	s->on_state = on_state;
	s->user = user;
	return e2b_get(s->desk.api, id, &end, e) ? 0 : -1;
}
