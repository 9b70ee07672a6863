/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/step.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/keys.h"
#include "protocol/step_body.h"
#include "worker/crash.h"
#include "worker/drivers.h"
#include "worker/manifest.h"
#include "worker/step_dir.h"
#include "worker/store.h"

static const char *const state_names[] = { "claimed", "running", "draining", "finished", "lost" };

/* ---- the table ---- */

static unsigned bucket(const char *id, int attempt)
{
	unsigned h = 2166136261u ^ (unsigned)attempt;

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h % STEP_BUCKETS;
}

struct step *step_lookup(struct session *s, const char *id, int attempt)
{
	struct step *st = s->buckets[bucket(id, attempt)];

	while (st && (st->attempt != attempt || strcmp(st->id, id) != 0))
		st = st->next;
	return st;
}

static struct step *step_new(struct session *s, const char *id, int attempt, const char *driver,
                             const char *body)
{
	struct step *st = calloc(1, sizeof(*st));
	struct step **at = &s->buckets[bucket(id, attempt)];

	if (!st)
		return NULL;
	st->s = s;
	strcpy(st->id, id);     /* lint-ok: step_id_is_good bounds it */
	strcpy(st->body, body); /* lint-ok: 64 digits */
	st->attempt = attempt;
	st->driver = drivers_name(driver);
	st->rows = -1;
	st->status = STATUS_LOST;
	st->next = *at;
	*at = st;
	s->n_steps++;
	return st;
}

static void step_delete(struct step *st)
{
	struct step **at = &st->s->buckets[bucket(st->id, st->attempt)];

	while (*at != st)
		at = &(*at)->next;
	*at = st->next;
	st->s->n_steps--;
	live_free(st);
	free(st);
}

#define EACH_STEP(s, st)                                                                    \
	for (int b_ = 0; b_ < STEP_BUCKETS; b_++)                                           \
		for (struct step *st = (s)->buckets[b_], *next_ = st ? st->next : NULL; st; \
		     st = next_, next_ = st ? st->next : NULL)

#define EACH_LIVE(s, l)                                                                     \
	for (struct live *l = (s)->lives, *next_ = l ? l->next : NULL; l;                   \
	     l = next_, next_ = l ? l->next : NULL)

void step_free_all(struct session *s)
{
	EACH_STEP(s, st)
	step_delete(st);
}

static bool is_running(const struct step *st)
{
	return st->state < STEP_FINISHED;
}

static void list_one(const struct step *st, struct jw *w)
{
	jw_obj(w);
	jw_kstr(w, "step", st->id);
	jw_kint(w, "attempt", st->attempt);
	jw_kstr(w, "state", state_names[st->state]);
	jw_end(w);
}

void step_list(struct session *s, struct jw *w, bool running_only)
{
	if (running_only) {
		EACH_LIVE(s, l)
		{
			if (is_running(l->st))
				list_one(l->st, w);
		}
		return;
	}
	EACH_STEP(s, st)
	list_one(st, w);
}

void step_pump_all(struct session *s)
{
	bool moved = true;

	/* One frame a stream and round, so that no stream starves another.  A step without streams
	 * may still wait for room in the journal. */
	while (moved && s->driver && carrier_has_room(s->driver->carrier)) {
		moved = false;
		EACH_LIVE(s, l)
		moved |= live_pump(l->st);
	}
}

void step_watch_all(struct session *s)
{
	EACH_LIVE(s, l)
	{
		if (is_running(l->st))
			live_watch(l->st);
	}
}

void step_cancel_all(struct session *s, int grace_ms, const char *why)
{
	EACH_LIVE(s, l)
	{
		if (is_running(l->st))
			live_cancel(l->st, grace_ms, why);
	}
}

/* ---- step.execute ---- */

static int check_inputs(struct session *s, const json *params, struct err *e)
{
	const json *inputs = NULL;

	if (json_opt_obj(params, "params", "inputs", &inputs, e) < 0)
		return -1;
	if (json_count(inputs) > LIMIT_INPUTS)
		return err_set(e, ERR_LIMIT, 0, "params.inputs: over %d", LIMIT_INPUTS);
	for (const json *v = json_first(inputs); v; v = json_next(v)) {
		const char *id = NULL;
		int64_t attempt = 1;
		const struct step *from;
		char path[LIMIT_STEP_ID + 32];

		snprintf(path, sizeof(path), "params.inputs.%.*s", LIMIT_STEP_ID, json_key(v));
		if (json_req_str(v, path, "step", &id, e) < 0 ||
		    json_opt_int(v, path, "attempt", 1, LIMIT_ATTEMPT, &attempt, e) < 0)
			return -1;
		from = strlen(json_key(v)) <= LIMIT_STEP_ID && step_id_is_good(id)
		               ? step_lookup(s, id, (int)attempt)
		               : NULL;
		if (!from || from->state != STEP_FINISHED)
			return err_set(e, ERR_INVALID_PARAMS, 0,
			               "params.inputs.%.64s: step '%.64s' has not finished",
			               json_key(v), id);
	}
	return 0;
}

static int check_params(struct session *s, const json *params, struct err *e)
{
	const json *env = NULL, *collect = NULL;
	int64_t ignored = 0;
	bool backtrace = false;

	if (drivers_check(params, e) < 0 || check_inputs(s, params, e) < 0 ||
	    json_opt_obj(params, "params", "env", &env, e) < 0 ||
	    json_opt_strv(params, "params", "collect", &collect, e) < 0 ||
	    json_opt_int(params, "params", "timeout_ms", 1, TIMEOUT_MAX_MS, &ignored, e) < 0 ||
	    json_opt_int(params, "params", "grace_ms", 0, GRACE_MAX_MS, &ignored, e) < 0 ||
	    json_opt_int(params, "params", "linger_ms", 0, LINGER_MAX_MS, &ignored, e) < 0 ||
	    json_opt_bool(params, "params", "backtrace", &backtrace, e) < 0 ||
	    (backtrace && crash_check(e) < 0))
		return -1;
	for (const json *v = json_first(env); v; v = json_next(v))
		if (!json_string(v) || !*json_key(v) || strchr(json_key(v), '='))
			return err_set(e, ERR_INVALID_PARAMS, 0,
			               "params.env: want names without '=' and string values");
	if (json_count(env) > LIMIT_ENV)
		return err_set(e, ERR_LIMIT, 0, "params.env: over %d variables", LIMIT_ENV);
	if (json_count(collect) > LIMIT_GLOBS)
		return err_set(e, ERR_LIMIT, 0, "params.collect: over %d globs", LIMIT_GLOBS);
	for (const json *v = json_first(collect); v; v = json_next(v))
		if (!glob_is_good(json_string(v)))
			return err_set(e, ERR_INVALID_PARAMS, 0,
			               "params.collect: '%.64s': want a relative glob without '..'",
			               json_string(v));
	return 0;
}

/* The claim: after this the (step, attempt) can never start a second time. */
static int claim(struct session *s, const char *id, int attempt, const char *driver,
                 const char *body, int *dir_fd, struct err *e)
{
	struct buf b;
	struct jw w;
	int r;

	buf_init(&b, 4096);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "step", id);
	jw_kint(&w, "attempt", attempt);
	jw_kstr(&w, "driver", driver);
	jw_kstr(&w, "body", body);
	jw_end(&w);
	r = jw_done(&w, e) < 0 || buf_putc(&b, '\n', e) < 0
	            ? -1
	            : step_dir_claim(s, id, attempt, &b, dir_fd, e);
	buf_release(&b);
	return r;
}

/* name -> {directory, files, rows}: FARSTEP_INPUTS */
static int print_inputs(struct step *st, const json *inputs, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	for (const json *v = json_first(inputs); v; v = json_next(v)) {
		int64_t attempt = 1;
		const char *id = json_string(json_get(v, "step"));
		struct step *from;
		char dir[1024];
		auto_closedir DIR *d = NULL;
		struct dirent *f;

		json_opt_int(v, "", "attempt", 1, LIMIT_ATTEMPT, &attempt, NULL);
		from = step_lookup(st->s, id, (int)attempt);
		snprintf(dir, sizeof(dir), "%s/steps/%s.%d/out", st->s->dir, id, (int)attempt);
		jw_kobj(&w, json_key(v));
		jw_kstr(&w, "directory", dir);
		jw_karr(&w, "files");
		d = opendir(dir);
		while (d && (f = readdir(d)))
			if (f->d_name[0] != '.')
				jw_str(&w, f->d_name);
		jw_end(&w);
		if (from && from->rows >= 0)
			jw_kint(&w, "rows", from->rows);
		jw_end(&w);
	}
	jw_end(&w);
	return jw_done(&w, e);
}

static int write_step_files(struct step *st, const json *params, struct err *e)
{
	struct buf b;
	int r;

	buf_init(&b, 16 * LIMIT_TEXT);
	r = json_print(json_get(params, "config"), &b, e);
	if (r == 0)
		r = step_dir_put(st->live->dir_fd, "config.json", &b, e);
	buf_reset(&b);
	if (r == 0 && json_count(json_get(params, "inputs"))) {
		r = print_inputs(st, json_get(params, "inputs"), &b, e);
		if (r == 0)
			r = step_dir_put(st->live->dir_fd, "inputs.json", &b, e);
	}
	buf_release(&b);
	return r;
}

static void note_inputs(struct step *st, const json *params)
{
	struct buf b;

	for (const json *v = json_first(json_get(params, "inputs")); v; v = json_next(v)) {
		struct jw w;
		int64_t attempt = 1;
		const char *id = json_string(json_get(v, "step"));
		struct step *from;

		json_opt_int(v, "", "attempt", 1, LIMIT_ATTEMPT, &attempt, NULL);
		from = step_lookup(st->s, id, (int)attempt);
		buf_init(&b, LIMIT_TEXT);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "name", json_key(v));
		jw_kstr(&w, "from_step", id);
		if (from && from->rows >= 0)
			jw_kint(&w, "rows", from->rows);
		jw_end(&w);
		journal_put(&st->s->journal, "inputs_resolved", st->id, st->attempt, 0,
		            (const char *)buf_data(&b), buf_len(&b), NULL);
		buf_release(&b);
	}
}

/* Takes dir_fd.  A step that could not be started at all is claimed, so it ends here, lost. */
static void start(struct step *st, int dir_fd, struct conn *c, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;

	st->s->n_running++;
	st->s->w->count.steps_started++;
	if (!live_new(st, dir_fd, &e)) {
		st->state = STEP_LOST;
		st->s->w->count.steps_lost++;
		session_step_ended(st->s);
		e.admitted = ADMITTED_YES;
		reply_error(r, &e, NULL);
		return;
	}
	st->live->reply = r;
	note_inputs(st, params);
	if (live_bind(st, c, params, &e) < 0 || write_step_files(st, params, &e) < 0 ||
	    live_start(st, params, &e) < 0) {
		log_error("step %s: %s", st->id, e.msg);
		step_lose(st, e.msg);
	}
}

static void attach(struct step *st, struct conn *c, const json *params, const char *body,
                   struct reply *r)
{
	struct err e = ERR_INIT;

	if (strcmp(st->body, body) != 0) {
		err_set(&e, ERR_CONFLICT, 0, "step '%s' attempt %d was started with another body",
		        st->id, st->attempt);
		e.admitted = ADMITTED_YES;
	} else if (!st->live) {
		err_set(&e, ERR_STATE, 0, "step '%s' attempt %d was released", st->id, st->attempt);
		e.admitted = ADMITTED_YES;
	} else if (live_wake(st, &e) == 0 && live_bind(st, c, params, &e) == 0) {
		if (st->live->reply)
			reply_error(st->live->reply,
			            &(struct err){ .code = ERR_REPLACED,
			                           .admitted = ADMITTED_YES,
			                           .msg = "another request attached to the step" },
			            NULL);
		st->live->reply = r;
		if (!is_running(st))
			step_answer(st);
		session_pump(st->s);
		return;
	}
	reply_error(r, &e, NULL);
}

static int req_step(const json *params, const char **id, int64_t *attempt, bool need_attempt,
                    struct err *e)
{
	if (json_req_str(params, "params", "step", id, e) < 0)
		return -1;
	if (!step_id_is_good(*id))
		return err_set(e, ERR_INVALID_PARAMS, 0,
		               "params.step: want [A-Za-z0-9_][A-Za-z0-9_.-]*, at most %d bytes",
		               LIMIT_STEP_ID);
	return need_attempt
	               ? json_req_int(params, "params", "attempt", 1, LIMIT_ATTEMPT, attempt, e)
	               : json_opt_int(params, "params", "attempt", 1, LIMIT_ATTEMPT, attempt, e);
}

void step_execute(struct session *s, struct conn *c, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	const char *id = NULL;
	int64_t attempt = 0;
	const char *driver;
	char body[SHA256_HEX];
	struct step *st;
	int dir_fd = -1;

	if (req_step(params, &id, &attempt, true, &e) < 0 || step_body_digest(params, body, &e) < 0)
		goto refuse;
	st = step_lookup(s, id, (int)attempt);
	if (st) {
		attach(st, c, params, body, r);
		return;
	}
	driver = json_string(json_get(params, "driver"));
	if (s->w->draining || s->closing)
		err_set(&e, ERR_DRAINING, 0, "no new steps: the worker is shutting down");
	else if (s->n_running >= LIMIT_STEPS_RUNNING)
		err_set(&e, ERR_BUSY, 0, "%d steps are running", s->n_running);
	else if (s->n_steps >= LIMIT_STEPS)
		err_set(&e, ERR_LIMIT, 0, "a session has at most %d steps", LIMIT_STEPS);
	else if (check_params(s, params, &e) == 0 && live_check_binding(c, params, &e) == 0 &&
	         claim(s, id, (int)attempt, driver, body, &dir_fd, &e) == 0) {
		st = step_new(s, id, (int)attempt, driver, body);
		if (st) {
			start(st, dir_fd, c, params, r);
			session_publish(s);
			return;
		}
		close(dir_fd);
		err_set(&e, ERR_NO_MEMORY, 0, "step");
	}
refuse:
	reply_error(r, &e, NULL);
}

/* ---- the other methods ---- */

/* The newest attempt when params name none. */
static struct step *find(struct session *s, const json *params, struct err *e)
{
	const char *id = NULL;
	int64_t attempt = 0;
	struct step *st = NULL;

	if (req_step(params, &id, &attempt, false, e) < 0)
		return NULL;
	if (attempt)
		st = step_lookup(s, id, (int)attempt);
	else
		EACH_STEP(s, one)
	if (strcmp(one->id, id) == 0 && (!st || one->attempt > st->attempt))
		st = one;
	if (!st)
		err_set(e, ERR_NOT_FOUND, 0, "no step '%s'", id);
	return st;
}

void step_cancel(struct session *s, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	struct step *st = find(s, params, &e);
	int64_t grace = GRACE_DEFAULT_MS;
	char text[96];
	bool running;

	if (!st || json_opt_int(params, "params", "grace_ms", 0, GRACE_MAX_MS, &grace, &e) < 0) {
		reply_error(r, &e, NULL);
		return;
	}
	/* A second cancel changes nothing and says so. */
	running = is_running(st) && st->live && strcmp(st->error, "cancel") != 0;
	if (running) {
		strcpy(st->error, "cancel"); /* lint-ok: fits */
		live_cancel(st, (int)grace, "cancel");
	}
	reply_result(r, text,
	             (size_t)snprintf(text, sizeof(text), "{\"cancelled\":%s,\"state\":\"%s\"}",
	                              running ? "true" : "false", state_names[st->state]));
}

void step_status(struct session *s, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	struct step *st = find(s, params, &e);
	struct buf b;
	struct jw w;

	if (!st && e.code != ERR_NOT_FOUND) {
		reply_error(r, &e, NULL);
		return;
	}
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "state", !st ? "unknown" : is_running(st) ? "running" : state_names[st->state]);
	if (st) {
		jw_kint(&w, "attempt", st->attempt);
		if (!is_running(st))
			jw_kstr(&w, "status", status_name(st->status));
		if (st->live && st->live->receipt) {
			jw_kstr(&w, "receipt", st->live->receipt);
			jw_kstr(&w, "hmac", st->live->hmac);
		}
	}
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		reply_error(r, &e, NULL);
	else
		reply_result(r, (const char *)buf_data(&b), buf_len(&b));
	buf_release(&b);
}

void step_release(struct session *s, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	struct step *st = find(s, params, &e);

	if (!st) {
		reply_error(r, &e, NULL);
		return;
	}
	if (is_running(st)) {
		err_set(&e, ERR_STATE, 0, "step '%s' is running", st->id);
		reply_error(r, &e, NULL);
		return;
	}
	if (st->live && live_wake(st, &e) == 0)
		live_remove_files(st->live);
	live_free(st);
	reply_result(r, NULL, 0);
}

/* ---- recovery: what a worker finds that starts ---- */

static struct kept {
	char what[LIVE_NAME_MAX]; /* of which step it is the keeper */
	int fd;
	pid_t pid;
} kept[STORE_KEEPERS_MAX];
static int n_kept;

void step_keep_socket(pid_t pid, const char *what, size_t n, int fd)
{
	if (n_kept >= STORE_KEEPERS_MAX || !n || n > LIVE_NAME_MAX || what[n - 1]) {
		close(fd);
		return;
	}
	memcpy(kept[n_kept].what, what, n);
	kept[n_kept].pid = pid;
	kept[n_kept++].fd = fd;
}

static int take_kept(const struct step *st, pid_t *pid)
{
	char what[LIVE_NAME_MAX];

	live_name(st, what);
	for (int i = 0; i < n_kept; i++)
		if (strcmp(kept[i].what, what) == 0) {
			*pid = kept[i].pid;
			return take_fd(&kept[i].fd);
		}
	return -1;
}

void step_drop_sockets(struct worker *w)
{
	bool any = false;

	for (; n_kept; n_kept--) {
		struct kept *one = &kept[n_kept - 1];

		if (one->fd < 0)
			continue;
		close_fd(&one->fd);
		keeper_forget(w, one->pid);
		any = true;
	}
	if (!any)
		return;
	store_send(w->store_fd, STORE_SWEEP, NULL, NULL, 0, -1, NULL);
}

static int load_claim(struct session *s, int steps_fd, const char *dir, struct err *e)
{
	char path[300];
	struct buf b;
	json *v = NULL;
	const char *id = NULL, *driver = NULL, *body = NULL, *end = NULL;
	int64_t attempt = 0;
	int r = -1;

	snprintf(path, sizeof(path), "%s/claim", dir);
	buf_init(&b, LIMIT_RECORD);
	if (fs_read(steps_fd, path, LIMIT_RECORD, &b, e) == 0) {
		end = memchr(buf_data(&b), '\n', buf_len(&b));
		if (!end)
			err_set(e, ERR_INTEGRITY, 0, "claim: torn");
	}
	if (end)
		v = json_parse((const char *)buf_data(&b),
		               (size_t)(end - (const char *)buf_data(&b)), 4096, LIMIT_JSON_DEPTH,
		               e);
	if (v && json_req_str(v, "claim", "step", &id, e) == 0 &&
	    json_req_str(v, "claim", "driver", &driver, e) == 0 &&
	    json_req_str(v, "claim", "body", &body, e) == 0 &&
	    json_req_int(v, "claim", "attempt", 1, LIMIT_ATTEMPT, &attempt, e) == 0 &&
	    step_id_is_good(id) && strlen(body) == SHA256_HEX - 1 &&
	    step_new(s, id, (int)attempt, driver, body))
		r = 0;
	json_free(v);
	buf_release(&b);
	return r;
}

int step_load_all(struct session *s, struct err *e)
{
	int fd = openat(s->dir_fd, "steps", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *f;

	if (!d) {
		close_fd(&fd);
		return err_set(e, ERR_SYS, errno, "steps");
	}
	step_dir_forget(s);
	while ((f = readdir(d))) {
		struct err bad = ERR_INIT;

		/* A directory whose claim was not written whole: nothing was forked for it. */
		if (f->d_name[0] != '.' && load_claim(s, fd, f->d_name, &bad) < 0) {
			log_warn("steps/%s: no claim (%s): removed", f->d_name, bad.msg);
			fs_remove_tree(fd, f->d_name, NULL);
		}
	}
	return 0;
}

void step_replay_event(struct session *s, const json *event)
{
	const char *id = json_string(json_get(event, "step_id"));
	const char *name = json_string(json_get(event, "event"));
	int64_t attempt = 0;
	uint64_t src = 0;
	struct step *st;

	json_opt_int(event, "", "attempt", 1, LIMIT_ATTEMPT, &attempt, NULL);
	json_opt_u64(event, "", "src", &src, NULL);
	st = id && name ? step_lookup(s, id, (int)attempt) : NULL;
	if (!st)
		return;
	if (src > st->src)
		st->src = src;
	if (strcmp(name, "step_start") == 0)
		st->started_seen = true;
	if (strcmp(name, "step_ended") == 0)
		st->ended_seen = true;
}

/* Its spools are gone if the client has everything, and then it has been released. */
static void recover_ended(struct step *st)
{
	struct err e = ERR_INIT;
	bool released = live_open_spools(st->live, &e) < 0 && e.sys == ENOENT;

	st->live->events_done |= released;
	step_end(st);
	if (released)
		live_free(st);
}

static void recover(struct step *st, int *adopted, int *lost)
{
	struct err e = ERR_INIT;
	pid_t pid = 0;
	int keeper;

	st->s->n_running++;
	if (!live_new(st, -1, &e)) {
		log_error("step %s: %s", st->id, e.msg);
		st->state = STEP_LOST;
		st->s->w->count.steps_lost++;
		st->s->n_running--;
		(*lost)++;
		return;
	}
	/* The keeper of a step whose record is there is at its end, and not taken. */
	if (live_load_record(st, &e) == 0) {
		recover_ended(st);
	} else if ((keeper = take_kept(st, &pid)) >= 0 && live_adopt(st, keeper, pid, &e) == 0) {
		(*adopted)++;
	} else {
		*lost += !st->ended_seen;
		step_lose(st, "the worker and the step's keeper ended; there is no record of how "
		              "the step ended");
	}
}

void step_recover_all(struct session *s, int *adopted, int *lost)
{
	EACH_STEP(s, st)
	recover(st, adopted, lost);
}
