/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/check.h"

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "worker/spawn.h"

/* String literals as execve wants them. */
#define LIST(...) ((char *const *)(const char *const[]){ __VA_ARGS__, NULL })

static struct spawn_spec spec_of(char *const *argv)
{
	static const char *const env[] = { "PATH=/usr/bin:/bin", NULL };

	return (struct spawn_spec){ .argv = argv, .envp = (char *const *)env, .cwd = "/",
				    .fds = { -1, -1, 2, -1 } };
}

/* Runs the program, returns what it wrote to standard output and its wait status. */
static const char *output_of(struct spawn_spec spec, int *status)
{
	static struct buf b;
	struct spawn_failure why;
	struct err e = ERR_INIT;
	int p[2];
	pid_t pid;
	ssize_t n;

	buf_release(&b);
	buf_init(&b, 1 << 20);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	spec.fds[1] = p[1];
	pid = spawn(&spec, &why, &e);
	close(p[1]);
	if (pid < 0)
		fail_msg("%s", e.msg);
	do {
		uint8_t *to = buf_reserve(&b, 4096, NULL);

		n = read(p[0], to, 4096);
		buf_commit(&b, n > 0 ? (size_t)n : 0);
	} while (n > 0);
	close(p[0]);
	assert_int_equal(waitpid(pid, status, 0), pid);
	return buf_cstr(&b, NULL);
}

static const char *sh(const char *script)
{
	int status;
	const char *out = output_of(spec_of(LIST("/bin/sh", "-c", script)), &status);

	assert_int_equal(status, 0);
	return out;
}

static void spawn_fails(struct spawn_spec spec, enum spawn_stage stage, int sys, const char *msg)
{
	struct spawn_failure why = { 0 };
	struct err e = ERR_INIT;

	assert_int_equal(spawn(&spec, &why, &e), -1);
	assert_string_equal(e.msg, msg);
	assert_int_equal(e.code, ERR_SPAWN);
	assert_int_equal(why.stage, stage);
	assert_int_equal(why.sys, sys);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* A file in the directory; its path lives until the next call but three. */
static char *file(const struct temp_dir *t, const char *name, const char *text, mode_t mode)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", t->path, name);
	assert_int_equal(fs_write(AT_FDCWD, path, text, strlen(text), mode, false, NULL), 0);
	return path;
}

TEST(a_program_runs_with_its_arguments_environment_and_directory)
{
	struct spawn_spec spec = spec_of(LIST("/bin/sh", "-c", "pwd; echo $A-$1; env | wc -l", "sh",
					      "x y"));
	int status;

	spec.envp = LIST("A=b c");
	spec.cwd = "/usr";
	/* sh adds PWD */
	assert_string_equal(output_of(spec, &status), "/usr\nb c-x y\n2\n");
	assert_int_equal(status, 0);
}

TEST(its_pid_is_its_session_and_group)
{
	const char *out = sh("read -r pid comm state ppid pgrp sid rest </proc/self/stat; "
			     "[ $$ = $pid ] && [ $pgrp = $pid ] && [ $sid = $pid ] && echo yes");

	assert_string_equal(out, "yes\n");
}

TEST(signals_are_as_a_login_would_give_them)
{
	struct sigaction ign = { .sa_handler = SIG_IGN }, before[2];
	sigset_t all, mask;
	const char *out;

	sigaction(SIGPIPE, &ign, &before[0]);
	sigaction(SIGHUP, &ign, &before[1]);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	out = sh("while read -r line; do case $line in SigBlk*|SigIgn*) echo $line;; esac; "
		 "done </proc/self/status");
	sigprocmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGPIPE, &before[0], NULL);
	sigaction(SIGHUP, &before[1], NULL);
	assert_string_equal(out, "SigBlk: 0000000000000000\nSigIgn: 0000000000000000\n");
}

TEST(our_own_signal_mask_is_as_before)
{
	sigset_t mask, now;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	sh(":");
	sigprocmask(SIG_SETMASK, NULL, &now);
	assert_int_equal(sigismember(&now, SIGUSR1), 1);
	assert_int_equal(sigismember(&now, SIGUSR2), 0);
	sigdelset(&mask, SIGUSR1);
	sigprocmask(SIG_SETMASK, &mask, NULL);
}

TEST(nothing_but_the_four_descriptors_is_open)
{
	/* As a library leaves them, here and far up. */
	int low = open("/dev/null", O_RDONLY), high = dup2(low, 700);
	struct spawn_spec spec = spec_of(LIST("/bin/ls", "/proc/self/fd"));
	int status;

	/* ls itself opens one more, which is the lowest free: 3, or 4 when we give it 3 */
	assert_string_equal(output_of(spec, &status), "0\n1\n2\n3\n");
	spec.fds[3] = low;
	assert_string_equal(output_of(spec, &status), "0\n1\n2\n3\n4\n");
	close(low);
	close(high);
}

TEST(memory_is_bounded_for_the_program_and_what_it_starts)
{
	struct spawn_spec spec = spec_of(LIST("/bin/sh", "-c", "ulimit -d; sh -c 'ulimit -H -d'"));
	int status;

	assert_string_not_equal(output_of(spec, &status), "65536\n65536\n");
	spec.memory_bytes = 64 << 20;
	assert_string_equal(output_of(spec, &status), "65536\n65536\n");
}

/* In a child, so that its descriptors may be turned over: 0-3 are pipes in the given order,
 * and each must come out where it was asked for.  Returns the exit code. */
static int shuffled(const int order[4])
{
	static char script[] = "read a; [ $a = zero ] || exit 2;"
			       "echo one; echo two >&2; echo three >&3";
	struct spawn_spec spec = spec_of(LIST("/bin/sh", "-c", script));
	struct spawn_failure why;
	int far[4][2], status;
	char text[16];

	for (int i = 0; i < 4; i++) {
		int p[2];

		if (pipe2(p, O_CLOEXEC) < 0)
			return 10;
		far[i][0] = fcntl(p[0], F_DUPFD_CLOEXEC, 100);
		far[i][1] = fcntl(p[1], F_DUPFD_CLOEXEC, 100);
	}
	for (int i = 0; i < 4; i++) {
		spec.fds[i] = order[i];
		if (dup2(far[i][i == 0 ? 0 : 1], order[i]) < 0)
			return 11;
	}
	if (write(far[0][1], "zero\n", 5) != 5)
		return 12;
	if (waitpid(spawn(&spec, &why, NULL), &status, 0) < 0 || status != 0)
		return 13;
	if (read(far[1][0], text, 16) != 4 || memcmp(text, "one\n", 4) != 0)
		return 14;
	if (read(far[2][0], text, 16) != 4 || memcmp(text, "two\n", 4) != 0)
		return 15;
	return read(far[3][0], text, 16) == 6 && memcmp(text, "three\n", 6) == 0 ? 0 : 16;
}

TEST(descriptors_come_out_right_whatever_numbers_they_have)
{
	static const int orders[][4] = {
		{ 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 2, 3, 0 }, { 2, 3, 0, 1 }, { 1, 0, 3, 2 },
		{ 4, 5, 6, 7 }, { 7, 3, 0, 4 }, { 3, 4, 5, 6 }, { 4, 0, 1, 2 }, { 50, 3, 9, 2 },
	};

	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(shuffled(orders[i]));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status != 0)
			fail_msg("order %zu: %d", i, WEXITSTATUS(status));
	}
}

TEST(one_descriptor_may_serve_twice)
{
	struct spawn_spec spec = spec_of(LIST("/bin/sh", "-c", "echo a; echo b >&2"));
	struct spawn_failure why;
	char text[8];
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	spec.fds[1] = spec.fds[2] = p[1];
	assert_true(waitpid(spawn(&spec, &why, NULL), NULL, 0) > 0);
	assert_int_equal(read(p[0], text, sizeof(text)), 4);
	assert_memory_equal(text, "a\nb\n", 4);
	close(p[0]);
	close(p[1]);
}

TEST(a_missing_binary_is_an_error_and_leaves_no_zombie)
{
	spawn_fails(spec_of(LIST("/no/such/binary")), STAGE_EXEC, ENOENT,
		    "/no/such/binary: exec: No such file or directory");
	spawn_fails(spec_of(LIST("no-such-binary")), STAGE_EXEC, ENOENT,
		    "no-such-binary: exec: No such file or directory");
	spawn_fails(spec_of(LIST("")), STAGE_EXEC, ENOENT, ": exec: No such file or directory");
	spawn_fails(spec_of(LIST(NULL)), STAGE_EXEC, ENOENT, ": exec: No such file or directory");
}

TEST(a_missing_directory_is_an_error_that_names_it)
{
	struct spawn_spec spec = spec_of(LIST("/bin/true"));

	spec.cwd = "/no/such/dir";
	spawn_fails(spec, STAGE_CWD, ENOENT,
		    "/bin/true: cwd '/no/such/dir': No such file or directory");
}

TEST(a_closed_descriptor_is_an_error)
{
	struct spawn_spec spec = spec_of(LIST("/bin/true"));

	spec.fds[1] = 999;
	spawn_fails(spec, STAGE_STDIO, EBADF, "/bin/true: stdio: Bad file descriptor");
}

TEST(what_may_not_be_run_is_refused)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char msg[600];
	char *plain = file(&t, "plain", "x", 0644), *none = file(&t, "script", "echo hi\n", 0755);

	snprintf(msg, sizeof(msg), "%s: exec: Permission denied", plain);
	spawn_fails(spec_of(LIST(plain)), STAGE_EXEC, EACCES, msg);
	snprintf(msg, sizeof(msg), "%s: exec: Exec format error", none);
	spawn_fails(spec_of(LIST(none)), STAGE_EXEC, ENOEXEC, msg);
}

TEST(a_name_is_searched_in_the_path_that_the_program_gets)
{
	struct temp_dir a CLEANUP(temp_dir_release) = temp_dir();
	struct temp_dir b CLEANUP(temp_dir_release) = temp_dir();
	struct spawn_spec spec = spec_of(LIST("tool"));
	char path[700];
	int status;

	file(&b, "tool", "#!/bin/sh\necho $0\n", 0755);
	snprintf(path, sizeof(path), "PATH=/no/such:%s:/dev/null:%s", a.path, b.path);
	spec.envp = LIST("X=PATH=/bin", path);
	assert_non_null(strstr(output_of(spec, &status), b.path));
	/* One that may not be run does not hide the next. */
	file(&a, "tool", "#!/bin/sh\necho wrong\n", 0644);
	assert_non_null(strstr(output_of(spec, &status), b.path));
	/* But it is the reason when there is no other. */
	snprintf(path, sizeof(path), "PATH=%s:/no/such", a.path);
	spawn_fails(spec, STAGE_EXEC, EACCES, "tool: exec: Permission denied");
	/* An empty entry is the working directory. */
	snprintf(path, sizeof(path), "PATH=/no/such:");
	spec.cwd = b.path;
	assert_string_equal(output_of(spec, &status), "tool\n");
	spec = spec_of(LIST("true"));
	spec.envp = LIST(NULL);
	assert_string_equal(output_of(spec, &status), "");
	assert_int_equal(status, 0);
}

TEST(a_path_entry_of_any_length_does_no_harm)
{
	struct spawn_spec spec = spec_of(LIST("true"));
	char path[9000];
	int status;

	memset(path, 'a', sizeof(path));
	memcpy(path, "PATH=/", 6);
	strcpy(path + sizeof(path) - 11, ":/usr/bin");
	spec.envp = LIST(path);
	assert_string_equal(output_of(spec, &status), "");
	assert_int_equal(status, 0);
}

/* From here on the system call fails with sys. */
static int forbid(int nr, int sys)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)sys),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_LEN(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

TEST(without_close_range_the_other_descriptors_are_closed_too)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct spawn_failure why;
		struct spawn_spec spec = spec_of(LIST("/bin/sh", "-c",
			"[ -e /proc/self/fd/700 ] && exit 3; ! [ -e /proc/self/fd/4 ]"));

		if (forbid(SYS_close_range, ENOSYS) < 0)
			_exit(77);
		dup2(open("/dev/null", O_RDONLY), 4);
		dup2(4, 700);
		if (waitpid(spawn(&spec, &why, NULL), &status, 0) < 0)
			_exit(5);
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

TEST(when_no_process_can_be_made_the_stage_is_fork)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct spawn_failure why = { 0 };
		struct spawn_spec spec = spec_of(LIST("/bin/true"));

		if (forbid(SYS_clone, EAGAIN) < 0)
			_exit(77);
		if (spawn(&spec, &why, NULL) != -1)
			_exit(1);
		_exit(why.stage == STAGE_FORK && why.sys == EAGAIN ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static size_t count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

TEST(a_thousand_starts_leave_nothing_behind)
{
	struct spawn_spec good = spec_of(LIST("/bin/true"));
	struct spawn_spec bad = spec_of(LIST("/no/such/binary"));
	struct spawn_failure why;
	size_t before = count_fds();

	for (int i = 0; i < 500; i++) {
		pid_t pid = spawn(&good, &why, NULL);

		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(spawn(&bad, &why, NULL), -1);
	}
	assert_int_equal(count_fds(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_bounded_for_the_program_and_what_it_starts),
		cmocka_unit_test(a_program_runs_with_its_arguments_environment_and_directory),
		cmocka_unit_test(its_pid_is_its_session_and_group),
		cmocka_unit_test(signals_are_as_a_login_would_give_them),
		cmocka_unit_test(our_own_signal_mask_is_as_before),
		cmocka_unit_test(nothing_but_the_four_descriptors_is_open),
		cmocka_unit_test(descriptors_come_out_right_whatever_numbers_they_have),
		cmocka_unit_test(one_descriptor_may_serve_twice),
		cmocka_unit_test(a_missing_binary_is_an_error_and_leaves_no_zombie),
		cmocka_unit_test(a_missing_directory_is_an_error_that_names_it),
		cmocka_unit_test(a_closed_descriptor_is_an_error),
		cmocka_unit_test(what_may_not_be_run_is_refused),
		cmocka_unit_test(a_name_is_searched_in_the_path_that_the_program_gets),
		cmocka_unit_test(a_path_entry_of_any_length_does_no_harm),
		cmocka_unit_test(without_close_range_the_other_descriptors_are_closed_too),
		cmocka_unit_test(when_no_process_can_be_made_the_stage_is_fork),
		cmocka_unit_test(a_thousand_starts_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
