/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/spare.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "worker/keeper.h"
#include "worker/self.h"
#include "worker/store.h"
#include "worker/supervisor.h"
#include "worker/worker.h"

pid_t keeper_spawn(int self_fd, int lifeline_fd, const char *sandbox_id, int *fd, struct err *e)
{
	/* The id is for whoever ends the sandbox, to find it by when the supervisor is gone. */
	char *const argv[] = { (char *)"farstep-worker",
		               (char *)"--role",
		               (char *)"keeper",
		               (char *)"--sandbox-id",
		               (char *)(uintptr_t)sandbox_id,
		               NULL };
	auto_close int ours = -1;
	auto_close int theirs = -1;
	int pair[2], fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_set(e, ERR_SYS, errno, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	fds[0] = theirs;
	fds[1] = lifeline_fd;
	pid = self_spawn(self_fd, argv, fds, 2, e);
	if (pid > 0)
		*fd = take_fd(&ours);
	return pid;
}

int keeper_store(struct worker *w, struct keeper_ref *k, const char *what, struct err *e)
{
	char name[32];

	snprintf(name, sizeof(name), "keeper/%d", (int)k->pid);
	if (store_send(w->store_fd, STORE_PUT, name, what, strlen(what) + 1,
	               k->stored ? -1 : k->fd, e) < 0)
		return -1;
	k->stored = true;
	return 0;
}

void keeper_forget(struct worker *w, pid_t pid)
{
	char name[32];

	snprintf(name, sizeof(name), "keeper/%d", (int)pid);
	store_send(w->store_fd, STORE_DEL, name, NULL, 0, -1, NULL);
}

void keeper_drop(struct worker *w, struct keeper_ref *k)
{
	close_fd(&k->fd);
	if (k->stored)
		keeper_forget(w, k->pid);
	k->stored = false;
}

/* One that has died has closed its end.  What it still had to say was for the step before. */
static bool is_waiting(int fd)
{
	struct keeper_state late;
	ssize_t n;

	do
		n = recv(fd, &late, sizeof(late), MSG_DONTWAIT);
	while (n > 0);
	return n < 0 && errno == EAGAIN;
}

void spare_give(struct worker *w, struct keeper_ref *k)
{
	struct spare *s = &w->spare;

	if (s->n == SPARE_MAX || !w->sessions)
		keeper_drop(w, k);
	else
		s->idle[s->n++] = *k;
}

int spare_take(struct worker *w, struct keeper_ref *ret, struct err *e)
{
	struct spare *s = &w->spare;

	if (!s->n && s->asked)
		worker_read_store(w); /* it may be here already */
	while (s->n) {
		*ret = s->idle[--s->n];
		if (is_waiting(ret->fd))
			return 0;
		keeper_drop(w, ret);
	}
	ret->stored = false;
	ret->pid = keeper_spawn(w->self_fd, WORKER_LIFELINE_FD, w->o->sandbox_id, &ret->fd, e);
	return ret->pid < 0 ? -1 : 0;
}

void spare_refill(struct worker *w)
{
	if (!w->spare.n && !w->spare.asked && !w->draining)
		w->spare.asked =
			store_send(w->store_fd, STORE_SPARE, NULL, NULL, 0, -1, NULL) == 0;
}

void spare_drop(struct worker *w)
{
	while (w->spare.n)
		keeper_drop(w, &w->spare.idle[--w->spare.n]);
}

void spare_arrived(struct worker *w, struct store_message *m)
{
	struct spare *s = &w->spare;
	struct keeper_ref k;

	s->asked = false;
	/* It came too late: not taken, it ends. */
	if (!w->sessions || m->fd < 0 || !m->len || m->data[m->len - 1] != 0)
		return;
	k = (struct keeper_ref){ (pid_t)strtol((const char *)m->data, NULL, 10), take_fd(&m->fd),
		                 false };
	if (s->n == SPARE_MAX) {
		keeper_drop(w, &k);
		return;
	}
	/* Behind those that have worked: its memory is cold. */
	memmove(s->idle + 1, s->idle, (size_t)s->n++ * sizeof(s->idle[0]));
	s->idle[0] = k;
}
