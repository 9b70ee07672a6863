/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "proxy/rundir.h"

#define RUN1 "20261102t101112-3f9a1c07"
#define RUN2 "20261102t101113-00000000"
#define RUN3 "20270101t000000-fff00000"

static void create(struct rundir *d, const struct temp_dir *t, const char *run)
{
	struct err e = ERR_INIT;

	assert_ok(rundir_create(d, t->path, run, &e), &e);
}

/* A run that ended. */
static void create_closed(const struct temp_dir *t, const char *run)
{
	struct rundir d;

	create(&d, t, run);
	rundir_close(&d);
}

static void open_run(struct rundir *d, const struct temp_dir *t, const char *run)
{
	struct err e = ERR_INIT;
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", t->path, run);
	assert_ok(rundir_open(d, path, &e), &e);
}

static int has_entry(const struct rundir *d, const char *name)
{
	return faccessat(d->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- ids --- */

TEST(run_ids_have_their_shape_and_sort_by_time)
{
	char before[LIMIT_RUN_ID + 1] = "", id[LIMIT_RUN_ID + 1];
	struct err e = ERR_INIT;

	for (int i = 0; i < 20; i++) {
		assert_ok(run_id_new(id, &e), &e);
		assert_int_equal(strlen(id), 24);
		assert_int_equal(strspn(id, "0123456789"), 8);
		assert_int_equal(id[8], 't');
		assert_int_equal(strspn(id + 9, "0123456789"), 6);
		assert_int_equal(id[15], '-');
		assert_int_equal(strspn(id + 16, "0123456789abcdef"), 8);
		/* 244 microseconds are one step of the three digits. */
		assert_true(strncmp(before, id, 19) <= 0);
		assert_string_not_equal(before, id);
		memcpy(before, id, sizeof(id));
		usleep(300);
	}
}

TEST(ids_that_are_none_make_no_directory)
{
	static const char *const ids[] = {
		"",
		"..",
		"a/b",
		"Abc",
		"-a",
		"a_b",
		"\xc3\xa9",
		/* one more than may be */
		"01234567890123456789012345678901234567890123456789012345678901234",
	};
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct rundir d;

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		assert_int_equal(rundir_create(&d, t.path, ids[i], &e), -1);
		assert_int_equal(e.code, ERR_INVALID_PARAMS);
		assert_int_equal(d.fd, -1);
	}
}

/* --- making --- */

TEST(a_new_run_directory_is_its_owners_alone_and_has_its_parts)
{
	static const char *const parts[] = {
		"cfg", "logs", "artifacts", "journal", "lock", "epoch"
	};
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	mode_t mask = umask(0);
	struct rundir d;
	struct stat st;

	create(&d, &t, RUN1);
	umask(mask);
	assert_int_equal(fstat(d.fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		assert_int_equal(fstatat(d.fd, parts[i], &st, 0), 0);
		assert_int_equal(st.st_mode & 077, 0);
	}
	assert_string_equal(d.run, RUN1);
	assert_int_equal(d.epoch, 1);
	assert_true(rundir_still_mine(&d));
	rundir_close(&d);
}

TEST(a_run_is_made_once)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct rundir d;

	create_closed(&t, RUN1);
	assert_int_equal(rundir_create(&d, t.path, RUN1, &e), -1);
	assert_int_equal(e.code, ERR_EXISTS);
	assert_int_equal(d.fd, -1);
}

TEST(the_root_is_an_option_the_environment_or_its_default)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char out[1024], want[1200], cwd[600], real[4096];
	struct err e = ERR_INIT;

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	unsetenv("FARSTEP_RUNS");
	assert_ok(rundir_root(NULL, out, false, &e), &e);
	snprintf(want, sizeof(want), "%s/.farstep/runs", cwd);
	assert_string_equal(out, want);
	setenv("FARSTEP_RUNS", "by-env", 1);
	assert_ok(rundir_root(NULL, out, false, &e), &e);
	snprintf(want, sizeof(want), "%s/by-env", cwd);
	assert_string_equal(out, want);
	assert_ok(rundir_root(t.path, out, false, &e), &e);
	assert_string_equal(out, realpath(t.path, real));
	setenv("FARSTEP_RUNS", "", 1); /* as if it were not there */
	assert_ok(rundir_root("", out, false, &e), &e);
	snprintf(want, sizeof(want), "%s/.farstep/runs", cwd);
	assert_string_equal(out, want);
	unsetenv("FARSTEP_RUNS");
}

TEST(a_root_that_is_made_keeps_git_away_and_one_that_is_there_stays_as_it_is)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400], out[1024];
	struct err e = ERR_INIT;
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/runs", t.path);
	assert_ok(rundir_root(path, out, true, &e), &e);
	assert_int_equal(fstatat(t.fd, "a/runs/.gitignore", &st, 0), 0);
	assert_int_equal(fstatat(t.fd, "a/runs", &st, 0), 0);
	assert_int_equal(st.st_mode & 077, 0);
	assert_int_equal(mkdirat(t.fd, "b", 0755), 0);
	snprintf(path, sizeof(path), "%s/b", t.path);
	assert_ok(rundir_root(path, out, true, &e), &e);
	assert_int_equal(faccessat(t.fd, "b/.gitignore", F_OK, 0), -1);
	snprintf(path, sizeof(path), "%s/c", t.path);
	assert_ok(rundir_root(path, out, false, &e), &e);
	assert_int_equal(faccessat(t.fd, "c", F_OK, 0), -1);
}

/* --- finding --- */

static void assert_found(const struct temp_dir *t, const char *what, const char *run)
{
	char path[1024], want[600];
	struct err e = ERR_INIT;

	assert_ok(rundir_find(t->path, what, path, &e), &e);
	snprintf(want, sizeof(want), "%s/%s", t->path, run);
	assert_string_equal(path, want);
}

static void assert_not_found(const struct temp_dir *t, const char *what, const char *want)
{
	char path[1024];
	struct err e = ERR_INIT;

	assert_fails(rundir_find(t->path, what, path, &e), &e, ERR_NOT_FOUND, want);
}

TEST(a_run_is_found_by_id_unique_prefix_last_and_directory)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char dir[600];

	create_closed(&t, RUN3); /* not in the order of time */
	create_closed(&t, RUN1);
	create_closed(&t, RUN2);
	assert_found(&t, RUN1, RUN1);
	assert_found(&t, "20261102t101113", RUN2);
	assert_found(&t, "2027", RUN3);
	assert_found(&t, "last", RUN3);
	snprintf(dir, sizeof(dir), "%s/%s", t.path, RUN2);
	assert_found(&t, dir, RUN2);
	strcat(dir, "/"); /* as shells complete it */
	assert_found(&t, dir, RUN2);
}

TEST(an_id_that_is_a_prefix_of_another_is_found_by_itself)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();

	create_closed(&t, "nightly");
	create_closed(&t, "nightly-2");
	assert_found(&t, "nightly", "nightly");
	assert_found(&t, "nightly-", "nightly-2");
}

TEST(what_is_not_found_names_what_there_is)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char want[700];

	assert_not_found(&t, "x", "run 'x': no such run: there is none here");
	snprintf(want, sizeof(want), "run 'last': there is no run in %s", t.path);
	assert_not_found(&t, "last", want);
	create_closed(&t, RUN1);
	create_closed(&t, RUN2);
	assert_not_found(&t, "x", "run 'x': no such run; the newest here are " RUN2 ", " RUN1);
	assert_not_found(&t, "2026", "run '2026': 2 runs begin so: " RUN2 ", " RUN1);
	assert_not_found(&t, "/no/such", "/no/such: not a run directory");
}

TEST(only_runs_are_listed_and_in_the_order_of_time)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	char(*ids)[LIMIT_RUN_ID + 1];
	size_t n;

	create_closed(&t, RUN3);
	create_closed(&t, RUN1);
	assert_int_equal(mkdirat(t.fd, "somebody-elses", 0700), 0); /* no epoch */
	assert_int_equal(mkdirat(t.fd, ".hidden", 0700), 0);
	assert_ok(rundir_list(t.path, &ids, &n, &e), &e);
	assert_int_equal(n, 2);
	assert_string_equal(ids[0], RUN1);
	assert_string_equal(ids[1], RUN3);
	free(ids);
	assert_ok(rundir_list("/no/such/root", &ids, &n, &e), &e);
	assert_int_equal(n, 0);
	free(ids);
}

TEST(many_runs_are_listed)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	char(*ids)[LIMIT_RUN_ID + 1];
	char name[32];
	size_t n;

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "r%03d", i);
		assert_int_equal(mkdirat(t.fd, name, 0700), 0);
		snprintf(name, sizeof(name), "r%03d/epoch", i);
		assert_ok(fs_write(t.fd, name, "1\n", 2, 0600, false, &e), &e);
	}
	assert_ok(rundir_list(t.path, &ids, &n, &e), &e);
	assert_int_equal(n, 200);
	for (size_t i = 1; i < n; i++)
		assert_true(strcmp(ids[i - 1], ids[i]) < 0);
	free(ids);
}

/* --- opening --- */

TEST(a_run_is_opened_to_read_without_its_lock)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct rundir owner, reader;

	create(&owner, &t, RUN1);
	open_run(&reader, &t, RUN1);
	assert_string_equal(reader.run, RUN1);
	assert_int_equal(reader.epoch, 1);
	assert_true(rundir_is_locked(&reader));
	assert_false(rundir_still_mine(&reader));
	rundir_close(&reader);
	assert_true(rundir_still_mine(&owner)); /* asking disturbs nobody */
	open_run(&reader, &t, RUN1);
	rundir_close(&owner);
	assert_false(rundir_is_locked(&reader));
	rundir_close(&reader);
}

TEST(what_is_no_run_is_not_opened)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct rundir d;
	char path[600];

	assert_int_equal(mkdirat(t.fd, "empty", 0700), 0);
	snprintf(path, sizeof(path), "%s/empty", t.path);
	assert_int_equal(rundir_open(&d, path, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(d.fd, -1);
	snprintf(path, sizeof(path), "%s/Not-An-Id", t.path);
	assert_int_equal(rundir_open(&d, path, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(rundir_open(&d, "/", &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
}

/* --- lock and epoch --- */

TEST(a_lock_has_one_holder_and_each_raises_the_epoch)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct rundir one, two;
	char want[200];

	create(&one, &t, RUN1);
	open_run(&two, &t, RUN1);
	snprintf(want, sizeof(want), "run " RUN1 ": another farstep works on it, process %d",
	         (int)getpid());
	assert_fails(rundir_lock(&two, false, &e), &e, ERR_BUSY, want);
	assert_true(rundir_still_mine(&one));
	rundir_close(&one);
	assert_ok(rundir_lock(&two, false, &e), &e);
	assert_int_equal(two.epoch, 2);
	assert_true(rundir_still_mine(&two));
	rundir_close(&two);
}

/* The holder in a process of its own: it goes when it sees a newer epoch. */
static pid_t holder(const struct temp_dir *t, bool lets_go)
{
	struct rundir d;
	int ready[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		create(&d, t, RUN1);
		(void)!write(ready[1], "x", 1);
		while (!lets_go || rundir_still_mine(&d))
			usleep(5000);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

TEST(a_lock_that_is_forced_comes_when_its_holder_sees_the_epoch)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	pid_t pid = holder(&t, true);
	struct err e = ERR_INIT;
	struct rundir d;
	int status;

	open_run(&d, &t, RUN1);
	assert_ok(rundir_lock(&d, true, &e), &e);
	assert_int_equal(d.epoch, 2);
	assert_true(rundir_still_mine(&d));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	rundir_close(&d);
}

TEST(a_holder_that_died_holds_nothing)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	pid_t pid = holder(&t, false);
	struct err e = ERR_INIT;
	struct rundir d;

	open_run(&d, &t, RUN1);
	assert_true(rundir_is_locked(&d));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(rundir_is_locked(&d));
	assert_ok(rundir_lock(&d, false, &e), &e);
	assert_int_equal(d.epoch, 2);
	rundir_close(&d);
}

TEST(who_was_taken_over_knows_it)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct rundir d;

	create(&d, &t, RUN1);
	assert_ok(fs_write(d.fd, "epoch", "7\n", 2, 0600, false, &e), &e);
	assert_false(rundir_still_mine(&d));
	unlinkat(d.fd, "epoch", 0); /* nor is a directory ours that lost it */
	assert_false(rundir_still_mine(&d));
	rundir_close(&d);
}

TEST(the_lock_is_no_link_to_a_file_elsewhere)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct rundir d;

	create_closed(&t, RUN1);
	open_run(&d, &t, RUN1);
	unlinkat(d.fd, "lock", 0);
	assert_int_equal(symlinkat("/tmp/elsewhere", d.fd, "lock"), 0);
	assert_int_equal(rundir_lock(&d, false, &e), -1);
	assert_int_equal(e.code, ERR_SYS);
	assert_false(rundir_is_locked(&d));
	assert_true(has_entry(&d, "lock"));
	rundir_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(run_ids_have_their_shape_and_sort_by_time),
		cmocka_unit_test(ids_that_are_none_make_no_directory),
		cmocka_unit_test(a_new_run_directory_is_its_owners_alone_and_has_its_parts),
		cmocka_unit_test(a_run_is_made_once),
		cmocka_unit_test(the_root_is_an_option_the_environment_or_its_default),
		cmocka_unit_test(
			a_root_that_is_made_keeps_git_away_and_one_that_is_there_stays_as_it_is),
		cmocka_unit_test(a_run_is_found_by_id_unique_prefix_last_and_directory),
		cmocka_unit_test(an_id_that_is_a_prefix_of_another_is_found_by_itself),
		cmocka_unit_test(what_is_not_found_names_what_there_is),
		cmocka_unit_test(only_runs_are_listed_and_in_the_order_of_time),
		cmocka_unit_test(many_runs_are_listed),
		cmocka_unit_test(a_run_is_opened_to_read_without_its_lock),
		cmocka_unit_test(what_is_no_run_is_not_opened),
		cmocka_unit_test(a_lock_has_one_holder_and_each_raises_the_epoch),
		cmocka_unit_test(a_lock_that_is_forced_comes_when_its_holder_sees_the_epoch),
		cmocka_unit_test(a_holder_that_died_holds_nothing),
		cmocka_unit_test(who_was_taken_over_knows_it),
		cmocka_unit_test(the_lock_is_no_link_to_a_file_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
