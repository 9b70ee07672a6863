/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "mocks/e2b/answer.h"
#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"

/* Takes a whole answer in pieces of `step` bytes; what of it is body comes back in out, and the
 * number of bytes that belong to it. */
static size_t take(const char *text, size_t len, const char *method, size_t step, struct buf *out,
		   bool *ret_done)
{
	size_t head = answer_head_len(text, len), at = head;
	struct answer_head h;
	struct body b;
	struct err e = ERR_INIT;
	char *copy;

	assert_true(head > 0);
	copy = malloc(head + 1);
	assert_non_null(copy);
	memcpy(copy, text, head);
	assert_ok(answer_parse(copy, head, &h, &e), &e);
	assert_ok(body_init(&b, &h, method, &e), &e);
	while (at < len && !b.done) {
		size_t n = len - at < step ? len - at : step, data_len;
		const uint8_t *data;
		ssize_t took = body_next(&b, (const uint8_t *)text + at, n, &data, &data_len, &e);

		assert_true(took > 0 && (size_t)took <= n);
		assert_ok(buf_put(out, data, data_len, &e), &e);
		at += (size_t)took;
	}
	free(copy);
	*ret_done = b.done;
	return at;
}

static void assert_body(const char *text, const char *method, const char *want, size_t behind,
			bool want_done)
{
	size_t len = strlen(text);

	for (size_t step = 1; step <= len; step++) {
		struct buf out CLEANUP(buf_release);
		bool done;

		buf_init(&out, 65536);
		assert_int_equal(take(text, len, method, step, &out, &done), len - behind);
		assert_int_equal(buf_len(&out), strlen(want));
		assert_memory_equal(buf_data(&out), want, strlen(want));
		assert_int_equal(done, want_done);
	}
}

TEST(bodies_end_where_their_framing_says_in_whatever_pieces_they_come)
{
	assert_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP", "GET", "hello", 4,
		    true);
	assert_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		    "5\r\nhello\r\n1;x=y\r\n \r\nA\r\n0123456789\r\n0\r\n\r\nmore",
		    "GET", "hello 0123456789", 4, true);
	assert_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
		    "GET", "", 0, true);
	assert_body("HTTP/1.0 200 OK\r\n\r\nuntil the end", "GET", "until the end", 0, false);
	assert_body("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "GET", "hi", 0, true);
	assert_body("HTTP/1.1 204 No Content\r\n\r\nx", "GET", "", 1, true);
	assert_body("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nx", "GET", "", 1, true);
	assert_body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "HEAD", "", 1, true);
	assert_body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "GET", "short", 0, false);
}

TEST(a_head_is_found_when_it_is_whole_and_not_before)
{
	const char *text = "HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody";
	size_t whole = strlen(text) - 4;

	for (size_t n = 0; n < whole; n++)
		assert_int_equal(answer_head_len(text, n), 0);
	for (size_t n = whole; n <= strlen(text); n++)
		assert_int_equal(answer_head_len(text, n), whole);
}

TEST(headers_are_taken_apart_and_found_in_any_case)
{
	char text[] = "HTTP/1.1 404 Not Found\r\nX-One:1\r\nx-two: \t two  \r\nEmpty:\r\n\r\n.";
	struct answer_head h;
	struct err e;

	assert_ok(answer_parse(text, strlen(text) - 1, &h, &e), &e);
	assert_int_equal(h.status, 404);
	assert_int_equal(h.n, 3);
	assert_string_equal(answer_header(&h, "x-one"), "1");
	assert_string_equal(answer_header(&h, "X-Two"), "two");
	assert_string_equal(answer_header(&h, "empty"), "");
	assert_null(answer_header(&h, "other"));
}

static void assert_no_answer(const char *text)
{
	char copy[256];
	struct answer_head h;
	struct body b;
	struct err e = ERR_INIT;

	snprintf(copy, sizeof(copy), "%s", text);
	if (answer_parse(copy, strlen(text), &h, &e) == 0)
		assert_true(body_init(&b, &h, "GET", &e) < 0);
	assert_int_equal(e.code, ERR_PROTO);
}

TEST(what_is_no_answer_is_refused)
{
	assert_no_answer("SSH-2.0-OpenSSH\r\n\r\n");
	assert_no_answer("HTTP/2 200\r\n\r\n");
	assert_no_answer("HTTP/1.1 20 OK\r\n\r\n");
	assert_no_answer("HTTP/1.1 2000\r\n\r\n");
	assert_no_answer("HTTP/1.1 200 OK\r\nno colon\r\n\r\n");
	assert_no_answer("HTTP/1.1 200 OK\r\n: no name\r\n\r\n");
	assert_no_answer("HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n");
	assert_no_answer("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n");
	assert_no_answer("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n");
	assert_no_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
}

static void assert_bad_chunks(const char *chunks)
{
	struct body b = { .kind = BODY_CHUNKED };
	size_t len = strlen(chunks), at = 0, data_len;
	struct err e = ERR_INIT;
	const uint8_t *data;
	ssize_t n = 0;

	while (at < len && !b.done && n >= 0) {
		n = body_next(&b, (const uint8_t *)chunks + at, len - at, &data, &data_len, &e);
		at += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(n, -1);
	assert_int_equal(e.code, ERR_PROTO);
}

TEST(broken_chunks_are_refused)
{
	char line[CHUNK_LINE_MAX + 8];

	assert_bad_chunks("x\r\n");
	assert_bad_chunks("\r\n");
	assert_bad_chunks("-1\r\n");
	assert_bad_chunks("1\r\nab\r\n");
	assert_bad_chunks("ffffffffffffffff\r\n");
	memset(line, '1', sizeof(line));
	line[sizeof(line) - 1] = 0;
	assert_bad_chunks(line);
}

TEST(there_is_a_bound_on_headers)
{
	struct buf text CLEANUP(buf_release);
	struct answer_head h;
	struct err e;

	buf_init(&text, 65536);
	assert_ok(buf_puts(&text, "HTTP/1.1 200 OK\r\n", &e), &e);
	for (int i = 0; i <= ANSWER_HEADERS; i++)
		assert_ok(buf_puts(&text, "A: b\r\n", &e), &e);
	assert_ok(buf_puts(&text, "\r\n.", &e), &e);
	assert_fails(answer_parse((char *)text.mem + text.off, buf_len(&text) - 1, &h, &e), &e,
		     ERR_PROTO, "more than 128 headers");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_end_where_their_framing_says_in_whatever_pieces_they_come),
		cmocka_unit_test(a_head_is_found_when_it_is_whole_and_not_before),
		cmocka_unit_test(headers_are_taken_apart_and_found_in_any_case),
		cmocka_unit_test(what_is_no_answer_is_refused),
		cmocka_unit_test(broken_chunks_are_refused),
		cmocka_unit_test(there_is_a_bound_on_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
