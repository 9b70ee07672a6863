/* SPDX-License-Identifier: Apache-2.0
 *
 * Sentences about each half, and a model of both with a link between them of
 * which every reachable state is visited. */
#include "tests/unit/check.h"

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "protocol/stream.h"

static struct frame data(uint64_t offset, size_t len, uint8_t flags)
{
	return (struct frame){ .kind = FRAME_DATA, .flags = flags, .channel = 1, .offset = offset,
			       .len = len };
}

/* payload: 8 bytes of the caller's that outlive the frame */
static struct frame window(uint8_t payload[8], uint64_t durable, uint64_t limit)
{
	put_u64(payload, limit);
	return (struct frame){ .kind = FRAME_WINDOW, .channel = 1, .offset = durable,
			       .payload = payload, .len = 8 };
}

static void got_window(struct stream_out *s, uint64_t durable, uint64_t limit)
{
	struct err e = ERR_INIT;
	uint8_t payload[8];
	struct frame f = window(payload, durable, limit);

	assert_ok(stream_out_window(s, &f, &e), &e);
}

/* --- the sender --- */

TEST(an_unbound_sender_sends_nothing)
{
	struct stream_out s = { .limit = 100, .ended = true };

	assert_int_equal(stream_out_ready(&s, 50), 0);
	assert_false(stream_out_end_due(&s));
}

TEST(a_sender_sends_what_it_has_within_the_grant_and_one_frame)
{
	struct stream_out s = { 0 };

	stream_out_bind(&s, 1, 0, 10);
	assert_int_equal(stream_out_ready(&s, 0), 0);
	assert_int_equal(stream_out_ready(&s, 4), 4);
	assert_int_equal(stream_out_ready(&s, 40), 10);
	stream_out_sent(&s, 10, false);
	assert_int_equal(stream_out_ready(&s, 40), 0);
	got_window(&s, 10, UINT64_C(1) << 40);
	assert_int_equal(stream_out_ready(&s, 1 << 30), LIMIT_DATA);
}

TEST(nothing_is_sent_past_a_known_end)
{
	struct stream_out s = { .ended = true, .total = 6 };

	stream_out_bind(&s, 1, 0, 100);
	assert_int_equal(stream_out_ready(&s, 9), 6);
}

TEST(the_end_is_due_once_and_again_after_a_new_binding)
{
	struct stream_out s = { 0 };

	stream_out_bind(&s, 1, 0, 3);
	stream_out_sent(&s, 3, false);
	assert_false(stream_out_end_due(&s));	/* more may come */
	s.ended = true;
	s.total = 3;
	assert_true(stream_out_end_due(&s));	/* without credit: it has no bytes */
	stream_out_sent(&s, 0, true);
	assert_false(stream_out_end_due(&s));
	stream_out_unbind(&s);
	stream_out_bind(&s, 2, 3, 3);
	assert_true(stream_out_end_due(&s));
}

TEST(the_end_is_not_due_before_all_is_sent)
{
	struct stream_out s = { .ended = true, .total = 3 };

	stream_out_bind(&s, 1, 0, 2);
	stream_out_sent(&s, 2, false);
	assert_false(stream_out_end_due(&s));
}

TEST(a_binding_moves_the_sender_back_and_the_old_grant_is_gone)
{
	struct stream_out s = { 0 };

	stream_out_bind(&s, 1, 0, 100);
	stream_out_sent(&s, 80, false);
	stream_out_unbind(&s);
	assert_int_equal(stream_out_ready(&s, 90), 0);
	stream_out_bind(&s, 2, 20, 50);
	assert_int_equal(s.acked, 20);
	assert_int_equal(stream_out_ready(&s, 90), 30);
}

TEST(windows_that_fall_are_ignored)
{
	struct stream_out s = { 0 };

	stream_out_bind(&s, 1, 0, 100);
	stream_out_sent(&s, 60, false);
	got_window(&s, 50, 120);
	got_window(&s, 40, 130);	/* each of the two on its own */
	assert_int_equal(s.acked, 50);
	assert_int_equal(s.limit, 130);
	got_window(&s, 60, 110);
	assert_int_equal(s.acked, 60);
	assert_int_equal(s.limit, 130);
}

TEST(an_acknowledgement_of_what_was_never_sent_is_refused)
{
	struct stream_out s = { 0 };
	struct err e = ERR_INIT;
	uint8_t payload[8];
	struct frame f = window(payload, 11, 200);

	stream_out_bind(&s, 7, 0, 100);
	stream_out_sent(&s, 10, false);
	assert_fails(stream_out_window(&s, &f, &e), &e, ERR_PROTO,
		     "channel 7: acknowledges 11 bytes, 10 were sent");
	assert_int_equal(s.acked, 0);
	assert_int_equal(s.limit, 100);
}

TEST(a_window_for_an_unbound_sender_is_ignored)
{
	struct stream_out s = { 0 };

	got_window(&s, 10, 100);
	assert_int_equal(s.acked, 0);
	assert_int_equal(s.limit, 0);
}

/* --- the receiver --- */

TEST(nothing_is_accepted_before_a_grant)
{
	struct stream_in s = { 0 };
	struct frame f = data(5, 1, 0);
	struct err e = ERR_INIT;
	uint64_t limit = 0;

	stream_in_bind(&s, 3, 5, 10);
	assert_fails(stream_in_data(&s, &f, &e), &e, ERR_PROTO,
		     "channel 3: 1 bytes at 5 pass the granted 5");
	assert_true(stream_in_grant(&s, false, &limit));
	assert_int_equal(limit, 15);
	assert_ok(stream_in_data(&s, &f, &e), &e);
	assert_int_equal(s.next, 6);
}

TEST(data_must_continue_the_stream)
{
	struct stream_in s = { 0 };
	struct err e = ERR_INIT;
	struct frame again = data(0, 2, 0), gap = data(3, 1, 0), right = data(2, 1, 0);
	struct frame first = data(0, 2, 0);
	uint64_t limit;

	stream_in_bind(&s, 3, 0, 10);
	stream_in_grant(&s, true, &limit);
	assert_ok(stream_in_data(&s, &first, &e), &e);
	assert_fails(stream_in_data(&s, &again, &e), &e, ERR_PROTO,
		     "channel 3: data at 0, want it at 2");
	assert_fails(stream_in_data(&s, &gap, &e), &e, ERR_PROTO,
		     "channel 3: data at 3, want it at 2");
	assert_int_equal(s.next, 2);
	assert_ok(stream_in_data(&s, &right, &e), &e);
}

TEST(data_may_fill_the_grant_but_not_pass_it)
{
	struct stream_in s = { 0 };
	struct err e = ERR_INIT;
	struct frame fits = data(0, 10, 0), empty = data(10, 0, 0), one = data(10, 1, 0);
	uint64_t limit;

	stream_in_bind(&s, 3, 0, 10);
	stream_in_grant(&s, true, &limit);
	assert_ok(stream_in_data(&s, &fits, &e), &e);
	assert_ok(stream_in_data(&s, &empty, &e), &e);
	assert_fails(stream_in_data(&s, &one, &e), &e, ERR_PROTO,
		     "channel 3: 1 bytes at 10 pass the granted 10");
}

TEST(nothing_follows_the_end)
{
	struct stream_in s = { 0 };
	struct err e = ERR_INIT;
	struct frame last = data(0, 4, FRAME_END), more = data(4, 1, 0);
	struct frame end = data(4, 0, FRAME_END);
	uint64_t limit;

	stream_in_bind(&s, 3, 0, 10);
	stream_in_grant(&s, true, &limit);
	assert_ok(stream_in_data(&s, &last, &e), &e);
	assert_true(s.ended);
	assert_fails(stream_in_data(&s, &more, &e), &e, ERR_PROTO, "channel 3: data after the end");
	assert_fails(stream_in_data(&s, &end, &e), &e, ERR_PROTO, "channel 3: data after the end");
	stream_in_bind(&s, 4, 4, 10);	/* a new connection says it again */
	assert_ok(stream_in_data(&s, &end, &e), &e);
	assert_true(s.ended);
}

TEST(a_grant_is_due_when_half_of_the_window_is_free_again)
{
	struct stream_in s = { 0 };
	struct err e = ERR_INIT;
	struct frame f = data(0, 8, 0);
	uint64_t limit = 0;

	stream_in_bind(&s, 3, 0, 10);
	assert_true(stream_in_grant(&s, false, &limit));
	assert_int_equal(limit, 10);
	assert_false(stream_in_grant(&s, false, &limit));
	assert_ok(stream_in_data(&s, &f, &e), &e);
	assert_false(stream_in_grant(&s, false, &limit));	/* received is not durable */
	s.durable = 4;
	assert_false(stream_in_grant(&s, false, &limit));
	s.durable = 5;
	assert_true(stream_in_grant(&s, false, &limit));
	assert_int_equal(limit, 15);
	assert_int_equal(s.granted, 15);
}

TEST(a_forced_grant_never_takes_back_what_was_granted)
{
	struct stream_in s = { 0 };
	uint64_t limit = 0;

	stream_in_bind(&s, 3, 0, 10);
	assert_true(stream_in_grant(&s, true, &limit));
	s.window = 4;
	assert_true(stream_in_grant(&s, true, &limit));
	assert_int_equal(limit, 10);
	assert_false(stream_in_grant(&s, false, &limit));
}

TEST(a_window_of_one_byte_still_moves)
{
	struct stream_in s = { 0 };
	struct err e = ERR_INIT;
	uint64_t limit = 0;

	stream_in_bind(&s, 3, 0, 1);
	for (uint64_t i = 0; i < 5; i++) {
		struct frame f = data(i, 1, 0);

		assert_true(stream_in_grant(&s, false, &limit));
		assert_int_equal(limit, i + 1);
		assert_false(stream_in_grant(&s, false, &limit));
		assert_ok(stream_in_data(&s, &f, &e), &e);
		s.durable = s.next;
	}
}

TEST(a_window_of_no_bytes_grants_none)
{
	struct stream_in s = { 0 };
	uint64_t limit = 99;

	stream_in_bind(&s, 3, 7, 0);
	assert_false(stream_in_grant(&s, false, &limit));
	assert_true(stream_in_grant(&s, true, &limit));
	assert_int_equal(limit, 7);
}

TEST(after_the_end_only_a_forced_grant_acknowledges)
{
	struct stream_in s = { 0 };
	struct err e = ERR_INIT;
	struct frame f = data(0, 8, FRAME_END);
	uint64_t limit = 0;

	stream_in_bind(&s, 3, 0, 10);
	stream_in_grant(&s, true, &limit);
	assert_ok(stream_in_data(&s, &f, &e), &e);
	s.durable = 8;
	assert_false(stream_in_grant(&s, false, &limit));
	assert_true(stream_in_grant(&s, true, &limit));
}

TEST(an_unbound_receiver_grants_nothing)
{
	struct stream_in s = { 0 };
	uint64_t limit = 0;

	stream_in_bind(&s, 3, 0, 10);
	stream_in_unbind(&s);
	assert_false(stream_in_grant(&s, true, &limit));
}

TEST(grants_stop_at_two_to_the_63)
{
	struct stream_in s = { 0 };
	uint64_t limit = 0;

	stream_in_bind(&s, 3, (UINT64_C(1) << 63) - 4, 10);
	assert_true(stream_in_grant(&s, true, &limit));
	assert_true(limit == UINT64_C(1) << 63);
}

/* --- the model ---
 *
 * A source writes TOTAL bytes, one at a time, and ends.  The sender holds what is
 * not acknowledged; the receiver appends to a file of which a prefix is durable.
 * Between them are two queues that a broken connection empties.  A crash of the
 * receiver takes the part of the file that is not durable.  All frames are real. */

enum { TOTAL = 8, WINDOW = 5, QUEUE = 4 };
enum { FRAME_MAX = FRAME_HEADER + TOTAL + 8 };

struct queue {
	struct {
		uint8_t bytes[FRAME_MAX];
		uint8_t len;
	} at[QUEUE];
	uint8_t count;
};

struct model {
	struct stream_out out;
	struct stream_in in;
	struct queue to_receiver, to_sender;
	uint8_t written;	/* by the source */
	uint8_t held_from;	/* the sender has dropped what lies below */
	uint8_t file[TOTAL];
	uint8_t file_len;
	uint8_t up;
};

enum action { WRITE, SEND_ONE, SEND_ALL, RECEIVE, FLUSH, GRANT, FORCE, TAKE_WINDOW, BREAK, CRASH,
	      CONNECT, ACTIONS };

static uint8_t source(uint64_t offset)
{
	return (uint8_t)(0xa0 + offset);
}

static bool enqueue(struct queue *q, const uint8_t *p, size_t n)
{
	if (q->count == QUEUE)
		return false;
	assert_true(n <= FRAME_MAX);
	memcpy(q->at[q->count].bytes, p, n);
	q->at[q->count++].len = (uint8_t)n;
	return true;
}

static struct frame front(const struct queue *q)
{
	struct err e = ERR_INIT;
	struct frame f;

	assert_ok(frame_parse(q->at[0].bytes, q->at[0].len, &f, &e), &e);
	return f;
}

/* Unused places are zero again, so that equal states have equal bytes. */
static void dequeue(struct queue *q)
{
	memmove(q->at, q->at + 1, (QUEUE - 1) * sizeof(q->at[0]));
	memset(&q->at[QUEUE - 1], 0, sizeof(q->at[0]));
	q->count--;
}

static bool source_writes(struct model *m)
{
	if (m->out.ended)
		return false;
	if (m->written < TOTAL) {
		m->written++;
	} else {
		m->out.ended = true;
		m->out.total = TOTAL;
	}
	return true;
}

static bool sender_sends(struct model *m, uint64_t at_most)
{
	uint64_t n = stream_out_ready(&m->out, m->written);
	uint8_t bytes[FRAME_MAX];
	bool end;

	if (n > at_most)
		n = at_most;
	end = m->out.ended && m->out.sent + n == m->out.total;
	if (n == 0 && !stream_out_end_due(&m->out))
		return false;
	frame_header(bytes, FRAME_DATA, end ? FRAME_END : 0, m->out.channel, m->out.sent);
	for (uint64_t i = 0; i < n; i++) {
		assert_true(m->out.sent + i >= m->held_from);	/* it still has the byte */
		bytes[FRAME_HEADER + i] = source(m->out.sent + i);
	}
	if (!enqueue(&m->to_receiver, bytes, FRAME_HEADER + n))
		return false;
	stream_out_sent(&m->out, n, end);
	return true;
}

static bool receiver_takes(struct model *m)
{
	struct err e = ERR_INIT;
	struct frame f;

	if (m->to_receiver.count == 0)
		return false;
	f = front(&m->to_receiver);
	assert_ok(stream_in_data(&m->in, &f, &e), &e);
	assert_int_equal(f.offset, m->file_len);	/* nothing twice, nothing left out */
	assert_true(f.len <= TOTAL - (size_t)m->file_len);
	memcpy(m->file + m->file_len, f.payload, f.len);
	m->file_len = (uint8_t)(m->file_len + f.len);
	if (m->in.ended)
		assert_int_equal(m->file_len, TOTAL);
	dequeue(&m->to_receiver);
	return true;
}

static bool receiver_flushes(struct model *m)
{
	if (m->in.durable == m->file_len)
		return false;
	m->in.durable = m->file_len;
	return true;
}

static bool receiver_grants(struct model *m, bool force)
{
	uint8_t bytes[FRAME_HEADER + 8];
	uint64_t limit;

	if (m->to_sender.count == QUEUE || !stream_in_grant(&m->in, force, &limit))
		return false;
	frame_header(bytes, FRAME_WINDOW, 0, m->in.channel, m->in.durable);
	put_u64(bytes + FRAME_HEADER, limit);
	return enqueue(&m->to_sender, bytes, sizeof(bytes));
}

static bool sender_takes_window(struct model *m)
{
	struct err e = ERR_INIT;
	struct frame f;

	if (m->to_sender.count == 0)
		return false;
	f = front(&m->to_sender);
	assert_ok(stream_out_window(&m->out, &f, &e), &e);
	m->held_from = (uint8_t)m->out.acked;
	dequeue(&m->to_sender);
	return true;
}

static bool link_breaks(struct model *m, bool crash)
{
	if (!m->up)
		return false;
	m->up = false;
	memset(&m->to_receiver, 0, sizeof(m->to_receiver));
	memset(&m->to_sender, 0, sizeof(m->to_sender));
	stream_out_unbind(&m->out);
	stream_in_unbind(&m->in);
	if (!crash)
		m->in.durable = m->file_len;
	m->file_len = (uint8_t)m->in.durable;
	memset(m->file + m->file_len, 0, TOTAL - m->file_len);
	return true;
}

/* The receiver asks from where its file ends. */
static bool link_connects(struct model *m)
{
	uint64_t limit;

	if (m->up)
		return false;
	m->up = true;
	stream_in_bind(&m->in, 1, m->file_len, WINDOW);
	assert_true(stream_in_grant(&m->in, true, &limit));
	assert_true(m->out.acked <= m->in.next);
	stream_out_bind(&m->out, 1, m->in.next, limit);
	m->held_from = (uint8_t)m->out.acked;
	return true;
}

static bool act(struct model *m, enum action a)
{
	switch (a) {
	case WRITE:
		return source_writes(m);
	case SEND_ONE:
		return sender_sends(m, 1);
	case SEND_ALL:
		return sender_sends(m, TOTAL);
	case RECEIVE:
		return receiver_takes(m);
	case FLUSH:
		return receiver_flushes(m);
	case GRANT:
		return receiver_grants(m, false);
	case FORCE:
		return receiver_grants(m, true);
	case TAKE_WINDOW:
		return sender_takes_window(m);
	case BREAK:
		return link_breaks(m, false);
	case CRASH:
		return link_breaks(m, true);
	case CONNECT:
		return link_connects(m);
	default:
		return false;
	}
}

static void check_invariants(const struct model *m)
{
	for (int i = 0; i < m->file_len; i++)
		assert_int_equal(m->file[i], source((uint64_t)i));
	assert_true(m->held_from <= m->in.durable);	/* only durable bytes are dropped */
	assert_true(m->in.durable <= m->file_len);
	if (!m->up)
		return;
	assert_true(m->out.sent <= m->out.limit);
	assert_true(m->out.limit <= m->in.granted);
	assert_true(m->in.granted <= m->in.durable + WINDOW);
	assert_true(m->out.sent <= m->written);
}

/* With a link that holds and everybody doing what is his, all arrives. */
static void check_it_ends(struct model m)
{
	static const enum action fair[] = { CONNECT, WRITE, SEND_ALL, RECEIVE, FLUSH, GRANT,
					    TAKE_WINDOW };
	bool moved = true;

	while (moved) {
		moved = false;
		for (size_t i = 0; i < ARRAY_LEN(fair); i++)
			moved |= act(&m, fair[i]);
		check_invariants(&m);
	}
	assert_true(m.in.ended);
	assert_int_equal(m.file_len, TOTAL);
	act(&m, FORCE);
	act(&m, TAKE_WINDOW);
	assert_int_equal(m.out.acked, TOTAL);
}

/* Visited states: an array in the order they were found, and an index by hash. */
struct visited {
	struct model *states;
	uint32_t *index;	/* 1 + place in states; 0: free */
	size_t count, room;	/* room: power of two */
};

static size_t hash_of(const struct model *m)
{
	const uint8_t *p = (const uint8_t *)m;
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < sizeof(*m); i++)
		h = (h ^ p[i]) * UINT64_C(1099511628211);
	return (size_t)(h ^ h >> 32);
}

static void visit(struct visited *v, const struct model *m)
{
	size_t at = hash_of(m) & (v->room - 1);

	for (; v->index[at]; at = (at + 1) & (v->room - 1))
		if (memcmp(&v->states[v->index[at] - 1], m, sizeof(*m)) == 0)
			return;
	assert_true(v->count < v->room / 2);
	memcpy(&v->states[v->count++], m, sizeof(*m));
	v->index[at] = (uint32_t)v->count;
}

TEST(in_every_state_what_arrived_is_a_prefix_and_the_rest_can_follow)
{
	enum { ROOM = 1 << 18 };
	auto_free struct model *states = calloc(ROOM / 2, sizeof(*states));
	auto_free uint32_t *index = calloc(ROOM, sizeof(*index));
	struct visited v = { states, index, 0, ROOM };
	struct model m;

	assert_non_null(states);
	assert_non_null(index);
	memset(&m, 0, sizeof(m));
	visit(&v, &m);
	for (size_t i = 0; i < v.count; i++) {
		check_it_ends(v.states[i]);
		for (enum action a = 0; a < ACTIONS; a++) {
			memcpy(&m, &v.states[i], sizeof(m));
			if (!act(&m, a))
				continue;
			check_invariants(&m);
			visit(&v, &m);
		}
	}
	print_message("# %zu states\n", v.count);
	assert_true(v.count > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unbound_sender_sends_nothing),
		cmocka_unit_test(a_sender_sends_what_it_has_within_the_grant_and_one_frame),
		cmocka_unit_test(nothing_is_sent_past_a_known_end),
		cmocka_unit_test(the_end_is_due_once_and_again_after_a_new_binding),
		cmocka_unit_test(the_end_is_not_due_before_all_is_sent),
		cmocka_unit_test(a_binding_moves_the_sender_back_and_the_old_grant_is_gone),
		cmocka_unit_test(windows_that_fall_are_ignored),
		cmocka_unit_test(an_acknowledgement_of_what_was_never_sent_is_refused),
		cmocka_unit_test(a_window_for_an_unbound_sender_is_ignored),
		cmocka_unit_test(nothing_is_accepted_before_a_grant),
		cmocka_unit_test(data_must_continue_the_stream),
		cmocka_unit_test(data_may_fill_the_grant_but_not_pass_it),
		cmocka_unit_test(nothing_follows_the_end),
		cmocka_unit_test(a_grant_is_due_when_half_of_the_window_is_free_again),
		cmocka_unit_test(a_forced_grant_never_takes_back_what_was_granted),
		cmocka_unit_test(a_window_of_one_byte_still_moves),
		cmocka_unit_test(a_window_of_no_bytes_grants_none),
		cmocka_unit_test(after_the_end_only_a_forced_grant_acknowledges),
		cmocka_unit_test(an_unbound_receiver_grants_nothing),
		cmocka_unit_test(grants_stop_at_two_to_the_63),
		cmocka_unit_test(in_every_state_what_arrived_is_a_prefix_and_the_rest_can_follow),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
