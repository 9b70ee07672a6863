/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mocks/e2b/envd.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"

enum {
	ENVS_MAX = 256,
	ARGS_MAX = 32 + 2 * ENVS_MAX + 2 * ENVD_FAULTS_MAX,
	ENV_BYTES = 128 * 1024,
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

/* --- process 1 --- */

/* Arguments of process 1, in which each variable needs its text. */
struct args {
	char *v[ARGS_MAX];
	size_t n;
	struct buf text;
};

static void args_release(struct args *a)
{
	buf_release(&a->text);
}

static void add(struct args *a, const char *word)
{
	if (a->n < ARGS_MAX - 1)
		a->v[a->n++] = (char *)(uintptr_t)word;	/* exec takes it unchanged */
}

static int put_env(struct args *a, const char *name, const char *value, struct err *e)
{
	return buf_printf(&a->text, e, "%s=%s", name, value) < 0 || buf_putc(&a->text, 0, e) < 0
		       ? err_wrap(e, "envVars")
		       : 0;
}

/* Those that E2B sets, then those of the request. */
static int add_envs(struct args *a, const struct sandbox *s, struct err *e)
{
	const json *envs = json_get(s->request, "envVars");
	const char *p, *end;

	if (json_count(envs) > ENVS_MAX - 2)
		return err_set(e, ERR_LIMIT, 0, "more than %d variables", ENVS_MAX - 2);
	if (put_env(a, "E2B_SANDBOX_ID", s->id, e) < 0 ||
	    put_env(a, "E2B_TEMPLATE_ID", s->template_id, e) < 0)
		return -1;
	for (const json *v = json_first(envs); v; v = json_next(v))
		if (put_env(a, json_key(v), json_string(v), e) < 0)
			return -1;
	p = (const char *)buf_data(&a->text);
	for (end = p + buf_len(&a->text); p < end; p += strlen(p) + 1) {
		add(a, "--env");
		add(a, p);
	}
	return 0;
}

static int make_args(const struct sandbox *s, struct args *a, struct err *e)
{
	const struct options *o = s->cloud->o;

	a->n = 0;
	buf_init(&a->text, ENV_BYTES);
	add(a, "farstep-mock-e2b");
	add(a, "--role");
	add(a, "door");
	add(a, "--");
	add(a, "envd");
	add(a, "--role");
	add(a, "envd");
	add(a, "--listen-fd");
	add(a, "3");
	if (s->token[0]) {
		add(a, "--token-fd");
		add(a, "4");
	}
	add(a, "--envd-version");
	add(a, o->envd_version);
	for (unsigned i = 0; i < o->n_envd_faults; i++) {
		add(a, "--fault");
		add(a, o->envd_fault[i]);
	}
	if (add_envs(a, s, e) < 0)
		return -1;
	a->v[a->n] = NULL;
	return 0;
}

static int token_pipe(const struct sandbox *s, int *ret, struct err *e)
{
	size_t n = strlen(s->token);
	int fd[2], r = 0;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_set(e, ERR_SYS, errno, "token");
	if (n && write(fd[1], s->token, n) != (ssize_t)n)	/* far less than a pipe holds */
		r = err_set(e, ERR_SYS, errno, "token");
	close(fd[1]);
	*ret = fd[0];
	return r;
}

static void dir_of(const struct sandbox *s, char ret[512])
{
	snprintf(ret, 512, "%s/%s", s->cloud->root, s->id);
}

static void on_gone(struct door *d)
{
	struct sandbox *s = (struct sandbox *)((char *)d - offsetof(struct sandbox, door));

	log_warn("sandbox %s: its first process ended", s->id);
	sandbox_kill(s);
}

static int start_box(struct sandbox *s, struct err *e)
{
	struct args a CLEANUP(args_release);
	struct box_spec spec = { .name = s->id, .users = &s->cloud->users, .argv = a.v };
	auto_close int log_fd = -1, token_fd = -1;
	char dir[512], path[560];

	dir_of(s, dir);
	snprintf(path, sizeof(path), "%s/envd.log", dir);
	if (make_args(s, &a, e) < 0 || token_pipe(s, &token_fd, e) < 0)
		return -1;
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	spec.dir = dir;
	spec.log_fd = log_fd;
	spec.token_fd = token_fd;
	if (box_start(&spec, &s->box, e) < 0)
		return -1;
	if (door_open(&s->door, s->cloud->loop, s->box.door, on_gone, e) < 0) {
		box_end(&s->box);
		return -1;
	}
	return 0;
}

static void stop_box(struct sandbox *s)
{
	loop_timer_stop(&s->boot);
	if (s->box.pid)
		door_close(&s->door);
	box_end(&s->box);
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
	if (start_box(s, e) < 0)
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
	char dir[512];

	dir_of(s, dir);
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
	char dir[512];

	if (!s) {
		json_free(spec->request);
		return -1;
	}
	enlist(s);
	dir_of(s, dir);
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
		stop_box(s);
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
		stop_box(s);
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
	stop_box(s);
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
