/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server layer of the mock cloud, with real sockets on loopback; server and client run
 * in turn in one thread. */
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "mocks/e2b/http.h"
#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"

enum { PATIENCE_MS = 5000 };

/* What the one request under test has seen, and what it is to do. */
static struct {
	struct loop *loop;
	struct http_server *server;
	struct http *h;			/* open */
	void (*on_request)(struct http *h);
	struct buf body;
	int requests, body_ends, closes, wholes, drains;
	bool pause;			/* on_body takes nothing */
	struct http_tunnel *tunnel;
	int tunnel_fd;
	char extra[64];
	uint16_t port;
} t;

static size_t on_body(struct http *h, const uint8_t *p, size_t n)
{
	(void)h;
	if (t.pause)
		return 0;
	assert_int_equal(buf_put(&t.body, p, n, NULL), 0);
	return n;
}

static void on_body_end(struct http *h)
{
	t.body_ends++;
	if (buf_len(&t.body) < 100)
		http_reply(h, 200, "text/plain", buf_data(&t.body), buf_len(&t.body));
	else
		http_reply(h, 204, NULL, NULL, 0);
}

static void on_drain(struct http *h)
{
	(void)h;
	t.drains++;
}

static void on_close(struct http *h, bool whole)
{
	if (h == t.h)
		t.h = NULL;
	t.closes++;
	t.wholes += whole;
}

static const struct http_calls echo_calls = { on_body, on_body_end, on_drain, on_close };
static const struct http_calls quiet_calls = { .on_drain = on_drain, .on_close = on_close };

static void on_request(struct http *h, void *arg)
{
	assert_ptr_equal(arg, &t);
	t.requests++;
	t.h = h;
	t.on_request(h);
}

static void echo(struct http *h)
{
	http_on(h, &echo_calls, &t);
}

static void quiet(struct http *h)
{
	http_on(h, &quiet_calls, &t);
}

static int listening(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	*port = ntohs(a.sin_port);
	return fd;
}

static int start(void **state, void (*on_req)(struct http *))
{
	struct http_server_options o = { .connections = 16, .idle_s = 60, .on_request = on_request,
					 .arg = &t };
	struct err e = ERR_INIT;

	(void)state;
	memset(&t, 0, sizeof(t));
	t.on_request = on_req;
	t.tunnel_fd = -1;
	buf_init(&t.body, 64 * 1024 * 1024);
	t.loop = loop_new(&e);
	o.listen_fd = listening(&t.port);
	t.server = http_server_new(t.loop, &o, &e);
	assert_non_null(t.server);
	return 0;
}

static void stop(void)
{
	http_server_free(t.server);
	loop_free(t.loop);
	buf_release(&t.body);
}

static int client(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(t.port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Lets the server run until cond holds. */
#define run_until(cond) \
	do { \
		uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000); \
		while (!(cond)) { \
			if (now_ns() > until) \
				fail_msg("waited in vain for %s", #cond); \
			loop_pass(t.loop, 10, NULL); \
		} \
	} while (0)

static void say_n(int fd, const char *p, size_t n)
{
	uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);

	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno != EAGAIN)
			fail_msg("send: %s", strerror(errno));
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
		assert_true(now_ns() < until);
		loop_pass(t.loop, k < 0 ? 1 : 0, NULL);
	}
}

static void say(int fd, const char *text)
{
	say_n(fd, text, strlen(text));
}

/* Reads until the text is there, or the end (NULL); everything in got. */
static void hear(int fd, struct buf *got, const char *text)
{
	uint64_t until = now_ns() + PATIENCE_MS * UINT64_C(1000000);
	char part[65536];

	for (;;) {
		ssize_t n = recv(fd, part, sizeof(part), 0);

		if (n > 0)
			assert_int_equal(buf_put(got, part, (size_t)n, NULL), 0);
		else if (n == 0 || errno != EAGAIN)
			break;
		if (text && strstr(buf_cstr(got, NULL), text))
			return;
		if (now_ns() > until)
			fail_msg("waited in vain for '%s' in '%s'", text, buf_cstr(got, NULL));
		loop_pass(t.loop, n > 0 ? 0 : 10, NULL);
	}
	if (text)
		fail_msg("the connection ended before '%s' in '%s'", text, buf_cstr(got, NULL));
}

static bool is_closed(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

#define HEARD(name) \
	struct buf name CLEANUP(buf_release); \
	buf_init(&name, 64 * 1024 * 1024)

/* --- requests --- */

static void look(struct http *h)
{
	assert_string_equal(http_method(h), "GET");
	assert_string_equal(http_target(h), "/a%2Fb?x=%2531&y");
	assert_string_equal(http_path(h), "/a/b");
	assert_string_equal(http_query(h), "x=%2531&y");
	assert_string_equal(http_header(h, "x-one"), "1");
	assert_null(http_header(h, "X-Two"));
	assert_false(http_has_body(h));
	http_on(h, &quiet_calls, NULL);
	http_add(h, "X-Mine", "yes", NULL);
	http_reply(h, 200, "text/plain", "hello", 5);
}

TEST(two_requests_on_one_connection_are_answered)
{
	start(state, look);
	int fd auto_close = client();
	HEARD(got);

	for (int i = 1; i <= 2; i++) {
		say(fd, "GET /a%2Fb?x=%2531&y HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n\r\n");
		hear(fd, &got, "\r\n\r\nhello");
		assert_non_null(strstr(buf_cstr(&got, NULL), "HTTP/1.1 200 OK\r\n"));
		assert_non_null(strstr(buf_cstr(&got, NULL), "X-Mine: yes\r\n"));
		assert_non_null(strstr(buf_cstr(&got, NULL), "Content-Length: 5\r\n"));
		buf_reset(&got);
		run_until(t.closes == i);
	}
	assert_int_equal(t.wholes, 2);
	stop();
}

TEST(a_body_comes_whole_chunked_or_not_split_at_every_border)
{
	static const char *const form[] = {
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		"3;x=y\r\n012\r\n6\r\n345678\r\n1\r\n9\r\n0\r\n\r\n",
	};

	start(state, echo);
	int fd auto_close = client();
	HEARD(got);

	for (size_t f = 0; f < 2; f++) {
		for (size_t at = 1; at < strlen(form[f]); at++) {
			int before = t.closes;

			buf_reset(&t.body);
			buf_reset(&got);
			say_n(fd, form[f], at);
			loop_pass(t.loop, 0, NULL);
			say(fd, form[f] + at);
			hear(fd, &got, "\r\n\r\n0123456789");
			run_until(t.closes == before + 1);
		}
	}
	stop();
}

TEST(a_body_that_is_not_taken_waits_and_its_sender_too)
{
	static char block[1024 * 1024];
	size_t sent = 0;
	ssize_t n = 0;

	start(state, echo);
	t.pause = true;
	int fd auto_close = client();
	HEARD(got);

	memset(block, 'x', sizeof(block));
	say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n");
	for (int idle = 0; idle < 20; idle = n > 0 ? 0 : idle + 1) {
		n = send(fd, block, sizeof(block), MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		loop_pass(t.loop, 1, NULL);
	}
	assert_true(sent < 33554432);
	assert_int_equal(buf_len(&t.body), 0);
	t.pause = false;
	http_take_on(t.h);
	while (sent < 33554432) {
		size_t want = 33554432 - sent;

		say_n(fd, block, want < sizeof(block) ? want : sizeof(block));
		sent += want < sizeof(block) ? want : sizeof(block);
	}
	run_until(buf_len(&t.body) == 33554432);
	stop();
}

static void refuse(struct http *h)
{
	http_on(h, &quiet_calls, NULL);
	http_reply(h, 401, "text/plain", "no", 2);
}

TEST(an_answer_before_the_body_is_sent_behind_it)
{
	start(state, refuse);
	int fd auto_close = client();
	HEARD(got);

	for (int i = 1; i <= 2; i++) {
		buf_reset(&got);
		say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345");
		hear(fd, &got, "\r\n\r\nno");
		run_until(t.closes == i);
	}
	stop();
}

#define EXPECTS "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"

TEST(who_expects_100_continue_gets_it_or_the_refusal_instead)
{
	start(state, echo);
	int fd auto_close = client();
	int other auto_close = client();
	HEARD(got);
	HEARD(no);

	say(fd, EXPECTS);
	hear(fd, &got, "100 Continue\r\n\r\n");
	say(fd, "ab");
	hear(fd, &got, "\r\n\r\nab");
	run_until(t.closes == 1);
	t.on_request = refuse;
	say(other, EXPECTS);
	hear(other, &no, "\r\n\r\nno");
	assert_null(strstr(buf_cstr(&no, NULL), "100 Continue"));
	stop();
}

TEST(heads_beyond_the_limit_and_malformed_requests_are_refused)
{
	static char huge[3 * HTTP_HEAD_MAX];
	static const char *const bad[] = { "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
					   "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n",
					   ("POST / HTTP/1.1\r\nHost: h\r\n"
					    "Transfer-Encoding: chunked\r\n\r\nxyz\r\n") };

	start(state, echo);
	memset(huge, 'a', sizeof(huge));
	memcpy(huge, "GET / HTTP/1.1\r\nX: ", 19);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int fd auto_close = client();
		HEARD(got);

		say(fd, bad[i]);
		hear(fd, &got, "HTTP/1.1 400");
	}
	int fd auto_close = client();
	HEARD(got);
	send(fd, huge, sizeof(huge), MSG_NOSIGNAL);
	hear(fd, &got, "HTTP/1.1 431");
	stop();
}

/* --- answers --- */

TEST(a_streamed_answer_arrives_piece_by_piece)
{
	start(state, quiet);
	int fd auto_close = client();
	HEARD(got);

	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_start(t.h, 200, HTTP_LENGTH_UNKNOWN);
	hear(fd, &got, "Transfer-Encoding: chunked\r\n");
	for (int i = 0; i < 100; i++) {
		char text[32];

		snprintf(text, sizeof(text), "piece%d.", i);
		http_write(t.h, text, strlen(text), NULL);
		hear(fd, &got, text);
	}
	assert_null(strstr(buf_cstr(&got, NULL), "\r\n0\r\n\r\n"));
	http_end(t.h);
	hear(fd, &got, "\r\n0\r\n\r\n");
	run_until(t.closes == 1);
	assert_int_equal(t.wholes, 1);
	stop();
}

TEST(a_client_that_does_not_read_makes_the_writer_wait)
{
	static char block[65536];
	struct err e = ERR_INIT;
	uint64_t total = 0;

	memset(block, 'x', sizeof(block));
	start(state, quiet);
	int fd auto_close = client();
	HEARD(got);

	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_start(t.h, 200, HTTP_LENGTH_UNKNOWN);
	for (int full = 0; full < 50; total += sizeof(block)) {
		int r = http_write(t.h, block, sizeof(block), &e);

		assert_true(r >= 0);
		for (int i = 0; r && i < 50 && t.drains == 0; i++)
			loop_pass(t.loop, 1, NULL);
		if (r && t.drains == 0) {
			total += sizeof(block);
			break;
		}
		full = t.drains = 0;
	}
	assert_true(http_queued(t.h) >= HTTP_QUEUE_HIGH);
	while (http_write(t.h, block, sizeof(block), &e) >= 0)
		total += sizeof(block);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_true(http_queued(t.h) <= HTTP_QUEUE_MAX);
	http_end(t.h);
	hear(fd, &got, "\r\n0\r\n\r\n");
	assert_true(buf_len(&got) > total);
	assert_true(t.drains > 0);
	stop();
}

TEST(a_client_that_leaves_is_noticed_though_nothing_is_sent)
{
	start(state, quiet);
	for (int i = 1; i <= 2; i++) {
		int fd = client();

		say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
		run_until(t.h);
		if (i == 2)
			http_start(t.h, 200, HTTP_LENGTH_UNKNOWN);
		for (int k = 0; k < 5; k++)
			loop_pass(t.loop, 1, NULL);
		assert_int_equal(t.closes, i - 1);
		close(fd);
		run_until(t.closes == i);
	}
	assert_int_equal(t.wholes, 0);
	stop();
}

TEST(a_client_that_leaves_in_the_middle_of_its_body_is_noticed)
{
	start(state, echo);
	int fd = client();

	say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc");
	run_until(buf_len(&t.body) == 3);
	close(fd);
	run_until(t.closes == 1);
	assert_int_equal(t.wholes, 0);
	assert_int_equal(t.body_ends, 0);
	stop();
}

static int count_fds(void)
{
	DIR *dir auto_closedir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	return n;
}

TEST(a_client_that_leaves_with_its_last_bytes_is_noticed_at_every_offset)
{
	static const char request[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"
				      "12345678";
	int before;

	start(state, echo);
	before = count_fds();
	for (size_t n = 1; n < sizeof(request); n++) {
		int fd = client();

		assert_int_equal(send(fd, request, n, MSG_NOSIGNAL), n);
		close(fd);
		run_until(loop_pass(t.loop, 1, NULL) == 0 && count_fds() == before);
	}
	assert_true(t.requests > 0);
	assert_int_equal(t.closes, t.requests);
	assert_int_equal(t.body_ends, 0);
	stop();
}

/* The library visits idle connections from the oldest on and stops at one that lives. */
TEST(what_breaks_off_is_closed_though_an_older_connection_is_idle)
{
	start(state, look);
	int old auto_close = client();
	HEARD(got);
	int before;

	say(old, "GET /a%2Fb?x=%2531&y HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n\r\n");
	hear(old, &got, "\r\n\r\nhello");
	t.on_request = quiet;
	before = count_fds();
	for (int i = 0; i < 6; i++) {
		int fd = client();

		say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
		run_until(t.h);
		http_start(t.h, 200, i % 2 ? HTTP_LENGTH_UNKNOWN : 100);
		http_write(t.h, "some", 4, NULL);
		buf_reset(&got);
		hear(fd, &got, "some");
		if (i < 2)
			http_abort(t.h);
		else if (i < 4)
			http_end(t.h);
		if (i < 4)
			run_until(!t.h);
		close(fd);
		run_until(count_fds() == before && t.closes == i + 2);
	}
	stop();
}

TEST(an_aborted_answer_ends_without_its_last_chunk)
{
	start(state, quiet);
	int fd auto_close = client();
	HEARD(got);

	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_start(t.h, 200, HTTP_LENGTH_UNKNOWN);
	http_write(t.h, "half", 4, NULL);
	http_abort(t.h);
	hear(fd, &got, NULL);
	assert_non_null(strstr(buf_cstr(&got, NULL), "half"));
	assert_null(strstr(buf_cstr(&got, NULL), "\r\n0\r\n\r\n"));
	run_until(t.closes == 1);
	assert_int_equal(t.wholes, 0);
	stop();
}

TEST(an_abort_before_any_answer_breaks_the_connection)
{
	start(state, quiet);
	int fd auto_close = client();
	HEARD(got);

	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_abort(t.h);
	hear(fd, &got, NULL);
	assert_int_equal(buf_len(&got), 0);
	stop();
}

TEST(an_answer_of_known_length_and_one_without_a_body)
{
	start(state, quiet);
	int fd auto_close = client();
	HEARD(got);

	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_start(t.h, 206, 6);
	http_write(t.h, "abc", 3, NULL);
	hear(fd, &got, "\r\n\r\nabc");
	assert_non_null(strstr(buf_cstr(&got, NULL), "Content-Length: 6\r\n"));
	http_write(t.h, "def", 3, NULL);
	http_end(t.h);
	hear(fd, &got, "abcdef");
	run_until(t.closes == 1);
	buf_reset(&got);
	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_reply(t.h, 204, NULL, NULL, 0);
	hear(fd, &got, "HTTP/1.1 204 ");
	run_until(t.closes == 2);
	assert_int_equal(t.wholes, 2);
	stop();
}

TEST(close_after_closes_and_says_so)
{
	start(state, quiet);
	int fd auto_close = client();
	HEARD(got);

	say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	http_close_after(t.h);
	http_reply(t.h, 200, "text/plain", "x", 1);
	hear(fd, &got, NULL);
	assert_non_null(strstr(buf_cstr(&got, NULL), "Connection: close\r\n"));
	run_until(is_closed(fd));
	stop();
}

/* --- upgrade, and the end --- */

static void on_open(struct http_tunnel *tunnel, void *arg, int fd, const uint8_t *extra, size_t n)
{
	assert_ptr_equal(arg, &t);
	t.tunnel = tunnel;
	t.tunnel_fd = fd;
	memcpy(t.extra, extra, n);
}

static void upgrade(struct http *h)
{
	http_on(h, &quiet_calls, NULL);
	http_add(h, "Upgrade", "websocket", NULL);
	assert_int_equal(http_upgrade(h, on_open, &t, NULL), 0);
}

#define UPGRADE "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

TEST(an_upgraded_connection_is_a_bare_socket)
{
	start(state, upgrade);
	int fd auto_close = client();
	HEARD(got);

	say(fd, UPGRADE "early");
	hear(fd, &got, "\r\n\r\n");
	assert_non_null(strstr(buf_cstr(&got, NULL), "HTTP/1.1 101 "));
	assert_non_null(strstr(buf_cstr(&got, NULL), "Upgrade: websocket\r\n"));
	run_until(t.tunnel);
	assert_string_equal(t.extra, "early");
	assert_int_equal(send(t.tunnel_fd, "bare", 4, MSG_NOSIGNAL), 4);
	hear(fd, &got, "bare");
	http_tunnel_close(t.tunnel);
	run_until(t.closes == 1);
	run_until(is_closed(fd));
	stop();
}

static void note_end(void *arg)
{
	++*(int *)arg;
}

TEST(the_end_of_the_server_ends_what_is_open)
{
	int ends = 0;

	start(state, upgrade);
	int fd auto_close = client(), other auto_close = client(), idle auto_close = client();

	say(fd, UPGRADE);
	run_until(t.tunnel);
	http_tunnel_on_end(t.tunnel, note_end, &ends);
	t.h = NULL;
	t.on_request = quiet;
	say(other, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	run_until(t.h);
	say(idle, "GET / HT");
	http_start(t.h, 200, HTTP_LENGTH_UNKNOWN);
	stop();
	assert_int_equal(ends, 1);
	assert_int_equal(t.closes, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_requests_on_one_connection_are_answered),
		cmocka_unit_test(a_body_comes_whole_chunked_or_not_split_at_every_border),
		cmocka_unit_test(a_body_that_is_not_taken_waits_and_its_sender_too),
		cmocka_unit_test(an_answer_before_the_body_is_sent_behind_it),
		cmocka_unit_test(who_expects_100_continue_gets_it_or_the_refusal_instead),
		cmocka_unit_test(heads_beyond_the_limit_and_malformed_requests_are_refused),
		cmocka_unit_test(a_streamed_answer_arrives_piece_by_piece),
		cmocka_unit_test(a_client_that_does_not_read_makes_the_writer_wait),
		cmocka_unit_test(a_client_that_leaves_is_noticed_though_nothing_is_sent),
		cmocka_unit_test(a_client_that_leaves_in_the_middle_of_its_body_is_noticed),
		cmocka_unit_test(
			a_client_that_leaves_with_its_last_bytes_is_noticed_at_every_offset),
		cmocka_unit_test(what_breaks_off_is_closed_though_an_older_connection_is_idle),
		cmocka_unit_test(an_aborted_answer_ends_without_its_last_chunk),
		cmocka_unit_test(an_abort_before_any_answer_breaks_the_connection),
		cmocka_unit_test(an_answer_of_known_length_and_one_without_a_body),
		cmocka_unit_test(close_after_closes_and_says_so),
		cmocka_unit_test(an_upgraded_connection_is_a_bare_socket),
		cmocka_unit_test(the_end_of_the_server_ends_what_is_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
