/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <utime.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "proxy/package.h"

/* A directory with a package of it. */
struct world {
	struct temp_dir dir;
	struct package p;
	struct err e;
};

static void world_release(struct world *w)
{
	package_release(&w->p);
	temp_dir_release(&w->dir);
}

static struct world world(void)
{
	struct world w = { .dir = temp_dir() };

	package_init(&w.p);
	return w;
}
#define WORLD(w) struct world w CLEANUP(world_release) = world()

static void put(const struct world *w, const char *path, const char *text)
{
	char dir[600];
	const char *slash = strrchr(path, '/');
	struct err e;

	if (slash) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
		assert_ok(fs_mkdirs(w->dir.fd, dir, 0755, &e), &e);
	}
	assert_ok(fs_write(w->dir.fd, path, text, strlen(text), 0644, false, &e), &e);
}

static void make_dir(const struct world *w, const char *path)
{
	struct err e;

	assert_ok(fs_mkdirs(w->dir.fd, path, 0755, &e), &e);
}

static void make_link(const struct world *w, const char *to, const char *path)
{
	assert_int_equal(symlinkat(to, w->dir.fd, path), 0);
}

static int add(struct world *w, const char *path)
{
	return package_add(&w->p, w->dir.path, path, &w->e);
}

static int glob(struct world *w, const char *pattern)
{
	return package_glob(&w->p, w->dir.path, pattern, &w->e);
}

/* The paths of the index, one after another with a blank between; directories end in "/". */
static void assert_paths(struct world *w, const char *want)
{
	struct buf got CLEANUP(buf_release);

	buf_init(&got, 65536);
	assert_ok(package_index(&w->p, &w->e), &w->e);
	for (size_t i = 0; i < w->p.n; i++)
		assert_ok(buf_printf(&got, &w->e, "%s%s%s", i ? " " : "", w->p.files[i].path,
				     w->p.files[i].dir ? "/" : ""),
			  &w->e);
	assert_string_equal(buf_cstr(&got, &w->e), want);
}

/* The archive's bytes. */
static void write_package(struct world *w, const char *name, struct buf *ret)
{
	auto_close int fd = openat(w->dir.fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_ok(package_write(&w->p, fd, 3, &w->e), &w->e);
	assert_ok(fs_read(w->dir.fd, name, 1 << 24, ret, &w->e), &w->e);
	assert_int_equal(buf_len(ret), w->p.packed);
}

struct listed {
	char text[4096];
	char index[4096];
};

/* Reads the archive back: "path mode size uid mtime" a line, and the index. */
static void list_archive(const struct buf *bytes, struct listed *ret)
{
	struct archive *a = archive_read_new();
	struct archive_entry *t;
	size_t n = 0;

	memset(ret, 0, sizeof(*ret));
	archive_read_support_format_tar(a);
	archive_read_support_filter_zstd(a);
	assert_int_equal(archive_read_open_memory(a, buf_data(bytes), buf_len(bytes)), ARCHIVE_OK);
	while (archive_read_next_header(a, &t) == ARCHIVE_OK) {
		n += (size_t)snprintf(
			ret->text + n, sizeof(ret->text) - n, "%s %o %lld %lld %lld\n",
			archive_entry_pathname(t), (unsigned)archive_entry_mode(t),
			(long long)archive_entry_size(t), (long long)archive_entry_uid(t),
			(long long)archive_entry_mtime(t));
		if (strcmp(archive_entry_pathname(t), ".farstep/index.json") == 0)
			assert_true(archive_read_data(a, ret->index, sizeof(ret->index) - 1) > 0);
	}
	archive_read_free(a);
}

/* --- what is taken along --- */

TEST(a_directory_brings_everything_below_it_but_git_and_our_own)
{
	WORLD(w);

	put(&w, "d/a", "1");
	put(&w, "d/.hidden", "1");
	put(&w, "d/sub/b", "1");
	put(&w, "d/.git/config", "1");
	put(&w, "d/sub/.git", "gitdir: elsewhere");
	put(&w, "d/.farstep/runs/x", "1");
	put(&w, "other", "1");
	assert_ok(add(&w, "d"), &w.e);
	assert_paths(&w, "d/.hidden d/a d/sub/b");
}

TEST(the_base_directory_itself_can_be_added)
{
	WORLD(w);

	put(&w, "a", "1");
	put(&w, "b/c", "1");
	put(&w, ".git/config", "1");
	assert_ok(add(&w, "."), &w.e);
	assert_paths(&w, "a b/c");
}

TEST(an_empty_directory_is_an_entry_and_others_are_not)
{
	WORLD(w);

	put(&w, "d/full/x", "1");
	make_dir(&w, "d/empty/inner");
	make_dir(&w, "d/git/.git");
	assert_ok(add(&w, "d"), &w.e);
	assert_paths(&w, "d/empty/inner/ d/full/x d/git/");
}

TEST(adding_twice_is_fine)
{
	WORLD(w);

	put(&w, "d/a", "1");
	assert_ok(add(&w, "d"), &w.e);
	assert_ok(add(&w, "d/a"), &w.e);
	assert_ok(add(&w, "./d//"), &w.e);
	assert_ok(glob(&w, "d/*"), &w.e);
	assert_paths(&w, "d/a");
	assert_int_equal(w.p.bytes, 1);
	assert_paths(&w, "d/a");	/* the index may be made again */
}

TEST(an_empty_directory_that_another_base_fills_is_no_entry)
{
	WORLD(w);
	char other[300];

	make_dir(&w, "one/d");
	put(&w, "two/d/x", "1");
	snprintf(other, sizeof(other), "%s/one", w.dir.path);
	assert_ok(package_add(&w.p, other, "d", &w.e), &w.e);
	snprintf(other, sizeof(other), "%s/two", w.dir.path);
	assert_ok(package_add(&w.p, other, "d", &w.e), &w.e);
	assert_paths(&w, "d/x");
}

TEST(two_files_for_one_path_are_refused)
{
	WORLD(w);
	char one[300], two[300], want[1000];

	put(&w, "one/x", "1");
	put(&w, "two/x", "2");
	snprintf(one, sizeof(one), "%s/one", w.dir.path);
	snprintf(two, sizeof(two), "%s/two", w.dir.path);
	assert_ok(package_add(&w.p, one, "x", &w.e), &w.e);
	assert_ok(package_add(&w.p, two, "x", &w.e), &w.e);
	snprintf(want, sizeof(want), "'x': both '%s/x' and '%s/x'", one, two);
	if (package_index(&w.p, &w.e) == 0)
		fail();
	assert_int_equal(w.e.code, ERR_PIPELINE);
	assert_int_equal(strlen(w.e.msg), strlen(want));
}

TEST(a_file_where_another_needs_a_directory_is_refused)
{
	WORLD(w);
	char other[300];

	put(&w, "one/x/y", "1");
	put(&w, "one/x-", "1");	/* sorts between "x" and "x/y" */
	put(&w, "two/x", "2");
	snprintf(other, sizeof(other), "%s/one", w.dir.path);
	assert_ok(package_add(&w.p, other, ".", &w.e), &w.e);
	snprintf(other, sizeof(other), "%s/two", w.dir.path);
	assert_ok(package_add(&w.p, other, "x", &w.e), &w.e);
	assert_fails(package_index(&w.p, &w.e), &w.e, ERR_PIPELINE,
		     "'x': both a file and a directory");
}

TEST(a_link_that_stays_inside_is_followed)
{
	WORLD(w);

	put(&w, "data/a", "inside");
	make_link(&w, "data/a", "direct");
	make_link(&w, "data", "dir");
	put(&w, "sub/x", "1");
	make_link(&w, "../data/a", "sub/up");
	assert_ok(add(&w, "direct"), &w.e);
	assert_ok(add(&w, "dir"), &w.e);
	assert_ok(add(&w, "sub"), &w.e);
	assert_paths(&w, "dir/a direct sub/up sub/x");
	assert_int_equal(w.p.files[0].size, 6);
	assert_false(w.p.files[0].dir);
}

TEST(a_link_out_is_refused_by_name)
{
	WORLD(w);

	put(&w, "d/a", "1");
	make_link(&w, "/etc/passwd", "d/leak");
	assert_fails(add(&w, "d"), &w.e, ERR_PIPELINE,
		     "'d/leak': a link to '/etc/passwd', outside of the directory of the pipeline");
	assert_fails(add(&w, "d/leak"), &w.e, ERR_PIPELINE,
		     "'d/leak': a link to '/etc/passwd', outside of the directory of the pipeline");
	assert_fails(glob(&w, "d/*"), &w.e, ERR_PIPELINE,
		     "'d/leak': a link to '/etc/passwd', outside of the directory of the pipeline");
	make_link(&w, "/etc", "etc");
	assert_fails(
		add(&w, "etc/passwd"), &w.e, ERR_PIPELINE,
		"'etc/passwd': a link to '/etc/passwd', outside of the directory of the pipeline");
	make_link(&w, "nowhere", "dangling");
	assert_fails(add(&w, "dangling"), &w.e, ERR_PIPELINE,
		     "'dangling': a link to something that is not there");
}

TEST(a_neighbour_whose_name_begins_like_the_base_is_outside)
{
	WORLD(w);
	char base[300];

	put(&w, "base/a", "1");
	put(&w, "base-secret/s", "1");
	make_link(&w, "../base-secret/s", "base/s");
	snprintf(base, sizeof(base), "%s/base", w.dir.path);
	assert_int_equal(package_add(&w.p, base, "s", &w.e), -1);
	assert_int_equal(w.e.code, ERR_PIPELINE);
}

TEST(links_in_a_circle_are_refused)
{
	WORLD(w);

	put(&w, "d/e/a", "1");
	make_link(&w, "..", "d/e/round");
	assert_fails(add(&w, "d"), &w.e, ERR_PIPELINE,
		     "'d/e/round': a link to a directory above it");
}

TEST(fifos_sockets_and_the_like_are_refused)
{
	WORLD(w);
	auto_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	make_dir(&w, "d");
	assert_int_equal(mkfifoat(w.dir.fd, "d/fifo", 0600), 0);
	assert_fails(add(&w, "d"), &w.e, ERR_PIPELINE, "'d/fifo': neither a file nor a directory");
	assert_true((size_t)snprintf(un.sun_path, sizeof(un.sun_path), "%.90s/sock", w.dir.path) <
		    sizeof(un.sun_path));
	assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_fails(add(&w, "sock"), &w.e, ERR_PIPELINE, "'sock': neither a file nor a directory");
	make_link(&w, "d/fifo", "to-fifo");
	assert_fails(add(&w, "to-fifo"), &w.e, ERR_PIPELINE,
		     "'to-fifo': neither a file nor a directory");
}

TEST(paths_that_leave_or_are_reserved_are_refused)
{
	WORLD(w);

	put(&w, ".farstep/index.json", "{}");
	assert_fails(add(&w, "../x"), &w.e, ERR_PIPELINE,
		     "'../x': leaves the directory of the pipeline");
	assert_fails(add(&w, "a/../x"), &w.e, ERR_PIPELINE,
		     "'a/../x': leaves the directory of the pipeline");
	assert_fails(add(&w, "/etc/passwd"), &w.e, ERR_PIPELINE, "'/etc/passwd': must be relative");
	assert_fails(glob(&w, "../*"), &w.e, ERR_PIPELINE,
		     "'../*': leaves the directory of the pipeline");
	assert_fails(add(&w, "nothing"), &w.e, ERR_PIPELINE,
		     "'nothing': No such file or directory");
	assert_fails(add(&w, ".farstep/index.json"), &w.e, ERR_PIPELINE,
		     "'.farstep/index.json': the name .farstep is reserved");
	assert_fails(add(&w, ".farstep"), &w.e, ERR_PIPELINE,
		     "'.farstep': the name .farstep is reserved");
}

TEST(names_that_json_cannot_hold_are_refused)
{
	static const char *const bad[] = { "d/\xff",	     "d/\xc0\xaf",
					   "d/\xed\xa0\x80", "d/\xf4\x90\x80\x80",
					   "d/\xe2\x82",     "d/new\nline",
					   "d/\x7f" };
	static const char *const good[] = { "d/\xc3\xa9",  "d/\xe2\x82\xac", "d/\xf0\x9f\x99\x82",
					    "d/e\xcc\x81", "d/\xed\x9f\xbf", "d/\"\\ 'x'" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		WORLD(w);

		put(&w, bad[i], "1");
		assert_int_equal(add(&w, "d"), -1);
		assert_int_equal(w.e.code, ERR_PIPELINE);
		assert_non_null(strstr(w.e.msg, "must be UTF-8"));
	}
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		WORLD(w);

		put(&w, good[i], "1");
		assert_ok(add(&w, "d"), &w.e);
		assert_paths(&w, good[i]);
	}
}

TEST(a_tree_deeper_than_the_bound_is_refused)
{
	WORLD(w);
	char path[300] = "d";

	for (int i = 0; i < LIMIT_PATH_DEPTH; i++)
		strncat(path, "/d", sizeof(path) - strlen(path) - 1);
	make_dir(&w, path);
	assert_int_equal(add(&w, "d"), -1);
	assert_int_equal(w.e.code, ERR_LIMIT);
	assert_int_equal(glob(&w, "**/x"), -1);
	assert_int_equal(w.e.code, ERR_LIMIT);
}

/* --- globs --- */

TEST(globs_match_as_a_shell_does)
{
	static const char *const cases[][2] = {
		{ "data/*.csv", "data/a.csv data/b.csv" },
		{ "./data//*.csv", "data/a.csv data/b.csv" },
		{ "data/?.csv", "data/a.csv data/b.csv" },
		{ "data/[!a].csv", "data/b.csv" },
		{ "*.txt", "top.txt" },
		{ "**/*.csv", "data/a.csv data/b.csv data/deep/c.csv data/deep/er/d.csv" },
		{ "**/**/*.csv", "data/a.csv data/b.csv data/deep/c.csv data/deep/er/d.csv" },
		{ "data/**/d.csv", "data/deep/er/d.csv" },
		{ "data/**/er/**/d.csv", "data/deep/er/d.csv" },
		{ "data/deep/**", "data/deep/c.csv data/deep/er/d.csv" },
		{ "data/dee*", "data/deep/c.csv data/deep/er/d.csv" },
		{ "*/deep/*.csv", "data/deep/c.csv" },
		{ "**",
		  "data/.hidden data/a.csv data/b.csv data/deep/c.csv data/deep/er/d.csv top.txt" },
		{ "data/.h*", "data/.hidden" },
		{ ".*", ".env" },
		{ ".git/*", ".git/config" },
		{ "top.txt", "top.txt" },
		{ "data/\\a.csv", "data/a.csv" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		WORLD(w);

		put(&w, "top.txt", "1");
		put(&w, ".env", "1");
		put(&w, "data/a.csv", "1");
		put(&w, "data/b.csv", "1");
		put(&w, "data/.hidden", "1");
		put(&w, "data/deep/c.csv", "1");
		put(&w, "data/deep/er/d.csv", "1");
		put(&w, ".git/config", "1");
		put(&w, ".farstep/runs/r.csv", "1");
		assert_ok(glob(&w, cases[i][0]), &w.e);
		assert_paths(&w, cases[i][1]);
	}
}

TEST(a_glob_that_matches_nothing_is_an_error)
{
	WORLD(w);

	put(&w, "data/a.csv", "1");
	assert_fails(glob(&w, "data/*.json"), &w.e, ERR_PIPELINE, "'data/*.json': no file matches");
	assert_fails(glob(&w, "nowhere/*"), &w.e, ERR_PIPELINE, "'nowhere/*': no file matches");
	assert_fails(glob(&w, "nowhere"), &w.e, ERR_PIPELINE,
		     "'nowhere': No such file or directory");
}

/* --- index and archive --- */

TEST(the_index_holds_size_mode_and_digest_in_order)
{
	WORLD(w);
	struct buf got CLEANUP(buf_release);

	buf_init(&got, 65536);
	put(&w, "b/run.sh", "abc");
	put(&w, "a", "");
	make_dir(&w, "c");
	assert_int_equal(fchmodat(w.dir.fd, "b/run.sh", 04710, 0), 0);
	assert_int_equal(fchmodat(w.dir.fd, "a", 0666, 0), 0);
	assert_ok(add(&w, "."), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	assert_ok(package_index_print(&w.p, &got, &w.e), &w.e);
	assert_string_equal(buf_cstr(&got, &w.e),
		"{\"v\":1,\"files\":["
		"{\"path\":\"a\",\"size\":\"0\",\"mode\":420,\"sha256\":"
		"\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"},"
		"{\"path\":\"b/run.sh\",\"size\":\"3\",\"mode\":493,\"sha256\":"
		"\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"},"
		"{\"path\":\"c\",\"dir\":true}]}");
	assert_int_equal(w.p.bytes, 3);
}

TEST(the_archive_has_the_index_first_then_the_files_without_owners_and_times)
{
	WORLD(w);
	struct buf bytes CLEANUP(buf_release), index CLEANUP(buf_release);
	struct listed got;
	char want[200];

	buf_init(&bytes, 1 << 24);
	buf_init(&index, 65536);
	put(&w, "d/z", "abc");
	put(&w, "d/a", "12345");
	make_dir(&w, "d/e");
	assert_int_equal(fchmodat(w.dir.fd, "d/z", 0777, 0), 0);
	assert_ok(add(&w, "d"), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	assert_ok(package_index_print(&w.p, &index, &w.e), &w.e);
	write_package(&w, "out", &bytes);
	list_archive(&bytes, &got);
	assert_string_equal(got.index, buf_cstr(&index, &w.e));
	snprintf(want, sizeof(want),
		 ".farstep/index.json 100644 %zu 0 0\n"
		 "d/a 100644 5 0 0\nd/e/ 40755 0 0 0\nd/z 100755 3 0 0\n",
		 buf_len(&index));
	assert_string_equal(got.text, want);
}

TEST(the_same_files_give_the_same_bytes_wherever_they_are)
{
	struct buf bytes[2];
	char sha256[2][SHA256_HEX];

	for (int i = 0; i < 2; i++) {
		WORLD(w);
		struct utimbuf then = { 1000000000 + i, 1000000000 + i };
		char path[300];

		buf_init(&bytes[i], 1 << 24);
		/* in another order, at another time, under another name, added otherwise */
		put(&w, i ? "x/b" : "x/a", i ? "bbb" : "aaa");
		put(&w, i ? "x/a" : "x/b", i ? "aaa" : "bbb");
		put(&w, "x/sub/\xc3\xa9", "accent");
		snprintf(path, sizeof(path), "%s/x/a", w.dir.path);
		assert_int_equal(utime(path, &then), 0);
		assert_int_equal(chmod(path, i ? 0644 : 0600), 0);
		assert_ok(i ? glob(&w, "**") : add(&w, "."), &w.e);
		assert_ok(package_index(&w.p, &w.e), &w.e);
		write_package(&w, "out", &bytes[i]);
		memcpy(sha256[i], w.p.sha256, SHA256_HEX);
	}
	assert_string_equal(sha256[0], sha256[1]);
	assert_int_equal(buf_len(&bytes[0]), buf_len(&bytes[1]));
	assert_memory_equal(buf_data(&bytes[0]), buf_data(&bytes[1]), buf_len(&bytes[0]));
	buf_release(&bytes[0]);
	buf_release(&bytes[1]);
}

TEST(the_digest_is_that_of_the_archive)
{
	WORLD(w);
	struct buf bytes CLEANUP(buf_release);
	char hex[SHA256_HEX];
	struct hash h;

	buf_init(&bytes, 1 << 24);
	put(&w, "a", "1");
	assert_ok(add(&w, "a"), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	write_package(&w, "out", &bytes);
	hash_init(&h);
	hash_update(&h, buf_data(&bytes), buf_len(&bytes));
	hash_hex(&h, hex);
	assert_string_equal(w.p.sha256, hex);
}

TEST(an_empty_package_is_a_package)
{
	WORLD(w);
	struct buf bytes CLEANUP(buf_release);
	struct listed got;

	buf_init(&bytes, 1 << 24);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	write_package(&w, "out", &bytes);
	list_archive(&bytes, &got);
	assert_string_equal(got.text, ".farstep/index.json 100644 18 0 0\n");
}

TEST(long_and_foreign_names_survive_the_archive)
{
	WORLD(w);
	struct buf bytes CLEANUP(buf_release);
	struct listed got;
	char path[600] = "", want[700];

	buf_init(&bytes, 1 << 24);
	for (int i = 0; i < 3; i++)
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "%s%0150d", i ? "/" : "",
			 i);
	put(&w, path, "12");
	assert_ok(add(&w, path), &w.e);
	put(&w, "\xc3\xa9t\xc3\xa9 e\xcc\x81", "123");
	assert_ok(add(&w, "\xc3\xa9t\xc3\xa9 e\xcc\x81"), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	write_package(&w, "out", &bytes);
	list_archive(&bytes, &got);
	snprintf(want, sizeof(want),
		 "\n%s 100644 2 0 0\n\xc3\xa9t\xc3\xa9 e\xcc\x81 100644 3 0 0\n", path);
	assert_non_null(strstr(got.text, want));
}

static void assert_changed(struct world *w)
{
	auto_close int fd = openat(w->dir.fd, "out", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_fails(package_write(&w->p, fd, 3, &w->e), &w->e, ERR_INTEGRITY,
		     "'d/a': changed while it was packed");
	assert_int_equal(w->p.packed, 0);
}

TEST(a_file_that_changed_since_the_index_is_refused)
{
	WORLD(w);

	put(&w, "d/a", "12345");
	put(&w, "d/b", "12345");
	assert_ok(add(&w, "d"), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	put(&w, "d/a", "12346");
	assert_changed(&w);
	put(&w, "d/a", "123456");
	assert_changed(&w);
	put(&w, "d/a", "1234");
	assert_changed(&w);
	assert_int_equal(unlinkat(w.dir.fd, "d/a", 0), 0);
	assert_changed(&w);
	assert_int_equal(mkfifoat(w.dir.fd, "d/a", 0600), 0);
	assert_changed(&w);
	assert_int_equal(unlinkat(w.dir.fd, "d/a", 0), 0);
	make_link(&w, "b", "d/a");
	assert_changed(&w);
}

TEST(a_write_that_fails_is_an_error)
{
	WORLD(w);
	auto_close int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	put(&w, "a", "1");
	assert_ok(add(&w, "a"), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	assert_fails(package_write(&w.p, fd, 3, &w.e), &w.e, ERR_SYS,
		     "package: write: No space left on device");
}

TEST(what_a_worker_would_take_for_a_bomb_is_refused_here_by_name)
{
	WORLD(w);
	auto_close int fd = openat(w.dir.fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	put(&w, "a-zeros", "");
	{
		auto_close int zeros = openat(w.dir.fd, "a-zeros", O_WRONLY | O_CLOEXEC);

		assert_int_equal(ftruncate(zeros, 256 << 20), 0);
	}
	assert_ok(add(&w, "a-zeros"), &w.e);
	assert_ok(package_index(&w.p, &w.e), &w.e);
	assert_fails(package_write(&w.p, fd, 3, &w.e), &w.e, ERR_LIMIT,
		     "'a-zeros': packs better than 2000 to 1, which a worker refuses as a bomb");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_directory_brings_everything_below_it_but_git_and_our_own),
		cmocka_unit_test(the_base_directory_itself_can_be_added),
		cmocka_unit_test(an_empty_directory_is_an_entry_and_others_are_not),
		cmocka_unit_test(adding_twice_is_fine),
		cmocka_unit_test(an_empty_directory_that_another_base_fills_is_no_entry),
		cmocka_unit_test(two_files_for_one_path_are_refused),
		cmocka_unit_test(a_file_where_another_needs_a_directory_is_refused),
		cmocka_unit_test(a_link_that_stays_inside_is_followed),
		cmocka_unit_test(a_link_out_is_refused_by_name),
		cmocka_unit_test(a_neighbour_whose_name_begins_like_the_base_is_outside),
		cmocka_unit_test(links_in_a_circle_are_refused),
		cmocka_unit_test(fifos_sockets_and_the_like_are_refused),
		cmocka_unit_test(paths_that_leave_or_are_reserved_are_refused),
		cmocka_unit_test(names_that_json_cannot_hold_are_refused),
		cmocka_unit_test(a_tree_deeper_than_the_bound_is_refused),
		cmocka_unit_test(globs_match_as_a_shell_does),
		cmocka_unit_test(a_glob_that_matches_nothing_is_an_error),
		cmocka_unit_test(the_index_holds_size_mode_and_digest_in_order),
		cmocka_unit_test(
			the_archive_has_the_index_first_then_the_files_without_owners_and_times),
		cmocka_unit_test(the_same_files_give_the_same_bytes_wherever_they_are),
		cmocka_unit_test(the_digest_is_that_of_the_archive),
		cmocka_unit_test(an_empty_package_is_a_package),
		cmocka_unit_test(long_and_foreign_names_survive_the_archive),
		cmocka_unit_test(a_file_that_changed_since_the_index_is_refused),
		cmocka_unit_test(a_write_that_fails_is_an_error),
		cmocka_unit_test(what_a_worker_would_take_for_a_bomb_is_refused_here_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
