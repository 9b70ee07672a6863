/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep exec: one command in a sandbox; its standard streams and exit code are yours.
 *
 * No run directory: nothing is written but what the command writes.  Bytes pass through raw,
 * and still the exit code is only passed on when the receipt proves that all of them came. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/keys.h"
#include "proxy/cmd/cmd.h"
#include "proxy/env_json.h"
#include "proxy/last_words.h"
#include "proxy/link.h"
#include "proxy/mark.h"
#include "proxy/reuse.h"
#include "proxy/rundir.h"
#include "proxy/stdin_source.h"
#include "proxy/step_run.h"
#include "proxy/target.h"
#include "proxy/userkey.h"
#include "proxy/where.h"
#include "proxy/ws_address.h"
#include "sdk-wrapper/provider.h"

#define FIRST_CONNECT_MS 30000
#define DESTROY_MS       10000
#define CLOSE_MS         12000 /* how long a worker may take to end the session */
#define STEP             "exec"
enum { EXIT_OURS = 125, EXIT_DEADLINE = 124 };

struct exec {
	struct options *o;
	struct loop *loop;
	struct ws_client *ws;
	struct link *link;
	struct mask_set *secrets; /* for the trace alone */
	struct rpc_trace *trace;
	const struct provider *provider;
	struct sandbox_spec spec; /* while it is made, and what it points to */
	char worker[1024], token_digest[SHA256_HEX], key_id[17];
	void *kept;  /* by a provider that takes its time */
	bool making; /* on_made goes on */
	bool reused; /* --sandbox */
	bool closed; /* the session has ended, says the worker */
	int mark;    /* what says that we use it; -1: none */
	struct sandbox sandbox;
	bool has_sandbox, finished, was_up;
	int log_fd; /* a memory file for the worker's standard error; -1: none */
	char run[LIMIT_RUN_ID + 1], token[SHA256_HEX], key[SHA256_HEX], dir[340], state_dir[360];
	struct sink out, err;
	struct fetch fetch;
	struct stdin_source *input;
	struct step_run sr;
	char *config;
	struct loop_signal on_int, on_term;
	struct loop_timer deadline;
	struct call cancel, close, idle;
	struct err error;
	bool timed_out;
	int interrupted;
};

static void leave(struct exec *x)
{
	x->finished = true;
}

static void on_closed(struct call *c, const json *result, const struct err *error)
{
	struct exec *x = (struct exec *)((char *)c - offsetof(struct exec, close));

	(void)error;
	x->closed = result != NULL;
	leave(x);
}

static void on_close_late(struct loop_timer *t)
{
	leave((struct exec *)((char *)t - offsetof(struct exec, deadline)));
}

/* The sandbox outlives the command, unless that was cut short. */
static bool stays(const struct exec *x)
{
	return x->reused || (x->provider && x->o->keep && !x->interrupted && !x->timed_out);
}

static int render_idle(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct exec *x = (struct exec *)((char *)c - offsetof(struct exec, idle));

	(void)l;
	return buf_printf(out, e, "{\"lease_ms\":%u}", keep_idle_ms(x->o));
}

static void on_idle_set(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result;
	if (error)
		log_warn("lease: %s", error->msg);
}

/* A sandbox goes with all that is in it; where the worker stays, its session is ended. */
static void on_step_done(struct step_run *sr)
{
	struct exec *x = sr->user;

	loop_timer_stop(&x->deadline);
	if (x->provider && !stays(x)) {
		leave(x);
		return;
	}
	if (x->provider) {
		x->idle.method = "session.renew";
		x->idle.render = render_idle;
		x->idle.on_done = on_idle_set;
		link_call(x->link, &x->idle);
	}
	x->close.method = "session.close";
	x->close.on_done = on_closed;
	link_call(x->link, &x->close);
	loop_timer_start(x->loop, &x->deadline, CLOSE_MS, on_close_late, NULL);
}

static void on_up(void *arg, const json *hello, const json *result, bool again)
{
	struct exec *x = arg;

	(void)hello;
	x->was_up = true;
	if (again) {
		step_run_resume(&x->sr);
		return;
	}
	if (!x->has_sandbox)
		snprintf(x->sandbox.id, sizeof(x->sandbox.id), "%s",
		         json_string(json_get(result, "sandbox")));
}

static void on_down(void *arg, int code, const char *reason)
{
	(void)arg;
	log_warn("the link to the worker is down (%d %s): reconnecting", code, reason);
}

static int on_event(void *arg, const json *params, struct err *e)
{
	struct exec *x = arg;
	int64_t wseq = 0;

	(void)e;
	json_opt_int(params, "", "wseq", 0, JSON_INT_MAX, &wseq, NULL);
	step_run_events(&x->sr, (uint64_t)wseq + 1);
	return 0;
}

static void on_fatal(void *arg, const struct err *e)
{
	struct exec *x = arg;

	if (!x->close.method) /* else the session was to end, and has */
		x->error = *e;
	leave(x);
}

static bool is_there(void *arg)
{
	struct exec *x = arg;

	if (!x->provider)
		return true;
	return (x->kept ? x->provider->look(x->kept, NULL) : x->provider->state(&x->sandbox)) !=
	       SANDBOX_GONE;
}

static void on_room(void *arg)
{
	struct exec *x = arg;

	if (x->input)
		stdin_source_pump(x->input);
}

static int render_cancel(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	(void)c, (void)l;
	return buf_puts(out, "{\"step\":\"" STEP "\",\"grace_ms\":2000}", e);
}

static void on_cancelled(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result, (void)error;
}

static void stop(struct exec *x)
{
	if (x->cancel.method || x->close.method || !x->link || !link_is_up(x->link)) {
		leave(x);
		return;
	}
	x->cancel.method = "step.cancel";
	x->cancel.render = render_cancel;
	x->cancel.on_done = on_cancelled;
	link_call(x->link, &x->cancel);
}

static void on_signal(struct loop_signal *s)
{
	struct exec *x = s->sig == SIGINT
	                         ? (struct exec *)((char *)s - offsetof(struct exec, on_int))
	                         : (struct exec *)((char *)s - offsetof(struct exec, on_term));

	if (x->interrupted)
		leave(x);
	x->interrupted = s->sig;
	stop(x);
}

static void on_deadline(struct loop_timer *t)
{
	struct exec *x = (struct exec *)((char *)t - offsetof(struct exec, deadline));

	x->timed_out = true;
	err_set(&x->error, ERR_DEADLINE, 0, "the deadline (--timeout %lld) has passed",
	        (long long)x->o->timeout_s);
	stop(x);
	/* What the grace and the worker may take; then it is over all the same. */
	if (!x->finished)
		loop_timer_start(x->loop, &x->deadline, 8000, on_deadline, NULL);
}

static char *print_config(const struct options *o, struct err *e)
{
	struct buf b;
	struct jw w;
	char *text;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_karr(&w, "argv");
	for (int i = 0; i < o->n_args; i++)
		jw_str(&w, o->args[i]);
	jw_end(&w);
	jw_end(&w);
	text = jw_done(&w, e) < 0 ? NULL : buf_take_str(&b, e);
	buf_release(&b);
	return text;
}

static int go_on(struct exec *x, struct err *e);

/* For `farstep sandboxes`, from another terminal. */
static int write_mark(struct exec *x, struct err *e)
{
	struct mark m = { .sandbox = x->sandbox,
		          .keep = x->o->keep,
		          .born_us = now_real_us() };

	snprintf(m.key_id, sizeof(m.key_id), "%s", x->key_id);
	return mark_write(x->dir, &m, e);
}

static void on_make_step(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes)
{
	struct exec *x = user;
	struct err e = ERR_INIT;

	(void)took_ms, (void)bytes;
	if (step == MADE_SANDBOX && write_mark(x, &e) < 0)
		log_error("%s", e.msg);
}

static void on_made(void *user, const struct err *err)
{
	struct exec *x = user;

	x->making = false;
	x->has_sandbox = x->sandbox.id[0] != 0;
	if (err)
		x->error = *err;
	else if (go_on(x, &x->error) == 0)
		return;
	leave(x);
}

static void on_worker_end(void *user, const struct err *why)
{
	struct exec *x = user;

	if (x->was_up) { /* the link knows better how things stand */
		log_warn("%s", why->msg);
		return;
	}
	x->error = *why;
	leave(x);
}

static int create(struct exec *x, const uint8_t *user_key, struct err *e)
{
	const struct make_hooks hooks = { .user = x,
		                          .on_step = on_make_step,
		                          .on_done = on_made,
		                          .on_worker_end = on_worker_end };
	uint8_t raw[SHA256_LEN];

	if (worker_path(x->worker, e) < 0)
		return -1;
	sha256(x->token, strlen(x->token), raw);
	hex_encode(raw, sizeof(raw), x->token_digest);
	key_id(user_key, x->key_id);
	x->log_fd = memfd_create("farstep.log", MFD_CLOEXEC);
	x->spec = (struct sandbox_spec){
		.run = x->run,
		.key_id = x->key_id,
		.worker_path = x->worker,
		.token_sha256 = x->token_digest,
		.state_dir = x->state_dir,
		.socket_dir = x->dir,
		.log_fd = x->o->verbose > 0 ? 2 : x->log_fd,
	};
	target_spec(x->o, &x->spec);
	if (x->provider->check(&x->spec, e) < 0 || mark_make(x->dir, &x->mark, e) < 0)
		return -1;
	if (x->provider->make) {
		x->kept = x->provider->make(x->loop, &x->spec, &x->sandbox, &hooks, e);
		x->has_sandbox = x->sandbox.id[0] != 0;
		x->making = x->kept != NULL;
		return x->kept ? write_mark(x, e) : -1;
	}
	if (mkdir(x->state_dir, 0700) < 0)
		return err_set(e, ERR_SYS, errno, "%s", x->state_dir);
	if (x->provider->create(x->loop, &x->spec, &x->sandbox, e) < 0) {
		x->has_sandbox = x->sandbox.id[0] != 0;
		return -1;
	}
	x->has_sandbox = true;
	return write_mark(x, e);
}

static int reuse(struct exec *x, const uint8_t *user_key, struct err *e)
{
	if (reuse_find(x->o, user_key, &x->sandbox, &x->mark, e) < 0)
		return -1;
	x->has_sandbox = x->reused = true;
	key_token(user_key, x->sandbox.run, x->token);
	if (x->provider->keep)
		x->kept = x->provider->keep(x->loop, &x->sandbox, e);
	return x->provider->keep && !x->kept ? -1 : 0;
}

static int find_worker(struct exec *x, struct err *e)
{
	uint8_t user_key[USER_KEY_LEN];
	const char *token = getenv("FARSTEP_TOKEN");
	char base[256];
	int r = 0;

	if (userkey_load(x->o->key_file, user_key, e) < 0 || runtime_dir(base, e) < 0 ||
	    run_id_new(x->run, e) < 0)
		return -1;
	key_token(user_key, x->run, x->token);
	key_session(user_key, x->run, x->key);
	snprintf(x->dir, sizeof(x->dir), "%s/%s", base, x->run);
	snprintf(x->state_dir, sizeof(x->state_dir), "%s/sandbox", x->dir);
	if (strncmp(x->o->target, "unix:", 5) == 0 || strncmp(x->o->target, "ws://", 5) == 0 ||
	    strncmp(x->o->target, "wss://", 6) == 0) {
		if (!token || !*token || strlen(token) >= sizeof(x->token))
			r = err_set(e, ERR_DENIED, 0,
			            "target %.*s: put the worker's token (1 to 64 bytes) into "
			            "FARSTEP_TOKEN",
			            (int)ws_address_public(x->o->target), x->o->target);
		else
			snprintf(x->token, sizeof(x->token), "%s", token);
	} else {
		x->provider = provider_find(x->o->target, e);
		if (!x->provider)
			r = -1;
		else
			r = x->o->sandbox ? reuse(x, user_key, e) : create(x, user_key, e);
	}
	wipe(user_key, sizeof(user_key));
	return r;
}

/* What it prints is the user's own; only a trace must not show what --env brings. */
static int open_trace(struct exec *x, struct err *e)
{
	if (!rpc_trace_wanted())
		return 0;
	x->secrets = mask_set_new();
	if (!x->secrets)
		return err_set(e, ERR_NO_MEMORY, 0, "secrets");
	for (size_t i = 0; i < x->o->n_env; i++)
		if (mask_set_add(x->secrets, x->o->env[i].value, x->o->env[i].secret, e) < 0)
			return -1;
	x->trace = rpc_trace_open(x->secrets, e);
	return x->trace ? 0 : -1;
}

static int open_link(struct exec *x, struct err *e)
{
	const struct link_hooks hooks = { x, on_up, on_down, on_event, on_fatal, is_there };
	char *env = NULL, *secrets = NULL;
	struct link_spec spec = {
		.address = x->provider ? x->sandbox.address : x->o->target,
		.token = x->token,
		.session = x->run,
		.run = x->run,
		.key = x->key,
		.sandbox = x->provider ? x->sandbox.id : NULL,
		.lease_ms = LEASE_DEFAULT_MS,
		.memory_mb = x->o->memory_mb,
		.first_ms = FIRST_CONNECT_MS,
		.give_up_ms = LEASE_DEFAULT_MS,
	};

	if (open_trace(x, e) < 0)
		return -1;
	spec.trace = x->trace;
	if (env_json(x->o, false, &env, e) == 0 && env_json(x->o, true, &secrets, e) == 0) {
		spec.env = env;
		spec.secrets = secrets;
		x->link = link_new(x->loop, x->ws, &spec, &hooks, e);
	}
	env_json_free(env);
	env_json_free(secrets);
	if (!x->link)
		return -1;
	link_on_room(x->link, on_room);
	return 0;
}

static int begin(struct exec *x, struct err *e)
{
	signal(SIGPIPE, SIG_IGN);
	x->loop = loop_new(e);
	if (!x->loop || find_worker(x, e) < 0)
		return -1;
	x->ws = ws_client_new(x->loop, e);
	if (!x->ws || loop_signal_start(x->loop, &x->on_int, SIGINT, on_signal, e) < 0 ||
	    loop_signal_start(x->loop, &x->on_term, SIGTERM, on_signal, e) < 0)
		return -1;
	if (x->o->timeout_s &&
	    loop_timer_start(x->loop, &x->deadline, (uint64_t)x->o->timeout_s * 1000, on_deadline,
	                     e) < 0)
		return -1;
	return x->making ? 0 : go_on(x, e);
}

/* There is a sandbox, or a worker of the user's own. */
static int go_on(struct exec *x, struct err *e)
{
	if (open_link(x, e) < 0 || sink_open_fd(&x->out, x->loop, 1, e) < 0 ||
	    sink_open_fd(&x->err, x->loop, 2, e) < 0)
		return -1;
	fetch_init(&x->fetch, -1, STEP);
	x->input = stdin_source_new(x->loop, 0, e);
	x->config = print_config(x->o, e);
	if (!x->input || !x->config)
		return -1;
	x->sr = (struct step_run){
		.id = STEP,
		.driver = "exec",
		.attempt = 1,
		.config = x->config,
		.grace_ms = -1,
		.linger_ms = -1,
		.input = x->input,
		.run = x->run,
		.session = x->run,
		.session_key = x->key,
		.sandbox = x->provider ? x->sandbox.id : NULL,
		.out = &x->out,
		.err = &x->err,
		.fetch = &x->fetch,
		.on_done = on_step_done,
		.user = x,
	};
	receipt_init(&x->sr.receipt);
	link_start(x->link);
	step_run_start(&x->sr, x->loop, x->link);
	return 0;
}

/* True: it is, for the next one who names it. */
static bool leave_sandbox(struct exec *x)
{
	struct err e = ERR_INIT;

	if (!x->has_sandbox || !stays(x) || (!x->closed && !x->reused))
		return false;
	if (x->provider->leave &&
	    x->provider->leave(&x->sandbox, keep_idle_ms(x->o), DESTROY_MS, &e) < 0)
		log_warn("sandbox %s: %s", x->sandbox.id, e.msg);
	if (x->o->keep && x->o->verbose >= 0)
		fprintf(stderr,
		        "farstep: sandbox %s stays for %u s: use it with --sandbox, end it with "
		        "farstep sandboxes kill\n",
		        x->sandbox.id, keep_idle_ms(x->o) / 1000);
	return true;
}

static void end(struct exec *x)
{
	struct err e = ERR_INIT;

	if (x->kept)
		x->provider->let_go(x->kept);
	x->kept = NULL;
	if (leave_sandbox(x))
		return;
	if (x->has_sandbox && x->provider->destroy(&x->sandbox, DESTROY_MS, &e) < 0) {
		log_error("sandbox %s: %s", x->sandbox.id, e.msg);
		return; /* what is known of it stays, for farstep sandboxes */
	}
	if (x->dir[0]) {
		fs_remove_tree(AT_FDCWD, x->state_dir, NULL);
		mark_remove(x->dir);
	}
}

/* The command's own code is passed through only when it is proved. */
static int verdict(struct exec *x)
{
	const struct receipt *rc = &x->sr.receipt;

	if (x->timed_out)
		return EXIT_DEADLINE;
	if (x->interrupted)
		return 128 + x->interrupted;
	if (x->error.code)
		return EXIT_OURS;
	if (!x->sr.verified) {
		x->error = x->sr.error;
		return EXIT_OURS;
	}
	if (rc->exit.kind == EXIT_SPAWN_FAILED) {
		fprintf(stderr, "farstep: %s\n", rc->error);
		return rc->exit.code;
	}
	return rc->exit.code;
}

static void write_status(const struct exec *x, int code)
{
	struct buf b;
	struct jw w;
	struct err e = ERR_INIT;

	if (!x->o->status_file)
		return;
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "run_id", x->run);
	jw_kint(&w, "exit_code", code);
	jw_kbool(&w, "verified", x->sr.verified);
	jw_kstr(&w, "class", x->error.code ? err_name(x->error.code) : NULL);
	jw_kstr(&w, "message", x->error.code ? x->error.msg : NULL);
	jw_kstr(&w, "receipt", x->sr.receipt_text);
	jw_kstr(&w, "sandbox_id", x->has_sandbox ? x->sandbox.id : NULL);
	jw_end(&w);
	if (jw_done(&w, &e) < 0 ||
	    fs_write(AT_FDCWD, x->o->status_file, buf_data(&b), buf_len(&b), 0600, false, &e) < 0)
		fprintf(stderr, "farstep: %s: %s\n", x->o->status_file, e.msg);
	buf_release(&b);
}

static void release(struct exec *x)
{
	if (x->loop) {
		loop_timer_stop(&x->deadline);
		loop_signal_stop(&x->on_int);
		loop_signal_stop(&x->on_term);
	}
	if (x->config) {	/* made last: the streams are there */
		step_run_release(&x->sr);
		sink_close(&x->out);
		sink_close(&x->err);
		fetch_release(&x->fetch);
	}
	close_fd(&x->log_fd);
	close_fd(&x->mark);
	stdin_source_free(x->input);
	link_free(x->link);
	rpc_trace_close(x->trace);
	mask_set_free(x->secrets);
	ws_client_free(x->ws);
	loop_free(x->loop);
	free(x->config);
	wipe(x, sizeof(*x));
	free(x);
}

int cmd_exec(struct options *o)
{
	struct exec *x = calloc(1, sizeof(*x));
	int code;

	if (!x)
		return EXIT_OURS;
	x->o = o;
	x->log_fd = x->mark = -1;
	if (begin(x, &x->error) == 0)
		while (!x->finished && ws_client_pass(x->ws) >= 0)
			;
	code = verdict(x);
	if (x->has_sandbox && !x->was_up)
		last_words_explain(x->log_fd, 0, &x->error);
	end(x);
	if (x->error.code)
		fprintf(stderr, "farstep: %s: %s\n", err_name(x->error.code), x->error.msg);
	write_status(x, code);
	release(x);
	return code;
}
