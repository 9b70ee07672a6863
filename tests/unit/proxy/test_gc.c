/* SPDX-License-Identifier: Apache-2.0
 *
 * Which sandboxes gc ends, and the marks from which it knows. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/boxes.h"
#include "proxy/mark.h"

#define NOW  UINT64_C(1800000000000000)
#define HOUR UINT64_C(3600000000)

/* --- the selection --- */

static const struct gc_rule usual = { .now_us = NOW };
static const struct gc_rule all = { .all = true, .now_us = NOW };
static const struct gc_rule old = { .older_than_s = 7200, .now_us = NOW };

static struct box box(bool ours, bool here, bool living)
{
	return (struct box){ .born_us = NOW - HOUR, .ours = ours, .here = here, .living = living };
}

TEST(what_nobody_works_with_is_ended)
{
	struct box b = box(true, true, false);

	assert_int_equal(gc_judge(&b, &usual), GC_END);
	b.state = BOX_PAUSED;
	assert_int_equal(gc_judge(&b, &usual), GC_END);
	b.state = BOX_REMAINS;
	assert_int_equal(gc_judge(&b, &usual), GC_END);
	b.keep = true;
	assert_int_equal(gc_judge(&b, &usual), GC_END);
}

TEST(what_a_proxy_works_with_is_left_even_with_all)
{
	struct box b = box(true, true, true);

	assert_int_equal(gc_judge(&b, &usual), GC_IN_USE);
	assert_int_equal(gc_judge(&b, &all), GC_IN_USE);
}

TEST(what_is_of_another_key_or_place_needs_all)
{
	struct box other = box(false, true, false), away = box(true, false, false);

	assert_int_equal(gc_judge(&other, &usual), GC_NOT_OURS);
	assert_int_equal(gc_judge(&away, &usual), GC_NOT_HERE);
	assert_int_equal(gc_judge(&other, &all), GC_END);
	assert_int_equal(gc_judge(&away, &all), GC_END);
}

TEST(what_is_young_is_left)
{
	struct box b = box(true, true, false);

	assert_int_equal(gc_judge(&b, &old), GC_TOO_YOUNG);
	b.born_us = NOW - 2 * HOUR;
	assert_int_equal(gc_judge(&b, &old), GC_END);
	b.born_us = NOW + HOUR; /* a clock that was set back */
	assert_int_equal(box_age_s(&b, NOW), 0);
	b.born_us = 0; /* of unknown age: as young as can be */
	assert_int_equal(gc_judge(&b, &old), GC_TOO_YOUNG);
	assert_int_equal(gc_judge(&b, &usual), GC_END);
}

TEST(a_state_has_one_name)
{
	struct box b = box(true, true, false);

	assert_string_equal(box_state_name(&b), "orphan");
	b.keep = true;
	assert_string_equal(box_state_name(&b), "kept");
	b.living = true;
	assert_string_equal(box_state_name(&b), "in use");
	b.state = BOX_REMAINS;
	assert_string_equal(box_state_name(&b), "remains");
	b = box(true, false, false);
	assert_string_equal(box_state_name(&b), "running");
	b.state = BOX_PAUSED;
	assert_string_equal(box_state_name(&b), "paused");
}

/* --- marks --- */

static const struct mark sample = {
	.sandbox = { .provider = "local", .id = "local-r-1", .address = "unix:/x/w.sock",
		     .state_dir = "/state", .run = "r", .network = true, .pid = 4711 },
	.key_id = "0123456789abcdef",
	.run_dir = "/runs/r",
	.keep = true,
	.born_us = NOW,
};

TEST(a_mark_says_again_what_it_was_told)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct mark m;
	char dir[256];
	int fd = -1;

	snprintf(dir, sizeof(dir), "%.200s/r", t.path);
	assert_int_equal(mark_read(dir, &m, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_ok(mark_make(dir, &fd, &e), &e);
	assert_ok(mark_write(dir, &sample, &e), &e);
	assert_ok(mark_read(dir, &m, &e), &e);
	assert_string_equal(m.sandbox.id, "local-r-1");
	assert_string_equal(m.sandbox.run, "r");
	assert_true(m.sandbox.network);
	assert_string_equal(m.key_id, sample.key_id);
	assert_string_equal(m.run_dir, sample.run_dir);
	assert_true(m.keep);
	assert_true(m.born_us == NOW);
	close(fd);
	mark_remove(dir);
	assert_int_equal(access(dir, F_OK), -1);
}

TEST(several_may_hold_a_mark_and_nobody_while_it_is_seized)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	int a = -1, b = -1, gc = -1;
	struct err e = ERR_INIT;
	char dir[256];

	snprintf(dir, sizeof(dir), "%.200s/r", t.path);
	assert_int_equal(mark_hold(dir, &a, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_ok(mark_make(dir, &a, &e), &e);
	assert_ok(mark_hold(dir, &b, &e), &e);
	close_fd(&a);
	assert_true(mark_is_held(dir));
	assert_int_equal(mark_seize(dir, &gc, &e), -1);
	assert_int_equal(e.code, ERR_BUSY);
	close_fd(&b);
	assert_false(mark_is_held(dir));
	assert_ok(mark_seize(dir, &gc, &e), &e);
	assert_int_equal(mark_hold(dir, &a, &e), -1);
	assert_int_equal(e.code, ERR_BUSY);
	mark_remove(dir);
	close_fd(&gc);
	assert_int_equal(mark_hold(dir, &a, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
}

TEST(a_mark_that_is_none_is_told_with_its_file)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	static const char *const rows[] = { "", "{", "{}", "[]", "{\"key\":\"k\",\"sandbox\":{}}",
		                            "{\"key\":\"0123456789abcdef0\",\"sandbox\":{}}" };
	struct err e = ERR_INIT;
	struct mark m;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_ok(fs_write(t.fd, "sandbox.json", rows[i], strlen(rows[i]), 0600, false, &e),
		          &e);
		memset(&e, 0, sizeof(e));
		assert_int_equal(mark_read(t.path, &m, &e), -1);
		assert_non_null(strstr(e.msg, "sandbox.json: "));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_nobody_works_with_is_ended),
		cmocka_unit_test(what_a_proxy_works_with_is_left_even_with_all),
		cmocka_unit_test(what_is_of_another_key_or_place_needs_all),
		cmocka_unit_test(what_is_young_is_left),
		cmocka_unit_test(a_state_has_one_name),
		cmocka_unit_test(a_mark_says_again_what_it_was_told),
		cmocka_unit_test(several_may_hold_a_mark_and_nobody_while_it_is_seized),
		cmocka_unit_test(a_mark_that_is_none_is_told_with_its_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
