/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/base/loop.h"
#include "protocol/limits.h"

enum {
	/* A frame whose every byte is a secret by itself becomes twelve times as long. */
	LINE_MAX_BYTES = 16 * LIMIT_TEXT,
	WINDOW = LINE_MAX_BYTES + 64 * 1024,
};

/* --- one line ---
 *
 * Errors of masking stick in the writer as its own do, and come out at jw_done. */

struct line {
	const struct mask_set *secrets;
	struct buf text;
	struct buf masked; /* scratch */
	struct jw w;
};

static void line_init(struct line *l, const struct events *ev)
{
	l->secrets = ev->secrets;
	buf_init(&l->text, LINE_MAX_BYTES);
	buf_init(&l->masked, LINE_MAX_BYTES);
	jw_init(&l->w, &l->text);
}

static void line_release(struct line *l)
{
	buf_release(&l->text);
	buf_release(&l->masked);
}

/* The masked text, borrowed until the next call. */
static const char *masked(struct line *l, const char *s)
{
	const char *text = NULL;
	struct err e;

	if (mask_set_empty(l->secrets))
		return s;
	buf_reset(&l->masked);
	if (mask_text(l->secrets, s, strlen(s), &l->masked, &e) == 0)
		text = buf_cstr(&l->masked, &e);
	if (text)
		return text;
	if (!l->w.failed)
		l->w.err = e;
	l->w.failed = true;
	return "";
}

static void put_value(struct line *l, const json *v);

/* Two keys that are secrets must not become the same key. */
static void put_key(struct line *l, const char *key, unsigned *n_masked)
{
	const char *text = masked(l, key);
	char numbered[64];

	if (text != key && strcmp(text, key) != 0 && ++*n_masked > 1) {
		snprintf(numbered, sizeof(numbered), "%s-%u", MASK_TEXT, *n_masked);
		text = numbered;
	}
	jw_key(&l->w, text);
}

static void put_members(struct line *l, const json *obj)
{
	unsigned n_masked = 0;

	for (const json *it = json_first(obj); it; it = json_next(it)) {
		put_key(l, json_key(it), &n_masked);
		put_value(l, it);
	}
}

/* A secret may be a number too. */
static void put_number(struct line *l, const json *v)
{
	char text[64];
	const char *m;
	struct buf b;

	if (mask_set_empty(l->secrets)) {
		jw_json(&l->w, v);
		return;
	}
	buf_init(&b, sizeof(text) - 1);
	if (json_print(v, &b, NULL) == 0)
		memcpy(text, buf_data(&b), buf_len(&b));
	text[buf_len(&b)] = 0;
	buf_release(&b);
	m = masked(l, text);
	if (strcmp(m, text) == 0)
		jw_json(&l->w, v);
	else
		jw_str(&l->w, m);
}

static void put_array(struct line *l, const json *v)
{
	jw_arr(&l->w);
	for (const json *it = json_first(v); it; it = json_next(it))
		put_value(l, it);
	jw_end(&l->w);
}

/* As deep as the parser let it be. */
static void put_value(struct line *l, const json *v)
{
	switch (json_type(v)) {
	case JSON_STRING:
		jw_str(&l->w, masked(l, json_string(v)));
		return;
	case JSON_NUMBER:
		put_number(l, v);
		return;
	case JSON_ARRAY:
		put_array(l, v);
		return;
	case JSON_OBJECT:
		jw_obj(&l->w);
		put_members(l, v);
		jw_end(&l->w);
		return;
	case JSON_NULL:
	case JSON_BOOL:
		jw_json(&l->w, v);
		return;
	}
}

static bool is_taken(const char *key)
{
	static const char *const names[] = {
		"ts", "session", "seq", "wseq", "event", "step_id", "attempt", "data",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(key, names[i]) == 0)
			return true;
	return false;
}

/* The members of a step's data; those whose names are taken go into an object of their own. */
static void put_data(struct line *l, const json *data)
{
	unsigned n_masked = 0;
	bool taken = false;

	for (const json *it = json_first(data); it; it = json_next(it)) {
		if (is_taken(json_key(it))) {
			taken = true;
			continue;
		}
		put_key(l, json_key(it), &n_masked);
		put_value(l, it);
	}
	if (!taken)
		return;
	jw_kobj(&l->w, "data");
	for (const json *it = json_first(data); it; it = json_next(it))
		if (is_taken(json_key(it))) {
			jw_key(&l->w, json_key(it));
			put_value(l, it);
		}
	jw_end(&l->w);
}

static void put_member(struct line *l, const json *obj, const char *key)
{
	const json *v = json_get(obj, key);

	if (!v)
		return;
	jw_key(&l->w, key);
	put_value(l, v);
}

static void put_masked_string(struct line *l, const char *key, const char *s)
{
	jw_key(&l->w, key);
	jw_str(&l->w, masked(l, s));
}

/* --- writing --- */

/* One write(2); what a full disk left of a line is taken back. */
static int write_line(int fd, const struct buf *line, struct err *e)
{
	struct stat st;
	ssize_t n;

	do
		n = write(fd, buf_data(line), buf_len(line));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)buf_len(line))
		return 0;
	if (n < 0)
		return err_set(e, ERR_SYS, errno, "write");
	if (fstat(fd, &st) == 0 && st.st_size >= n)
		(void)!ftruncate(fd, st.st_size - n);
	return err_set(e, ERR_SYS, ENOSPC, "write");
}

static void write_live(struct events *ev, const struct buf *line)
{
	struct err e;

	if (ev->live_fd < 0 || fs_write_all(ev->live_fd, buf_data(line), buf_len(line), &e) == 0)
		return;
	log_warn("events: the reader of --events has gone: %s; going on without", e.msg);
	ev->live_fd = -1;
}

static void announce(struct events *ev, const struct buf *line, const char *event)
{
	auto_json json *fields = NULL;

	if (!ev->on_event)
		return;
	fields = json_parse((const char *)buf_data(line), buf_len(line), LINE_MAX_BYTES, 64, NULL);
	if (fields)
		ev->on_event(ev->arg, event, fields);
}

/* Ends the line and writes it: an event, or with is_metric a metric. */
static int line_write(struct line *l, struct events *ev, const char *event, bool is_metric,
                      struct err *e)
{
	jw_end(&l->w);
	if (jw_done(&l->w, e) < 0 || buf_putc(&l->text, '\n', e) < 0)
		return err_wrap(e, "event '%.64s'", event);
	if (write_line(is_metric ? ev->metrics_fd : ev->fd, &l->text, e) < 0)
		return err_wrap(e, is_metric ? "metrics.jsonl" : "events.jsonl");
	if (!is_metric) {
		ev->seq++;
		write_live(ev, &l->text);
	}
	announce(ev, &l->text, event);
	return 0;
}

static void begin_event(struct line *l, const struct events *ev, const char *ts)
{
	jw_obj(&l->w);
	jw_kstr(&l->w, "ts", ts);
	jw_kstr(&l->w, "session", ev->session);
	jw_kint(&l->w, "seq", (int64_t)ev->seq + 1);
}

int events_put(struct events *ev, const char *event, const char *fields, struct err *e)
{
	auto_json json *data = NULL;
	struct line l;
	char ts[28];
	int ret;

	if (!fields)
		fields = "{}";
	data = json_parse(fields, strlen(fields), LINE_MAX_BYTES, LIMIT_JSON_DEPTH, e);
	if (!data)
		return err_wrap(e, "event '%s'", event);
	line_init(&l, ev);
	begin_event(&l, ev, time_rfc3339(now_real_us(), ts));
	jw_kstr(&l.w, "event", event);
	put_members(&l, data);
	ret = line_write(&l, ev, event, false, e);
	line_release(&l);
	return ret;
}

/* --- events of the worker --- */

enum from { E_WORKER, E_PROXY, E_STEP };

static bool is_proxys(const char *event)
{
	static const struct {
		const char *name;
		enum from from;
	} rows[] = {
#define EVENT(id, name, from, fields) { name, from },
#include "protocol/events.def"
#undef EVENT
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].from == E_PROXY && strcmp(rows[i].name, event) == 0)
			return true;
	return false;
}

/* As time_rfc3339 writes it. */
static bool is_time(const char *ts)
{
	static const char shape[] = "0000-00-00T00:00:00.000000Z";
	size_t i;

	for (i = 0; shape[i] && ts[i]; i++)
		if (shape[i] == '0' ? ts[i] < '0' || ts[i] > '9' : ts[i] != shape[i])
			return false;
	return shape[i] == ts[i];
}

struct worker_event {
	int64_t wseq;
	const char *ts, *event;
	const json *data; /* an object or NULL */
};

static int read_worker_event(const json *params, struct worker_event *ret, struct err *e)
{
	const json *step = json_get(params, "step_id"), *attempt = json_get(params, "attempt");

	if (json_req_int(params, "event", "wseq", 1, JSON_INT_MAX, &ret->wseq, e) < 0 ||
	    json_req_str(params, "event", "ts", &ret->ts, e) < 0 ||
	    json_req_str(params, "event", "event", &ret->event, e) < 0 ||
	    json_opt_obj(params, "event", "data", &ret->data, e) < 0)
		return err_set(e, ERR_PROTO, 0, "worker: %s", e ? e->msg : "");
	if ((step && json_type(step) != JSON_STRING) ||
	    (attempt && json_type(attempt) != JSON_NUMBER))
		return err_set(e, ERR_PROTO, 0,
		               "worker: event.step_id, event.attempt: want a string and a number");
	if (!is_time(ret->ts))
		return err_set(e, ERR_PROTO, 0, "worker: event.ts: no time: '%.40s'", ret->ts);
	if (is_proxys(ret->event))
		return err_set(e, ERR_PROTO, 0, "worker: event '%s' is not the worker's to send",
		               ret->event);
	return 0;
}

static int put_event(struct events *ev, const json *params, const struct worker_event *w,
                     struct err *e)
{
	struct line l;
	int ret;

	line_init(&l, ev);
	begin_event(&l, ev, w->ts);
	jw_kint(&l.w, "wseq", w->wseq);
	put_masked_string(&l, "event", w->event);
	put_member(&l, params, "step_id");
	put_member(&l, params, "attempt");
	put_data(&l, w->data);
	ret = line_write(&l, ev, w->event, false, e);
	line_release(&l);
	return ret;
}

static int put_metric(struct events *ev, const json *params, const struct worker_event *w,
                      struct err *e)
{
	const char *name;
	struct line l;
	int ret;

	if (json_req_str(w->data, "metric", "name", &name, e) < 0)
		return err_set(e, ERR_PROTO, 0, "worker: %s", e ? e->msg : "");
	if (json_type(json_get(w->data, "value")) != JSON_NUMBER)
		return err_set(e, ERR_PROTO, 0, "worker: metric.value: want a number");
	line_init(&l, ev);
	jw_obj(&l.w);
	jw_kstr(&l.w, "ts", w->ts);
	jw_kstr(&l.w, "session", ev->session);
	jw_kint(&l.w, "wseq", w->wseq);
	put_masked_string(&l, "metric", name);
	put_member(&l, w->data, "value");
	put_member(&l, w->data, "unit");
	put_member(&l, params, "step_id");
	put_member(&l, w->data, "tags");
	ret = line_write(&l, ev, w->event, true, e);
	line_release(&l);
	return ret;
}

int events_put_worker(struct events *ev, const json *params, struct err *e)
{
	struct worker_event w = { 0 };
	struct err why;
	bool is_metric;

	if (!e)
		e = &why;
	if (read_worker_event(params, &w, e) < 0)
		return -1;
	if ((uint64_t)w.wseq <= ev->wseq)
		return 0;
	if ((uint64_t)w.wseq != ev->wseq + 1)
		return err_set(e, ERR_PROTO, 0,
		               "worker: event %lld after event %llu: some are missing",
		               (long long)w.wseq, (unsigned long long)ev->wseq);
	is_metric = strcmp(w.event, "metric") == 0;
	if ((is_metric ? put_metric : put_event)(ev, params, &w, e) < 0)
		return -1;
	ev->wseq = (uint64_t)w.wseq;
	return 1;
}

/* --- reopening --- */

static int read_at(int fd, char *p, size_t n, off_t at, struct err *e)
{
	while (n) {
		ssize_t got = pread(fd, p, n, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_set(e, ERR_SYS, got < 0 ? errno : EIO, "read");
		p += got;
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

/* Where the line that ends at win[end] begins: behind the newline before it. */
static size_t line_start(const char *win, size_t end)
{
	const char *nl = memrchr(win, '\n', end);

	return nl ? (size_t)(nl + 1 - win) : 0;
}

struct position {
	uint64_t seq, wseq;
	bool has_seq, wants_seq;
};

/* From the last line to the first: 1 when all is known. */
static int look_at(struct position *pos, const char *line, size_t n, struct err *e)
{
	auto_json json *v = json_parse(line, n, LINE_MAX_BYTES, 64, e);
	int64_t seq = 0, wseq = 0;

	if (!v)
		return -1;
	if (json_opt_int(v, "line", "wseq", 1, JSON_INT_MAX, &wseq, e) < 0)
		return -1;
	if (pos->wants_seq && !pos->has_seq &&
	    json_req_int(v, "line", "seq", 1, JSON_INT_MAX, &seq, e) < 0)
		return -1;
	if (!pos->has_seq)
		pos->seq = (uint64_t)seq;
	pos->has_seq = true;
	pos->wseq = (uint64_t)wseq;
	return wseq > 0;
}

/* The lines of win[0 .. n), which ends with a newline, from the last; *left is where the
 * first that was not looked at ends. */
static int look_back(struct position *pos, const char *win, size_t n, bool is_begin, size_t *left,
                     struct err *e)
{
	for (*left = n; *left > 0;) {
		size_t from = line_start(win, *left - 1);
		int got;

		if (from == 0 && !is_begin) /* the line begins before the window */
			return *left == n ? err_set(e, ERR_INTEGRITY, 0, "a line is too long") : 0;
		got = look_at(pos, win + from, *left - 1 - from, e);
		if (got)
			return got;
		*left = from;
	}
	return 0;
}

static int find_position(int fd, off_t end, struct position *pos, struct err *e)
{
	size_t window = end < WINDOW ? (size_t)end : WINDOW;
	auto_free char *win = malloc(window + 1);

	if (!win)
		return err_set(e, ERR_NO_MEMORY, 0, "events");
	while (end > 0) {
		size_t n = end < (off_t)window ? (size_t)end : window, left;
		int got;

		if (read_at(fd, win, n, end - (off_t)n, e) < 0)
			return -1;
		got = look_back(pos, win, n, end == (off_t)n, &left, e);
		if (got < 0)
			return err_set(e, ERR_INTEGRITY, 0, "is damaged: %s", e->msg);
		if (got > 0)
			return 0;
		end -= (off_t)(n - left);
	}
	return 0;
}

/* Cuts off a last line without its newline: whoever wrote it died there. */
static int cut_torn(int fd, off_t *size, struct err *e)
{
	char block[4096];
	off_t end = *size;

	while (end > 0) {
		size_t n = end < (off_t)sizeof(block) ? (size_t)end : sizeof(block), keep;

		if (read_at(fd, block, n, end - (off_t)n, e) < 0)
			return -1;
		keep = line_start(block, n);
		end -= (off_t)(n - keep);
		if (keep)
			break;
	}
	if (end != *size && ftruncate(fd, end) < 0)
		return err_set(e, ERR_SYS, errno, "truncate");
	*size = end;
	return 0;
}

static int open_file(int dirfd, const char *name, struct position *pos, struct err *e)
{
	auto_close int fd =
		openat(dirfd, name, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SYS, errno, "%s: open", name);
	if (cut_torn(fd, &st.st_size, e) < 0 || find_position(fd, st.st_size, pos, e) < 0)
		return err_wrap(e, "%s", name);
	return take_fd(&fd);
}

int events_open(struct events *ev, int dirfd, const char *session, const struct mask_set *secrets,
                struct err *e)
{
	struct position events = { .wants_seq = true }, metrics = { 0 };
	struct err why;

	if (!e)
		e = &why;
	*ev = (struct events){ .fd = -1, .metrics_fd = -1, .live_fd = -1, .secrets = secrets };
	if (strlen(session) >= sizeof(ev->session))
		return err_set(e, ERR_LIMIT, 0, "session '%.80s': the name is too long", session);
	snprintf(ev->session, sizeof(ev->session), "%s", session);
	ev->fd = open_file(dirfd, "events.jsonl", &events, e);
	if (ev->fd >= 0)
		ev->metrics_fd = open_file(dirfd, "metrics.jsonl", &metrics, e);
	if (ev->fd < 0 || ev->metrics_fd < 0) {
		events_close(ev);
		return -1;
	}
	ev->seq = events.seq;
	ev->wseq = events.wseq > metrics.wseq ? events.wseq : metrics.wseq;
	return 0;
}

void events_close(struct events *ev)
{
	close_fd(&ev->fd);
	close_fd(&ev->metrics_fd);
	ev->live_fd = -1;
}
