/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/self.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#define MAX_FDS 8
#define HIGH_FD 64

void self_protect(void)
{
	prctl(PR_SET_DUMPABLE, 0);
}

static int open_file(struct err *e)
{
	const char *name = (const char *)(uintptr_t)getauxval(AT_EXECFN);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0 && name)
		fd = open(name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_set(e, ERR_SYS, errno, "cannot open the running program") : fd;
}

/* Kernels before 6.3 do not know MFD_EXEC; some later ones demand it. */
static int memfd(void)
{
	int fd = memfd_create("farstep-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	return fd >= 0 ? fd : memfd_create("farstep-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

static bool copy_all(int from, int to)
{
	struct stat st;
	off_t at = 0;

	if (fstat(from, &st) < 0)
		return false;
	while (at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			return false;
	return true;
}

int self_open(bool *sealed, struct err *e)
{
	auto_close int file = open_file(e);
	auto_close int copy = -1;

	*sealed = false;
	if (file < 0)
		return -1;
	copy = memfd();
	/* Without read permission the kernel makes whoever runs it non-dumpable from birth. */
	if (copy < 0 || !copy_all(file, copy) || fchmod(copy, 0111) < 0 ||
	    fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return take_fd(&file);
	*sealed = true;
	return take_fd(&copy);
}

static void close_from(int fd)
{
	if (syscall(SYS_close_range, fd, ~0U, 0) == 0)
		return;
	for (long max = sysconf(_SC_OPEN_MAX); fd < max; fd++)
		close(fd);
}

/* Between fork and exec: only async-signal-safe calls. */
static void child_main(int self_fd, char *const argv[], const int *fds, int n_fds)
{
	sigset_t none;
	int high[MAX_FDS + 1];

	/* Lift everything above the final numbers first, so that dup2 cannot clobber one. */
	for (int i = 0; i < n_fds; i++)
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
	high[n_fds] = fcntl(self_fd, F_DUPFD_CLOEXEC, HIGH_FD);
	for (int i = 0; i < n_fds; i++)
		if (high[i] < 0 || dup2(high[i], 3 + i) < 0)
			_exit(111);
	if (dup3(high[n_fds], 3 + n_fds, O_CLOEXEC) < 0)
		_exit(111);
	close_from(3 + n_fds + 1);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	syscall(SYS_execveat, 3 + n_fds, "", argv, environ, AT_EMPTY_PATH);
	_exit(111);
}

pid_t self_spawn(int self_fd, char *const argv[], const int *fds, int n_fds, struct err *e)
{
	sigset_t all, old;
	pid_t pid;

	if (n_fds > MAX_FDS)
		return err_set(e, ERR_INTERNAL, 0, "self_spawn: %d descriptors", n_fds);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	pid = fork();
	if (pid == 0)
		child_main(self_fd, argv, fds, n_fds);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_set(e, ERR_SYS, errno, "fork");
	return pid;
}
