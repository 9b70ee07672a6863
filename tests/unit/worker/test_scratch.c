/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <sys/stat.h>

#include "protocol/base/cleanup.h"
#include "worker/scratch.h"

struct places {
	struct temp_dir t;
	char list[900];
	struct buf known;
};

static void places_release(struct places *p)
{
	buf_release(&p->known);
	temp_dir_release(&p->t);
}

static void put(const struct places *p, const char *path)
{
	struct err e = ERR_INIT;

	assert_ok(fs_write(p->t.fd, path, "x", 1, 0600, false, &e), &e);
}

static bool has(const struct places *p, const char *path)
{
	return faccessat(p->t.fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* a with a file and a directory, b empty, c missing. */
static struct places places(void)
{
	struct places p = { .t = temp_dir() };
	struct err e = ERR_INIT;

	buf_init(&p.known, SCRATCH_KNOWN_MAX);
	assert_ok(fs_mkdirs(p.t.fd, "a/dir", 0700, &e), &e);
	assert_ok(fs_mkdirs(p.t.fd, "b", 0700, &e), &e);
	put(&p, "a/file");
	snprintf(p.list, sizeof(p.list), "%s/a:%s/b::%s/c", p.t.path, p.t.path, p.t.path);
	return p;
}

static void empty(const struct places *p)
{
	assert_true(scratch_empty(p->list, buf_data(&p->known), buf_len(&p->known), 0));
}

TEST(what_was_there_stays_and_what_came_goes)
{
	struct places p CLEANUP(places_release) = places();
	struct err e = ERR_INIT;

	assert_ok(scratch_look(p.list, &p.known, &e), &e);
	put(&p, "a/new");
	put(&p, "a/.hidden");
	put(&p, "a/dir/inside");
	assert_ok(fs_mkdirs(p.t.fd, "b/deep/er", 0700, &e), &e);
	put(&p, "b/deep/er/file");
	assert_ok(fs_mkdirs(p.t.fd, "c", 0700, &e), &e);
	put(&p, "c/file");
	empty(&p);
	assert_true(has(&p, "a/file"));
	assert_true(has(&p, "a/dir/inside"));	/* its contents are not looked at */
	assert_false(has(&p, "a/new"));
	assert_false(has(&p, "a/.hidden"));
	assert_true(has(&p, "b"));
	assert_false(has(&p, "b/deep"));
	assert_false(has(&p, "c/file"));
	empty(&p);
	assert_true(has(&p, "a/file"));
}

TEST(they_are_emptied_piece_by_piece)
{
	struct places p CLEANUP(places_release) = places();
	struct err e = ERR_INIT;
	int pieces = 0;

	assert_ok(scratch_look(p.list, &p.known, &e), &e);
	assert_ok(fs_mkdirs(p.t.fd, "b/deep/er", 0700, &e), &e);
	put(&p, "a/new");
	put(&p, "a/newer");
	put(&p, "b/deep/er/file");
	put(&p, "b/deep/file");
	/* The time is over before it begins. */
	while (!scratch_empty(p.list, buf_data(&p.known), buf_len(&p.known), 1))
		assert_true(++pieces <= 10);
	assert_true(pieces >= 4);
	assert_true(has(&p, "a/file"));
	assert_false(has(&p, "a/new"));
	assert_false(has(&p, "a/newer"));
	assert_false(has(&p, "b/deep"));
}

TEST(links_are_removed_and_never_followed)
{
	struct places p CLEANUP(places_release) = places();
	struct err e = ERR_INIT;
	char target[300];

	assert_ok(fs_mkdirs(p.t.fd, "outside", 0700, &e), &e);
	put(&p, "outside/file");
	snprintf(target, sizeof(target), "%s/outside", p.t.path);
	assert_int_equal(symlinkat(target, p.t.fd, "a/link"), 0);
	assert_int_equal(unlinkat(p.t.fd, "b", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat(target, p.t.fd, "b"), 0);	/* a place itself, replaced */
	empty(&p);
	assert_false(has(&p, "a/link"));
	assert_true(has(&p, "outside/file"));
}

TEST(a_directory_that_was_closed_goes_too)
{
	struct places p CLEANUP(places_release) = places();
	struct err e = ERR_INIT;

	assert_ok(fs_mkdirs(p.t.fd, "b/closed", 0700, &e), &e);
	put(&p, "b/closed/file");
	assert_int_equal(fchmodat(p.t.fd, "b/closed", 0, 0), 0);
	empty(&p);
	assert_false(has(&p, "b/closed"));
}

TEST(too_many_entries_are_an_error_and_not_forgotten)
{
	struct places p CLEANUP(places_release) = places();
	struct err e = ERR_INIT;
	char name[240];

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "b/%0200d", i);
		put(&p, name);
	}
	assert_int_equal(scratch_look(p.list, &p.known, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	assert_non_null(strstr(e.msg, "/b has too many entries"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_there_stays_and_what_came_goes),
		cmocka_unit_test(they_are_emptied_piece_by_piece),
		cmocka_unit_test(links_are_removed_and_never_followed),
		cmocka_unit_test(a_directory_that_was_closed_goes_too),
		cmocka_unit_test(too_many_entries_are_an_error_and_not_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
