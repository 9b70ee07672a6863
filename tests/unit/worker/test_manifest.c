/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/base/loop.h"
#include "worker/manifest.h"

/* A step's directories and what became of them. */
struct left {
	struct temp_dir t;
	char artifacts[300], output[300], work[300];
	struct receipt rc;
	struct buf manifest, files;
};

static void left_release(struct left *l)
{
	buf_release(&l->manifest);
	buf_release(&l->files);
	temp_dir_release(&l->t);
}

static struct left left(void)
{
	struct left l = { .t = temp_dir() };

	snprintf(l.artifacts, sizeof(l.artifacts), "%s/artifacts", l.t.path);
	snprintf(l.output, sizeof(l.output), "%s/output", l.t.path);
	snprintf(l.work, sizeof(l.work), "%s/work", l.t.path);
	assert_int_equal(mkdirat(l.t.fd, "artifacts", 0700), 0);
	assert_int_equal(mkdirat(l.t.fd, "output", 0700), 0);
	assert_int_equal(mkdirat(l.t.fd, "work", 0700), 0);
	assert_int_equal(mkdirat(l.t.fd, "step", 0700), 0);
	buf_init(&l.manifest, 64 << 20);
	buf_init(&l.files, 64 << 20);
	return l;
}

/* Writes a file with the directories that it needs. */
static void put(struct left *l, const char *path, const char *text)
{
	char dir[4200];
	struct err e = ERR_INIT;

	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = 0;
	assert_ok(fs_mkdirs(l->t.fd, dir, 0700, &e), &e);
	assert_ok(fs_write(l->t.fd, path, text, strlen(text), 0640, false, &e), &e);
}

static unsigned signs;

static void alive(void)
{
	signs++;
}

static int make(struct left *l, const char *const *globs, struct err *e)
{
	const struct manifest_spec spec = { l->artifacts, l->output, l->work, globs, alive };
	auto_close int dir = openat(l->t.fd, "step", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	receipt_init(&l->rc);
	buf_reset(&l->manifest);
	buf_reset(&l->files);
	if (manifest_make(&spec, dir, &l->rc, e) < 0)
		return -1;
	fs_read(dir, "manifest", 64 << 20, &l->manifest, NULL);
	fs_read(dir, "files", 64 << 20, &l->files, NULL);
	return 0;
}

#define GLOBS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define NO_GLOBS   ((const char *const[]){ NULL })

/* The paths of the manifest, each followed by a blank. */
static const char *paths(struct left *l)
{
	static struct buf out;
	struct err e = ERR_INIT;
	json *v = json_parse((const char *)buf_data(&l->manifest), buf_len(&l->manifest), 64 << 20,
	                     8, &e);

	buf_release(&out);
	buf_init(&out, 64 << 20);
	if (!v)
		fail_msg("%s", e.msg);
	for (const json *it = json_first(v); it; it = json_next(it))
		buf_printf(&out, NULL, "%s ", json_string(json_get(it, "path")));
	json_free(v);
	return buf_cstr(&out, NULL);
}

TEST(globs_match_as_people_expect)
{
	static const struct {
		const char *glob, *path;
		bool match;
	} cases[] = {
		{ "*.csv", "a.csv", true },
		{ "*.csv", "d/a.csv", false },
		{ "*.csv", ".a.csv", false },
		{ "d/*", "d/a", true },
		{ "d/*", "d/.a", false },
		{ "d/*", "d/e/a", false },
		{ "d", "d/a", false },
		{ "?.[ab]", "x.a", true },
		{ "?.[ab]", "x.c", false },
		{ "**", "a", true },
		{ "**", "d/e/.a", true },
		{ "**/*.csv", "a.csv", true },
		{ "**/*.csv", "d/e/a.csv", true },
		{ "**/*.csv", "d/e/a.txt", false },
		{ "d/**", "d/a", true },
		{ "d/**", "d/e/f/a", true },
		{ "d/**", "d", false },
		{ "d/**", "e/a", false },
		{ "d/**/a", "d/a", true },
		{ "d/**/a", "d/e/f/a", true },
		{ "d/**/a", "d/e/f/b", false },
		{ "**/b/**/d", "a/b/c/d", true },
		{ "**/b/**/d", "a/b/d", true },
		{ "**/b/**/d", "a/c/d", false },
		{ "**/b/*/d", "b/b/c/d", true },
		{ "**/b/*/d", "b/c/b/x/d", true },
		{ "*/**/x", "a/x", true },
		{ "*/**/x", "x", false },
		{ "a**", "ab", true },
		{ "a**", "ab/c", false },
		{ "", "a", false },
		{ "d/", "d/a", false },
		{ "../*", "a", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (glob_match(cases[i].glob, cases[i].path) != cases[i].match)
			fail_msg("'%s' on '%s' should be %d", cases[i].glob, cases[i].path,
			         cases[i].match);
}

TEST(a_glob_of_many_stars_takes_no_time)
{
	struct buf glob, path;
	uint64_t from = now_ns();

	buf_init(&glob, LIMIT_PATH);
	buf_init(&path, LIMIT_PATH);
	for (int i = 0; i < 60; i++) {
		buf_puts(&glob, "**/a*/", NULL);
		buf_puts(&path, "aa/", NULL);
	}
	buf_puts(&glob, "b", NULL);
	buf_puts(&path, "c", NULL);
	assert_false(glob_match(buf_cstr(&glob, NULL), buf_cstr(&path, NULL)));
	assert_true(now_ns() - from < 1000000000ULL);
	buf_release(&glob);
	buf_release(&path);
}

TEST(globs_that_leave_the_directory_are_no_good)
{
	char longest[LIMIT_PATH + 2];

	memset(longest, 'a', sizeof(longest));
	longest[LIMIT_PATH + 1] = 0;
	assert_false(glob_is_good(longest));
	longest[LIMIT_PATH] = 0;
	assert_true(glob_is_good(longest));
	assert_true(glob_is_good("*.csv"));
	assert_true(glob_is_good("a/..b/**"));
	assert_false(glob_is_good(""));
	assert_false(glob_is_good("/etc/*"));
	assert_false(glob_is_good(".."));
	assert_false(glob_is_good("../x"));
	assert_false(glob_is_good("a/../../x"));
	assert_false(glob_is_good("a/.."));
}

TEST(artifacts_come_whole_and_sorted_with_mode_size_and_digest)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;
	char want[2000], sum[SHA256_HEX];
	struct hash h;

	put(&l, "artifacts/b", "hello");
	put(&l, "artifacts/a/z", "");
	put(&l, "artifacts/.hidden", "h");
	put(&l, "artifacts/with \"space", "x");
	put(&l, "output/not this", "x");
	assert_int_equal(fchmodat(l.t.fd, "artifacts/b", 0755, 0), 0);
	assert_ok(make(&l, NO_GLOBS, &e), &e);
	assert_string_equal(paths(&l), ".hidden a/z b with \"space ");
	assert_non_null(strstr(buf_cstr(&l.manifest, NULL),
	                       "{\"mode\":493,\"path\":\"b\",\"sha256\":"
	                       "\"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7"
	                       "425e73043362938b9824\",\"size\":\"5\"}"));
	assert_int_equal(l.rc.artifacts.count, 4);
	assert_int_equal(l.rc.artifacts.bytes, 7);
	assert_int_equal(l.rc.artifacts.manifest_bytes, buf_len(&l.manifest));
	hash_init(&h);
	hash_update(&h, buf_data(&l.manifest), buf_len(&l.manifest));
	hash_hex(&h, sum);
	assert_string_equal(l.rc.artifacts.sha256, sum);
	snprintf(want, sizeof(want), "%s/.hidden", l.artifacts);
	assert_string_equal((const char *)buf_data(&l.files), want);
	assert_string_equal(l.rc.refused[0], "");
}

TEST(globs_look_into_output_and_work_and_the_first_of_a_name_wins)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;
	char *at, *all;

	put(&l, "artifacts/x.csv", "from artifacts");
	put(&l, "output/x.csv", "from output");
	put(&l, "output/y.csv", "from output");
	put(&l, "work/y.csv", "from work");
	put(&l, "work/z.csv", "from work");
	put(&l, "work/sub/z.csv", "not matched");
	put(&l, "work/other.txt", "not matched");
	assert_ok(make(&l, GLOBS("*.csv"), &e), &e);
	assert_string_equal(paths(&l), "x.csv y.csv z.csv ");
	for (at = all = (char *)l.files.mem; at < all + buf_len(&l.files); at++)
		*at = *at ? *at : '|';
	assert_non_null(strstr(buf_cstr(&l.files, NULL), "/artifacts/x.csv|"));
	assert_non_null(strstr(buf_cstr(&l.files, NULL), "/output/y.csv|"));
	assert_non_null(strstr(buf_cstr(&l.files, NULL), "/work/z.csv|"));
	assert_ok(make(&l, GLOBS("no", "sub/**"), &e), &e);
	assert_string_equal(paths(&l), "sub/z.csv x.csv ");
}

TEST(only_regular_files_come_and_the_rest_is_named)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	auto_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char all[4096] = "";

	put(&l, "artifacts/good", "x");
	put(&l, "secret/inside", "not yours");
	assert_int_equal(symlinkat("/etc/passwd", l.t.fd, "artifacts/link"), 0);
	assert_int_equal(symlinkat("../secret", l.t.fd, "artifacts/dirlink"), 0);
	assert_int_equal(mkfifoat(l.t.fd, "artifacts/pipe", 0600), 0);
	put(&l, "artifacts/new\nline", "x");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/sock", l.artifacts);
	assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_ok(make(&l, NO_GLOBS, &e), &e);
	assert_string_equal(paths(&l), "good ");
	for (size_t i = 0; i < ARRAY_LEN(l.rc.refused) && l.rc.refused[i][0]; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s|", l.rc.refused[i]);
	assert_non_null(strstr(all, "link: a symbolic link, not a regular file|"));
	assert_non_null(strstr(all, "dirlink: a symbolic link, not a regular file|"));
	assert_non_null(strstr(all, "pipe: not a regular file|"));
	assert_non_null(strstr(all, "sock: not a regular file|"));
	assert_non_null(strstr(all, "its name has control characters|"));
	assert_null(strstr(all, "good"));
	assert_null(strstr(all, "inside"));
}

TEST(many_refusals_are_cut_not_overrun)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;

	for (int i = 0; i < 30; i++) {
		char name[300];

		snprintf(name, sizeof(name), "artifacts/%0240d", i);
		assert_int_equal(symlinkat("x", l.t.fd, name), 0);
	}
	assert_ok(make(&l, NO_GLOBS, &e), &e);
	for (size_t i = 0; i < ARRAY_LEN(l.rc.refused); i++)
		assert_true(strlen(l.rc.refused[i]) < sizeof(l.rc.refused[i]) &&
		            strstr(l.rc.refused[i], ": a symbolic link"));
	assert_int_equal(l.rc.artifacts.count, 0);
}

TEST(nothing_is_no_manifest_and_the_digest_of_nothing)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;

	assert_int_equal(mkdirat(l.t.fd, "artifacts/empty", 0700), 0);
	assert_ok(make(&l, GLOBS("*"), &e), &e);
	assert_int_equal(buf_len(&l.manifest), 0);
	assert_int_equal(l.rc.artifacts.count, 0);
	assert_string_equal(l.rc.artifacts.sha256,
	                    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(directories_that_the_step_removed_or_replaced_are_nothing)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;

	put(&l, "elsewhere/x", "not yours");
	assert_int_equal(unlinkat(l.t.fd, "artifacts", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(l.t.fd, "work", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("elsewhere", l.t.fd, "artifacts"), 0);
	assert_ok(make(&l, GLOBS("*"), &e), &e);
	assert_int_equal(l.rc.artifacts.count, 0);
}

TEST(what_is_too_deep_is_refused_by_name_and_the_rest_comes)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;
	char path[1000] = "artifacts";

	put(&l, "artifacts/top", "x");
	for (int i = 0; i < LIMIT_PATH_DEPTH + 2; i++)
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "/d");
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/f");
	put(&l, path, "x");
	assert_ok(make(&l, NO_GLOBS, &e), &e);
	assert_string_equal(paths(&l), "top ");
	assert_non_null(strstr(l.rc.refused[0], ": too deep"));
}

TEST(a_directory_behind_a_link_is_not_hashed_through_it)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;

	put(&l, "artifacts/d/f", "mine");
	put(&l, "elsewhere/f", "not yours");
	assert_int_equal(renameat(l.t.fd, "artifacts/d", l.t.fd, "artifacts/was"), 0);
	assert_int_equal(symlinkat("../elsewhere", l.t.fd, "artifacts/d"), 0);
	assert_ok(make(&l, NO_GLOBS, &e), &e);
	assert_string_equal(paths(&l), "was/f ");
}

TEST(one_file_too_many_is_an_error_and_nothing_is_listed)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;
	auto_close int dir = openat(l.t.fd, "artifacts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int one = openat(dir, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char name[16], from[16] = "f";

	/* Hard links are made faster than files; a file takes so many. */
	for (int i = 0; i < LIMIT_ARTIFACTS; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		if (linkat(dir, from, dir, name, 0) < 0) {
			int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

			assert_true(fd >= 0);
			close(fd);
			snprintf(from, sizeof(from), "%s", name);
		}
	}
	assert_fails(make(&l, NO_GLOBS, &e), &e, ERR_LIMIT, "artifacts: over 100000 files");
	assert_int_equal(l.rc.artifacts.count, 0);
	assert_int_equal(l.rc.artifacts.bytes, 0);
	assert_true(one >= 0);
}

TEST(a_sign_of_life_is_given_for_each_piece_and_each_file)
{
	struct left l CLEANUP(left_release) = left();
	struct err e = ERR_INIT;
	auto_close int fd = -1;

	put(&l, "artifacts/large", "");
	fd = openat(l.t.fd, "artifacts/large", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4 << 20), 0);
	signs = 0;
	assert_ok(make(&l, NO_GLOBS, &e), &e);
	assert_int_equal(l.rc.artifacts.bytes, 4 << 20);
	assert_true(signs >= 16);
	for (int i = 0; i < 100; i++) {
		char path[32];

		snprintf(path, sizeof(path), "work/%d", i);
		put(&l, path, "");
	}
	signs = 0;
	assert_ok(make(&l, GLOBS("none"), &e), &e);
	assert_true(signs >= 116);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(globs_match_as_people_expect),
		cmocka_unit_test(a_glob_of_many_stars_takes_no_time),
		cmocka_unit_test(globs_that_leave_the_directory_are_no_good),
		cmocka_unit_test(artifacts_come_whole_and_sorted_with_mode_size_and_digest),
		cmocka_unit_test(globs_look_into_output_and_work_and_the_first_of_a_name_wins),
		cmocka_unit_test(only_regular_files_come_and_the_rest_is_named),
		cmocka_unit_test(many_refusals_are_cut_not_overrun),
		cmocka_unit_test(nothing_is_no_manifest_and_the_digest_of_nothing),
		cmocka_unit_test(directories_that_the_step_removed_or_replaced_are_nothing),
		cmocka_unit_test(what_is_too_deep_is_refused_by_name_and_the_rest_comes),
		cmocka_unit_test(a_directory_behind_a_link_is_not_hashed_through_it),
		cmocka_unit_test(one_file_too_many_is_an_error_and_nothing_is_listed),
		cmocka_unit_test(a_sign_of_life_is_given_for_each_piece_and_each_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
