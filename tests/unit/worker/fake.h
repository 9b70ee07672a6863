/* SPDX-License-Identifier: Apache-2.0
 *
 * fake - a worker's sessions fed with frames: no sockets, no supervisor, no processes.
 *
 * For tests and fuzz targets: whoever includes it gets stand-ins for the supervisor (a drained
 * store), for the carrier (frames go into a list) and for the keeper, which is played by the
 * test: what self_spawn would start waits in fake.keepers.  The stand-ins take the place of
 * worker.c and self.c, which the linker then leaves in their archive. */
#ifndef FARSTEP_TESTS_FAKE_H
#define FARSTEP_TESTS_FAKE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/receipt.h"
#include "worker/conn.h"
#include "worker/keeper.h"
#include "worker/keeper_plan.h"
#include "worker/self.h"
#include "worker/session.h"
#include "worker/step.h"
#include "worker/store.h"
#include "worker/upload.h"

#define FAKE_KEEPERS 64
#define FAKE_FRAMES  4096
#define FAKE_ENTRIES 128
#define FAKE_PID     0x7ffff000 /* of nobody: above every pid_max */

/* One that self_spawn was asked for: a keeper, or the unpacking helper. */
struct fake_keeper {
	int sock, dir_fd;
	struct keeper_state st;
	struct receipt rc;
	uint8_t key[SHA256_LEN];
	int spool[KS_COUNT];
	struct hash sum[KS_COUNT];
};

struct fake_frame {
	bool binary;
	size_t len;
	char *text; /* NUL behind it */
};

/* What the supervisor keeps. */
struct fake_entry {
	char name[STORE_NAME_MAX + 1];
	uint8_t *data;
	size_t len;
	int fd;
};

/* One connection: what came out of it, and how it ended. */
struct fake_conn {
	struct carrier carrier; /* first member */
	bool open, refused;
	int close_code;
	char close_reason[128];
	bool stuck; /* a peer that does not read */
	struct fake_frame out[FAKE_FRAMES];
	size_t n_out;
	size_t seen; /* the test has looked at those before */
};

static struct fake {
	struct worker w;
	struct worker_options o;
	char root[80];
	int store; /* the supervisor's end */
	int puts, dels, sweeps;
	uint32_t lease_ms; /* as the supervisor was told last; 0: never */
	struct fake_entry entries[FAKE_ENTRIES];
	int n_entries;
	struct session *old; /* of workers before this one */
	struct fake_keeper keepers[FAKE_KEEPERS];
	int n_keepers;
	int helper_report; /* where the unpacking helper would report; -1: none was started */
	bool quit;
	uint8_t message[STORE_MESSAGE_MAX];
} fake;

/* --- instead of worker.c --- */

void worker_drain(struct worker *w, int grace_ms)
{
	(void)grace_ms;
	w->draining = true;
}

void worker_quit(struct worker *w)
{
	(void)w;
	fake.quit = true;
}

void worker_conn_gone(struct worker *w)
{
	(void)w;
}

/* A supervisor that never starts a spare keeper: each is started when it is needed. */
void worker_read_store(struct worker *w)
{
	(void)w;
}

long worker_rss_kb(void)
{
	return 1000;
}

/* --- instead of self.c --- */

int self_open(bool *sealed, struct err *e)
{
	*sealed = false;
	return err_set(e, ERR_UNSUPPORTED, 0, "no program here");
}

void self_protect(void)
{
}

pid_t self_spawn(int self_fd, char *const argv[], const int *fds, int n_fds, struct err *e)
{
	struct fake_keeper *k = &fake.keepers[fake.n_keepers];

	(void)self_fd, (void)n_fds;
	if (strcmp(argv[2], "unpack") == 0) {
		close_fd(&fake.helper_report);
		fake.helper_report = fcntl(fds[2], F_DUPFD_CLOEXEC, 3);
		return FAKE_PID;
	}
	if (fake.n_keepers >= FAKE_KEEPERS)
		return err_set(e, ERR_SYS, EAGAIN, "fork");
	memset(k, 0, sizeof(*k));
	k->dir_fd = -1;
	for (int i = 0; i < KS_COUNT; i++)
		k->spool[i] = -1;
	k->sock = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
	return FAKE_PID + 1 + fake.n_keepers++;
}

/* --- the worker --- */

static inline struct fake_entry *fake_entry(const char *name)
{
	for (int i = 0; i < fake.n_entries; i++)
		if (strcmp(fake.entries[i].name, name) == 0)
			return &fake.entries[i];
	return NULL;
}

static inline void fake_entry_put(struct store_message *m)
{
	struct fake_entry *n = fake_entry(m->name);

	if (!n && fake.n_entries < FAKE_ENTRIES) {
		n = &fake.entries[fake.n_entries++];
		snprintf(n->name, sizeof(n->name), "%s", m->name);
		n->data = NULL;
		n->fd = -1;
	}
	if (!n)
		return;
	free(n->data);
	n->data = malloc(m->len + 1);
	if (!n->data)
		abort();
	memcpy(n->data, m->data, m->len);
	n->len = m->len;
	if (m->fd >= 0) {
		close_fd(&n->fd);
		n->fd = take_fd(&m->fd);
	}
}

static inline void fake_entry_delete(const char *name)
{
	struct fake_entry *n = fake_entry(name);

	if (!n)
		return;
	free(n->data);
	close_fd(&n->fd);
	*n = fake.entries[--fake.n_entries];
}

static inline void fake_drain_store(void)
{
	struct store_message m;

	while (store_receive(fake.store, fake.message, sizeof(fake.message), false, &m, NULL) > 0) {
		fake.puts += m.type == STORE_PUT;
		fake.dels += m.type == STORE_DEL;
		fake.sweeps += m.type == STORE_SWEEP;
		if (m.type == STORE_LEASE)
			memcpy(&fake.lease_ms, m.data, sizeof(fake.lease_ms));
		if (m.type == STORE_PUT)
			fake_entry_put(&m);
		else if (m.type == STORE_DEL)
			fake_entry_delete(m.name);
		close_fd(&m.fd);
	}
}

/* Its files are in a new directory under base. */
static inline void fake_begin(const char *base)
{
	int pair[2], size = 512 * 1024;

	memset(&fake, 0, sizeof(fake));
	signal(SIGPIPE, SIG_IGN); /* as worker.c */
	log_open(-1, LOG_ERROR, false, "fake");
	fake.helper_report = -1;
	snprintf(fake.root, sizeof(fake.root), "%.60s/fake-XXXXXX", base);
	if (!mkdtemp(fake.root) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fake.o.root = fake.root;
	fake.o.sandbox_id = "box";
	fake.o.max_sessions = LIMIT_SESSIONS;
	fake.o.heartbeat_ms = HEARTBEAT_MS;
	fake.o.generation = 1;
	fake.w.o = &fake.o;
	fake.w.store_fd = pair[0];
	fake.store = pair[1];
	fake.w.self_fd = -1;
	fake.w.started_ns = now_ns();
	snprintf(fake.w.id, sizeof(fake.w.id), "box/1");
	fake.w.root_fd = open(fake.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fake.w.loop = loop_new(NULL);
	if (!fake.w.loop || fake.w.root_fd < 0)
		abort();
}

/* --- connections --- */

static inline void fake_kick(struct carrier *carrier)
{
	(void)carrier;
}

static inline void fake_close(struct carrier *carrier, int code, const char *reason)
{
	struct fake_conn *c = (struct fake_conn *)carrier;

	if (carrier->closing)
		return;
	carrier->closing = true;
	c->close_code = code;
	snprintf(c->close_reason, sizeof(c->close_reason), "%s", reason);
}

/* What waits to be written is read by the peer; then a close that was asked for happens. */
static inline void fake_conn_flush(struct fake_conn *c)
{
	struct out_frame *f;

	while (c->open && !c->stuck && (f = carrier_take(&c->carrier))) {
		if (c->n_out < FAKE_FRAMES) {
			struct fake_frame *to = &c->out[c->n_out++];

			to->binary = f->binary;
			to->len = f->len;
			to->text = malloc(f->len + 1);
			if (!to->text)
				abort();
			memcpy(to->text, out_frame_payload(f), f->len);
			to->text[f->len] = 0;
		}
		carrier_written(&c->carrier, f);
	}
	if (c->open && c->carrier.closing) {
		c->open = false;
		c->carrier.on_closed(&c->carrier, c->close_code, c->close_reason);
	}
}

static inline struct fake_conn *fake_connect(void)
{
	struct fake_conn *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	carrier_init(&c->carrier);
	c->carrier.kick = fake_kick;
	c->carrier.close = fake_close;
	c->open = conn_open(&fake.w, &c->carrier);
	c->refused = !c->open;
	fake_conn_flush(c);
	return c;
}

/* The peer is gone, as a cut line has it. */
static inline void fake_cut(struct fake_conn *c)
{
	if (!c->open)
		return;
	c->open = false;
	c->carrier.closing = true;
	c->carrier.on_closed(&c->carrier, CLOSE_LOST, "cut");
}

static inline void fake_conn_free(struct fake_conn *c)
{
	if (!c)
		return;
	fake_cut(c);
	for (size_t i = 0; i < c->n_out; i++)
		free(c->out[i].text);
	carrier_release(&c->carrier);
	free(c);
}

static inline void fake_feed(struct fake_conn *c, bool binary, const void *p, size_t n)
{
	if (!c->open || c->carrier.closing) /* as ws.c: what comes after a close is dropped */
		return;
	c->carrier.on_frame(&c->carrier, binary, p, n);
	fake_drain_store();
	fake_conn_flush(c);
}

/* --- the keeper --- */

static inline struct fake_keeper *fake_keeper_last(void)
{
	return fake.n_keepers ? &fake.keepers[fake.n_keepers - 1] : NULL;
}

/* Takes the plan and makes what a keeper makes; -1 when there was none. */
static inline int fake_keeper_begin(struct fake_keeper *k, struct err *e)
{
	static const char *const names[KS_COUNT] = { "stdout", "stderr", "events" };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	static char order[1 + KEEPER_INLINE_MAX];
	struct iovec iov = { order, sizeof(order) };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = &control,
		            .msg_controllen = sizeof(control) };
	struct keeper_plan plan;
	ssize_t n = recvmsg(k->sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *passed = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	int fd = -1, r;

	if (n < 1 || order[0] != KO_PLAN)
		return err_set(e, ERR_STATE, 0, "no plan came");
	receipt_init(&k->rc);
	if (passed) {
		memcpy(&fd, CMSG_DATA(passed), sizeof(int));
		r = keeper_plan_read(fd, &plan, &k->rc, e);
		close(fd);
	} else {
		r = keeper_plan_take(order + 1, (size_t)n - 1, &plan, &k->rc, e);
	}
	if (r < 0)
		return -1;
	memcpy(k->key, plan.key, sizeof(k->key));
	k->dir_fd = open(plan.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < KS_COUNT; i++) {
		k->spool[i] = openat(k->dir_fd, names[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		hash_init(&k->sum[i]);
	}
	k->st.type = 'S';
	k->st.pid = 4711;
	k->st.stdin_closed = !plan.has_stdin;
	k->st.stdin_room = plan.has_stdin ? 64 * 1024 : 0;
	keeper_plan_release(&plan);
	return 0;
}

static inline void fake_keeper_tell(struct fake_keeper *k, enum keeper_phase phase)
{
	k->st.phase = (uint8_t)phase;
	(void)!send(k->sock, &k->st, sizeof(k->st), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static inline void fake_keeper_print(struct fake_keeper *k, enum keeper_stream to, const void *p,
                                     size_t n)
{
	if (write(k->spool[to], p, n) != (ssize_t)n)
		abort();
	hash_update(&k->sum[to], p, n);
	k->st.len[to] += n;
}

/* Writes the signed record and says so; forge: a signature that is none. */
static inline void fake_keeper_finish(struct fake_keeper *k, int code, bool forge)
{
	struct stream_sum *to[KS_COUNT] = { &k->rc.out, &k->rc.err, &k->rc.events };
	char hmac[SHA256_HEX];
	struct buf text, record;
	struct jw w;
	int fd;

	k->rc.exit.kind = EXIT_EXITED;
	k->rc.exit.code = code;
	k->rc.status = receipt_status(&k->rc);
	for (int i = 0; i < KS_COUNT; i++) {
		to[i]->bytes = k->st.len[i];
		hash_hex(&k->sum[i], to[i]->sha256);
	}
	buf_init(&text, LIMIT_TEXT);
	buf_init(&record, LIMIT_TEXT);
	if (receipt_print(&k->rc, &text, NULL) < 0)
		abort();
	receipt_sign(k->key, (const char *)buf_data(&text), buf_len(&text), hmac);
	if (forge)
		hmac[0] = hmac[0] == '0' ? '1' : '0';
	jw_init(&w, &record);
	jw_obj(&w);
	jw_kstr(&w, "receipt", buf_cstr(&text, NULL));
	jw_kstr(&w, "hmac", hmac);
	jw_end(&w);
	if (jw_done(&w, NULL) < 0 || buf_putc(&record, '\n', NULL) < 0)
		abort();
	/* The session may have ended meanwhile: then there is no place for it. */
	fd = openat(k->dir_fd, "claim", O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd >= 0) {
		fs_write_all(fd, buf_data(&record), buf_len(&record), NULL);
		close(fd);
	}
	buf_release(&text);
	buf_release(&record);
	fake_keeper_tell(k, KP_FINISHED);
}

static inline void fake_keeper_die(struct fake_keeper *k)
{
	close_fd(&k->sock);
	close_fd(&k->dir_fd);
	for (int i = 0; i < KS_COUNT; i++)
		close_fd(&k->spool[i]);
}

/* --- time --- */

static inline void fake_pass(void)
{
	for (int i = 0; i < 8 && loop_pass(fake.w.loop, 0, NULL) > 0; i++)
		fake_drain_store();
	fake_drain_store();
}

/* The sessions of a worker that is gone: its memory says nothing to anybody any more. */
static inline void fake_bury(struct session *s)
{
	loop_timer_stop(&s->lease);
	loop_timer_stop(&s->close_deadline);
	for (int i = 0; i < STEP_BUCKETS; i++)
		for (struct step *st = s->buckets[i]; st; st = st->next)
			if (st->live) {
				loop_io_stop(&st->live->io);
				close_fd(&st->live->keeper_fd);
			}
	reply_result(s->close_reply, NULL, 0);
	s->close_reply = NULL;
	s->n_running = 0;
	s->closing = false;
}

/* As if by kill -9, when all connections are cut: another worker finds what is in the store and
 * on disk. */
static inline void fake_restart(void)
{
	struct session **end = &fake.old;

	fake_drain_store();
	close_fd(&fake.helper_report);
	for (struct session *s = fake.w.sessions; s; s = s->next)
		fake_bury(s);
	while (*end)
		end = &(*end)->next;
	*end = fake.w.sessions;
	fake.w.sessions = NULL;
	fake.w.n_sessions = 0;
	fake.o.generation++;
	for (int i = 0; i < fake.n_entries; i++) {
		struct fake_entry *n = &fake.entries[i];

		if (strncmp(n->name, "keeper/", 7) == 0 && n->fd >= 0)
			step_keep_socket((pid_t)strtol(n->name + 7, NULL, 10),
			                 (const char *)n->data, n->len,
			                 fcntl(n->fd, F_DUPFD_CLOEXEC, 3));
		else if (strncmp(n->name, "session/", 8) == 0)
			session_restore(&fake.w, n->data, n->len, NULL);
	}
	for (struct session *s = fake.w.sessions; s; s = s->next)
		session_recover_steps(s);
	step_drop_sockets(&fake.w);
	fake_drain_store();
}

/* Sessions end once their keepers are gone; everything is given back.  How many sessions would
 * not end. */
static inline int fake_end(void)
{
	int left;

	for (int i = 0; i < fake.n_keepers; i++)
		fake_keeper_die(&fake.keepers[i]);
	/* The dead worker's too, last: they hold memory. */
	for (struct session **s = &fake.w.sessions; fake.old; s = &(*s)->next) {
		if (*s)
			continue;
		for (*s = fake.old; *s; s = &(*s)->next)
			fake.w.n_sessions++;
		fake.old = NULL;
		break;
	}
	for (int i = 0; i < 64 && fake.w.sessions; i++) {
		for (struct session *s = fake.w.sessions; s; s = s->next)
			if (!s->closing)
				session_close(s, NULL, "cancel", CLOSE_GRACE_MS);
		fake_pass();
	}
	left = fake.w.n_sessions;
	while (fake.n_entries)
		fake_entry_delete(fake.entries[0].name);
	close_fd(&fake.helper_report);
	close_fd(&fake.w.root_fd);
	close_fd(&fake.w.store_fd);
	close_fd(&fake.store);
	loop_free(fake.w.loop);
	fs_remove_tree(AT_FDCWD, fake.root, NULL);
	return left;
}

#endif
