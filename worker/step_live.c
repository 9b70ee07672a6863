/* SPDX-License-Identifier: Apache-2.0
 *
 * The moving part of a step: its streams, bound to a connection, and its end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "worker/step.h"
#include "worker/store.h"

/* ---- life ---- */

static int open_dir(const struct step *st, struct err *e)
{
	char dir[LIMIT_STEP_ID + 32];
	int fd;

	snprintf(dir, sizeof(dir), "steps/%s.%d", st->id, st->attempt);
	fd = openat(st->s->dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_set(e, ERR_SYS, errno, "%s", dir) : fd;
}

struct live *live_new(struct step *st, int dir_fd, struct err *e)
{
	struct live *l = calloc(1, sizeof(*l));

	if (!l) {
		close_fd(&dir_fd);
		err_set(e, ERR_NO_MEMORY, 0, "step");
		return NULL;
	}
	l->st = st;
	l->keeper_fd = l->file_fd = -1;
	for (int i = 0; i < KS_COUNT; i++)
		l->spool[i] = -1;
	lines_init(&l->lines, LIMIT_EVENT_LINE);
	l->lines.seen = l->lines.taken = st->src;
	l->dir_fd = dir_fd >= 0 ? dir_fd : open_dir(st, e);
	if (l->dir_fd < 0) {
		free(l);
		return NULL;
	}
	l->next = st->s->lives;
	l->at = &st->s->lives;
	if (l->next)
		l->next->at = &l->next;
	st->s->lives = l;
	st->live = l;
	return l;
}

void live_sleep(struct live *l)
{
	close_fd(&l->dir_fd);
	for (int i = 0; i < KS_COUNT; i++)
		close_fd(&l->spool[i]);
}

int live_wake(struct step *st, struct err *e)
{
	if (st->live->dir_fd < 0 && (st->live->dir_fd = open_dir(st, e)) < 0)
		return -1;
	return live_open_spools(st->live, e);
}

static void unbind(struct step *st)
{
	struct live *l = st->live;

	if (l->conn) {
		conn_unbind(l->conn, l->in.channel);
		conn_unbind(l->conn, l->out[0].channel);
		conn_unbind(l->conn, l->out[1].channel);
		conn_unbind(l->conn, l->artifacts.channel);
	}
	l->conn = NULL;
	stream_in_unbind(&l->in);
	stream_out_unbind(&l->out[0]);
	stream_out_unbind(&l->out[1]);
	stream_out_unbind(&l->artifacts);
}

void live_free(struct step *st)
{
	struct live *l = st->live;

	if (!l)
		return;
	unbind(st);
	loop_io_stop(&l->io);
	close_fd(&l->keeper_fd);
	close_fd(&l->dir_fd);
	close_fd(&l->file_fd);
	for (int i = 0; i < KS_COUNT; i++)
		close_fd(&l->spool[i]);
	if (l->reply)
		reply_error(l->reply,
		            &(struct err){ .code = ERR_CANCELLED,
		                           .admitted = ADMITTED_YES,
		                           .msg = "the session ended" },
		            NULL);
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	lines_release(&l->lines);
	free(l->receipt);
	free(l->files);
	free(l);
	st->live = NULL;
}

/* ---- streams ---- */

/* What the keeper accepted is durable; it may be sent what it has room for. */
void live_grant_stdin(struct step *st)
{
	struct live *l = st->live;
	uint64_t limit = l->ks.stdin_closed ? l->in.next + WINDOW_STDIN
	                                    : l->ks.stdin_have + l->ks.stdin_room;

	if (!l->conn || !l->in.channel)
		return;
	/* nothing was sent on this binding yet: it begins where the keeper is */
	if (!l->in.granted)
		l->in.next = l->ks.stdin_have;
	l->in.durable = l->ks.stdin_closed ? l->in.next : l->ks.stdin_have;
	if (limit <= l->in.granted)
		return;
	l->in.granted = limit;
	carrier_send_window(l->conn->carrier, l->in.channel, l->in.durable, limit, NULL);
}

static void on_window(struct step *st, struct stream_out *out, const struct frame *f)
{
	struct live *l = st->live;
	struct conn *c = l->conn;
	struct err e = ERR_INIT;

	if (f->kind != FRAME_WINDOW || stream_out_window(out, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "channel %u: want WINDOW frames",
			        (unsigned)f->channel);
		conn_fail(c, &e);
		return;
	}
	/* Not out->acked: what a client had when it bound the stream need not be durable there. */
	if (out != &l->artifacts && f->offset > l->durable[out - l->out]) {
		l->durable[out - l->out] = f->offset;
		live_ack(l, (enum keeper_stream)(out - l->out), f->offset);
	}
	session_pump(st->s);
}

static void on_stdin(struct step *st, const struct frame *f)
{
	struct live *l = st->live;
	uint8_t m[10 + LIMIT_DATA];
	uint8_t end = f->flags & FRAME_END;
	struct err e = ERR_INIT;

	if (f->kind != FRAME_DATA || stream_in_data(&l->in, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "channel %u: want DATA frames",
			        (unsigned)f->channel);
		conn_fail(l->conn, &e);
		return;
	}
	if (l->keeper_fd < 0 || l->ks.stdin_closed) { /* nobody reads it any more */
		live_grant_stdin(st);
		return;
	}
	m[0] = KO_STDIN;
	m[1] = end ? 1 : 0;
	memcpy(m + 2, &f->offset, sizeof(f->offset));
	if (f->len)
		memcpy(m + 10, f->payload, f->len);
	/* It was granted by the keeper, so there is room; if not, the client comes again with
	 * it. */
	if (send(l->keeper_fd, m, 10 + f->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN)
		conn_close(l->conn, CLOSE_SILENT, "the step's keeper does not take its input");
}

static void on_channel(void *owner, const struct frame *f)
{
	struct step *st = owner;
	struct live *l = st->live;

	if (!l)
		return;
	if (f->channel == l->in.channel)
		on_stdin(st, f);
	else if (f->channel == l->out[0].channel)
		on_window(st, &l->out[0], f);
	else if (f->channel == l->out[1].channel)
		on_window(st, &l->out[1], f);
	else if (f->channel == l->artifacts.channel)
		on_window(st, &l->artifacts, f);
}

static void on_gone(void *owner, uint32_t channel)
{
	struct step *st = owner;

	(void)channel;
	if (!st->live)
		return;
	st->live->conn = NULL;
	stream_in_unbind(&st->live->in);
	stream_out_unbind(&st->live->out[0]);
	stream_out_unbind(&st->live->out[1]);
	stream_out_unbind(&st->live->artifacts);
	if (st->ended_seen)
		live_sleep(st->live);
}

static int bind_one(struct step *st, struct conn *c, const json *params, const char *name,
                    uint32_t *channel, uint64_t *offset, uint64_t *window, struct err *e)
{
	const json *b = NULL;
	int64_t id = 0;
	char path[32];

	*channel = 0;
	if (json_opt_obj(params, "params", name, &b, e) < 0)
		return -1;
	if (!b)
		return 0;
	snprintf(path, sizeof(path), "params.%s", name);
	*offset = *window = 0;
	if (json_req_int(b, path, "channel", 1, UINT32_MAX, &id, e) < 0 ||
	    json_opt_u64(b, path, "offset", offset, e) < 0 ||
	    json_opt_u64(b, path, "window", window, e) < 0)
		return -1;
	*channel = (uint32_t)id;
	if (conn_bind(c, &(struct channel){ *channel, st, on_channel, on_gone }, e) < 0)
		return -1;
	/* Not without a channel: who has none is not told when the connection goes. */
	st->live->conn = c;
	return 0;
}

int live_check_binding(const struct conn *c, const json *params, struct err *e)
{
	static const char *const names[] = { "stdin", "stdout", "stderr", "artifacts" };
	int64_t id[4] = { 0 };
	uint64_t ignored;
	char path[32];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const json *b = NULL;

		snprintf(path, sizeof(path), "params.%s", names[i]);
		if (json_opt_obj(params, "params", names[i], &b, e) < 0)
			return -1;
		if (!b)
			continue;
		if (json_req_int(b, path, "channel", 1, UINT32_MAX, &id[i], e) < 0 ||
		    json_opt_u64(b, path, "offset", &ignored, e) < 0 ||
		    json_opt_u64(b, path, "window", &ignored, e) < 0)
			return -1;
		for (size_t k = 0; k < i; k++)
			if (id[k] == id[i])
				return err_set(e, ERR_INVALID_PARAMS, 0,
				               "%s.channel: %d is given twice", path, (int)id[i]);
		if (conn_has_channel(c, (uint32_t)id[i]))
			return err_set(e, ERR_INVALID_PARAMS, 0, "%s.channel: %d is in use", path,
			               (int)id[i]);
	}
	return 0;
}

static int bind_all(struct step *st, struct conn *c, const json *params, struct err *e)
{
	struct live *l = st->live;
	uint32_t id[4];
	uint64_t offset = 0, window = 0;

	if (bind_one(st, c, params, "stdin", &id[0], &offset, &window, e) < 0)
		return -1;
	if (id[0]) {
		stream_in_bind(&l->in, id[0], l->ks.stdin_have, 0);
		l->in.granted = 0;
		live_grant_stdin(st);
		if (l->keeper_fd >= 0)
			live_ask_state(l);
	}
	if (bind_one(st, c, params, "stdout", &id[1], &offset, &window, e) < 0)
		return -1;
	stream_out_bind(&l->out[0], id[1], offset, window);
	if (bind_one(st, c, params, "stderr", &id[2], &offset, &window, e) < 0)
		return -1;
	stream_out_bind(&l->out[1], id[2], offset, window);
	if (bind_one(st, c, params, "artifacts", &id[3], &offset, &window, e) < 0)
		return -1;
	stream_out_bind(&l->artifacts, id[3], offset, window);
	close_fd(&l->file_fd);
	l->file = NULL;
	return 0;
}

/* What the client said is durable there is punched out of the spool: it would read as zeros. */
static int check_offset(const struct live *l, int i, const json *params, struct err *e)
{
	const json *b = json_get(params, step_stream_names[i]);
	uint64_t offset = 0;

	if (!b || json_opt_u64(b, "", "offset", &offset, NULL) < 0 || offset >= l->durable[i])
		return 0;
	return err_set(e, ERR_INVALID_PARAMS, 0,
	               "params.%s.offset: %llu: everything below %llu was acknowledged and is gone",
	               step_stream_names[i], (unsigned long long)offset,
	               (unsigned long long)l->durable[i]);
}

int live_bind(struct step *st, struct conn *c, const json *params, struct err *e)
{
	if (check_offset(st->live, KS_STDOUT, params, e) < 0 ||
	    check_offset(st->live, KS_STDERR, params, e) < 0)
		return -1;
	unbind(st);
	if (live_check_binding(c, params, e) == 0 && bind_all(st, c, params, e) == 0)
		return 0;
	unbind(st);
	return -1;
}

/* ---- sending ---- */

static ssize_t read_stream(struct live *l, struct stream_out *out, uint8_t *p, size_t n,
                           struct err *e)
{
	ssize_t got;

	if (out == &l->artifacts)
		return live_read_artifacts(l, out->sent, p, n, e);
	got = pread(l->spool[out - l->out], p, n, (off_t)out->sent);
	return got > 0 ? got
	               : err_set(e, ERR_INTEGRITY, got < 0 ? errno : 0,
	                         "spool is shorter than it should be");
}

static bool pump_one(struct step *st, struct stream_out *out, uint64_t have)
{
	struct live *l = st->live;
	struct conn *c = l->conn;
	struct err e = ERR_INIT;
	uint64_t n = stream_out_ready(out, have);
	struct out_frame *f;
	ssize_t got = 0;
	bool end;

	if (!out->channel || !carrier_has_room(c->carrier) || (!n && !stream_out_end_due(out)))
		return false;
	if (n > carrier_piece(c->carrier))
		n = carrier_piece(c->carrier);
	f = carrier_frame(c->carrier, true, true, FRAME_HEADER + (size_t)n, &e);
	if (!f)
		return false;
	if (n &&
	    (got = read_stream(l, out, out_frame_payload(f) + FRAME_HEADER, (size_t)n, &e)) < 0) {
		/* The client sees the stream end early, and the receipt tells it so. */
		log_error("step %s: %s", st->id, e.msg);
		got = 0;
		out->total = out->sent;
	}
	end = out->ended && out->sent + (uint64_t)got == out->total;
	frame_header(out_frame_payload(f), FRAME_DATA, end ? FRAME_END : 0, out->channel,
	             out->sent);
	f->len = FRAME_HEADER + (size_t)got;
	stream_out_sent(out, (uint64_t)got, end);
	carrier_push(c->carrier, f);
	return true;
}

bool live_pump(struct step *st)
{
	struct live *l = st->live;
	bool moved = false;

	if (!l->events_done && !step_events_pump(st))
		return false;
	if (st->state >= STEP_FINISHED && !st->ended_seen)
		step_end(st);
	if (l->conn && l->ks.phase >= KP_RUNNING)
		moved |= pump_one(st, &l->out[0], l->ks.len[KS_STDOUT]);
	if (l->conn && l->ks.phase >= KP_RUNNING)
		moved |= pump_one(st, &l->out[1], l->ks.len[KS_STDERR]);
	if (l->conn && l->artifacts.ended)
		moved |= pump_one(st, &l->artifacts, l->artifacts.total);
	return moved;
}

/* ---- the end ---- */

void step_answer(struct step *st)
{
	struct live *l = st->live;
	struct reply *r = l ? l->reply : NULL;
	struct buf b;
	struct jw w;
	struct err e = ERR_INIT;

	/* Not before its last event is in the journal. */
	if (!r || !st->ended_seen)
		return;
	l->reply = NULL;
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "status", status_name(st->status));
	jw_kstr(&w, "receipt", l->receipt);
	jw_kstr(&w, "hmac", l->receipt ? l->hmac : NULL);
	jw_kint(&w, "events_last", (int64_t)st->s->journal.last);
	if (st->rows >= 0)
		jw_kint(&w, "rows", st->rows);
	jw_kstr(&w, "error", st->error);
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		reply_error(r, &e, NULL);
	else
		reply_result(r, (const char *)buf_data(&b), buf_len(&b));
	buf_release(&b);
}

void step_end(struct step *st)
{
	struct session *s = st->s;
	struct buf b;
	struct jw w;

	if (!step_events_pump(st))
		return; /* the journal is full: live_pump comes back */
	if (!st->ended_seen) {
		st->ended_seen = true;
		if (st->state == STEP_LOST)
			s->w->count.steps_lost++;
		else
			s->w->count.steps_finished++;
		buf_init(&b, 4096);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "status", status_name(st->status));
		jw_kint(&w, "duration_ms", st->wall_ms);
		if (st->rows >= 0)
			jw_kint(&w, "rows", st->rows);
		jw_end(&w);
		journal_put(&s->journal, "step_ended", st->id, st->attempt, 0,
		            (const char *)buf_data(&b), buf_len(&b), NULL);
		buf_release(&b);
	}
	log_info("step %s: %s", st->id, status_name(st->status));
	session_publish(s);
	step_answer(st);
	if (st->live && !st->live->conn)
		live_sleep(st->live);
	session_step_ended(s);
}

void step_lose(struct step *st, const char *why)
{
	struct live *l = st->live;

	log_error("step %s: lost: %s", st->id, why);
	if (l->keeper_fd >= 0)
		live_drop_keeper(st);
	/* What the step left has become the supervisor's: it ends it. */
	store_send(st->s->w->store_fd, STORE_SWEEP, NULL, NULL, 0, -1, NULL);
	st->state = STEP_LOST;
	st->status = STATUS_LOST;
	snprintf(st->error, sizeof(st->error), "%.390s", why);
	l->events_done = true;
	step_end(st);
}
