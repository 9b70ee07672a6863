/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP client against a small server in a child process, which does what the path says. */
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "sdk-wrapper/http.h"
#include "sdk-wrapper/http_text.h"
#include "sdk-wrapper/http_trace.h"

/* --- the server --- */

static int port;

static void say(int fd, const char *text)
{
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* The head of a request into buf; false: none comes any more. */
static bool read_head(int fd, char *buf, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && recv(fd, buf + n, 1, 0) == 1) {
		buf[++n] = 0;
		if (n >= 4 && strcmp(buf + n - 4, "\r\n\r\n") == 0)
			return true;
	}
	return false;
}

static size_t content_length(const char *head)
{
	const char *p = strcasestr(head, "\r\ncontent-length:");

	return p ? strtoul(p + 17, NULL, 10) : 0;
}

/* What came, summed up: length and the sum of its bytes. */
static void answer_sum(int fd, size_t len)
{
	static uint8_t block[65536];
	unsigned long sum = 0;
	char text[200], body[100];
	size_t done = 0;

	while (done < len) {
		ssize_t n = recv(fd, block, sizeof(block), 0);

		if (n <= 0)
			return;
		for (ssize_t i = 0; i < n; i++)
			sum += block[i];
		done += (size_t)n;
	}
	snprintf(body, sizeof(body), "%zu %lu", len, sum);
	snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
	         strlen(body), body);
	say(fd, text);
}

/* Returns false to close the connection. */
static bool serve_one(int fd, const char *head, int served)
{
	char text[300];

	if (strstr(head, " /sum ")) {
		answer_sum(fd, content_length(head));
		return true;
	}
	if (strstr(head, " /cut "))
		return false;
	if (strstr(head, " /half ")) {
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
		return false;
	}
	if (strstr(head, " /hang ")) {
		nap(2000);
		return false;
	}
	if (strstr(head, " /drip ")) {
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
		for (int i = 0; i < 6; i++) {
			nap(60);
			say(fd, "x");
		}
		return true;
	}
	if (strstr(head, " /long ")) {
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
		for (int i = 0; i < 100; i++)
			say(fd, "0123456789");
		return true;
	}
	if (strstr(head, " /headers ")) {
		say(fd, "HTTP/1.1 429 Too Many\r\nRetry-After:  7 \r\nretry-AFTER-x: 9\r\n"
		        "Content-Length: 4\r\n\r\nnope");
		return true;
	}
	if (strstr(head, " /moved ")) {
		say(fd, "HTTP/1.1 302 Found\r\nLocation: /sum\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	if (strstr(head, " /once ")) { /* closes a connection that is used a second time */
		if (served)
			return false;
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
		return true;
	}
	snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.200s",
	         strlen(head) < 200 ? strlen(head) : 200, head);
	say(fd, text);
	return true;
}

static void serve(int listener)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		char head[4096];

		if (fd < 0 || fork() != 0) {
			close(fd);
			continue;
		}
		for (int served = 0; read_head(fd, head, sizeof(head)); served++)
			if (!serve_one(fd, head, served))
				_exit(0);
		_exit(0);
	}
}

static pid_t server;

static int start_server(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		return -1;
	port = ntohs(in.sin_port);
	server = fork();
	if (server == 0)
		serve(fd);
	close(fd);
	return 0;
}

static int stop_server(void **state)
{
	(void)state;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}

/* --- a client and what came of its calls --- */

struct got {
	int n; /* how many times on_done came */
	enum http_end end;
	int status;
	char body[512];
	char header[64];
	struct err err;
	struct buf data;
	struct http_call *call;
	struct http *http;
	int cancel_at; /* bytes of data, then on_data cancels the call */
};

struct client {
	struct loop *loop;
	struct http *http;
};

static struct client client_new(void (*trace)(const char *))
{
	struct err e = ERR_INIT;
	struct client c = { loop_new(&e), NULL };

	c.http = http_new(c.loop, trace, &e);
	if (!c.http)
		fail_msg("%s", e.msg);
	return c;
}

static void client_free(struct client *c)
{
	http_free(c->http);
	loop_free(c->loop);
}

static void on_done(void *user, const struct http_response *r)
{
	struct got *g = user;

	g->n++;
	g->end = r->end;
	g->status = r->status;
	g->err = r->err;
	snprintf(g->body, sizeof(g->body), "%s", r->body);
	if (!http_header(r, "retry-after", g->header, sizeof(g->header)))
		g->header[0] = 0;
	g->call = NULL;
}

static int on_data(void *user, const uint8_t *p, size_t n)
{
	struct got *g = user;

	buf_put(&g->data, p, n, NULL);
	if (g->cancel_at && buf_len(&g->data) >= (size_t)g->cancel_at) {
		http_cancel(g->call);
		g->call = NULL;
	}
	return buf_len(&g->data) > 5000 ? -1 : 0;
}

static const char *url(const char *path)
{
	static char text[4][200];
	static int turn;
	char *t = text[turn++ % 4];

	snprintf(t, sizeof(text[0]), "http://127.0.0.1:%d%s", port, path);
	return t;
}

static void run_for(struct client *c, const struct got *g, int ms)
{
	uint64_t until = now_ns() + (uint64_t)ms * 1000000;

	while (!g->n && now_ns() < until)
		loop_pass(c->loop, 20, NULL);
}

static struct http_request request(const char *method, const char *path, struct got *g)
{
	return (struct http_request){ .method = method,
		                      .url = url(path),
		                      .max_body = 500,
		                      .deadline_ms = 10000,
		                      .on_done = on_done,
		                      .user = g };
}

static void start(struct client *c, struct http_request r)
{
	struct err e = ERR_INIT;
	struct got *g = r.user;

	g->http = c->http;
	g->call = http_start(c->http, &r, &e);
	if (!g->call)
		fail_msg("%s", e.msg);
}

static void call(struct client *c, struct http_request r)
{
	start(c, r);
	run_for(c, r.user, 12000);
	assert_int_equal(((struct got *)r.user)->n, 1);
}

/* --- tests --- */

TEST(an_answer_comes_from_the_loop_and_not_from_inside_the_call)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };
	static const char *const headers[] = { "X-One: 1", NULL };
	struct http_request r = request("GET", "/plain", &g);

	r.headers = headers;
	start(&c, r);
	assert_int_equal(g.n, 0);
	run_for(&c, &g, 5000);
	assert_int_equal(g.n, 1);
	assert_int_equal(g.end, HTTP_ANSWERED);
	assert_int_equal(g.status, 200);
	assert_non_null(strstr(g.body, "GET /plain HTTP/1.1\r\n"));
	assert_non_null(strstr(g.body, "\r\nX-One: 1\r\n"));
	assert_null(strcasestr(g.body, "expect:"));
}

TEST(calls_one_after_another_share_one_connection)
{
	struct client c CLEANUP(client_free) = client_new(NULL);

	for (int i = 0; i < 5; i++) {
		struct got g = { 0 };

		call(&c, request("GET", "/plain", &g));
		assert_int_equal(g.status, 200);
	}
	assert_int_equal(http_connections(c.http), 1);
}

TEST(a_body_of_memory_and_file_ranges_arrives_whole)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g = { 0 };
	auto_close int fd = openat(t.fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	static uint8_t block[1 << 20];
	unsigned long sum = 3 * 'a' + 2 * 'b';
	struct http_part parts[] = { { "aaa", -1, 0, 3 },
		                     { NULL, fd, 10, 3 * sizeof(block) - 10 },
		                     { "bb", -1, 0, 2 } };
	struct http_request r = request("POST", "/sum", &g);
	char want[64];

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i * 7);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
		for (size_t k = 0; k < sizeof(block); k++)
			sum += i == 0 && k < 10 ? 0 : block[k];
	}
	r.parts = parts;
	r.n_parts = 3;
	call(&c, r);
	snprintf(want, sizeof(want), "%zu %lu", 3 * sizeof(block) - 5, sum);
	assert_string_equal(g.body, want);
}

TEST(a_file_that_became_shorter_fails_the_call_by_name)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct got g = { 0 };
	auto_close int fd = openat(t.fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct http_part part = { NULL, fd, 0, 1000 };
	struct http_request r = request("POST", "/sum", &g);

	r.parts = &part;
	r.n_parts = 1;
	call(&c, r);
	assert_int_not_equal(g.end, HTTP_ANSWERED);
	assert_non_null(strstr(g.err.msg, "the file to send: shorter than it was"));
}

TEST(a_post_without_a_body_says_so)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };

	call(&c, request("POST", "/plain", &g));
	assert_non_null(strcasestr(g.body, "content-length: 0"));
}

TEST(headers_are_found_whatever_their_case_and_by_their_whole_name)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };

	call(&c, request("GET", "/headers", &g));
	assert_int_equal(g.status, 429);
	assert_string_equal(g.header, "7");
	assert_string_equal(g.body, "nope");
}

TEST(redirects_are_not_followed)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };

	call(&c, request("GET", "/moved", &g));
	assert_int_equal(g.status, 302);
}

TEST(other_protocols_are_refused)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };
	struct http_request r = request("GET", "/", &g);

	r.url = "file:///etc/hostname";
	call(&c, r);
	assert_int_equal(g.end, HTTP_NOT_SENT);
	assert_int_equal(g.err.admitted, ADMITTED_NO);
}

TEST(a_refused_connection_was_not_sent)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };
	struct http_request r = request("POST", "/", &g);

	r.url = "http://127.0.0.1:1/x?signature=secret";
	call(&c, r);
	assert_int_equal(g.end, HTTP_NOT_SENT);
	assert_int_equal(g.err.code, ERR_PROVIDER);
	assert_int_equal(g.err.admitted, ADMITTED_NO);
	assert_non_null(strstr(g.err.msg, "POST http://127.0.0.1:1/x: "));
	assert_null(strstr(g.err.msg, "secret"));
}

TEST(a_cut_connection_leaves_open_whether_it_was_carried_out)
{
	static const char *const paths[] = { "/cut", "/half" };

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct client c CLEANUP(client_free) = client_new(NULL);
		struct got g = { 0 };

		call(&c, request("POST", paths[i], &g));
		assert_int_equal(g.end, HTTP_CUT);
		assert_int_equal(g.err.code, ERR_LOST);
		assert_int_equal(g.err.admitted, ADMITTED_UNKNOWN);
	}
}

TEST(a_deadline_ends_a_call_that_hangs)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };
	struct http_request r = request("POST", "/hang", &g);
	uint64_t begun = now_ns();

	r.deadline_ms = 200;
	call(&c, r);
	assert_int_equal(g.end, HTTP_DEADLINE);
	assert_int_equal(g.err.code, ERR_DEADLINE);
	assert_int_equal(g.err.admitted, ADMITTED_UNKNOWN);
	assert_true(now_ns() - begun < UINT64_C(2000000000));
}

TEST(the_watchdog_ends_what_does_not_move_and_spares_what_is_slow)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got slow = { 0 }, stuck = { 0 };
	struct http_request r = request("GET", "/drip", &slow);

	r.idle_ms = 200;
	call(&c, r);
	assert_int_equal(slow.end, HTTP_ANSWERED);
	assert_string_equal(slow.body, "xxxxxx");
	r = request("GET", "/hang", &stuck);
	r.idle_ms = 200;
	call(&c, r);
	assert_int_equal(stuck.end, HTTP_IDLE);
	assert_int_equal(stuck.err.code, ERR_LOST);
}

TEST(an_answer_over_its_bound_ends_the_call)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };

	call(&c, request("GET", "/long", &g));
	assert_int_equal(g.end, HTTP_STOPPED);
	assert_int_equal(g.err.code, ERR_LIMIT);
	assert_non_null(strstr(g.err.msg, "longer than 500 bytes"));
}

TEST(a_body_can_be_taken_as_it_comes)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };
	struct http_request r = request("GET", "/long", &g);

	buf_init(&g.data, 10000);
	r.on_data = on_data;
	call(&c, r);
	assert_int_equal(g.end, HTTP_ANSWERED);
	assert_int_equal(buf_len(&g.data), 1000);
	assert_string_equal(g.body, "");
	buf_release(&g.data);
}

TEST(an_error_body_is_collected_even_where_data_is_streamed)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got g = { 0 };
	struct http_request r = request("GET", "/headers", &g);

	buf_init(&g.data, 100);
	r.on_data = on_data;
	call(&c, r);
	assert_string_equal(g.body, "nope");
	assert_int_equal(buf_len(&g.data), 0);
}

TEST(a_cancelled_call_is_never_heard_of_again)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got before = { 0 }, during = { 0 }, inside = { .cancel_at = 1 };
	struct http_request r = request("GET", "/long", &inside);

	start(&c, request("GET", "/plain", &before));
	http_cancel(before.call);
	start(&c, request("GET", "/hang", &during));
	run_for(&c, &during, 100);
	http_cancel(during.call);
	buf_init(&inside.data, 10000);
	r.on_data = on_data;
	start(&c, r);
	run_for(&c, &inside, 300);
	assert_null(inside.call);
	assert_true(buf_len(&inside.data) > 0);
	assert_int_equal(before.n + during.n + inside.n, 0);
	buf_release(&inside.data);
}

TEST(a_call_that_must_be_fresh_is_not_repeated_on_a_dead_connection)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got first = { 0 }, again = { 0 }, fresh = { 0 };
	struct http_request r = request("POST", "/once", &fresh);

	call(&c, request("POST", "/once", &first));
	call(&c, request("POST", "/once", &again)); /* libcurl repeats it by itself */
	assert_int_equal(again.status, 200);
	assert_int_equal(http_connections(c.http), 2);
	r.fresh = true;
	call(&c, r);
	assert_int_equal(fresh.status, 200);
	assert_int_equal(http_connections(c.http), 3);
}

TEST(after_a_cut_the_next_call_has_a_connection_of_its_own)
{
	struct client c CLEANUP(client_free) = client_new(NULL);
	struct got slow = { 0 }, cut = { 0 }, next = { 0 };

	start(&c, request("GET", "/drip", &slow));
	call(&c, request("GET", "/cut", &cut));
	assert_int_equal(cut.end, HTTP_CUT);
	call(&c, request("GET", "/plain", &next));
	run_for(&c, &slow, 5000);
	assert_int_equal(slow.end, HTTP_ANSWERED); /* what was under way goes on */
	assert_int_equal(http_connections(c.http), 3);
}

static char traced[8192];

static void trace(const char *line)
{
	size_t n = strlen(traced);

	snprintf(traced + n, sizeof(traced) - n, "%s\n", line);
}

TEST(traces_show_headers_without_their_secrets)
{
	struct client c CLEANUP(client_free) = client_new(trace);
	struct got g = { 0 };
	static const char *const headers[] = { "X-API-Key: e2b_0123",
		                               "Authorization: Basic dXNlcjo=",
		                               "X-Access-Token: feed", "X-Plain: seen", NULL };
	struct http_request r = request("GET", "/sum?signature=v1_abc&path=/a", &g);

	traced[0] = 0;
	r.headers = headers;
	call(&c, r);
	assert_non_null(strstr(traced, "http > GET /sum?signature=***&path=/a HTTP/1.1\n"));
	assert_non_null(strstr(traced, "http > X-API-Key: ***\n"));
	assert_non_null(strstr(traced, "http > X-Plain: seen\n"));
	assert_non_null(strstr(traced, "http < HTTP/1.1 200 OK\n"));
	assert_null(strstr(traced, "e2b_0123"));
	assert_null(strstr(traced, "dXNlcjo"));
	assert_null(strstr(traced, "feed"));
	assert_null(strstr(traced, "v1_abc"));
}

TEST(lines_are_redacted_by_the_names_in_them)
{
	static const char *const rows[][2] = {
		{ "E2b-Traffic-Access-Token: x", "E2b-Traffic-Access-Token: ***" },
		{ "e2b-sandbox-id: i1", "e2b-sandbox-id: i1" },
		{ "Set-Cookie: a=b", "Set-Cookie: ***" },
		{ "proxy-authorization: y", "proxy-authorization: ***" },
		{ "GET /f?a=1&access_token=2&b HTTP/1.1",
		  "GET /f?a=1&access_token=***&b HTTP/1.1" },
		{ "GET /f?t=10:30 HTTP/1.1", "GET /f?t=10:30 HTTP/1.1" },
		{ "HTTP/1.1 200 OK", "HTTP/1.1 200 OK" },
		{ "", "" },
	};
	char shown[100];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		http_redact(rows[i][0], strlen(rows[i][0]), shown, sizeof(shown));
		assert_string_equal(shown, rows[i][1]);
	}
	http_redact("abcdef", 6, shown, 4);
	assert_string_equal(shown, "abc");
}

TEST(notes_are_cut_where_a_secret_begins)
{
	static const char *const rows[][2] = {
		{ "h2h3 [x-api-key: e2b_0123]", "h2h3 [x-api-key: ***" },
		{ "h2h3 [:path: /files?path=/a&signature=v1_x]",
		  "h2h3 [:path: /files?path=/a&signature=***" },
		{ "Proxy-Authorization Basic abc", "Proxy-: ***" },
		{ "Connected to localhost (127.0.0.1) port 1",
		  "Connected to localhost (127.0.0.1) port 1" },
		{ "Cookie: a, X-Access-Token: b", "Cookie: ***" },
	};
	char shown[100];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		http_redact_note(rows[i][0], strlen(rows[i][0]), shown, sizeof(shown));
		assert_string_equal(shown, rows[i][1]);
	}
}

TEST(text_is_percent_encoded)
{
	struct buf b CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&b, 100);
	assert_ok(http_escape(&b, "/a b/\xc3\xa4%~", true, &e), &e);
	assert_ok(http_escape(&b, "/=", false, &e), &e);
	assert_string_equal(buf_cstr(&b, &e), "/a%20b/%C3%A4%25~%2F%3D");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_comes_from_the_loop_and_not_from_inside_the_call),
		unit_test_of_row(calls_one_after_another_share_one_connection, 168), /* [R168] */
		cmocka_unit_test(a_body_of_memory_and_file_ranges_arrives_whole),
		cmocka_unit_test(a_file_that_became_shorter_fails_the_call_by_name),
		cmocka_unit_test(a_post_without_a_body_says_so),
		cmocka_unit_test(headers_are_found_whatever_their_case_and_by_their_whole_name),
		cmocka_unit_test(redirects_are_not_followed),
		cmocka_unit_test(other_protocols_are_refused),
		cmocka_unit_test(a_refused_connection_was_not_sent),
		cmocka_unit_test(a_cut_connection_leaves_open_whether_it_was_carried_out),
		cmocka_unit_test(a_deadline_ends_a_call_that_hangs),
		cmocka_unit_test(the_watchdog_ends_what_does_not_move_and_spares_what_is_slow),
		cmocka_unit_test(an_answer_over_its_bound_ends_the_call),
		cmocka_unit_test(a_body_can_be_taken_as_it_comes),
		cmocka_unit_test(an_error_body_is_collected_even_where_data_is_streamed),
		cmocka_unit_test(a_cancelled_call_is_never_heard_of_again),
		cmocka_unit_test(a_call_that_must_be_fresh_is_not_repeated_on_a_dead_connection),
		cmocka_unit_test(after_a_cut_the_next_call_has_a_connection_of_its_own),
		cmocka_unit_test(traces_show_headers_without_their_secrets),
		cmocka_unit_test(lines_are_redacted_by_the_names_in_them),
		cmocka_unit_test(notes_are_cut_where_a_secret_begins),
		cmocka_unit_test(text_is_percent_encoded),
	};

	setenv("NO_PROXY", "*", 1);
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
