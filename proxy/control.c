/* SPDX-License-Identifier: Apache-2.0
 *
 * A run's control socket: one JSON line in, one JSON line out, one connection a request.
 *   {"do":"status"}   the object of status.json
 *   {"do":"cancel","step":"ID"?}   cancels a step, or the run */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "proxy/run.h"
#include "proxy/userkey.h"

#define REQUEST_MAX 4096
#define ANSWER_MAX  (64 * 1024 * 1024)

struct control {
	struct run *run;
	int fd;
	struct loop_io io;
	struct sockaddr_un at;
};

static int address(struct sockaddr_un *a, const char *run, struct err *e)
{
	char base[256];

	if (runtime_dir(base, e) < 0)
		return -1;
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	if ((size_t)snprintf(a->sun_path, sizeof(a->sun_path), "%.80s/%s.s", base, run) >=
	    sizeof(a->sun_path))
		return err_set(e, ERR_LIMIT, 0, "the path of the runtime directory is too long");
	return 0;
}

static void cancel(struct run *r, const json *v, struct buf *out)
{
	const char *step = json_string(json_get(v, "step"));
	struct err e = ERR_INIT;

	if (step) {
		buf_printf(out, NULL, "{\"cancelled\":%s}",
		           run_step_cancel(r, step) ? "true" : "false");
		return;
	}
	buf_printf(out, NULL, "{\"cancelled\":%s}", r->stopping ? "false" : "true");
	err_set(&e, ERR_CANCELLED, 0, "cancelled by farstep cancel");
	run_stop(r, &e);
}

static void answer(struct control *c, int fd)
{
	char request[REQUEST_MAX];
	ssize_t n = recv(fd, request, sizeof(request), 0);
	json *v = n > 0 ? json_parse(request,
	                             strcspn(request, "\n") < (size_t)n ? strcspn(request, "\n")
	                                                                : (size_t)n,
	                             REQUEST_MAX, 4, NULL)
	                : NULL;
	const char *what = json_string(json_get(v, "do"));
	struct buf out;

	buf_init(&out, ANSWER_MAX);
	if (what && strcmp(what, "status") == 0)
		run_status_print(c->run, true, &out, NULL);
	else if (what && strcmp(what, "cancel") == 0)
		cancel(c->run, v, &out);
	else
		buf_puts(&out, "{\"error\":\"want do: status or cancel\"}", NULL);
	buf_putc(&out, '\n', NULL);
	fs_write_all(fd, buf_data(&out), buf_len(&out), NULL);
	buf_release(&out);
	json_free(v);
}

static void on_connection(struct loop_io *io, unsigned got)
{
	struct control *c = (struct control *)((char *)io - offsetof(struct control, io));
	const struct timeval wait = { 0, 200000 }; /* a local peer has its line ready */
	auto_close int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)got;
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	answer(c, fd);
}

struct control *control_open(struct run *r, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	mode_t mask;
	int bound;

	if (!c) {
		err_set(e, ERR_NO_MEMORY, 0, "control socket");
		return NULL;
	}
	c->run = r;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		err_set(e, ERR_SYS, errno, "control socket");
	if (c->fd < 0 || address(&c->at, r->run, e) < 0) {
		control_close(c);
		return NULL;
	}
	unlink(c->at.sun_path); /* the run directory's lock says that it is ours */
	mask = umask(077);
	bound = bind(c->fd, (struct sockaddr *)&c->at, sizeof(c->at));
	umask(mask);
	if (bound < 0 || listen(c->fd, 8) < 0 ||
	    loop_io_start(r->loop, &c->io, c->fd, LOOP_IN, on_connection, e) < 0) {
		err_set(e, ERR_SYS, errno, "%s", c->at.sun_path);
		control_close(c);
		return NULL;
	}
	return c;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	loop_io_stop(&c->io);
	close_fd(&c->fd);
	/* After a take-over the path is another's. */
	if (c->at.sun_path[0] && !c->run->taken_over)
		unlink(c->at.sun_path);
	free(c);
}

void control_forget(const struct run *r)
{
	struct sockaddr_un a;

	if (address(&a, r->run, NULL) == 0)
		unlink(a.sun_path);
}

int control_ask(const char *run, const char *request, struct buf *out, struct err *e)
{
	const struct timeval wait = { 5, 0 };
	struct sockaddr_un a;
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t n;

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "control socket");
	if (address(&a, run, e) < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	/* A proxy that is stopped lets nobody in, and connect() waits as a send does. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return errno == EAGAIN ? err_set(e, ERR_DEADLINE, 0,
		                                 "run %s: its proxy does not answer", run)
		                       : err_set(e, ERR_NOT_FOUND, 0,
		                                 "run %s has no living proxy", run);
	if (fs_write_all(fd, request, strlen(request), e) < 0)
		return -1;
	do {
		uint8_t *at = buf_reserve(out, 65536, e);

		if (!at)
			return -1;
		n = recv(fd, at, 65536, 0);
		if (n > 0)
			buf_commit(out, (size_t)n);
	} while (n > 0);
	return n < 0 ? err_set(e, ERR_DEADLINE, errno, "run %s: its proxy does not answer", run)
	             : 0;
}
