/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "worker/options.h"

#define TOKEN   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define OTHER   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define MINIMAL "--listen", "unix:/s", "--token-sha256", TOKEN

static int parse_list(struct worker_options *o, struct err *e, const char *const *argv)
{
	int n = 0;

	while (argv[n])
		n++;
	return worker_options_parse(o, n, (char **)(uintptr_t)argv, e);
}

#define parse(o, e, ...) \
	parse_list((o), (e), (const char *const[]){ "farstep-worker", __VA_ARGS__, NULL })

#define assert_refused(want, ...)                                   \
	do {                                                        \
		struct worker_options o_;                           \
		struct err e_ = ERR_INIT;                           \
		assert_int_equal(parse(&o_, &e_, __VA_ARGS__), -1); \
		assert_string_equal(e_.msg, want);                  \
	} while (0)

static int no_variable(void **state)
{
	(void)state;
	return unsetenv(CONFIG_VARIABLE);
}

static void write_file(const struct temp_dir *t, const char *name, const char *text)
{
	struct err e = ERR_INIT;

	assert_ok(fs_write(t->fd, name, text, strlen(text), 0600, false, &e), &e);
}

/* What stands in the pipe is standard input from now on; its writing end is closed. */
static int give_input(const char *text, size_t n)
{
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 10), pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0 || write(pipe_fds[1], text, n) != (ssize_t)n)
		abort();
	close(pipe_fds[1]);
	dup2(pipe_fds[0], 0);
	close(pipe_fds[0]);
	return saved;
}

static void take_input_back(int saved)
{
	if (saved < 0) {
		close(0);
		return;
	}
	dup2(saved, 0);
	close(saved);
}

TEST(what_the_command_line_says_is_what_is_meant)
{
	struct worker_options o;
	struct err e = ERR_INIT;

	assert_ok(parse(&o, &e, MINIMAL, "--root=/r", "--sandbox-id", "box", "--lease", "5000",
	                "--max-sessions=3", "--once", "--log-level", "debug", "--log-format",
	                "json"),
	          &e);
	assert_string_equal(o.listen, "unix:/s");
	assert_string_equal(o.token_sha256, TOKEN);
	assert_string_equal(o.root, "/r");
	assert_string_equal(o.sandbox_id, "box");
	assert_int_equal(o.lease_ms, 5000);
	assert_int_equal(o.max_sessions, 3);
	assert_true(o.once && o.log_json);
	assert_int_equal(o.log_level, LOG_DEBUG);
	assert_int_equal(o.action, ACT_SERVE);
}

TEST(what_is_not_given_has_its_default)
{
	struct worker_options o;
	struct err e = ERR_INIT;

	assert_ok(parse(&o, &e, MINIMAL), &e);
	assert_null(o.root);
	assert_string_equal(o.sandbox_id, "");
	assert_int_equal(o.lease_ms, 0);
	assert_int_equal(o.max_sessions, LIMIT_SESSIONS);
	assert_int_equal(o.log_level, LOG_INFO);
	assert_false(o.once || o.log_json);
}

TEST(mistakes_of_the_command_line_are_named)
{
	assert_refused("unknown option '--listne'; see --help", "--listne", "x");
	assert_refused("--listen needs unix:PATH|HOST:PORT", "--listen");
	assert_refused("--once takes no value", MINIMAL, "--once=1");
	assert_refused("--lease '999': want a number from 1000 to 86400000", MINIMAL, "--lease",
	               "999");
	assert_refused("--max-sessions 'many': want a number from 1 to 64", MINIMAL,
	               "--max-sessions", "many");
	assert_refused("--log-level 'loud': want error, warn, info or debug", MINIMAL,
	               "--log-level", "loud");
	assert_refused("--log-format 'xml': want text or json", MINIMAL, "--log-format", "xml");
	assert_refused("--listen is missing: unix:PATH or HOST:PORT", "--token-sha256", TOKEN);
	assert_refused("--token-sha256: want the 64 hex digits of the token's SHA-256", "--listen",
	               "unix:/s");
	assert_refused("--token-sha256: want the 64 hex digits of the token's SHA-256", "--listen",
	               "unix:/s", "--token-sha256", "abc");
	assert_refused("--listen stdio: not built yet; use unix:PATH or HOST:PORT", "--listen",
	               "stdio", "--token-sha256", TOKEN);
}

TEST(nothing_given_is_refused_with_what_to_give)
{
	assert_refused("nothing says where to listen and for whom: give --listen and "
	               "--token-sha256, or both as JSON by --config FILE, --config - (standard "
	               "input), --job-config BASE64 or FARSTEP_WORKER_CONFIG; see --help",
	               "--once");
}

#define ALL_KEYS                                                                  \
	"{\"listen\":\"unix:/s\",\"token-sha256\":\"" TOKEN "\",\"root\":\"/r\"," \
	"\"sandbox-id\":\"box\",\"lease\":5000,\"max-sessions\":3,\"once\":true," \
	"\"log-level\":\"debug\",\"log-format\":\"json\"}"

TEST(a_file_may_say_all_that_the_command_line_can)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct worker_options o;
	struct err e = ERR_INIT;
	char path[300];

	write_file(&t, "config.json", ALL_KEYS "\n");
	snprintf(path, sizeof(path), "%s/config.json", t.path);
	assert_ok(parse(&o, &e, "--config", path), &e);
	assert_string_equal(o.listen, "unix:/s");
	assert_string_equal(o.token_sha256, TOKEN);
	assert_string_equal(o.root, "/r");
	assert_string_equal(o.sandbox_id, "box");
	assert_int_equal(o.lease_ms, 5000);
	assert_int_equal(o.max_sessions, 3);
	assert_true(o.once && o.log_json);
	assert_int_equal(o.log_level, LOG_DEBUG);
	worker_options_release(&o);
}

/* {"listen":"unix:/s","token-sha256":"ba78...15ad"} */
#define IN_BASE64                                                                            \
	"eyJsaXN0ZW4iOiJ1bml4Oi9zIiwidG9rZW4tc2hhMjU2IjoiYmE3ODE2YmY4ZjAxY2ZlYTQxNDE0MGRl\n" \
	"NWRhZTIyMjNiMDAzNjFhMzk2MTc3YTljYjQxMGZmNjFmMjAwMTVhZCJ9\n"

static void assert_minimal(struct worker_options *o)
{
	assert_string_equal(o->listen, "unix:/s");
	assert_string_equal(o->token_sha256, TOKEN);
	worker_options_release(o);
}

TEST(standard_input_an_argument_and_the_environment_say_it_too)
{
	static const char text[] = "{\"listen\":\"unix:/s\",\"token-sha256\":\"" TOKEN "\"}";
	struct worker_options o;
	struct err e = ERR_INIT;
	int saved = give_input(text, strlen(text));
	int r = parse(&o, &e, "--config", "-");

	take_input_back(saved);
	assert_ok(r, &e);
	assert_minimal(&o);
	assert_ok(parse(&o, &e, "--job-config", IN_BASE64), &e);
	assert_minimal(&o);
	setenv(CONFIG_VARIABLE, IN_BASE64, 1);
	assert_ok(parse(&o, &e, "--log-level=warn"), &e);
	assert_minimal(&o);
	setenv(CONFIG_VARIABLE, text, 1);
	assert_ok(parse(&o, &e, "--log-level=warn"), &e);
	assert_minimal(&o);
}

TEST(the_nearer_word_counts_more)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct worker_options o;
	struct err e = ERR_INIT;
	char path[300];

	snprintf(path, sizeof(path), "%s/c", t.path);
	write_file(&t, "c",
	           "{\"sandbox-id\":\"file\",\"lease\":3000,\"max-sessions\":3,"
	           "\"once\":false}");
	setenv(CONFIG_VARIABLE,
	       "{\"listen\":\"unix:/env\",\"token-sha256\":\"" TOKEN "\",\"root\":\"/env\","
	       "\"sandbox-id\":\"env\",\"lease\":4000,\"max-sessions\":4,\"once\":true}",
	       1);
	/* {"sandbox-id":"job","max-sessions":2} */
	assert_ok(parse(&o, &e, "--config", path, "--job-config",
	                "eyJzYW5kYm94LWlkIjoiam9iIiwibWF4LXNlc3Npb25zIjoyfQ==", "--max-sessions",
	                "1"),
	          &e);
	assert_int_equal(o.max_sessions, 1);      /* flag > job-config */
	assert_string_equal(o.sandbox_id, "job"); /* job-config > file */
	assert_int_equal(o.lease_ms, 3000);       /* file > environment */
	assert_false(o.once);                     /* also what says no */
	assert_string_equal(o.root, "/env");      /* environment > default */
	assert_string_equal(o.listen, "unix:/env");
	worker_options_release(&o);
}

#define BY_VARIABLE(text, want)                                          \
	do {                                                             \
		setenv(CONFIG_VARIABLE, text, 1);                        \
		assert_refused("FARSTEP_WORKER_CONFIG: " want, MINIMAL); \
	} while (0)

TEST(mistakes_of_a_configuration_are_named_even_where_a_flag_outdoes_them)
{
	BY_VARIABLE("{\"max-session\":1}",
	            "unknown key 'max-session'; there are listen, token-sha256, root, sandbox-id, "
	            "lease, scratch, max-sessions, "
	             "heartbeat, once, say-ready, log-level, log-format");
	BY_VARIABLE("{\"listen\":7}", "listen: want a string, got a number");
	BY_VARIABLE("{\"root\":null}", "root: want a string, got null");
	BY_VARIABLE("{\"lease\":\"5000\"}", "lease: want a number, got a string");
	BY_VARIABLE("{\"lease\":10.5}", "lease: want a whole number from 1000 to 86400000");
	BY_VARIABLE("{\"lease\":1e300}", "lease: want a whole number from 1000 to 86400000");
	BY_VARIABLE("{\"max-sessions\":65}", "max-sessions: want a whole number from 1 to 64");
	BY_VARIABLE("{\"once\":1}", "once: want true or false, got a number");
	BY_VARIABLE("{\"log-level\":\"loud\"}",
	            "--log-level 'loud': want error, warn, info or debug");
	BY_VARIABLE("[]", "want a JSON object, or base64 of a JSON object");
	BY_VARIABLE("W10=", "want a JSON object, got an array");
}

TEST(what_a_configuration_may_not_say_is_an_unknown_key)
{
	static const char *const keys[] = { "role",       "generation", "leased",  "config",
		                            "job-config", "help",       "version", "--listen" };
	struct worker_options o;
	struct err e = ERR_INIT;
	char text[64];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		snprintf(text, sizeof(text), "{\"%s\":\"worker\"}", keys[i]);
		setenv(CONFIG_VARIABLE, text, 1);
		assert_int_equal(parse(&o, &e, MINIMAL), -1);
		assert_non_null(strstr(e.msg, "unknown key '"));
		assert_int_equal(e.code, ERR_USAGE);
	}
}

TEST(json_is_read_strictly)
{
	static const char *const texts[] = {
		"{\"once\":true,\"once\":false}",
		"{\"once\":true,}",
		"{\"once\":true} x",
		"{'once':true}",
	};
	struct worker_options o;
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		setenv(CONFIG_VARIABLE, texts[i], 1);
		assert_int_equal(parse(&o, &e, MINIMAL), -1);
		assert_int_equal(e.code, ERR_USAGE);
		assert_memory_equal(e.msg, "FARSTEP_WORKER_CONFIG: ", 23);
	}
}

TEST(a_configuration_that_cannot_be_had_is_refused)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct worker_options o;
	struct err e = ERR_INIT;
	char path[300];

	assert_refused("--config: /no/such/file: open: No such file or directory", MINIMAL,
	               "--config", "/no/such/file");
	assert_refused("--job-config: want base64 of a JSON object", MINIMAL, "--job-config",
	               "{\"once\":true}");
	write_file(&t, "empty", "");
	snprintf(path, sizeof(path), "%s/empty", t.path);
	assert_int_equal(parse(&o, &e, MINIMAL, "--config", path), -1);
	assert_int_equal(e.code, ERR_USAGE);
}

TEST(a_configuration_has_a_bound)
{
	static char text[LIMIT_WORKER_CONFIG + 2];
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct worker_options o;
	struct err e = ERR_INIT;
	char path[300];

	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "{\"once\":true}", 13);
	write_file(&t, "large", text);
	snprintf(path, sizeof(path), "%s/large", t.path);
	assert_int_equal(parse(&o, &e, MINIMAL, "--config", path), -1);
	assert_int_equal(e.code, ERR_USAGE);
	setenv(CONFIG_VARIABLE, text, 1);
	assert_int_equal(parse(&o, &e, MINIMAL), -1);
	assert_int_equal(e.code, ERR_USAGE);
	text[LIMIT_WORKER_CONFIG] = 0; /* just at it */
	write_file(&t, "large", text);
	unsetenv(CONFIG_VARIABLE);
	assert_ok(parse(&o, &e, MINIMAL, "--config", path), &e);
	assert_true(o.once);
	worker_options_release(&o);
}

TEST(standard_input_has_the_bound_too)
{
	static char text[LIMIT_WORKER_CONFIG];
	struct worker_options o;
	struct err e = ERR_INIT;
	int saved, fds[2], r;
	pid_t pid;

	memset(text, ' ', sizeof(text));
	saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) { /* a pipe holds no more than the bound */
		for (int i = 0; i < 2; i++)
			(void)!write(fds[1], text, sizeof(text));
		_exit(0);
	}
	close(fds[1]);
	dup2(fds[0], 0);
	close(fds[0]);
	r = parse(&o, &e, MINIMAL, "--config", "-");
	take_input_back(saved);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(r, -1);
	assert_string_equal(e.msg, "--config: standard input: more than 64 KiB");
}

TEST(roles_and_questions_read_no_configuration)
{
	struct worker_options o;
	struct err e = ERR_INIT;

	setenv(CONFIG_VARIABLE, "no JSON at all", 1);
	assert_ok(parse(&o, &e, "--role", "worker", "--token-sha256", OTHER, "--root", "/r",
	                "--generation", "3"),
	          &e);
	assert_string_equal(o.token_sha256, OTHER);
	assert_int_equal(o.generation, 3);
	assert_ok(parse(&o, &e, "--role", "keeper", "--whatever"), &e);
	assert_int_equal(o.n_rest, 1);
	assert_ok(parse(&o, &e, "--help"), &e);
	assert_ok(parse(&o, &e, "--version"), &e);
	assert_ok(parse(&o, &e, "--capabilities"), &e);
}

TEST(health_may_ask_at_the_address_of_the_configuration)
{
	struct worker_options o;
	struct err e = ERR_INIT;

	setenv(CONFIG_VARIABLE, "{\"listen\":\"unix:/s\"}", 1);
	assert_ok(parse(&o, &e, "--health"), &e);
	assert_int_equal(o.action, ACT_HEALTH);
	assert_string_equal(o.listen, "unix:/s");
	worker_options_release(&o);
}

#define test(name) cmocka_unit_test_setup(name, no_variable)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(what_the_command_line_says_is_what_is_meant),
		test(what_is_not_given_has_its_default),
		test(mistakes_of_the_command_line_are_named),
		test(nothing_given_is_refused_with_what_to_give),
		test(a_file_may_say_all_that_the_command_line_can),
		test(standard_input_an_argument_and_the_environment_say_it_too),
		test(the_nearer_word_counts_more),
		test(mistakes_of_a_configuration_are_named_even_where_a_flag_outdoes_them),
		test(what_a_configuration_may_not_say_is_an_unknown_key),
		test(json_is_read_strictly),
		test(a_configuration_that_cannot_be_had_is_refused),
		test(a_configuration_has_a_bound),
		test(standard_input_has_the_bound_too),
		test(roles_and_questions_read_no_configuration),
		test(health_may_ask_at_the_address_of_the_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
