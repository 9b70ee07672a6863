/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/rpc_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/hash.h"
#include "protocol/base/json.h"
#include "protocol/base/log.h"
#include "protocol/base/loop.h"
#include "protocol/frame.h"
#include "protocol/limits.h"
#include "proxy/mask_json.h"

#define VARIABLE "FARSTEP_RPC_DEBUG"
/* Masking makes a text longer, escapes make it longer still. */
#define LINE_MAX (16 * LIMIT_TEXT)

struct rpc_trace {
	const struct mask_set *set;
	int fd; /* -1: standard error, by the log */
	unsigned conn;
	uint64_t begun_ns;
	struct buf line, scratch;
};

static const char *asked(void)
{
	const char *v = getenv(VARIABLE);

	return v && *v && strcmp(v, "0") != 0 ? v : NULL;
}

bool rpc_trace_wanted(void)
{
	return asked() != NULL;
}

struct rpc_trace *rpc_trace_open(const struct mask_set *set, struct err *e)
{
	const char *to = asked();
	struct rpc_trace *t;

	if (!to)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t) {
		err_set(e, ERR_NO_MEMORY, 0, VARIABLE);
		return NULL;
	}
	t->set = set;
	t->begun_ns = now_ns();
	t->fd = -1;
	buf_init(&t->line, LINE_MAX);
	buf_init(&t->scratch, LINE_MAX);
	if (strchr(to, '/')) {
		t->fd = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (t->fd < 0) {
			err_set(e, ERR_USAGE, errno, VARIABLE "=%s", to);
			rpc_trace_close(t);
			return NULL;
		}
	}
	return t;
}

void rpc_trace_close(struct rpc_trace *t)
{
	if (!t)
		return;
	close_fd(&t->fd);
	buf_release(&t->line);
	buf_release(&t->scratch);
	free(t);
}

void rpc_trace_connected(struct rpc_trace *t)
{
	if (t)
		t->conn++;
}

/* ---- texts ---- */

static bool is_hidden(const char *name)
{
	return strcmp(name, "key") == 0 || strcmp(name, "env") == 0 || strcmp(name, "secrets") == 0;
}

/* The names stay, the values go. */
static void put_hidden(struct jw *w, const json *v)
{
	if (json_type(v) != JSON_OBJECT) {
		jw_str(w, MASK_TEXT);
		return;
	}
	jw_obj(w);
	for (const json *it = json_first(v); it; it = json_next(it))
		jw_kstr(w, json_key(it), MASK_TEXT);
	jw_end(w);
}

/* The object params or result. */
static void put_body(struct jw *w, const json *v)
{
	if (json_type(v) != JSON_OBJECT) {
		jw_json(w, v);
		return;
	}
	jw_obj(w);
	for (const json *it = json_first(v); it; it = json_next(it)) {
		jw_key(w, json_key(it));
		if (is_hidden(json_key(it)))
			put_hidden(w, it);
		else
			jw_json(w, it);
	}
	jw_end(w);
}

static void put_message(struct jw *w, const json *v)
{
	if (json_type(v) == JSON_ARRAY) {
		jw_arr(w);
		for (const json *it = json_first(v); it; it = json_next(it))
			put_message(w, it);
		jw_end(w);
		return;
	}
	if (json_type(v) != JSON_OBJECT) {
		jw_json(w, v);
		return;
	}
	jw_obj(w);
	for (const json *it = json_first(v); it; it = json_next(it)) {
		jw_key(w, json_key(it));
		if (strcmp(json_key(it), "params") == 0 || strcmp(json_key(it), "result") == 0)
			put_body(w, it);
		else
			jw_json(w, it);
	}
	jw_end(w);
}

static int put_text(struct rpc_trace *t, struct jw *w, const uint8_t *p, size_t n, struct err *e)
{
	auto_json json *v = json_parse((const char *)p, n, LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL);

	if (!v) {
		buf_reset(&t->scratch);
		if (mask_text(t->set, (const char *)p, n, &t->scratch, e) < 0)
			return -1;
		jw_key(w, "text");
		jw_strn(w, (const char *)buf_data(&t->scratch), buf_len(&t->scratch));
		return 0;
	}
	if (json_get(v, "id"))
		jw_kjson(w, "id", json_get(v, "id"));
	if (json_get(v, "method"))
		jw_kjson(w, "method", json_get(v, "method"));
	jw_key(w, "message");
	put_message(w, v);
	return 0;
}

/* ---- binary frames ---- */

static const char *kind_name(uint8_t kind)
{
	static const char *const names[] = {
		[FRAME_DATA] = "data",     [FRAME_WINDOW] = "window",   [FRAME_GAP] = "gap",
		[FRAME_RESIZE] = "resize", [FRAME_COMMAND] = "command",
	};

	return kind < ARRAY_LEN(names) ? names[kind] : NULL;
}

static int put_payload(struct rpc_trace *t, struct jw *w, const struct frame *f, struct err *e)
{
	jw_key(w, "payload");
	if (!mask_set_empty(t->set)) {
		jw_null(w);
		return 0;
	}
	buf_reset(&t->scratch);
	if (base64_encode(f->payload, f->len, &t->scratch, e) < 0)
		return -1;
	jw_strn(w, (const char *)buf_data(&t->scratch), buf_len(&t->scratch));
	return 0;
}

static int put_binary(struct rpc_trace *t, struct jw *w, const uint8_t *p, size_t n, struct err *e)
{
	struct frame f;

	if (frame_parse(p, n, &f, NULL) < 0) {
		jw_kstr(w, "kind", NULL);
		return 0;
	}
	jw_kstr(w, "kind", kind_name(f.kind));
	jw_kint(w, "flags", f.flags);
	jw_kint(w, "channel", f.channel);
	jw_ku64s(w, "offset", f.offset);
	jw_kint(w, "bytes", (int64_t)f.len);
	return t->fd < 0 ? 0 : put_payload(t, w, &f, e);
}

/* ---- lines ---- */

static int print_frame(struct rpc_trace *t, bool out, bool binary, const uint8_t *p, size_t n,
                       struct err *e)
{
	struct jw w;

	buf_reset(&t->line);
	jw_init(&w, &t->line);
	jw_obj(&w);
	jw_knum(&w, "t_ms", (double)(now_ns() - t->begun_ns) / 1e6);
	jw_kint(&w, "conn", t->conn);
	jw_kstr(&w, "dir", out ? "out" : "in");
	jw_kint(&w, "size", (int64_t)n);
	if ((binary ? put_binary(t, &w, p, n, e) : put_text(t, &w, p, n, e)) < 0)
		return -1;
	jw_end(&w);
	return jw_done(&w, e);
}

static int write_line(struct rpc_trace *t, const struct buf *line, struct err *e)
{
	struct buf text;
	int r;

	buf_init(&text, 2 * LINE_MAX);
	r = mask_json(t->set, (const char *)buf_data(line), buf_len(line), &text, e);
	if (r == 0 && t->fd < 0)
		log_warn("rpc %.*s", (int)buf_len(&text), (const char *)buf_data(&text));
	else if (r == 0)
		r = buf_putc(&text, '\n', e) < 0
		            ? -1
		            : fs_write_all(t->fd, buf_data(&text), buf_len(&text), e);
	buf_release(&text);
	return r;
}

void rpc_trace_frame(struct rpc_trace *t, bool out, bool binary, const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;

	if (!t || (print_frame(t, out, binary, p, n, &e) == 0 && write_line(t, &t->line, &e) == 0))
		return;
	log_warn(VARIABLE ": a frame is missing in it: %s", e.msg);
}
