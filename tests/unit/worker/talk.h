/* SPDX-License-Identifier: Apache-2.0
 *
 * talk - what the tests of connections and sessions share: say something, look at the answer. */
#ifndef FARSTEP_TESTS_TALK_H
#define FARSTEP_TESTS_TALK_H

#include "tests/unit/check.h"

#include "tests/unit/worker/fake.h"

#define TEST_KEY    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define TEST_CLIENT "\"client\":{\"protocol\":{\"min\":1,\"max\":1}}"
#define TEST_OPEN   "\"session\":\"s\",\"run\":\"r\",\"key\":\"" TEST_KEY "\"," TEST_CLIENT

/* Connections of one test; given back by its teardown. */
static struct fake_conn *talking[128];
static int n_talking;

static inline int talk_setup(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	fake_begin(base ? base : "/tmp");
	n_talking = 0;
	return 0;
}

static inline int talk_teardown(void **state)
{
	int left;

	(void)state;
	for (int i = 0; i < n_talking; i++)
		fake_conn_free(talking[i]);
	left = fake_end();
	if (left || fake.w.n_conns)
		fail_msg("%d sessions and %d connections are left", left, fake.w.n_conns);
	return 0;
}

static inline struct fake_conn *dial(void)
{
	struct fake_conn *c = fake_connect();

	assert_true(n_talking < (int)ARRAY_LEN(talking));
	return talking[n_talking++] = c;
}

static inline void PRINTF_LIKE(2, 3) say(struct fake_conn *c, const char *fmt, ...)
{
	auto_free char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	assert_true(n >= 0);
	fake_feed(c, false, text, (size_t)n);
}

#define ask(c, id, method, params)                                                              \
	say(c, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":{%s}}", id, method, \
	    params)

/* All text frames that came, one a line. */
static inline const char *heard(const struct fake_conn *c)
{
	static struct buf all;

	buf_release(&all);
	buf_init(&all, 64 << 20);
	for (size_t i = 0; i < c->n_out; i++)
		if (!c->out[i].binary)
			buf_printf(&all, NULL, "%s\n", c->out[i].text);
	return buf_cstr(&all, NULL);
}

/* The answer to a request; NULL: none yet. */
static inline const char *answer_to(const struct fake_conn *c, int id)
{
	char head[48];

	snprintf(head, sizeof(head), "{\"jsonrpc\":\"2.0\",\"id\":%d,", id);
	for (size_t i = 0; i < c->n_out; i++)
		if (!c->out[i].binary && strncmp(c->out[i].text, head, strlen(head)) == 0)
			return c->out[i].text;
	return NULL;
}

/* How often the text came, in all text frames. */
static inline int count_heard(const struct fake_conn *c, const char *what)
{
	int n = 0;

	for (const char *at = heard(c); (at = strstr(at, what)); at++)
		n++;
	return n;
}

static inline void expect(const char *got, const char *want)
{
	if (!got)
		fail_msg("nothing came, want %s", want);
	if (!strstr(got, want))
		fail_msg("want %s\n in %s", want, got);
}

static inline void expect_refused(const struct fake_conn *c, int id, int code, const char *message)
{
	char want[300];

	snprintf(want, sizeof(want), "\"error\":{\"code\":%d,\"message\":\"%s", code, message);
	expect(answer_to(c, id), want);
	expect(answer_to(c, id), "\"admitted\":\"no\"");
}

static inline void expect_closed(const struct fake_conn *c, int code)
{
	assert_false(c->open);
	assert_int_equal(c->close_code, code);
}

/* A connection that holds session "s". */
static inline struct fake_conn *dial_and_open(void)
{
	struct fake_conn *c = dial();

	ask(c, 1, "session.open", TEST_OPEN);
	expect(answer_to(c, 1), "\"result\":");
	return c;
}

static inline void send_frame(struct fake_conn *c, uint8_t kind, uint8_t flags, uint32_t channel,
                              uint64_t offset, const void *payload, size_t n)
{
	uint8_t mem[FRAME_HEADER + LIMIT_DATA];

	assert_true(n <= LIMIT_DATA);
	frame_header(mem, kind, flags, channel, offset);
	memcpy(mem + FRAME_HEADER, payload, n);
	fake_feed(c, true, mem, FRAME_HEADER + n);
}

static inline void send_window(struct fake_conn *c, uint32_t channel, uint64_t durable,
                               uint64_t limit)
{
	uint8_t p[8];

	put_u64(p, limit);
	send_frame(c, FRAME_WINDOW, 0, channel, durable, p, sizeof(p));
}

/* The last binary frame of a kind on a channel; false: none. */
static inline bool last_frame(const struct fake_conn *c, uint8_t kind, uint32_t channel,
                              struct frame *ret)
{
	bool found = false;

	for (size_t i = 0; i < c->n_out; i++) {
		struct frame f;
		struct err e = ERR_INIT;

		if (!c->out[i].binary)
			continue;
		assert_ok(frame_parse((const uint8_t *)c->out[i].text, c->out[i].len, &f, &e), &e);
		if (f.kind != kind || f.channel != channel)
			continue;
		*ret = f;
		found = true;
	}
	return found;
}

/* All DATA of a channel, checked to be without holes from offset `from`; ret_end: END came. */
static inline const char *data_of(const struct fake_conn *c, uint32_t channel, uint64_t from,
                                  bool *ret_end)
{
	static struct buf all;

	buf_release(&all);
	buf_init(&all, 64 << 20);
	*ret_end = false;
	for (size_t i = 0; i < c->n_out; i++) {
		struct frame f;

		if (!c->out[i].binary ||
		    frame_parse((const uint8_t *)c->out[i].text, c->out[i].len, &f, NULL) < 0 ||
		    f.kind != FRAME_DATA || f.channel != channel)
			continue;
		assert_int_equal(f.offset, from + buf_len(&all));
		assert_false(*ret_end);
		assert_int_equal(buf_put(&all, f.payload, f.len, NULL), 0);
		*ret_end = f.flags & FRAME_END;
	}
	return buf_cstr(&all, NULL);
}

/* step.execute with streams on channels 10 and 11, and the keeper that it started. */
static inline struct fake_keeper *execute(struct fake_conn *c, int id, const char *step,
                                          const char *more)
{
	struct fake_keeper *k;
	struct err e = ERR_INIT;
	int before = fake.n_keepers;

	say(c,
	    "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"step.execute\",\"params\":{\"step\":\"%"
	    "s\","
	    "\"attempt\":1,\"driver\":\"shell\",\"config\":{\"script\":\"x\"}%s}}",
	    id, step, more);
	if (fake.n_keepers == before)
		fail_msg("no keeper was started: %s", heard(c));
	k = fake_keeper_last();
	assert_ok(fake_keeper_begin(k, &e), &e);
	fake_keeper_tell(k, KP_RUNNING);
	fake_pass();
	fake_conn_flush(c);
	return k;
}

#define STREAMS                                                             \
	",\"stdout\":{\"channel\":10,\"offset\":\"0\",\"window\":\"100\"}," \
	"\"stderr\":{\"channel\":11,\"offset\":\"0\",\"window\":\"100\"}"

#define talk_test(f) cmocka_unit_test_setup_teardown(f, talk_setup, talk_teardown)

#endif
