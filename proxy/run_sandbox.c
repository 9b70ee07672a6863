/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "proxy/mark.h"
#include "proxy/reuse.h"
#include "proxy/target.h"
#include "proxy/where.h"

/* The sandbox outlives the run, unless that was cut short. */
bool run_sandbox_stays(const struct run *r)
{
	return r->reused || (r->provider && r->o->keep && !r->stopping);
}

static void tell_created(struct run *r)
{
	run_tell(r, "sandbox_created",
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

/* The package is compressed while the provider makes the sandbox. */
static void on_asked(void *user)
{
	struct run *r = user;
	struct err e = ERR_INIT;

	if (!r->package.n || (r->sending = sending_new(r, &e)))
		return;
	if (!r->error.code)
		r->error = e;
	run_leave(r);
}

static void on_make_step(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes)
{
	struct run *r = user;
	struct err e = ERR_INIT;

	(void)took_ms, (void)bytes;
	if (step != MADE_SANDBOX) { /* there may have been no upload */
		run_phase(r, PHASE_START);
		return;
	}
	tell_created(r);
	run_phase(r, PHASE_UPLOAD);
	/* It is known by its own id from here on. */
	if (run_journal_write(r, &e) < 0 || write_mark(r, &e) < 0)
		log_error("%s", e.msg);
}

static bool package(void *user, struct make_file *ret)
{
	struct run *r = user;

	if (!r->sending)
		return false;
	ret->fd = sending_expect(r->sending, &ret->size);
	return true;
}

static void on_package(void *user, const char *path)
{
	struct run *r = user;

	sending_brought(r->sending, path);
}

static void on_made(void *user, const struct err *err)
{
	struct run *r = user;
	struct err e = ERR_INIT;

	r->has_sandbox = r->sandbox.id[0] != 0;
	if (!err && run_go_on(r, &e) == 0)
		return;
	if (!r->error.code)
		r->error = err ? *err : e;
	run_leave(r);
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
	run_leave(r);
}

/* Elsewhere: on_made goes on. */
static int make_sandbox(struct run *r, struct err *e)
{
	const struct make_hooks hooks = {
		r, on_asked, on_make_step, package, on_package, on_made, on_worker_end,
	};

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

	if (!run_sandbox_stays(r) || (!r->closed && !r->reused))
		return false;
	if (r->provider->leave && r->provider->leave(&r->sandbox, idle_ms, DESTROY_MS, &e) < 0)
		log_warn("sandbox %s: %s", r->sandbox.id, e.msg);
	r->stayed = true;
	run_fields_begin(&w, &b);
	jw_kstr(&w, "sandbox_id", r->sandbox.id);
	jw_kint(&w, "idle_ms", idle_ms);
	run_fields_end(r, "sandbox_kept", &w);
	return true;
}

void run_sandbox_end(struct run *r)
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
	run_fields_begin(&w, &b);
	jw_kstr(&w, "sandbox_id", r->sandbox.id);
	jw_knum(&w, "duration_ms", ms_since(begun));
	run_fields_end(r, "sandbox_destroyed", &w);
}


static int make_new(struct run *r, struct err *e)
{
	if (run_journal_write(r, e) < 0 || make_spec(r, e) < 0 ||
	    mark_make(r->socket_dir, &r->mark, e) < 0)
		return -1;
	if (r->provider->make)
		return make_sandbox(r, e);
	return create_sandbox(r, e) < 0 ? -1 : 1;
}

int run_sandbox_begin(struct run *r, struct err *e)
{
	if (!r->attached && !r->reused)
		return make_new(r, e);
	if (!r->provider->keep)
		return 1;
	r->kept = r->provider->keep(r->loop, &r->sandbox, e);
	return r->kept ? 1 : -1;
}
