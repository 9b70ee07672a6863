/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "worker/spool.h"

/* A spool and the end of its pipe that a step would hold. */
struct kept {
	struct spool s; /* first member */
	struct temp_dir t;
	struct loop *loop;
	int in;
	int changes;
	uint64_t seen; /* bytes that on_bytes was given */
	struct hash sum;
};

static void on_change(struct spool *s)
{
	((struct kept *)s)->changes++;
}

static void on_bytes(struct spool *s, const uint8_t *p, size_t n)
{
	struct kept *k = (struct kept *)s;

	k->seen += n;
	hash_update(&k->sum, p, n);
}

static void kept_release(struct kept *k)
{
	loop_io_stop(&k->s.io);
	close_fd(&k->s.pipe_fd);
	close_fd(&k->s.file_fd);
	close_fd(&k->in);
	loop_free(k->loop);
	temp_dir_release(&k->t);
}

static void begin(struct kept *k, uint64_t quota)
{
	struct err e = ERR_INIT;
	int p[2];

	memset(k, 0, sizeof(*k));
	k->t = temp_dir();
	k->loop = loop_new(&e);
	hash_init(&k->sum);
	assert_non_null(k->loop);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	fcntl(p[1], F_SETPIPE_SZ, 1 << 20);
	fs_nonblock(p[1], true);
	k->in = p[1];
	assert_ok(spool_open(&k->s, k->loop, k->t.fd, "stdout", p[0], quota, &e), &e);
	k->s.on_change = on_change;
	k->s.on_bytes = on_bytes;
}

static void settle(struct kept *k)
{
	while (loop_pass(k->loop, 0, NULL) > 0)
		;
}

/* Writes as much as the pipe takes; how much. */
static size_t print(struct kept *k, size_t n)
{
	static char text[1 << 20];
	ssize_t put;

	assert_true(n <= sizeof(text));
	for (size_t i = 0; i < n; i++)
		text[i] = (char)('a' + i % 26);
	put = write(k->in, text, n);
	return put > 0 ? (size_t)put : 0;
}

static struct stat file_of(const struct kept *k)
{
	struct stat st;

	assert_int_equal(fstat(k->s.file_fd, &st), 0);
	return st;
}

TEST(what_comes_through_the_pipe_is_in_the_file_and_in_the_digest)
{
	struct kept k CLEANUP(kept_release);
	char want[SHA256_HEX], got[SHA256_HEX];
	struct buf b;

	begin(&k, 1 << 20);
	assert_int_equal(write(k.in, "hello ", 6), 6);
	settle(&k);
	assert_int_equal(k.s.len, 6);
	assert_int_equal(write(k.in, "world", 5), 5);
	close_fd(&k.in);
	settle(&k);
	assert_int_equal(k.s.len, 11);
	assert_true(k.s.eof);
	assert_null(k.s.io.loop);
	assert_int_equal(k.seen, 11);
	hash_hex(&k.s.hash, got);
	hash_hex(&k.sum, want);
	assert_string_equal(got, want);
	assert_string_equal(got,
	                    "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
	buf_init(&b, 100);
	assert_int_equal(fs_read(k.t.fd, "stdout", 100, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b, NULL), "hello world");
	buf_release(&b);
	assert_int_equal(file_of(&k).st_mode & 0777, 0600);
	assert_true(k.changes >= 2);
}

TEST(a_pipe_that_is_closed_at_once_is_an_end_without_bytes)
{
	struct kept k CLEANUP(kept_release);

	begin(&k, 100);
	close_fd(&k.in);
	settle(&k);
	assert_true(k.s.eof);
	assert_int_equal(k.s.len, 0);
	assert_int_equal(k.changes, 1);
}

TEST(at_the_quota_the_pipe_is_not_read_and_goes_on_after_an_acknowledgement)
{
	enum { QUOTA = 100 * 1000, SLACK = 128 * 1024 };
	struct kept k CLEANUP(kept_release);
	uint64_t len;

	begin(&k, QUOTA);
	assert_int_equal(print(&k, 1 << 20), 1 << 20);
	settle(&k);
	/* One piece of reading more at most. */
	assert_true(k.s.len >= QUOTA && k.s.len < QUOTA + SLACK);
	assert_null(k.s.io.loop);
	len = k.s.len;
	settle(&k);
	assert_int_equal(k.s.len, len);
	spool_ack(&k.s, 10);
	settle(&k);
	assert_int_equal(k.s.len, len); /* what is left is still over it */
	while (k.s.len < 1 << 20) {
		len = k.s.len;
		spool_ack(&k.s, len);
		settle(&k);
		assert_true(k.s.len > len && k.s.len - len < QUOTA + SLACK);
	}
	close_fd(&k.in);
	spool_ack(&k.s, k.s.len);
	settle(&k);
	assert_int_equal(k.s.len, 1 << 20);
	assert_true(k.s.eof);
}

TEST(acknowledged_bytes_are_given_back_to_the_disk_and_the_size_stays)
{
	struct kept k CLEANUP(kept_release);
	uint8_t byte;
	blkcnt_t before;
	struct stat st;

	begin(&k, 64 << 20);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(print(&k, 1 << 20), 1 << 20);
		settle(&k);
	}
	assert_int_equal(k.s.len, 4 << 20);
	before = file_of(&k).st_blocks;
	spool_ack(&k.s, (2 << 20) + 5);
	st = file_of(&k);
	assert_int_equal(st.st_size, 4 << 20);
	if (k.s.punched == 0) { /* no holes in this file system */
		assert_int_equal(st.st_blocks, before);
		skip();
	}
	assert_int_equal(k.s.punched, 2 << 20);
	assert_true(st.st_blocks <= before - (2 << 20) / 512 + 16);
	assert_int_equal(pread(k.s.file_fd, &byte, 1, 100), 1);
	assert_int_equal(byte, 0);
	/* What is not acknowledged is there to the byte. */
	assert_int_equal(pread(k.s.file_fd, &byte, 1, 2 << 20), 1);
	assert_int_equal(byte, 'a');
}

TEST(acknowledgements_that_fall_or_pass_the_length_are_ignored)
{
	struct kept k CLEANUP(kept_release);

	begin(&k, 1000);
	assert_int_equal(print(&k, 100), 100);
	settle(&k);
	spool_ack(&k.s, 101);
	assert_int_equal(k.s.acked, 0);
	spool_ack(&k.s, 50);
	spool_ack(&k.s, 49);
	assert_int_equal(k.s.acked, 50);
	spool_ack(&k.s, 100);
	assert_int_equal(k.s.acked, 100);
}

TEST(a_disk_that_takes_no_more_is_said_and_the_step_is_not_held_up)
{
	struct kept k CLEANUP(kept_release);
	struct rlimit was, small = { 1000, RLIM_INFINITY };
	char digest[SHA256_HEX], of_1000[SHA256_HEX];

	begin(&k, 1 << 20);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small.rlim_max = was.rlim_max;
	assert_int_equal(print(&k, 900), 900);
	settle(&k);
	assert_int_equal(k.s.error.code, 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(print(&k, 900), 900);
	settle(&k);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(k.s.error.code, ERR_SYS);
	assert_string_equal(k.s.error.msg, "spool: write: File too large");
	/* Length and digest are those of what was kept for certain. */
	assert_int_equal(k.s.len, 900);
	hash_hex(&k.s.hash, digest);
	hash_hex(&k.sum, of_1000);
	assert_string_equal(digest, of_1000);
	/* The pipe is still read, and what comes is dropped. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(print(&k, 1 << 20), 1 << 20);
		settle(&k);
	}
	assert_int_equal(k.s.len, 900);
	close_fd(&k.in);
	settle(&k);
	assert_true(k.s.eof);
}

TEST(no_file_is_made_before_the_first_byte)
{
	struct kept k CLEANUP(kept_release);

	begin(&k, 100);
	assert_int_equal(faccessat(k.t.fd, "stdout", F_OK, 0), -1);
	assert_int_equal(print(&k, 1), 1);
	settle(&k);
	assert_int_equal(faccessat(k.t.fd, "stdout", F_OK, 0), 0);
}

TEST(a_name_that_is_taken_is_an_error_and_what_is_there_stays)
{
	struct kept k CLEANUP(kept_release);
	int fd;

	begin(&k, 100);
	fd = openat(k.t.fd, "stdout", O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(print(&k, 10), 10);
	settle(&k);
	assert_int_equal(k.s.error.code, ERR_SYS);
	assert_string_equal(k.s.error.msg, "spool stdout: File exists");
	assert_int_equal(k.s.len, 0);
}

TEST(a_link_in_its_place_is_not_followed)
{
	struct kept k CLEANUP(kept_release);

	begin(&k, 100);
	assert_int_equal(symlinkat("/tmp/elsewhere", k.t.fd, "stdout"), 0);
	assert_int_equal(print(&k, 10), 10);
	settle(&k);
	assert_string_equal(k.s.error.msg, "spool stdout: File exists");
}

TEST(once_stopped_nothing_is_read_any_more)
{
	struct kept k CLEANUP(kept_release);

	begin(&k, 1000);
	spool_stop(&k.s);
	assert_int_equal(print(&k, 10), 10);
	settle(&k);
	assert_int_equal(k.s.len, 0);
	assert_true(k.s.eof);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_through_the_pipe_is_in_the_file_and_in_the_digest),
		cmocka_unit_test(a_pipe_that_is_closed_at_once_is_an_end_without_bytes),
		cmocka_unit_test(
			at_the_quota_the_pipe_is_not_read_and_goes_on_after_an_acknowledgement),
		cmocka_unit_test(acknowledged_bytes_are_given_back_to_the_disk_and_the_size_stays),
		cmocka_unit_test(acknowledgements_that_fall_or_pass_the_length_are_ignored),
		cmocka_unit_test(a_disk_that_takes_no_more_is_said_and_the_step_is_not_held_up),
		cmocka_unit_test(no_file_is_made_before_the_first_byte),
		cmocka_unit_test(a_name_that_is_taken_is_an_error_and_what_is_there_stays),
		cmocka_unit_test(a_link_in_its_place_is_not_followed),
		cmocka_unit_test(once_stopped_nothing_is_read_any_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
