/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "worker/session.h"
#include "worker/step_dir.h"

struct place {
	struct temp_dir t;
	struct session s;
};

static void place_release(struct place *p)
{
	close_fd(&p->s.next_fd);
	temp_dir_release(&p->t);
}

static struct place place(void)
{
	struct place p = { .t = temp_dir() };

	p.s.dir_fd = p.t.fd;
	p.s.next_fd = -1;
	assert_int_equal(mkdirat(p.t.fd, "steps", 0700), 0);
	assert_int_equal(mkdirat(p.t.fd, "checkpoints", 0700), 0);
	return p;
}

static bool has(const struct place *p, const char *path)
{
	return faccessat(p->t.fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int claim(struct place *p, const char *id, int attempt, const char *text, struct err *e)
{
	struct buf b;
	int fd = -1, r;

	buf_init(&b, 100);
	buf_puts(&b, text, NULL);
	r = step_dir_claim(&p->s, id, attempt, &b, &fd, e);
	assert_true(r == 0 ? fd >= 0 : fd < 0);
	close_fd(&fd);
	buf_release(&b);
	return r;
}

static void claimed(const struct place *p, const char *dir, const char *text)
{
	char path[64];
	struct buf b;

	buf_init(&b, 100);
	snprintf(path, sizeof(path), "steps/%s/claim", dir);
	assert_int_equal(fs_read(p->t.fd, path, 100, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b, NULL), text);
	buf_release(&b);
	snprintf(path, sizeof(path), "steps/%s/out", dir);
	assert_true(has(p, path));
	snprintf(path, sizeof(path), "steps/%s/artifacts", dir);
	assert_true(has(p, path));
	snprintf(path, sizeof(path), "steps/%s/checkpoint", dir);
	assert_false(has(p, path));
}

TEST(a_step_is_claimed_once)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;

	assert_ok(claim(&p, "a", 1, "first\n", &e), &e);
	claimed(&p, "a.1", "first\n");
	assert_true(has(&p, "checkpoints/a"));
	assert_int_equal(claim(&p, "a", 1, "second\n", &e), -1);
	assert_int_equal(e.sys, EEXIST);
	claimed(&p, "a.1", "first\n");
}

TEST(what_was_prepared_becomes_the_next_step_and_looks_like_any_other)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;
	struct stat before, after;

	step_dir_prepare(&p.s);
	assert_true(p.s.next_fd >= 0 && has(&p, "steps/.next/out"));
	assert_int_equal(fstat(p.s.next_fd, &before), 0);
	assert_ok(claim(&p, "a", 1, "prepared\n", &e), &e);
	claimed(&p, "a.1", "prepared\n");
	assert_true(has(&p, "checkpoints/a"));
	assert_int_equal(fstatat(p.t.fd, "steps/a.1", &after, 0), 0);
	assert_true(before.st_ino == after.st_ino);
	assert_false(has(&p, "steps/.next"));
	assert_int_equal(p.s.next_fd, -1);
}

TEST(a_step_that_is_there_is_not_replaced_by_what_was_prepared)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;

	assert_ok(claim(&p, "a", 1, "first, and longer\n", &e), &e);
	step_dir_prepare(&p.s);
	assert_int_equal(claim(&p, "a", 1, "second, which is longer still\n", &e), -1);
	assert_int_equal(e.sys, EEXIST);
	claimed(&p, "a.1", "first, and longer\n");
	assert_ok(claim(&p, "b", 1, "b\n", &e), &e);
	claimed(&p, "b.1", "b\n");
}

TEST(attempts_share_a_checkpoint)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;

	step_dir_prepare(&p.s);
	assert_ok(claim(&p, "a", 1, "1\n", &e), &e);
	assert_ok(fs_write(p.t.fd, "checkpoints/a/state", "x", 1, 0600, false, &e), &e);
	step_dir_prepare(&p.s);
	assert_ok(claim(&p, "a", 2, "2\n", &e), &e);
	claimed(&p, "a.2", "2\n");
	assert_true(has(&p, "checkpoints/a/state"));
	assert_ok(claim(&p, "a", 3, "3\n", &e), &e);
	assert_true(has(&p, "checkpoints/a/state"));
}

TEST(what_another_worker_prepared_is_no_step_and_goes)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;

	step_dir_prepare(&p.s);
	close_fd(&p.s.next_fd); /* that worker is gone */
	step_dir_prepare(&p.s);
	assert_int_equal(p.s.next_fd, -1);
	step_dir_forget(&p.s);
	assert_false(has(&p, "steps/.next"));
	step_dir_prepare(&p.s);
	assert_true(p.s.next_fd >= 0);
	assert_ok(claim(&p, "a", 1, "a\n", &e), &e);
}

TEST(where_nothing_can_be_made_nothing_is_claimed)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;

	assert_int_equal(unlinkat(p.t.fd, "checkpoints", AT_REMOVEDIR), 0);
	assert_int_equal(claim(&p, "a", 1, "a\n", &e), -1);
	assert_false(has(&p, "steps/a.1"));
	assert_int_equal(unlinkat(p.t.fd, "steps", AT_REMOVEDIR), 0);
	assert_int_equal(claim(&p, "a", 1, "a\n", &e), -1);
	step_dir_prepare(&p.s);
	assert_int_equal(p.s.next_fd, -1);
}

TEST(a_prepared_directory_that_is_gone_is_no_loss)
{
	struct place p CLEANUP(place_release) = place();
	struct err e = ERR_INIT;

	step_dir_prepare(&p.s);
	assert_int_equal(fs_remove_tree(p.t.fd, "steps/.next", NULL), 0);
	assert_ok(claim(&p, "a", 1, "a\n", &e), &e);
	claimed(&p, "a.1", "a\n");
	assert_true(has(&p, "checkpoints/a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_step_is_claimed_once),
		cmocka_unit_test(what_was_prepared_becomes_the_next_step_and_looks_like_any_other),
		cmocka_unit_test(a_step_that_is_there_is_not_replaced_by_what_was_prepared),
		cmocka_unit_test(attempts_share_a_checkpoint),
		cmocka_unit_test(what_another_worker_prepared_is_no_step_and_goes),
		cmocka_unit_test(where_nothing_can_be_made_nothing_is_claimed),
		cmocka_unit_test(a_prepared_directory_that_is_gone_is_no_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
