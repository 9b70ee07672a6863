/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "proxy/mark.h"
#include "proxy/reuse.h"
#include "proxy/userkey.h"
#include "proxy/ws_address.h"

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
			               "target %.*s: put the worker's token (1 to 64 bytes) into "
			               "FARSTEP_TOKEN",
			               (int)ws_address_public(r->o->target), r->o->target);
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

static int make_schedule(struct run *r, struct err *e)
{
	if (schedule_init(&r->schedule, r->plan, r->o->jobs ? r->o->jobs : 1, e) < 0)
		return -1;
	r->has_schedule = true;
	return 0;
}

struct run *run_new(void)
{
	struct run *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->dir.fd = r->dir.lock_fd = r->mark = -1;
	r->ev.fd = r->ev.metrics_fd = r->ev.live_fd = -1;
	package_init(&r->package);
	return r;
}

int run_prepare(struct run *r, struct options *o, struct plan *plan, struct err *e)
{
	char root[1024];

	r->o = o;
	r->plan = plan;
	r->started_us = now_real_us();
	if (run_id_new(r->run, e) < 0 || take_secrets(r, e) < 0 || make_package(r, e) < 0 ||
	    rundir_root(o->run_dir, root, true, e) < 0 ||
	    rundir_create(&r->dir, root, r->run, e) < 0 || common(r, e) < 0 ||
	    run_steps_new(r, e) < 0 || make_schedule(r, e) < 0 || open_events(r, e) < 0)
		return -1;
	return run_files_write_plan(r, e);
}

/* Without an address it was asked for, and nobody knows what came of it: then that goes. */
static int end_unborn(struct run *r, struct err *e)
{
	struct err why = ERR_INIT;

	if (r->has_sandbox && r->provider->destroy(&r->sandbox, DESTROY_MS, &why) < 0)
		log_error("what run %s asked for may be there still: %s", r->run, why.msg);
	else if (r->socket_dir[0])
		mark_remove(r->socket_dir);
	control_forget(r);
	return err_set(e, ERR_LOST, 0,
	               "run %s had no sandbox yet when its proxy ended: start it again", r->run);
}

int run_attach(struct run *r, struct options *o, const char *path, bool force, struct err *e)
{
	r->o = o;
	r->attached = true;
	if (rundir_open(&r->dir, path, e) < 0 || rundir_lock(&r->dir, force, e) < 0)
		return -1;
	snprintf(r->run, sizeof(r->run), "%s", r->dir.run);
	/* Neither was written: it had only just begun. */
	if (faccessat(r->dir.fd, "journal/run.json", F_OK, 0) < 0 && errno == ENOENT &&
	    faccessat(r->dir.fd, "status.json", F_OK, 0) < 0)
		return end_unborn(r, e);
	if (take_secrets(r, e) < 0 || run_journal_read(r, e) < 0 || common(r, e) < 0 ||
	    make_schedule(r, e) < 0 || open_events(r, e) < 0)
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
	rpc_trace_close(r->trace);
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
