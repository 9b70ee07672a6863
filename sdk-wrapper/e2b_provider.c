/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_provider - E2B behind the vtable: makes, keeps and ends sandboxes there.
 *
 * The life of a sandbox at E2B is a lease: while the handle is held it is renewed, with a time
 * of its own beside the worker's lease. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "sdk-wrapper/e2b.h"
#include "sdk-wrapper/e2b_end.h"
#include "sdk-wrapper/e2b_fleet.h"
#include "sdk-wrapper/e2b_spec.h"

enum {
	MAKE_MS = 180000,
	RENEW_MS = 30000,	/* how long one renewal may take, with its repetitions */
	LOOK_MS = 8000,
	REACH_MS = 30000,
	LOOK_EVERY_MS = 1000,
};

struct kept {
	struct loop *loop;
	struct e2b *making;	/* and renewing */
	struct e2b *looking;	/* one thing at a time: two of them */
	char id[128];
	uint32_t lease_ms;
	uint64_t until_ns;	/* no longer; 0: on and on */
	struct sandbox *ret;	/* while it is made */
	struct make_hooks hooks;
	struct loop_timer renew;
	bool asking;
	uint64_t asked_ns;
	enum sandbox_state state;
	char why[200];
};

static void let_go(void *handle)
{
	struct kept *k = handle;

	if (!k)
		return;
	loop_timer_stop(&k->renew);
	e2b_close(k->making);
	e2b_close(k->looking);
	free(k);
}

static struct kept *kept_new(struct loop *l, struct err *e)
{
	struct kept *k = calloc(1, sizeof(*k));

	if (!k) {
		err_set(e, ERR_NO_MEMORY, 0, "e2b");
		return NULL;
	}
	k->loop = l;
	k->state = SANDBOX_UNKNOWN;
	k->making = e2b_open(l, e);
	k->looking = k->making ? e2b_open(l, e) : NULL;
	if (k->looking)
		return k;
	let_go(k);
	return NULL;
}

/* --- the lease --- */

static void on_renew(struct loop_timer *t);

static void renew_later(struct kept *k)
{
	if (loop_timer_start(k->loop, &k->renew, k->lease_ms / 5, on_renew, NULL) < 0)
		log_error("sandbox %s: its lease cannot be renewed any more", k->id);
}

static void on_renewed(void *user, const struct err *err)
{
	struct kept *k = user;

	if (err)
		log_warn("sandbox %s: lease: %s", k->id, err->msg);
	renew_later(k);
}

static void on_renew(struct loop_timer *t)
{
	struct kept *k = (struct kept *)((char *)t - offsetof(struct kept, renew));
	uint64_t now = now_ns();
	uint32_t ms = k->lease_ms;
	struct err e = ERR_INIT;

	if (k->until_ns && now + ms * UINT64_C(1000000) > k->until_ns)
		ms = now < k->until_ns ? (uint32_t)((k->until_ns - now) / 1000000) : 0;
	if (ms < 1000)	/* it has had its time */
		return;
	if (e2b_extend(k->making, k->id, ms, RENEW_MS, on_renewed, k, &e) < 0)
		on_renewed(k, &e);
}

/* --- making --- */

static void on_asked(void *user)
{
	struct kept *k = user;

	if (k->hooks.on_asked)
		k->hooks.on_asked(k->hooks.user);
}

static void on_step(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes)
{
	struct kept *k = user;

	if (step == MADE_SANDBOX) {
		snprintf(k->id, sizeof(k->id), "%s", k->ret->id);
		renew_later(k);
	}
	if (k->hooks.on_step)
		k->hooks.on_step(k->hooks.user, step, took_ms, bytes);
}

static bool package(void *user, struct make_file *ret)
{
	struct kept *k = user;

	return k->hooks.package && k->hooks.package(k->hooks.user, ret);
}

static void on_package(void *user, const char *path)
{
	struct kept *k = user;

	k->hooks.on_package(k->hooks.user, path);
}

static void on_done(void *user, const struct err *err)
{
	struct kept *k = user;

	if (!err)
		k->state = SANDBOX_RUNNING;
	k->asked_ns = now_ns();
	k->hooks.on_done(k->hooks.user, err);
}

static void on_worker_end(void *user, const struct err *why)
{
	struct kept *k = user;

	if (k->hooks.on_worker_end)
		k->hooks.on_worker_end(k->hooks.user, why);
}

static void *e2b_make(struct loop *l, const struct sandbox_spec *spec, struct sandbox *ret,
		      const struct make_hooks *hooks, struct err *e)
{
	struct kept *k = kept_new(l, e);
	struct make_hooks mine = {
		k, on_asked, on_step, package, on_package, on_done, on_worker_end,
	};

	if (!k)
		return NULL;
	k->hooks = *hooks;
	k->ret = ret;
	k->lease_ms = spec->lease_ms;
	k->until_ns = spec->life_ms ? now_ns() + spec->life_ms * UINT64_C(1000000) : 0;
	if (e2b_up(k->making, spec, ret, MAKE_MS, &mine, e) == 0)
		return k;
	let_go(k);
	return NULL;
}

static void *e2b_keep(struct loop *l, const struct sandbox *s, struct err *e)
{
	struct kept *k = kept_new(l, e);

	if (!k)
		return NULL;
	snprintf(k->id, sizeof(k->id), "%s", s->id);
	k->lease_ms = LEASE_DEFAULT_MS;
	on_renew(&k->renew);
	return k;
}

/* --- is it there? --- */

static void on_state(void *user, enum sandbox_state state, const char *why)
{
	struct kept *k = user;

	k->asking = false;
	if (state == SANDBOX_GONE && k->state != SANDBOX_GONE)
		log_warn("sandbox %s: gone: %s", k->id, why);
	k->state = state;
	snprintf(k->why, sizeof(k->why), "%.199s", why);
}

static enum sandbox_state look(void *handle, const char **why)
{
	struct kept *k = handle;
	uint64_t now = now_ns();

	if (!k->asking && k->state != SANDBOX_GONE &&
	    now - k->asked_ns > LOOK_EVERY_MS * UINT64_C(1000000)) {
		k->asked_ns = now;
		k->asking = e2b_ask(k->looking, k->id, LOOK_MS, on_state, k, NULL) == 0;
	}
	if (why)
		*why = k->why;
	return k->state;
}

/* --- its network --- */

static int reach(void *handle, bool network, const char *const *hosts,
		 void (*on_done_)(void *user, const struct err *err), void *user, struct err *e)
{
	struct kept *k = handle;

	return e2b_reach(k->looking, k->id, network, hosts, REACH_MS, on_done_, user, e);
}

/* --- the rest --- */

static int check(const struct sandbox_spec *spec, struct err *e)
{
	struct stat st;

	if (stat(spec->worker_path, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_PROVIDER, 0, "worker program '%s': no file",
			       spec->worker_path);
	return e2b_check(spec, e);
}

const struct provider provider_e2b = {
	.name = "e2b",
	.isolation = "E2B: a microVM of its own, away from this machine",
	.check = check,
	.describe = e2b_describe,
	.destroy = e2b_destroy,
	.make = e2b_make,
	.keep = e2b_keep,
	.look = look,
	.reach = reach,
	.let_go = let_go,
	.leave = e2b_leave,
};
