/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "worker/keeper_plan.h"

#define KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* One member a row, so that each can be left out or replaced. */
static const struct member {
	const char *key, *value;
	bool optional;
} members[] = {
	{ "run", "\"r\"", false },
	{ "session", "\"s\"", false },
	{ "step", "\"st\"", false },
	{ "attempt", "3", false },
	{ "sandbox", "\"box\"", false },
	{ "worker", "\"box/1\"", false },
	{ "generation", "2", false },
	{ "build", "\"b\"", false },
	{ "plan", "\"" KEY "\"", false },
	{ "key", "\"" KEY "\"", false },
	{ "cwd", "\"/w\"", false },
	{ "argv", "[\"/bin/sh\",\"-c\",\"x\"]", false },
	{ "env", "[\"A=1\",\"SECRET=hush hush\"]", true },
	{ "dir", "\"/d\"", false },
	{ "artifacts_dir", "\"/a\"", false },
	{ "output_dir", "\"/o\"", false },
	{ "work_dir", "\"/w\"", false },
	{ "collect", "[\"*.csv\"]", true },
	{ "timeout_ms", "5000", true },
	{ "grace_ms", "10", false },
	{ "linger_ms", "20", false },
	{ "stdin", "true", true },
	{ "spool_bytes", "1000", false },
};

/* The plan's text; member i left out or, with a value, replaced. */
static const char *text_of(size_t i, const char *value)
{
	static struct buf b;
	const char *comma = "";

	buf_release(&b);
	buf_init(&b, 1 << 20);
	buf_putc(&b, '{', NULL);
	for (size_t k = 0; k < ARRAY_LEN(members); k++) {
		if (k == i && !value)
			continue;
		buf_printf(&b, NULL, "%s\"%s\":%s", comma, members[k].key,
		           k == i ? value : members[k].value);
		comma = ",";
	}
	buf_putc(&b, '}', NULL);
	return buf_cstr(&b, NULL);
}

static const char *whole(void)
{
	return text_of(SIZE_MAX, NULL);
}

static int read_bytes(const void *p, size_t n, struct keeper_plan *plan, struct receipt *rc,
                      struct err *e)
{
	auto_close int fd = memfd_create("plan", MFD_CLOEXEC);

	assert_int_equal(write(fd, p, n), n);
	receipt_init(rc);
	return keeper_plan_read(fd, plan, rc, e);
}

static int read_text(const char *text, struct keeper_plan *plan, struct receipt *rc, struct err *e)
{
	return read_bytes(text, strlen(text), plan, rc, e);
}

static size_t member(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		if (strcmp(members[i].key, key) == 0)
			return i;
	fail_msg("no member %s", key);
	return 0;
}

TEST(a_whole_plan_is_read_with_all_that_is_in_it)
{
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;

	assert_ok(read_text(whole(), &p, &rc, &e), &e);
	assert_string_equal(rc.run, "r");
	assert_string_equal(rc.session, "s");
	assert_string_equal(rc.step, "st");
	assert_string_equal(rc.sandbox, "box");
	assert_string_equal(rc.worker, "box/1");
	assert_string_equal(rc.build, "b");
	assert_string_equal(rc.plan, KEY);
	assert_int_equal(rc.attempt, 3);
	assert_int_equal(rc.generation, 2);
	assert_int_equal(p.key[0], 0);
	assert_int_equal(p.key[31], 0xff);
	assert_string_equal(p.argv[2], "x");
	assert_null(p.argv[3]);
	assert_string_equal(p.envp[0], "A=1");
	assert_null(p.envp[2]);
	assert_string_equal(p.cwd, "/w");
	assert_string_equal(p.dir, "/d");
	assert_string_equal(p.artifacts.artifacts_dir, "/a");
	assert_string_equal(p.artifacts.output_dir, "/o");
	assert_string_equal(p.artifacts.work_dir, "/w");
	assert_string_equal(p.artifacts.globs[0], "*.csv");
	assert_null(p.artifacts.globs[1]);
	assert_int_equal(p.timeout_ms, 5000);
	assert_int_equal(p.grace_ms, 10);
	assert_int_equal(p.linger_ms, 20);
	assert_int_equal(p.spool_bytes, 1000);
	assert_true(p.has_stdin);
	keeper_plan_release(&p);
}

TEST(a_member_that_is_missing_is_named_unless_it_may_be)
{
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		struct keeper_plan p;
		struct receipt rc;
		struct err e = ERR_INIT;
		char want[80];
		int r = read_text(text_of(i, NULL), &p, &rc, &e);

		if (members[i].optional) {
			assert_ok(r, &e);
			keeper_plan_release(&p);
			continue;
		}
		snprintf(want, sizeof(want), "plan.%s: %s", members[i].key,
		         strcmp(members[i].key, "argv") == 0 ? "empty" : "missing");
		assert_int_equal(r, -1);
		assert_string_equal(e.msg, want);
		assert_int_equal(e.code, ERR_INVALID_PARAMS);
	}
}

TEST(a_member_of_another_type_is_named)
{
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		struct keeper_plan p;
		struct receipt rc;
		struct err e = ERR_INIT;
		char want[80];

		snprintf(want, sizeof(want), "plan.%s: want ", members[i].key);
		assert_int_equal(read_text(text_of(i, "{}"), &p, &rc, &e), -1);
		if (strncmp(e.msg, want, strlen(want)) != 0)
			fail_msg("want '%s...', got '%s'", want, e.msg);
	}
}

TEST(values_out_of_their_bounds_are_named)
{
	static const struct {
		const char *key, *value, *message;
	} cases[] = {
		{ "attempt", "0", "plan.attempt: want 1 to 1000, got 0" },
		{ "attempt", "1001", "plan.attempt: want 1 to 1000, got 1001" },
		{ "generation", "-1", "plan.generation: want 1 to 2147483647, got -1" },
		{ "grace_ms", "600001", "plan.grace_ms: want 0 to 600000, got 600001" },
		{ "spool_bytes", "0", "plan.spool_bytes: want 1 to " },
		{ "timeout_ms", "0", "plan.timeout_ms: want 1 to " },
		{ "argv", "[]", "plan.argv: empty" },
		{ "argv", "[1]", "plan.argv" },
		{ "env", "[\"A=1\",null]", "plan.env" },
		{ "key", "\"00\"", "plan.key: want 64 hex digits, got 2" },
		{ "key", "\"zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"",
		  "plan.key: want hex digits only, not so at 0" },
		{ "plan", "\"" KEY "0\"", "plan.plan: too long" },
		{ "run", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
		  "plan.run: too long" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct keeper_plan p;
		struct receipt rc;
		struct err e = ERR_INIT;

		assert_int_equal(
			read_text(text_of(member(cases[i].key), cases[i].value), &p, &rc, &e), -1);
		if (strncmp(e.msg, cases[i].message, strlen(cases[i].message)) != 0)
			fail_msg("want '%s', got '%s'", cases[i].message, e.msg);
	}
}

TEST(a_plan_that_was_cut_off_anywhere_is_refused)
{
	struct keeper_plan p;
	struct receipt rc;
	const char *text = whole();
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++) {
		struct err e = ERR_INIT;

		assert_int_equal(read_bytes(text, i, &p, &rc, &e), -1);
		assert_int_equal(e.code, ERR_PARSE);
		assert_true(e.msg[0]);
	}
}

TEST(a_flipped_bit_anywhere_is_read_or_refused_and_never_more)
{
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;
	char *text = strdup(whole());
	size_t n = strlen(text);

	for (size_t i = 0; i < n * 8; i++) {
		text[i / 8] ^= (char)(1 << i % 8);
		if (read_bytes(text, n, &p, &rc, &e) == 0)
			keeper_plan_release(&p);
		text[i / 8] ^= (char)(1 << i % 8);
	}
	free(text);
}

TEST(a_plan_over_the_bound_is_refused)
{
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;
	size_t n = 3 * 1024 * 1024;
	auto_free char *text = malloc(n);

	memset(text, ' ', n);
	memcpy(text, whole(), strlen(whole()));
	assert_int_equal(read_bytes(text, n, &p, &rc, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
}

TEST(no_descriptor_is_an_error)
{
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;

	receipt_init(&rc);
	assert_int_equal(keeper_plan_read(-1, &p, &rc, &e), -1);
	assert_string_equal(e.msg, "plan: Bad file descriptor");
}

/* Does any string of the parsed plan hold the text? */
static bool holds(const json *v, const char *text)
{
	if (json_string(v) && strstr(json_string(v), text))
		return true;
	for (v = json_first(v); v; v = json_next(v))
		if (holds(v, text))
			return true;
	return false;
}

TEST(the_key_is_nowhere_but_in_its_place)
{
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;

	/* "plan" has the same digits: give it others. */
	assert_ok(read_text(text_of(member("plan"), "\"aa\""), &p, &rc, &e), &e);
	assert_false(holds(p.root, KEY));
	keeper_plan_release(&p);
	for (size_t i = 0; i < sizeof(p); i++)
		assert_int_equal(((uint8_t *)&p)[i], 0);
}

TEST(after_the_start_the_environment_is_forgotten_and_the_rest_stays)
{
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;

	assert_ok(read_text(whole(), &p, &rc, &e), &e);
	assert_true(holds(p.root, "hush hush"));
	keeper_plan_forget_env(&p);
	assert_false(holds(p.root, "hush hush"));
	assert_false(holds(p.root, "A=1"));
	assert_null(p.envp);
	assert_string_equal(p.artifacts.globs[0], "*.csv");
	assert_string_equal(p.dir, "/d");
	assert_int_equal(p.key[31], 0xff);
	keeper_plan_forget_env(&p);
	keeper_plan_release(&p);
}

TEST(a_plan_in_a_message_is_read_the_same_and_wiped_there)
{
	auto_free char *text = strdup(whole());
	size_t n = strlen(text);
	struct keeper_plan p;
	struct receipt rc;
	struct err e = ERR_INIT;

	assert_ok(keeper_plan_take(text, n, &p, &rc, &e), &e);
	assert_string_equal(p.dir, "/d");
	for (size_t i = 0; i < n; i++)
		assert_int_equal(text[i], 0);
	keeper_plan_release(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plan_in_a_message_is_read_the_same_and_wiped_there),
		cmocka_unit_test(a_whole_plan_is_read_with_all_that_is_in_it),
		cmocka_unit_test(a_member_that_is_missing_is_named_unless_it_may_be),
		cmocka_unit_test(a_member_of_another_type_is_named),
		cmocka_unit_test(values_out_of_their_bounds_are_named),
		cmocka_unit_test(a_plan_that_was_cut_off_anywhere_is_refused),
		cmocka_unit_test(a_flipped_bit_anywhere_is_read_or_refused_and_never_more),
		cmocka_unit_test(a_plan_over_the_bound_is_refused),
		cmocka_unit_test(no_descriptor_is_an_error),
		cmocka_unit_test(the_key_is_nowhere_but_in_its_place),
		cmocka_unit_test(after_the_start_the_environment_is_forgotten_and_the_rest_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
