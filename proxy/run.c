/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/run.h"
#include "proxy/dependencies.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "proxy/env_json.h"
#include "proxy/last_words.h"
#include "proxy/reuse.h"
#include "proxy/ws_address.h"

#define OWNER_CHECK_MS   500
#define CLOSE_MS         12000 /* how long the worker may take to end a session */
#define FIRST_CONNECT_MS 30000

/* ---- stopping ---- */

void run_leave(struct run *r)
{
	r->finished = true;
}

static void on_shutdown_late(struct loop_timer *t)
{
	run_leave((struct run *)((char *)t - offsetof(struct run, shutdown)));
}

static void on_closed(struct call *c, const json *result, const struct err *error)
{
	struct run *r = (struct run *)((char *)c - offsetof(struct run, close_call));

	(void)error;
	r->closed = result != NULL;
	run_leave(r);
}

static int render_idle(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct run *r = (struct run *)((char *)c - offsetof(struct run, idle_call));

	(void)l;
	return buf_printf(out, e, "{\"lease_ms\":%u}", keep_idle_ms(r->o));
}

static void on_idle_set(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result;
	if (error)
		log_warn("lease: %s", error->msg);
}

void run_steps_finish(struct run *r)
{
	if (r->finished || r->close_call.id || r->close_call.method)
		return;
	run_phase(r, PHASE_COLLECT);
	if (left_files_ask(r))
		return;
	r->close_call.method = "session.close";
	r->close_call.on_done = on_closed;
	/* A provider's sandbox is about to go, with everything in it: no need to ask it first. */
	if (r->provider && !run_sandbox_stays(r)) {
		run_leave(r);
		return;
	}
	if (r->provider) {
		r->idle_call.method = "session.renew";
		r->idle_call.render = render_idle;
		r->idle_call.on_done = on_idle_set;
		link_call(r->link, &r->idle_call);
	}
	/* A link that is down just now gets the same time to come back. */
	link_call(r->link, &r->close_call);
	loop_timer_start(r->loop, &r->shutdown, CLOSE_MS, on_shutdown_late, NULL);
}

void run_stop(struct run *r, const struct err *why)
{
	if (!r->error.code)
		r->error = *why;
	if (r->stopping)
		return;
	r->stopping = true;
	if (r->has_schedule && r->link && link_is_up(r->link)) {
		run_steps_cancel(r);
		loop_timer_start(r->loop, &r->shutdown, GRACE_DEFAULT_MS + CLOSE_MS,
		                 on_shutdown_late, NULL);
	} else {
		run_leave(r);
	}
}

static void on_signal(struct loop_signal *s)
{
	struct run *r = s->sig == SIGINT
	                        ? (struct run *)((char *)s - offsetof(struct run, on_int))
	                        : (struct run *)((char *)s - offsetof(struct run, on_term));
	struct err e = ERR_INIT;

	if (r->interrupted) { /* twice: no patience left; the sandbox is still destroyed */
		run_leave(r);
		return;
	}
	r->interrupted = s->sig;
	err_set(&e, ERR_CANCELLED, 0, "interrupted by signal %d", s->sig);
	r->error = e;
	run_stop(r, &e);
}

static void on_deadline(struct loop_timer *t)
{
	struct run *r = (struct run *)((char *)t - offsetof(struct run, deadline));
	struct err e = ERR_INIT;

	err_set(&e, ERR_DEADLINE, 0, "the run's deadline (--timeout) has passed");
	run_stop(r, &e);
}

static void take_over(struct run *r, const char *why)
{
	r->taken_over = true;
	err_set(&r->error, ERR_REPLACED, 0, "taken over: %s", why);
	run_leave(r);
}

static void on_owner_check(struct loop_timer *t)
{
	struct run *r = (struct run *)((char *)t - offsetof(struct run, owner));

	if (!rundir_still_mine(&r->dir)) {
		take_over(r, "another farstep owns the run now");
		return;
	}
	loop_timer_start(r->loop, &r->owner, OWNER_CHECK_MS, on_owner_check, NULL);
}

/* ---- the link ---- */

static int note_values(struct run *r, const json *obj, bool always, struct err *e)
{
	for (const json *v = json_first(obj); v; v = json_next(v))
		if (json_string(v) && mask_set_add(r->secrets, json_string(v), always, e) < 0)
			return -1;
	return 0;
}

static void on_up(void *arg, const json *hello, const json *result, bool again)
{
	struct run *r = arg;
	int64_t generation = 0, pid = 0;
	const char *version = "", *sandbox = "";
	struct err e = ERR_INIT;
	struct buf b;
	struct jw w;

	r->was_up = true;
	json_opt_int(result, "", "generation", 0, JSON_INT_MAX, &generation, NULL);
	json_opt_int(hello, "", "pid", 0, JSON_INT_MAX, &pid, NULL);
	json_opt_str(hello, "", "version", &version, NULL);
	json_opt_str(result, "", "sandbox", &sandbox, NULL);
	if (again) {
		run_tell(r, "reattached", "{\"generation\":%lld}", (long long)generation);
		run_steps_resume(r);
		return;
	}
	if (!r->has_sandbox) {
		r->has_sandbox = true;
		snprintf(r->sandbox.id, sizeof(r->sandbox.id), "%.120s", sandbox);
	}
	if (r->attached) {
		if (note_values(r, json_get(result, "env"), false, &e) < 0 ||
		    note_values(r, json_get(result, "secrets"), true, &e) < 0) {
			run_stop(r, &e);
			return;
		}
		run_tell(r, "reattached", "{\"generation\":%lld}", (long long)generation);
	} else {
		run_fields_begin(&w, &b);
		jw_kint(&w, "pid", pid);
		jw_kstr(&w, "version", version);
		jw_kint(&w, "generation", generation);
		jw_knum(&w, "duration_ms", ms_since(r->phase_start_ns));
		run_fields_end(r, "worker_started", &w);
	}
	if (!r->o->jobs) {
		int64_t cpus = 0;

		json_opt_int(json_get(hello, "capabilities"), "", "cpus", 1, 100000, &cpus, NULL);
		r->schedule.at_once = cpus > 0 && cpus < LIMIT_STEPS_RUNNING ? (int)cpus
		                      : cpus                                 ? LIMIT_STEPS_RUNNING
		                                                             : 1;
	}
	if (r->sending) {
		run_phase(r, PHASE_UPLOAD);
	} else {
		run_phase(r, PHASE_RUN);
		run_steps_begin(r);
	}
}

static void on_down(void *arg, int code, const char *reason)
{
	struct run *r = arg;

	log_warn("the link to the worker is down (%d %s): reconnecting", code, reason);
	run_tell(r, "heartbeat_lost", "{\"code\":%d}", code);
}

static int on_event(void *arg, const json *params, struct err *e)
{
	struct run *r = arg;
	int64_t wseq = 0;

	if (events_put_worker(&r->ev, params, e) < 0)
		return -1;
	r->events_seen++;
	dependencies_event(r, params);
	json_opt_int(params, "", "wseq", 0, JSON_INT_MAX, &wseq, NULL);
	run_steps_events(r, (uint64_t)wseq);
	return 0;
}

static void on_fatal(void *arg, const struct err *e)
{
	struct run *r = arg;

	if (e->code == ERR_REPLACED) {
		take_over(r, e->msg);
		return;
	}
	/* All is home and the session was to end: that it has ended is the answer. */
	if (r->close_call.method) {
		run_leave(r);
		return;
	}
	if (!r->error.code || e->code != ERR_LOST)
		r->error = *e;
	/* Its proxy ended before it opened one, or the worker's time was over. */
	if (r->attached && r->error.code == ERR_NOT_FOUND)
		r->error.code = ERR_LOST;
	run_leave(r);
}

static bool is_there(void *arg)
{
	struct run *r = arg;

	if (!r->provider)
		return true;
	return (r->kept ? r->provider->look(r->kept, NULL) : r->provider->state(&r->sandbox)) !=
	       SANDBOX_GONE;
}

static void on_room(void *arg)
{
	struct run *r = arg;

	if (r->sending)
		sending_pump(r->sending);
	dependencies_room(r);
}

static int open_link(struct run *r, struct err *e)
{
	const struct link_hooks hooks = { r, on_up, on_down, on_event, on_fatal, is_there };
	char *env = NULL, *secrets = NULL;
	struct link_spec spec = {
		.address = r->provider ? r->sandbox.address : r->o->target,
		.token = r->token,
		.session = r->run,
		.run = r->run,
		.key = r->session_key,
		.sandbox = r->provider && r->has_sandbox ? r->sandbox.id : NULL,
		.resume = r->attached,
		.want_secrets = r->attached,
		.events_have = r->ev.wseq,
		.lease_ms = LEASE_DEFAULT_MS,
		.memory_mb = r->o->memory_mb,
		.first_ms = FIRST_CONNECT_MS,
		.give_up_ms = LEASE_DEFAULT_MS,
	};

	r->trace = rpc_trace_open(r->secrets, e);
	if (!r->trace && rpc_trace_wanted())
		return -1;
	spec.trace = r->trace;
	if (env_json(r->o, false, &env, e) == 0 && env_json(r->o, true, &secrets, e) == 0) {
		spec.env = env;
		spec.secrets = secrets;
		r->link = link_new(r->loop, r->ws, &spec, &hooks, e);
	}
	env_json_free(env);
	env_json_free(secrets);
	if (!r->link)
		return -1;
	link_on_room(r->link, on_room);
	return 0;
}

/* ---- the whole ---- */

static void lose_unfinished(struct run *r)
{
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		struct run_step *s = &r->steps[i];
		struct buf b;
		struct jw w;

		if (s->finished)
			continue;
		s->finished = true;
		s->status = s->started ? STATUS_LOST : STATUS_SKIPPED;
		buf_init(&b, 4096);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "step_id", r->plan->steps[i].id);
		if (s->started) {
			jw_kint(&w, "attempt", s->attempt);
			jw_kstr(&w, "status", "lost");
			jw_kstr(&w, "error_type",
			        err_name(r->error.code ? r->error.code : ERR_LOST));
			jw_kstr(&w, "error", r->error.code ? r->error.msg : "no receipt came");
		} else {
			jw_kstr(&w, "because", "the run ended");
		}
		jw_end(&w);
		run_event(r, s->started ? "step_failed" : "step_skipped", &b);
		buf_release(&b);
		run_journal_step(r, s, NULL);
		if (s->started && !r->error.code)
			err_set(&r->error, ERR_LOST, 0, "step '%s': no receipt came",
			        r->plan->steps[i].id);
	}
}

static int exit_code(const struct run *r)
{
	if (r->taken_over)
		return 6;
	if (r->interrupted)
		return 128 + r->interrupted;
	if (!r->error.code)
		return 0;
	return err_exit(r->error.code);
}

static void explain_start(struct run *r)
{
	auto_close int fd = -1;

	if (r->was_up || r->attached || r->interrupted || !r->provider || !r->has_sandbox)
		return;
	fd = openat(r->dir.fd, "farstep.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	last_words_explain(fd, r->log_from, &r->error);
}

static void conclude(struct run *r)
{
	int64_t completed = 0;
	struct err e = ERR_INIT;
	struct buf b;
	struct jw w;

	/* What belongs to another owner by now is not ours to end. */
	if (!r->taken_over && !rundir_still_mine(&r->dir))
		take_over(r, "another farstep owns the run now");
	if (r->taken_over) {
		r->exit_code = 6;
		return;
	}
	explain_start(r);
	lose_unfinished(r);
	if (r->link)
		link_bytes(r->link, &r->bytes_up, &r->bytes_down);
	run_sandbox_end(r);
	run_phase(r, PHASES);
	r->exit_code = exit_code(r);
	for (size_t i = 0; i < r->plan->n_steps; i++)
		completed += r->steps[i].status == STATUS_SUCCESS && r->steps[i].finished;
	if (r->exit_code == 0) {
		run_tell(r, "run_complete", "{\"steps_completed\":%lld,\"duration_ms\":%.3f}",
		      (long long)completed, (double)(now_ns() - r->began_ns) / 1e6);
	} else {
		buf_init(&b, 4096);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "class", err_name(r->error.code));
		jw_kstr(&w, "error", r->error.msg);
		jw_end(&w);
		run_event(r, "run_error", &b);
		buf_release(&b);
	}
	run_tell(r, "run_end", "{\"exit_code\":%d,\"duration_ms\":%.3f}", r->exit_code,
	      (double)(now_ns() - r->began_ns) / 1e6);
	if (run_status_write(r, &e) < 0)
		log_error("%s", e.msg);
}

/* The proxy before us had everything home and was about to destroy the sandbox. */
static bool all_is_home(struct run *r)
{
	for (size_t i = 0; i < r->plan->n_steps; i++)
		if (!r->steps[i].finished)
			return false;
	for (size_t i = 0; i < r->plan->n_steps && !r->error.code; i++)
		if (r->steps[i].status != STATUS_SUCCESS && r->steps[i].status != STATUS_SKIPPED)
			err_set(&r->error, ERR_STEP_FAILED, 0, "step '%s': %s",
			        r->plan->steps[i].id, status_name(r->steps[i].status));
	return true;
}

static void tell_start(struct run *r)
{
	struct buf b;
	struct jw w;

	run_fields_begin(&w, &b);
	jw_kstr(&w, "pipeline", r->plan->name);
	jw_key(&w, "target");
	jw_strn(&w, r->o->target, ws_address_public(r->o->target));
	jw_kint(&w, "steps", (int64_t)r->plan->n_steps);
	run_fields_end(r, "run_start", &w);
}

/* Of --timeout, which counts from the first proxy's start on. */
static uint64_t rest_ms(const struct run *r)
{
	uint64_t end = r->started_us + (uint64_t)r->o->timeout_s * 1000000, now = now_real_us();

	return end > now ? (end - now) / 1000 + 1 : 1;
}

static int begin(struct run *r, struct err *e)
{
	r->loop = loop_new(e);
	r->ws = r->loop ? ws_client_new(r->loop, e) : NULL;
	if (!r->ws || loop_signal_start(r->loop, &r->on_int, SIGINT, on_signal, e) < 0 ||
	    loop_signal_start(r->loop, &r->on_term, SIGTERM, on_signal, e) < 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	run_display_open(r);
	if (!r->attached)
		tell_start(r);
	r->control = control_open(r, e);
	if (!r->control)
		return -1;
	run_phase(r, PHASE_CREATE);
	r->phase_start_ns = now_ns();
	if (r->attached && all_is_home(r)) {
		left_files_unasked(r);
		run_leave(r);
		return 0;
	}
	if (r->o->timeout_s &&
	    loop_timer_start(r->loop, &r->deadline, rest_ms(r), on_deadline, e) < 0)
		return -1;
	loop_timer_start(r->loop, &r->owner, OWNER_CHECK_MS, on_owner_check, NULL);
	if (r->reused && !r->attached) {
		struct buf b;
		struct jw w;

		run_fields_begin(&w, &b);
		jw_kstr(&w, "sandbox_id", r->sandbox.id);
		run_fields_end(r, "sandbox_reused", &w);
	}
	if (r->provider) {
		int ready = run_sandbox_begin(r, e);

		if (ready <= 0) /* else it comes back by run_go_on */
			return ready;
	}
	return run_go_on(r, e);
}

/* There is a sandbox, or a worker of the user's own. */
int run_go_on(struct run *r, struct err *e)
{
	if (run_journal_write(r, e) < 0)
		return -1;
	run_phase(r, PHASE_READY);
	if (open_link(r, e) < 0)
		return -1;
	/* Compressed while the sandbox comes up. */
	if (r->package.n && !r->sending && !(r->sending = sending_new(r, e)))
		return -1;
	if (r->sending)
		sending_start(r->sending);
	if (r->attached && run_journal_write(r, e) < 0)
		return -1;
	link_start(r->link);
	return 0;
}

int run_execute(struct run *r)
{
	struct err e = ERR_INIT;

	if (begin(r, &e) < 0) {
		if (!r->error.code)
			r->error = e;
		r->finished = true;
	}
	while (!r->finished) {
		if (ws_client_pass(r->ws) < 0) {
			err_set(&r->error, ERR_INTERNAL, 0, "the event loop failed");
			break;
		}
	}
	r->finished = true;
	conclude(r);
	return r->exit_code;
}
