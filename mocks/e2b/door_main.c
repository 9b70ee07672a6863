/* SPDX-License-Identifier: Apache-2.0
 *
 * The door's inner side: process 1 of a sandbox. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mocks/e2b/box.h"
#include "mocks/e2b/door.h"
#include "mocks/e2b/door_wire.h"
#include "mocks/e2b/envd.h"
#include "protocol/base/cleanup.h"

enum {
	CONNECT_MS = 20,	/* loopback answers at once; a full backlog does not */
	PIDS_MAX = 4096,	/* thawed in order; what is above goes on with the rest */
};

/* Its socket listens before it runs, so that whoever connects from now on is served. */
static int listen_for_envd(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(ENVD_PORT) };
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	any.sin_addr.s_addr = htonl(INADDR_ANY);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 512) < 0)
		return -1;
	return take_fd(&fd);
}

static pid_t start_envd(char *const *argv, int listen_fd)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid != 0)
		return pid;
	dup2(listen_fd, BOX_DOOR_FD);	/* that one is not for envd; nor does it close on exec */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	execv("/proc/self/exe", argv);
	perror("door: cannot start envd");
	_exit(127);
}

static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int dial(int family, const struct sockaddr *to, socklen_t len, int *ret_fd)
{
	auto_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t sys_len = sizeof(int);
	int sys = 0, on = 1;

	if (fd < 0)
		return errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, to, len) < 0 && errno != EINPROGRESS)
		return errno;
	if (poll(&p, 1, CONNECT_MS) <= 0)
		return ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &sys_len) < 0)
		return errno;
	if (sys == 0)
		*ret_fd = take_fd(&fd);
	return sys;
}

static int dial_port(unsigned port, int *ret_fd)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int sys;

	in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sys = dial(AF_INET, (struct sockaddr *)&in4, sizeof(in4), ret_fd);
	if (sys == ECONNREFUSED &&
	    dial(AF_INET6, (struct sockaddr *)&in6, sizeof(in6), ret_fd) == 0)
		return 0;
	return sys;
}

static int newest_first(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* Children before their parents: a shell that wakes first would see its jobs stopped. */
static void thaw_in_order(void)
{
	static pid_t pids[PIDS_MAX];
	auto_closedir DIR *d = opendir("/proc");
	struct dirent *ent;
	size_t n = 0;

	while (d && n < PIDS_MAX && (ent = readdir(d)))
		if (isdigit((unsigned char)ent->d_name[0])) {
			pids[n] = (pid_t)strtol(ent->d_name, NULL, 10);
			n += pids[n] > 1;
		}
	qsort(pids, n, sizeof(pids[0]), newest_first);
	for (size_t i = 0; i < n; i++)
		kill(pids[i], SIGCONT);
}

/* -1 is everybody but process 1 itself; nobody there at all is fine. */
static int freeze(bool stop)
{
	if (!stop)
		thaw_in_order();
	if (kill(-1, stop ? SIGSTOP : SIGCONT) < 0 && errno != ESRCH)
		return errno;
	return 0;
}

static void answer(int sys, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct door_answer a = { .sys = sys };
	struct iovec iov = { .iov_base = &a, .iov_len = sizeof(a) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c = &control.align;

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
		m.msg_control = control.room;
		m.msg_controllen = sizeof(control.room);
	}
	while (sendmsg(BOX_DOOR_FD, &m, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* False when there is nobody left to ask. */
static bool serve_one(void)
{
	struct door_question q;
	auto_close int fd = -1;
	ssize_t n;
	int sys;

	do
		n = recv(BOX_DOOR_FD, &q, sizeof(q), MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(q))
		return false;
	if (q.what == DOOR_CONNECT)
		sys = dial_port(q.port, &fd);
	else
		sys = freeze(q.what == DOOR_FREEZE);
	answer(sys, fd);
	return true;
}

int door_main(char *const *argv)
{
	struct signalfd_siginfo info[8];
	struct pollfd p[2] = { { .fd = BOX_DOOR_FD, .events = POLLIN }, { .events = POLLIN } };
	int listen_fd = listen_for_envd();
	sigset_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);	/* the socket tells as well */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	p[1].fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p[1].fd < 0 || listen_fd < 0 || start_envd(argv, listen_fd) < 0) {
		perror("door");
		return 1;
	}
	close(listen_fd);	/* a dead envd is a closed port */
	close(BOX_TOKEN_FD);
	for (;;) {
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return 1;
		}
		if (p[1].revents) {
			(void)!read(p[1].fd, info, sizeof(info));
			reap();
		}
		if (p[0].revents && !serve_one())
			return 0;
	}
}
