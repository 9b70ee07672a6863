/* SPDX-License-Identifier: Apache-2.0
 *
 * What a worker says of its artifacts is not believed. */
#include "tests/unit/check.h"

#include <dirent.h>
#include <sys/stat.h>

#include "protocol/base/cleanup.h"
#include "proxy/fetch.h"

#define STEP "step"

struct entry {
	const char *path, *body, *size; /* size NULL: that of body */
};

/* The stream that a worker would send: manifest, then bodies.  The receipt vouches for all of
 * it, as that of a hostile worker would. */
static void make_stream(const struct entry *list, size_t n, struct buf *out, struct receipt *rc)
{
	uint8_t digest[SHA256_LEN];
	char hex[SHA256_HEX];
	uint64_t bytes = 0;
	struct jw w;
	struct err e = ERR_INIT;

	receipt_init(rc);
	jw_init(&w, out);
	jw_arr(&w);
	for (size_t i = 0; i < n; i++) {
		sha256(list[i].body, strlen(list[i].body), digest);
		hex_encode(digest, sizeof(digest), hex);
		jw_obj(&w);
		jw_kstr(&w, "path", list[i].path);
		jw_kstr(&w, "sha256", hex);
		jw_key(&w, "size");
		if (list[i].size)
			jw_str(&w, list[i].size);
		else
			jw_int(&w, (int64_t)strlen(list[i].body));
		jw_end(&w);
		bytes += list[i].size ? strtoull(list[i].size, NULL, 10) : strlen(list[i].body);
	}
	jw_end(&w);
	assert_ok(jw_done(&w, &e), &e);
	rc->artifacts.manifest_bytes = buf_len(out);
	rc->artifacts.bytes = bytes;
	sha256(buf_data(out), buf_len(out), digest);
	hex_encode(digest, sizeof(digest), rc->artifacts.sha256);
	for (size_t i = 0; i < n; i++)
		assert_ok(buf_puts(out, list[i].body, &e), &e);
}

/* Fetches in pieces of `piece` bytes; the result of the last fetch_write. */
static int fetch_all(int dir_fd, const struct entry *list, size_t n, size_t piece, bool *complete,
                     struct err *e)
{
	struct fetch f;
	struct receipt rc;
	struct buf b;
	int r = 0;

	buf_init(&b, 1 << 20);
	make_stream(list, n, &b, &rc);
	fetch_init(&f, dir_fd, STEP);
	fetch_expect(&f, &rc);
	for (size_t at = 0; at < buf_len(&b) && r == 0; at += piece)
		r = fetch_write(&f, buf_data(&b) + at,
		                buf_len(&b) - at < piece ? buf_len(&b) - at : piece, e);
	*complete = r == 0 && fetch_is_complete(&f);
	fetch_release(&f);
	buf_release(&b);
	return r;
}

static struct temp_dir run_dir(void)
{
	struct temp_dir t = temp_dir();
	struct err e = ERR_INIT;

	assert_ok(fs_mkdirs(t.fd, "run/journal", 0700, &e), &e);
	return t;
}

static int open_run(const struct temp_dir *t)
{
	return openat(t->fd, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void assert_file(int dir_fd, const char *path, const char *want)
{
	struct buf b;
	struct err e = ERR_INIT;

	buf_init(&b, 4096);
	assert_ok(fs_read(dir_fd, path, 4096, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, &e), want);
	buf_release(&b);
}

static int count_files(int dir_fd, const char *path)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *f;

	while (d && (f = readdir(d)))
		n += f->d_name[0] != '.' || strlen(f->d_name) > 2;
	if (d)
		closedir(d);
	return n;
}

TEST(what_a_manifest_names_comes_home_in_any_pieces)
{
	static const struct entry list[] = { { "a", "first", NULL },
		                             { "b/c", "", NULL },
		                             { "b/d e", "second", NULL } };

	for (size_t piece = 1; piece < 400; piece += 7) {
		struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
		auto_close int fd = open_run(&t);
		struct err e = ERR_INIT;
		bool complete;

		assert_ok(fetch_all(fd, list, 3, piece, &complete, &e), &e);
		assert_true(complete);
		assert_file(fd, "artifacts/step/a", "first");
		assert_file(fd, "artifacts/step/b/c", "");
		assert_file(fd, "artifacts/step/b/d e", "second");
		assert_int_equal(count_files(fd, "journal"), 0);
	}
}

/* [R44]: nothing is written, either. */
TEST(paths_that_lead_elsewhere_are_refused)
{
	static const char *const paths[] = {
		"../evil", "/etc/evil", "a/../../evil", "..", ".", "", "a//b", "a/./b", "a/", "./a",
		"a/..", "a\nb", "\x7f",
	};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
		auto_close int fd = open_run(&t);
		struct entry one = { paths[i], "evil", NULL };
		struct err e = ERR_INIT;
		bool complete;

		if (fetch_all(fd, &one, 1, 1000, &complete, &e) == 0)
			fail_msg("'%s' was taken", paths[i]);
		assert_int_equal(e.code, ERR_INTEGRITY);
		assert_int_equal(count_files(t.fd, "."), 1);
		assert_int_equal(count_files(fd, "."), 1); /* the journal */
		assert_int_equal(count_files(fd, "journal"), 0);
	}
}

TEST(a_path_that_comes_twice_is_refused)
{
	static const struct entry twice[] = { { "a", "x", NULL }, { "a", "y", NULL } };
	static const struct entry back[] = { { "b", "x", NULL }, { "a", "y", NULL } };
	struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
	auto_close int fd = open_run(&t);
	struct err e = ERR_INIT;
	bool complete;

	assert_true(fetch_all(fd, twice, 2, 1000, &complete, &e) < 0);
	assert_int_equal(e.code, ERR_INTEGRITY);
	assert_true(fetch_all(fd, back, 2, 1000, &complete, &e) < 0);
	assert_int_equal(count_files(fd, "."), 1);
}

TEST(sizes_that_do_not_add_up_are_refused)
{
	static const struct entry wrap[] = { { "a", "", "18446744073709551615" },
		                             { "b", "", "1" } };
	struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
	auto_close int fd = open_run(&t);
	struct err e = ERR_INIT;
	bool complete = true;

	assert_true(fetch_all(fd, wrap, 2, 1000, &complete, &e) < 0);
	assert_false(complete);
}

/* [R44]: whoever reads a file sees the old one or the new one, never a part. */
TEST(a_file_that_exists_is_replaced_as_a_whole_or_not_at_all)
{
	static const struct entry good = { "a", "the new one", NULL }, bad = { "a", "short", "11" };
	struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
	auto_close int fd = open_run(&t);
	auto_close int old = -1;
	struct err e = ERR_INIT;
	char text[16] = "";
	bool complete;

	assert_ok(fs_mkdirs(fd, "artifacts/step", 0700, &e), &e);
	assert_ok(fs_write(fd, "artifacts/step/a", "the old one", 11, 0600, false, &e), &e);
	old = openat(fd, "artifacts/step/a", O_RDONLY | O_CLOEXEC);
	assert_ok(fetch_all(fd, &bad, 1, 1, &complete, &e), &e);
	assert_false(complete);
	assert_file(fd, "artifacts/step/a", "the old one");
	assert_ok(fetch_all(fd, &good, 1, 1, &complete, &e), &e);
	assert_true(complete);
	assert_file(fd, "artifacts/step/a", "the new one");
	assert_int_equal(read(old, text, sizeof(text)), 11);
	assert_string_equal(text, "the old one");
	assert_int_equal(count_files(fd, "journal"), 0);
}

TEST(a_link_in_the_way_is_replaced_not_followed)
{
	static const struct entry one = { "a", "artifact", NULL };
	struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
	auto_close int fd = open_run(&t);
	struct err e = ERR_INIT;
	bool complete;

	assert_ok(fs_mkdirs(fd, "artifacts/step", 0700, &e), &e);
	assert_ok(fs_write(t.fd, "outside", "safe", 4, 0600, false, &e), &e);
	assert_int_equal(symlinkat("../../../outside", fd, "artifacts/step/a"), 0);
	assert_ok(fetch_all(fd, &one, 1, 1000, &complete, &e), &e);
	assert_file(t.fd, "outside", "safe");
	assert_file(fd, "artifacts/step/a", "artifact");
}

TEST(nothing_is_taken_before_the_receipt)
{
	struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
	auto_close int fd = open_run(&t);
	struct err e = ERR_INIT;
	struct fetch f;

	fetch_init(&f, fd, STEP);
	assert_true(fetch_write(&f, "[]", 2, &e) < 0);
	assert_int_equal(e.code, ERR_PROTO);
	fetch_release(&f);
}

TEST(another_manifest_than_the_receipts_is_refused)
{
	static const struct entry one = { "a", "artifact", NULL };
	struct temp_dir t CLEANUP(temp_dir_release) = run_dir();
	auto_close int fd = open_run(&t);
	struct err e = ERR_INIT;
	struct receipt rc;
	struct fetch f;
	struct buf b;

	buf_init(&b, 4096);
	make_stream(&one, 1, &b, &rc);
	rc.artifacts.sha256[0] ^= 1;
	fetch_init(&f, fd, STEP);
	fetch_expect(&f, &rc);
	assert_true(fetch_write(&f, buf_data(&b), buf_len(&b), &e) < 0);
	assert_int_equal(e.code, ERR_INTEGRITY);
	assert_int_equal(count_files(fd, "."), 1);
	fetch_release(&f);
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_manifest_names_comes_home_in_any_pieces),
		cmocka_unit_test(paths_that_lead_elsewhere_are_refused),
		cmocka_unit_test(a_path_that_comes_twice_is_refused),
		cmocka_unit_test(sizes_that_do_not_add_up_are_refused),
		cmocka_unit_test(a_file_that_exists_is_replaced_as_a_whole_or_not_at_all),
		cmocka_unit_test(a_link_in_the_way_is_replaced_not_followed),
		cmocka_unit_test(nothing_is_taken_before_the_receipt),
		cmocka_unit_test(another_manifest_than_the_receipts_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
