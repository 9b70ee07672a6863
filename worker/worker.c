/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "worker/conn.h"
#include "worker/session.h"
#include "worker/step.h"
#include "worker/scratch.h"
#include "worker/store.h"
#include "worker/supervisor.h"
#include "worker/upload.h"
#include "worker/ws.h"

#define BEAT_MS 2000
#define QUIT_MS 500 /* how long a client may take to hear that it is over */

struct running {
	struct worker w;
	struct ws_server *ws;
	struct loop_io store_io, lifeline_io;
	struct loop_timer beat, quit;
	struct loop_signal on_chld, on_term;
	uint8_t message[STORE_MESSAGE_MAX];
	bool stop;
};

static struct running *of(struct worker *w)
{
	return (struct running *)w; /* first member */
}

long worker_rss_kb(void)
{
	char text[64];
	auto_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long size, resident;

	if (n <= 0)
		return -1;
	text[n] = 0;
	if (sscanf(text, "%ld %ld", &size, &resident) != 2)
		return -1;
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void say_quit(struct loop_timer *t)
{
	store_send(((struct running *)((char *)t - offsetof(struct running, quit)))->w.store_fd,
	           STORE_QUIT, NULL, NULL, 0, -1, NULL);
}

/* Clients are told first: the supervisor ends us as soon as it hears. */
void worker_quit(struct worker *w)
{
	if (w->quitting)
		return;
	w->quitting = true;
	for (struct conn *c = w->conns; c; c = c->next)
		conn_close(c, CLOSE_AWAY, "the worker shuts down");
	loop_timer_start(w->loop, &of(w)->quit, w->n_conns ? QUIT_MS : 0, say_quit, NULL);
}

void worker_conn_gone(struct worker *w)
{
	if (w->quitting && !w->n_conns)
		loop_timer_start(w->loop, &of(w)->quit, 0, say_quit, NULL);
}

void worker_drain(struct worker *w, int grace_ms)
{
	if (w->draining)
		return;
	w->draining = true;
	log_info("draining: no new sessions or steps");
	ws_server_stop_accepting(of(w)->ws);
	for (struct session *s = w->sessions, *next; s; s = next) {
		next = s->next;
		if (!s->closing)
			session_close(s, NULL, "shutdown", grace_ms);
	}
	if (!w->sessions)
		worker_quit(w);
}

/* ---- supervisor ---- */

void worker_read_store(struct worker *w)
{
	struct running *r = of(w);
	struct store_message m;
	int n;

	while ((n = store_receive(w->store_fd, r->message, sizeof(r->message), false, &m, NULL)) >
	       0) {
		if (m.type == STORE_TERM)
			worker_drain(w, CLOSE_GRACE_MS);
		else if (m.type == STORE_SPARE)
			spare_arrived(w, &m);
		close_fd(&m.fd);
	}
	if (n < 0)
		r->stop = true;
}

static void on_store(struct loop_io *io, unsigned got)
{
	struct running *r = (struct running *)((char *)io - offsetof(struct running, store_io));

	(void)got;
	worker_read_store(&r->w);
}

/* Without a supervisor nobody could adopt the keepers: everything ends. */
static void on_lifeline(struct loop_io *io, unsigned got)
{
	struct running *r = (struct running *)((char *)io - offsetof(struct running, lifeline_io));

	(void)got;
	log_info("the supervisor is gone: ending");
	r->stop = true;
}

static void on_beat(struct loop_timer *t)
{
	struct running *r = (struct running *)((char *)t - offsetof(struct running, beat));

	store_send(r->w.store_fd, STORE_BEAT, NULL, NULL, 0, -1, NULL);
	for (struct session *s = r->w.sessions; s; s = s->next)
		step_watch_all(s);
	loop_timer_start(r->w.loop, &r->beat, BEAT_MS, on_beat, NULL);
}

static void on_child(struct loop_signal *sig)
{
	struct running *r = (struct running *)((char *)sig - offsetof(struct running, on_chld));
	int status;
	pid_t pid;

	/* Keepers are known by their sockets; only reaping them is due here. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		upload_on_child(&r->w, pid, status);
}

static void on_terminate(struct loop_signal *sig)
{
	((struct running *)((char *)sig - offsetof(struct running, on_term)))->stop = true;
}

/* Everything that the store holds, then the steps: only after that requests are served. */
static int restore(struct running *r, struct err *e)
{
	const struct timeval wait = { 5, 0 };
	struct store_message m;

	setsockopt(r->w.store_fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	for (;;) {
		struct err bad = ERR_INIT;

		if (store_receive(r->w.store_fd, r->message, sizeof(r->message), true, &m, e) <= 0)
			return err_set(e, ERR_LOST, 0,
			               "the supervisor did not hand over its store");
		if (m.type == STORE_END)
			break;
		if (m.type != STORE_PUT)
			continue;
		if (strncmp(m.name, "keeper/", 7) == 0 && m.fd >= 0)
			step_keep_socket((pid_t)strtol(m.name + 7, NULL, 10),
			                 (const char *)m.data, m.len, take_fd(&m.fd));
		else if (strncmp(m.name, "session/", 8) == 0 &&
		         session_restore(&r->w, m.data, m.len, &bad) < 0)
			log_error("%s: %s", m.name, bad.msg);
		else if (strcmp(m.name, SCRATCH_ENTRY) == 0)
			buf_put(&r->w.scratch_known, m.data, m.len, NULL);
		close_fd(&m.fd);
	}
	wipe(r->message, sizeof(r->message));
	for (struct session *s = r->w.sessions; s; s = s->next)
		session_recover_steps(s);
	step_drop_sockets(&r->w);
	return 0;
}

static bool is_healthy(void *arg)
{
	return !((struct worker *)arg)->draining;
}

static int set_up(struct running *r, struct worker_options *o, struct err *e)
{
	const struct ws_server_hooks hooks = { &r->w, conn_open, is_healthy, o->heartbeat_ms };
	uint8_t token[SHA256_LEN];

	r->w.o = o;
	r->w.store_fd = WORKER_STORE_FD;
	r->w.self_fd = WORKER_SELF_FD;
	buf_init(&r->w.scratch_known, SCRATCH_KNOWN_MAX);
	r->w.started_ns = now_ns();
	r->w.sealed = fcntl(WORKER_SELF_FD, F_GET_SEALS) > 0;
	snprintf(r->w.id, sizeof(r->w.id), "%s/%lld", o->sandbox_id, (long long)o->generation);
	for (int fd = WORKER_STORE_FD; fd <= WORKER_SELF_FD; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	r->w.root_fd = open(o->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->w.root_fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", o->root);
	r->w.loop = loop_new(e);
	if (!r->w.loop ||
	    hex_decode(o->token_sha256, strlen(o->token_sha256), token, sizeof(token), e) < 0)
		return -1;
	if (loop_signal_start(r->w.loop, &r->on_chld, SIGCHLD, on_child, e) < 0 ||
	    loop_signal_start(r->w.loop, &r->on_term, SIGTERM, on_terminate, e) < 0 ||
	    restore(r, e) < 0 ||
	    loop_io_start(r->w.loop, &r->store_io, r->w.store_fd, LOOP_IN, on_store, e) < 0 ||
	    loop_io_start(r->w.loop, &r->lifeline_io, WORKER_LIFELINE_FD, LOOP_IN, on_lifeline, e) <
	            0)
		return -1;
	r->ws = ws_server_new(r->w.loop, WORKER_LISTEN_FD, token, &hooks, e);
	return r->ws ? 0 : -1;
}

/* musl gives a group of small blocks back to the kernel as soon as its last block is free, and
 * maps it again for the next: two system calls and a page fault for every request. One block that
 * stays in each class keeps the groups. */
static void pin_heap(void)
{
	for (size_t size = 16; size <= 16384; size += size < 256 ? 16 : size / 8) {
		void *stays = malloc(size), *a = malloc(size), *b = malloc(size);

		free(a);
		free(b);
		if (!stays)
			return;
	}
}

int worker_main(struct worker_options *o)
{
	struct running *r = calloc(1, sizeof(*r));
	struct err e = ERR_INIT;

	signal(SIGPIPE, SIG_IGN);
	pin_heap();
	if (!r || set_up(r, o, &e) < 0) {
		log_error("worker: %s", e.msg);
		return WORKER_REFUSED;
	}
	on_beat(&r->beat);
	log_info("worker %s serves", r->w.id);
	while (!r->stop)
		if (ws_server_pass(r->ws) < 0)
			break;
	return WORKER_DONE;
}
