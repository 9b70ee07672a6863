/* SPDX-License-Identifier: Apache-2.0
 *
 * fake_ws - stands in for proxy/ws.c: a connection whose other end is the test. */
#ifndef FARSTEP_TESTS_FAKE_WS_H
#define FARSTEP_TESTS_FAKE_WS_H

#include "tests/unit/check.h"

#include "protocol/base/buf.h"
#include "protocol/limits.h"
#include "proxy/ws.h"

static struct {
	struct carrier *c;     /* the newest connection; NULL: none, or it has ended */
	struct carrier *ended; /* its callback may be on the stack: freed when another one ends */
	void (*on_open)(struct carrier *c);
	int connects;   /* how often it was tried */
	bool refuse;    /* the next tries fail at once */
	int close_code; /* how our side ended the last one; 0: it did not */
	char address[128], token[128];
} ws;

static void ws_forget(struct carrier *c)
{
	if (ws.ended) {
		carrier_release(ws.ended);
		free(ws.ended);
	}
	ws.ended = c;
	ws.c = NULL;
}

static void ws_on_close(struct carrier *c, int code, const char *reason)
{
	(void)reason;
	ws.close_code = code;
	if (c->on_closed)
		c->on_closed(c, code, "");
	ws_forget(c);
}

struct carrier *ws_connect(struct ws_client *w, const char *address, const char *token,
                           void (*on_open)(struct carrier *c),
                           void (*on_closed)(struct carrier *c, int code, const char *reason),
                           void *user, struct err *e)
{
	(void)w;
	ws.connects++;
	snprintf(ws.address, sizeof(ws.address), "%s", address);
	snprintf(ws.token, sizeof(ws.token), "%s", token);
	if (ws.refuse) {
		err_set(e, ERR_LOST, 0, "refused");
		return NULL;
	}
	ws.c = malloc(sizeof(*ws.c));
	if (!ws.c)
		abort();
	carrier_init(ws.c);
	ws.c->close = ws_on_close;
	ws.c->on_closed = on_closed;
	ws.c->user = user;
	ws.on_open = on_open;
	ws.close_code = 0;
	return ws.c;
}

/* The upgrade succeeded. */
static inline void ws_open(void)
{
	ws.on_open(ws.c);
}

/* The other end, or the network, ended it. */
static inline void ws_drop(int code, const char *reason)
{
	struct carrier *c = ws.c;

	if (c->on_closed)
		c->on_closed(c, code, reason);
	ws_forget(c);
}

static inline void ws_text(const char *text)
{
	assert_non_null(ws.c);
	ws.c->on_frame(ws.c, false, (const uint8_t *)text, strlen(text));
}

static inline void ws_binary(const uint8_t *p, size_t n)
{
	assert_non_null(ws.c);
	ws.c->on_frame(ws.c, true, p, n);
}

static inline void ws_release(void)
{
	ws_forget(NULL);
}

/* The next frame that was sent, as a text; NULL when nothing waits.  The caller frees. */
static inline char *ws_sent_frame(bool *binary, size_t *n)
{
	struct out_frame *f = ws.c ? carrier_take(ws.c) : NULL;
	char *ret;

	if (!f)
		return NULL;
	ret = calloc(1, f->len + 1);
	if (!ret)
		abort();
	memcpy(ret, out_frame_payload(f), f->len);
	*n = f->len;
	*binary = f->binary;
	carrier_written(ws.c, f);
	return ret;
}

static inline void assert_ws_sent(const char *want)
{
	bool binary = false;
	size_t n;
	char *got = ws_sent_frame(&binary, &n);

	if (!got)
		fail_msg("nothing was sent, want %s", want);
	assert_false(binary);
	assert_string_equal(got, want);
	free(got);
}

static inline void assert_ws_silent(void)
{
	bool binary;
	size_t n;
	char *got = ws_sent_frame(&binary, &n);

	if (got)
		fail_msg("unexpected: %s", got);
}

/* Runs the loop until cond holds: at most 5 s. */
#define loop_until(l, cond)                                               \
	do {                                                              \
		struct err e_ = ERR_INIT;                                 \
		uint64_t end_ = now_ns() + UINT64_C(5000000000);          \
		while (!(cond)) {                                         \
			if (now_ns() > end_)                              \
				fail_msg("waited in vain for %s", #cond); \
			assert_ok(loop_pass((l), 100, &e_), &e_);         \
		}                                                         \
	} while (0)

#endif
