/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

#define FOLLOW (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

static struct {
	const char *dir;
	int written;
	char first[32]; /* name of the first report */
} c;

/* --- the beginning --- */

int crash_check(struct err *e)
{
	static bool works;
	int status;
	pid_t pid;

	if (works)
		return 0;
	pid = fork();
	if (pid < 0)
		return err_set(e, ERR_SYS, errno, "backtrace: fork");
	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 ? errno & 0x7f : 0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	works = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (works)
		return 0;
	return err_set(e, ERR_POLICY, WIFEXITED(status) ? WEXITSTATUS(status) : EPERM,
	               "backtrace: this sandbox does not let a process be traced (ptrace)");
}

/* Waits for the next stop of a process that is about to stop.  Its end is left for the keeper. */
static int wait_stop(pid_t pid, int *status, struct err *e)
{
	siginfo_t info = { .si_pid = 0 };

	while (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT | __WALL) < 0)
		if (errno != EINTR)
			return err_set(e, ERR_SYS, errno, "backtrace: wait");
	if (info.si_code != CLD_STOPPED && info.si_code != CLD_TRAPPED)
		return err_set(e, ERR_LOST, 0, "backtrace: the program ended at once");
	if (waitpid(pid, status, WUNTRACED | __WALL) < 0)
		return err_set(e, ERR_SYS, errno, "backtrace: wait");
	return 0;
}

/* The old way to attach, which is the only one before exec, cannot leave a process stopped that was
 * stopped by a signal.  So it is exchanged for the new one while the program has not run yet. */
int crash_follow(pid_t leader, const char *dir, struct err *e)
{
	int status, ret;

	if (wait_stop(leader, &status, e) < 0)
		return -1;
	if (ptrace(PTRACE_DETACH, leader, 0, SIGSTOP) < 0)
		return err_set(e, ERR_SYS, errno, "backtrace: detach");
	if (wait_stop(leader, &status, e) < 0)
		return -1;
	if (ptrace(PTRACE_SEIZE, leader, 0, FOLLOW) < 0) {
		ret = err_set(e, ERR_SYS, errno, "backtrace: the program cannot be traced");
		kill(leader, SIGCONT);
		return ret;
	}
	ret = wait_stop(leader, &status, e);
	kill(leader, SIGCONT);
	ptrace(PTRACE_CONT, leader, 0, 0);
	c.dir = dir;
	return ret;
}

/* --- a crash --- */

static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL ||
	       sig == SIGABRT || sig == SIGSYS || sig == SIGTRAP || sig == SIGQUIT;
}

/* A member of /proc/TID/status as a number; 0 if there is none. */
static uint64_t status_member(const struct buf *b, const char *name, int base)
{
	const char *at = memmem(buf_data(b), buf_len(b), name, strlen(name));

	return at ? strtoull(at + strlen(name), NULL, base) : 0;
}

/* Will the signal end the process?  Not if it is caught or ignored: then it is its own affair. */
static bool is_deadly(pid_t tid, int sig, pid_t *pid)
{
	uint64_t bit = UINT64_C(1) << (sig - 1);
	char path[48];
	struct buf b;
	bool ret;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	buf_init(&b, 16 * 1024);
	/* A file of /proc has no size, which fs_read does not mind. */
	ret = fs_read(AT_FDCWD, path, b.max, &b, NULL) == 0 && buf_cstr(&b, NULL) &&
	      !((status_member(&b, "\nSigCgt:", 16) | status_member(&b, "\nSigIgn:", 16)) & bit);
	*pid = ret ? (pid_t)status_member(&b, "\nTgid:", 10) : 0;
	buf_release(&b);
	return ret && *pid > 0;
}

static int write_report(const char *name, const struct buf *text, struct err *e)
{
	auto_close int dir = open(c.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	auto_close int fd = -1;

	if (dir < 0)
		return err_set(e, ERR_SYS, errno, "%s", c.dir);
	/* There already: another thread of the same process fell at the same time. */
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	return fd < 0 ? err_set(e, ERR_SYS, errno, "%s", name)
	              : fs_write_all(fd, buf_data(text), buf_len(text), e);
}

static void on_fault(pid_t tid, int sig)
{
	struct err e = ERR_INIT;
	char name[sizeof(c.first)];
	struct buf text;
	pid_t pid;

	if (c.written >= CRASH_MAX || !is_deadly(tid, sig, &pid))
		return;
	buf_init(&text, CRASH_BYTES);
	crash_report(pid, tid, sig, &text);
	snprintf(name, sizeof(name), "crash.%d.txt", (int)pid);
	if (write_report(name, &text, &e) < 0)
		log_warn("backtrace of process %d: %s", (int)pid, e.msg);
	else if (c.written++ == 0)
		snprintf(c.first, sizeof(c.first), "%s", name);
	buf_release(&text);
}

/* --- every stop --- */

static bool stops_jobs(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

/* What fails here fails because the process was killed meanwhile. */
bool crash_on_status(pid_t pid, int status)
{
	int sig, event;

	if (!WIFSTOPPED(status))
		return false;
	sig = WSTOPSIG(status);
	event = status >> 16;
	if (event == PTRACE_EVENT_STOP && stops_jobs(sig)) {
		ptrace(PTRACE_LISTEN, pid, 0, 0); /* it stays stopped, until a SIGCONT */
		return true;
	}
	if (event) {
		ptrace(PTRACE_CONT, pid, 0, 0);
		return true;
	}
	if (is_fault(sig))
		on_fault(pid, sig);
	ptrace(PTRACE_CONT, pid, 0, sig);
	return true;
}

void crash_note(char *error, size_t size)
{
	size_t n = strlen(error);

	if (c.written && n < size)
		snprintf(error + n, size - n, "%ssee %s%s", n ? "; " : "", c.first,
		         c.written > 1 ? " and others" : "");
}
