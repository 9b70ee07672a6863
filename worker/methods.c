/* SPDX-License-Identifier: Apache-2.0
 *
 * One handler per method, and the one gate that says who may call it: the rows of
 * protocol/methods.def. */
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "worker/drivers.h"
#include "worker/left.h"
#include "worker/session.h"
#include "worker/step.h"
#include "worker/upload.h"

#define PROTOCOL_VERSION 1

enum { M_TOKEN = 1, M_OPENS = 2, M_SESSION = 4, M_OBSERVE = 8, M_NOTICE = 16 };

#define WARN_RSS_KB (256 * 1024)

/* ---- sessions ---- */

static int check_client(const json *params, const char **compression, struct err *e)
{
	const json *client = NULL, *protocol = NULL, *list = NULL;
	int64_t min = 0, max = 0;

	if (json_req_obj(params, "params", "client", &client, e) < 0 ||
	    json_req_obj(client, "params.client", "protocol", &protocol, e) < 0 ||
	    json_req_int(protocol, "params.client.protocol", "min", 1, 1000, &min, e) < 0 ||
	    json_req_int(protocol, "params.client.protocol", "max", 1, 1000, &max, e) < 0 ||
	    json_opt_strv(client, "params.client", "compressions", &list, e) < 0)
		return -1;
	if (min > PROTOCOL_VERSION || max < PROTOCOL_VERSION)
		return err_set(e, ERR_VERSION, 0,
		               "the client speaks protocol %d to %d, this worker %d", (int)min,
		               (int)max, PROTOCOL_VERSION);
	*compression = list ? NULL : "none";
	for (const json *v = json_first(list); v && !*compression; v = json_next(v))
		if (strcmp(json_string(v), "zstd") == 0 || strcmp(json_string(v), "none") == 0)
			*compression = json_string(v);
	return *compression ? 0
	                    : err_set(e, ERR_VERSION, 0,
	                              "no common compression: this worker has zstd and none");
}

static void write_session(struct jw *w, const struct session *s, const char *compression)
{
	const struct worker *wk = s->w;

	jw_kstr(w, "session", s->id);
	jw_kstr(w, "sandbox", wk->o->sandbox_id);
	jw_kstr(w, "worker", wk->id);
	jw_kint(w, "generation", wk->o->generation);
	jw_kint(w, "protocol", PROTOCOL_VERSION);
	jw_kstr(w, "compression", compression);
	jw_kint(w, "lease_ms", s->lease_ms);
}

static void send_built(struct reply *r, struct jw *w, struct buf *b)
{
	struct err e = ERR_INIT;

	if (jw_done(w, &e) < 0)
		reply_error(r, &e, NULL);
	else
		reply_result(r, (const char *)buf_data(b), buf_len(b));
	buf_release(b);
}

static void m_session_open(struct conn *c, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	const char *compression, *sandbox = NULL;
	struct session *s = NULL;
	char text[48];
	struct buf b;
	struct jw w;

	if (check_client(params, &compression, &e) == 0 &&
	    json_opt_str(params, "params", "sandbox", &sandbox, &e) == 0) {
		if (sandbox && strcmp(sandbox, c->w->o->sandbox_id) != 0)
			err_set(&e, ERR_FENCED, 0, "this is sandbox '%s', not '%.64s'",
			        c->w->o->sandbox_id, sandbox);
		else
			s = session_open(c->w, params, &e);
	}
	if (!s) {
		reply_error(r, &e, NULL);
		return;
	}
	session_attach(s, c);
	c->events = (struct journal_cursor){ 0, 0 };
	c->events_acked = 0;
	journal_put(&s->journal, "session_initialized", NULL, 0, 0, text,
	            (size_t)snprintf(text, sizeof(text), "{\"generation\":%lld}",
	                             (long long)c->w->o->generation),
	            NULL);
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	write_session(&w, s, compression);
	jw_end(&w);
	send_built(r, &w, &b);
	session_publish(s);
}

static void join(struct conn *c, const json *params, struct reply *r, bool observer)
{
	struct err e = ERR_INIT;
	const char *compression;
	struct session *s = NULL;
	int64_t have = 0;
	struct buf b;
	struct jw w;

	if (check_client(params, &compression, &e) == 0 &&
	    json_opt_int(params, "params", "events_have", 0, JSON_INT_MAX, &have, &e) == 0)
		s = session_find(c->w, params, &e);
	if (!s || journal_seek(&s->journal, (uint64_t)have, &c->events, &e) < 0) {
		reply_error(r, &e, NULL);
		return;
	}
	c->observer = observer;
	c->events_acked = (uint64_t)have;
	if (observer)
		c->session = s;
	else
		session_attach(s, c);
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	write_session(&w, s, compression);
	/* A client asks about its steps by repeating their requests: the list is for people. */
	jw_karr(&w, "steps");
	if (s->n_steps <= LIMIT_STEPS_RUNNING * 8)
		step_list(s, &w, false);
	else
		step_list(s, &w, true);
	jw_end(&w);
	jw_kint(&w, "events_last", (int64_t)s->journal.last);
	/* Who holds the session key gave them; another proxy of the same user must mask them. */
	if (!observer && json_is_true(json_get(params, "want_secrets"))) {
		jw_key(&w, "env");
		jw_json(&w, json_get(s->blob, "env"));
		jw_key(&w, "secrets");
		jw_json(&w, json_get(s->blob, "secrets"));
	}
	jw_end(&w);
	send_built(r, &w, &b);
	session_publish(s);
}

static void m_session_resume(struct conn *c, const json *params, struct reply *r)
{
	join(c, params, r, false);
}

static void m_session_observe(struct conn *c, const json *params, struct reply *r)
{
	join(c, params, r, true);
}

static void m_session_renew(struct conn *c, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	int64_t ms = 0;
	char text[48];

	if (json_req_int(params, "params", "lease_ms", 1000, LEASE_MAX_MS, &ms, &e) < 0 ||
	    session_renew(c->session, ms, &e) < 0)
		reply_error(r, &e, NULL);
	else
		reply_result(
			r, text,
			(size_t)snprintf(text, sizeof(text), "{\"lease_ms\":%lld}", (long long)ms));
}

static void m_session_left(struct conn *c, const json *params, struct reply *r)
{
	(void)params;
	left_list(c->session, r);
}

static void m_session_close(struct conn *c, const json *params, struct reply *r)
{
	(void)params;
	session_close(c->session, r, "cancel", CLOSE_GRACE_MS);
}

/* ---- steps, packages ---- */

static void m_package_load(struct conn *c, const json *params, struct reply *r)
{
	upload_load(c->session, c, params, r);
}

static void m_step_execute(struct conn *c, const json *params, struct reply *r)
{
	step_execute(c->session, c, params, r);
}

static void m_step_cancel(struct conn *c, const json *params, struct reply *r)
{
	step_cancel(c->session, params, r);
}

static void m_step_status(struct conn *c, const json *params, struct reply *r)
{
	step_status(c->session, params, r);
}

static void m_step_release(struct conn *c, const json *params, struct reply *r)
{
	step_release(c->session, params, r);
}

/* ---- the worker ---- */

static void m_driver_list(struct conn *c, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	const char *category = NULL;
	struct buf b;
	struct jw w;

	(void)c;
	if (json_opt_str(params, "params", "category", &category, &e) < 0) {
		reply_error(r, &e, NULL);
		return;
	}
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_karr(&w, "drivers");
	drivers_list(category, &w);
	jw_end(&w);
	jw_end(&w);
	send_built(r, &w, &b);
}

static const char *const method_names[] = {
#define METHOD(id, name, flags, text) name,
#include "protocol/methods.def"
#undef METHOD
};

static void write_counters(struct jw *w, const struct counters *n)
{
	jw_kobj(w, "requests");
	jw_kint(w, "ok", (int64_t)n->ok);
	jw_kint(w, "failed", (int64_t)n->failed);
	jw_kobj(w, "by_method");
	for (size_t i = 0; i < ARRAY_LEN(method_names); i++)
		if (n->by_method[i])
			jw_kint(w, method_names[i], (int64_t)n->by_method[i]);
	jw_end(w);
	jw_end(w);
}

static void m_status_get(struct conn *c, const json *params, struct reply *r)
{
	const struct worker *wk = c->w;
	int running = 0;
	long rss = worker_rss_kb();
	struct buf b;
	struct jw w;

	(void)params;
	for (const struct session *s = wk->sessions; s; s = s->next)
		running += s->n_running;
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "state", wk->draining ? "draining" : "healthy");
	jw_kint(&w, "uptime_ms", (int64_t)((now_ns() - wk->started_ns) / 1000000));
	jw_kint(&w, "rss_kb", rss);
	jw_kint(&w, "sessions", wk->n_sessions);
	jw_kint(&w, "connections", wk->n_conns);
	jw_kobj(&w, "steps");
	jw_kint(&w, "running", running);
	jw_kint(&w, "started", (int64_t)wk->count.steps_started);
	jw_kint(&w, "finished", (int64_t)wk->count.steps_finished);
	jw_kint(&w, "lost", (int64_t)wk->count.steps_lost);
	jw_end(&w);
	write_counters(&w, &wk->count);
	jw_kstr(&w, "version", farstep_version());
	jw_kstr(&w, "build", farstep_build());
	jw_kstr(&w, "sandbox", wk->o->sandbox_id);
	jw_kint(&w, "generation", wk->o->generation);
	jw_karr(&w, "warnings");
	if (!wk->sealed)
		jw_str(&w, "no sealed memory file: a step could swap the worker's program");
	if (rss > WARN_RSS_KB)
		jw_str(&w, "the worker uses much memory");
	jw_end(&w);
	jw_end(&w);
	send_built(r, &w, &b);
}

static void m_worker_shutdown(struct conn *c, const json *params, struct reply *r)
{
	int64_t grace = CLOSE_GRACE_MS;
	struct err e = ERR_INIT;

	if (json_opt_int(params, "params", "grace_ms", 0, GRACE_MAX_MS, &grace, &e) < 0) {
		reply_error(r, &e, NULL);
		return;
	}
	reply_result(r, NULL, 0);
	worker_drain(c->w, (int)grace);
}

/* ---- notices ---- */

static void m_event_ack(struct conn *c, const json *params, struct reply *r)
{
	int64_t wseq = 0;

	(void)r;
	if (json_req_int(params, "params", "wseq", 0, JSON_INT_MAX, &wseq, NULL) < 0 ||
	    (uint64_t)wseq > c->events.sent || (uint64_t)wseq <= c->events_acked)
		return;
	c->events_acked = (uint64_t)wseq;
	if (c->observer) {
		conn_pump_events(c);
		return;
	}
	journal_ack(&c->session->journal, (uint64_t)wseq, &c->events);
	session_pump(c->session);
}

static void m_heartbeat(struct conn *c, const json *params, struct reply *r)
{
	/* That it came is all: conn.c notes the time of every frame. */
	(void)c, (void)params, (void)r;
}

/* ---- the gate ---- */

static const struct method {
	const char *name;
	unsigned flags;
	void (*handle)(struct conn *c, const json *params, struct reply *r);
} methods[] = {
#define METHOD(id, name, flags, text) { name, flags, m_##id },
#include "protocol/methods.def"
#undef METHOD
};

static int permit(const struct conn *c, const struct method *m, bool notice, struct err *e)
{
	if ((m->flags & M_NOTICE) && !notice)
		return err_set(e, ERR_INVALID_REQUEST, 0, "%s is a notification: it has no id",
		               m->name);
	if (!(m->flags & M_NOTICE) && notice)
		return err_set(e, ERR_INVALID_REQUEST, 0, "%s needs an id", m->name);
	if ((m->flags & M_OPENS) && c->session)
		return err_set(e, ERR_STATE, 0, "the connection has session '%s' already",
		               c->session->id);
	if (!(m->flags & (M_SESSION | M_OBSERVE)))
		return 0;
	if (!c->session)
		return err_set(e, ERR_STATE, 0, "%s needs a session: open or resume one first",
		               m->name);
	if (c->observer && !(m->flags & M_OBSERVE))
		return err_set(e, ERR_DENIED, 0, "%s: an observer only reads", m->name);
	if (c->session->closing)
		return err_set(e, ERR_STATE, 0, "session '%s' is being closed", c->session->id);
	return 0;
}

void method_dispatch(struct conn *c, const struct rpc_message *m, struct reply *r)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		if (strcmp(methods[i].name, m->method) != 0)
			continue;
		c->w->count.by_method[i]++;
		if (permit(c, &methods[i], m->kind == RPC_NOTICE, &e) == 0)
			methods[i].handle(c, m->params, r);
		else
			reply_error(r, &e, NULL);
		return;
	}
	err_set(&e, ERR_METHOD_NOT_FOUND, 0, "no method '%.64s'", m->method);
	reply_error(r, &e, NULL);
}
