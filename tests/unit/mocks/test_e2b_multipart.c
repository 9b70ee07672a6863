/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/multipart.h"
#include "protocol/base/cleanup.h"

#define TYPE "multipart/form-data; boundary=xYz"

/* Writes down what the parser says: "(name|filename)" content ")" for each part. */
static int on_part(void *arg, const struct multipart_part *p, struct err *e)
{
	return buf_printf(arg, e, "(%s|%s)", p->name ? p->name : "-",
			  p->filename ? p->filename : "-");
}

static int on_data(void *arg, const uint8_t *p, size_t n, struct err *e)
{
	return buf_put(arg, p, n, e);
}

static int on_part_end(void *arg, struct err *e)
{
	return buf_putc(arg, ';', e);
}

static const struct multipart_calls calls = { on_part, on_data, on_part_end };

static const char form[] =
	"preamble\r\n"
	"--xYz\r\n"
	"Content-Disposition: form-data; name=\"file\"; filename=\"dir/a b\"\r\n"
	"Content-Type: text/plain\r\n"
	"\r\n"
	"one\r\n--xY\r\ntwo\r\n"
	"--xYz  \r\n"
	"content-disposition: form-data; name=plain\r\n"
	"\r\n"
	"\r\n"
	"--xYz\r\n"
	"Content-Disposition: form-data; name=\"q\\\"uo\"; filename=\"C:\\dir\\f\"\r\n"
	"\r\n"
	"\r\n\r\n"
	"--xYz--\r\n"
	"epilogue";

static const char want[] = "(file|dir/a b)one\r\n--xY\r\ntwo;(plain|-);(q\"uo|C:\\dir\\f)\r\n;";

/* Of the first n bytes in pieces that end at a and b. */
static void parse(size_t a, size_t b, size_t n, struct buf *seen, int *ret_end)
{
	struct multipart m;
	const uint8_t *p = (const uint8_t *)form;
	struct err e;

	assert_ok(multipart_init(&m, TYPE, &calls, seen, &e), &e);
	assert_ok(multipart_feed(&m, p, a, &e), &e);
	assert_ok(multipart_feed(&m, p + a, b - a, &e), &e);
	assert_ok(multipart_feed(&m, p + b, n - b, &e), &e);
	*ret_end = multipart_end(&m, &e);
	multipart_release(&m);
}

TEST(a_form_split_at_every_two_borders_gives_the_same_parts)
{
	size_t n = strlen(form);
	struct buf seen CLEANUP(buf_release);
	int end;

	buf_init(&seen, 4096);
	for (size_t a = 0; a <= n; a++) {
		for (size_t b = a; b <= n; b++) {
			buf_reset(&seen);
			parse(a, b, n, &seen, &end);
			assert_int_equal(end, 0);
			assert_string_equal(buf_cstr(&seen, NULL), want);
		}
	}
}

TEST(a_form_truncated_at_every_offset_gives_a_prefix_and_is_not_whole)
{
	size_t whole = (size_t)(strstr(form, "--xYz--") - form) + 7;

	for (size_t n = 0; n <= strlen(form); n++) {
		struct buf seen CLEANUP(buf_release);
		int end;

		buf_init(&seen, 4096);
		parse(0, n, n, &seen, &end);
		assert_memory_equal(buf_data(&seen), want, buf_len(&seen));
		assert_int_equal(end, n >= whole ? 0 : -1);
	}
}

TEST(large_parts_pass_through_whatever_they_hold)
{
	static char body[300000];
	struct buf seen CLEANUP(buf_release), text CLEANUP(buf_release);
	struct multipart m;
	struct err e;

	/* Almost nothing but what might begin a boundary. */
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = "\r\n--xY"[i % 6];
	buf_init(&seen, 400000);
	buf_init(&text, 400000);
	assert_ok(buf_puts(&text, "--xYz\r\nContent-Disposition: form-data; name=f\r\n\r\n", &e),
		  &e);
	assert_ok(buf_put(&text, body, sizeof(body), &e), &e);
	assert_ok(buf_puts(&text, "\r\n--xYz--", &e), &e);
	assert_ok(multipart_init(&m, TYPE, &calls, &seen, &e), &e);
	assert_ok(multipart_feed(&m, buf_data(&text), buf_len(&text), &e), &e);
	assert_ok(multipart_end(&m, &e), &e);
	multipart_release(&m);
	assert_int_equal(buf_len(&seen), 5 + sizeof(body) + 1);
	assert_memory_equal(buf_data(&seen) + 5, body, sizeof(body));
}

TEST(what_is_no_form_is_refused)
{
	static char head[MULTIPART_HEAD_MAX + 100];
	struct buf seen CLEANUP(buf_release);
	struct multipart m;
	struct err e;

	buf_init(&seen, 4096);
	assert_fails(multipart_init(&m, "multipart/form-data", &calls, &seen, &e), &e, ERR_PARSE,
		     "no multipart boundary param in Content-Type");
	multipart_release(&m);
	assert_ok(multipart_init(&m, TYPE, &calls, &seen, &e), &e);
	assert_fails(multipart_feed(&m, (const uint8_t *)"--xYzz\r\n", 8, &e), &e, ERR_PARSE,
		     "multipart: expecting a new Part");
	multipart_release(&m);
	assert_ok(multipart_init(&m, TYPE, &calls, &seen, &e), &e);
	memset(head, 'h', sizeof(head));
	memcpy(head, "--xYz\r\n", 7);
	assert_fails(multipart_feed(&m, (const uint8_t *)head, sizeof(head), &e), &e, ERR_PARSE,
		     "multipart: the head of a part is too long");
	multipart_release(&m);
}

static void assert_param(const char *value, const char *name, const char *want_value)
{
	struct buf got CLEANUP(buf_release);
	struct err e;

	buf_init(&got, 256);
	assert_int_equal(header_param(value, name, &got, &e), want_value ? 1 : 0);
	if (want_value)
		assert_string_equal(buf_cstr(&got, &e), want_value);
}

TEST(parameters_of_a_header_are_found)
{
	assert_param("a/b; boundary=x", "boundary", "x");
	assert_param("a/b;boundary=\"x y;z\"; c=d", "boundary", "x y;z");
	assert_param("a/b;boundary=\"x y;z\"; c=d", "c", "d");
	assert_param("a/b; BOUNDARY=x", "boundary", "x");
	assert_param("a/b; xboundary=x", "boundary", NULL);
	assert_param("a/b; x=\"; boundary=no\"", "boundary", NULL);
	assert_param("a/b; boundary", "boundary", NULL);
	assert_param("a/b", "boundary", NULL);
	assert_param("", "boundary", NULL);
	assert_param("a/b; boundary=\"open", "boundary", "open");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_form_split_at_every_two_borders_gives_the_same_parts),
		cmocka_unit_test(a_form_truncated_at_every_offset_gives_a_prefix_and_is_not_whole),
		cmocka_unit_test(large_parts_pass_through_whatever_they_hold),
		cmocka_unit_test(what_is_no_form_is_refused),
		cmocka_unit_test(parameters_of_a_header_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
