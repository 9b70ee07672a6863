/* SPDX-License-Identifier: Apache-2.0
 *
 * Files and processes of a sandbox against a scripted server. */
#include "tests/unit/sdk/script_server.h"

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "sdk-wrapper/envd.h"
#include "sdk-wrapper/envd_process.h"
#include "sdk-wrapper/envd_put.h"

#define GONE "{\"sandboxId\":\"i0\",\"message\":\"The sandbox was not found\",\"code\":502}"
#define CLOSED                                                                               \
	"{\"sandboxId\":\"i0\",\"message\":\"The sandbox is running but port is not open\"," \
	"\"port\":49983,\"code\":502}"
#define WRITTEN                                                              \
	"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" \
	"[{\"name\":\"f\",\"path\":\"/f\",\"type\":\"file\"}]"

struct client {
	struct loop *loop;
	struct http *http;
	struct envd *envd;
	struct temp_dir dir;
	int fd;
};

struct got {
	int n;
	bool failed;
	struct failure failure;
	uint64_t bytes;
	char answer[200];
	struct buf data, err_data;
	uint32_t pid;
	struct envd_exit exit;
	bool has_exit;
};

static void client_init(struct client *c, const char *version, const char *user)
{
	struct e2b_env env = { .debug = false };
	struct e2b_sandbox s = { .id = "i0123", .access_token = "feed", .traffic_token = "beef" };
	struct err e = ERR_INIT;

	snprintf(env.sandbox_url, sizeof(env.sandbox_url), "http://127.0.0.1:%d", script_port);
	snprintf(s.envd_version, sizeof(s.envd_version), "%s", version);
	c->loop = loop_new(&e);
	c->http = http_new(c->loop, NULL, &e);
	c->envd = c->http ? envd_new(c->loop, c->http, &env, &s, user, &e) : NULL;
	if (!c->envd)
		fail_msg("%s", e.msg);
	c->dir = temp_dir();
	c->fd = openat(c->dir.fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void client_free(struct client *c)
{
	envd_free(c->envd);
	http_free(c->http);
	loop_free(c->loop);
	close(c->fd);
	temp_dir_release(&c->dir);
}

static void got_release(struct got *g)
{
	buf_release(&g->data);
	buf_release(&g->err_data);
}

#define CLIENT(version, user, ...)                 \
	struct client c CLEANUP(client_free);      \
	struct got g CLEANUP(got_release) = { 0 }; \
	buf_init(&g.data, 4 << 20);                \
	buf_init(&g.err_data, 4 << 20);            \
	SCRIPT(__VA_ARGS__);                       \
	client_init(&c, version, user)

static void on_done(void *user, const struct envd_result *r)
{
	struct got *g = user;
	struct buf b CLEANUP(buf_release);

	buf_init(&b, sizeof(g->answer) - 1);
	g->n++;
	g->failed = r->failure != NULL;
	if (r->failure)
		g->failure = *r->failure;
	g->bytes = r->bytes;
	if (r->answer && json_print(r->answer, &b, NULL) == 0)
		snprintf(g->answer, sizeof(g->answer), "%s", buf_cstr(&b, NULL));
}

static void run_for(struct client *c, const struct got *g, int ms)
{
	uint64_t until = now_ns() + (uint64_t)ms * 1000000;

	while (!g->n && now_ns() < until)
		loop_pass(c->loop, 20, NULL);
}

static void wait_done(struct client *c, struct got *g)
{
	assert_int_equal(g->n, 0);
	run_for(c, g, 15000);
	assert_int_equal(g->n, 1);
}

static struct envd_end end_at(struct got *g)
{
	return (struct envd_end){ 10000, on_done, g };
}

static int on_data(void *user, const uint8_t *p, size_t n)
{
	struct got *g = user;

	return buf_put(&g->data, p, n, NULL);
}

static void fill(struct client *c, size_t n)
{
	auto_free char *p = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)('a' + i % 26);
	assert_int_equal(pwrite(c->fd, p, n, 0), n);
}

/* --- requests --- */

TEST(every_request_has_both_tokens_and_says_which_sandbox)
{
	CLIENT("0.6.13", NULL, { "GET /health ", "HTTP/1.1 204 x\r\n\r\n" });
	struct envd_end end = end_at(&g);
	const char *asked;

	envd_health(c.envd, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	asked = script_asked("GET", 0);
	assert_non_null(strstr(asked, "\r\nE2b-Sandbox-Id: i0123\r\n"));
	assert_non_null(strstr(asked, "\r\nE2b-Sandbox-Port: 49983\r\n"));
	assert_non_null(strstr(asked, "\r\nX-Access-Token: feed\r\n"));
	assert_non_null(strstr(asked, "\r\nE2b-Traffic-Access-Token: beef\r\n"));
	assert_null(strstr(asked, "Authorization"));
}

TEST(a_sandbox_that_is_gone_is_told_from_a_port_that_is_closed)
{
	CLIENT("0.6.13", NULL, { "GET /health ", JSON_ANSWER("502", "", CLOSED) },
	       { "GET /health ", JSON_ANSWER("502", "", GONE) });
	struct envd_end end = end_at(&g);

	envd_health(c.envd, &end, NULL);
	wait_done(&c, &g);
	assert_true(g.failed);
	assert_int_equal(g.failure.class, FAIL_GONE);
	assert_int_equal(err_exit(g.failure.err.code), 6);
	assert_int_equal(script->n_asked, 2); /* the closed port was tried again */
}

TEST(users_are_named_where_an_old_envd_needs_it)
{
	CLIENT("0.3.5", NULL, { "POST /process.Process/List ", JSON_ANSWER("200", "", "{}") },
	       { "GET /files?path=/a%20b/%C3%A4&username=user ", "HTTP/1.1 200 OK\r\n\r\nhello" });
	struct envd_end end = end_at(&g);

	envd_list(c.envd, &end, NULL);
	wait_done(&c, &g);
	assert_non_null(strstr(script_asked("POST", 0), "\r\nAuthorization: Basic dXNlcjo=\r\n"));
	g.n = 0;
	envd_read(c.envd, "/a b/\xc3\xa4", 0, 0, on_data, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_string_equal(buf_cstr(&g.data, NULL), "hello");
	assert_null(strstr(script_asked("GET", 0), "\r\nRange:"));
}

/* --- reading --- */

TEST(a_read_that_breaks_off_goes_on_where_it_was)
{
	CLIENT("0.6.13", "root",
	       { "GET /files?path=/log&username=root ",
	         SHORT "HTTP/1.1 206 x\r\nContent-Length: 10\r\n\r\nabcd" },
	       { "GET /files?path=/log&username=root ", CUT },
	       { "GET /files?path=/log&username=root ", "HTTP/1.1 206 x\r\n\r\nefghij" });
	struct envd_end end = end_at(&g);

	envd_read(c.envd, "/log", 5, 10, on_data, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_string_equal(buf_cstr(&g.data, NULL), "abcdefghij");
	assert_int_equal(g.bytes, 10);
	assert_non_null(strstr(script_asked("GET", 0), "\r\nRange: bytes=5-14\r\n"));
	assert_non_null(strstr(script_asked("GET", 2), "\r\nRange: bytes=9-14\r\n"));
}

TEST(all_of_a_file_where_its_rest_was_asked_for_is_not_taken)
{
	CLIENT("0.6.13", NULL, { "GET /files", "HTTP/1.1 200 x\r\n\r\nfrom the start" });
	struct envd_end end = end_at(&g);

	envd_read(c.envd, "/log", 5, 0, on_data, &end, NULL);
	wait_done(&c, &g);
	assert_true(g.failed);
	assert_int_equal(buf_len(&g.data), 0);
}

TEST(behind_the_end_of_a_file_there_is_nothing)
{
	CLIENT("0.6.13", NULL, { "GET /files", "HTTP/1.1 416 x\r\n\r\ninvalid range" });
	struct envd_end end = end_at(&g);

	envd_read(c.envd, "/log", 5, 0, on_data, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(g.bytes, 0);
	assert_non_null(strstr(script_asked("GET", 0), "\r\nRange: bytes=5-\r\n"));
}

TEST(a_file_that_is_not_there_is_named)
{
	CLIENT("0.6.13", NULL,
	       { "GET /files",
	         JSON_ANSWER("404", "",
	                     "{\"code\":404,\"message\":\"path '/x' does not exist\"}") });
	struct envd_end end = end_at(&g);

	envd_read(c.envd, "/x", 0, 0, on_data, &end, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.failure.class, FAIL_NOT_FOUND);
	assert_string_equal(g.failure.err.msg,
	                    "download: not found (HTTP 404: path '/x' does not exist)");
}

/* --- writing --- */

TEST(several_files_go_in_one_multipart_request)
{
	CLIENT("0.1.0", NULL, { "POST /files?username=user ", WRITTEN });
	struct envd_file files[] = { { "/tmp/worker", -1, 0, 5 }, { "/tmp/package", -1, 5, 3 } };
	struct envd_end end = end_at(&g);
	char boundary[40], want[600];
	const char *asked, *type;

	fill(&c, 26);
	files[0].fd = files[1].fd = c.fd;
	envd_upload(c.envd, files, 2, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	asked = script_asked("POST", 0);
	type = strstr(asked, "\r\nContent-Type: multipart/form-data; boundary=");
	assert_non_null(type);
	snprintf(boundary, sizeof(boundary), "%.32s", strchr(type, '=') + 1);
	snprintf(want, sizeof(want),
	         "\r\n\r\n--%s\r\nContent-Disposition: form-data; name=\"file\"; "
	         "filename=\"/tmp/worker\"\r\n"
	         "Content-Type: application/octet-stream\r\n\r\nabcde\r\n--%s\r\n"
	         "Content-Disposition: form-data; name=\"file\"; filename=\"/tmp/package\"\r\n"
	         "Content-Type: application/octet-stream\r\n\r\nfgh\r\n--%s--\r\n",
	         boundary, boundary, boundary);
	assert_non_null(strstr(asked, want));
}

TEST(a_name_that_would_break_a_header_is_refused)
{
	CLIENT("0.6.13", NULL, { "POST ", WRITTEN });
	struct envd_file f = { "/tmp/a\"\r\nX: y", c.fd, 0, 0 };
	struct envd_end end = end_at(&g);
	struct err e = ERR_INIT;

	assert_null(envd_upload(c.envd, &f, 1, &end, &e));
	assert_int_equal(e.code, ERR_INVALID_PARAMS);
}

TEST(a_put_is_an_upload_beside_the_place_and_a_compose)
{
	CLIENT("0.6.13", NULL, { "POST /files?path=/opt/f.u7.part0 ", WRITTEN },
	       { "POST /files/compose ", JSON_ANSWER("200", "", "{\"path\":\"/opt/f\"}") });
	struct envd_file f = { "/opt/f", c.fd, 0, 26 };
	struct envd_end end = end_at(&g);

	fill(&c, 26);
	envd_put(c.envd, &f, "u7", false, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(g.bytes, 26);
	assert_non_null(
		strstr(script_asked("POST /files?", 0), "\r\n\r\nabcdefghijklmnopqrstuvwxyz"));
	assert_non_null(strstr(
		script_asked("POST /files/compose", 0),
		"\r\n\r\n{\"source_paths\":[\"/opt/f.u7.part0\"],\"destination\":\"/opt/f\"}"));
}

TEST(large_files_go_in_parts_and_only_what_broke_off_is_sent_again)
{
	CLIENT("0.6.13", NULL, { "POST /files?path=/f.u7.part0 ", WRITTEN },
	       { "POST /files?path=/f.u7.part1 ", CUT },
	       { "POST /files?path=/f.u7.part1 ", WRITTEN },
	       { "POST /files?path=/f.u7.part2 ", WRITTEN },
	       { "POST /files/compose ", JSON_ANSWER("200", "", "{}") });
	struct envd_file f = { "/f", c.fd, 0, (33 << 20) + 1 };
	struct envd_end end = end_at(&g);

	assert_int_equal(ftruncate(c.fd, (33 << 20) + 1), 0);
	envd_put(c.envd, &f, "u7", false, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(script_count("POST /files?path=/f.u7.part0 "), 1);
	assert_int_equal(script_count("POST /files?path=/f.u7.part1 "), 2);
	assert_int_equal(script_count("POST /files?path=/f.u7.part2 "), 1);
	assert_non_null(strstr(script_asked("POST /files/compose", 0),
	                       "[\"/f.u7.part0\",\"/f.u7.part1\",\"/f.u7.part2\"]"));
	for (int i = 0; i < script->n_asked; i++)
		if (strstr(script->asked[i].text, "part2 "))
			assert_int_equal(script->asked[i].body_len, (1 << 20) + 1);
}

TEST(a_resumed_put_sends_what_is_missing)
{
	CLIENT("0.6.13", NULL,
	       { "POST /filesystem.Filesystem/Stat ",
	         JSON_ANSWER("200", "", "{\"entry\":{\"size\":\"16777216\"}}") },
	       { "POST /filesystem.Filesystem/Stat ",
	         JSON_ANSWER("200", "", "{\"entry\":{\"size\":\"16777216\"}}") },
	       { "POST /files?path=/f.u7.part1 ", WRITTEN },
	       { "POST /files/compose ", JSON_ANSWER("200", "", "{}") });
	struct envd_file f = { "/f", c.fd, 0, (16 << 20) + 9 };
	struct envd_end end = end_at(&g);

	assert_int_equal(ftruncate(c.fd, (16 << 20) + 9), 0);
	envd_put(c.envd, &f, "u7", true, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(g.bytes, 9);
	assert_int_equal(script_count("POST /files?"), 1);
}

TEST(a_compose_whose_answer_was_lost_is_checked_and_not_repeated)
{
	CLIENT("0.6.13", NULL, { "POST /files?path=/f.u7.part0 ", WRITTEN },
	       { "POST /files/compose ", CUT },
	       { "POST /filesystem.Filesystem/Stat ",
	         JSON_ANSWER("200", "", "{\"entry\":{\"size\":\"26\"}}") });
	struct envd_file f = { "/f", c.fd, 0, 26 };
	struct envd_end end = end_at(&g);

	fill(&c, 26);
	envd_put(c.envd, &f, "u7", false, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(script_count("POST /files/compose"), 1);
}

TEST(a_put_that_fails_leaves_no_parts)
{
	CLIENT("0.6.13", NULL,
	       { "POST /files?path=/f.u7.part0 ",
	         JSON_ANSWER("507", "", "{\"code\":507,\"message\":\"not enough disk\"}") },
	       { "POST /filesystem.Filesystem/Remove ", JSON_ANSWER("200", "", "{}") });
	struct envd_file f = { "/f", c.fd, 0, 26 };
	struct envd_end end = end_at(&g);
	uint64_t until;

	fill(&c, 26);
	envd_put(c.envd, &f, "u7", false, &end, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.failure.class, FAIL_NO_SPACE);
	until = now_ns() + 2000000000;
	/* Its body may come after its head. */
	while ((!script_count("POST /filesystem") ||
	        !strstr(script_asked("POST /filesystem", 0), "{\"path\":\"/f.u7.part0\"}")) &&
	       now_ns() < until)
		loop_pass(c.loop, 20, NULL);
	assert_non_null(strstr(script_asked("POST /filesystem", 0), "{\"path\":\"/f.u7.part0\"}"));
}

TEST(an_old_envd_gets_multipart_and_a_rename)
{
	CLIENT("0.5.6", "root", { "POST /files?username=root ", WRITTEN },
	       { "POST /filesystem.Filesystem/Move ", JSON_ANSWER("200", "", "{}") });
	struct envd_file f = { "/f", c.fd, 0, 26 };
	struct envd_end end = end_at(&g);

	fill(&c, 26);
	envd_put(c.envd, &f, "u7", false, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_non_null(strstr(script_asked("POST /files?", 0), "filename=\"/f.u7.part0\""));
	assert_non_null(strstr(script_asked("POST /filesystem", 0),
	                       "{\"source\":\"/f.u7.part0\",\"destination\":\"/f\"}"));
}

/* --- processes --- */

static void on_start(void *user, uint32_t pid)
{
	((struct got *)user)->pid = pid;
}

static void on_output(void *user, bool is_stderr, const uint8_t *p, size_t n)
{
	struct got *g = user;

	buf_put(is_stderr ? &g->err_data : &g->data, p, n, NULL);
}

static void on_end(void *user, const struct envd_exit *x, const struct failure *f)
{
	struct got *g = user;

	g->n++;
	g->failed = f != NULL;
	g->has_exit = x != NULL;
	if (f)
		g->failure = *f;
	if (x)
		g->exit = *x;
}

static struct envd_process *start(struct client *c, struct got *g, uint32_t timeout_ms)
{
	static const char *const args[] = { "-c", "echo hi", NULL };
	static const char *const envs[] = { "A", "b \"c\"", NULL };
	struct envd_command cmd = { "/bin/sh", args, envs, "/tmp", false, timeout_ms, false };
	struct envd_hooks hooks = { g, on_start, on_output, on_end };
	struct err e = ERR_INIT;
	struct envd_process *p = envd_start(c->envd, &cmd, &hooks, &e);

	if (!p)
		fail_msg("%s", e.msg);
	return p;
}

#define STARTED "{\"event\":{\"start\":{\"pid\":42}}}\n"
#define HELLO   "{\"event\":{\"data\":{\"stdout\":\"aGVsbG8=\"}}}\n"

TEST(a_process_is_started_watched_and_ends)
{
	const char *asked;
	CLIENT("0.6.13", "user",
	       { "POST /process.Process/Start ", STREAM STARTED HELLO
	         "{\"event\":{\"keepalive\":{}}}\n{\"event\":{\"data\":{\"stderr\":\"b2g=\"}}}\n"
	         "{\"event\":{\"end\":{\"exited\":true,\"status\":\"exit status 0\"}}}\n={}" });

	start(&c, &g, 0);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_int_equal(g.pid, 42);
	assert_string_equal(buf_cstr(&g.data, NULL), "hello");
	assert_string_equal(buf_cstr(&g.err_data, NULL), "oh");
	assert_int_equal(g.exit.code, 0); /* left out on the wire */
	assert_true(g.exit.exited);
	asked = script_asked("POST", 0);
	assert_non_null(strstr(asked, "\r\nContent-Type: application/connect+json\r\n"));
	assert_non_null(strstr(asked, "\r\nAuthorization: Basic dXNlcjo=\r\n"));
	assert_non_null(strcasestr(asked, "\r\nKeepalive-Ping-Interval: 20\r\n"));
	assert_null(strcasestr(asked, "Connect-Timeout-Ms"));
	assert_null(strcasestr(asked, "Encoding"));
	asked = strstr(asked, "\r\n\r\n") + 4;
	assert_memory_equal(asked, "\0\0\0\0", 4);
	assert_string_equal(asked + 5,
	                    "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",\"echo hi\"],"
	                    "\"envs\":{\"A\":\"b \\\"c\\\"\"},\"cwd\":\"/tmp\"},\"stdin\":false}");
	assert_int_equal((uint8_t)asked[4], strlen(asked + 5));
}

TEST(a_time_limit_is_sent_only_when_there_is_one)
{
	CLIENT("0.6.13", NULL,
	       { "POST /process.Process/Start ",
	         STREAM STARTED "={\"error\":{\"code\":\"deadline_exceeded\",\"message\":\"context "
	                        "deadline exceeded\"}}" });

	start(&c, &g, 1500);
	wait_done(&c, &g);
	assert_true(g.failed);
	assert_int_equal(g.failure.class, FAIL_TIMEOUT);
	assert_non_null(strcasestr(script_asked("POST", 0), "\r\nConnect-Timeout-Ms: 1500\r\n"));
}

TEST(a_signal_and_a_code_are_told_apart)
{
	CLIENT("0.6.13", NULL,
	       { "POST /process.Process/Start ", STREAM STARTED
	         "{\"event\":{\"end\":{\"exitCode\":-1,\"status\":\"signal: killed\"}}}\n={}" },
	       { "POST /process.Process/Start ",
	         STREAM STARTED "{\"event\":{\"end\":{\"exitCode\":3,\"exited\":true,\"status\":"
	                        "\"exit status 3\"}}}\n={}" });

	start(&c, &g, 0);
	wait_done(&c, &g);
	assert_int_equal(g.exit.code, -1);
	assert_false(g.exit.exited);
	assert_string_equal(g.exit.status, "signal: killed");
	g.n = 0;
	start(&c, &g, 0);
	wait_done(&c, &g);
	assert_int_equal(g.exit.code, 3);
}

TEST(a_stream_without_its_end_was_dropped_even_after_the_process_ended)
{
	static const char *const streams[] = {
		STREAM STARTED HELLO,
		STREAM STARTED "{\"event\":{\"end\":{\"exited\":true}}}\n",
		"HTTP/1.1 200 OK\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		CLIENT("0.6.13", NULL, { "POST /process.Process/Start ", streams[i] });

		start(&c, &g, 0);
		wait_done(&c, &g);
		assert_true(g.failed);
		assert_false(g.has_exit);
		assert_int_equal(g.failure.class, FAIL_CUT);
		assert_int_equal(g.failure.err.admitted, ADMITTED_UNKNOWN);
		assert_int_equal(script->n_asked, 1); /* never started twice */
	}
}

TEST(an_end_without_the_process_ending_is_no_success)
{
	CLIENT("0.6.13", NULL, { "POST /process.Process/Start ", STREAM STARTED "={}" });

	start(&c, &g, 0);
	wait_done(&c, &g);
	assert_true(g.failed);
	assert_int_equal(g.failure.class, FAIL_PROTOCOL);
}

TEST(answers_that_are_no_streams_keep_their_meaning)
{
	static const struct {
		const char *answer;
		enum fail_class class;
	} rows[] = {
		{ JSON_ANSWER("401", "", "{\"code\":401,\"message\":\"unauthorized access\"}"),
		  FAIL_KEY },
		{ JSON_ANSWER("502", "", GONE), FAIL_GONE },
		{ "HTTP/1.1 200 OK\r\n\r\n<html>", FAIL_PROTOCOL },
		{ STREAM "={\"error\":{\"code\":\"invalid_argument\",\"message\":\"cwd '/x' does "
		         "not exist\"}}",
		  FAIL_REQUEST },
		{ STREAM "{\"event\":{\"data\":{\"stdout\":\"!\"}}}\n={}", FAIL_PROTOCOL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLIENT("0.6.13", NULL, { "POST /process.Process/Start ", rows[i].answer });

		start(&c, &g, 0);
		wait_done(&c, &g);
		assert_true(g.failed);
		if (g.failure.class != rows[i].class)
			fail_msg("%zu: %s", i, g.failure.err.msg);
	}
}

TEST(one_that_runs_can_be_watched_again)
{
	CLIENT("0.6.13", NULL,
	       { "POST /process.Process/Connect ",
	         STREAM STARTED "{\"event\":{\"end\":{\"exitCode\":5,\"exited\":true}}}\n={}" },
	       { "POST /process.Process/Connect ",
	         JSON_ANSWER("404", "",
	                     "{\"code\":\"not_found\",\"message\":\"process with pid 42 not "
	                     "found\"}") });
	struct envd_hooks hooks = { &g, on_start, on_output, on_end };

	envd_attach(c.envd, 42, &hooks, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.exit.code, 5);
	g.n = 0;
	envd_attach(c.envd, 42, &hooks, NULL);
	wait_done(&c, &g);
	assert_int_equal(g.failure.class, FAIL_NOT_FOUND);
}

TEST(who_stops_watching_is_not_called_any_more)
{
	struct envd_process *p;
	CLIENT("0.6.13", NULL,
	       { "POST /process.Process/Start ", STREAM STARTED "~\n" HELLO "!\n" });

	p = start(&c, &g, 0);
	run_for(&c, &g, 60);
	assert_int_equal(g.pid, 42);
	envd_detach(p);
	run_for(&c, &g, 150);
	assert_int_equal(buf_len(&g.data), 0);
	assert_int_equal(g.n, 0);
}

static struct envd_process *watched;

static void detach_on_start(void *user, uint32_t pid)
{
	on_start(user, pid);
	envd_detach(watched);
}

TEST(watching_may_stop_in_the_middle_of_a_message)
{
	struct envd_hooks hooks = { NULL, detach_on_start, on_output, on_end };
	CLIENT("0.6.13", NULL,
	       { "POST /process.Process/Connect ", STREAM STARTED HELLO HELLO "={}" });

	hooks.user = &g;
	watched = envd_attach(c.envd, 42, &hooks, NULL);
	run_for(&c, &g, 200);
	assert_int_equal(g.pid, 42);
	assert_int_equal(buf_len(&g.data), 0);
	assert_int_equal(g.n, 0);
}

TEST(signals_input_and_its_end_are_calls)
{
	CLIENT("0.6.13", NULL,
	       { "POST /process.Process/SendSignal ", JSON_ANSWER("200", "", "{}") },
	       { "POST /process.Process/SendInput ", JSON_ANSWER("200", "", "{}") },
	       { "POST /process.Process/CloseStdin ", JSON_ANSWER("200", "", "{}") });
	struct envd_end end = end_at(&g);
	struct err e = ERR_INIT;

	envd_signal(c.envd, 42, SIGTERM, &end, NULL);
	wait_done(&c, &g);
	assert_non_null(strstr(script_asked("POST", 0),
	                       "{\"process\":{\"pid\":42},\"signal\":\"SIGNAL_SIGTERM\"}"));
	g.n = 0;
	envd_send_stdin(c.envd, 42, "hello", 5, &end, NULL);
	wait_done(&c, &g);
	assert_non_null(strstr(script_asked("POST", 1),
	                       "{\"process\":{\"pid\":42},\"input\":{\"stdin\":\"aGVsbG8=\"}}"));
	g.n = 0;
	envd_close_stdin(c.envd, 42, &end, NULL);
	wait_done(&c, &g);
	assert_false(g.failed);
	assert_null(envd_signal(c.envd, 42, SIGINT, &end, &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
}

TEST(what_an_old_envd_cannot_do_is_refused_by_version)
{
	CLIENT("0.5.1", NULL, { "POST ", CUT });
	struct envd_end end = end_at(&g);
	struct err e = ERR_INIT;

	assert_null(envd_close_stdin(c.envd, 42, &end, &e));
	assert_string_equal(e.msg,
	                    "envd 0.5.1 cannot close the standard input of a process: want 0.5.2");
}

static int teardown(void **state)
{
	(void)state;
	script_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_request_has_both_tokens_and_says_which_sandbox),
		cmocka_unit_test(a_sandbox_that_is_gone_is_told_from_a_port_that_is_closed),
		cmocka_unit_test(users_are_named_where_an_old_envd_needs_it),
		cmocka_unit_test(a_read_that_breaks_off_goes_on_where_it_was),
		cmocka_unit_test(all_of_a_file_where_its_rest_was_asked_for_is_not_taken),
		cmocka_unit_test(behind_the_end_of_a_file_there_is_nothing),
		cmocka_unit_test(a_file_that_is_not_there_is_named),
		cmocka_unit_test(several_files_go_in_one_multipart_request),
		cmocka_unit_test(a_name_that_would_break_a_header_is_refused),
		cmocka_unit_test(a_put_is_an_upload_beside_the_place_and_a_compose),
		cmocka_unit_test(large_files_go_in_parts_and_only_what_broke_off_is_sent_again),
		cmocka_unit_test(a_resumed_put_sends_what_is_missing),
		cmocka_unit_test(a_compose_whose_answer_was_lost_is_checked_and_not_repeated),
		cmocka_unit_test(a_put_that_fails_leaves_no_parts),
		cmocka_unit_test(an_old_envd_gets_multipart_and_a_rename),
		cmocka_unit_test(a_process_is_started_watched_and_ends),
		cmocka_unit_test(a_time_limit_is_sent_only_when_there_is_one),
		cmocka_unit_test(a_signal_and_a_code_are_told_apart),
		cmocka_unit_test(a_stream_without_its_end_was_dropped_even_after_the_process_ended),
		cmocka_unit_test(an_end_without_the_process_ending_is_no_success),
		cmocka_unit_test(answers_that_are_no_streams_keep_their_meaning),
		cmocka_unit_test(one_that_runs_can_be_watched_again),
		cmocka_unit_test(who_stops_watching_is_not_called_any_more),
		cmocka_unit_test(watching_may_stop_in_the_middle_of_a_message),
		cmocka_unit_test(signals_input_and_its_end_are_calls),
		cmocka_unit_test(what_an_old_envd_cannot_do_is_refused_by_version),
	};

	setenv("NO_PROXY", "*", 1);
	log_open(STDERR_FILENO, LOG_ERROR, false, "test");
	return cmocka_run_group_tests(tests, NULL, teardown);
}
