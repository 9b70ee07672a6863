/* SPDX-License-Identifier: Apache-2.0
 *
 * The child shares our memory until exec (as vfork does, but on a stack of its
 * own), so starting costs 0.1 ms however large we are, where fork and a status
 * pipe took 0.25 ms at 1 MiB and 2 ms at 64 MiB.  We sleep meanwhile; and where it
 * failed it simply writes into our memory. */
#include "worker/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sanitizers mark stack memory and clear the marks on return, but these functions
 * end in exec. */
#define IN_CHILD __attribute__((no_sanitize_address))

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

enum {
	STACK_BYTES = 32 * 1024,
	CANDIDATE_BYTES = 4096,		/* PATH_MAX */
	DIRENTS_BYTES = 2048,
	FIRST_TO_CLOSE = 4,
	FDS_AT_MOST = 1 << 20,		/* tried one by one where nothing else works */
};

struct birth {
	const struct spawn_spec *spec;
	struct spawn_failure why;	/* STAGE_NONE: it reached exec */
};

/* --- the child's half: async-signal-safe calls only --- */

IN_CHILD static int put_fd(int from, int to)
{
	int fd = from;

	if (from < 0 && to > 2) {
		close(to);
		return 0;
	}
	if (from < 0)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fd == to)	/* dup2 would leave close-on-exec as it is */
		return fcntl(fd, F_SETFD, 0);
	return dup2(fd, to) < 0 ? -1 : 0;
}

/* What is to become 0-3 moves out of the way first, so that no dup2 hits a
 * descriptor that is still needed. */
IN_CHILD static int put_stdio(const int from[4])
{
	int fds[4];

	for (int i = 0; i < 4; i++) {
		fds[i] = from[i];
		if (fds[i] >= 0 && fds[i] < FIRST_TO_CLOSE)
			fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_TO_CLOSE);
		if (fds[i] < 0 && from[i] >= 0)
			return -1;
	}
	for (int i = 0; i < 4; i++)
		if (put_fd(fds[i], i) < 0)
			return -1;
	return 0;
}

IN_CHILD static int number_of(const char *name)
{
	int n = 0;

	for (; *name; name++) {
		if (*name < '0' || *name > '9' || n > FDS_AT_MOST)
			return -1;
		n = 10 * n + (*name - '0');
	}
	return n;
}

/* The kernel's own record: <dirent.h> would allocate. */
struct record {
	uint64_t ino;
	int64_t off;
	unsigned short len;
	unsigned char type;
	char name[];
};

IN_CHILD static int mark_listed_fds(void)
{
	_Alignas(struct record) char buf[DIRENTS_BYTES];
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got;

	if (dir < 0)
		return -1;
	while ((got = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < got;) {
			const struct record *r = (const void *)(buf + at);
			int fd = number_of(r->name);

			if (fd >= FIRST_TO_CLOSE)
				fcntl(fd, F_SETFD, FD_CLOEXEC);
			at += r->len;
		}
	}
	return got < 0 ? -1 : 0;
}

IN_CHILD static int mark_all_fds(void)
{
	struct rlimit lim = { .rlim_cur = FDS_AT_MOST };

	getrlimit(RLIMIT_NOFILE, &lim);
	for (int fd = FIRST_TO_CLOSE; (rlim_t)fd < lim.rlim_cur && fd < FDS_AT_MOST; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

/* Ours are close-on-exec already; those of libraries may not be. */
IN_CHILD static int close_others(void)
{
	if (syscall(SYS_close_range, FIRST_TO_CLOSE, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
	/* Linux before 5.11, or a filter that does not know the call. */
	if (mark_listed_fds() == 0)
		return 0;
	return mark_all_fds();
}

/* Ignored signals would stay ignored through exec, and blocked ones blocked. By system
 * call, because libc keeps 32 and 33 to itself, and programs started with posix_spawn by an
 * older glibc have them ignored. All zero is SIG_DFL in the kernel's struct, too. */
IN_CHILD static void reset_signals(void)
{
	const uint64_t dfl[4] = { 0 };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		syscall(SYS_rt_sigaction, s, dfl, NULL, sizeof(uint64_t));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

IN_CHILD static const char *path_of(char *const *envp)
{
	for (; *envp; envp++)
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	return DEFAULT_PATH;
}

/* "DIR/NAME" into to; an empty directory is the current one. */
IN_CHILD static int candidate(char to[CANDIDATE_BYTES], const char *dir, size_t dir_len,
			      const char *name)
{
	size_t len = strlen(name);

	if (dir_len + len + 2 > CANDIDATE_BYTES)
		return -1;
	memcpy(to, dir, dir_len);
	if (dir_len)
		to[dir_len++] = '/';
	memcpy(to + dir_len, name, len + 1);
	return 0;
}

/* As execvpe does it, but with the PATH that the program will see, and without
 * giving to a shell what the kernel does not take.  Returns the errno. */
IN_CHILD static int exec_in_path(const struct spawn_spec *spec)
{
	const char *dir = path_of(spec->envp);
	char program[CANDIDATE_BYTES];
	int sys = ENOENT;

	for (;;) {
		size_t len = strcspn(dir, ":");

		if (candidate(program, dir, len, spec->argv[0]) == 0) {
			execve(program, spec->argv, spec->envp);
			if (errno == EACCES)	/* one that may be run may follow */
				sys = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR)
				return errno;
		}
		if (!dir[len])
			return sys;
		dir += len + 1;
	}
}

IN_CHILD static int exec(const struct spawn_spec *spec)
{
	const char *program = spec->argv[0];

	if (!program || !*program)
		return ENOENT;
	if (!strchr(program, '/'))
		return exec_in_path(spec);
	execve(program, spec->argv, spec->envp);
	return errno;
}

IN_CHILD static int child_main(void *arg)
{
	struct birth *b = arg;
	enum spawn_stage stage = STAGE_PGRP;

	if (setsid() < 0)
		goto fail;
	stage = STAGE_STDIO;
	if (put_stdio(b->spec->fds) < 0)
		goto fail;
	stage = STAGE_CWD;
	if (chdir(b->spec->cwd) < 0)
		goto fail;
	stage = STAGE_FDS;
	if (close_others() < 0)
		goto fail;
	reset_signals();
	stage = STAGE_EXEC;
	errno = exec(b->spec);
fail:
	b->why.sys = errno;
	b->why.stage = stage;
	_exit(127);
}

/* --- our half --- */

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static pid_t failed(const struct spawn_spec *spec, const struct spawn_failure *f,
		    struct spawn_failure *why, struct err *e)
{
	const char *name = spec->argv[0] ? spec->argv[0] : "";

	*why = *f;
	if (f->stage == STAGE_CWD)
		return err_set(e, ERR_SPAWN, f->sys, "%.150s: cwd '%.150s'", name, spec->cwd);
	return err_set(e, ERR_SPAWN, f->sys, "%.250s: %s", name, spawn_stage_name(f->stage));
}

pid_t spawn(const struct spawn_spec *spec, struct spawn_failure *why, struct err *e)
{
	static _Alignas(16) char stack[STACK_BYTES];
	struct birth b = { .spec = spec };
	sigset_t all, before;
	pid_t pid;

	/* A handler that ran in the child would run in our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(child_main, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &b);
	if (pid < 0)
		b.why = (struct spawn_failure){ STAGE_FORK, errno };
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (b.why.stage == STAGE_NONE)
		return pid;
	if (pid > 0)
		reap(pid);
	return failed(spec, &b.why, why, e);
}
