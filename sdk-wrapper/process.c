/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { ABOVE = 16 };	/* where descriptors wait while 0 to 5 are filled */

/* --- starting ---
 *
 * Twice what posix_spawn does once: a child on our memory with a stack of its own, while we
 * wait until it calls exec or ends.  So nothing is copied, the grandchild's failure is
 * simply written down, and the middle process is gone before we go on. */

enum { STACK = 32 * 1024 };

struct start {
	const struct process_spec *spec;
	int fds[6];		/* what becomes 0 to 5; at least ABOVE, or -1 */
	volatile pid_t pid;
	volatile int failed;	/* errno of the grandchild */
	_Alignas(16) char stacks[2][STACK];
};

/* AddressSanitizer knows one stack a thread. */
#define ON_ANOTHER_STACK __attribute__((noreturn, no_sanitize_address))

static pid_t clone_on(char *stack, int (*run)(void *), struct start *s)
{
	return clone(run, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, s);
}

static void close_above(int last)
{
	if (syscall(SYS_close_range, last + 1, ~0U, 0) == 0)
		return;
	for (int fd = last + 1; fd < 4096; fd++)
		close(fd);
}

/* In the grandchild: only async-signal-safe calls, and no change to what we share. */
ON_ANOTHER_STACK static int become(void *arg)
{
	struct start *s = arg;
	int last = 2;
	sigset_t none;

	setsid();
	for (int i = 0; i < (int)ARRAY_LEN(s->fds); i++) {
		if (s->fds[i] < 0)
			continue;
		if (dup2(s->fds[i], i) < 0)	/* leaves it open across exec */
			goto fail;
		last = i;
	}
	close_above(last);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(s->spec->path, s->spec->argv, s->spec->envp);
fail:
	s->failed = errno;
	_exit(127);
}

/* The middle process, which leaves its child to init. */
ON_ANOTHER_STACK static int middle(void *arg)
{
	struct start *s = arg;

	setsid();
	s->pid = clone_on(s->stacks[1], become, s);
	if (s->pid < 0)
		s->failed = errno;
	_exit(0);
}

static int start_and_wait(struct start *s)
{
	sigset_t all, before;
	pid_t pid;

	/* A handler of ours must not run in a child on our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone_on(s->stacks[0], middle, s);
	if (pid < 0)
		s->failed = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	/* Someone else's handler may have reaped it first: that is fine too. */
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return s->failed ? -1 : 0;
}

/* A copy of fd out of the way of 0 to 5; -1 stays -1. */
static int lift(int fd, int *ret)
{
	*ret = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, ABOVE);
	return fd >= 0 && *ret < 0 ? -1 : 0;
}

pid_t process_start(const struct process_spec *spec, struct err *e)
{
	auto_free struct start *s = calloc(1, sizeof(*s));
	auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int out = spec->out_fd < 0 ? null : spec->out_fd;
	int r = -1;

	if (!s)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", spec->path);
	s->spec = spec;
	memset(s->fds, -1, sizeof(s->fds));
	if (null < 0 || lift(null, &s->fds[0]) < 0 || lift(out, &s->fds[1]) < 0 ||
	    lift(out, &s->fds[2]) < 0 || lift(spec->pass[0], &s->fds[3]) < 0 ||
	    lift(spec->pass[1], &s->fds[4]) < 0 || lift(spec->pass[2], &s->fds[5]) < 0) {
		err_set(e, ERR_SYS, errno, "%s: descriptors", spec->path);
		goto out;
	}
	r = start_and_wait(s);
	if (r < 0)
		err_set(e, s->failed == ENOENT ? ERR_NOT_FOUND : ERR_SYS, s->failed, "%s",
			spec->path);
out:
	for (int i = 0; i < (int)ARRAY_LEN(s->fds); i++)
		close_fd(&s->fds[i]);
	return r < 0 ? -1 : s->pid;
}

/* --- finding --- */

bool process_info(pid_t pid, struct process_info *ret)
{
	char path[32], text[1024];
	auto_close int fd = -1;
	unsigned long long start;
	const char *from, *to;
	ssize_t n;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (pid <= 0 || fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = 0;
	/* The name may hold anything, also ")": the last one ends it. */
	from = strchr(text, '(');
	to = strrchr(text, ')');
	if (!from || !to || to - from > (ssize_t)sizeof(ret->name))
		return false;
	if (sscanf(to + 1,
		   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%llu",
		   &ret->state, &parent, &start) != 3)
		return false;
	ret->parent = parent;
	ret->start = start;
	memcpy(ret->name, from + 1, (size_t)(to - from - 1));
	ret->name[to - from - 1] = 0;
	return true;
}

static bool is_living(const struct process_info *i)
{
	return i->state != 'Z' && i->state != 'X';
}

bool process_alive(pid_t pid, uint64_t start)
{
	struct process_info i;

	return process_info(pid, &i) && i.start == start && is_living(&i);
}

bool process_open(struct process *p, pid_t pid, uint64_t start)
{
	*p = (struct process){ .pid = pid, .start = start };
	/* First the descriptor, then the look: so it is the one we looked at. */
	p->fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (process_alive(pid, start))
		return true;
	process_close(p);
	return false;
}

void process_close(struct process *p)
{
	close_fd(&p->fd);
}

int process_signal(const struct process *p, int sig)
{
	if (p->fd >= 0)
		return (int)syscall(SYS_pidfd_send_signal, p->fd, sig, NULL, 0);
	return process_alive(p->pid, p->start) ? kill(p->pid, sig) : -1;
}

bool process_wait(const struct process *p, int64_t wait_us)
{
	struct pollfd fd = { .fd = p->fd, .events = POLLIN };
	struct timespec t = { wait_us / 1000000, wait_us % 1000000 * 1000 };

	if (p->fd >= 0)
		return ppoll(&fd, 1, &t, NULL) > 0;
	for (; wait_us > 0 && process_alive(p->pid, p->start); wait_us -= 1000)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	return !process_alive(p->pid, p->start);
}

struct pair {
	pid_t pid, parent;
};

/* All living processes of this /proc; the caller frees. */
static struct pair *list_all(size_t *ret_n)
{
	auto_closedir DIR *d = opendir("/proc");
	struct pair *all = NULL;
	size_t n = 0, cap = 0;
	struct dirent *ent;

	while (d && (ent = readdir(d))) {
		char *end;
		long pid = strtol(ent->d_name, &end, 10);
		struct process_info i;

		if (*end || pid <= 0 || !process_info((pid_t)pid, &i) || !is_living(&i))
			continue;
		if (n == cap) {
			struct pair *grown =
				realloc(all, (cap = cap ? 2 * cap : 256) * sizeof(*all));

			if (!grown)
				break;
			all = grown;
		}
		all[n++] = (struct pair){ (pid_t)pid, i.parent };
	}
	*ret_n = n;
	return all;
}

/* Is one of the arguments in text, each with its NUL, the one that is looked for, and the program
 * that of the name? */
static bool was_started_as(const char *text, size_t n, const char *program, const char *argument)
{
	const char *slash = memrchr(text, '/', strnlen(text, n));

	if (strcmp(slash ? slash + 1 : text, program) != 0)
		return false;
	for (size_t at = 0; at < n; at += strlen(text + at) + 1)
		if (strcmp(text + at, argument) == 0)
			return true;
	return false;
}

size_t process_with_argument(const char *program, const char *argument, pid_t *ret, size_t max)
{
	size_t n_all, n = 0;
	auto_free struct pair *all = list_all(&n_all);
	char path[32], text[4096];

	for (size_t i = 0; all && i < n_all; i++) {
		auto_close int fd = -1;
		ssize_t got;

		snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)all[i].pid);
		fd = all[i].pid == getpid() ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (got <= 0)
			continue;
		text[got] = 0;
		if (!was_started_as(text, (size_t)got, program, argument))
			continue;
		if (n < max)
			ret[n] = all[i].pid;
		n++;
	}
	return n;
}

/* Its words, as far as they fit; 0: they are not to be had, or not ours. */
static size_t read_words(pid_t pid, char *text, size_t size, const char **argv, size_t max)
{
	auto_close int fd = -1;
	char path[32];
	struct stat st;
	ssize_t got;
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = pid == getpid() ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid())
		return 0;
	got = read(fd, text, size - 1);
	if (got <= 0)
		return 0;
	text[got] = 0;
	for (ssize_t at = 0; at < got && n < max - 1; at += (ssize_t)strlen(text + at) + 1)
		argv[n++] = text + at;
	argv[n] = NULL;
	return n;
}

void process_each_with_option(const char *option,
			      void (*found)(void *user, pid_t pid, uint64_t start,
					    const char *const *argv, size_t n),
			      void *user)
{
	size_t n_all;
	auto_free struct pair *all = list_all(&n_all);
	const char *argv[64];
	char text[4096];

	for (size_t i = 0; all && i < n_all; i++) {
		size_t n = read_words(all[i].pid, text, sizeof(text), argv, ARRAY_LEN(argv));
		struct process_info info;
		bool has = false;

		for (size_t k = 1; k < n && !has; k++)
			has = strcmp(argv[k], option) == 0;
		if (has && process_info(all[i].pid, &info))
			found(user, all[i].pid, info.start, argv, n);
	}
}

size_t process_descendants(pid_t pid, pid_t *ret, size_t max)
{
	size_t n_all, n = 0, before;
	auto_free struct pair *all = list_all(&n_all);
	auto_free bool *ours = calloc(n_all + 1, sizeof(*ours));

	if (!all || !ours)
		return 0;
	do {	/* until no process has one of ours as its parent any more */
		before = n;
		for (size_t i = 0; i < n_all; i++) {
			bool is = all[i].parent == pid;

			for (size_t k = 0; k < n_all && !is && !ours[i]; k++)
				is = ours[k] && all[k].pid == all[i].parent;
			if (!is || ours[i])
				continue;
			ours[i] = true;
			if (n < max)
				ret[n] = all[i].pid;
			n++;
		}
	} while (n > before);
	return n;
}
