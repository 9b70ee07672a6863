/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/child.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

enum {
	CANDIDATE_BYTES = 4096,		/* PATH_MAX */
	FIRST_TO_CLOSE = 4,
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

/* Address space that is only reserved does not count: runtimes reserve far more than they use. */
IN_CHILD static void bound_memory(uint64_t bytes)
{
	struct rlimit r;

	if (!bytes || getrlimit(RLIMIT_DATA, &r) < 0)
		return;
	if (r.rlim_max > bytes)
		r.rlim_max = bytes;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_DATA, &r);	/* downwards: it cannot fail */
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
	/* Ours are close-on-exec already; those of libraries may not be. */
	if (child_close_on_exec(FIRST_TO_CLOSE) < 0)
		goto fail;
	child_reset_signals();
	bound_memory(b->spec->memory_bytes);
	stage = STAGE_EXEC;
	if (b->spec->traced && syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0) < 0)
		goto fail;
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
	struct birth b = { .spec = spec };
	pid_t pid = run_child(child_main, &b);

	if (pid < 0)
		b.why = (struct spawn_failure){ STAGE_FORK, errno };
	if (b.why.stage == STAGE_NONE)
		return pid;
	if (pid > 0)
		reap(pid);
	return failed(spec, &b.why, why, e);
}
