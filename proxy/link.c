/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/link.h"
#include "proxy/ws_address.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"

#define ACK_EVERY      64
#define ACK_MS         100
#define FIRST_RETRY_MS 1 /* a worker on this machine is there within milliseconds */
#define MAX_RETRY_MS   1000
#define OPEN_MS        10000 /* from connected to session open */

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_OPENING, LINK_UP, LINK_DEAD };

struct bound {
	uint32_t id;
	void *owner;
	void (*on_frame)(void *owner, const struct frame *f);
};

struct link {
	struct loop *loop;
	struct ws_client *ws;
	struct link_hooks hooks;
	char *address, *env, *secrets;
	char token[SHA256_HEX], key[SHA256_HEX], session[LIMIT_RUN_ID + 1], run[LIMIT_RUN_ID + 1],
		sandbox[128];
	bool resume, was_up, want_secrets;
	int64_t lease_ms, memory_mb;
	uint64_t give_up_ms, down_since_ns, allowed_ms;
	char why[100]; /* the last connection did not stand */
	enum link_state state;
	struct carrier *carrier;
	struct call open_call, renew_call;
	struct call *calls, **calls_tail;
	uint64_t next_id;
	struct bound bound[LIMIT_CHANNELS];
	int n_bound;
	uint32_t next_channel;
	uint64_t events_have, events_acked;
	json *hello;
	uint64_t heartbeat_ms; /* as the hello says */
	unsigned retry_ms;
	uint64_t last_in_ns;
	struct loop_timer retry, heartbeat, ack, renew;
	uint64_t bytes_up, bytes_down;
	void (*on_room)(void *arg);
	struct rpc_trace *trace;
};

static void connect_now(struct link *l);
static void on_retry(struct loop_timer *t);

/* ---- the end of a link ---- */

/* What the carrier still has to write is no longer ours. */
static void leave(struct carrier *c, int code, const char *reason)
{
	c->on_frame = NULL;
	c->on_closed = NULL;
	c->on_room = NULL;
	c->on_sent = NULL;
	c->close(c, code, reason);
}

static void fatal(struct link *l, const struct err *e)
{
	struct carrier *c = l->carrier;

	if (l->state == LINK_DEAD)
		return;
	l->state = LINK_DEAD;
	l->carrier = NULL;
	loop_timer_stop(&l->retry);
	loop_timer_stop(&l->heartbeat);
	loop_timer_stop(&l->ack);
	loop_timer_stop(&l->renew);
	if (c)
		leave(c, CLOSE_PROTOCOL, "");
	l->hooks.on_fatal(l->hooks.arg, e);
}

void link_fail(struct link *l, const struct err *e)
{
	fatal(l, e);
}

static void go_down(struct link *l, int code, const char *reason)
{
	bool was = l->state == LINK_UP;
	struct err e = ERR_INIT;

	if (l->state == LINK_DEAD)
		return;
	if (l->carrier) {
		l->bytes_up += l->carrier->bytes_out;
		l->bytes_down += l->carrier->bytes_in;
	}
	l->carrier = NULL;
	snprintf(l->why, sizeof(l->why), "%s", reason);
	l->n_bound = 0;
	for (struct call *c = l->calls; c; c = c->next)
		c->sent = false;
	loop_timer_stop(&l->heartbeat);
	loop_timer_stop(&l->ack);
	if (l->state == LINK_UP)
		l->down_since_ns = now_ns();
	l->state = LINK_DOWN;
	if (code == CLOSE_REPLACED || code == CLOSE_ENDED)
		err_set(&e, code == CLOSE_REPLACED ? ERR_REPLACED : ERR_LOST, 0, "%s",
		        *reason ? reason : "the session ended");
	else if (code == CLOSE_DENIED)
		err_set(&e, ERR_DENIED, 0,
		        "the worker refused the token; is this the key that started the run?");
	else if (code == CLOSE_PROTOCOL)
		err_set(&e, ERR_PROTO, 0, "the worker says that we broke the protocol: %s", reason);
	if (e.code) {
		fatal(l, &e);
		return;
	}
	if (was) {
		l->allowed_ms = l->give_up_ms;
		l->hooks.on_down(l->hooks.arg, code, reason);
	}
	loop_timer_start(l->loop, &l->retry, l->retry_ms, on_retry, NULL);
}

static void drop_connection(struct link *l, int code, const char *reason)
{
	struct carrier *c = l->carrier;

	if (!c)
		return;
	go_down(l, CLOSE_LOST, reason);
	leave(c, code, reason);
}

/* ---- sending ---- */

static int send_call(struct link *l, struct call *c, struct err *e)
{
	struct buf params, out;
	struct rpc_id id;
	int r;

	buf_init(&params, LIMIT_TEXT);
	buf_init(&out, LIMIT_TEXT);
	r = c->render ? c->render(c, l, &params, e) : buf_puts(&params, "{}", e);
	rpc_id_number(&id, c->id);
	if (r == 0)
		r = rpc_write_request(&out, &id, c->method, (const char *)buf_data(&params),
		                      buf_len(&params), e);
	if (r == 0)
		r = carrier_send_text(l->carrier, buf_data(&out), buf_len(&out), e);
	if (params.mem)
		wipe(params.mem, params.cap);
	if (out.mem)
		wipe(out.mem, out.cap);
	buf_release(&params);
	buf_release(&out);
	c->sent = r == 0;
	return r;
}

static void call_done(struct link *l, struct call *c, const json *result, const struct err *error)
{
	link_forget(l, c);
	c->on_done(c, result, error);
}

static void flush_calls(struct link *l)
{
	for (struct call *c = l->calls, *next; c && l->state == LINK_UP; c = next) {
		struct err e = ERR_INIT;

		next = c->next;
		if (!c->sent && send_call(l, c, &e) < 0)
			call_done(l, c, NULL, &e);
	}
}

static void enlist(struct link *l, struct call *c)
{
	c->id = ++l->next_id;
	c->sent = false;
	c->next = NULL;
	c->at = l->calls_tail;
	*l->calls_tail = c;
	l->calls_tail = &c->next;
}

void link_call(struct link *l, struct call *c)
{
	struct err e = ERR_INIT;

	enlist(l, c);
	if (l->state == LINK_UP && send_call(l, c, &e) < 0)
		call_done(l, c, NULL, &e);
}

void link_forget(struct link *l, struct call *c)
{
	if (!c->id)
		return;
	c->id = 0;
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	else
		l->calls_tail = c->at;
}

static void send_notice(struct link *l, const char *method, const char *params)
{
	struct buf out;

	if (!l->carrier)
		return;
	buf_init(&out, LIMIT_TEXT);
	if (rpc_write_notice(&out, method, params, strlen(params), NULL) == 0)
		carrier_send_text(l->carrier, buf_data(&out), buf_len(&out), NULL);
	buf_release(&out);
}

/* ---- receiving ---- */

static void send_ack(struct link *l)
{
	char text[48];

	loop_timer_stop(&l->ack);
	if (l->state != LINK_UP || l->events_acked == l->events_have)
		return;
	l->events_acked = l->events_have;
	snprintf(text, sizeof(text), "{\"wseq\":%llu}", (unsigned long long)l->events_have);
	send_notice(l, "event.ack", text);
}

static void on_ack_due(struct loop_timer *t)
{
	send_ack((struct link *)((char *)t - offsetof(struct link, ack)));
}

static void on_event(struct link *l, const json *params)
{
	struct err e = ERR_INIT;
	int64_t wseq = 0;

	if (json_req_int(params, "event", "wseq", 1, JSON_INT_MAX, &wseq, &e) < 0)
		e.code = ERR_PROTO;
	if (e.code || l->hooks.on_event(l->hooks.arg, params, &e) < 0) {
		fatal(l, &e);
		return;
	}
	if ((uint64_t)wseq > l->events_have)
		l->events_have = (uint64_t)wseq;
	if (l->events_have - l->events_acked >= ACK_EVERY)
		send_ack(l);
	else if (!l->ack.loop)
		loop_timer_start(l->loop, &l->ack, ACK_MS, on_ack_due, NULL);
}

static void on_hello(struct link *l, const json *params)
{
	int64_t beat = HEARTBEAT_MS;
	struct buf b;

	buf_init(&b, LIMIT_TEXT);
	json_free(l->hello);
	l->hello = NULL;
	if (json_print(params, &b, NULL) == 0)
		l->hello = json_parse((const char *)buf_data(&b), buf_len(&b), LIMIT_TEXT,
		                      LIMIT_JSON_DEPTH, NULL);
	buf_release(&b);
	json_opt_int(l->hello, "hello", "heartbeat_ms", HEARTBEAT_MIN_MS, HEARTBEAT_MAX_MS, &beat,
	             NULL);
	l->heartbeat_ms = (uint64_t)beat;
}

static void on_message(void *arg, const struct rpc_message *m)
{
	struct link *l = arg;
	struct call *c;

	if (l->state == LINK_DEAD || l->state == LINK_DOWN)
		return;
	if (m->kind == RPC_NOTICE) {
		if (strcmp(m->method, "event") == 0)
			on_event(l, m->params);
		else if (strcmp(m->method, "hello") == 0 && m->params)
			on_hello(l, m->params);
		return;
	}
	if (m->kind != RPC_RESULT && m->kind != RPC_ERROR)
		return;
	/* Which request that was nobody can say, so none of them may wait any longer. */
	if (m->kind == RPC_ERROR && strcmp(m->id.raw, "null") == 0) {
		struct err e = m->error;

		err_wrap(&e, "the worker could not read a request");
		e.code = ERR_PROTO;
		fatal(l, &e);
		return;
	}
	if (l->open_call.id && strtoull(m->id.raw, NULL, 10) == l->open_call.id) {
		l->open_call.id = 0;
		l->open_call.on_done(&l->open_call, m->kind == RPC_RESULT ? m->result : NULL,
		                     &m->error);
		return;
	}
	for (c = l->calls; c; c = c->next) {
		if (!c->sent || strtoull(m->id.raw, NULL, 10) != c->id)
			continue;
		call_done(l, c, m->kind == RPC_RESULT ? m->result : NULL,
		          m->kind == RPC_ERROR ? &m->error : NULL);
		return;
	}
}

static void on_fault(void *arg, const struct rpc_fault *f)
{
	struct link *l = arg;
	struct err e = f->error;

	err_wrap(&e, "the worker sent a bad message");
	e.code = ERR_PROTO;
	fatal(l, &e);
}

static void on_frame(struct carrier *carrier, bool binary, const uint8_t *p, size_t n)
{
	struct link *l = carrier->user;
	const struct rpc_sink sink = { l, on_message, on_fault, NULL };
	struct frame f;
	struct err e = ERR_INIT;

	l->last_in_ns = now_ns();
	rpc_trace_frame(l->trace, false, binary, p, n);
	if (!binary) {
		rpc_read((const char *)p, n, &sink);
		return;
	}
	if (frame_parse(p, n, &f, &e) < 0) {
		fatal(l, &e);
		return;
	}
	for (int i = 0; i < l->n_bound; i++) {
		if (l->bound[i].id == f.channel) {
			l->bound[i].on_frame(l->bound[i].owner, &f);
			return;
		}
	}
}

/* ---- session ---- */

static int render_open(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct jw w;

	(void)c;
	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "session", l->session);
	jw_kstr(&w, "run", l->run);
	jw_kstr(&w, "key", l->key);
	jw_kobj(&w, "client");
	jw_kstr(&w, "name", "farstep");
	jw_kstr(&w, "version", farstep_version());
	jw_kobj(&w, "protocol");
	jw_kint(&w, "min", 1);
	jw_kint(&w, "max", 1);
	jw_end(&w);
	jw_karr(&w, "compressions");
	jw_str(&w, "zstd");
	jw_str(&w, "none");
	jw_end(&w);
	jw_end(&w);
	if (l->sandbox[0])
		jw_kstr(&w, "sandbox", l->sandbox);
	if (l->resume) {
		jw_kint(&w, "events_have", (int64_t)l->events_have);
		if (l->want_secrets && !l->was_up)
			jw_kbool(&w, "want_secrets", true);
	} else {
		jw_kint(&w, "lease_ms", l->lease_ms);
		if (l->memory_mb)
			jw_kint(&w, "memory_mb", l->memory_mb);
		if (l->env) {
			jw_key(&w, "env");
			jw_raw(&w, l->env, strlen(l->env));
		}
		if (l->secrets) {
			jw_key(&w, "secrets");
			jw_raw(&w, l->secrets, strlen(l->secrets));
		}
	}
	jw_end(&w);
	return jw_done(&w, e);
}

static void on_heartbeat(struct loop_timer *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, heartbeat));
	uint64_t silent_ms = (now_ns() - l->last_in_ns) / 1000000;

	if (silent_ms > LINK_DEAD_MS(l->heartbeat_ms)) {
		drop_connection(l, CLOSE_SILENT, "nothing received in time");
		return;
	}
	send_notice(l, "heartbeat", "{}");
	/* Half the interval: a peer that went silent right after a beat is noticed before 30 s. */
	loop_timer_start(l->loop, &l->heartbeat, l->heartbeat_ms / 2, on_heartbeat, NULL);
}

static int render_renew(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	(void)c;
	return buf_printf(out, e, "{\"lease_ms\":%lld}", (long long)l->lease_ms);
}

static void on_renewed(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result;
	if (error)
		log_warn("lease: %s", error->msg);
}

static void on_renew_due(struct loop_timer *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, renew));

	if (!l->renew_call.id)
		link_call(l, &l->renew_call);
	loop_timer_start(l->loop, &l->renew, LEASE_RENEW_MS, on_renew_due, NULL);
}

/* What the worker says is not ours: it may say anything. */
static int note_sandbox(struct link *l, const json *result, struct err *e)
{
	const char *sandbox = NULL;

	if (json_req_str(result, "result", "sandbox", &sandbox, e) < 0)
		return err_set(e, ERR_PROTO, 0, "%s: %s", l->open_call.method, e->msg);
	if (strlen(sandbox) >= sizeof(l->sandbox))
		return err_set(e, ERR_PROTO, 0, "%s: result.sandbox has more than %zu bytes",
		               l->open_call.method, sizeof(l->sandbox) - 1);
	memcpy(l->sandbox, sandbox, strlen(sandbox) + 1);
	return 0;
}

static void on_opened(struct call *c, const json *result, const struct err *error)
{
	struct link *l = (struct link *)((char *)c - offsetof(struct link, open_call));
	bool again = l->was_up;
	struct err e = ERR_INIT;

	if (!result) {
		/* The answer to our first open was lost with its connection. */
		if (error->code == ERR_EXISTS && !l->resume) {
			l->resume = true;
			drop_connection(l, CLOSE_DONE, "resuming");
			return;
		}
		fatal(l, error);
		return;
	}
	if (note_sandbox(l, result, &e) < 0) {
		fatal(l, &e);
		return;
	}
	l->state = LINK_UP;
	l->resume = l->was_up = true;
	l->retry_ms = FIRST_RETRY_MS * 20;
	l->events_acked = l->events_have;
	loop_timer_stop(&l->retry);
	loop_timer_start(l->loop, &l->heartbeat, l->heartbeat_ms / 2, on_heartbeat, NULL);
	loop_timer_start(l->loop, &l->renew, LEASE_RENEW_MS, on_renew_due, NULL);
	l->hooks.on_up(l->hooks.arg, l->hello, result, again);
	flush_calls(l);
}

static void on_sent(struct carrier *carrier, bool binary, const uint8_t *p, size_t n)
{
	struct link *l = carrier->user;

	rpc_trace_frame(l->trace, true, binary, p, n);
}

static void on_open(struct carrier *carrier)
{
	struct link *l = carrier->user;
	struct err e = ERR_INIT;

	l->carrier = carrier;
	carrier->on_frame = on_frame;
	if (l->trace)
		carrier->on_sent = on_sent;
	rpc_trace_connected(l->trace);
	l->state = LINK_OPENING;
	l->last_in_ns = now_ns();
	l->open_call.method = l->resume ? "session.resume" : "session.open";
	l->open_call.id = ++l->next_id;
	if (send_call(l, &l->open_call, &e) < 0) {
		fatal(l, &e);
		return;
	}
	loop_timer_start(l->loop, &l->retry, OPEN_MS, on_retry, NULL);
}

static void on_closed(struct carrier *carrier, int code, const char *reason)
{
	struct link *l = carrier->user;

	if (l->carrier == carrier || l->state == LINK_CONNECTING) {
		l->carrier = carrier;
		go_down(l, code, reason);
	}
}

static void on_carrier_room(struct carrier *carrier)
{
	struct link *l = carrier->user;

	if (l->on_room)
		l->on_room(l->hooks.arg);
}

static void connect_now(struct link *l)
{
	struct err e = ERR_INIT;
	struct carrier *c;

	if ((now_ns() - l->down_since_ns) / 1000000 > l->allowed_ms) {
		err_set(&e, l->was_up ? ERR_LOST : ERR_DEADLINE, 0,
		        "%.*s: no connection to the worker within %llu s%s%s",
		        (int)ws_address_public(l->address), l->address,
		        (unsigned long long)(l->allowed_ms / 1000), l->why[0] ? ": " : "", l->why);
		fatal(l, &e);
		return;
	}
	if (l->hooks.is_there && !l->hooks.is_there(l->hooks.arg)) {
		err_set(&e, ERR_LOST, 0, "the sandbox is gone");
		fatal(l, &e);
		return;
	}
	l->state = LINK_CONNECTING;
	c = ws_connect(l->ws, l->address, l->token, on_open, on_closed, l, &e);
	if (!c) {
		if (e.code == ERR_USAGE) {
			fatal(l, &e);
			return;
		}
		l->state = LINK_DOWN;
		loop_timer_start(l->loop, &l->retry, l->retry_ms, on_retry, NULL);
	} else {
		c->on_room = on_carrier_room;
		l->carrier = c;
		loop_timer_start(l->loop, &l->retry, OPEN_MS, on_retry, NULL);
	}
	/* Quick while the worker starts, then slower and slower. */
	if (l->retry_ms < 20 && (now_ns() - l->down_since_ns) / 1000000 < 1000)
		l->retry_ms++;
	else if (l->retry_ms < MAX_RETRY_MS)
		l->retry_ms += l->retry_ms / 2;
}

static void on_retry(struct loop_timer *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, retry));

	if (l->state == LINK_DEAD || l->state == LINK_UP)
		return;
	if (l->carrier) /* connected, but nobody answered in time */
		drop_connection(l, CLOSE_SILENT, "no answer");
	else
		connect_now(l);
}

/* ---- life ---- */

struct link *link_new(struct loop *loop, struct ws_client *ws, const struct link_spec *spec,
                      const struct link_hooks *hooks, struct err *e)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l || !(l->address = strdup(spec->address)) ||
	    (spec->env && !(l->env = strdup(spec->env))) ||
	    (spec->secrets && !(l->secrets = strdup(spec->secrets)))) {
		link_free(l);
		err_set(e, ERR_NO_MEMORY, 0, "link");
		return NULL;
	}
	l->loop = loop;
	l->ws = ws;
	l->hooks = *hooks;
	l->calls_tail = &l->calls;
	snprintf(l->token, sizeof(l->token), "%s", spec->token);
	snprintf(l->key, sizeof(l->key), "%s", spec->key);
	snprintf(l->session, sizeof(l->session), "%s", spec->session);
	snprintf(l->run, sizeof(l->run), "%s", spec->run);
	snprintf(l->sandbox, sizeof(l->sandbox), "%s", spec->sandbox ? spec->sandbox : "");
	l->resume = spec->resume;
	l->want_secrets = spec->want_secrets;
	l->events_have = l->events_acked = spec->events_have;
	l->lease_ms = spec->lease_ms;
	l->memory_mb = spec->memory_mb;
	l->give_up_ms = spec->give_up_ms;
	l->trace = spec->trace;
	l->heartbeat_ms = HEARTBEAT_MS;
	l->allowed_ms = spec->first_ms;
	l->retry_ms = FIRST_RETRY_MS;
	l->open_call.render = render_open;
	l->open_call.on_done = on_opened;
	l->renew_call.method = "session.renew";
	l->renew_call.render = render_renew;
	l->renew_call.on_done = on_renewed;
	return l;
}

void link_start(struct link *l)
{
	l->down_since_ns = now_ns();
	connect_now(l);
}

void link_free(struct link *l)
{
	if (!l)
		return;
	loop_timer_stop(&l->retry);
	loop_timer_stop(&l->heartbeat);
	loop_timer_stop(&l->ack);
	loop_timer_stop(&l->renew);
	if (l->carrier)
		leave(l->carrier, CLOSE_DONE, "");
	free(l->address);
	if (l->env)
		wipe(l->env, strlen(l->env));
	if (l->secrets)
		wipe(l->secrets, strlen(l->secrets));
	free(l->env);
	free(l->secrets);
	json_free(l->hello);
	wipe(l, sizeof(*l));
	free(l);
}

bool link_is_up(const struct link *l)
{
	return l->state == LINK_UP;
}

struct carrier *link_carrier(struct link *l)
{
	return l->state == LINK_UP ? l->carrier : NULL;
}

uint32_t link_bind(struct link *l, void *owner,
                   void (*on_frame_)(void *owner, const struct frame *f))
{
	if (l->n_bound >= LIMIT_CHANNELS)
		return 0;
	l->bound[l->n_bound++] = (struct bound){ ++l->next_channel, owner, on_frame_ };
	return l->next_channel;
}

void link_unbind(struct link *l, uint32_t channel)
{
	for (int i = 0; i < l->n_bound; i++) {
		if (l->bound[i].id == channel) {
			l->bound[i] = l->bound[--l->n_bound];
			return;
		}
	}
}

void link_on_room(struct link *l, void (*on_room)(void *arg))
{
	l->on_room = on_room;
}

uint64_t link_events_have(const struct link *l)
{
	return l->events_have;
}

void link_bytes(const struct link *l, uint64_t *up, uint64_t *down)
{
	*up = l->bytes_up + (l->carrier ? l->carrier->bytes_out : 0);
	*down = l->bytes_down + (l->carrier ? l->carrier->bytes_in : 0);
}
