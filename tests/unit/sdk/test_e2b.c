/* SPDX-License-Identifier: Apache-2.0
 *
 * Bringing a sandbox up and ending it, against a scripted server. */
#include "tests/unit/sdk/script_server.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "sdk-wrapper/e2b.h"
#include "sdk-wrapper/e2b_end.h"
#include "sdk-wrapper/e2b_spec.h"

#define TOKEN "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ID    "i0123456789abcdefghij"
#define MADE                                                                             \
	JSON_ANSWER("201", "",                                                           \
	            "{\"templateID\":\"base\",\"sandboxID\":\"" ID "\",\"envdVersion\":" \
	            "\"0.6.13\",\"envdAccessToken\":\"feed\",\"domain\":null}")
#define WRITTEN "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n[]"
#define STARTED "{\"event\":{\"start\":{\"pid\":42}}}\n"
#define READY	"{\"event\":{\"data\":{\"stdout\":\"cmVhZHkK\"}}}\n" /* "ready\n" */

struct client {
	struct loop *loop;
	struct e2b *e2b;
	struct temp_dir dir;
	char worker[300];
	struct sandbox_spec spec;
	struct sandbox sandbox;
	int done, ended, steps;
	uint64_t bytes;
	struct err err, why;
};

static void on_step(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes)
{
	struct client *c = user;

	(void)took_ms;
	assert_int_equal(step, c->steps++);
	if (step == MADE_UPLOAD)
		c->bytes = bytes;
}

static void on_done(void *user, const struct err *err)
{
	struct client *c = user;

	c->done++;
	if (err)
		c->err = *err;
}

static void on_worker_end(void *user, const struct err *why)
{
	struct client *c = user;

	c->ended++;
	c->why = *why;
}

static void client_init(struct client *c)
{
	struct err e = ERR_INIT;
	char url[60];
	int fd;

	memset(c, 0, sizeof(*c));
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", script_port);
	setenv("E2B_API_KEY", "e2b_00112233", 1);
	setenv("E2B_API_URL", url, 1);
	setenv("E2B_SANDBOX_URL", url, 1);
	unsetenv("E2B_DEBUG");
	c->dir = temp_dir();
	snprintf(c->worker, sizeof(c->worker), "%s/worker", c->dir.path);
	fd = openat(c->dir.fd, "worker", O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_int_equal(write(fd, "#!worker", 8), 8);
	close(fd);
	c->spec = (struct sandbox_spec){ .run = "r1",
		                         .key_id = "k1",
		                         .worker_path = c->worker,
		                         .token_sha256 = TOKEN,
		                         .lease_ms = 300000 };
	c->loop = loop_new(&e);
	c->e2b = e2b_open(c->loop, &e);
	if (!c->e2b)
		fail_msg("%s", e.msg);
}

static void client_free(struct client *c)
{
	e2b_close(c->e2b);
	loop_free(c->loop);
	temp_dir_release(&c->dir);
}

#define CLIENT(...)                           \
	struct client c CLEANUP(client_free); \
	SCRIPT(__VA_ARGS__);                  \
	client_init(&c)

static void up(struct client *c)
{
	struct make_hooks hooks = { .user = c,
		                    .on_step = on_step,
		                    .on_done = on_done,
		                    .on_worker_end = on_worker_end };
	struct err e = ERR_INIT;

	assert_ok(e2b_up(c->e2b, &c->spec, &c->sandbox, 20000, &hooks, &e), &e);
	assert_int_equal(c->done, 0);
}

static void run_until(struct client *c, const int *what)
{
	uint64_t until = now_ns() + UINT64_C(15000000000);

	while (!*what && now_ns() < until)
		loop_pass(c->loop, 20, NULL);
	assert_int_equal(*what, 1);
}

TEST(four_requests_bring_it_up_and_none_holds_anything_of_the_user)
{
	const char *start;
	CLIENT({ "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED "!\n" });

	setenv("FARSTEP_TEST_SECRET", "hidden-4711", 1);
	up(&c);
	run_until(&c, &c.done);
	assert_string_equal(c.err.msg, "");
	assert_int_equal(c.steps, 3);
	assert_int_equal(c.bytes, 8);
	assert_int_equal(script->n_asked, 3);
	assert_string_equal(c.sandbox.id, ID);
	assert_string_equal(strchr(c.sandbox.address + 18, '#'),
	                    "#E2b-Sandbox-Id=" ID "&E2b-Sandbox-Port=27110");
	assert_memory_equal(c.sandbox.address, "ws://127.0.0.1:", 15);
	assert_non_null(strstr(script_asked("POST /v2", 0), "\"farstep_run\":\"r1\""));
	assert_non_null(strstr(script_asked("POST /v2", 0), "\"farstep_key\":\"k1\""));
	assert_non_null(strstr(script_asked("POST /v2", 0), "\"farstep_host\":\""));
	assert_non_null(strstr(script_asked("POST /v2", 0), "\"allow_internet_access\":false"));
	start = strstr(script_asked("POST /process", 0), "\r\n\r\n") + 4 + 5;
	assert_true(E2B_WORKER_PORT < 32768); /* not one of an outgoing connection */
	assert_non_null(strstr(start, "/worker\",\"8\","));
	assert_non_null(
		strstr(start, "\"--listen\",\"0.0.0.0:27110\",\"--token-sha256\",\"" TOKEN "\""));
	assert_non_null(strstr(start, "\"--sandbox-id\",\"" ID "\",\"--lease\",\"300000\","
				      "\"--say-ready\"]"));
	assert_non_null(strstr(start, "\"stdin\":false"));
	for (int i = 0; i < script->n_asked; i++)
		assert_null(strstr(script->asked[i].text, "hidden-4711"));
}

/* The script as the sandbox gets it, run here: what `command` leaves, which finds it in b.sh. */
static void run_bootstrap(struct client *c, const char *command, char out[400])
{
	const char *start =
		strstr(strstr(script_asked("POST /process", 0), "\r\n\r\n") + 9, "[\"-c\",\"") + 7;
	const char *end = strstr(start, "\",\"farstep\"");
	char text[3000], line[4000];
	size_t n = 0;
	FILE *f;

	for (; start < end; start++) {
		if (*start == '\\' && start[1] == 'n') {
			text[n++] = '\n';
			start++;
		} else if (*start != '\\') {
			text[n++] = *start;
		}
	}
	snprintf(line, sizeof(line), "cd %s && cat >b.sh && { %s; } 2>&1 >out", c->dir.path,
	         command);
	f = popen(line, "we");
	assert_non_null(f);
	fwrite(text, 1, n, f);
	assert_int_equal(pclose(f), 0);
	snprintf(line, sizeof(line), "%s/out", c->dir.path);
	f = fopen(line, "re");
	assert_non_null(f);
	n = fread(out, 1, 399, f);
	out[n] = 0;
	fclose(f);
}

/* A worker of 35 bytes, its digest, and what is called with size, digest and words of its own. */
#define FAKE_WORKER                                                   \
	"printf '#!/bin/sh\\necho \"$@\"\\necho fault >&2\\n' >w && " \
	"D=$(sha256sum w | cut -c 1-64) && "                          \
	"try() { w=$1 n=$2 d=$3; shift 3; "                           \
	"sh b.sh $PWD/$w $n $d $PWD/x/log $PWD/x/root \"$M\" \"$@\"; " \
	"echo \"code $?\"; }; "

TEST(the_bootstrap_refuses_a_worker_that_was_cut_short_or_changed)
{
	char out[400];
	CLIENT({ "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED "!\n" });

	up(&c);
	run_until(&c, &c.done);
	run_bootstrap(&c,
	              FAKE_WORKER "mkdir x; try w 99 $D a b; try w 35 x${D#?} a b; "
	                          "M=vax; try w 35 $D a b | sed s/$(uname -m)/this/; "
	                          "M=$(uname -m); "
	                          "try w 35 $D a b; cat x/log; try w 35 $D a b",
	              out);
	assert_string_equal(
		out, "the worker has 35 bytes in the sandbox, not 99\ncode 90\n"
		     "the worker was changed on its way into the sandbox\ncode 90\n"
		     "the sandbox is this, the worker's program is for vax\ncode 91\na b\ncode 0\n"
		     "fault\ncode 95\n");
}

/* --- a template that may hold the worker --- */

#define ENDED(code)                                                              \
	"{\"event\":{\"end\":{\"exitCode\":" code ",\"exited\":true,\"status\":" \
	"\"exit status " code "\"}}}\n={}"

static void on_any_step(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes)
{
	struct client *c = user;

	(void)took_ms, (void)bytes;
	assert_int_equal(c->steps & 1 << step, 0);
	c->steps |= 1 << step;
}

static void up_from(struct client *c, const char *template_name)
{
	struct make_hooks hooks = { .user = c,
		                    .on_step = on_any_step,
		                    .on_done = on_done,
		                    .on_worker_end = on_worker_end };
	struct err e = ERR_INIT;

	c->spec.template_name = template_name;
	assert_ok(e2b_up(c->e2b, &c->spec, &c->sandbox, 20000, &hooks, &e), &e);
	run_until(c, &c->done);
}

enum {
	WITHOUT_UPLOAD = 1 << MADE_SANDBOX | 1 << MADE_START,
	WITH_UPLOAD = WITHOUT_UPLOAD | 1 << MADE_UPLOAD,
};

TEST(a_template_that_holds_this_worker_spares_the_upload)
{
	char hex[SHA256_HEX], words[200];
	uint8_t digest[SHA256_LEN];
	CLIENT({ "POST /v2/sandboxes ", MADE },
	       { "POST /process.Process/Start ", STREAM STARTED READY "!\n" });

	up_from(&c, "farstep-base");
	assert_string_equal(c.err.msg, "");
	assert_int_equal(script->n_asked, 2);
	assert_int_equal(c.steps, WITHOUT_UPLOAD);
	sha256("#!worker", 8, digest);
	hex_encode(digest, sizeof(digest), hex);
	snprintf(words, sizeof(words), "\"/opt/farstep/bin/farstep-worker\",\"8\",\"%s\",", hex);
	assert_non_null(strstr(strstr(script_asked("POST /process", 0), "\r\n\r\n") + 9, words));
}

TEST(the_worker_of_a_template_is_run_only_if_it_is_this_one)
{
	char out[400];
	CLIENT({ "POST /v2/sandboxes ", MADE },
	       { "POST /process.Process/Start ", STREAM STARTED READY "!\n" });

	up_from(&c, "farstep-base");
	run_bootstrap(&c,
	              FAKE_WORKER "try none 35 $D a b; try w 35 $D a b; chmod 755 w; "
	                          "try w 35 x${D#?} a b; "
	                          ">x; try w 35 $D a b 2>/dev/null; rm x; "
	                          "try w 35 $D a b; cat x/log; try w 35 $D a b",
	              out);
	assert_string_equal(out,
	                    "code 96\ncode 96\ncode 96\ncode 96\na b\ncode 0\nfault\ncode 95\n");
}

TEST(one_that_holds_another_costs_a_start_and_any_other_template_none)
{
	CLIENT({ "POST /v2/sandboxes ", MADE },
	       { "POST /process.Process/Start ", STREAM STARTED ENDED("96") },
	       { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED READY "!\n" },
	       { "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED READY "!\n" });

	up_from(&c, "farstep-base");
	assert_string_equal(c.err.msg, "");
	assert_int_equal(c.steps, WITH_UPLOAD);
	assert_int_equal(script->n_asked, 4);
	assert_null(strstr(script_asked("POST /process", 1), "/opt/farstep"));
	client_free(&c);
	client_init(&c);
	up_from(&c, "base");
	assert_string_equal(c.err.msg, "");
	assert_int_equal(script->n_asked, 7);
}

/* Refused by a gateway, cut once started, silent: it may run, which the second start says. */
TEST(a_try_that_tells_nothing_is_followed_by_the_upload)
{
	static const char *const tries[] = { JSON_ANSWER("502", "", "{}"), STREAM STARTED,
		                             STREAM STARTED "!\n" };

	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		CLIENT({ "POST /v2/sandboxes ", MADE },
		       { "POST /process.Process/Start ", tries[i] }, { "POST /files ", WRITTEN },
		       { "POST /process.Process/Start ", STREAM STARTED ENDED("95") });

		up_from(&c, "farstep-base");
		assert_string_equal(c.err.msg, "");
		assert_int_equal(c.steps, WITH_UPLOAD);
		assert_int_equal(script->n_asked, 4);
	}
}

TEST(a_worker_of_a_template_that_ends_at_once_leaves_its_last_words_as_well)
{
	CLIENT({ "POST /v2/sandboxes ", MADE },
	       { "POST /process.Process/Start ", STREAM STARTED ENDED("111") },
	       { "GET /files?path=/tmp/farstep-",
	         "HTTP/1.1 200 x\r\n\r\nlisten: address in use\n" });

	up_from(&c, "farstep-base");
	assert_string_equal(c.err.msg,
	                    "sandbox " ID ": the worker ended (exit status 111): listen: "
	                    "address in use");
}

TEST(a_worker_that_ends_at_once_leaves_its_last_words)
{
	CLIENT({ "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED
	         "{\"event\":{\"end\":{\"exitCode\":111,\"exited\":true,\"status\":\"exit status "
	         "111\"}}}\n={}" },
	       { "GET /files?path=/tmp/farstep-",
	         "HTTP/1.1 200 x\r\n\r\nlisten: address in use\n" });

	up(&c);
	run_until(&c, &c.done);
	assert_int_equal(c.ended, 0);
	assert_int_equal(c.steps, 2);
	assert_string_equal(c.err.msg,
	                    "sandbox " ID ": the worker ended (exit status 111): listen: "
	                    "address in use");
	assert_int_equal(c.err.code, ERR_PROVIDER);
}

TEST(a_worker_that_ended_later_is_lost_with_its_last_words)
{
	CLIENT({ "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED READY
	         "{\"event\":{\"end\":{\"exitCode\":111,\"exited\":true,\"status\":\"exit status "
	         "111\"}}}\n={}" },
	       { "GET /files?path=/tmp/farstep-", "HTTP/1.1 200 x\r\n\r\nno memory\n" });

	up(&c);
	run_until(&c, &c.ended);
	assert_int_equal(c.done, 1);
	assert_string_equal(c.why.msg,
	                    "sandbox " ID ": the worker ended (exit status 111): no memory");
	assert_int_equal(c.why.code, ERR_LOST);
}

TEST(a_worker_that_listens_is_asked_at_once_and_a_silent_one_too)
{
	CLIENT({ "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED "!\n" },
	       { "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED READY "!\n" });
	uint64_t begun = now_ns(), silent;

	up(&c);
	run_until(&c, &c.done);
	silent = now_ns() - begun;
	assert_true(silent >= UINT64_C(500000000));
	client_free(&c);
	client_init(&c);
	begun = now_ns();
	up(&c);
	run_until(&c, &c.done);
	assert_string_equal(c.err.msg, "");
	assert_int_equal(c.steps, 3);
	assert_true(now_ns() - begun < silent);
}

TEST(a_start_whose_answer_was_lost_is_asked_about)
{
	CLIENT({ "POST /v2/sandboxes ", MADE }, { "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", CUT },
	       { "POST /process.Process/List ", JSON_ANSWER("200", "", "{}") },
	       { "POST /process.Process/Start ", STREAM STARTED "!\n" });

	up(&c);
	run_until(&c, &c.done);
	assert_string_equal(c.err.msg, "");
	assert_int_equal(script_count("POST /process.Process/Start "), 2);
}

TEST(a_create_that_failed_for_certain_leaves_nothing_to_destroy)
{
	struct err e = ERR_INIT;
	CLIENT({ "POST /v2/sandboxes ",
	         JSON_ANSWER(
			 "429", "",
			 "{\"code\":429,\"message\":\"you have reached the maximum number\"}") });

	up(&c);
	assert_memory_equal(c.sandbox.id, "create:", 7); /* before anything is known */
	run_until(&c, &c.done);
	assert_int_equal(c.err.code, ERR_QUOTA);
	assert_string_equal(c.sandbox.id, "");
	assert_ok(e2b_destroy(&c.sandbox, 1000, &e), &e);
	assert_int_equal(script->n_asked, 1);
}

TEST(a_request_that_was_given_up_is_looked_for_and_ended)
{
	struct err e = ERR_INIT;
	struct sandbox s = { .provider = "e2b", .id = "create:u1" };
	CLIENT({ "GET /v2/sandboxes?metadata=farstep_create%3Du1&", JSON_ANSWER("200", "", "[]") },
	       { "GET /v2/sandboxes?metadata=farstep_create%3Du1&",
	         JSON_ANSWER("200", "", "[{\"sandboxID\":\"" ID "\"}]") },
	       { "DELETE /sandboxes/" ID " ", "HTTP/1.1 204 x\r\n\r\n" });

	assert_ok(e2b_destroy(&s, 10000, &e), &e);
	assert_int_equal(script->n_asked, 3);
}

TEST(to_destroy_what_is_gone_succeeds_and_what_cannot_be_reached_does_not)
{
	struct err e = ERR_INIT;
	struct sandbox s = { .provider = "e2b", .id = ID };
	CLIENT({ "DELETE /sandboxes/" ID " ",
	         JSON_ANSWER("404", "",
	                     "{\"code\":404,\"message\":\"Sandbox \\\"x\\\" doesn't exist\"}") },
	       { "DELETE /sandboxes/" ID " ", HANG });

	assert_ok(e2b_destroy(&s, 10000, &e), &e);
	assert_int_equal(e2b_destroy(&s, 300, &e), -1);
	assert_int_equal(e.code, ERR_DEADLINE);
	assert_non_null(strstr(e.msg, "sandbox " ID));
}

TEST(debug_makes_no_sandbox_and_ends_none)
{
	struct err e = ERR_INIT;
	CLIENT({ "POST /files ", WRITTEN },
	       { "POST /process.Process/Start ", STREAM STARTED "!\n" });

	e2b_close(c.e2b);
	setenv("E2B_DEBUG", "true", 1);
	c.e2b = e2b_open(c.loop, &e);
	unsetenv("E2B_DEBUG");
	assert_non_null(c.e2b);
	up(&c);
	run_until(&c, &c.done);
	assert_string_equal(c.err.msg, "");
	assert_string_equal(c.sandbox.id, "debug_sandbox_id");
	assert_int_equal(script_count("POST /v2"), 0);
	assert_ok(e2b_destroy(&c.sandbox, 1000, &e), &e);
	assert_int_equal(script_count("DELETE"), 0);
}

static int states;
static enum sandbox_state last_state;

static void on_state(void *user, enum sandbox_state state, const char *why)
{
	(void)user;
	assert_non_null(why);
	states++;
	last_state = state;
}

TEST(its_state_is_running_gone_or_unknown)
{
	static const struct {
		const char *answer;
		enum sandbox_state want;
	} rows[] = {
		{ JSON_ANSWER("200", "", "{\"sandboxID\":\"" ID "\",\"state\":\"running\"}"),
		  SANDBOX_RUNNING },
		{ JSON_ANSWER("200", "", "{\"sandboxID\":\"" ID "\",\"state\":\"paused\"}"),
		  SANDBOX_GONE },
		{ JSON_ANSWER("404", "",
		              "{\"code\":404,\"message\":\"Sandbox \\\"x\\\" doesn't exist\"}"),
		  SANDBOX_GONE },
		{ JSON_ANSWER("401", "", "{\"code\":401,\"message\":\"no\"}"), SANDBOX_UNKNOWN },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = ERR_INIT;
		CLIENT({ "GET /sandboxes/" ID " ", rows[i].answer });

		states = 0;
		assert_ok(e2b_ask(c.e2b, ID, 2000, on_state, NULL, &e), &e);
		run_until(&c, &states);
		assert_int_equal(last_state, rows[i].want);
	}
}

TEST(who_takes_a_sandbox_over_renews_its_life_at_once_and_can_look_after_it)
{
	struct err e = ERR_INIT;
	struct sandbox s = { .provider = "e2b", .id = ID };
	const char *why = NULL;
	void *kept;
	uint64_t until;
	CLIENT({ "POST /sandboxes/" ID "/timeout ", "HTTP/1.1 204 x\r\n\r\n" },
	       { "GET /sandboxes/" ID " ", JSON_ANSWER("200", "", "{\"sandboxID\":\"" ID "\"}") },
	       { "GET /sandboxes/" ID " ",
	         JSON_ANSWER("404", "",
	                     "{\"code\":404,\"message\":\"Sandbox \\\"x\\\" doesn't exist\"}") });

	kept = provider_e2b.keep(c.loop, &s, &e);
	assert_non_null(kept);
	assert_int_equal(provider_e2b.look(kept, &why), SANDBOX_UNKNOWN);
	until = now_ns() + UINT64_C(5000000000);
	while (provider_e2b.look(kept, &why) == SANDBOX_UNKNOWN && now_ns() < until)
		loop_pass(c.loop, 20, NULL);
	assert_int_equal(provider_e2b.look(kept, &why), SANDBOX_RUNNING);
	while (provider_e2b.look(kept, &why) == SANDBOX_RUNNING && now_ns() < until)
		loop_pass(c.loop, 20, NULL);
	assert_int_equal(provider_e2b.look(kept, &why), SANDBOX_GONE);
	assert_non_null(strstr(why, "does not know it any more"));
	assert_non_null(strstr(script_asked("POST ", 0), "\r\n\r\n{\"timeout\":300}"));
	assert_int_equal(script->n_asked, 3); /* not with every look */
	provider_e2b.let_go(kept);
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
		cmocka_unit_test(four_requests_bring_it_up_and_none_holds_anything_of_the_user),
		cmocka_unit_test(the_bootstrap_refuses_a_worker_that_was_cut_short_or_changed),
		cmocka_unit_test(a_template_that_holds_this_worker_spares_the_upload),
		cmocka_unit_test(the_worker_of_a_template_is_run_only_if_it_is_this_one),
		cmocka_unit_test(one_that_holds_another_costs_a_start_and_any_other_template_none),
		cmocka_unit_test(a_try_that_tells_nothing_is_followed_by_the_upload),
		cmocka_unit_test(
			a_worker_of_a_template_that_ends_at_once_leaves_its_last_words_as_well),
		cmocka_unit_test(a_worker_that_ends_at_once_leaves_its_last_words),
		cmocka_unit_test(a_worker_that_ended_later_is_lost_with_its_last_words),
		cmocka_unit_test(a_worker_that_listens_is_asked_at_once_and_a_silent_one_too),
		cmocka_unit_test(a_start_whose_answer_was_lost_is_asked_about),
		cmocka_unit_test(a_create_that_failed_for_certain_leaves_nothing_to_destroy),
		cmocka_unit_test(a_request_that_was_given_up_is_looked_for_and_ended),
		cmocka_unit_test(
			to_destroy_what_is_gone_succeeds_and_what_cannot_be_reached_does_not),
		cmocka_unit_test(debug_makes_no_sandbox_and_ends_none),
		cmocka_unit_test(its_state_is_running_gone_or_unknown),
		cmocka_unit_test(
			who_takes_a_sandbox_over_renews_its_life_at_once_and_can_look_after_it),
	};

	setenv("NO_PROXY", "*", 1);
	log_open(STDERR_FILENO, LOG_ERROR, false, "test");
	return cmocka_run_group_tests(tests, NULL, teardown);
}
