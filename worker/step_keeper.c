/* SPDX-License-Identifier: Apache-2.0
 *
 * A step and its keeper: the orders it gets, the states it tells, the record it leaves. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"
#include "protocol/keys.h"
#include "worker/drivers.h"
#include "worker/spare.h"
#include "worker/step.h"
#include "worker/step_dir.h"
#include "worker/store.h"

#define PLAN_MAX         (2 * 1024 * 1024)
#define KEEPER_SILENT_MS 15000
#define ASK_IDLE         4

const char *const step_stream_names[KS_COUNT] = { "stdout", "stderr", "events" };

static void on_keeper(struct loop_io *io, unsigned got);

/* Those that have bytes: the keeper makes a spool with its first. */
int live_open_spools(struct live *l, struct err *e)
{
	for (int i = 0; i < KS_COUNT; i++) {
		if (l->spool[i] >= 0 || !l->ks.len[i])
			continue;
		l->spool[i] = openat(l->dir_fd, step_stream_names[i],
		                     O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (l->spool[i] < 0)
			return err_set(e, ERR_SYS, errno, "spool %s", step_stream_names[i]);
	}
	return 0;
}

/* ---- the keeper ---- */

void live_name(const struct step *st, char ret[LIVE_NAME_MAX])
{
	snprintf(ret, LIVE_NAME_MAX, "%s/%s/%d", st->s->id, st->id, st->attempt);
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
	snprintf(path, sizeof(path), "%s/steps/%s.%d/artifacts", s->dir, st->id, st->attempt);
	jw_kstr(&w, "artifacts_dir", path);
	snprintf(path, sizeof(path), "%s/steps/%s.%d/out", s->dir, st->id, st->attempt);
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
	if (s->memory_mb)
		jw_kint(&w, "memory_mb", s->memory_mb);
	jw_kbool(&w, "backtrace", json_is_true(json_get(params, "backtrace")));
	jw_end(&w);
	wipe(key, sizeof(key));
	wipe(hex, sizeof(hex));
	return jw_done(&w, e);
}

/* In the message itself where it fits, else by a memory file: it holds secrets, and a file on disk
 * would too. */
static int send_plan(struct step *st, const json *params, struct err *e)
{
	auto_close int fd = -1;
	struct buf b;
	int r;

	buf_init(&b, PLAN_MAX);
	r = plan_print(st, params, &b, e);
	if (r == 0 && buf_len(&b) > KEEPER_INLINE_MAX) {
		fd = memfd_create("plan", MFD_CLOEXEC);
		r = fd < 0 ? err_set(e, ERR_SYS, errno, "memfd_create")
		           : fs_write_all(fd, buf_data(&b), buf_len(&b), e);
	}
	if (r == 0)
		r = store_send(st->live->keeper_fd, (enum store_type)KO_PLAN, NULL,
		               fd < 0 ? buf_data(&b) : NULL, fd < 0 ? buf_len(&b) : 0, fd, e);
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
	struct keeper_ref k;
	char what[LIVE_NAME_MAX];

	if (spare_take(st->s->w, &k, e) < 0)
		return -1;
	st->live->keeper_pid = k.pid;
	st->live->keeper_fd = k.fd;
	/* In the store before it has anything to do: if we die now, it is found or it was
	 * never told. */
	live_name(st, what);
	if (keeper_store(st->s->w, &k, what, e) < 0)
		return -1;
	if (send_plan(st, params, e) < 0)
		return -1;
	return watch(st, e);
}

void live_ask_state(struct live *l)
{
	static const uint8_t ask = KO_STATE;

	(void)!send(l->keeper_fd, &ask, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int live_adopt(struct step *st, int keeper_fd, pid_t keeper_pid, struct err *e)
{
	st->live->keeper_pid = keeper_pid;
	st->live->keeper_fd = keeper_fd;
	st->live->adopted = true;
	if (watch(st, e) < 0)
		return -1;
	live_ask_state(st->live);
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
		live_ask_state(l);
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

bool live_ack(struct live *l, enum keeper_stream stream, uint64_t offset)
{
	uint8_t m[10] = { KO_ACK, (uint8_t)stream };

	memcpy(m + 2, &offset, sizeof(offset));
	return l->keeper_fd >= 0 &&
	       send(l->keeper_fd, m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

/* ---- the record ---- */

/* The last whole line behind the claim's. */
static json *read_record(struct live *l, struct err *e)
{
	const char *p, *end, *line;
	json *v = NULL;
	struct buf b;

	buf_init(&b, LIMIT_RECORD + 4096);
	if (fs_read(l->dir_fd, "claim", b.max, &b, e) == 0) {
		p = (const char *)buf_data(&b);
		end = memrchr(p, '\n', buf_len(&b));
		line = end ? memrchr(p, '\n', (size_t)(end - p)) : NULL;
		if (line)
			v = json_parse(line + 1, (size_t)(end - line - 1), LIMIT_RECORD,
			               LIMIT_JSON_DEPTH, e);
		else
			err_set(e, ERR_NOT_FOUND, 0, "no record");
	}
	buf_release(&b);
	return v;
}

int live_load_record(struct step *st, struct err *e)
{
	struct live *l = st->live;
	struct receipt rc;
	json *v = read_record(l, e);
	const char *text = NULL, *hmac = NULL, *said = NULL;
	uint8_t key[SHA256_LEN];
	int r = -1;

	key_step(st->s->key, st->id, st->attempt, key);
	if (v && json_req_str(v, "record", "receipt", &text, e) == 0 &&
	    json_req_str(v, "record", "hmac", &hmac, e) == 0 &&
	    receipt_check(key, text, strlen(text), hmac, e) == 0 &&
	    json_opt_str(v, "record", "said", &said, e) == 0 &&
	    receipt_parse(text, strlen(text), &rc, e) == 0) {
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
		snprintf(st->error, sizeof(st->error), "%.399s",
		         said && rc.exit.kind == EXIT_EXITED ? said : rc.error);
		st->state = STEP_FINISHED;
		r = l->receipt ? 0 : err_set(e, ERR_NO_MEMORY, 0, "receipt");
	}
	json_free(v);
	wipe(key, sizeof(key));
	return r;
}

/* ---- states of the keeper ---- */

static void note_start(struct step *st, int pid)
{
	char text[96];
	int n;

	if (st->started_seen)
		return;
	st->started_seen = true;
	n = snprintf(text, sizeof(text), "{\"driver\":\"%s\",\"pid\":%d}", st->driver, pid);
	journal_put(&st->s->journal, "step_start", st->id, st->attempt, 0, text, (size_t)n, NULL);
}

void live_drop_keeper(struct step *st)
{
	struct live *l = st->live;
	struct keeper_ref k = { l->keeper_pid, take_fd(&l->keeper_fd), true };

	loop_io_stop(&l->io);
	if (l->ks.phase == KP_FINISHED && l->ks.again)
		spare_give(st->s->w, &k);
	else
		keeper_drop(st->s->w, &k);
}

void live_remove_files(struct live *l)
{
	for (int i = 0; i < KS_COUNT; i++)
		if (l->ks.len[i])
			unlinkat(l->dir_fd, step_stream_names[i], 0);
	/* The list of its files stays: session.left asks what came home. */
	if (l->manifest_bytes)
		unlinkat(l->dir_fd, "manifest", 0);
}

static void finished(struct step *st)
{
	struct err e = ERR_INIT;

	live_drop_keeper(st);
	spare_refill(st->s->w);
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
		/* It is proved how it ended; what cannot be read of it the client will miss. */
		if (live_open_spools(st->live, &e) < 0)
			log_error("step %s: %s", st->id, e.msg);
		step_end(st);
	}
}

static void on_state(struct step *st, const struct keeper_state *ks)
{
	struct live *l = st->live;
	struct err e = ERR_INIT;

	l->ks = *ks;
	l->state_ns = now_ns();
	if (ks->phase >= KP_RUNNING && live_open_spools(l, &e) < 0)
		log_error("step %s: %s", st->id, e.msg);
	if (ks->phase >= KP_RUNNING && ks->pid)
		note_start(st, ks->pid);
	if (ks->phase == KP_FINISHED)
		return;
	if (ks->phase == KP_RUNNING || ks->phase == KP_DRAINING)
		st->state = ks->phase == KP_RUNNING ? STEP_RUNNING : STEP_DRAINING;
	live_grant_stdin(st);
	step_events_pump(st);
}

/* The worker before us may have died between claim and plan.  A plan that was sent stands before
 * our question, but an answer to a question of its own may come first: so it is asked again. */
static bool has_no_plan(struct step *st)
{
	if (++st->live->idle_said < ASK_IDLE) {
		live_ask_state(st->live);
		return false;
	}
	step_lose(st, "the worker ended after it had claimed the step and before its keeper had "
	              "the plan: nothing was started");
	return true;
}

static void on_keeper(struct loop_io *io, unsigned got)
{
	struct live *l = (struct live *)((char *)io - offsetof(struct live, io));
	struct step *st = l->st;
	struct session *s = st->s;
	struct keeper_state ks;
	bool prepare = false;
	ssize_t n;

	while ((n = recv(l->keeper_fd, &ks, sizeof(ks), MSG_DONTWAIT)) == (ssize_t)sizeof(ks)) {
		if (ks.phase == KP_WAITING && l->adopted) {
			if (has_no_plan(st)) {
				session_pump(s);
				return;
			}
			continue;
		}
		on_state(st, &ks);
		if (ks.phase == KP_FINISHED) {
			finished(st);
			session_pump(s);
			return;
		}
		prepare |= ks.phase == KP_RUNNING;
	}
	/* The record may be there although the last state was not delivered. */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || (got & LOOP_HUP))
		finished(st);
	session_pump(s);
	/* The one that just began leaves us the time. */
	if (prepare && s->n_steps > 1)
		step_dir_prepare(s);
}

