/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/envd_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

enum { EXIT_NOT_FOUND = 127, EXIT_NOT_EXECUTABLE = 126, OOM_SCORE = 100 };

/* What the child is to have as 0, 1 and 2, and what we keep. */
struct stdio {
	int child[3], ours[3];
	int report[2];		/* errno of what fails before exec */
	char tty[64];		/* path of the terminal; "" for pipes */
};

/* --- the child's half --- */

static void become(const struct user *u)
{
	/* In a user namespace of one user there is nobody else to become. */
	if (getegid() != u->gid)
		(void)!setgid(u->gid);
	if (geteuid() != u->uid)
		(void)!setuid(u->uid);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void set_oom_score(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	dprintf(fd, "%d", OOM_SCORE);
	close(fd);
}

static int take_tty(struct stdio *s)
{
	int fd;

	if (setsid() < 0)
		return -1;
	fd = open(s->tty, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TIOCSCTTY, 0) < 0)
		return -1;
	for (int i = 0; i < 3; i++)
		s->child[i] = fd;
	return 0;
}

/* The real one runs commands by way of /bin/sh and nice, so a missing program is nice's news. */
static void __attribute__((noreturn)) exec_or_say_why(const struct proc_spec *spec)
{
	execvp(spec->argv[0], spec->argv);
	dprintf(STDERR_FILENO, "/usr/bin/nice: '%s': %s\n", spec->argv[0], strerror(errno));
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

static void __attribute__((noreturn)) child_main(const struct proc_spec *spec, struct stdio *s)
{
	int sys;

	reset_signals();
	set_oom_score();
	if (spec->fd_limit.rlim_cur)
		setrlimit(RLIMIT_NOFILE, &spec->fd_limit);
	if (*s->tty && take_tty(s) < 0)
		goto fail;
	become(spec->user);
	if (chdir(spec->cwd) < 0)
		goto fail;
	/* None of ours is below 3: those are open from the start. */
	for (int i = 0; i < 3; i++)
		if (dup2(s->child[i], i) < 0)
			goto fail;
	environ = (char **)spec->envp;
	exec_or_say_why(spec);
fail:
	sys = errno;
	(void)!write(s->report[1], &sys, sizeof(sys));
	_exit(EXIT_NOT_FOUND);
}

/* --- our half --- */

static void close_all(struct stdio *s)
{
	for (int i = 0; i < 3; i++) {
		close_fd(&s->child[i]);
		close_fd(&s->ours[i]);
	}
	close_fd(&s->report[0]);
	close_fd(&s->report[1]);
}

static int make_pipe(int *read_end, int *write_end, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SPAWN, errno, "pipe");
	*read_end = p[0];
	*write_end = p[1];
	return 0;
}

static int make_pipes(const struct proc_spec *spec, struct stdio *s, struct err *e)
{
	if (spec->has_stdin && make_pipe(&s->child[0], &s->ours[0], e) < 0)
		return -1;
	if (!spec->has_stdin)
		s->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->child[0] < 0)
		return err_set(e, ERR_SPAWN, errno, "/dev/null");
	if (make_pipe(&s->ours[1], &s->child[1], e) < 0)
		return -1;
	return make_pipe(&s->ours[2], &s->child[2], e);
}

static int make_tty(const struct proc_spec *spec, struct stdio *s, struct err *e)
{
	struct winsize size = { .ws_row = (unsigned short)spec->rows,
				.ws_col = (unsigned short)spec->cols };
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	s->ours[1] = fd;
	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, s->tty, sizeof(s->tty)) != 0 || ioctl(fd, TIOCSWINSZ, &size) < 0)
		return err_set(e, ERR_SPAWN, errno, "pty");
	s->ours[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return s->ours[0] < 0 ? err_set(e, ERR_SPAWN, errno, "pty") : 0;
}

/* Waits until the child has reached exec, or knows why it will not. */
static int wait_for_exec(pid_t pid, struct stdio *s, const struct proc_spec *spec, struct err *e)
{
	int sys;
	ssize_t n;

	close_fd(&s->report[1]);
	do
		n = read(s->report[0], &sys, sizeof(sys));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(sys))
		return 0;
	waitpid(pid, NULL, 0);
	return err_set(e, ERR_SPAWN, sys, "error starting process '%s' in '%s'", spec->argv[0],
		       spec->cwd);
}

static int fork_it(const struct proc_spec *spec, struct stdio *s, struct spawned *ret,
		   struct err *e)
{
	pid_t pid = fork();

	if (pid == 0)
		child_main(spec, s);
	if (pid < 0)
		return err_set(e, ERR_SPAWN, errno, "fork");
	for (int i = 0; i < 3; i++)
		close_fd(&s->child[i]);
	if (wait_for_exec(pid, s, spec, e) < 0)
		return -1;
	for (int i = 0; i < 3; i++)
		if (s->ours[i] >= 0)
			fs_nonblock(s->ours[i], true);
	*ret = (struct spawned){ pid, take_fd(&s->ours[0]), take_fd(&s->ours[1]),
				 take_fd(&s->ours[2]) };
	return 0;
}

int envd_spawn(const struct proc_spec *spec, struct spawned *ret, struct err *e)
{
	struct stdio s = { { -1, -1, -1 }, { -1, -1, -1 }, { -1, -1 }, "" };
	int r = spec->pty ? make_tty(spec, &s, e) : make_pipes(spec, &s, e);

	if (r == 0)
		r = make_pipe(&s.report[0], &s.report[1], e);
	if (r == 0)
		r = fork_it(spec, &s, ret, e);
	close_all(&s);
	return r;
}
