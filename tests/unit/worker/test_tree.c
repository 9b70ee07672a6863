/* SPDX-License-Identifier: Apache-2.0
 *
 * With real processes: this program is a subreaper, as a keeper is. */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "protocol/base/loop.h"
#include "worker/tree.h"

#define END_MS 5000

/* Runs the script in a session of its own; returns when it has said "ready" n times on its
 * descriptor 3. */
static pid_t start(int n, const char *script)
{
	int p[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		dup2(p[1], 3);
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2); /* the shell tells of the dead */
		signal(SIGTERM, SIG_DFL);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	close(p[1]);
	while (n > 0) {
		ssize_t got = read(p[0], &c, 1);

		if (got <= 0)
			fail_msg("the script ended before it was ready");
		n -= c == '\n';
	}
	close(p[0]);
	return pid;
}

static int living_below(pid_t pid)
{
	return tree_signal(pid, 0, 0);
}

static int living(void)
{
	return living_below(getpid());
}

static bool is_gone(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

/* Every test begins and ends without a child. */
static void nothing_left(void)
{
	assert_int_equal(living(), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

TEST(proc_can_be_seen_here)
{
	assert_true(tree_can_see());
}

TEST(all_descendants_are_found_whatever_session_they_moved_to)
{
	pid_t pid = start(3, "sleep 1000 & (sleep 1000 & echo >&3; wait) &"
	                     "setsid sh -c 'echo >&3; exec sleep 1000' & echo >&3; wait");

	assert_int_equal(living(), 5);
	assert_int_equal(living_below(pid), 4);
	assert_int_equal(tree_end(pid, NULL, 0, END_MS, NULL), 5);
	nothing_left();
}

TEST(a_double_fork_becomes_a_child_of_ours_and_is_found)
{
	pid_t pid = start(1, "(setsid sh -c 'exec sleep 1000' & echo >&3) & wait; exit 0");
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(living(), 1);
	assert_int_equal(tree_end(pid, NULL, 0, END_MS, NULL), 1);
	nothing_left();
}

TEST(zombies_are_not_among_the_living)
{
	pid_t pid = start(1, "echo >&3; exit 0");
	siginfo_t info;

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(living(), 0);
	assert_int_equal(tree_end(0, NULL, 0, END_MS, NULL), 0);
	nothing_left();
}

TEST(a_signal_reaches_everybody_once)
{
	/* Each counts its signals and says so when told to end. */
	static const char script[] =
		"one() { n=0; trap 'n=$((n+1))' USR1; trap 'echo $n >>\"$OUT\"; exit 0' TERM;"
		"        echo >&3; while :; do sleep 0.02; done; }; one & one & (one) & one";
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct buf b;
	char out[300];
	pid_t pid;

	snprintf(out, sizeof(out), "%s/n", t.path);
	setenv("OUT", out, 1);
	pid = start(4, script);
	assert_true(tree_signal(getpid(), pid, SIGUSR1) >= 4);
	buf_init(&b, 4096);
	/* Until all four have written, or five seconds: TERM again does no harm. */
	for (uint64_t until = now_ns() + 5000000000ULL; buf_len(&b) < 8 && now_ns() < until;) {
		tree_signal(getpid(), pid, SIGTERM);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		usleep(2000);
		buf_reset(&b);
		fs_read(t.fd, "n", 4096, &b, NULL);
	}
	assert_string_equal(buf_cstr(&b, NULL), "1\n1\n1\n1\n");
	buf_release(&b);
	tree_end(pid, NULL, 0, END_MS, NULL);
	nothing_left();
}

TEST(a_group_without_a_member_of_ours_gets_nothing)
{
	/* Our own group: a signal to it would end this program. */
	pid_t pid = start(1, "echo >&3; exec sleep 1000");

	assert_int_not_equal(getpgid(pid), getpgrp());
	assert_int_equal(tree_signal(getpid(), getpgrp(), SIGKILL), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	nothing_left();
}

TEST(nobody_is_no_error)
{
	assert_int_equal(tree_signal(getpid(), 0, SIGTERM), 0);
	assert_int_equal(tree_end(0, NULL, 0, END_MS, NULL), 0);
	nothing_left();
}

TEST(who_ignores_term_and_who_is_stopped_are_ended_too)
{
	pid_t pid = start(2, "trap '' TERM HUP INT; (kill -STOP $(sh -c 'echo $PPID')) &"
	                     "echo >&3; echo >&3; while :; do sleep 1000; done");

	assert_true(tree_end(pid, NULL, 0, END_MS, NULL) >= 2);
	assert_true(is_gone(pid));
	nothing_left();
}

TEST(a_fork_bomb_does_not_outrun_the_end)
{
	pid_t pid = start(1, "echo >&3; f() { while :; do (sleep 5 & sleep 5 &); done; }; f & f");
	uint64_t from = now_ns();

	while (living() < 100 && now_ns() - from < 5000000000ULL)
		usleep(1000);
	assert_true(tree_end(pid, NULL, 0, END_MS, NULL) >= 100);
	nothing_left();
}

TEST(the_kept_and_what_is_below_them_are_left_alone)
{
	pid_t kept = start(1, "sleep 1000 & echo >&3; wait");
	pid_t other = start(1, "setsid sleep 1000 & echo >&3; wait");
	siginfo_t info;

	assert_int_equal(living(), 4);
	assert_int_equal(tree_end(0, &kept, 1, END_MS, NULL), 2);
	assert_true(is_gone(other));
	assert_int_equal(kill(kept, 0), 0);
	assert_int_equal(living(), 2);
	/* A kept one that has ended is left for its owner to reap. */
	kill(kept, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)kept, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(tree_end(0, &kept, 1, END_MS, NULL), 1);
	assert_int_equal(waitpid(kept, NULL, 0), kept);
	nothing_left();
}

TEST(after_the_deadline_it_gives_up_and_says_so)
{
	pid_t pid = start(1, "echo >&3; exec sleep 1000");
	uint64_t from = now_ns();
	int got = tree_end(pid, NULL, 0, 0, NULL);

	/* One round is always made; whether its dead can be reaped at once is chance. */
	assert_true(got == -1 || got == 1);
	assert_true(now_ns() - from < 2000000000ULL);
	tree_end(pid, NULL, 0, END_MS, NULL);
	nothing_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proc_can_be_seen_here),
		cmocka_unit_test(all_descendants_are_found_whatever_session_they_moved_to),
		cmocka_unit_test(a_double_fork_becomes_a_child_of_ours_and_is_found),
		cmocka_unit_test(zombies_are_not_among_the_living),
		cmocka_unit_test(a_signal_reaches_everybody_once),
		cmocka_unit_test(a_group_without_a_member_of_ours_gets_nothing),
		cmocka_unit_test(nobody_is_no_error),
		cmocka_unit_test(who_ignores_term_and_who_is_stopped_are_ended_too),
		cmocka_unit_test(a_fork_bomb_does_not_outrun_the_end),
		cmocka_unit_test(the_kept_and_what_is_below_them_are_left_alone),
		cmocka_unit_test(after_the_deadline_it_gives_up_and_says_so),
	};

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
