/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "worker/left.h"
#include "worker/scratch.h"
#include "worker/step.h"
#include "worker/store.h"
#include "worker/upload.h"

#define CLOSE_MS        7000 /* how long after their grace steps may take to end */
#define REMOVE_PIECE_MS 50    /* of a removal; then others get their turn */
#define REMOVE_MAX_MS   60000 /* what is still there then stays */

static struct session *lookup(struct worker *w, const char *id)
{
	struct session *s = w->sessions;

	while (s && strcmp(s->id, id) != 0)
		s = s->next;
	return s;
}

static bool id_is_good(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= LIMIT_RUN_ID && !id[n];
}

static void store_name(const struct session *s, char *out, size_t size)
{
	snprintf(out, size, "session/%s", s->id);
}

static int make_dirs(struct session *s, struct err *e)
{
	static const char *const dirs[] = { "steps", "checkpoints", "work", "home", "tmp" };

	if (fs_mkdirs(AT_FDCWD, s->dir, 0700, e) < 0)
		return -1;
	s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", s->dir);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (mkdirat(s->dir_fd, dirs[i], 0700) < 0 && errno != EEXIST)
			return err_set(e, ERR_SYS, errno, "%s/%s", s->dir, dirs[i]);
	return fs_write(s->dir_fd, NO_INPUTS_FILE, "{}", 2, 0400, false, e);
}

static void session_free(struct session *s)
{
	struct session **at = &s->w->sessions;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at) {
		*at = s->next;
		s->w->n_sessions--;
	}
	loop_timer_stop(&s->lease);
	loop_timer_stop(&s->close_deadline);
	step_free_all(s);
	left_free(s->left);
	upload_free(s->upload);
	journal_close(&s->journal);
	close_fd(&s->dir_fd);
	close_fd(&s->next_fd);
	json_free(s->blob);
	wipe(s->key, sizeof(s->key));
	free(s);
}

/* Fills a session from what the store keeps: a copy of session.open's params. */
static struct session *from_blob(struct worker *w, const char *text, size_t n, struct err *e)
{
	struct session *s = calloc(1, sizeof(*s));
	const char *id = NULL, *run = NULL, *key = NULL;

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "session");
		return NULL;
	}
	s->w = w;
	s->dir_fd = s->next_fd = s->journal.fd = -1;
	s->lease_ms = LEASE_DEFAULT_MS;
	s->blob = json_parse(text, n, LIMIT_TEXT, LIMIT_JSON_DEPTH, e);
	if (!s->blob || json_req_str(s->blob, "params", "session", &id, e) < 0 ||
	    json_req_str(s->blob, "params", "run", &run, e) < 0 ||
	    json_req_str(s->blob, "params", "key", &key, e) < 0 ||
	    json_opt_int(s->blob, "params", "lease_ms", 1000, LEASE_MAX_MS, &s->lease_ms, e) < 0 ||
	    json_opt_int(s->blob, "params", "memory_mb", 1, MEMORY_MAX_MB, &s->memory_mb, e) < 0)
		goto fail;
	if (!id_is_good(id) || !id_is_good(run)) {
		err_set(e, ERR_INVALID_PARAMS, 0, "params.%s: want [a-z0-9-], 1 to %d bytes",
		        id_is_good(id) ? "run" : "session", LIMIT_RUN_ID);
		goto fail;
	}
	if (strlen(key) != SHA256_HEX - 1) {
		err_set(e, ERR_INVALID_PARAMS, 0, "params.key: want %d hex digits",
		        SHA256_HEX - 1);
		goto fail;
	}
	strcpy(s->id, id);   /* lint-ok: lengths checked above */
	strcpy(s->run, run); /* lint-ok: lengths checked above */
	strcpy(s->key, key); /* lint-ok: lengths checked above */
	if ((size_t)snprintf(s->dir, sizeof(s->dir), "%s/sessions/%s", w->o->root, id) >=
	    sizeof(s->dir)) {
		err_set(e, ERR_LIMIT, 0, "--root is too long");
		goto fail;
	}
	return s;
fail:
	session_free(s);
	return NULL;
}

static void enlist(struct session *s)
{
	s->next = s->w->sessions;
	s->w->sessions = s;
	s->w->n_sessions++;
}

static int check_kv(const json *params, const char *key, struct err *e)
{
	const json *obj = NULL;

	if (json_opt_obj(params, "params", key, &obj, e) < 0)
		return -1;
	for (const json *v = json_first(obj); v; v = json_next(v))
		if (!json_string(v) || !*json_key(v) || strchr(json_key(v), '='))
			return err_set(e, ERR_INVALID_PARAMS, 0,
			               "params.%s: want names without '=' and string values", key);
	return json_count(obj) > LIMIT_ENV
	               ? err_set(e, ERR_LIMIT, 0, "params.%s: over %d variables", key, LIMIT_ENV)
	               : 0;
}

struct session *session_open(struct worker *w, const json *params, struct err *e)
{
	struct session *s = NULL;
	struct buf text;
	const char *id = NULL;
	char name[STORE_NAME_MAX];

	buf_init(&text, LIMIT_SECRETS_BYTES + 4096);
	if (w->draining)
		err_set(e, ERR_DRAINING, 0, "the worker is shutting down");
	else if (w->n_sessions >= w->o->max_sessions)
		err_set(e, ERR_BUSY, 0, "%d sessions are open", w->n_sessions);
	else if (json_req_str(params, "params", "session", &id, e) == 0 && lookup(w, id))
		err_set(e, ERR_EXISTS, 0, "session '%.64s' exists: resume it with its key", id);
	else if (id && check_kv(params, "env", e) == 0 && check_kv(params, "secrets", e) == 0 &&
	         json_print(params, &text, e) == 0)
		s = from_blob(w, (const char *)buf_data(&text), buf_len(&text), e);
	if (!s)
		goto out;
	store_name(s, name, sizeof(name));
	if (make_dirs(s, e) < 0 || journal_open(&s->journal, s->dir_fd, NULL, NULL, e) < 0 ||
	    store_send(w->store_fd, STORE_PUT, name, buf_data(&text), buf_len(&text), -1, e) < 0) {
		session_free(s);
		s = NULL;
		goto out;
	}
	enlist(s);
	session_renew(s, s->lease_ms, NULL);
	log_info("session %s: open", s->id);
out:
	if (text.mem)
		wipe(text.mem, text.cap);
	buf_release(&text);
	return s;
}

struct session *session_find(struct worker *w, const json *params, struct err *e)
{
	const char *id = NULL, *key = NULL, *sandbox = NULL;
	char padded[SHA256_HEX] = "";
	struct session *s;

	if (json_req_str(params, "params", "session", &id, e) < 0 ||
	    json_req_str(params, "params", "key", &key, e) < 0 ||
	    json_opt_str(params, "params", "sandbox", &sandbox, e) < 0)
		return NULL;
	if (sandbox && strcmp(sandbox, w->o->sandbox_id) != 0) {
		err_set(e, ERR_FENCED, 0, "this is sandbox '%s', not '%.64s'", w->o->sandbox_id,
		        sandbox);
		return NULL;
	}
	s = lookup(w, id);
	if (!s) {
		err_set(e, ERR_NOT_FOUND, 0, "no session '%.64s' here", id);
		return NULL;
	}
	strncpy(padded, key, sizeof(padded) - 1);
	if (strlen(key) != SHA256_HEX - 1 || !equal_ct(padded, s->key, SHA256_HEX)) {
		err_set(e, ERR_DENIED, 0, "the key is not that of session '%s'", s->id);
		return NULL;
	}
	if (s->closing) {
		err_set(e, ERR_STATE, 0, "session '%s' is being closed", s->id);
		return NULL;
	}
	return s;
}

int session_restore(struct worker *w, const uint8_t *blob, size_t n, struct err *e)
{
	struct session *s = from_blob(w, (const char *)blob, n, e);

	if (!s)
		return -1;
	if (make_dirs(s, e) < 0) {
		session_free(s);
		return -1;
	}
	enlist(s);
	return 0;
}

static void on_old_event(void *arg, const char *line, size_t n)
{
	struct session *s = arg;
	json *v = json_parse(line, n, JOURNAL_LINE_MAX * 2, LIMIT_JSON_DEPTH + 4, NULL);

	if (v)
		step_replay_event(s, v);
	json_free(v);
}

void session_recover_steps(struct session *s)
{
	struct err e = ERR_INIT;
	struct buf b;
	struct jw w;
	int adopted = 0, lost = 0;

	if (step_load_all(s, &e) < 0 ||
	    journal_open(&s->journal, s->dir_fd, on_old_event, s, &e) < 0)
		log_error("session %s: %s", s->id, e.msg);
	step_recover_all(s, &adopted, &lost);
	s->upload = upload_recover(s);
	buf_init(&b, 256);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kint(&w, "generation", s->w->o->generation);
	jw_kint(&w, "adopted", adopted);
	jw_kint(&w, "lost", lost);
	jw_end(&w);
	journal_put(&s->journal, "worker_restarted", NULL, 0, 0, (const char *)buf_data(&b),
	            buf_len(&b), NULL);
	buf_release(&b);
	journal_flush(&s->journal, NULL);
	session_renew(s, s->lease_ms, NULL);
	log_info("session %s: recovered, %d steps adopted, %d lost", s->id, adopted, lost);
}

/* ---- connections ---- */

void session_attach(struct session *s, struct conn *c)
{
	struct conn *old = s->driver;

	if (old && old != c) {
		s->driver = NULL;
		old->session = NULL;
		conn_close(old, CLOSE_REPLACED, "another connection took this session over");
	}
	s->driver = c;
	c->session = s;
	spare_refill(s->w);
	log_info("session %s: attached", s->id);
}

void session_detach(struct session *s, struct conn *c)
{
	if (s->driver == c) {
		s->driver = NULL;
		log_info("session %s: detached", s->id);
	}
}

void session_publish(struct session *s)
{
	struct err e = ERR_INIT;

	if (journal_flush(&s->journal, &e) < 0) {
		log_error("session %s: %s", s->id, e.msg);
		return;
	}
	for (struct conn *c = s->w->conns, *next; c; c = next) {
		next = c->next;
		if (c->session == s)
			conn_pump_events(c);
	}
}

void session_pump(struct session *s)
{
	session_publish(s);
	step_pump_all(s);
}

void session_list_running(struct session *s, struct jw *w)
{
	step_list(s, w, true);
}

/* ---- lease ---- */

static void on_lease(struct loop_timer *t)
{
	struct session *s = (struct session *)((char *)t - offsetof(struct session, lease));

	log_warn("session %s: the lease lapsed", s->id);
	session_close(s, NULL, "lease", CLOSE_GRACE_MS);
}

/* With --leased the supervisor counts too: a stuck worker cannot outlive the lease.  That is at
 * least ms, and as long as any session has. */
static int lease_all(struct worker *w, int64_t ms, struct err *e)
{
	uint64_t now = now_ns();
	uint32_t longest = (uint32_t)ms;

	if (!w->o->lease_ms)
		return 0;
	for (const struct session *s = w->sessions; s; s = s->next)
		if (s->lease_until_ns > now + (uint64_t)longest * 1000000)
			longest = (uint32_t)((s->lease_until_ns - now) / 1000000);
	return store_send(w->store_fd, STORE_LEASE, NULL, &longest, sizeof(longest), -1, e);
}

int session_renew(struct session *s, int64_t lease_ms, struct err *e)
{
	s->lease_ms = lease_ms;
	s->lease_until_ns = now_ns() + (uint64_t)lease_ms * 1000000;
	if (lease_all(s->w, lease_ms, e) < 0)
		return -1;
	return loop_timer_start(s->w->loop, &s->lease, (uint64_t)lease_ms, on_lease, e);
}

/* ---- the end ---- */

static void close_finish(struct session *s)
{
	struct worker *w = s->w;
	struct reply *r = s->close_reply;
	char text[64];
	int64_t idle_ms = r ? s->lease_ms : 0;

	log_info("session %s: closed, %d leftovers", s->id, s->leftovers);
	for (struct conn *c = w->conns; c; c = c->next) {
		if (c->session != s)
			continue;
		if (c == s->driver && r) {
			reply_result(r, text,
			             (size_t)snprintf(text, sizeof(text), "{\"leftovers\":%d}",
			                              s->leftovers));
			r = NULL;
		}
		/* The channels' owners die with the session. */
		c->n_channels = 0;
		c->session = NULL;
		conn_close(c, CLOSE_ENDED, "session ended");
	}
	if (r)
		reply_result(r, NULL, 0);
	session_free(s);
	/* Who closes it leaves a worker that may be used again for as long as the lease was. */
	if (idle_ms && !w->draining)
		lease_all(w, idle_ms, NULL);
	if (!w->sessions)
		spare_drop(w);
	if (w->o->once || (w->draining && !w->n_sessions))
		worker_quit(w);
}

/* A piece of what the session left on disk; true: there is more. */
static bool remove_some(struct session *s)
{
	const struct worker *w = s->w;
	uint64_t until_ns = now_ns() + REMOVE_PIECE_MS * 1000000ull;
	struct err e = ERR_INIT;
	char dir[600];

	if (!s->files_gone) {
		int more;

		snprintf(dir, sizeof(dir), "sessions/%s", s->id);
		more = fs_remove_some(w->root_fd, dir, until_ns, &e);
		if (more > 0)
			return true;
		if (more < 0)
			log_warn("session %s: %s", s->id, e.msg);
		s->files_gone = true;
	}
	/* Not what another session may be using. */
	return w->o->scratch && w->n_sessions == 1 &&
	       !scratch_empty(w->o->scratch, buf_data(&w->scratch_known),
	                      buf_len(&w->scratch_known), until_ns);
}

static struct session *closing_session(struct loop_timer *t)
{
	return (struct session *)((char *)t - offsetof(struct session, close_deadline));
}

static void on_remove(struct loop_timer *t)
{
	struct session *s = closing_session(t);

	if (remove_some(s)) {
		if (now_ns() < s->remove_until_ns) {
			loop_timer_start(s->w->loop, t, 0, on_remove, NULL);
			return;
		}
		log_warn("session %s: some of its files stay: there are too many", s->id);
	}
	close_finish(s);
}

/* Whoever could still write there ends first. */
static void on_close_deadline(struct loop_timer *t)
{
	struct session *s = closing_session(t);
	char name[STORE_NAME_MAX];

	s->leftovers = s->n_running;
	s->n_running = 0;
	store_name(s, name, sizeof(name));
	spare_drop(s->w); /* the sweep would end them as well */
	store_send(s->w->store_fd, STORE_DEL, name, NULL, 0, -1, NULL);
	store_send(s->w->store_fd, STORE_SWEEP, NULL, NULL, 0, -1, NULL);
	step_free_all(s);
	left_free(s->left);
	s->left = NULL;
	upload_free(s->upload);
	s->upload = NULL;
	s->remove_until_ns = now_ns() + REMOVE_MAX_MS * 1000000ull;
	on_remove(t);
}

void session_close(struct session *s, struct reply *r, const char *why, int grace_ms)
{
	struct err gone = ERR_INIT;

	if (s->closing) {
		err_set(&gone, ERR_STATE, 0, "the session is being closed already");
		reply_error(r, &gone, NULL);
		return;
	}
	s->closing = true;
	s->close_reply = r;
	loop_timer_stop(&s->lease);
	step_cancel_all(s, grace_ms, why);
	/* Never from inside a step's callback: the last step ends in the loop, or the deadline
	 * comes. */
	loop_timer_start(s->w->loop, &s->close_deadline,
	                 s->n_running ? (uint64_t)grace_ms + CLOSE_MS : 0, on_close_deadline, NULL);
}

void session_step_ended(struct session *s)
{
	s->n_running--;
	if (s->closing && s->n_running == 0)
		loop_timer_start(s->w->loop, &s->close_deadline, 0, on_close_deadline, NULL);
}
