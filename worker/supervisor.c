/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/loop.h"
#include "worker/listen.h"
#include "worker/self.h"
#include "worker/spare.h"
#include "worker/scratch.h"
#include "worker/store.h"
#include "worker/tree.h"

/* a worker that says nothing for so long is stuck: it beats every 2 s */
#define BEAT_LOST_MS        12000
#define TERM_MS             12000 /* how long a graceful end may take */
#define END_MS              3000  /* how long keepers get to end their steps themselves */
#define RESPAWN_MAX         10    /* in RESPAWN_SPAN_NS: more is a crash loop */
#define RESPAWN_SPAN_NS     10000000000ULL
#define STORE_SOCKET_BUFFER (512 * 1024)

struct entry {
	struct entry *next;
	int fd;
	size_t len;
	uint8_t *data;
	char name[];
};

struct supervisor {
	struct worker_options *o;
	struct loop *loop;
	int self_fd, listen_fd, lifeline_rd, lifeline_wr, store_fd;
	bool made_root, ending, finished;
	int exit_code;
	pid_t worker;
	pid_t spare; /* a keeper that waits: in no entry yet */
	int64_t generation;
	uint64_t respawns[RESPAWN_MAX];
	struct entry *entries;
	size_t n_entries;
	struct loop_io store_io;
	struct loop_timer lease, beat, end;
	struct loop_signal on_term, on_int, on_chld;
	uint8_t message[STORE_MESSAGE_MAX];
};

/* One supervisor a process: signal handlers and children are the process's. */
static struct supervisor sup;

static void begin_end(int exit_code, const char *why);

/* ---- the store ---- */

static void entry_free(struct entry *n)
{
	if (n->fd >= 0)
		close(n->fd);
	wipe(n->data, n->len);
	free(n->data);
	free(n);
}

static struct entry **entry_find(const char *name)
{
	struct entry **at = &sup.entries;

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

static void entry_unlink(struct entry **at)
{
	struct entry *gone = *at;

	*at = gone->next;
	entry_free(gone);
	sup.n_entries--;
}

/* 0: it is no keeper's. */
static pid_t keeper_pid(const struct entry *n)
{
	return strncmp(n->name, "keeper/", 7) == 0 ? (pid_t)strtol(n->name + 7, NULL, 10) : 0;
}

/* A keeper that runs on when its session has ended is nobody's: the next sweep ends it. */
static void entry_delete(const char *name)
{
	struct entry **at = entry_find(name);
	char keepers[STORE_NAME_MAX + 1];
	size_t n;

	if (*at)
		entry_unlink(at);
	if (strncmp(name, "session/", 8) != 0)
		return;
	n = (size_t)snprintf(keepers, sizeof(keepers), "%s/", name + 8);
	for (at = &sup.entries; *at;)
		if (keeper_pid(*at) && (*at)->len > n && memcmp((*at)->data, keepers, n) == 0)
			entry_unlink(at);
		else
			at = &(*at)->next;
}

static void entry_put(struct store_message *m)
{
	struct entry **at = entry_find(m->name), *n = *at;
	uint8_t *data = malloc(m->len + 1);

	if (!n && data && sup.n_entries < STORE_ENTRIES_MAX) {
		n = calloc(1, sizeof(*n) + strlen(m->name) + 1);
		if (n) {
			strcpy(n->name, m->name); /* lint-ok: sized just above */
			n->fd = -1;
			*at = n;
			sup.n_entries++;
		}
	}
	if (!n || !data) {
		log_error("store: no room for '%s'", m->name);
		free(data);
		close_fd(&m->fd);
		return;
	}
	memcpy(data, m->data, m->len);
	wipe(n->data, n->len);
	free(n->data);
	n->data = data;
	n->len = m->len;
	if (m->fd >= 0) {
		close_fd(&n->fd);
		n->fd = m->fd;
	}
	if (keeper_pid(n) == sup.spare)
		sup.spare = 0; /* it has a step, and goes with that */
}

static int replay_entries(int sock, struct err *e)
{
	for (struct entry *n = sup.entries; n; n = n->next)
		if (store_send(sock, STORE_PUT, n->name, n->data, n->len, n->fd, e) < 0)
			return -1;
	return store_send(sock, STORE_END, NULL, NULL, 0, -1, e);
}

/* ---- the worker ---- */

static void on_lease(struct loop_timer *t)
{
	(void)t;
	begin_end(WORKER_DONE, "the lease lapsed");
}

static void on_beat_lost(struct loop_timer *t)
{
	(void)t;
	log_error("worker %d is stuck (no sign of life for %d ms): ending it", (int)sup.worker,
	          BEAT_LOST_MS);
	if (sup.worker > 0)
		kill(sup.worker, SIGKILL);
}

/* What a dead keeper left behind has become our child; our own are known. */
static void sweep(void)
{
	pid_t keep[2 + STORE_ENTRIES_MAX];
	size_t n = 0;

	if (sup.worker > 0)
		keep[n++] = sup.worker;
	if (sup.spare > 0)
		keep[n++] = sup.spare;
	for (struct entry *k = sup.entries; k; k = k->next)
		if (keeper_pid(k))
			keep[n++] = keeper_pid(k);
	tree_end(0, keep, n, END_MS, NULL);
}

/* The worker has a keeper started by us while it goes on; it takes the socket from there. */
static void start_spare(void)
{
	struct err e = ERR_INIT;
	auto_close int fd = -1;
	char text[16];
	pid_t pid = keeper_spawn(sup.self_fd, sup.lifeline_rd, sup.o->sandbox_id, &fd, &e);

	if (pid > 0)
		sup.spare = pid;
	else
		log_warn("no spare keeper: %s", e.msg);
	snprintf(text, sizeof(text), "%d", (int)(pid > 0 ? pid : 0));
	store_send(sup.store_fd, STORE_SPARE, NULL, text, strlen(text) + 1, fd, NULL);
}

static void on_store_message(struct store_message *m)
{
	uint32_t ms;

	switch (m->type) {
	case STORE_PUT:
		entry_put(m);
		return;
	case STORE_DEL:
		entry_delete(m->name);
		break;
	case STORE_LEASE:
		if (m->len != sizeof(ms))
			break;
		memcpy(&ms, m->data, sizeof(ms));
		if (ms)
			loop_timer_start(sup.loop, &sup.lease, ms, on_lease, NULL);
		else
			loop_timer_stop(&sup.lease);
		break;
	case STORE_BEAT:
		loop_timer_start(sup.loop, &sup.beat, BEAT_LOST_MS, on_beat_lost, NULL);
		break;
	case STORE_SWEEP:
		sweep();
		break;
	case STORE_SPARE:
		if (!sup.ending)
			start_spare();
		break;
	case STORE_QUIT:
		begin_end(WORKER_DONE, "done");
		break;
	case STORE_END:
	case STORE_TERM:
		break;
	}
	close_fd(&m->fd);
}

static void drain_store(void)
{
	struct store_message m;

	while (sup.store_fd >= 0 &&
	       store_receive(sup.store_fd, sup.message, sizeof(sup.message), false, &m, NULL) > 0)
		on_store_message(&m);
}

static void on_store_ready(struct loop_io *io, unsigned got)
{
	(void)io;
	drain_store();
	/* The worker's end is closed: its death follows as SIGCHLD. */
	if (got & LOOP_HUP)
		loop_io_stop(&sup.store_io);
}

static bool crash_loop(void)
{
	uint64_t *oldest = &sup.respawns[sup.generation % RESPAWN_MAX];
	bool yes = *oldest && now_ns() - *oldest < RESPAWN_SPAN_NS;

	*oldest = now_ns();
	return yes;
}

static int start_worker(struct err *e)
{
	const struct timeval wait = { 2, 0 };
	auto_close int mine = -1;
	auto_close int theirs = -1;
	char generation[24], sessions[24], heartbeat[24], level[4];
	int pair[2], size = STORE_SOCKET_BUFFER;
	int fds[4];
	char *argv[28];
	int n = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SYS, errno, "socketpair");
	mine = pair[0];
	theirs = pair[1];
	for (int i = 0; i < 2; i++) {
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(pair[i], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	}
	sup.generation++;
	snprintf(generation, sizeof(generation), "%lld", (long long)sup.generation);
	snprintf(sessions, sizeof(sessions), "%lld", (long long)sup.o->max_sessions);
	snprintf(level, sizeof(level), "%d", (int)sup.o->log_level);
	snprintf(heartbeat, sizeof(heartbeat), "%lld", (long long)sup.o->heartbeat_ms);
	argv[n++] = (char *)"farstep-worker";
	argv[n++] = (char *)"--role";
	argv[n++] = (char *)"worker";
	argv[n++] = (char *)"--generation";
	argv[n++] = generation;
	argv[n++] = (char *)"--token-sha256";
	argv[n++] = (char *)(uintptr_t)sup.o->token_sha256;
	argv[n++] = (char *)"--root";
	argv[n++] = (char *)(uintptr_t)sup.o->root;
	argv[n++] = (char *)"--sandbox-id";
	argv[n++] = (char *)(uintptr_t)sup.o->sandbox_id;
	argv[n++] = (char *)"--max-sessions";
	argv[n++] = sessions;
	argv[n++] = (char *)"--log-level";
	argv[n++] = level;
	argv[n++] = (char *)"--heartbeat";
	argv[n++] = heartbeat;
	if (sup.o->lease_ms)
		argv[n++] = (char *)"--leased";
	if (sup.o->scratch) {
		argv[n++] = (char *)"--scratch";
		argv[n++] = (char *)(uintptr_t)sup.o->scratch;
	}
	if (sup.o->once)
		argv[n++] = (char *)"--once";
	if (sup.o->log_json)
		argv[n++] = (char *)"--log-format=json";
	argv[n] = NULL;
	fds[0] = theirs;
	fds[1] = sup.lifeline_rd;
	fds[2] = sup.listen_fd;
	fds[3] = sup.self_fd;
	sup.worker = self_spawn(sup.self_fd, argv, fds, 4, e);
	if (sup.worker < 0)
		return -1;
	if (replay_entries(mine, e) < 0)
		log_warn("worker %d took no entries: %s", (int)sup.worker, e->msg);
	sup.store_fd = take_fd(&mine);
	loop_timer_start(sup.loop, &sup.beat, BEAT_LOST_MS, on_beat_lost, NULL);
	return loop_io_start(sup.loop, &sup.store_io, sup.store_fd, LOOP_IN, on_store_ready, e);
}

static void worker_died(int status)
{
	struct err e = ERR_INIT;

	/* What it said before it died still counts. */
	drain_store();
	loop_io_stop(&sup.store_io);
	loop_timer_stop(&sup.beat);
	close_fd(&sup.store_fd);
	sup.worker = 0;
	if (sup.ending)
		return;
	log_warn("worker ended (%s %d): starting another", WIFSIGNALED(status) ? "signal" : "code",
	         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (crash_loop())
		begin_end(WORKER_BUG, "the worker ends again and again");
	else if (start_worker(&e) < 0)
		begin_end(WORKER_REFUSED, e.msg);
}

static void on_child(struct loop_signal *s)
{
	int status;
	pid_t pid;

	(void)s;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == sup.worker)
			worker_died(status);
		else if (pid == sup.spare)
			sup.spare = 0;
	if (sup.ending && pid < 0 && errno == ECHILD)
		sup.finished = true;
}

/* ---- the end ---- */

static void on_end_due(struct loop_timer *t)
{
	(void)t;
	sup.finished = true;
}

/* Keepers see the lifeline close and end their steps; the worker gets a TERM; what is
 * still there after END_MS is ended by tree_end in finish(). */
static void begin_end(int exit_code, const char *why)
{
	if (sup.ending)
		return;
	log_info("ending: %s", why);
	sup.ending = true;
	sup.exit_code = exit_code;
	loop_timer_stop(&sup.lease);
	loop_timer_stop(&sup.beat);
	close_fd(&sup.lifeline_wr);
	if (sup.worker > 0)
		kill(sup.worker, SIGTERM);
	loop_timer_start(sup.loop, &sup.end, END_MS, on_end_due, NULL);
	/* Children that a dead worker left are ours too; if there is none, this is the end. */
	on_child(NULL);
}

static void on_terminate(struct loop_signal *s)
{
	if (sup.worker > 0 && store_send(sup.store_fd, STORE_TERM, NULL, NULL, 0, -1, NULL) == 0) {
		log_info("signal %d: shutting down", s->sig);
		loop_timer_start(sup.loop, &sup.lease, TERM_MS, on_lease, NULL);
	} else {
		begin_end(WORKER_DONE, "told to stop");
	}
}

static void finish(void)
{
	struct err e = ERR_INIT;

	if (tree_end(0, NULL, 0, END_MS, NULL) < 0)
		log_error("some processes could not be ended");
	listen_unlink(sup.o->listen);
	if (fs_remove_tree(AT_FDCWD, sup.o->root, &e) < 0 && sup.made_root)
		log_warn("cannot remove '%s': %s", sup.o->root, e.msg);
	while (sup.entries)
		entry_unlink(&sup.entries);
}

/* ---- the beginning ---- */

static int make_root(struct worker_options *o, struct err *e)
{
	static char made[64];

	if (!o->root) {
		snprintf(made, sizeof(made), "/tmp/farstep-worker-XXXXXX");
		if (!mkdtemp(made))
			return err_set(e, ERR_SYS, errno,
			               "cannot make a directory under /tmp; name one with --root");
		o->root = made;
		sup.made_root = true;
		return 0;
	}
	if (o->root[0] != '/')
		return err_set(e, ERR_USAGE, 0, "--root '%s': want an absolute path", o->root);
	sup.made_root = mkdir(o->root, 0700) == 0;
	return fs_mkdirs(AT_FDCWD, o->root, 0700, e);
}

static int make_sandbox_id(struct worker_options *o, struct err *e)
{
	static char id[40];
	uint8_t raw[8];

	if (o->sandbox_id[0])
		return 0;
	if (random_bytes(raw, sizeof(raw), e) < 0)
		return -1;
	memcpy(id, "sb-", 4);
	hex_encode(raw, sizeof(raw), id + 3);
	o->sandbox_id = id;
	return 0;
}

/* Kept for every worker that comes: one that is started later finds what sessions left. */
static int note_scratch(const struct worker_options *o, struct err *e)
{
	struct buf known CLEANUP(buf_release);
	struct store_message m = { .type = STORE_PUT, .name = SCRATCH_ENTRY, .fd = -1 };

	buf_init(&known, SCRATCH_KNOWN_MAX);
	if (!o->scratch)
		return 0;
	/* What steps keep for later runs on purpose stays. */
	if (scratch_look(o->scratch, &known, e) < 0 ||
	    buf_printf(&known, e, "%s/cache", o->root) < 0 || buf_putc(&known, 0, e) < 0)
		return err_wrap(e, "--scratch");
	m.data = buf_data(&known);
	m.len = buf_len(&known);
	entry_put(&m);
	return 0;
}

static int open_all(struct worker_options *o, struct err *e)
{
	bool sealed;
	int lifeline[2];

	if (make_root(o, e) < 0 || make_sandbox_id(o, e) < 0 || note_scratch(o, e) < 0)
		return -1;
	sup.self_fd = self_open(&sealed, e);
	if (sup.self_fd < 0)
		return -1;
	if (!sealed)
		log_warn("no sealed memory file here: a step could swap the worker's program");
	sup.listen_fd = listen_open(o->listen, e);
	if (sup.listen_fd < 0)
		return -1;
	if (pipe2(lifeline, O_CLOEXEC) < 0)
		return err_set(e, ERR_SYS, errno, "pipe");
	sup.lifeline_rd = lifeline[0];
	sup.lifeline_wr = lifeline[1];
	sup.loop = loop_new(e);
	if (!sup.loop || loop_signal_start(sup.loop, &sup.on_chld, SIGCHLD, on_child, e) < 0 ||
	    loop_signal_start(sup.loop, &sup.on_term, SIGTERM, on_terminate, e) < 0 ||
	    loop_signal_start(sup.loop, &sup.on_int, SIGINT, on_terminate, e) < 0)
		return -1;
	if (o->lease_ms)
		return loop_timer_start(sup.loop, &sup.lease, (uint64_t)o->lease_ms, on_lease, e);
	return 0;
}

/* For who started us and waits; nothing else of ours is said there, and nobody who comes from us
 * holds it open. */
static void say_ready(void)
{
	fs_write_all(STDOUT_FILENO, "ready\n", 6, NULL);
	dup2(STDERR_FILENO, STDOUT_FILENO);
}

int supervisor_main(struct worker_options *o)
{
	struct err e = ERR_INIT;

	sup.o = o;
	sup.store_fd = sup.listen_fd = sup.lifeline_rd = sup.lifeline_wr = sup.self_fd = -1;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (open_all(o, &e) < 0)
		goto refused;
	if (o->say_ready)
		say_ready();
	if (start_worker(&e) < 0)
		goto refused;
	while (!sup.finished) {
		if (loop_pass(sup.loop, -1, &e) < 0) {
			log_error("%s", e.msg);
			sup.exit_code = WORKER_BUG;
			break;
		}
	}
	finish();
	return sup.exit_code;
refused:
	log_error("%s", e.msg);
	return e.code == ERR_USAGE ? WORKER_USAGE : WORKER_REFUSED;
}
