/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

#define auto_dir __attribute__((cleanup(temp_dir_release)))

static void make_file(int dirfd, const char *path, const char *text)
{
	auto_close int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static bool exists(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static mode_t mode_of(int dirfd, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

static size_t count_entries(const char *path)
{
	auto_closedir DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n - 2;
}

/* Runs fn in a child; what it returns is returned. */
static int in_child(int (*fn)(int), int arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn(arg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* --- directories --- */

TEST(missing_directories_are_made_and_existing_ones_are_fine)
{
	auto_dir struct temp_dir t = temp_dir();
	char path[400];
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "a/b/c", 0700, &e), &e);
	assert_ok(fs_mkdirs(t.fd, "a/b/c", 0700, &e), &e);
	assert_ok(fs_mkdirs(t.fd, "a//b/d/", 0700, &e), &e);
	assert_ok(fs_mkdirs(t.fd, ".", 0700, &e), &e);
	assert_true(exists(t.fd, "a/b/c"));
	assert_true(exists(t.fd, "a/b/d"));
	assert_int_equal(mode_of(t.fd, "a"), 0700);
	snprintf(path, sizeof(path), "%s/x/y", t.path);
	assert_ok(fs_mkdirs(AT_FDCWD, path, 0755, &e), &e);
	assert_true(exists(t.fd, "x/y"));
}

TEST(a_file_in_the_place_of_a_directory_is_an_error)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	make_file(t.fd, "f", "");
	assert_fails(fs_mkdirs(t.fd, "f", 0700, &e), &e, ERR_SYS, "f: mkdir: Not a directory");
	assert_fails(fs_mkdirs(t.fd, "f/g", 0700, &e), &e, ERR_SYS, "f: mkdir: Not a directory");
}

TEST(a_link_to_a_directory_counts_as_one)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "real", 0700, &e), &e);
	assert_int_equal(symlinkat("real", t.fd, "link"), 0);
	assert_ok(fs_mkdirs(t.fd, "link/sub", 0700, &e), &e);
	assert_true(exists(t.fd, "real/sub"));
}

TEST(a_path_that_is_empty_or_too_long_is_refused)
{
	auto_dir struct temp_dir t = temp_dir();
	char path[5001];
	struct err e;

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	assert_int_equal(fs_mkdirs(t.fd, path, 0700, &e), -1);
	assert_int_equal(e.sys, ENAMETOOLONG);
	assert_int_equal(fs_mkdirs(t.fd, "", 0700, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(fs_write(t.fd, path, "", 0, 0600, false, &e), -1);
}

/* --- whole files --- */

TEST(a_written_file_is_read_back)
{
	auto_dir struct temp_dir t = temp_dir();
	static uint8_t data[300000];
	struct buf b;
	struct err e;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	buf_init(&b, 1 << 20);
	assert_ok(fs_write(t.fd, "f", data, sizeof(data), 0600, true, &e), &e);
	assert_ok(buf_puts(&b, "before", &e), &e);
	assert_ok(fs_read(t.fd, "f", 1 << 20, &b, &e), &e);
	assert_int_equal(buf_len(&b), sizeof(data) + 6);
	assert_memory_equal(buf_data(&b), "before", 6);
	assert_memory_equal(buf_data(&b) + 6, data, sizeof(data));
	buf_release(&b);
}

TEST(an_empty_file_is_written_and_read)
{
	auto_dir struct temp_dir t = temp_dir();
	struct buf b;
	struct err e;

	buf_init(&b, 10);
	assert_ok(fs_write(t.fd, "f", "", 0, 0600, false, &e), &e);
	assert_ok(fs_read(t.fd, "f", 0, &b, &e), &e);
	assert_int_equal(buf_len(&b), 0);
	buf_release(&b);
}

TEST(a_file_of_the_maximum_is_read_and_one_byte_more_is_refused)
{
	auto_dir struct temp_dir t = temp_dir();
	struct buf b;
	struct err e;

	make_file(t.fd, "f", "12345678");
	buf_init(&b, 100);
	assert_ok(fs_read(t.fd, "f", 8, &b, &e), &e);
	assert_int_equal(buf_len(&b), 8);
	assert_fails(fs_read(t.fd, "f", 7, &b, &e), &e, ERR_LIMIT, "f: larger than the maximum");
	assert_int_equal(buf_len(&b), 8);
	buf_release(&b);
}

TEST(a_file_larger_than_the_buffer_is_refused)
{
	auto_dir struct temp_dir t = temp_dir();
	struct buf b;
	struct err e;

	make_file(t.fd, "f", "12345678");
	buf_init(&b, 8);
	assert_ok(fs_read(t.fd, "f", 100, &b, &e), &e);
	buf_reset(&b);
	assert_ok(buf_putc(&b, 'x', &e), &e);
	assert_fails(fs_read(t.fd, "f", 100, &b, &e), &e, ERR_LIMIT, "f: larger than the maximum");
	assert_int_equal(buf_len(&b), 1);
	buf_release(&b);
}

TEST(a_file_that_claims_no_size_is_read_to_its_end)
{
	struct buf b;
	struct err e;

	buf_init(&b, 1 << 20);
	assert_ok(fs_read(AT_FDCWD, "/proc/self/status", 1 << 20, &b, &e), &e);
	assert_true(buf_len(&b) > 100);
	buf_release(&b);
}

TEST(what_is_no_regular_file_is_refused_without_blocking)
{
	auto_dir struct temp_dir t = temp_dir();
	struct buf b;
	struct err e;

	buf_init(&b, 100);
	assert_int_equal(mkfifoat(t.fd, "fifo", 0600), 0);
	assert_fails(fs_read(t.fd, "fifo", 10, &b, &e), &e, ERR_SYS, "fifo: not a regular file");
	assert_fails(fs_read(t.fd, ".", 10, &b, &e), &e, ERR_SYS,
		     ".: not a regular file: Is a directory");
	assert_fails(fs_read(t.fd, "none", 10, &b, &e), &e, ERR_NOT_FOUND,
		     "none: open: No such file or directory");
	assert_int_equal(e.sys, ENOENT);
	buf_release(&b);
}

TEST(writing_replaces_content_and_mode_and_leaves_nothing_else)
{
	auto_dir struct temp_dir t = temp_dir();
	struct buf b;
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "d", 0700, &e), &e);
	make_file(t.fd, "d/f", "a longer content than the next");
	assert_ok(fs_write(t.fd, "d/f", "new", 3, 0600, true, &e), &e);
	assert_int_equal(mode_of(t.fd, "d/f"), 0600);
	buf_init(&b, 100);
	assert_ok(fs_read(t.fd, "d/f", 100, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, &e), "new");
	buf_release(&b);
	assert_int_equal(count_entries(t.path), 1);
}

TEST(writing_replaces_a_link_and_not_what_it_points_to)
{
	auto_dir struct temp_dir t = temp_dir();
	struct buf b;
	struct err e;

	make_file(t.fd, "target", "old");
	assert_int_equal(symlinkat("target", t.fd, "f"), 0);
	assert_ok(fs_write(t.fd, "f", "new", 3, 0600, false, &e), &e);
	buf_init(&b, 100);
	assert_ok(fs_read(t.fd, "target", 100, &b, &e), &e);
	assert_string_equal(buf_cstr(&b, &e), "old");
	buf_release(&b);
}

TEST(a_write_that_fails_leaves_no_temporary_file)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "d/sub", 0700, &e), &e);
	assert_fails(fs_write(t.fd, "d", "x", 1, 0600, false, &e), &e, ERR_SYS,
		     "d: rename: Is a directory");
	assert_int_equal(fs_write(t.fd, "none/f", "x", 1, 0600, false, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(count_entries(t.path), 1);
}

static int read_slowly(int fd)
{
	uint8_t chunk[777];
	size_t total = 0;
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (chunk[i] != (uint8_t)((total + (size_t)i) % 251))
				return 1;
		total += (size_t)n;
	}
	return total == 1000000 ? 0 : 2;
}

TEST(all_bytes_are_written_however_few_fit_at_once)
{
	static uint8_t data[1000000];
	int ends[2], status;
	pid_t pid;
	struct err e;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[1]);
		_exit(read_slowly(ends[0]));
	}
	close(ends[0]);
	assert_ok(fs_write_all(ends[1], data, sizeof(data), &e), &e);
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

TEST(a_descriptor_that_would_block_is_an_error_not_a_wait)
{
	static uint8_t data[1 << 20];
	int ends[2];
	struct err e;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(fs_write_all(ends[1], data, sizeof(data), &e), -1);
	assert_int_equal(e.sys, EAGAIN);
	close(ends[0]);
	close(ends[1]);
}

/* --- removing --- */

TEST(a_tree_is_removed_and_a_missing_one_is_fine)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "tree/a/b/c", 0700, &e), &e);
	assert_ok(fs_mkdirs(t.fd, "tree/a/d", 0700, &e), &e);
	assert_ok(fs_mkdirs(t.fd, "tree/e", 0700, &e), &e);
	make_file(t.fd, "tree/f", "x");
	make_file(t.fd, "tree/a/b/c/f", "x");
	assert_int_equal(mkfifoat(t.fd, "tree/a/fifo", 0600), 0);
	assert_ok(fs_remove_tree(t.fd, "tree", &e), &e);
	assert_false(exists(t.fd, "tree"));
	assert_ok(fs_remove_tree(t.fd, "tree", &e), &e);
	make_file(t.fd, "f", "x");
	assert_ok(fs_remove_tree(t.fd, "f", &e), &e);
	assert_false(exists(t.fd, "f"));
}

TEST(links_are_removed_and_never_followed)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "outside/dir", 0700, &e), &e);
	assert_int_equal(fchmodat(t.fd, "outside/dir", 0500, 0), 0);
	make_file(t.fd, "outside-file", "x");
	assert_ok(fs_mkdirs(t.fd, "tree", 0700, &e), &e);
	assert_int_equal(symlinkat("../outside", t.fd, "tree/dir"), 0);
	assert_int_equal(symlinkat("../outside-file", t.fd, "tree/file"), 0);
	assert_int_equal(symlinkat("nowhere", t.fd, "tree/dangling"), 0);
	assert_int_equal(symlinkat(t.path, t.fd, "tree/absolute"), 0);
	assert_ok(fs_remove_tree(t.fd, "tree", &e), &e);
	assert_int_equal(symlinkat("outside", t.fd, "top"), 0);
	assert_ok(fs_remove_tree(t.fd, "top", &e), &e);
	assert_false(exists(t.fd, "tree"));
	assert_false(exists(t.fd, "top"));
	assert_true(exists(t.fd, "outside/dir"));
	assert_true(exists(t.fd, "outside-file"));
	assert_int_equal(mode_of(t.fd, "outside/dir"), 0500);
}

/* In memory, if that can be: disks are slow at making thousands of directories. */
static struct temp_dir roomy_dir(void)
{
	return access("/dev/shm", W_OK) == 0 ? temp_dir_in("/dev/shm") : temp_dir();
}

TEST(a_wide_directory_is_removed)
{
	auto_dir struct temp_dir t = roomy_dir();
	char path[64];
	struct err e;

	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "tree/dir-%d/sub", i);
		assert_ok(fs_mkdirs(t.fd, path, 0700, &e), &e);
		snprintf(path, sizeof(path), "tree/file-%d", i);
		make_file(t.fd, path, "");
	}
	assert_ok(fs_remove_tree(t.fd, "tree", &e), &e);
	assert_false(exists(t.fd, "tree"));
}

TEST(a_tree_is_removed_piece_by_piece_and_each_piece_is_some)
{
	auto_dir struct temp_dir t = roomy_dir();
	char path[64];
	struct err e;
	int pieces = 0, got;

	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "tree/dir-%d/sub", i);
		assert_ok(fs_mkdirs(t.fd, path, 0700, &e), &e);
		snprintf(path, sizeof(path), "tree/dir-%d/sub/file", i);
		make_file(t.fd, path, "");
	}
	/* The time is over before it begins. */
	while ((got = fs_remove_some(t.fd, "tree", 1, &e)) == 1)
		assert_true(++pieces <= 61);
	assert_ok(got, &e);
	assert_true(pieces >= 20);
	assert_false(exists(t.fd, "tree"));
	assert_ok(fs_remove_some(t.fd, "tree", 1, &e), &e);
}

/* tree/d/d/d/..., levels deep below tree */
static void make_deep(int dirfd, unsigned levels)
{
	int fd, next;

	assert_int_equal(mkdirat(dirfd, "tree", 0700), 0);
	fd = openat(dirfd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < levels; i++) {
		assert_true(fd >= 0);
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	make_file(fd, "f", "x");
	close(fd);
}

TEST(a_tree_far_deeper_than_a_path_needs_only_a_few_descriptors)
{
	auto_dir struct temp_dir t = roomy_dir();
	struct rlimit before, few;
	struct err e;
	int ret;

	make_deep(t.fd, 2200);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ .rlim_cur = (rlim_t)t.fd + 8, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	ret = fs_remove_tree(t.fd, "tree", &e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_ok(ret, &e);
	assert_false(exists(t.fd, "tree"));
}

TEST(a_tree_too_deep_is_an_error_and_not_a_crash)
{
	auto_dir struct temp_dir t = roomy_dir();
	struct err e;
	int fd, next;

	make_deep(t.fd, 4100);
	assert_fails(fs_remove_tree(t.fd, "tree", &e), &e, ERR_LIMIT,
		     "tree: remove: d: deeper than 4096 directories");
	/* Halve it, so that it goes away after all. */
	fd = openat(t.fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 2000; i++) {
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	assert_int_equal(renameat(fd, "d", t.fd, "half"), 0);
	close(fd);
	assert_ok(fs_remove_tree(t.fd, "half", &e), &e);
	assert_ok(fs_remove_tree(t.fd, "tree", &e), &e);
}

static bool become_nobody(void)
{
	return setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0;
}

/* As an ordinary user, for whom modes count. */
static int remove_locked_tree(int dirfd)
{
	struct err e = ERR_INIT;

	if (geteuid() == 0 && (fchown(dirfd, 65534, 65534) < 0 || !become_nobody()))
		return 2;
	if (fs_mkdirs(dirfd, "tree/a/b", 0700, &e) < 0 ||
	    fs_mkdirs(dirfd, "tree/c", 0700, &e) < 0 ||
	    fs_mkdirs(dirfd, "tree/d/e", 0700, &e) < 0)
		return 3;
	if (fchmodat(dirfd, "tree/a/b", 0, 0) < 0 || fchmodat(dirfd, "tree/a", 0, 0) < 0 ||
	    fchmodat(dirfd, "tree/c", 0, 0) < 0 || fchmodat(dirfd, "tree/d", 0500, 0) < 0 ||
	    fchmodat(dirfd, "tree", 0100, 0) < 0)
		return 4;
	return fs_remove_tree(dirfd, "tree", &e) < 0 || exists(dirfd, "tree") ? 1 : 0;
}

TEST(directories_that_deny_everything_are_removed)
{
	auto_dir struct temp_dir t = temp_dir();

	assert_int_equal(in_child(remove_locked_tree, t.fd), 0);
}

static int remove_what_is_anothers(int dirfd)
{
	struct err e = ERR_INIT;

	if (!become_nobody())
		return 2;
	if (fs_remove_tree(dirfd, "tree", &e) == 0 || e.code != ERR_SYS || e.sys != EACCES)
		return 3;
	return 0;
}

TEST(a_refusal_of_the_system_is_an_error)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	if (geteuid() != 0)
		skip();
	assert_ok(fs_mkdirs(t.fd, "tree/a", 0755, &e), &e);
	assert_int_equal(fchmod(t.fd, 0755), 0);
	assert_int_equal(in_child(remove_what_is_anothers, t.fd), 0);
	assert_true(exists(t.fd, "tree/a"));
}

TEST(names_that_no_one_means_to_remove_are_refused)
{
	static const char *const names[] = { "", "/", ".", "..", "a/.", "a/..", "a/" };
	auto_dir struct temp_dir t = temp_dir();
	struct err e;

	assert_ok(fs_mkdirs(t.fd, "a/b", 0700, &e), &e);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(fs_remove_tree(t.fd, names[i], &e), -1);
		assert_int_equal(e.code, ERR_INVALID_PARAMS);
	}
	assert_true(exists(t.fd, "a/b"));
}

/* Exchanges tree/x, a directory, with a link to outside, until killed. */
static void swap_forever(int dirfd)
{
	const unsigned exchange = 2;	/* RENAME_EXCHANGE */

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		mkdirat(dirfd, "tree", 0700);
		mkdirat(dirfd, "tree/x", 0700);
		mkdirat(dirfd, "tree/x/y", 0700);
		(void)!symlinkat("../outside", dirfd, "tree/link");
		syscall(SYS_renameat2, dirfd, "tree/x", dirfd, "tree/link", exchange);
	}
}

TEST(a_directory_swapped_for_a_link_meanwhile_does_not_lead_outside)
{
	auto_dir struct temp_dir t = temp_dir();
	struct err e;
	pid_t pid;

	assert_ok(fs_mkdirs(t.fd, "outside/y/z", 0700, &e), &e);
	make_file(t.fd, "outside/f", "precious");
	make_file(t.fd, "outside/y/f", "precious");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		swap_forever(t.fd);
	for (int i = 0; i < 1000; i++)
		fs_remove_tree(t.fd, "tree", NULL);	/* may succeed or be busy */
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(exists(t.fd, "outside/f"));
	assert_true(exists(t.fd, "outside/y/f"));
	assert_true(exists(t.fd, "outside/y/z"));
	assert_ok(fs_remove_tree(t.fd, "tree", &e), &e);
	assert_false(exists(t.fd, "tree"));
}

/* --- opening beneath --- */

/* in/file, in/sub/file, links in every direction, out/secret */
static void make_maze(int dirfd)
{
	struct err e;

	assert_ok(fs_mkdirs(dirfd, "in/sub", 0700, &e), &e);
	assert_ok(fs_mkdirs(dirfd, "out", 0700, &e), &e);
	make_file(dirfd, "in/file", "inside");
	make_file(dirfd, "in/sub/file", "inside");
	make_file(dirfd, "out/secret", "outside");
	assert_int_equal(symlinkat("sub", dirfd, "in/to-sub"), 0);
	assert_int_equal(symlinkat("file", dirfd, "in/to-file"), 0);
	assert_int_equal(symlinkat("../out", dirfd, "in/to-out"), 0);
	assert_int_equal(symlinkat("../out/secret", dirfd, "in/to-secret"), 0);
	assert_int_equal(symlinkat("/etc/passwd", dirfd, "in/absolute"), 0);
	assert_int_equal(symlinkat("/proc/self/cwd", dirfd, "in/magic"), 0);
}

static bool opens(int in, const char *path, int flags)
{
	struct err e;
	auto_close int fd = fs_open_beneath(in, path, flags, 0600, &e);

	return fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

/* 0, or the number of the expectation that was not met.  Both ways of opening
 * must meet them. */
static int check_maze(int in)
{
	static const char *const inside[] = {
		"file", "sub/file", "./file", "sub//file", "sub/./file",
	};
	static const char *const outside[] = {
		"../out/secret", "to-out/secret", "to-secret", "absolute", "/etc/passwd", "magic",
		"magic/x", "sub/../../out/secret", "", "none", "none/file", "file/x", "file/", "..",
	};
	int n = 1;

	for (size_t i = 0; i < ARRAY_LEN(inside); i++, n++)
		if (!opens(in, inside[i], O_RDONLY))
			return n;
	for (size_t i = 0; i < ARRAY_LEN(outside); i++, n++)
		if (opens(in, outside[i], O_RDONLY) || opens(in, outside[i], O_RDWR) ||
		    (outside[i][0] != 'm' && opens(in, outside[i], O_PATH)))
			return n;
	if (!opens(in, "sub", O_RDONLY | O_DIRECTORY) ||
	    !opens(in, "sub/", O_RDONLY | O_DIRECTORY) ||
	    !opens(in, ".", O_RDONLY | O_DIRECTORY))
		return 50;
	if (opens(in, "file", O_RDONLY | O_DIRECTORY))
		return 51;
	if (!opens(in, "sub/new", O_WRONLY | O_CREAT | O_EXCL) ||
	    opens(in, "sub/new", O_WRONLY | O_CREAT | O_EXCL))
		return 52;
	if (opens(in, "to-out/new", O_WRONLY | O_CREAT) || opens(in, "../new", O_WRONLY | O_CREAT))
		return 53;
	return 0;
}

static int open_maze(struct temp_dir *t)
{
	make_maze(t->fd);
	return openat(t->fd, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

TEST(no_path_leads_out_of_the_directory)
{
	auto_dir struct temp_dir t = temp_dir();
	auto_close int in = open_maze(&t);
	struct err e;

	assert_int_equal(check_maze(in), 0);
	assert_int_equal(mode_of(in, "sub/new") & 0600, 0600);
	assert_false(exists(t.fd, "out/new"));
	assert_int_equal(fs_open_beneath(in, "none", O_RDONLY, 0, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
}

/* Makes the kernel answer openat2 as an old one, or an old container engine, does. */
static bool forget_openat2(int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_LEN(code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int maze_error;

static int check_maze_without_openat2(int in)
{
	int got;

	if (!forget_openat2(maze_error))
		return 77;
	got = check_maze(in);
	if (got)
		return got;
	/* Stricter than the kernel's: no link, no "..". */
	if (opens(in, "to-sub/file", O_RDONLY) || opens(in, "to-file", O_RDONLY) ||
	    opens(in, "to-file", O_PATH) || opens(in, "sub/../file", O_RDONLY))
		return 60;
	return 0;
}

TEST(no_path_leads_out_where_the_kernel_has_no_openat2)
{
	static const int errors[] = { ENOSYS, EPERM };

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		auto_dir struct temp_dir t = temp_dir();
		auto_close int in = open_maze(&t);
		int got;

		maze_error = errors[i];
		got = in_child(check_maze_without_openat2, in);
		if (got == 77)
			skip();
		assert_int_equal(got, 0);
		assert_false(exists(t.fd, "out/new"));
	}
}

/* --- names and flags --- */

TEST(clean_paths_are_told_from_the_others)
{
	static const char *const clean[] = {
		"a", "a/b", "a.b/..c/.d", "...", "a b", "\xc3\xa4/\xe2\x82\xac", "-", "a/b/c/d/e",
	};
	static const char *const dirty[] = {
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/./b", "../a", "a/..",
		"a/../b", "a\nb", "a/\x01", "\x7f", "a\tb", "//",
	};

	for (size_t i = 0; i < ARRAY_LEN(clean); i++)
		assert_true(fs_path_is_clean(clean[i]));
	for (size_t i = 0; i < ARRAY_LEN(dirty); i++)
		assert_false(fs_path_is_clean(dirty[i]));
}

TEST(clean_paths_have_at_most_4096_bytes_and_255_a_component)
{
	char path[5000];

	memset(path, 'x', sizeof(path));
	path[255] = 0;
	assert_true(fs_path_is_clean(path));
	path[255] = 'x';
	path[256] = 0;
	assert_false(fs_path_is_clean(path));
	memset(path, 'x', sizeof(path));
	for (size_t i = 99; i < sizeof(path); i += 100)
		path[i] = '/';
	path[4096] = 0;
	assert_true(fs_path_is_clean(path));
	path[4096] = 'x';
	path[4097] = 0;
	assert_false(fs_path_is_clean(path));
}

TEST(a_descriptor_is_made_to_block_and_not_to)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(fs_nonblock(ends[0], true), 0);
	assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(fs_nonblock(ends[0], false), 0);
	assert_false(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(fs_nonblock(ends[0], true), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing_directories_are_made_and_existing_ones_are_fine),
		cmocka_unit_test(a_file_in_the_place_of_a_directory_is_an_error),
		cmocka_unit_test(a_link_to_a_directory_counts_as_one),
		cmocka_unit_test(a_path_that_is_empty_or_too_long_is_refused),
		cmocka_unit_test(a_written_file_is_read_back),
		cmocka_unit_test(an_empty_file_is_written_and_read),
		cmocka_unit_test(a_file_of_the_maximum_is_read_and_one_byte_more_is_refused),
		cmocka_unit_test(a_file_larger_than_the_buffer_is_refused),
		cmocka_unit_test(a_file_that_claims_no_size_is_read_to_its_end),
		cmocka_unit_test(what_is_no_regular_file_is_refused_without_blocking),
		cmocka_unit_test(writing_replaces_content_and_mode_and_leaves_nothing_else),
		cmocka_unit_test(writing_replaces_a_link_and_not_what_it_points_to),
		cmocka_unit_test(a_write_that_fails_leaves_no_temporary_file),
		cmocka_unit_test(all_bytes_are_written_however_few_fit_at_once),
		cmocka_unit_test(a_descriptor_that_would_block_is_an_error_not_a_wait),
		cmocka_unit_test(a_tree_is_removed_and_a_missing_one_is_fine),
		cmocka_unit_test(links_are_removed_and_never_followed),
		cmocka_unit_test(a_wide_directory_is_removed),
		cmocka_unit_test(a_tree_is_removed_piece_by_piece_and_each_piece_is_some),
		cmocka_unit_test(a_tree_far_deeper_than_a_path_needs_only_a_few_descriptors),
		cmocka_unit_test(a_tree_too_deep_is_an_error_and_not_a_crash),
		cmocka_unit_test(directories_that_deny_everything_are_removed),
		cmocka_unit_test(a_refusal_of_the_system_is_an_error),
		cmocka_unit_test(names_that_no_one_means_to_remove_are_refused),
		cmocka_unit_test(a_directory_swapped_for_a_link_meanwhile_does_not_lead_outside),
		cmocka_unit_test(no_path_leads_out_of_the_directory),
		cmocka_unit_test(no_path_leads_out_where_the_kernel_has_no_openat2),
		cmocka_unit_test(clean_paths_are_told_from_the_others),
		cmocka_unit_test(clean_paths_have_at_most_4096_bytes_and_255_a_component),
		cmocka_unit_test(a_descriptor_is_made_to_block_and_not_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
