/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/sandbox.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/envd.h"
#include "mocks/e2b/sandbox_box.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"

enum {
	BOOT_MS = 10000,	/* until envd takes a connection; it takes 10 */
	BOOT_RETRY_MS = 5,
	RESUME_MIN_S = 1,
};

const char *sandbox_state_name(enum sandbox_state state)
{
	static const char *const names[] = { "starting", "running", "pausing",
					     "paused",	 "resuming", "gone" };

	return names[state];
}

/* Which changes there are; all others are bugs. */
static void set_state(struct sandbox *s, enum sandbox_state to)
{
	static const unsigned allowed[] = {
		[SANDBOX_STARTING] = 1u << SANDBOX_RUNNING,
		[SANDBOX_RUNNING] = 1u << SANDBOX_PAUSING,
		[SANDBOX_PAUSING] = 1u << SANDBOX_PAUSED,
		[SANDBOX_PAUSED] = 1u << SANDBOX_RESUMING,
		[SANDBOX_RESUMING] = 1u << SANDBOX_RUNNING | 1u << SANDBOX_PAUSED,
		[SANDBOX_GONE] = 0,
	};

	log_debug("sandbox %s: %s -> %s", s->id, sandbox_state_name(s->state),
		  sandbox_state_name(to));
	if (to != SANDBOX_GONE && !(allowed[s->state] & 1u << to))
		log_error("sandbox %s: %s -> %s is no way to go", s->id,
			  sandbox_state_name(s->state), sandbox_state_name(to));
	s->state = to;
}

static void tell_waits(struct sandbox *s, const struct err *why)
{
	struct sandbox_wait *w = s->waits, *next;

	s->waits = NULL;	/* who is told may ask for more */
	for (; w; w = next) {
		next = w->next;
		w->sandbox = NULL;
		w->on_done(w, s, why);
	}
}

void sandbox_join(struct sandbox *s, struct sandbox_wait *w)
{
	w->sandbox = s;
	w->next = s->waits;
	s->waits = w;
}

void sandbox_wait_stop(struct sandbox_wait *w)
{
	struct sandbox_wait **at;

	if (!w->sandbox)
		return;
	for (at = &w->sandbox->waits; *at && *at != w; at = &(*at)->next)
		;
	if (*at)
		*at = w->next;
	w->sandbox = NULL;
}

void sandbox_watch(struct sandbox *s, struct sandbox_watch *w)
{
	w->next = s->watches;
	w->at = &s->watches;
	if (w->next)
		w->next->at = &w->next;
	s->watches = w;
}

void sandbox_watch_stop(struct sandbox_watch *w)
{
	if (!w->at)
		return;
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	w->at = NULL;
}

static void tell_watches(struct sandbox *s)
{
	while (s->watches) {
		struct sandbox_watch *w = s->watches;

		sandbox_watch_stop(w);
		w->on_stop(w);
	}
}

/* --- ids and tokens --- */

static int make_id(char ret[SANDBOX_ID_MAX], struct err *e)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t raw[20];

	if (random_bytes(raw, sizeof(raw), e) < 0)
		return -1;
	ret[0] = 'i';
	for (size_t i = 0; i < sizeof(raw); i++)
		ret[1 + i] = letters[raw[i] % (sizeof(letters) - 1)];
	ret[1 + sizeof(raw)] = 0;
	return 0;
}

static void make_token(const struct cloud *c, const char *what, const char *id,
		       char ret[SHA256_HEX])
{
	uint8_t mac[SHA256_LEN];
	char text[128];
	int n = snprintf(text, sizeof(text), "%s %s", what, id);

	hmac_sha256(c->key, sizeof(c->key), text, (size_t)n, mac);
	hex_encode(mac, sizeof(mac), ret);
}

/* --- deadlines --- */

static void on_expiry(struct loop_timer *t);

static void arm_expiry(struct sandbox *s)
{
	uint64_t now = now_real_us();
	uint64_t in_ms = s->end_us > now ? (s->end_us - now + 999) / 1000 : 0;
	struct err e = ERR_INIT;

	if (loop_timer_start(s->cloud->loop, &s->expiry, in_ms, on_expiry, &e) < 0)
		log_error("sandbox %s: will not expire: %s", s->id, e.msg);
}

static void start_run(struct sandbox *s, uint64_t timeout_s)
{
	s->started_us = now_real_us();
	s->timeout_s = timeout_s;
	s->end_us = s->started_us + timeout_s * 1000000;
	arm_expiry(s);
}

void sandbox_set_timeout(struct sandbox *s, uint64_t timeout_s, bool only_extend)
{
	uint64_t last = s->started_us + TIMEOUT_MAX_S * UINT64_C(1000000);
	uint64_t end = now_real_us() + timeout_s * 1000000;

	end = end < last ? end : last;
	if (only_extend && end <= s->end_us)
		return;
	s->timeout_s = timeout_s;
	s->end_us = end;
	arm_expiry(s);
}

static void on_expiry(struct loop_timer *t)
{
	struct sandbox *s = (struct sandbox *)((char *)t - offsetof(struct sandbox, expiry));
	struct err e = ERR_INIT;

	if (s->state == SANDBOX_PAUSED || s->state == SANDBOX_PAUSING)
		return;
	if (s->auto_pause && s->state == SANDBOX_RUNNING) {
		log_info("sandbox %s: end of its life: pauses", s->id);
		if (sandbox_pause(s, s->auto_pause_memory, NULL, &e) == 0)
			return;
		log_error("sandbox %s: cannot pause: %s", s->id, e.msg);
	}
	log_info("sandbox %s: end of its life", s->id);
	sandbox_kill(s);
}

static void on_vanish(struct loop_timer *t)
{
	struct sandbox *s = (struct sandbox *)((char *)t - offsetof(struct sandbox, vanish));

	log_info("sandbox %s: vanishes, by a fault rule", s->id);
	sandbox_kill(s);
}

/* --- starting --- */

static void on_boot_retry(struct loop_timer *t);

static void boot_failed(struct sandbox *s, const struct err *why)
{
	log_error("sandbox %s: %s", s->id, why->msg);
	tell_waits(s, why);
	sandbox_kill(s);
}

static void on_boot_answer(struct door_ask *a, int sys, int fd)
{
	struct sandbox *s = (struct sandbox *)((char *)a - offsetof(struct sandbox, ask));
	struct err e = ERR_INIT;

	close_fd(&fd);
	if (s->state != SANDBOX_STARTING && s->state != SANDBOX_RESUMING)
		return;		/* ended meanwhile */
	if (sys == 0) {
		set_state(s, SANDBOX_RUNNING);
		tell_waits(s, NULL);
		return;
	}
	if (now_ns() > s->boot_until_ns)
		err_set(&e, ERR_PROVIDER, sys, "envd does not listen");
	else if (loop_timer_start(s->cloud->loop, &s->boot, BOOT_RETRY_MS, on_boot_retry, &e) == 0)
		return;
	boot_failed(s, &e);
}

static void ask_boot(struct sandbox *s)
{
	s->ask.on_answer = on_boot_answer;
	door_connect(&s->door, &s->ask, ENVD_PORT);
}

static void on_boot_retry(struct loop_timer *t)
{
	ask_boot((struct sandbox *)((char *)t - offsetof(struct sandbox, boot)));
}

static int boot(struct sandbox *s, struct err *e)
{
	if (sandbox_box_start(s, e) < 0)
		return -1;
	s->boot_until_ns = now_ns() + BOOT_MS * UINT64_C(1000000);
	ask_boot(s);
	return 0;
}

unsigned sandboxes_running(const struct cloud *c)
{
	unsigned n = 0;

	for (const struct sandbox *s = c->sandboxes; s; s = s->next)
		n += s->state != SANDBOX_PAUSED;
	return n;
}

static int check_quota(const struct cloud *c, struct err *e)
{
	if (sandboxes_running(c) < c->o->max_sandboxes)
		return 0;
	return err_set(e, ERR_QUOTA, 0,
		       "you have reached the maximum number of concurrent E2B sandboxes (%u). If "
		       "you need more, please visit 'https://e2b.dev/docs/billing'",
		       c->o->max_sandboxes);
}

static void free_sandbox(struct sandbox *s)
{
	json_free(s->request);
	json_free(s->network);
	free(s->template_id);
	free(s->alias);
	free(s);
}

static struct sandbox *new_sandbox(struct cloud *c, const struct sandbox_spec *spec, struct err *e)
{
	struct sandbox *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "sandbox");
		return NULL;
	}
	s->cloud = c;
	s->box.door = -1;
	s->template_id = strdup(spec->template_id);
	s->alias = spec->alias ? strdup(spec->alias) : NULL;
	s->cpu = spec->cpu;
	s->memory_mb = spec->memory_mb;
	s->auto_pause = spec->auto_pause;
	s->auto_pause_memory = spec->auto_pause_memory;
	s->auto_resume = spec->auto_resume;
	if (!s->template_id || (spec->alias && !s->alias) || make_id(s->id, e) < 0) {
		if (s->template_id)
			err_set(e, ERR_NO_MEMORY, 0, "sandbox");
		free_sandbox(s);
		return NULL;
	}
	if (spec->secure)
		make_token(c, "envd", s->id, s->token);
	if (spec->private_traffic)
		make_token(c, "traffic", s->id, s->traffic_token);
	s->request = spec->request;
	return s;
}

static void enlist(struct sandbox *s)
{
	struct cloud *c = s->cloud;

	s->next = c->sandboxes;
	s->at = &c->sandboxes;
	if (s->next)
		s->next->at = &s->next;
	c->sandboxes = s;
}

static int remove_files(const struct sandbox *s, struct err *e)
{
	char dir[SANDBOX_DIR];

	sandbox_dir(s, dir);
	return fs_remove_tree(AT_FDCWD, dir, e);
}

static void arm_vanish(struct sandbox *s)
{
	struct fault *f = faults_find(&s->cloud->faults, FAULT_VANISH);
	struct err e = ERR_INIT;

	if (f && fault_act(f) &&
	    loop_timer_start(s->cloud->loop, &s->vanish, f->at * 1000, on_vanish, &e) < 0)
		log_error("sandbox %s: will not vanish: %s", s->id, e.msg);
}

int sandbox_create(struct cloud *c, const struct sandbox_spec *spec, struct sandbox_wait *w,
		   struct sandbox **ret, struct err *e)
{
	struct sandbox *s = check_quota(c, e) < 0 ? NULL : new_sandbox(c, spec, e);
	char dir[SANDBOX_DIR];

	if (!s) {
		json_free(spec->request);
		return -1;
	}
	enlist(s);
	sandbox_dir(s, dir);
	if (box_make_dir(dir, s->id, &c->users, e) < 0 || boot(s, e) < 0) {
		sandbox_kill(s);
		return -1;
	}
	start_run(s, spec->timeout_s);
	arm_vanish(s);
	sandbox_join(s, w);
	*ret = s;
	return 0;
}

struct sandbox *sandbox_find(const struct cloud *c, const char *id)
{
	for (struct sandbox *s = c->sandboxes; s; s = s->next)
		if (strcmp(s->id, id) == 0)
			return s;
	return NULL;
}

/* --- pausing and resuming --- */

static void on_stuck(struct loop_timer *t)
{
	struct sandbox *s = (struct sandbox *)((char *)t - offsetof(struct sandbox, boot));
	struct err e = ERR_INIT;

	err_set(&e, ERR_DEADLINE, 0, "no answer from process 1 within %d ms", BOOT_MS);
	boot_failed(s, &e);
}

/* Asks process 1, with a deadline. */
static void freeze(struct sandbox *s, bool stop, void (*on_answer)(struct door_ask *, int, int))
{
	struct err e = ERR_INIT;

	if (loop_timer_start(s->cloud->loop, &s->boot, BOOT_MS, on_stuck, &e) < 0)
		log_error("sandbox %s: %s", s->id, e.msg);
	s->ask.on_answer = on_answer;
	door_freeze(&s->door, &s->ask, stop);
}

static void paused(struct sandbox *s, bool memory)
{
	loop_timer_stop(&s->boot);
	set_state(s, SANDBOX_PAUSED);
	s->kept_memory = memory;
	s->end_us = now_real_us();
	tell_waits(s, NULL);
}

static void on_frozen(struct door_ask *a, int sys, int fd __attribute__((unused)))
{
	struct sandbox *s = (struct sandbox *)((char *)a - offsetof(struct sandbox, ask));
	struct err e = ERR_INIT;

	if (s->state != SANDBOX_PAUSING)
		return;
	if (sys == 0) {
		paused(s, true);
		return;
	}
	err_set(&e, ERR_PROVIDER, sys, "cannot freeze the sandbox");
	boot_failed(s, &e);
}

int sandbox_pause(struct sandbox *s, bool memory, struct sandbox_wait *w, struct err *e)
{
	if (s->state != SANDBOX_RUNNING)
		return err_set(e, ERR_STATE, 0, "Sandbox \"%s\" is %s", s->id,
			       sandbox_state_name(s->state));
	set_state(s, SANDBOX_PAUSING);
	loop_timer_stop(&s->expiry);
	if (w)
		sandbox_join(s, w);
	tell_watches(s);
	if (memory) {
		freeze(s, true, on_frozen);
	} else {
		sandbox_box_stop(s);
		paused(s, false);
	}
	return 0;
}

static void on_thawed(struct door_ask *a, int sys, int fd __attribute__((unused)))
{
	struct sandbox *s = (struct sandbox *)((char *)a - offsetof(struct sandbox, ask));
	struct err e = ERR_INIT;

	if (s->state != SANDBOX_RESUMING)
		return;
	loop_timer_stop(&s->boot);
	if (sys == 0) {
		set_state(s, SANDBOX_RUNNING);
		tell_waits(s, NULL);
		return;
	}
	err_set(&e, ERR_PROVIDER, sys, "cannot thaw the sandbox");
	boot_failed(s, &e);
}

int sandbox_resume(struct sandbox *s, uint64_t timeout_s, bool memory, struct sandbox_wait *w,
		   struct err *e)
{
	if (s->state != SANDBOX_PAUSED)
		return err_set(e, ERR_STATE, 0, "Sandbox \"%s\" is %s", s->id,
			       sandbox_state_name(s->state));
	if (check_quota(s->cloud, e) < 0)
		return -1;
	if (!memory && s->kept_memory) {
		sandbox_box_stop(s);
		s->kept_memory = false;
	}
	set_state(s, SANDBOX_RESUMING);
	if (!s->kept_memory && boot(s, e) < 0) {
		set_state(s, SANDBOX_PAUSED);
		return -1;
	}
	start_run(s, timeout_s < RESUME_MIN_S ? RESUME_MIN_S : timeout_s);
	if (w)
		sandbox_join(s, w);
	if (s->kept_memory)
		freeze(s, false, on_thawed);
	return 0;
}

/* --- the end --- */

void sandbox_kill(struct sandbox *s)
{
	struct err gone = ERR_INIT, e = ERR_INIT;

	if (s->state == SANDBOX_GONE)
		return;
	set_state(s, SANDBOX_GONE);
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	s->next = s->cloud->dead;
	s->cloud->dead = s;
	loop_timer_stop(&s->expiry);
	loop_timer_stop(&s->vanish);
	tell_watches(s);
	sandbox_box_stop(s);
	if (remove_files(s, &e) < 0)
		log_error("sandbox %s: files stay behind: %s", s->id, e.msg);
	err_set(&gone, ERR_LOST, 0, "Sandbox \"%s\" is being killed", s->id);
	tell_waits(s, &gone);
}

void sandboxes_reap(struct cloud *c)
{
	while (c->dead) {
		struct sandbox *s = c->dead;

		c->dead = s->next;
		free_sandbox(s);
	}
}

void sandboxes_end(struct cloud *c)
{
	while (c->sandboxes)
		sandbox_kill(c->sandboxes);
	sandboxes_reap(c);
}
