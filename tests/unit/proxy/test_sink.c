/* SPDX-License-Identifier: Apache-2.0
 *
 * A sink is fed as step_run feeds it: the stream's next offset moves, then the bytes are
 * written.  A restart is a new sink on the same files that is fed from where it says. */
#include "tests/unit/check.h"

#include <signal.h>
#include <sys/stat.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "proxy/sink.h"

#define SECRET "correct-horse-battery"

static void open_log(struct sink *s, const struct temp_dir *t, const struct mask_set *m)
{
	struct err e = ERR_INIT;

	assert_ok(sink_open_log(s, t->fd, "log", "mark", m, &e), &e);
}

static void put(struct sink *s, const void *p, size_t n)
{
	struct err e = ERR_INIT;

	s->in.next += n;
	assert_ok(sink_write(s, p, n, &e), &e);
}

static void checkpoint(struct sink *s)
{
	struct err e = ERR_INIT;

	assert_ok(sink_checkpoint(s, &e), &e);
}

static void finish(struct sink *s)
{
	struct err e = ERR_INIT;

	assert_ok(sink_finish(s, &e), &e);
}

static void read_file(const struct temp_dir *t, const char *name, struct buf *out)
{
	struct err e = ERR_INIT;

	buf_init(out, 4 << 20);
	assert_ok(fs_read(t->fd, name, 4 << 20, out, &e), &e);
}

static void assert_file(const struct temp_dir *t, const char *name, const void *want, size_t n)
{
	struct buf got;

	read_file(t, name, &got);
	assert_int_equal(buf_len(&got), n);
	assert_memory_equal(buf_data(&got), want, n);
	buf_release(&got);
}

static void assert_digest(const struct sink *s, const void *text, size_t n)
{
	uint8_t want[SHA256_LEN], got[SHA256_LEN];

	sha256(text, n, want);
	hash_digest(&s->hash, got);
	assert_memory_equal(got, want, SHA256_LEN);
}

static struct mask_set *one_secret(void)
{
	struct mask_set *m = mask_set_new();

	assert_int_equal(mask_set_add(m, SECRET, true, NULL), 0);
	return m;
}

TEST(a_log_is_what_came_and_the_digest_is_its)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct sink s;
	struct stat st;

	open_log(&s, &t, NULL);
	put(&s, "one\n", 4);
	put(&s, "tw", 2);
	put(&s, "o\n\0x", 4);
	finish(&s);
	assert_file(&t, "log", "one\ntwo\n\0x", 10);
	assert_digest(&s, "one\ntwo\n\0x", 10);
	assert_true(sink_is_flushed(&s));
	sink_close(&s);
	assert_int_equal(fstatat(t.fd, "log", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fstatat(t.fd, "mark", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

TEST(the_log_is_masked_and_the_digest_is_of_what_came)
{
	static const char text[] = "<" SECRET ">";
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct mask_set *m = one_secret();

	for (size_t at = 0; at <= strlen(text); at++) {
		struct sink s;

		open_log(&s, &t, m);
		put(&s, text, at);
		put(&s, text + at, strlen(text) - at);
		finish(&s);
		assert_file(&t, "log", "<" MASK_TEXT ">", strlen(MASK_TEXT) + 2);
		assert_digest(&s, text, strlen(text));
		sink_close(&s);
		unlinkat(t.fd, "log", 0);
		unlinkat(t.fd, "mark", 0);
	}
	mask_set_free(m);
}

TEST(nothing_is_acknowledged_before_it_is_in_a_checkpoint)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char text[200];
	struct sink s;

	memset(text, 'x', sizeof(text));
	open_log(&s, &t, NULL);
	assert_int_equal(s.in.durable, 0);
	put(&s, text, 200);
	assert_int_equal(s.in.durable, 0);
	checkpoint(&s);
	assert_int_equal(s.in.durable, 192); /* the block border before */
	put(&s, text, 56);
	checkpoint(&s);
	assert_int_equal(s.in.durable, 256); /* just there */
	sink_close(&s);
}

TEST(what_the_masker_holds_back_is_not_acknowledged)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct mask_set *m = one_secret();
	char text[130];
	struct sink s;

	memset(text, 'x', 128);
	memcpy(text + 128, "co", 2); /* may begin the secret */
	open_log(&s, &t, m);
	put(&s, text, 130);
	checkpoint(&s);
	assert_int_equal(s.in.durable, 128);
	put(&s, "rr", 2);
	checkpoint(&s);
	assert_int_equal(s.in.durable, 128);
	sink_close(&s);
	assert_file(&t, "log", text, 128);
	mask_set_free(m);
}

/* Bytes that look like no other bytes of the file. */
static void fill(uint8_t *p, size_t n, unsigned *seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(33 + rand_r(seed) % 90);
}

static bool contains(const struct buf *b, const void *what, size_t n)
{
	return memmem(buf_data(b), buf_len(b), what, n) != NULL;
}

TEST(a_checkpoint_holds_no_byte_of_the_log)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	uint8_t text[500];
	unsigned seed = 7;

	fill(text, sizeof(text), &seed);
	for (size_t n = 0; n < sizeof(text); n += 13) {
		struct sink s;
		struct buf mark;

		open_log(&s, &t, NULL);
		put(&s, text + s.in.next, n - (size_t)s.in.next);
		checkpoint(&s);
		sink_close(&s);
		read_file(&t, "mark", &mark);
		for (size_t at = 0; at + 4 <= n; at++)
			assert_false(contains(&mark, text + at, 4));
		buf_release(&mark);
	}
}

/* The proxy dies with or without a checkpoint, again and again. */
static void survive(const struct temp_dir *t, const struct mask_set *m, const uint8_t *text,
                    size_t n, unsigned *seed)
{
	size_t acknowledged = 0;
	struct sink s;

	for (;;) {
		open_log(&s, t, m);
		/* Only what was acknowledged is gone at the worker. */
		assert_true(s.in.next >= acknowledged);
		assert_int_equal(s.in.next, s.in.durable);
		for (int pieces = rand_r(seed) % 5; pieces >= 0 && s.in.next < n; pieces--) {
			size_t left = n - (size_t)s.in.next, piece = 1 + (size_t)rand_r(seed) % 90;

			put(&s, text + s.in.next, piece < left ? piece : left);
			if (rand_r(seed) % 3 == 0)
				checkpoint(&s);
			assert_true(s.in.durable <= s.in.next);
			acknowledged = (size_t)s.in.durable;
		}
		if (s.in.next == n && rand_r(seed) % 2)
			break;
		sink_close(&s);
	}
	finish(&s);
	assert_digest(&s, text, n);
	sink_close(&s);
}

TEST(a_log_is_whole_however_often_its_writer_died)
{
	unsigned seed = 4711;

	for (int round = 0; round < 60; round++) {
		struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
		size_t n = (size_t)rand_r(&seed) % 900;
		uint8_t text[900];

		fill(text, n, &seed);
		survive(&t, NULL, text, n, &seed);
		assert_file(&t, "log", text, n);
	}
}

TEST(a_masked_log_is_whole_however_often_its_writer_died)
{
	struct mask_set *m = one_secret();
	unsigned seed = 42;

	for (int round = 0; round < 60; round++) {
		struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
		uint8_t text[900];
		struct err e = ERR_INIT;
		struct buf want, mark;

		fill(text, sizeof(text), &seed);
		for (size_t at = 0; at + sizeof(SECRET) < sizeof(text);
		     at += 1 + (size_t)rand_r(&seed) % 99)
			memcpy(text + at, SECRET, strlen(SECRET));
		buf_init(&want, 64 * 1024);
		assert_ok(mask_text(m, (const char *)text, sizeof(text), &want, &e), &e);
		survive(&t, m, text, sizeof(text), &seed);
		assert_file(&t, "log", buf_data(&want), buf_len(&want));
		read_file(&t, "mark", &mark);
		assert_false(contains(&mark, SECRET, 6));
		buf_release(&mark);
		buf_release(&want);
	}
	mask_set_free(m);
}

/* Bytes that come once more are not in the file twice, even when they come one by one. */
TEST(what_comes_once_more_is_only_hashed)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	uint8_t text[200];
	unsigned seed = 3;
	struct sink s;

	fill(text, sizeof(text), &seed);
	open_log(&s, &t, NULL);
	put(&s, text, 100);
	checkpoint(&s);
	sink_close(&s);
	open_log(&s, &t, NULL);
	assert_int_equal(s.in.next, 64);
	for (size_t i = 64; i < 90; i++)
		put(&s, text + i, 1);
	checkpoint(&s); /* not back at the last one yet: that one stays */
	assert_int_equal(s.in.durable, 64);
	finish(&s); /* nor does an end that came too early */
	sink_close(&s);
	open_log(&s, &t, NULL);
	assert_int_equal(s.in.next, 64);
	put(&s, text + 64, 136);
	finish(&s);
	assert_file(&t, "log", text, 200);
	assert_digest(&s, text, 200);
	sink_close(&s);
}

TEST(a_finished_log_that_is_opened_again_is_as_it_was)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	uint8_t text[150];
	unsigned seed = 9;
	struct sink s;

	fill(text, sizeof(text), &seed);
	open_log(&s, &t, NULL);
	put(&s, text, 150);
	finish(&s);
	sink_close(&s);
	open_log(&s, &t, NULL);
	put(&s, text + s.in.next, 150 - (size_t)s.in.next);
	finish(&s);
	assert_file(&t, "log", text, 150);
	assert_digest(&s, text, 150);
	sink_close(&s);
}

TEST(what_was_written_behind_the_checkpoint_is_cut_off)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct sink s;

	open_log(&s, &t, NULL);
	put(&s, "first", 5);
	checkpoint(&s);
	put(&s, "second", 6);
	sink_close(&s);
	assert_file(&t, "log", "firstsecond", 11);
	open_log(&s, &t, NULL);
	assert_file(&t, "log", "first", 5);
	sink_close(&s);
}

TEST(a_log_that_lost_what_was_acknowledged_is_refused)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct sink s;

	open_log(&s, &t, NULL);
	put(&s, "twelve bytes", 12);
	finish(&s);
	sink_close(&s);
	unlinkat(t.fd, "log", 0);
	assert_int_equal(sink_open_log(&s, t.fd, "log", "mark", NULL, &e), -1);
	assert_string_equal(e.msg, "log: has 0 bytes, 12 were written: somebody cut it");
	assert_int_equal(e.code, ERR_INTEGRITY);
	sink_close(&s);
}

TEST(a_log_that_cannot_be_opened_says_which)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct sink s;

	assert_int_equal(symlinkat("/dev/null", t.fd, "log"), 0);
	assert_int_equal(sink_open_log(&s, t.fd, "log", "mark", NULL, &e), -1);
	assert_string_equal(e.msg, "cannot write log: Too many levels of symbolic links");
	sink_close(&s);
	assert_int_equal(sink_open_log(&s, t.fd, "no/log", "mark", NULL, &e), -1);
	assert_string_equal(e.msg, "cannot write no/log: No such file or directory");
	sink_close(&s);
}

/* --- descriptors --- */

TEST(a_regular_file_takes_everything_at_once)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	auto_close int fd = openat(t.fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	auto_free uint8_t *text = calloc(1, 100000);
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	unsigned seed = 1;
	struct sink s;

	fill(text, 100000, &seed);
	assert_ok(sink_open_fd(&s, l, fd, &e), &e);
	put(&s, text, 50000);
	put(&s, text + 50000, 50000);
	assert_true(sink_is_flushed(&s));
	checkpoint(&s);
	assert_int_equal(s.in.durable, 100000);
	finish(&s);
	sink_close(&s);
	assert_file(&t, "out", text, 100000);
	assert_true(fcntl(fd, F_GETFD) >= 0); /* borrowed */
	loop_free(l);
}

static int rooms;

static void on_room(struct sink *s)
{
	(void)s;
	rooms++;
}

/* What a pipe did not take waits, is not acknowledged, and goes on when it is read. */
TEST(a_pipe_that_nobody_reads_holds_nobody_up)
{
	enum { ALL = 300000 };
	auto_free uint8_t *text = calloc(1, ALL), *got = calloc(1, ALL);
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	unsigned seed = 5;
	struct sink s;
	size_t n = 0;
	int fds[2];

	fill(text, ALL, &seed);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_ok(sink_open_fd(&s, l, fds[1], &e), &e);
	s.on_room = on_room;
	rooms = 0;
	put(&s, text, ALL);
	assert_false(sink_is_flushed(&s));
	checkpoint(&s);
	assert_true(s.in.durable > 0 && s.in.durable < ALL);
	assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0); /* whoever shares it may block */
	while (n < ALL) {
		ssize_t r = read(fds[0], got + n, ALL - n);

		assert_true(r > 0);
		n += (size_t)r;
		if (!sink_is_flushed(&s))
			assert_ok(loop_pass(l, 1000, &e), &e);
	}
	assert_memory_equal(got, text, ALL);
	assert_true(rooms > 0 && sink_is_flushed(&s));
	checkpoint(&s);
	assert_int_equal(s.in.durable, ALL);
	assert_digest(&s, text, ALL);
	sink_close(&s);
	close(fds[0]);
	close(fds[1]);
	loop_free(l);
}

TEST(a_pipe_whose_reader_has_gone_fails_once_and_for_all)
{
	struct err e = ERR_INIT;
	struct loop *l = loop_new(&e);
	struct sink s;
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_ok(sink_open_fd(&s, l, fds[1], &e), &e);
	close(fds[0]);
	put(&s, "x", 1); /* noticed here */
	assert_true(s.failed);
	s.in.next += 1;
	assert_int_equal(sink_write(&s, "y", 1, &e), -1);
	assert_non_null(strstr(e.msg, "cannot write to descriptor"));
	assert_non_null(strstr(e.msg, "Broken pipe"));
	sink_close(&s);
	close(fds[1]);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log_is_what_came_and_the_digest_is_its),
		cmocka_unit_test(the_log_is_masked_and_the_digest_is_of_what_came),
		cmocka_unit_test(nothing_is_acknowledged_before_it_is_in_a_checkpoint),
		cmocka_unit_test(what_the_masker_holds_back_is_not_acknowledged),
		cmocka_unit_test(a_checkpoint_holds_no_byte_of_the_log),
		cmocka_unit_test(a_log_is_whole_however_often_its_writer_died),
		cmocka_unit_test(a_masked_log_is_whole_however_often_its_writer_died),
		cmocka_unit_test(what_comes_once_more_is_only_hashed),
		cmocka_unit_test(a_finished_log_that_is_opened_again_is_as_it_was),
		cmocka_unit_test(what_was_written_behind_the_checkpoint_is_cut_off),
		cmocka_unit_test(a_log_that_lost_what_was_acknowledged_is_refused),
		cmocka_unit_test(a_log_that_cannot_be_opened_says_which),
		cmocka_unit_test(a_regular_file_takes_everything_at_once),
		cmocka_unit_test(a_pipe_that_nobody_reads_holds_nobody_up),
		cmocka_unit_test(a_pipe_whose_reader_has_gone_fails_once_and_for_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
