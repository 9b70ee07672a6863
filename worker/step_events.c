/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of a step's descriptor 3 become events of the session, exactly once: each is in the
 * journal with the offset behind it, and a new worker goes on there. */
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "worker/step.h"

#define PIECE (64 * 1024)

/* A step cannot write the names that farstep gives a meaning to. */
static bool is_reserved(const char *name)
{
	static const char *const names[] = {
#define EVENT(id, name, from, fields) name,
#include "protocol/events.def"
#undef EVENT
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static int put_warning(struct step *st, uint64_t src, const char *what, const char *line, size_t n,
                       struct err *e)
{
	struct buf b;
	struct jw w;
	char message[300];
	int r;

	snprintf(message, sizeof(message), "descriptor 3: %s: %.*s", what, n > 120 ? 120 : (int)n,
	         line);
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "level", "warning");
	jw_kstr(&w, "message", message);
	jw_end(&w);
	r = journal_put(&st->s->journal, "log", st->id, st->attempt, src,
	                (const char *)buf_data(&b), buf_len(&b), e);
	buf_release(&b);
	return r;
}

/* Everything but `type` travels on. */
static int put_members(struct step *st, uint64_t src, const char *event, const json *v,
                       const char *skip, struct err *e)
{
	struct buf b;
	struct jw w;
	int r = -1;

	buf_init(&b, 2 * LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	for (const json *m = json_first(v); m; m = json_next(m))
		if (strcmp(json_key(m), "type") != 0 && (!skip || strcmp(json_key(m), skip) != 0))
			jw_kjson(&w, json_key(m), m);
	jw_end(&w);
	if (jw_done(&w, e) == 0)
		r = journal_put(&st->s->journal, event, st->id, st->attempt, src,
		                (const char *)buf_data(&b), buf_len(&b), e);
	buf_release(&b);
	return r;
}

static int put_message(struct step *st, uint64_t src, const json *v, const char *line, size_t n,
                       struct err *e)
{
	const char *type = json_string(json_get(v, "type"));
	const char *name = json_string(json_get(v, "name"));
	const json *data = json_get(v, "data");

	if (!type)
		return put_warning(st, src, "a message without a type", line, n, e);
	if (strcmp(type, "complete") == 0) /* the keeper noted it: it is in the receipt */
		return 0;
	if (strcmp(type, "metric") == 0 || strcmp(type, "progress") == 0 ||
	    strcmp(type, "log") == 0)
		return put_members(st, src, type, v, NULL, e);
	if (strcmp(type, "event") != 0)
		return put_warning(st, src, "a message of an unknown type", line, n, e);
	if (!name || !*name || strlen(name) > LIMIT_STEP_ID)
		return put_warning(st, src, "an event without a name", line, n, e);
	if (is_reserved(name))
		return put_warning(st, src, "an event with a name of farstep's own", line, n, e);
	if (data && json_type(data) == JSON_OBJECT)
		return put_members(st, src, name, data, NULL, e);
	return put_members(st, src, name, v, "name", e);
}

static int on_line(void *arg, const char *line, size_t n, struct err *e)
{
	struct step *st = arg;
	uint64_t src = st->live->lines.taken;
	struct err bad = ERR_INIT;
	json *v;
	int r;

	if (n == 0)
		return 0;
	if (st->s->journal.size > JOURNAL_MAX)
		return 0; /* declared once, at the end: see step_events_pump */
	v = json_parse(line, n, LIMIT_EVENT_LINE, LIMIT_JSON_DEPTH - 4, &bad);
	if (!v || json_type(v) != JSON_OBJECT)
		r = put_warning(st, src, "a line that is no JSON object", line, n, e);
	else if ((r = put_message(st, src, v, line, n, &bad)) < 0)
		r = put_warning(st, src, bad.msg, line, n, e);
	json_free(v);
	return r;
}

/* The last line may have no newline; what was too long or too much is said, not swallowed. */
static void finish(struct step *st)
{
	struct live *l = st->live;
	char text[80];

	l->events_done = true;
	lines_finish(&l->lines, on_line, st, NULL);
	if (l->lines.too_long) {
		snprintf(text, sizeof(text), "%llu lines over %d bytes",
		         (unsigned long long)l->lines.too_long, LIMIT_EVENT_LINE);
		put_warning(st, 0, "dropped", text, strlen(text), NULL);
	}
	if (st->s->journal.size > JOURNAL_MAX)
		put_warning(st, 0, "dropped", "events beyond the journal's bound", 33, NULL);
}

/* Another worker begins behind the last line that is in the journal: so the bytes of a line that
 * is not whole must stay.  Those of one that is dropped for its length need not, and may be too
 * many. */
static void ack(struct live *l)
{
	uint64_t upto = l->lines.skipping ? l->lines.seen : l->lines.taken;

	if (upto > l->events_acked && live_ack(l, KS_EVENTS, upto))
		l->events_acked = upto;
}

static bool pump(struct step *st)
{
	struct live *l = st->live;
	char piece[PIECE];
	struct err e = ERR_INIT;

	while (!l->events_done && l->lines.seen < l->ks.len[KS_EVENTS]) {
		uint64_t left = l->ks.len[KS_EVENTS] - l->lines.seen;
		ssize_t n;

		if (!journal_has_room(&st->s->journal))
			return false;
		n = pread(l->spool[KS_EVENTS], piece, left < PIECE ? (size_t)left : PIECE,
		          (off_t)l->lines.seen);
		if (n <= 0)
			break;
		lines_feed(&l->lines, piece, (size_t)n, on_line, st, &e);
		journal_flush(&st->s->journal, &e);
	}
	if (!l->events_done && st->state >= STEP_FINISHED)
		finish(st);
	return true;
}

bool step_events_pump(struct step *st)
{
	bool all = pump(st);

	ack(st->live);
	return all;
}
