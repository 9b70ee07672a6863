/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "proxy/env_json.h"
#include "proxy/last_words.h"
#include "proxy/mark.h"
#include "proxy/reuse.h"
#include "proxy/target.h"
#include "proxy/userkey.h"
#include "proxy/where.h"

#define OWNER_CHECK_MS   500
#define CLOSE_MS         12000 /* how long the worker may take to end a session */
#define FIRST_CONNECT_MS 30000
#define DESTROY_MS       10000

/* ---- events and phases ---- */

void run_event(struct run *r, const char *name, const struct buf *fields)
{
	struct err e = ERR_INIT;
	struct buf b;
	const char *text = NULL;

	if (r->taken_over)
		return;
	buf_init(&b, LIMIT_TEXT + 1);
	if (fields && buf_put(&b, buf_data(fields), buf_len(fields), &e) == 0)
		text = buf_cstr(&b, &e);
	if (events_put(&r->ev, name, text, &e) < 0)
		log_error("event %s: %s", name, e.msg);
	r->events_seen++;
	buf_release(&b);
}

static void PRINTF_LIKE(3, 4) event(struct run *r, const char *name, const char *fmt, ...)
{
	struct buf b;
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_init(&b, sizeof(text) + 1);
	buf_puts(&b, text, NULL);
	run_event(r, name, &b);
	buf_release(&b);
}

/* Events with texts that somebody else wrote: names, ids, versions. */
static void begin_fields(struct jw *w, struct buf *b)
{
	buf_init(b, LIMIT_TEXT);
	jw_init(w, b);
	jw_obj(w);
}

static void end_fields(struct run *r, const char *name, struct jw *w)
{
	struct err e = ERR_INIT;

	jw_end(w);
	if (jw_done(w, &e) < 0)
		log_error("event %s: %s", name, e.msg);
	else
		run_event(r, name, w->out);
	buf_release(w->out);
}

static double ms_since(uint64_t ns)
{
	return (double)(now_ns() - ns) / 1e6;
}

void run_phase(struct run *r, enum phase p)
{
	uint64_t now = now_ns();
	static const uint64_t none;

	for (int i = 0; i < PHASES; i++)
		if (r->phase_ns[i] && i != (int)p) {
			r->phase_ms[i] += (double)(now - r->phase_ns[i]) / 1e6;
			r->phase_ns[i] = none;
		}
	if (p < PHASES && !r->phase_ns[p]) /* it may have begun already */
		r->phase_ns[p] = now;
}

/* ---- stopping ---- */

static void leave_loop(struct run *r)
{
	r->finished = true;
}

static void on_shutdown_late(struct loop_timer *t)
{
	leave_loop((struct run *)((char *)t - offsetof(struct run, shutdown)));
}

static void on_closed(struct call *c, const json *result, const struct err *error)
{
	struct run *r = (struct run *)((char *)c - offsetof(struct run, close_call));

	(void)error;
	r->closed = result != NULL;
	leave_loop(r);
}

/* The sandbox outlives the run, unless that was cut short. */
static bool stays(const struct run *r)
{
	return r->reused || (r->provider && r->o->keep && !r->stopping);
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
	if (r->provider && !stays(r)) {
		leave_loop(r);
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
		leave_loop(r);
	}
}

static void on_signal(struct loop_signal *s)
{
	struct run *r = s->sig == SIGINT
	                        ? (struct run *)((char *)s - offsetof(struct run, on_int))
	                        : (struct run *)((char *)s - offsetof(struct run, on_term));
	struct err e = ERR_INIT;

	if (r->interrupted) { /* twice: no patience left; the sandbox is still destroyed */
		leave_loop(r);
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
	leave_loop(r);
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
		event(r, "reattached", "{\"generation\":%lld}", (long long)generation);
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
		event(r, "reattached", "{\"generation\":%lld}", (long long)generation);
	} else {
		begin_fields(&w, &b);
		jw_kint(&w, "pid", pid);
		jw_kstr(&w, "version", version);
		jw_kint(&w, "generation", generation);
		jw_knum(&w, "duration_ms", ms_since(r->phase_start_ns));
		end_fields(r, "worker_started", &w);
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
	event(r, "heartbeat_lost", "{\"code\":%d}", code);
}

static int on_event(void *arg, const json *params, struct err *e)
{
	struct run *r = arg;
	int64_t wseq = 0;

	if (events_put_worker(&r->ev, params, e) < 0)
		return -1;
	r->events_seen++;
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
		leave_loop(r);
		return;
	}
	if (!r->error.code || e->code != ERR_LOST)
		r->error = *e;
	/* Its proxy ended before it opened one, or the worker's time was over. */
	if (r->attached && r->error.code == ERR_NOT_FOUND)
		r->error.code = ERR_LOST;
	leave_loop(r);
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
		.first_ms = FIRST_CONNECT_MS,
		.give_up_ms = LEASE_DEFAULT_MS,
	};

	if (env_json(r->o, false, &env, e) < 0 || env_json(r->o, true, &secrets, e) < 0)
		return -1;
	spec.env = env;
	spec.secrets = secrets;
	r->link = link_new(r->loop, r->ws, &spec, &hooks, e);
	env_json_free(env);
	env_json_free(secrets);
	if (!r->link)
		return -1;
	link_on_room(r->link, on_room);
	return 0;
}

/* ---- the sandbox ---- */

static void tell_created(struct run *r)
{
	event(r, "sandbox_created",
	      "{\"sandbox_id\":\"%s\",\"template\":\"%s\",\"duration_ms\":%.3f}", r->sandbox.id,
	      r->o->template_name ? r->o->template_name : r->provider->name,
	      (double)(now_ns() - r->phase_start_ns) / 1e6);
}

static int make_spec(struct run *r, struct err *e)
{
	uint8_t raw[SHA256_LEN];

	if (worker_path(r->worker, e) < 0)
		return -1;
	sha256(r->token, strlen(r->token), raw);
	hex_encode(raw, sizeof(raw), r->token_digest);
	r->spec = (struct sandbox_spec){
		.run = r->run,
		.key_id = r->key_id,
		.worker_path = r->worker,
		.token_sha256 = r->token_digest,
		.state_dir = r->state_dir,
		.socket_dir = r->socket_dir,
		.log_fd = -1,
	};
	target_spec(r->o, &r->spec);
	return r->provider->check(&r->spec, e);
}

/* For `farstep sandboxes`, from another terminal. */
static int write_mark(struct run *r, struct err *e)
{
	struct mark m = { .sandbox = r->sandbox,
		          .keep = r->o->keep,
		          .born_us = r->started_us };

	snprintf(m.key_id, sizeof(m.key_id), "%s", r->key_id);
	snprintf(m.run_dir, sizeof(m.run_dir), "%s", r->dir.path);
	return mark_write(r->socket_dir, &m, e);
}

/* On this machine: done at once. */
static int create_sandbox(struct run *r, struct err *e)
{
	auto_close int log_fd =
		openat(r->dir.fd, "farstep.log",
	               O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	int ret;

	r->log_from = log_fd >= 0 ? lseek(log_fd, 0, SEEK_END) : 0;
	if (mkdir(r->state_dir, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYS, errno, "%s", r->state_dir);
	r->spec.log_fd = log_fd;
	ret = r->provider->create(r->loop, &r->spec, &r->sandbox, e);
	/* Even a failed one may have left something: it is destroyed like any other. */
	r->has_sandbox = r->sandbox.id[0] != 0;
	if (ret == 0 && (ret = write_mark(r, e)) == 0)
		tell_created(r);
	return ret;
}

static int go_on(struct run *r, struct err *e);

/* The package is compressed while the provider makes the sandbox. */
static void on_asked(void *user)
{
	struct run *r = user;
	struct err e = ERR_INIT;

	if (!r->package.n || (r->sending = sending_new(r, &e)))
		return;
	if (!r->error.code)
		r->error = e;
	leave_loop(r);
}

static void on_make_step(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes)
{
	struct run *r = user;
	struct err e = ERR_INIT;

	(void)took_ms, (void)bytes;
	if (step == MADE_UPLOAD)
		run_phase(r, PHASE_START);
	if (step != MADE_SANDBOX)
		return;
	tell_created(r);
	run_phase(r, PHASE_UPLOAD);
	/* It is known by its own id from here on. */
	if (run_journal_write(r, &e) < 0 || write_mark(r, &e) < 0)
		log_error("%s", e.msg);
}

static void on_made(void *user, const struct err *err)
{
	struct run *r = user;
	struct err e = ERR_INIT;

	r->has_sandbox = r->sandbox.id[0] != 0;
	if (!err && go_on(r, &e) == 0)
		return;
	if (!r->error.code)
		r->error = err ? *err : e;
	leave_loop(r);
}

static void on_worker_end(void *user, const struct err *why)
{
	struct run *r = user;

	if (r->was_up) { /* the link knows better how things stand */
		log_warn("%s", why->msg);
		return;
	}
	if (!r->error.code)
		r->error = *why;
	leave_loop(r);
}

/* Elsewhere: on_made goes on. */
static int make_sandbox(struct run *r, struct err *e)
{
	const struct make_hooks hooks = { r, on_asked, on_make_step, on_made, on_worker_end };

	r->kept = r->provider->make(r->loop, &r->spec, &r->sandbox, &hooks, e);
	/* What was asked for is journalled before it exists. */
	r->has_sandbox = r->sandbox.id[0] != 0;
	return r->kept && run_journal_write(r, e) == 0 ? write_mark(r, e) : -1;
}

/* True: it is, for the next one who names it. */
static bool leave_sandbox(struct run *r)
{
	uint32_t idle_ms = keep_idle_ms(r->o);
	struct err e = ERR_INIT;
	struct buf b;
	struct jw w;

	if (!stays(r) || (!r->closed && !r->reused))
		return false;
	if (r->provider->leave && r->provider->leave(&r->sandbox, idle_ms, DESTROY_MS, &e) < 0)
		log_warn("sandbox %s: %s", r->sandbox.id, e.msg);
	r->stayed = true;
	begin_fields(&w, &b);
	jw_kstr(&w, "sandbox_id", r->sandbox.id);
	jw_kint(&w, "idle_ms", idle_ms);
	end_fields(r, "sandbox_kept", &w);
	return true;
}

static void destroy_sandbox(struct run *r)
{
	struct err e = ERR_INIT;
	uint64_t begun = now_ns();
	struct buf b;
	struct jw w;

	if (r->provider && r->kept)
		r->provider->let_go(r->kept);
	r->kept = NULL;
	if (!r->provider || r->taken_over)
		return;
	if (!r->has_sandbox) {
		mark_remove(r->socket_dir);
		return;
	}
	run_phase(r, PHASE_DESTROY);
	if (leave_sandbox(r))
		return;
	if (r->provider->destroy(&r->sandbox, DESTROY_MS, &e) < 0) {
		log_error("sandbox %s: %s", r->sandbox.id, e.msg);
		if (!r->error.code)
			r->error = e;
		return;
	}
	mark_remove(r->socket_dir);
	begin_fields(&w, &b);
	jw_kstr(&w, "sandbox_id", r->sandbox.id);
	jw_knum(&w, "duration_ms", ms_since(begun));
	end_fields(r, "sandbox_destroyed", &w);
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
	destroy_sandbox(r);
	run_phase(r, PHASES);
	r->exit_code = exit_code(r);
	for (size_t i = 0; i < r->plan->n_steps; i++)
		completed += r->steps[i].status == STATUS_SUCCESS && r->steps[i].finished;
	if (r->exit_code == 0) {
		event(r, "run_complete", "{\"steps_completed\":%lld,\"duration_ms\":%.3f}",
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
	event(r, "run_end", "{\"exit_code\":%d,\"duration_ms\":%.3f}", r->exit_code,
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

	begin_fields(&w, &b);
	jw_kstr(&w, "pipeline", r->plan->name);
	jw_kstr(&w, "target", r->o->target);
	jw_kint(&w, "steps", (int64_t)r->plan->n_steps);
	end_fields(r, "run_start", &w);
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
		leave_loop(r);
		return 0;
	}
	if (r->o->timeout_s &&
	    loop_timer_start(r->loop, &r->deadline, (uint64_t)r->o->timeout_s * 1000, on_deadline,
	                     e) < 0)
		return -1;
	loop_timer_start(r->loop, &r->owner, OWNER_CHECK_MS, on_owner_check, NULL);
	if (r->reused && !r->attached) {
		struct buf b;
		struct jw w;

		begin_fields(&w, &b);
		jw_kstr(&w, "sandbox_id", r->sandbox.id);
		end_fields(r, "sandbox_reused", &w);
	}
	if (r->provider && !r->attached && !r->reused) {
		if (run_journal_write(r, e) < 0 || make_spec(r, e) < 0 ||
		    mark_make(r->socket_dir, &r->mark, e) < 0)
			return -1;
		if (r->provider->make)
			return make_sandbox(r, e);
		if (create_sandbox(r, e) < 0)
			return -1;
	} else if (r->provider && r->provider->keep) {
		r->kept = r->provider->keep(r->loop, &r->sandbox, e);
		if (!r->kept)
			return -1;
	}
	return go_on(r, e);
}

/* There is a sandbox, or a worker of the user's own. */
static int go_on(struct run *r, struct err *e)
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

/* ---- making and taking over ---- */

static int common(struct run *r, struct err *e)
{
	char base[256];
	const char *token = getenv("FARSTEP_TOKEN");

	r->began_ns = now_ns();
	if (userkey_load(r->o->key_file, r->user_key, e) < 0 || runtime_dir(base, e) < 0)
		return -1;
	key_id(r->user_key, r->key_id);
	if (r->o->sandbox) {
		if (reuse_find(r->o, r->user_key, &r->sandbox, &r->mark, e) < 0)
			return -1;
		r->has_sandbox = r->reused = true;
	} else if (r->has_sandbox && r->sandbox.run[0]) {	/* attached */
		char dir[256];

		if (mark_dir(r->sandbox.run, dir, e) < 0)
			return -1;
		mark_hold(dir, &r->mark, NULL);	/* of another machine: there is none */
	}
	key_token(r->user_key, r->sandbox.run[0] ? r->sandbox.run : r->run, r->token);
	key_session(r->user_key, r->run, r->session_key);
	snprintf(r->socket_dir, sizeof(r->socket_dir), "%.180s/%s", base, r->run);
	snprintf(r->state_dir, sizeof(r->state_dir), "%s/sandbox", r->dir.path);
	if (strncmp(r->o->target, "unix:", 5) == 0 || strncmp(r->o->target, "ws://", 5) == 0 ||
	    strncmp(r->o->target, "wss://", 6) == 0) {
		if (!token || !*token || strlen(token) >= SHA256_HEX)
			return err_set(e, ERR_DENIED, 0,
			               "target %s: put the worker's token (1 to 64 bytes) into "
			               "FARSTEP_TOKEN",
			               r->o->target);
		snprintf(r->token, sizeof(r->token), "%s", token);
		return 0;
	}
	r->provider = provider_find(r->o->target, e);
	return r->provider ? 0 : -1;
}

static int take_secrets(struct run *r, struct err *e)
{
	r->secrets = mask_set_new();
	if (!r->secrets)
		return err_set(e, ERR_NO_MEMORY, 0, "secrets");
	for (size_t i = 0; i < r->o->n_env; i++)
		if (mask_set_add(r->secrets, r->o->env[i].value, r->o->env[i].secret, e) < 0)
			return -1;
	return 0;
}

static int open_events(struct run *r, struct err *e)
{
	if (events_open(&r->ev, r->dir.fd, r->run, r->secrets, e) < 0)
		return -1;
	if (!r->o->events)
		return 0;
	if (strcmp(r->o->events, "-") == 0)
		r->ev.live_fd = 1;
	else
		r->ev.live_fd = open(r->o->events, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return r->ev.live_fd < 0 ? err_set(e, ERR_SYS, errno, "--events %s", r->o->events) : 0;
}

static int make_package(struct run *r, struct err *e)
{
	package_init(&r->package);
	for (size_t i = 0; i < r->plan->n_files; i++)
		if (package_glob(&r->package, r->plan->dir, r->plan->files[i], e) < 0)
			return -1;
	return package_index(&r->package, e);
}

static int make_steps(struct run *r, struct err *e)
{
	if (!r->steps)
		r->steps = calloc(r->plan->n_steps + 1, sizeof(*r->steps));
	if (!r->steps)
		return err_set(e, ERR_NO_MEMORY, 0, "steps");
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		r->steps[i].run = r;
		r->steps[i].index = (int)i;
	}
	if (schedule_init(&r->schedule, r->plan, r->o->jobs ? r->o->jobs : 1, e) < 0)
		return -1;
	r->has_schedule = true;
	return 0;
}

int run_prepare(struct run *r, struct options *o, struct plan *plan, struct err *e)
{
	char root[1024];

	r->o = o;
	r->plan = plan;
	r->dir.fd = r->dir.lock_fd = r->mark = -1;
	r->ev.fd = r->ev.metrics_fd = r->ev.live_fd = -1;
	r->started_us = now_real_us();
	if (run_id_new(r->run, e) < 0 || take_secrets(r, e) < 0 || make_package(r, e) < 0 ||
	    rundir_root(o->run_dir, root, true, e) < 0 ||
	    rundir_create(&r->dir, root, r->run, e) < 0 || common(r, e) < 0 ||
	    make_steps(r, e) < 0 || open_events(r, e) < 0)
		return -1;
	return run_files_write_plan(r, e);
}

/* Without an address it was asked for, and nobody knows what came of it: then that goes. */
static int end_unborn(struct run *r, struct err *e)
{
	struct err why = ERR_INIT;

	if (r->has_sandbox && r->provider->destroy(&r->sandbox, DESTROY_MS, &why) < 0)
		log_error("what run %s asked for may be there still: %s", r->run, why.msg);
	control_forget(r);
	return err_set(e, ERR_LOST, 0,
	               "run %s had no sandbox yet when its proxy ended: start it again", r->run);
}

int run_attach(struct run *r, struct options *o, const char *path, bool force, struct err *e)
{
	r->o = o;
	r->attached = true;
	r->dir.fd = r->dir.lock_fd = r->mark = -1;
	r->ev.fd = r->ev.metrics_fd = r->ev.live_fd = -1;
	if (rundir_open(&r->dir, path, e) < 0 || rundir_lock(&r->dir, force, e) < 0)
		return -1;
	snprintf(r->run, sizeof(r->run), "%s", r->dir.run);
	if (take_secrets(r, e) < 0 || run_journal_read(r, e) < 0 || common(r, e) < 0 ||
	    make_steps(r, e) < 0 || open_events(r, e) < 0)
		return -1;
	if (r->provider && (!r->has_sandbox || !r->sandbox.address[0]))
		return end_unborn(r, e);
	/* The archive is there until the worker has it. */
	package_init(&r->package);
	if (faccessat(r->dir.fd, "journal/package.tar.zst", F_OK, 0) == 0)
		return make_package(r, e);
	return 0;
}

void run_release(struct run *r)
{
	if (r->has_display)
		display_close(&r->display);
	control_close(r->control);
	if (r->loop) {
		loop_timer_stop(&r->deadline);
		loop_timer_stop(&r->owner);
		loop_timer_stop(&r->step_soon);
		loop_timer_stop(&r->shutdown);
		loop_timer_stop(&r->left_late);
		loop_signal_stop(&r->on_int);
		loop_signal_stop(&r->on_term);
	}
	if (r->plan)
		run_steps_release(r);
	if (r->provider && r->kept)
		r->provider->let_go(r->kept);
	sending_free(r->sending);
	link_free(r->link);
	ws_client_free(r->ws);
	if (r->has_schedule)
		schedule_release(&r->schedule);
	if (r->dir.fd >= 0)
		events_close(&r->ev);
	package_release(&r->package);
	mask_set_free(r->secrets);
	close_fd(&r->mark);
	rundir_close(&r->dir);
	plan_free(r->plan);
	loop_free(r->loop);
	wipe(r->user_key, sizeof(r->user_key));
	wipe(r->token, sizeof(r->token));
	wipe(r->session_key, sizeof(r->session_key));
}

void run_display_open(struct run *r)
{
	/* A pure result on standard output needs a silent standard error no less. */
	if (r->o->json || r->o->verbose < 0)
		return;
	display_open(&r->display, 2, r->o->verbose, (int)r->plan->n_steps);
	r->has_display = true;
	r->ev.on_event = display_event;
	r->ev.arg = &r->display;
}
