/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/lines.h"

/* What on_line was given, each line closed by "|". */
struct got {
	char text[4096];
	size_t len;
	int lines;
	int fail_at;	/* which line is refused; 0: none */
	const struct lines *l;
	uint64_t taken;	/* as the last call saw it */
};

static int on_line(void *arg, const char *line, size_t len, struct err *e)
{
	struct got *g = arg;

	assert_true(g->len + len + 1 < sizeof(g->text));
	memcpy(g->text + g->len, line, len);
	g->len += len;
	g->text[g->len++] = '|';
	g->text[g->len] = 0;
	g->taken = g->l->taken;
	if (++g->lines == g->fail_at)
		return err_set(e, ERR_INTERNAL, 0, "refused");
	return 0;
}

static void feed(struct lines *l, struct got *g, const char *text)
{
	assert_int_equal(lines_feed(l, text, strlen(text), on_line, g, NULL), 0);
}

static void lines_are_handed_out_without_their_newline(void **state)
{
	struct lines l;
	struct got g = { .l = &l };

	(void)state;
	lines_init(&l, 100);
	feed(&l, &g, "one\n\ntwo\nrest");
	assert_string_equal(g.text, "one||two|");
	assert_int_equal(l.taken, 9);
	assert_int_equal(l.seen, 13);
	assert_int_equal(lines_finish(&l, on_line, &g, NULL), 0);
	assert_string_equal(g.text, "one||two|rest|");
	assert_int_equal(l.taken, 13);
	lines_release(&l);
}

static void it_does_not_matter_how_the_stream_is_cut(void **state)
{
	static const char text[] = "a\nbcd\n\n0123456789\n0123456789x\nlast\n012345678901234567\nz";

	(void)state;
	for (size_t first = 0; first < sizeof(text); first++) {
		for (size_t step = 1; step < 8; step++) {
			struct lines l;
			struct got g = { .l = &l };
			size_t at = first, n = sizeof(text) - 1;

			lines_init(&l, 10);
			if (at > n)
				at = n;
			assert_int_equal(lines_feed(&l, text, at, on_line, &g, NULL), 0);
			for (; at < n; at += step) {
				size_t len = n - at < step ? n - at : step;

				assert_int_equal(lines_feed(&l, text + at, len, on_line, &g, NULL),
						 0);
			}
			assert_int_equal(lines_finish(&l, on_line, &g, NULL), 0);
			assert_string_equal(g.text, "a|bcd||0123456789|last|z|");
			assert_int_equal(l.too_long, 2);
			assert_int_equal(l.seen, n);
			assert_int_equal(l.taken, n);
			lines_release(&l);
		}
	}
}

static void taken_counts_the_line_that_is_being_handed_out(void **state)
{
	struct lines l;
	struct got g = { .l = &l };

	(void)state;
	lines_init(&l, 100);
	feed(&l, &g, "ab");
	assert_int_equal(l.taken, 0);
	feed(&l, &g, "c\n");
	assert_int_equal(g.taken, 4);
	feed(&l, &g, "d\ne\nf");
	assert_int_equal(g.taken, 8);
	lines_release(&l);
}

static void a_line_over_the_bound_is_dropped_whole_and_taken(void **state)
{
	struct lines l;
	struct got g = { .l = &l };

	(void)state;
	lines_init(&l, 4);
	for (int i = 0; i < 1000; i++)
		feed(&l, &g, "0123456789");
	assert_true(l.skipping);
	assert_int_equal(l.too_long, 1);
	assert_true(l.part.cap < 100);
	feed(&l, &g, "tail\n");
	assert_false(l.skipping);
	assert_int_equal(l.taken, 10005);
	feed(&l, &g, "next\n");
	assert_string_equal(g.text, "next|");
	lines_release(&l);
}

static void zero_bytes_are_bytes(void **state)
{
	struct lines l;
	struct got g = { .l = &l };

	(void)state;
	lines_init(&l, 10);
	assert_int_equal(lines_feed(&l, "a\0b\n", 4, on_line, &g, NULL), 0);
	assert_int_equal(g.len, 4);
	assert_memory_equal(g.text, "a\0b|", 4);
	lines_release(&l);
}

static void a_refused_line_ends_the_feeding(void **state)
{
	struct lines l;
	struct got g = { .l = &l, .fail_at = 2 };
	struct err e = ERR_INIT;

	(void)state;
	lines_init(&l, 10);
	assert_int_equal(lines_feed(&l, "a\nb\nc\n", 6, on_line, &g, &e), -1);
	assert_string_equal(e.msg, "refused");
	assert_string_equal(g.text, "a|b|");
	lines_release(&l);
}

static void nothing_left_means_no_last_line(void **state)
{
	struct lines l;
	struct got g = { .l = &l };

	(void)state;
	lines_init(&l, 10);
	assert_int_equal(lines_finish(&l, on_line, &g, NULL), 0);
	feed(&l, &g, "a\n");
	assert_int_equal(lines_finish(&l, on_line, &g, NULL), 0);
	assert_string_equal(g.text, "a|");
	lines_release(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_handed_out_without_their_newline),
		cmocka_unit_test(it_does_not_matter_how_the_stream_is_cut),
		cmocka_unit_test(taken_counts_the_line_that_is_being_handed_out),
		cmocka_unit_test(a_line_over_the_bound_is_dropped_whole_and_taken),
		cmocka_unit_test(zero_bytes_are_bytes),
		cmocka_unit_test(a_refused_line_ends_the_feeding),
		cmocka_unit_test(nothing_left_means_no_last_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
