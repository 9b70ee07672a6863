/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dependencies.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/log.h"
#include "proxy/dependencies/state.h"

static void close_step(struct need *need)
{
	if (!need->open)
		return;
	need->open = false;
	step_run_release(&need->sr);
	sink_close(&need->out);
	sink_close(&need->err);
	fetch_release(&need->fetch);
}

static int render_release(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct need *need = (struct need *)((char *)c - offsetof(struct need, release));

	(void)l;
	return buf_printf(out, e, "{\"step\":\"%s\",\"attempt\":1}", need->sr.id);
}

static int render_cancel(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct dependencies *d =
		(struct dependencies *)((char *)c - offsetof(struct dependencies, cancel));

	(void)l;
	return buf_printf(out, e, "{\"step\":\"%s\"}", dependency_tools[d->tool].step);
}

static void on_told(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result, (void)error; /* how the step ended comes with its own answer */
}

static void finish(struct dependencies *d, struct err *why)
{
	struct run *r = d->r;

	d->running = false;
	dependency_tell_end(d, why->code ? why : NULL);
	if (!why->code) {
		now(d)->done = true;
		run_steps_begin(r);
	} else if (r->stopping) {
		run_steps_soon(r);
	} else {
		run_stop(r, why);
	}
}

/* Nothing is open any more: what came of it is the answer, unless that failed. */
static void settle(struct dependencies *d, struct err *shut)
{
	struct need *need = now(d);
	struct err e = ERR_INIT;

	if (shut->code && !d->why.code)
		d->why = *shut;
	if (!d->why.code && dependency_judge(d, &d->why) == 0 && dependency_keep_report(d, &e) < 0)
		d->why = e;
	need->release.method = "step.release";
	need->release.render = render_release;
	need->release.on_done = on_told;
	link_call(d->r->link, &need->release);
	finish(d, &d->why);
}

static void on_step_done(struct step_run *sr)
{
	struct dependencies *d = sr->user;
	struct need *need = now(d);
	struct err why = ERR_INIT, e = ERR_INIT;
	char path[96];

	if (sr->verified && run_receipt_write(d->r, sr, &e) < 0)
		why = e; /* without its proof on disk it is no success */
	snprintf(path, sizeof(path), "artifacts/%s/report.json", sr->id);
	if (sr->verified && faccessat(d->r->dir.fd, path, F_OK, 0) == 0 &&
	    dependency_read_report(d, d->tool, path, &e) < 0 && !why.code)
		why = e;
	if (sr->verified)
		dependency_take_artifacts(d);
	close_step(need);
	if (need->report.v)
		dependency_tell_report(d);
	dependency_tell_artifacts(d);
	d->why = why;
	dependency_door_end(d, settle);
}

static int open_files(struct dependencies *d, struct err *e)
{
	const char *id = dependency_tools[d->tool].step;
	char path[64], mark[64];

	snprintf(path, sizeof(path), "logs/%s.stdout", id);
	snprintf(mark, sizeof(mark), "journal/%s.1.stdout", id);
	if (sink_open_log(&now(d)->out, d->r->dir.fd, path, mark, d->r->secrets, e) < 0)
		return -1;
	snprintf(path, sizeof(path), "logs/%s.stderr", id);
	snprintf(mark, sizeof(mark), "journal/%s.1.stderr", id);
	if (sink_open_log(&now(d)->err, d->r->dir.fd, path, mark, d->r->secrets, e) < 0) {
		sink_close(&now(d)->out);
		return -1;
	}
	fetch_init(&now(d)->fetch, d->r->dir.fd, id);
	now(d)->open = true;
	return 0;
}

static void start(struct dependencies *d)
{
	struct run *r = d->r;
	struct err e = ERR_INIT;

	now(d)->sr = (struct step_run){
		.id = dependency_tools[d->tool].step,
		.driver = "exec",
		.attempt = 1,
		.config = now(d)->config,
		.timeout_ms = DEPENDENCIES_MS,
		.grace_ms = GRACE_DEFAULT_MS,
		.linger_ms = LINGER_DEFAULT_MS,
		.run = r->run,
		.session = r->run,
		.session_key = r->session_key,
		.sandbox = r->has_sandbox ? r->sandbox.id : NULL,
		.out = &now(d)->out,
		.err = &now(d)->err,
		.fetch = &now(d)->fetch,
		.on_done = on_step_done,
		.user = d,
	};
	receipt_init(&now(d)->sr.receipt);
	d->running = true;
	if (open_files(d, &e) < 0 || dependency_door_begin(d, &e) < 0) {
		now(d)->sr.status = STATUS_ERROR;
		finish(d, &e);
		return;
	}
	step_run_start(&now(d)->sr, r->loop, r->link);
}

/* ---- what run_steps.c calls ---- */

bool dependencies_begin(struct run *r)
{
	struct dependencies *d = r->dependencies;
	struct err e = ERR_INIT;

	if (!d) {
		d = r->dependencies = calloc(1, sizeof(*d));
		if (!d) {
			err_set(&e, ERR_NO_MEMORY, 0, "dependencies");
			run_stop(r, &e);
			return true;
		}
		d->r = r;
		d->go_fd = d->wait_fd = -1;
		for (int i = 0; i < TOOLS && !e.code; i++)
			dependency_read_need(d, i, &e);
		if (e.code) {
			run_stop(r, &e);
			return true;
		}
	}
	while (d->tool < TOOLS && (!now(d)->config || now(d)->done))
		d->tool++;
	if (d->tool == TOOLS)
		return false;
	if (!d->running)
		start(d);
	return true;
}

bool dependencies_are_running(const struct run *r)
{
	return r->dependencies && r->dependencies->running;
}

void dependencies_events(struct run *r, uint64_t wseq)
{
	if (dependencies_are_running(r))
		step_run_events(&now(r->dependencies)->sr, wseq);
}

void dependencies_room(struct run *r)
{
	if (dependencies_are_running(r) && r->dependencies->input)
		stdin_source_pump(r->dependencies->input);
}

void dependencies_resume(struct run *r)
{
	if (dependencies_are_running(r))
		step_run_resume(&now(r->dependencies)->sr);
}

void dependencies_cancel(struct run *r)
{
	struct dependencies *d = r->dependencies;

	if (!dependencies_are_running(r) || d->cancel.method)
		return;
	d->cancel.method = "step.cancel";
	d->cancel.render = render_cancel;
	d->cancel.on_done = on_told;
	link_call(r->link, &d->cancel);
}

void dependencies_env(const struct run *r, const struct plan_step *s, struct jw *w)
{
	struct dependency_report reports[TOOLS];
	size_t n = 0;

	for (int i = 0; r->dependencies && i < TOOLS; i++)
		if (r->dependencies->needs[i].done)
			reports[n++] = r->dependencies->needs[i].report;
	dependency_reports_env(reports, n, s->env, s->n_env, w);
}

void dependencies_print(const struct run *r, struct jw *w)
{
	for (int i = 0; r->dependencies && i < TOOLS; i++)
		for (size_t a = 0; a < r->dependencies->needs[i].n_artifacts; a++) {
			jw_obj(w);
			fetched_print(w, dependency_tools[i].step,
			              &r->dependencies->needs[i].artifacts[a]);
			jw_end(w);
		}
}

void dependencies_release(struct run *r)
{
	struct dependencies *d = r->dependencies;

	if (!d)
		return;
	dependency_door_release(d);
	if (r->link)
		link_forget(r->link, &d->cancel);
	for (int i = 0; i < TOOLS; i++) {
		close_step(&d->needs[i]);
		if (r->link)
			link_forget(r->link, &d->needs[i].release);
		fetched_free(d->needs[i].artifacts, d->needs[i].n_artifacts);
		free(d->needs[i].config);
		dependency_report_release(&d->needs[i].report);
	}
	free(d);
	r->dependencies = NULL;
}
