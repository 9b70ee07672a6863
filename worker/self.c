/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/self.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "worker/child.h"

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

struct start {
	int self_fd;
	char *const *argv;
	const int *fds;
	int n_fds;
	int sys; /* why it did not come to exec; 0: it did */
};

IN_CHILD static int put_descriptors(const struct start *s)
{
	int high[MAX_FDS + 1];
	int self = 3 + s->n_fds;

	/* Lift everything above the final numbers first, so that dup2 cannot clobber one. */
	for (int i = 0; i < s->n_fds; i++)
		high[i] = fcntl(s->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
	high[s->n_fds] = fcntl(s->self_fd, F_DUPFD_CLOEXEC, HIGH_FD);
	for (int i = 0; i < s->n_fds; i++)
		if (high[i] < 0 || dup2(high[i], 3 + i) < 0)
			return -1;
	if (dup3(high[s->n_fds], self, O_CLOEXEC) < 0)
		return -1;
	return child_close_on_exec(self);
}

IN_CHILD static int child_main(void *arg)
{
	struct start *s = arg;

	if (put_descriptors(s) == 0) {
		child_reset_signals();
		syscall(SYS_execveat, 3 + s->n_fds, "", s->argv, environ, AT_EMPTY_PATH);
	}
	s->sys = errno;
	_exit(111);
}

pid_t self_spawn(int self_fd, char *const argv[], const int *fds, int n_fds, struct err *e)
{
	struct start s = { self_fd, argv, fds, n_fds, 0 };
	pid_t pid;

	if (n_fds > MAX_FDS)
		return err_set(e, ERR_INTERNAL, 0, "self_spawn: %d descriptors", n_fds);
	pid = run_child(child_main, &s);
	if (pid < 0)
		return err_set(e, ERR_SYS, errno, "fork");
	if (!s.sys)
		return pid;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return err_set(e, ERR_SYS, s.sys, "%s", argv[0]);
}
