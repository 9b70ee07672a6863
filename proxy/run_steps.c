/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps of a run: start what may start, judge what ended. */
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "proxy/dependencies.h"
#include "proxy/run.h"

static void start_more(struct run *r);

static const struct plan_step *plan_of(const struct run_step *s)
{
	return &s->run->plan->steps[s->index];
}

/* ---- the request's JSON parts ---- */

static char *built(struct buf *b, struct jw *w, struct err *e)
{
	char *text = jw_done(w, e) < 0 ? NULL : buf_take_str(b, e);

	buf_release(b);
	return text;
}

static char *print_inputs(const struct run_step *s, struct err *e)
{
	const struct plan_step *p = plan_of(s);
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	for (size_t i = 0; i < p->n_needs; i++) {
		const struct run_step *from = &s->run->steps[p->needs[i]];

		jw_kobj(&w, plan_of(from)->id);
		jw_kstr(&w, "step", plan_of(from)->id);
		jw_kint(&w, "attempt", from->attempt);
		jw_end(&w);
	}
	jw_end(&w);
	return built(&b, &w, e);
}

static char *print_env(const struct run *r, const struct plan_step *p, struct err *e)
{
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	dependencies_env(r, p, &w);
	jw_end(&w);
	return built(&b, &w, e);
}

static char *print_collect(const struct plan_step *p, struct err *e)
{
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_arr(&w);
	for (size_t i = 0; i < p->n_collect; i++)
		jw_str(&w, p->collect[i]);
	jw_end(&w);
	return built(&b, &w, e);
}

/* ---- the end of a step ---- */

static void event_artifacts(struct run *r, struct run_step *s)
{
	struct buf b;

	for (size_t i = 0; i < s->n_artifacts; i++) {
		struct jw w;

		buf_init(&b, LIMIT_TEXT);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "step_id", plan_of(s)->id);
		jw_kint(&w, "attempt", s->attempt);
		fetched_print(&w, NULL, &s->artifacts[i]);
		jw_end(&w);
		run_event(r, "artifact_created", &b);
		buf_release(&b);
	}
}

static void event_end(struct run *r, const struct run_step *s, const struct err *error)
{
	const struct receipt *rc = &s->sr.receipt;
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "step_id", plan_of(s)->id);
	jw_kint(&w, "attempt", s->attempt);
	if (s->status == STATUS_SUCCESS) {
		jw_kint(&w, "rows_processed", rc->rows >= 0 ? rc->rows : 0);
	} else {
		jw_kstr(&w, "status", status_name(s->status));
		jw_kstr(&w, "error_type", err_name(error->code));
		jw_kstr(&w, "error", error->msg);
		if (s->sr.verified) {
			jw_kstr(&w, "exit_kind", exit_kind_name(rc->exit.kind));
			jw_kint(&w, "exit_code", rc->exit.code);
			if (rc->exit.signal)
				jw_kint(&w, "signal", rc->exit.signal);
		}
	}
	jw_knum(&w, "duration_ms", s->duration_ms);
	jw_end(&w);
	run_event(r, s->status == STATUS_SUCCESS ? "step_complete" : "step_failed", &b);
	buf_release(&b);
}

static void warn_refused(struct run *r, const struct run_step *s)
{
	struct buf b;

	for (size_t i = 0; i < ARRAY_LEN(s->sr.receipt.refused) && s->sr.receipt.refused[i][0];
	     i++) {
		struct jw w;

		buf_init(&b, 4096);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "message", s->sr.receipt.refused[i]);
		jw_kstr(&w, "step_id", plan_of(s)->id);
		jw_end(&w);
		run_event(r, "warning", &b);
		buf_release(&b);
	}
}

static void on_skip(void *arg, int step, int because)
{
	struct run *r = arg;
	struct run_step *s = &r->steps[step];
	struct buf b;
	struct jw w;

	s->finished = true;
	s->status = STATUS_SKIPPED;
	buf_init(&b, 1024);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "step_id", plan_of(s)->id);
	jw_kstr(&w, "because", because >= 0 ? r->plan->steps[because].id : "the run was stopped");
	jw_end(&w);
	run_event(r, "step_skipped", &b);
	buf_release(&b);
	run_journal_step(r, s, NULL);
}

static int render_release(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct run_step *s = (struct run_step *)((char *)c - offsetof(struct run_step, release));

	(void)l;
	return buf_printf(out, e, "{\"step\":\"%s\",\"attempt\":%d}", plan_of(s)->id, s->attempt);
}

static void on_released(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result;
	if (error)
		log_debug("step.release: %s", error->msg);
}

/* Its memory goes now: a run of 10,000 steps stays flat. */
static void close_step(struct run_step *s, bool with_run)
{
	step_run_release(&s->sr);
	sink_close(&s->out);
	sink_close(&s->err);
	if (with_run && s->finished && s->fetch.files) {
		s->artifacts = s->fetch.files;
		s->n_artifacts = s->fetch.n_files;
		s->fetch.files = NULL;
		s->fetch.n_files = 0;
	}
	fetch_release(&s->fetch);
	free(s->inputs);
	free(s->env);
	free(s->collect);
	s->inputs = s->env = s->collect = NULL;
}

/* What a run that fails is blamed on: its first failure. */
static void note_failure(struct run *r, const struct run_step *s, const struct err *error)
{
	if (r->error.code)
		return;
	r->error = *error;
	err_wrap(&r->error, "step '%s'", plan_of(s)->id);
	if (s->status == STATUS_TIMEOUT || s->status == STATUS_RESOURCE_LIMIT ||
	    s->status == STATUS_SECURITY_VIOLATION || s->status == STATUS_CANCELLED)
		r->error.code = ERR_STEP_FAILED;
}

static void on_step_done(struct step_run *sr)
{
	struct run_step *s = sr->user;
	struct run *r = s->run;
	struct err error = sr->error, e = ERR_INIT;

	s->status = sr->status;
	s->finished = true;
	s->duration_ms = sr->verified ? sr->receipt.usage.wall_ms : 0;
	if (sr->verified && run_receipt_write(r, sr, &e) < 0) {
		/* Without its proof on disk it is no success. */
		s->status = STATUS_ERROR;
		error = e;
	}
	close_step(s, true);
	event_artifacts(r, s);
	warn_refused(r, s);
	event_end(r, s, &error);
	run_journal_step(r, s, NULL);
	if (s->status != STATUS_SUCCESS)
		note_failure(r, s, &error);
	s->release.method = "step.release";
	s->release.render = render_release;
	s->release.on_done = on_released;
	link_call(r->link, &s->release);
	schedule_done(&r->schedule, s->index, s->status, on_skip, r);
	start_more(r);
}

/* ---- starting ---- */

static int open_files(struct run_step *s, struct err *e)
{
	struct run *r = s->run;
	const char *id = plan_of(s)->id;
	char path[LIMIT_STEP_ID + 32], mark[LIMIT_STEP_ID + 48];

	snprintf(path, sizeof(path), "logs/%s.stdout", id);
	snprintf(mark, sizeof(mark), "journal/%s.%d.stdout", id, s->attempt);
	if (sink_open_log(&s->out, r->dir.fd, path, mark, r->secrets, e) < 0)
		return -1;
	snprintf(path, sizeof(path), "logs/%s.stderr", id);
	snprintf(mark, sizeof(mark), "journal/%s.%d.stderr", id, s->attempt);
	if (sink_open_log(&s->err, r->dir.fd, path, mark, r->secrets, e) < 0)
		return -1;
	fetch_init(&s->fetch, r->dir.fd, id);
	return 0;
}

static void start_step(struct run *r, int index)
{
	struct run_step *s = &r->steps[index];
	const struct plan_step *p = &r->plan->steps[index];
	struct err e = ERR_INIT;

	if (!s->attempt)
		s->attempt = 1;
	s->sr = (struct step_run){
		.id = p->id,
		.driver = p->driver,
		.attempt = s->attempt,
		.config = p->config,
		.timeout_ms = p->timeout_ms,
		.grace_ms = p->grace_ms,
		.linger_ms = p->linger_ms,
		.backtrace = p->backtrace,
		.run = r->run,
		.session = r->run,
		.session_key = r->session_key,
		.sandbox = r->has_sandbox ? r->sandbox.id : NULL,
		.out = &s->out,
		.err = &s->err,
		.fetch = &s->fetch,
		.on_done = on_step_done,
		.user = s,
	};
	receipt_init(&s->sr.receipt);
	s->sr.inputs = s->inputs = print_inputs(s, &e);
	s->sr.env = s->env = print_env(r, p, &e);
	s->sr.collect = s->collect = print_collect(p, &e);
	/* Journalled before it is sent: a proxy after us attaches to it, whatever we got to see. */
	if (open_files(s, &e) < 0 || !s->inputs || !s->env || !s->collect ||
	    run_journal_step(r, s, &e) < 0) {
		s->sr.status = STATUS_ERROR;
		s->sr.error = e;
		on_step_done(&s->sr);
		return;
	}
	s->started = true;
	step_run_start(&s->sr, r->loop, r->link);
}

static void start_more(struct run *r)
{
	int index;

	/* A step that cannot start is done at once and comes back here: once for each would be
	 * as deep as the plan is long. */
	if (r->starting)
		return;
	r->starting = true;
	while (!r->stopping && (index = schedule_next(&r->schedule)) >= 0)
		start_step(r, index);
	r->starting = false;
	if (schedule_finished(&r->schedule) && !dependencies_are_running(r))
		run_steps_finish(r);
}

static void on_soon(struct loop_timer *t)
{
	start_more((struct run *)((char *)t - offsetof(struct run, step_soon)));
}

void run_steps_soon(struct run *r)
{
	loop_timer_start(r->loop, &r->step_soon, 0, on_soon, NULL);
}

/* What a proxy before us has finished stays so; what it started is attached to, not repeated. */
void run_steps_begin(struct run *r)
{
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		struct run_step *s = &r->steps[i];

		if (!s->finished || r->schedule.steps[i].state == SCHED_DONE)
			continue;
		if (s->status != STATUS_SUCCESS && s->status != STATUS_SKIPPED && !r->error.code)
			err_set(&r->error, ERR_STEP_FAILED, 0, "step '%s' failed",
			        r->plan->steps[i].id);
		schedule_done(&r->schedule, (int)i, s->status, NULL, NULL);
	}
	if (!schedule_finished(&r->schedule) && dependencies_begin(r))
		return;
	run_steps_soon(r);
}

void run_steps_events(struct run *r, uint64_t wseq)
{
	dependencies_events(r, wseq);
	for (size_t i = 0; i < r->plan->n_steps; i++)
		if (r->steps[i].started && !r->steps[i].finished)
			step_run_events(&r->steps[i].sr, wseq);
}

void run_steps_resume(struct run *r)
{
	dependencies_resume(r);
	for (size_t i = 0; i < r->plan->n_steps; i++)
		if (r->steps[i].started && !r->steps[i].finished)
			step_run_resume(&r->steps[i].sr);
}

/* ---- cancelling ---- */

static int render_cancel(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct run_step *s = (struct run_step *)((char *)c - offsetof(struct run_step, cancel));

	(void)l;
	return buf_printf(out, e, "{\"step\":\"%s\"}", plan_of(s)->id);
}

static void on_cancelled(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result, (void)error; /* how it ended comes with the step's own answer */
}

bool run_step_cancel(struct run *r, const char *step)
{
	int i = plan_find(r->plan, step);
	struct run_step *s = i < 0 ? NULL : &r->steps[i];

	if (!s || !s->started || s->finished)
		return false;
	link_forget(r->link, &s->cancel); /* asked before, maybe of an earlier attempt */
	s->cancel.method = "step.cancel";
	s->cancel.render = render_cancel;
	s->cancel.on_done = on_cancelled;
	link_call(r->link, &s->cancel);
	return true;
}

void run_steps_cancel(struct run *r)
{
	if (!r->has_schedule)
		return;
	schedule_stop(&r->schedule, on_skip, r);
	for (size_t i = 0; i < r->plan->n_steps; i++)
		run_step_cancel(r, r->plan->steps[i].id);
	dependencies_cancel(r);
	run_steps_soon(r);
}

int run_steps_new(struct run *r, struct err *e)
{
	r->steps = calloc(r->plan->n_steps + 1, sizeof(*r->steps));
	if (!r->steps)
		return err_set(e, ERR_NO_MEMORY, 0, "steps");
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		struct run_step *s = &r->steps[i];

		s->run = r;
		s->index = (int)i;
		sink_init(&s->out);
		sink_init(&s->err);
		fetch_init(&s->fetch, r->dir.fd, plan_of(s)->id);
	}
	return 0;
}

void run_steps_release(struct run *r)
{
	dependencies_release(r);
	for (size_t i = 0; r->steps && i < r->plan->n_steps; i++) {
		struct run_step *s = &r->steps[i];

		if (s->inputs)	/* open: it was started and never judged */
			close_step(s, false);
		if (r->link) {
			link_forget(r->link, &s->release);
			link_forget(r->link, &s->cancel);
		}
		fetched_free(s->artifacts, s->n_artifacts);
	}
	free(r->steps);
	r->steps = NULL;
}
