/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/step_run.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/keys.h"
#include "protocol/step_body.h"
#include "proxy/stdin_source.h"

static void check_done(struct step_run *r);

static void fail(struct step_run *r, enum step_status status, const struct err *e)
{
	if (r->done)
		return;
	r->status = status;
	r->error = *e;
	r->done = true;
	link_forget(r->link, &r->call);
	r->on_done(r);
}

/* ---- the proof ---- */

int receipt_verify(const char *text, const char *hmac, const char *session_key, const char *run,
                   const char *session, const char *step, int attempt, struct receipt *ret,
                   struct err *e)
{
	uint8_t key[SHA256_LEN];
	int r;

	key_step(session_key, step, attempt, key);
	r = receipt_check(key, text, strlen(text), hmac, e);
	wipe(key, sizeof(key));
	if (r < 0 || receipt_parse(text, strlen(text), ret, e) < 0)
		return -1;
	if (strcmp(ret->run, run) != 0 || strcmp(ret->session, session) != 0 ||
	    strcmp(ret->step, step) != 0 || ret->attempt != attempt)
		return err_set(e, ERR_INTEGRITY, 0,
		               "the receipt is for step '%s' attempt %d of run '%s'", ret->step,
		               ret->attempt, ret->run);
	return 0;
}

static int compare_stream(const char *name, const struct sink *s, const struct stream_sum *sum,
                          struct err *e)
{
	char hex[SHA256_HEX];

	if (s->in.next != sum->bytes)
		return err_set(e, ERR_INTEGRITY, 0, "%s: %llu bytes came, the receipt says %llu",
		               name, (unsigned long long)s->in.next,
		               (unsigned long long)sum->bytes);
	hash_hex(&s->hash, hex);
	if (strcmp(hex, sum->sha256) != 0)
		return err_set(e, ERR_INTEGRITY, 0,
		               "%s: the bytes that came have another digest than the receipt's",
		               name);
	return 0;
}

static int verify(struct step_run *r, struct err *e)
{
	if (strcmp(r->receipt.plan, r->body) != 0)
		return err_set(e, ERR_INTEGRITY, 0, "the receipt is for another request");
	if (r->sandbox && strcmp(r->receipt.sandbox, r->sandbox) != 0)
		return err_set(e, ERR_FENCED, 0, "the receipt is from sandbox '%s', not '%s'",
		               r->receipt.sandbox, r->sandbox);
	if (compare_stream("stdout", r->out, &r->receipt.out, e) < 0 ||
	    compare_stream("stderr", r->err, &r->receipt.err, e) < 0)
		return -1;
	if (!fetch_is_complete(r->fetch))
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifacts: fewer bytes came than the receipt says");
	return 0;
}

static void on_finish(struct loop_timer *t)
{
	struct step_run *r = (struct step_run *)((char *)t - offsetof(struct step_run, finish));
	struct err e = ERR_INIT;

	if (r->done)
		return;
	if (sink_finish(r->out, &e) < 0 || sink_finish(r->err, &e) < 0) {
		fail(r, STATUS_ERROR, &e);
		return;
	}
	if (verify(r, &e) < 0) {
		fail(r, STATUS_LOST, &e);
		return;
	}
	r->verified = true;
	r->status = r->receipt.status;
	if (r->status != STATUS_SUCCESS)
		err_set(&r->error,
		        r->receipt.exit.kind == EXIT_SPAWN_FAILED ? ERR_SPAWN : ERR_STEP_FAILED, 0,
		        "%s", r->said[0] ? r->said : r->receipt.error);
	r->done = true;
	r->on_done(r);
}

/* Everything is here: the verdict comes from the loop, never from inside a callback of the link. */
static void check_done(struct step_run *r)
{
	if (!r->answered || r->done || r->finish.loop)
		return;
	if (!r->out->in.ended || !r->err->in.ended || r->events_needed ||
	    !sink_is_flushed(r->out) || !sink_is_flushed(r->err))
		return;
	if (r->fetch->total && !r->fetch->in.ended)
		return;
	loop_timer_start(r->loop, &r->finish, 0, on_finish, NULL);
}

/* ---- streams ---- */

static void grant(struct step_run *r, struct stream_in *in)
{
	struct carrier *c = link_carrier(r->link);
	uint64_t limit;

	if (c && in->channel && stream_in_grant(in, in->ended, &limit))
		carrier_send_window(c, in->channel, in->durable, limit, NULL);
}

static void on_sink_room(struct sink *s)
{
	struct step_run *r = s->user;
	struct err e = ERR_INIT;

	sink_checkpoint(s, &e);
	grant(r, &s->in);
	check_done(r);
}

static void on_stream(struct step_run *r, struct sink *s, const struct frame *f)
{
	struct err e = ERR_INIT;

	if (f->kind != FRAME_DATA) {
		err_set(&e, ERR_PROTO, 0, "step '%s': an unexpected frame of kind %d", r->id,
		        f->kind);
		link_fail(r->link, &e);
		return;
	}
	if (stream_in_data(&s->in, f, &e) < 0) {
		link_fail(r->link, &e);
		return;
	}
	/* A log that cannot be written ends the step's run here: nothing is passed over in
	 * silence. */
	if (f->len && sink_write(s, f->payload, f->len, &e) < 0) {
		fail(r, STATUS_ERROR, &e);
		return;
	}
	/* A checkpoint costs a write: only when a grant is due. */
	if (s->in.ended || s->in.next - s->in.durable >= WINDOW_STREAM / 4) {
		if (sink_checkpoint(s, &e) < 0) {
			fail(r, STATUS_ERROR, &e);
			return;
		}
		grant(r, &s->in);
	}
	check_done(r);
}

static void on_out(void *owner, const struct frame *f)
{
	struct step_run *r = owner;

	on_stream(r, r->out, f);
}

static void on_err(void *owner, const struct frame *f)
{
	struct step_run *r = owner;

	on_stream(r, r->err, f);
}

static void on_artifacts(void *owner, const struct frame *f)
{
	struct step_run *r = owner;
	struct err e = ERR_INIT;

	if (f->kind != FRAME_DATA || stream_in_data(&r->fetch->in, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "step '%s': an unexpected frame of kind %d",
			        r->id, f->kind);
		link_fail(r->link, &e);
		return;
	}
	if (f->len && fetch_write(r->fetch, f->payload, f->len, &e) < 0) {
		fail(r, e.code == ERR_INTEGRITY || e.code == ERR_PROTO ? STATUS_LOST : STATUS_ERROR,
		     &e);
		return;
	}
	r->fetch->in.durable = r->fetch->in.next;
	grant(r, &r->fetch->in);
	check_done(r);
}

/* ---- the request ---- */

static void write_channel(struct jw *w, const char *name, struct link *l, struct step_run *r,
                          struct stream_in *in,
                          void (*on_frame)(void *owner, const struct frame *f))
{
	uint64_t have = in->next;

	stream_in_bind(in, link_bind(l, r, on_frame), have, WINDOW_STREAM);
	in->granted = have + WINDOW_STREAM;
	in->ended = false; /* the worker says the end again after every bind */
	jw_kobj(w, name);
	jw_kint(w, "channel", in->channel);
	jw_ku64s(w, "offset", have);
	jw_ku64s(w, "window", in->granted);
	jw_end(w);
}

static void write_raw(struct jw *w, const char *key, const char *text)
{
	if (!text)
		return;
	jw_key(w, key);
	jw_raw(w, text, strlen(text));
}

static void write_body(struct jw *w, const struct step_run *r)
{
	jw_kstr(w, "step", r->id);
	jw_kint(w, "attempt", r->attempt);
	jw_kstr(w, "driver", r->driver);
	write_raw(w, "config", r->config);
	write_raw(w, "inputs", r->inputs);
	write_raw(w, "env", r->env);
	write_raw(w, "collect", r->collect);
	if (r->timeout_ms)
		jw_kint(w, "timeout_ms", r->timeout_ms);
	if (r->grace_ms >= 0)
		jw_kint(w, "grace_ms", r->grace_ms);
	if (r->linger_ms >= 0)
		jw_kint(w, "linger_ms", r->linger_ms);
	if (r->backtrace)
		jw_kbool(w, "backtrace", true);
}

static int note_body(struct step_run *r, const struct buf *params, struct err *e)
{
	json *v = json_parse((const char *)buf_data(params), buf_len(params), LIMIT_TEXT,
	                     LIMIT_JSON_DEPTH, e);
	int n = v ? step_body_digest(v, r->body, e) : -1;

	json_free(v);
	return n < 0 ? err_wrap(e, "step '%s'", r->id) : 0;
}

static int render(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct step_run *r = (struct step_run *)((char *)c - offsetof(struct step_run, call));
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	write_body(&w, r);
	if (r->input)
		stdin_source_bind(r->input, l, &w);
	write_channel(&w, "stdout", l, r, &r->out->in, on_out);
	write_channel(&w, "stderr", l, r, &r->err->in, on_err);
	write_channel(&w, "artifacts", l, r, &r->fetch->in, on_artifacts);
	jw_end(&w);
	if (jw_done(&w, e) < 0)
		return err_wrap(e, "step '%s'", r->id);
	return r->body[0] ? 0 : note_body(r, out, e);
}

static int take_receipt(struct step_run *r, const json *result, struct err *e)
{
	const char *text = NULL, *hmac = NULL, *error = NULL;
	int64_t last = 0;

	json_opt_str(result, "result", "error", &error, NULL);
	if (json_opt_str(result, "result", "receipt", &text, e) < 0 ||
	    json_opt_str(result, "result", "hmac", &hmac, e) < 0 ||
	    json_opt_int(result, "result", "events_last", 0, JSON_INT_MAX, &last, e) < 0)
		return -1;
	if (!text || !hmac)
		return err_set(e, ERR_LOST, 0, "%s",
		               error && *error ? error : "the worker has no receipt");
	if (receipt_verify(text, hmac, r->session_key, r->run, r->session, r->id, r->attempt,
	                   &r->receipt, e) < 0)
		return -1;
	free(r->receipt_text);
	r->receipt_text = strdup(text);
	snprintf(r->hmac, sizeof(r->hmac), "%s", hmac);
	if (!r->receipt_text)
		return err_set(e, ERR_NO_MEMORY, 0, "receipt");
	if (r->receipt.said_sha256[0] && r->receipt.exit.kind == EXIT_EXITED) {
		if (receipt_check_said(&r->receipt, error ? error : "", e) < 0)
			return -1;
		snprintf(r->said, sizeof(r->said), "%s", error ? error : "");
	}
	fetch_expect(r->fetch, &r->receipt);
	r->events_needed = (uint64_t)last > link_events_have(r->link) ? (uint64_t)last : 0;
	return 0;
}

static void on_answer(struct call *c, const json *result, const struct err *error)
{
	struct step_run *r = (struct step_run *)((char *)c - offsetof(struct step_run, call));
	struct err e = ERR_INIT;

	if (error) {
		fail(r, error->code == ERR_LOST ? STATUS_LOST : STATUS_ERROR, error);
		return;
	}
	if (take_receipt(r, result, &e) < 0) {
		fail(r, STATUS_LOST, &e);
		return;
	}
	r->answered = true;
	check_done(r);
}

void step_run_start(struct step_run *r, struct loop *loop, struct link *l)
{
	r->loop = loop;
	r->link = l;
	r->call.method = "step.execute";
	r->call.render = render;
	r->call.on_done = on_answer;
	r->out->user = r->err->user = r;
	r->out->on_room = r->err->on_room = on_sink_room;
	link_call(l, &r->call);
}

void step_run_events(struct step_run *r, uint64_t wseq)
{
	if (r->events_needed && wseq >= r->events_needed)
		r->events_needed = 0;
	check_done(r);
}

void step_run_resume(struct step_run *r)
{
	if (!r->answered || r->done || r->finish.loop)
		return;
	r->answered = false;
	link_call(r->link, &r->call);
}

void step_run_release(struct step_run *r)
{
	loop_timer_stop(&r->finish);
	if (r->link) {
		link_forget(r->link, &r->call);
		link_unbind(r->link, r->out->in.channel);
		link_unbind(r->link, r->err->in.channel);
		link_unbind(r->link, r->fetch->in.channel);
	}
	free(r->receipt_text);
	r->receipt_text = NULL;
}
