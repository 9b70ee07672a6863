/* SPDX-License-Identifier: Apache-2.0
 *
 * The moving part of a step: its keeper, its spools, its streams. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "protocol/keys.h"
#include "worker/drivers.h"
#include "worker/self.h"
#include "worker/step.h"
#include "worker/store.h"
#include "worker/supervisor.h"

#define PLAN_MAX         (2 * 1024 * 1024)
#define RECORD_MAX       (64 * 1024)
#define KEEPER_SILENT_MS 15000

static const char *const spool_names[KS_COUNT] = { "stdout", "stderr", "events" };

static void on_keeper(struct loop_io *io, unsigned got);

/* ---- life ---- */

struct live *live_new(struct step *st, struct err *e)
{
	struct live *l = calloc(1, sizeof(*l));
	char dir[LIMIT_STEP_ID + 32];

	if (!l) {
		err_set(e, ERR_NO_MEMORY, 0, "step");
		return NULL;
	}
	l->st = st;
	l->keeper_fd = l->file_fd = -1;
	for (int i = 0; i < KS_COUNT; i++)
		l->spool[i] = -1;
	lines_init(&l->lines, LIMIT_EVENT_LINE);
	l->lines.seen = l->lines.taken = st->src;
	snprintf(dir, sizeof(dir), "steps/%s.%d", st->id, st->attempt);
	l->dir_fd = openat(st->s->dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (l->dir_fd < 0) {
		err_set(e, ERR_SYS, errno, "%s", dir);
		free(l);
		return NULL;
	}
	st->live = l;
	return l;
}

static void unbind(struct step *st)
{
	struct live *l = st->live;

	if (l->conn) {
		conn_unbind(l->conn, l->in.channel);
		conn_unbind(l->conn, l->out[0].channel);
		conn_unbind(l->conn, l->out[1].channel);
		conn_unbind(l->conn, l->artifacts.channel);
	}
	l->conn = NULL;
	stream_in_unbind(&l->in);
	stream_out_unbind(&l->out[0]);
	stream_out_unbind(&l->out[1]);
	stream_out_unbind(&l->artifacts);
}

void live_free(struct step *st)
{
	struct live *l = st->live;

	if (!l)
		return;
	unbind(st);
	loop_io_stop(&l->io);
	close_fd(&l->keeper_fd);
	close_fd(&l->dir_fd);
	close_fd(&l->file_fd);
	for (int i = 0; i < KS_COUNT; i++)
		close_fd(&l->spool[i]);
	if (l->reply)
		reply_error(l->reply,
		            &(struct err){ .code = ERR_CANCELLED,
		                           .admitted = ADMITTED_YES,
		                           .msg = "the session ended" },
		            NULL);
	lines_release(&l->lines);
	free(l->receipt);
	free(l->files);
	free(l);
	st->live = NULL;
}

static int open_spools(struct live *l, struct err *e)
{
	for (int i = 0; i < KS_COUNT; i++) {
		if (l->spool[i] >= 0)
			continue;
		l->spool[i] = openat(l->dir_fd, spool_names[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (l->spool[i] < 0)
			return err_set(e, ERR_SYS, errno, "spool %s", spool_names[i]);
	}
	return 0;
}

/* ---- the keeper ---- */

static void store_name(const struct step *st, char *out, size_t size)
{
	snprintf(out, size, "keeper/%s/%s/%d", st->s->id, st->id, st->attempt);
}

static int plan_print(struct step *st, const json *params, struct buf *out, struct err *e)
{
	const struct session *s = st->s;
	const struct worker *wk = s->w;
	uint8_t key[SHA256_LEN];
	char hex[SHA256_HEX], path[1024];
	int64_t timeout = 0, grace = GRACE_DEFAULT_MS, linger = LINGER_DEFAULT_MS;
	struct jw w;

	json_opt_int(params, "", "timeout_ms", 1, TIMEOUT_MAX_MS, &timeout, NULL);
	json_opt_int(params, "", "grace_ms", 0, GRACE_MAX_MS, &grace, NULL);
	json_opt_int(params, "", "linger_ms", 0, LINGER_MAX_MS, &linger, NULL);
	key_step(s->key, st->id, st->attempt, key);
	hex_encode(key, sizeof(key), hex);
	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "run", s->run);
	jw_kstr(&w, "session", s->id);
	jw_kstr(&w, "step", st->id);
	jw_kint(&w, "attempt", st->attempt);
	jw_kstr(&w, "sandbox", wk->o->sandbox_id);
	jw_kstr(&w, "worker", wk->id);
	jw_kint(&w, "generation", wk->o->generation);
	jw_kstr(&w, "build", farstep_build());
	jw_kstr(&w, "plan", st->body);
	jw_kstr(&w, "key", hex);
	if (drivers_plan(s, params, st->id, st->attempt, &w, e) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/steps/%s.%d", s->dir, st->id, st->attempt);
	jw_kstr(&w, "dir", path);
	snprintf(path, sizeof(path), "%s/files/%s.%d", s->dir, st->id, st->attempt);
	jw_kstr(&w, "artifacts_dir", path);
	snprintf(path, sizeof(path), "%s/out/%s.%d", s->dir, st->id, st->attempt);
	jw_kstr(&w, "output_dir", path);
	snprintf(path, sizeof(path), "%s/work", s->dir);
	jw_kstr(&w, "work_dir", path);
	jw_karr(&w, "collect");
	for (const json *v = json_first(json_get(params, "collect")); v; v = json_next(v))
		jw_str(&w, json_string(v));
	jw_end(&w);
	if (timeout)
		jw_kint(&w, "timeout_ms", timeout);
	jw_kint(&w, "grace_ms", grace);
	jw_kint(&w, "linger_ms", linger);
	jw_kbool(&w, "stdin", json_get(params, "stdin") != NULL);
	jw_kint(&w, "spool_bytes", LIMIT_SPOOL);
	jw_end(&w);
	wipe(key, sizeof(key));
	wipe(hex, sizeof(hex));
	return jw_done(&w, e);
}

/* By a memory file: it holds secrets, and a file on disk would too. */
static int send_plan(struct step *st, const json *params, struct err *e)
{
	auto_close int fd = memfd_create("plan", MFD_CLOEXEC);
	struct buf b;
	int r;

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "memfd_create");
	buf_init(&b, PLAN_MAX);
	r = plan_print(st, params, &b, e);
	if (r == 0)
		r = fs_write_all(fd, buf_data(&b), buf_len(&b), e);
	if (r == 0)
		r = store_send(st->live->keeper_fd, (enum store_type)KO_PLAN, NULL, NULL, 0, fd, e);
	if (b.mem)
		wipe(b.mem, b.cap);
	buf_release(&b);
	return r;
}

static int watch(struct step *st, struct err *e)
{
	st->live->state_ns = now_ns();
	return loop_io_start(st->s->w->loop, &st->live->io, st->live->keeper_fd, LOOP_IN, on_keeper,
	                     e);
}

int live_start(struct step *st, const json *params, struct err *e)
{
	static char *const argv[] = { (char *)"farstep-worker", (char *)"--role", (char *)"keeper",
		                      NULL };
	struct worker *w = st->s->w;
	char name[STORE_NAME_MAX + 1], pid_text[16];
	auto_close int theirs = -1;
	int pair[2], fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_set(e, ERR_SYS, errno, "socketpair");
	st->live->keeper_fd = pair[0];
	theirs = pair[1];
	fds[0] = theirs;
	fds[1] = WORKER_LIFELINE_FD;
	pid = self_spawn(w->self_fd, argv, fds, 2, e);
	if (pid < 0)
		return -1;
	/* In the store before it has anything to do: if we die now, it is found or it was
	 * never told. */
	store_name(st, name, sizeof(name));
	st->live->keeper_pid = pid;
	snprintf(pid_text, sizeof(pid_text), "%d", (int)pid);
	if (store_send(w->store_fd, STORE_PUT, name, pid_text, strlen(pid_text) + 1, pair[0], e) <
	    0)
		return -1;
	if (send_plan(st, params, e) < 0)
		return -1;
	return watch(st, e);
}

static void ask_state(struct live *l)
{
	static const uint8_t ask = KO_STATE;

	(void)!send(l->keeper_fd, &ask, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int live_adopt(struct step *st, int keeper_fd, pid_t keeper_pid, struct err *e)
{
	st->live->keeper_pid = keeper_pid;
	st->live->keeper_fd = keeper_fd;
	if (watch(st, e) < 0)
		return -1;
	ask_state(st->live);
	return 0;
}

/* A keeper that does not answer (stopped, stuck) would keep its step for ever. */
void live_watch(struct step *st)
{
	struct live *l = st->live;
	uint64_t silent_ms = (now_ns() - l->state_ns) / 1000000;

	if (l->keeper_fd < 0)
		return;
	if (silent_ms > KEEPER_SILENT_MS && l->keeper_pid > 0) {
		log_error("step %s: its keeper gave no sign of life for %llu ms: ending it", st->id,
		          (unsigned long long)silent_ms);
		kill(l->keeper_pid, SIGKILL);
	} else {
		ask_state(l);
	}
}

void live_cancel(struct step *st, int grace_ms, const char *why)
{
	uint8_t m[32] = { KO_CANCEL };
	int32_t grace = grace_ms;

	if (!st->live || st->live->keeper_fd < 0)
		return;
	memcpy(m + 1, &grace, sizeof(grace));
	snprintf((char *)m + 5, sizeof(m) - 5, "%s", why);
	(void)!send(st->live->keeper_fd, m, 5 + strlen(why) + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_ack(struct live *l, enum keeper_stream stream, uint64_t offset)
{
	uint8_t m[10] = { KO_ACK, (uint8_t)stream };

	memcpy(m + 2, &offset, sizeof(offset));
	if (l->keeper_fd >= 0)
		(void)!send(l->keeper_fd, m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- the record ---- */

int live_load_record(struct step *st, struct err *e)
{
	struct live *l = st->live;
	struct receipt rc;
	struct buf b;
	json *v = NULL;
	const char *text = NULL, *hmac = NULL;
	uint8_t key[SHA256_LEN];
	int r = -1;

	buf_init(&b, RECORD_MAX);
	key_step(st->s->key, st->id, st->attempt, key);
	if (fs_read(l->dir_fd, "record", RECORD_MAX, &b, e) == 0)
		v = json_parse((const char *)buf_data(&b), buf_len(&b), RECORD_MAX,
		               LIMIT_JSON_DEPTH, e);
	if (v && json_req_str(v, "record", "receipt", &text, e) == 0 &&
	    json_req_str(v, "record", "hmac", &hmac, e) == 0 &&
	    receipt_check(key, text, strlen(text), hmac, e) == 0 &&
	    receipt_parse(text, strlen(text), &rc, e) == 0 && open_spools(l, e) == 0) {
		l->receipt = strdup(text);
		snprintf(l->hmac, sizeof(l->hmac), "%s", hmac);
		l->ks.phase = KP_FINISHED;
		l->ks.len[KS_STDOUT] = rc.out.bytes;
		l->ks.len[KS_STDERR] = rc.err.bytes;
		l->ks.len[KS_EVENTS] = rc.events.bytes;
		l->manifest_bytes = rc.artifacts.manifest_bytes;
		l->artifact_bytes = rc.artifacts.bytes;
		for (int i = 0; i < 2; i++) {
			l->out[i].total = l->ks.len[i];
			l->out[i].ended = true;
		}
		l->artifacts.total = l->manifest_bytes + l->artifact_bytes;
		l->artifacts.ended = true;
		st->status = rc.status;
		st->rows = rc.rows;
		st->wall_ms = (int64_t)rc.usage.wall_ms;
		snprintf(st->error, sizeof(st->error), "%.390s", rc.error);
		st->state = STEP_FINISHED;
		r = l->receipt ? 0 : err_set(e, ERR_NO_MEMORY, 0, "receipt");
	}
	json_free(v);
	buf_release(&b);
	wipe(key, sizeof(key));
	return r;
}

/* ---- states of the keeper ---- */

static void note_start(struct step *st, int pid)
{
	char text[64];

	if (st->started_seen)
		return;
	st->started_seen = true;
	journal_put(&st->s->journal, "step_start", st->id, st->attempt, 0, text,
	            (size_t)snprintf(text, sizeof(text), "{\"pid\":%d}", pid), NULL);
}

static void drop_keeper(struct step *st)
{
	char name[STORE_NAME_MAX + 1];

	loop_io_stop(&st->live->io);
	close_fd(&st->live->keeper_fd);
	store_name(st, name, sizeof(name));
	store_send(st->s->w->store_fd, STORE_DEL, name, NULL, 0, -1, NULL);
}

static void finished(struct step *st)
{
	struct err e = ERR_INIT;

	drop_keeper(st);
	if (live_load_record(st, &e) < 0) {
		char why[400];

		snprintf(why, sizeof(why),
		         "its keeper (process %d) ended without a record, so nothing proves how it "
		         "went; it had started process "
		         "%d and kept %llu bytes of stdout and %llu of stderr (%.120s)",
		         (int)st->live->keeper_pid, (int)st->live->ks.pid,
		         (unsigned long long)st->live->ks.len[KS_STDOUT],
		         (unsigned long long)st->live->ks.len[KS_STDERR], e.msg);
		step_lose(st, why);
	} else {
		step_end(st);
	}
}

/* What the keeper accepted is durable; it may be sent what it has room for. */
static void grant_stdin(struct step *st)
{
	struct live *l = st->live;
	uint64_t limit = l->ks.stdin_closed ? l->in.next + WINDOW_STDIN
	                                    : l->ks.stdin_have + l->ks.stdin_room;

	if (!l->conn || !l->in.channel)
		return;
	/* nothing was sent on this binding yet: it begins where the keeper is */
	if (!l->in.granted)
		l->in.next = l->ks.stdin_have;
	l->in.durable = l->ks.stdin_closed ? l->in.next : l->ks.stdin_have;
	if (limit <= l->in.granted)
		return;
	l->in.granted = limit;
	carrier_send_window(l->conn->carrier, l->in.channel, l->in.durable, limit, NULL);
}

static void on_state(struct step *st, const struct keeper_state *ks)
{
	struct live *l = st->live;
	struct err e = ERR_INIT;

	l->ks = *ks;
	l->state_ns = now_ns();
	if (ks->phase >= KP_RUNNING && open_spools(l, &e) < 0)
		log_error("step %s: %s", st->id, e.msg);
	if (ks->phase >= KP_RUNNING && ks->pid)
		note_start(st, ks->pid);
	if (ks->phase == KP_FINISHED)
		return;
	if (ks->phase == KP_RUNNING || ks->phase == KP_DRAINING)
		st->state = ks->phase == KP_RUNNING ? STEP_RUNNING : STEP_DRAINING;
	grant_stdin(st);
	step_events_pump(st);
	send_ack(l, KS_EVENTS, l->lines.seen);
}

static void on_keeper(struct loop_io *io, unsigned got)
{
	struct live *l = (struct live *)((char *)io - offsetof(struct live, io));
	struct step *st = l->st;
	struct session *s = st->s;
	struct keeper_state ks;
	ssize_t n;

	while ((n = recv(l->keeper_fd, &ks, sizeof(ks), MSG_DONTWAIT)) == (ssize_t)sizeof(ks)) {
		on_state(st, &ks);
		if (ks.phase == KP_FINISHED) {
			finished(st);
			session_pump(s);
			return;
		}
	}
	/* The record may be there although the last state was not delivered. */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || (got & LOOP_HUP))
		finished(st);
	session_pump(s);
}

/* ---- streams ---- */

static void on_window(struct step *st, struct stream_out *out, const struct frame *f)
{
	struct live *l = st->live;
	struct conn *c = l->conn;
	struct err e = ERR_INIT;

	if (f->kind != FRAME_WINDOW || stream_out_window(out, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "channel %u: want WINDOW frames",
			        (unsigned)f->channel);
		conn_fail(c, &e);
		return;
	}
	if (out != &l->artifacts)
		send_ack(l, (enum keeper_stream)(out - l->out), out->acked);
	session_pump(st->s);
}

static void on_stdin(struct step *st, const struct frame *f)
{
	struct live *l = st->live;
	uint8_t m[10 + LIMIT_DATA];
	uint8_t end = f->flags & FRAME_END;
	struct err e = ERR_INIT;

	if (f->kind != FRAME_DATA || stream_in_data(&l->in, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "channel %u: want DATA frames",
			        (unsigned)f->channel);
		conn_fail(l->conn, &e);
		return;
	}
	if (l->keeper_fd < 0 || l->ks.stdin_closed) { /* nobody reads it any more */
		grant_stdin(st);
		return;
	}
	m[0] = KO_STDIN;
	m[1] = end ? 1 : 0;
	memcpy(m + 2, &f->offset, sizeof(f->offset));
	if (f->len)
		memcpy(m + 10, f->payload, f->len);
	/* It was granted by the keeper, so there is room; if not, the client comes again with
	 * it. */
	if (send(l->keeper_fd, m, 10 + f->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN)
		conn_close(l->conn, CLOSE_SILENT, "the step's keeper does not take its input");
}

static void on_channel(void *owner, const struct frame *f)
{
	struct step *st = owner;
	struct live *l = st->live;

	if (!l)
		return;
	if (f->channel == l->in.channel)
		on_stdin(st, f);
	else if (f->channel == l->out[0].channel)
		on_window(st, &l->out[0], f);
	else if (f->channel == l->out[1].channel)
		on_window(st, &l->out[1], f);
	else if (f->channel == l->artifacts.channel)
		on_window(st, &l->artifacts, f);
}

static void on_gone(void *owner, uint32_t channel)
{
	struct step *st = owner;

	(void)channel;
	if (!st->live)
		return;
	st->live->conn = NULL;
	stream_in_unbind(&st->live->in);
	stream_out_unbind(&st->live->out[0]);
	stream_out_unbind(&st->live->out[1]);
	stream_out_unbind(&st->live->artifacts);
}

static int bind_one(struct step *st, struct conn *c, const json *params, const char *name,
                    uint32_t *channel, uint64_t *offset, uint64_t *window, struct err *e)
{
	const json *b = NULL;
	int64_t id = 0;
	char path[32];

	*channel = 0;
	if (json_opt_obj(params, "params", name, &b, e) < 0)
		return -1;
	if (!b)
		return 0;
	snprintf(path, sizeof(path), "params.%s", name);
	*offset = *window = 0;
	if (json_req_int(b, path, "channel", 1, UINT32_MAX, &id, e) < 0 ||
	    json_opt_u64(b, path, "offset", offset, e) < 0 ||
	    json_opt_u64(b, path, "window", window, e) < 0)
		return -1;
	*channel = (uint32_t)id;
	return conn_bind(c, &(struct channel){ *channel, st, on_channel, on_gone }, e);
}

int live_check_binding(const struct conn *c, const json *params, struct err *e)
{
	static const char *const names[] = { "stdin", "stdout", "stderr", "artifacts" };
	int64_t id[4] = { 0 };
	uint64_t ignored;
	char path[32];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const json *b = NULL;

		snprintf(path, sizeof(path), "params.%s", names[i]);
		if (json_opt_obj(params, "params", names[i], &b, e) < 0)
			return -1;
		if (!b)
			continue;
		if (json_req_int(b, path, "channel", 1, UINT32_MAX, &id[i], e) < 0 ||
		    json_opt_u64(b, path, "offset", &ignored, e) < 0 ||
		    json_opt_u64(b, path, "window", &ignored, e) < 0)
			return -1;
		for (size_t k = 0; k < i; k++)
			if (id[k] == id[i])
				return err_set(e, ERR_INVALID_PARAMS, 0,
				               "%s.channel: %d is given twice", path, (int)id[i]);
		if (conn_has_channel(c, (uint32_t)id[i]))
			return err_set(e, ERR_INVALID_PARAMS, 0, "%s.channel: %d is in use", path,
			               (int)id[i]);
	}
	return 0;
}

static int bind_all(struct step *st, struct conn *c, const json *params, struct err *e)
{
	struct live *l = st->live;
	uint32_t id[4];
	uint64_t offset = 0, window = 0;

	l->conn = c;
	if (bind_one(st, c, params, "stdin", &id[0], &offset, &window, e) < 0)
		return -1;
	if (id[0]) {
		stream_in_bind(&l->in, id[0], l->ks.stdin_have, 0);
		l->in.granted = 0;
		grant_stdin(st);
		if (l->keeper_fd >= 0)
			ask_state(l);
	}
	if (bind_one(st, c, params, "stdout", &id[1], &offset, &window, e) < 0)
		return -1;
	stream_out_bind(&l->out[0], id[1], offset, window);
	if (bind_one(st, c, params, "stderr", &id[2], &offset, &window, e) < 0)
		return -1;
	stream_out_bind(&l->out[1], id[2], offset, window);
	if (bind_one(st, c, params, "artifacts", &id[3], &offset, &window, e) < 0)
		return -1;
	stream_out_bind(&l->artifacts, id[3], offset, window);
	close_fd(&l->file_fd);
	l->file = NULL;
	return 0;
}

int live_bind(struct step *st, struct conn *c, const json *params, struct err *e)
{
	unbind(st);
	if (live_check_binding(c, params, e) == 0 && bind_all(st, c, params, e) == 0)
		return 0;
	unbind(st);
	return -1;
}

/* ---- artifacts: the manifest, then file after file ---- */

static int open_next_file(struct live *l, struct err *e)
{
	const char *next = l->file ? l->file + strlen(l->file) + 1 : l->files;
	struct stat st;

	if (l->file_fd >= 0)
		l->file_at += l->file_size;
	else
		l->file_at = l->manifest_bytes;
	close_fd(&l->file_fd);
	if (next >= l->files + l->files_len)
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifacts: fewer bytes than the manifest says");
	l->file = next;
	l->file_fd = open(next, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (l->file_fd < 0 || fstat(l->file_fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_INTEGRITY, errno, "artifact '%s'", next);
	l->file_size = (uint64_t)st.st_size;
	return 0;
}

static int load_files(struct live *l, struct err *e)
{
	struct buf b;

	if (l->files)
		return 0;
	buf_init(&b, (size_t)LIMIT_ARTIFACTS * LIMIT_PATH);
	if (fs_read(l->dir_fd, "files", b.max, &b, e) < 0) {
		buf_release(&b);
		return -1;
	}
	l->files_len = buf_len(&b);
	l->files = buf_take_str(&b, e);
	return l->files ? 0 : -1;
}

/* n bytes at `at` of the artifact stream; fewer at the end of a file. */
static ssize_t read_artifacts(struct live *l, uint64_t at, uint8_t *p, size_t n, struct err *e)
{
	if (at < l->manifest_bytes) {
		auto_close int fd =
			openat(l->dir_fd, "manifest", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		uint64_t left = l->manifest_bytes - at;
		ssize_t got = fd < 0 ? -1 : pread(fd, p, left < n ? (size_t)left : n, (off_t)at);

		return got > 0 ? got : err_set(e, ERR_INTEGRITY, errno, "artifact manifest");
	}
	if (load_files(l, e) < 0)
		return -1;
	while (l->file_fd < 0 || at >= l->file_at + l->file_size)
		if (open_next_file(l, e) < 0)
			return -1;
	if (at < l->file_at)
		return err_set(e, ERR_INTERNAL, 0, "artifacts: offset moved back");
	{
		ssize_t got = pread(l->file_fd, p, n, (off_t)(at - l->file_at));

		return got > 0 ? got
		               : err_set(e, ERR_INTEGRITY, errno, "artifact '%s' became shorter",
		                         l->file);
	}
}

/* ---- sending ---- */

static ssize_t read_stream(struct live *l, struct stream_out *out, uint8_t *p, size_t n,
                           struct err *e)
{
	ssize_t got;

	if (out == &l->artifacts)
		return read_artifacts(l, out->sent, p, n, e);
	got = pread(l->spool[out - l->out], p, n, (off_t)out->sent);
	return got > 0 ? got
	               : err_set(e, ERR_INTEGRITY, got < 0 ? errno : 0,
	                         "spool is shorter than it should be");
}

static bool pump_one(struct step *st, struct stream_out *out, uint64_t have)
{
	struct live *l = st->live;
	struct conn *c = l->conn;
	struct err e = ERR_INIT;
	uint64_t n = stream_out_ready(out, have);
	struct out_frame *f;
	ssize_t got = 0;
	bool end;

	if (!out->channel || !carrier_has_room(c->carrier) || (!n && !stream_out_end_due(out)))
		return false;
	f = carrier_frame(c->carrier, true, true, FRAME_HEADER + (size_t)n, &e);
	if (!f)
		return false;
	if (n &&
	    (got = read_stream(l, out, out_frame_payload(f) + FRAME_HEADER, (size_t)n, &e)) < 0) {
		/* The client sees the stream end early, and the receipt tells it so. */
		log_error("step %s: %s", st->id, e.msg);
		got = 0;
		out->total = out->sent;
	}
	end = out->ended && out->sent + (uint64_t)got == out->total;
	frame_header(out_frame_payload(f), FRAME_DATA, end ? FRAME_END : 0, out->channel,
	             out->sent);
	f->len = FRAME_HEADER + (size_t)got;
	stream_out_sent(out, (uint64_t)got, end);
	carrier_push(c->carrier, f);
	return true;
}

bool live_pump(struct step *st)
{
	struct live *l = st->live;
	bool moved = false;

	if (!l->events_done && !step_events_pump(st))
		return false;
	if (st->state >= STEP_FINISHED && !st->ended_seen)
		step_end(st);
	if (l->conn && l->spool[0] >= 0)
		moved |= pump_one(st, &l->out[0], l->ks.len[KS_STDOUT]);
	if (l->conn && l->spool[1] >= 0)
		moved |= pump_one(st, &l->out[1], l->ks.len[KS_STDERR]);
	if (l->conn && l->artifacts.ended)
		moved |= pump_one(st, &l->artifacts, l->artifacts.total);
	return moved;
}

/* ---- the end ---- */

void step_answer(struct step *st)
{
	struct live *l = st->live;
	struct reply *r = l ? l->reply : NULL;
	struct buf b;
	struct jw w;
	struct err e = ERR_INIT;

	/* Not before its last event is in the journal. */
	if (!r || !st->ended_seen)
		return;
	l->reply = NULL;
	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "status", status_name(st->status));
	jw_kstr(&w, "receipt", l->receipt);
	jw_kstr(&w, "hmac", l->receipt ? l->hmac : NULL);
	jw_kint(&w, "events_last", (int64_t)st->s->journal.last);
	if (st->rows >= 0)
		jw_kint(&w, "rows", st->rows);
	jw_kstr(&w, "error", st->error);
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		reply_error(r, &e, NULL);
	else
		reply_result(r, (const char *)buf_data(&b), buf_len(&b));
	buf_release(&b);
}

void step_end(struct step *st)
{
	struct session *s = st->s;
	struct buf b;
	struct jw w;

	if (!step_events_pump(st))
		return; /* the journal is full: live_pump comes back */
	if (!st->ended_seen) {
		st->ended_seen = true;
		buf_init(&b, 4096);
		jw_init(&w, &b);
		jw_obj(&w);
		jw_kstr(&w, "status", status_name(st->status));
		jw_kint(&w, "duration_ms", st->wall_ms);
		if (st->rows >= 0)
			jw_kint(&w, "rows", st->rows);
		jw_end(&w);
		journal_put(&s->journal, "step_ended", st->id, st->attempt, 0,
		            (const char *)buf_data(&b), buf_len(&b), NULL);
		buf_release(&b);
	}
	s->w->count.steps_finished++;
	log_info("step %s: %s", st->id, status_name(st->status));
	session_publish(s);
	step_answer(st);
	session_step_ended(s);
}

void step_lose(struct step *st, const char *why)
{
	struct live *l = st->live;

	log_error("step %s: lost: %s", st->id, why);
	if (l->keeper_fd >= 0)
		drop_keeper(st);
	/* What the step left has become the supervisor's: it ends it. */
	store_send(st->s->w->store_fd, STORE_SWEEP, NULL, NULL, 0, -1, NULL);
	st->state = STEP_LOST;
	st->status = STATUS_LOST;
	snprintf(st->error, sizeof(st->error), "%.390s", why);
	l->events_done = true;
	st->s->w->count.steps_lost++;
	step_end(st);
}
