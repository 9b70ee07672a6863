/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum {
	STACK_BYTES = 32 * 1024,
	DIRENTS_BYTES = 2048,
	FDS_AT_MOST = 1 << 20,		/* tried one by one where nothing else works */
};

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

IN_CHILD static int mark_listed_fds(int first)
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

			if (fd >= first)
				fcntl(fd, F_SETFD, FD_CLOEXEC);
			at += r->len;
		}
	}
	return got < 0 ? -1 : 0;
}

IN_CHILD static int mark_all_fds(int first)
{
	struct rlimit lim = { .rlim_cur = FDS_AT_MOST };

	getrlimit(RLIMIT_NOFILE, &lim);
	for (int fd = first; (rlim_t)fd < lim.rlim_cur && fd < FDS_AT_MOST; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

int child_close_on_exec(int first)
{
	if (syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
	/* Linux before 5.11, or a filter that does not know the call. */
	if (mark_listed_fds(first) == 0)
		return 0;
	return mark_all_fds(first);
}

/* By system call, because libc keeps 32 and 33 to itself, and programs started with posix_spawn by
 * an older glibc have them ignored. All zero is SIG_DFL in the kernel's struct, too. */
void child_reset_signals(void)
{
	const uint64_t dfl[4] = { 0 };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		syscall(SYS_rt_sigaction, s, dfl, NULL, sizeof(uint64_t));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

pid_t run_child(int (*fn)(void *arg), void *arg)
{
	static _Alignas(16) char stack[STACK_BYTES];
	sigset_t all, before;
	pid_t pid;
	int sys;

	/* A handler that ran in the child would run in our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(fn, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, arg);
	sys = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = sys;
	return pid;
}
