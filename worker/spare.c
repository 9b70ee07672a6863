/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/spare.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
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

/* One that has died has closed its end. */
static bool is_waiting(const struct spare *s)
{
	char nothing;

	return s->pid && recv(s->fd, &nothing, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void forget(struct spare *s)
{
	if (s->pid)
		close_fd(&s->fd);
	s->pid = 0;
}

pid_t spare_take(struct worker *w, int *fd, struct err *e)
{
	pid_t pid;

	if (!w->spare.pid && w->spare.asked)
		worker_read_store(w); /* it may be here already */
	if (!is_waiting(&w->spare)) {
		forget(&w->spare);
		return keeper_spawn(w->self_fd, WORKER_LIFELINE_FD, w->o->sandbox_id, fd, e);
	}
	pid = w->spare.pid;
	*fd = take_fd(&w->spare.fd);
	w->spare.pid = 0;
	return pid;
}

void spare_refill(struct worker *w)
{
	if (!w->spare.pid && !w->spare.asked && !w->draining)
		w->spare.asked =
			store_send(w->store_fd, STORE_SPARE, NULL, NULL, 0, -1, NULL) == 0;
}

void spare_drop(struct worker *w)
{
	forget(&w->spare);
}

void spare_arrived(struct worker *w, struct store_message *m)
{
	w->spare.asked = false;
	forget(&w->spare);
	/* It came too late: not taken, it ends. */
	if (!w->sessions || m->fd < 0 || !m->len || m->data[m->len - 1] != 0)
		return;
	w->spare.pid = (pid_t)strtol((const char *)m->data, NULL, 10);
	w->spare.fd = take_fd(&m->fd);
}
