/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/conn.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "worker/session.h"
#include "worker/tree.h"

/* ---- answers ---- */

/* The answers to one batch go out as one array, when the last of them is there. */
struct batch {
	struct conn *conn;
	struct buf answers;
	int open; /* answers still to come, plus one while the batch is being read */
};

static void batch_flush(struct batch *b)
{
	if (buf_len(&b->answers) && b->conn && buf_putc(&b->answers, ']', NULL) == 0)
		carrier_send_text(b->conn->carrier, buf_data(&b->answers), buf_len(&b->answers),
		                  NULL);
	buf_reset(&b->answers);
}

static void batch_release(struct batch *b)
{
	if (--b->open > 0)
		return;
	batch_flush(b);
	buf_release(&b->answers);
	free(b);
}

static void batch_add(struct batch *b, const struct buf *answer)
{
	/* An array over the frame limit is sent in parts: the ids tell them apart. */
	if (buf_len(&b->answers) + buf_len(answer) + 2 > LIMIT_TEXT)
		batch_flush(b);
	buf_putc(&b->answers, buf_len(&b->answers) ? ',' : '[', NULL);
	buf_put(&b->answers, buf_data(answer), buf_len(answer), NULL);
}

static void send_answer(struct conn *c, struct batch *b, const struct buf *answer)
{
	struct err e = ERR_INIT;

	if (b)
		batch_add(b, answer);
	else if (carrier_send_text(c->carrier, buf_data(answer), buf_len(answer), &e) < 0)
		conn_close(c, CLOSE_PROTOCOL, e.msg);
}

static void reply_free(struct reply *r)
{
	struct reply **at;

	if (r->conn) {
		for (at = &r->conn->in_flight; *at != r; at = &(*at)->next)
			;
		*at = r->next;
		r->conn->n_in_flight--;
	}
	if (r->batch)
		batch_release(r->batch);
	free(r);
}

void reply_result(struct reply *r, const char *result, size_t n)
{
	struct buf out;
	struct err e = ERR_INIT;

	if (!r)
		return;
	if (r->conn) {
		r->conn->w->count.ok++;
		buf_init(&out, LIMIT_TEXT);
		if (rpc_write_result(&out, &r->id, result, n, &e) < 0) {
			buf_reset(&out);
			rpc_write_error(&out, &r->id, &e, NULL, NULL);
		}
		send_answer(r->conn, r->batch, &out);
		buf_release(&out);
	}
	reply_free(r);
}

void reply_error(struct reply *r, const struct err *error, const char *extra)
{
	struct buf out;

	if (!r)
		return;
	if (r->conn) {
		r->conn->w->count.failed++;
		buf_init(&out, LIMIT_TEXT);
		if (rpc_write_error(&out, &r->id, error, extra, NULL) == 0)
			send_answer(r->conn, r->batch, &out);
		buf_release(&out);
	}
	reply_free(r);
}

/* ---- what comes in ---- */

static void answer_fault(struct conn *c, const struct rpc_id *id, const struct err *error)
{
	struct buf out;

	c->w->count.failed++;
	buf_init(&out, LIMIT_TEXT);
	if (rpc_write_error(&out, id, error, NULL, NULL) == 0)
		send_answer(c, c->batch, &out);
	buf_release(&out);
}

static void on_fault(void *arg, const struct rpc_fault *f)
{
	answer_fault(arg, &f->id, &f->error);
}

static bool id_in_flight(const struct conn *c, const struct rpc_id *id)
{
	for (const struct reply *r = c->in_flight; r; r = r->next)
		if (strcmp(r->id.raw, id->raw) == 0)
			return true;
	return false;
}

static struct reply *reply_new(struct conn *c, const struct rpc_id *id, struct err *e)
{
	struct reply *r = NULL;

	if (id_in_flight(c, id))
		err_set(e, ERR_INVALID_REQUEST, 0, "id %s is still in flight", id->raw);
	else if (c->n_in_flight >= LIMIT_IN_FLIGHT)
		err_set(e, ERR_BUSY, 0, "%d requests are in flight", c->n_in_flight);
	else if (!(r = calloc(1, sizeof(*r))))
		err_set(e, ERR_NO_MEMORY, 0, "request");
	if (!r)
		return NULL;
	r->conn = c;
	r->id = *id;
	r->batch = c->batch;
	if (r->batch)
		r->batch->open++;
	r->next = c->in_flight;
	c->in_flight = r;
	c->n_in_flight++;
	return r;
}

static void on_message(void *arg, const struct rpc_message *m)
{
	struct conn *c = arg;
	struct reply *r = NULL;
	struct err e = ERR_INIT;

	if (c->closed)
		return;
	c->n_read++;
	if (m->kind == RPC_REQUEST && !(r = reply_new(c, &m->id, &e)))
		answer_fault(c, &m->id, &e);
	else if (m->kind == RPC_REQUEST || m->kind == RPC_NOTICE)
		method_dispatch(c, m, r);
	/* Answers: this worker asks nothing, so there is nothing they could belong to. */
}

static void on_batch(void *arg, bool begins)
{
	struct conn *c = arg;
	struct batch *b = c->batch;

	if (!begins) {
		c->batch = NULL;
		if (b)
			batch_release(b);
		return;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return; /* answers go out one by one */
	b->conn = c;
	b->open = 1;
	buf_init(&b->answers, LIMIT_TEXT);
	c->batch = b;
}

static struct channel *find_channel(const struct conn *c, uint32_t id)
{
	for (int i = 0; i < c->n_channels; i++)
		if (c->channels[i].id == id)
			return (struct channel *)(uintptr_t)&c->channels[i];
	return NULL;
}

static void on_binary(struct conn *c, const uint8_t *p, size_t n)
{
	struct frame f;
	struct err e = ERR_INIT;
	struct channel *ch;

	if (frame_parse(p, n, &f, &e) < 0) {
		conn_fail(c, &e);
		return;
	}
	ch = find_channel(c, f.channel);
	if (ch)
		ch->on_frame(ch->owner, &f);
}

static void on_let_go(struct loop_timer *t)
{
	struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, let_go));

	c->carrier->hold(c->carrier, false);
}

/* A flood is not refused: it waits in its own socket, and others get their turn. */
static void slow_down(struct conn *c)
{
	uint32_t ms = bucket_spend(&c->requests, c->n_read ? c->n_read : 1, now_ns() / 1000000);

	if (!ms || c->closed || c->let_go.loop || !c->carrier->hold)
		return;
	if (loop_timer_start(c->w->loop, &c->let_go, ms, on_let_go, NULL) == 0)
		c->carrier->hold(c->carrier, true);
}

static void on_frame(struct carrier *carrier, bool binary, const uint8_t *p, size_t n)
{
	struct conn *c = carrier->user;
	const struct rpc_sink sink = { c, on_message, on_fault, on_batch };

	c->last_in_ns = now_ns();
	if (binary) {
		on_binary(c, p, n);
		return;
	}
	c->n_read = 0;
	rpc_read((const char *)p, n, &sink);
	slow_down(c);
}

int conn_bind(struct conn *c, const struct channel *ch, struct err *e)
{
	if (ch->id == 0 || find_channel(c, ch->id))
		return err_set(e, ERR_INVALID_PARAMS, 0, "channel %u is in use", (unsigned)ch->id);
	if (c->n_channels >= LIMIT_CHANNELS)
		return err_set(e, ERR_LIMIT, 0, "%d channels are bound", LIMIT_CHANNELS);
	c->channels[c->n_channels++] = *ch;
	return 0;
}

bool conn_has_channel(const struct conn *c, uint32_t channel)
{
	return find_channel(c, channel) != NULL;
}

void conn_unbind(struct conn *c, uint32_t channel)
{
	struct channel *ch = find_channel(c, channel);

	if (ch)
		*ch = c->channels[--c->n_channels];
}

/* ---- what goes out by itself ---- */

static void send_notice(struct conn *c, const char *method, const struct buf *params)
{
	struct buf out;

	buf_init(&out, LIMIT_TEXT);
	if (rpc_write_notice(&out, method, (const char *)buf_data(params), buf_len(params), NULL) ==
	    0)
		carrier_send_text(c->carrier, buf_data(&out), buf_len(&out), NULL);
	buf_release(&out);
}

static void send_hello(struct conn *c)
{
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kobj(&w, "protocol");
	jw_kint(&w, "min", 1);
	jw_kint(&w, "max", 1);
	jw_end(&w);
	jw_kstr(&w, "version", farstep_version());
	jw_kstr(&w, "build", farstep_build());
	jw_kstr(&w, "sandbox", c->w->o->sandbox_id);
	jw_kstr(&w, "worker", c->w->id);
	jw_kint(&w, "generation", c->w->o->generation);
	jw_ku64s(&w, "boot_ns", c->w->started_ns);
	jw_kint(&w, "pid", getpid());
	jw_karr(&w, "features");
	jw_str(&w, "steps");
	jw_str(&w, "package");
	jw_str(&w, "observe");
	jw_str(&w, "batch");
	jw_end(&w);
	jw_karr(&w, "compressions");
	jw_str(&w, "zstd");
	jw_str(&w, "none");
	jw_end(&w);
	jw_kint(&w, "heartbeat_ms", c->w->o->heartbeat_ms);
	jw_kobj(&w, "limits");
	jw_kint(&w, "text", LIMIT_TEXT);
	jw_kint(&w, "data", LIMIT_DATA);
	jw_kint(&w, "steps", LIMIT_STEPS_RUNNING);
	jw_end(&w);
	jw_kobj(&w, "capabilities");
	jw_kbool(&w, "sealed", c->w->sealed);
	jw_kbool(&w, "proc", tree_can_see());
	jw_kint(&w, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
	jw_end(&w);
	jw_end(&w);
	if (jw_done(&w, NULL) == 0)
		send_notice(c, "hello", &b);
	buf_release(&b);
}

static void on_heartbeat(struct loop_timer *t)
{
	struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, heartbeat));
	int64_t beat = c->w->o->heartbeat_ms;
	int64_t left = LINK_DEAD_MS(beat) - (int64_t)((now_ns() - c->last_in_ns) / 1000000);
	struct buf b;
	struct jw w;

	if (left <= 0) {
		conn_close(c, CLOSE_SILENT, "nothing received in time");
		return;
	}
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kint(&w, "uptime_ms", (int64_t)((now_ns() - c->w->started_ns) / 1000000));
	jw_kint(&w, "rss_kb", worker_rss_kb());
	jw_karr(&w, "running");
	if (c->session)
		session_list_running(c->session, &w);
	jw_end(&w);
	jw_kint(&w, "wseq", c->session ? (int64_t)c->session->journal.last : 0);
	jw_end(&w);
	if (jw_done(&w, NULL) == 0)
		send_notice(c, "heartbeat", &b);
	buf_release(&b);
	loop_timer_start(c->w->loop, &c->heartbeat, (uint64_t)(left < beat ? left : beat),
	                 on_heartbeat, NULL);
}

static int send_event(void *arg, const char *line, size_t n, struct err *e)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":";
	struct conn *c = arg;
	struct out_frame *f = carrier_frame(c->carrier, false, false, sizeof(head) - 1 + n + 1, e);

	if (!f)
		return -1;
	memcpy(out_frame_payload(f), head, sizeof(head) - 1);
	memcpy(out_frame_payload(f) + sizeof(head) - 1, line, n);
	out_frame_payload(f)[f->len - 1] = '}';
	carrier_push(c->carrier, f);
	return 0;
}

void conn_pump_events(struct conn *c)
{
	uint64_t ahead = c->events.sent - c->events_acked;
	struct err e = ERR_INIT;

	if (c->closed || !c->session || ahead >= LIMIT_EVENT_WINDOW)
		return;
	if (journal_read(&c->session->journal, &c->events, (int)(LIMIT_EVENT_WINDOW - ahead),
	                 send_event, c, &e) < 0)
		conn_close(c, CLOSE_PROTOCOL, e.msg);
}

/* ---- life ---- */

static void on_room(struct carrier *carrier)
{
	struct conn *c = carrier->user;

	if (c->session && !c->observer)
		session_pump(c->session);
}

static void on_closed(struct carrier *carrier, int code, const char *reason)
{
	struct conn *c = carrier->user;
	struct session *s = c->session;

	c->closed = true;
	log_info("connection%s%s closed: %d %s", s ? " of session " : "", s ? s->id : "", code,
	         reason);
	loop_timer_stop(&c->heartbeat);
	loop_timer_stop(&c->let_go);
	for (struct reply *r = c->in_flight; r; r = r->next) {
		r->conn = NULL;
		if (r->batch)
			r->batch->conn = NULL;
	}
	while (c->n_channels) {
		struct channel ch = c->channels[--c->n_channels];

		ch.on_gone(ch.owner, ch.id);
	}
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->w->n_conns--;
	if (s)
		session_detach(s, c);
	worker_conn_gone(c->w);
	free(c);
}

bool conn_open(void *worker, struct carrier *carrier)
{
	struct worker *w = worker;
	struct conn *c;

	if (w->n_conns >= LIMIT_CONNECTIONS || w->draining || !(c = calloc(1, sizeof(*c))))
		return false;
	c->w = w;
	c->carrier = carrier;
	carrier->user = c;
	carrier->on_frame = on_frame;
	carrier->on_room = on_room;
	carrier->on_closed = on_closed;
	c->last_in_ns = now_ns();
	bucket_init(&c->requests, LIMIT_REQUESTS_S, LIMIT_REQUESTS, now_ns() / 1000000);
	c->next = w->conns;
	c->at = &w->conns;
	if (c->next)
		c->next->at = &c->next;
	w->conns = c;
	w->n_conns++;
	send_hello(c);
	loop_timer_start(w->loop, &c->heartbeat, (uint64_t)w->o->heartbeat_ms, on_heartbeat, NULL);
	return true;
}

void conn_close(struct conn *c, int code, const char *reason)
{
	if (!c->closed)
		c->carrier->close(c->carrier, code, reason);
}

void conn_fail(struct conn *c, const struct err *e)
{
	log_warn("connection: %s", e->msg);
	conn_close(c, CLOSE_PROTOCOL, e->msg);
}
