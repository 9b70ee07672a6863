/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "sdk-wrapper/e2b_spec.h"
#include "sdk-wrapper/envd_process.h"
#include "sdk-wrapper/program.h"

#define WORKER_PATH "/tmp/farstep-%s/worker"
#define ROOT_PATH "/tmp/farstep-%s/root"
#define LOG_PATH "/tmp/farstep-%s/log"
/* What a kept sandbox is emptied of; what the template has there stays. */
#define SCRATCH "/tmp:/var/tmp:/dev/shm:/home/user:/root"
#define READY "ready\n"
#define WORKER_THERE "/opt/farstep/bin/farstep-worker"

enum {
	QUICK_MS = 10000,
	STARTS = 3,
	NOT_WHOLE = 90,
	WRONG_MACHINE = 91,
	STARTED_TWICE = 95,
	NOT_THERE = 96,
	START_AGAIN_MS = 300,
	READY_MS = 500,	/* for the worker to say that it listens */
	TRY_MS = 2000,	/* the same, with the digest of a template's worker before it */
	SAID_MAX = 600,
};

/* Its words: worker, its byte count, its SHA-256, log, root, its processor as uname calls it, then
 * the worker's own arguments.  An
 * upload may have come to its end early or changed, and look fine; one that was cut and sent
 * again may still have its first writer ("Text file busy"), so a copy is run; a start may come
 * twice.  A template without sha256sum has the byte count alone. */
static const char bootstrap[] =
	"set -e\n"
	"n=$(wc -c 2>/dev/null <\"$1\") || n=0\n"
	"[ \"$n\" -eq \"$2\" ] || {\n"
	" echo \"the worker has $n bytes in the sandbox, not $2\"\n"
	" exit 90\n"
	"}\n"
	"cp \"$1\" \"$1.run\"\n"
	"if s=$(sha256sum \"$1.run\" 2>/dev/null) && [ \"${s%% *}\" != \"$3\" ]; then\n"
	" echo \"the worker was changed on its way into the sandbox\"\n"
	" exit 90\n"
	"fi\n"
	"m=$(uname -m 2>/dev/null) || m=$6\n"
	"[ -z \"$6\" ] || [ \"$m\" = \"$6\" ] || {\n"
	" echo \"the sandbox is $m, the worker's program is for $6\"\n"
	" exit 91\n"
	"}\n"
	"chmod 700 \"$1.run\"\n"
	"mkdir \"$5\" 2>/dev/null || { [ ! -d \"$5\" ] || exit 95; mkdir \"$5\"; }\n"
	"mv -f \"$1.run\" \"$1\"\n"
	"cd \"$5\"\n"
	"w=$1 log=$4\n"
	"shift 6\n"
	"exec \"$w\" \"$@\" </dev/null 2>>\"$log\"\n";

/* The same words, for the worker that a template of ours may hold: 96 until it is known to be this
 * very one and has its root, for which it may race with an upload that was begun meanwhile. */
static const char bootstrap_there[] =
	"[ -x \"$1\" ] && s=$(sha256sum <\"$1\") && [ \"${s%% *}\" = \"$3\" ] || exit 96\n"
	"mkdir -p \"${5%/*}\" || exit 96\n"
	"mkdir \"$5\" 2>/dev/null || { [ ! -d \"$5\" ] || exit 95; exit 96; }\n"
	"set -e\n"
	"cd \"$5\"\n"
	"w=$1 log=$4\n"
	"shift 6\n"
	"exec \"$w\" \"$@\" </dev/null 2>>\"$log\"\n";

struct e2b_worker {
	struct loop *loop;
	int fd;		/* the program */
	uint64_t len;
	char sha256[SHA256_HEX];
	const char *machine;	/* "": not known */
	struct e2b_worker_place place;
	struct e2b_worker_hooks hooks;
	struct envd *envd;
	bool is_trying;	/* the worker that the template holds, instead of an upload */
	bool is_up;	/* on_up was called for success */
	struct envd_call *upload, *log_call, *list_call;
	struct envd_process *process;
	unsigned starts;
	uint32_t pid;	/* of the bootstrap, which becomes the worker */
	struct failure start_failed;
	struct loop_timer timer;
	char said[SAID_MAX];	/* by a bootstrap or worker that ended */
	size_t said_len;
	struct err err;
};

/* --- the program --- */

static int digest(struct e2b_worker *w, const char *path, struct err *e)
{
	uint8_t piece[65536];
	struct hash h;
	off_t at = 0;
	ssize_t n;

	hash_init(&h);
	while ((n = pread(w->fd, piece, sizeof(piece), at)) > 0) {
		hash_update(&h, piece, (size_t)n);
		at += n;
	}
	if (n < 0 || (uint64_t)at != w->len)
		return err_set(e, ERR_PROVIDER, n < 0 ? errno : 0,
			       "worker program '%s': cannot be read", path);
	hash_hex(&h, w->sha256);
	return 0;
}

struct e2b_worker *e2b_worker_open(struct loop *l, const char *path, struct err *e)
{
	struct e2b_worker *w = calloc(1, sizeof(*w));
	struct stat st;

	if (!w) {
		err_set(e, ERR_NO_MEMORY, 0, "worker");
		return NULL;
	}
	w->loop = l;
	w->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (w->fd < 0 || fstat(w->fd, &st) < 0) {
		err_set(e, ERR_PROVIDER, errno, "worker program '%s'", path);
		goto fail;
	}
	w->len = (uint64_t)st.st_size;
	if (program_machine(path, &w->machine, e) == 0 && digest(w, path, e) == 0)
		return w;
fail:
	e2b_worker_close(w);
	return NULL;
}

void e2b_worker_close(struct e2b_worker *w)
{
	if (!w)
		return;
	loop_timer_stop(&w->timer);
	envd_cancel(w->upload);
	envd_cancel(w->log_call);
	envd_cancel(w->list_call);
	envd_detach(w->process);
	envd_free(w->envd);
	close_fd(&w->fd);
	free(w);
}

static uint32_t left_ms(const struct e2b_worker *w)
{
	uint64_t now = now_ns();

	return now >= w->place.until_ns ? 0 : (uint32_t)((w->place.until_ns - now) / 1000000);
}

static struct e2b_worker *of_timer(struct loop_timer *t)
{
	return (struct e2b_worker *)((char *)t - offsetof(struct e2b_worker, timer));
}

/* The last that is done with w: it may be closed now. */
static void fail(struct e2b_worker *w, const struct err *err)
{
	struct err copy = *err;

	w->hooks.on_up(w->hooks.user, &copy);
}

/* --- it runs; its end says why it does not any more --- */

/* Keeps the last of it. */
static int on_log_data(void *user, const uint8_t *p, size_t n)
{
	struct e2b_worker *w = user;
	size_t max = sizeof(w->said) - 1, over;

	if (n > max) {
		p += n - max;
		n = max;
	}
	over = w->said_len + n > max ? w->said_len + n - max : 0;
	memmove(w->said, w->said + over, w->said_len - over);
	w->said_len -= over;
	memcpy(w->said + w->said_len, p, n);
	w->said_len += n;
	w->said[w->said_len] = 0;
	return 0;
}

static void on_log_read(void *user, const struct envd_result *r)
{
	struct e2b_worker *w = user;
	struct err e = ERR_INIT;

	(void)r;	/* what came of it is what there is to say */
	w->log_call = NULL;
	while (w->said_len && w->said[w->said_len - 1] == '\n')
		w->said[--w->said_len] = 0;
	err_set(&e, w->is_up ? ERR_LOST : w->err.code, 0, "%s%s%.280s", w->err.msg,
		w->said_len ? ": " : "", w->said);
	if (!w->is_up)
		fail(w, &e);
	else
		w->hooks.on_end(w->hooks.user, &e);
}

static void started(struct e2b_worker *w, uint32_t pid);
static void start_failed(struct e2b_worker *w, const struct failure *f);
static void try_failed(struct e2b_worker *w, const char *why);

/* It listens: who asks the edge for its port before that waits there for 100 ms. */
static void on_process_output(void *user, bool is_stderr, const uint8_t *p, size_t n)
{
	struct e2b_worker *w = user;

	if (!is_stderr && !w->is_up && n == strlen(READY) && memcmp(p, READY, n) == 0)
		started(w, w->pid);
	else
		on_log_data(w, p, n);
}

static void on_process_end(void *user, const struct envd_exit *x, const struct failure *f)
{
	struct e2b_worker *w = user;
	struct envd_end end = { QUICK_MS, on_log_read, w };
	char path[100];

	w->process = NULL;
	if (!w->is_up)
		loop_timer_stop(&w->timer);
	if (w->is_trying && (f || x->code == NOT_THERE)) {
		try_failed(w, f ? f->err.msg : "it holds none, or another one");
		return;
	}
	if (f && (w->is_up || w->pid)) {	/* the stream broke, and the worker was started */
		log_debug("%s", f->err.msg);
		if (!w->is_up)
			started(w, w->pid);
		return;
	}
	if (f) {
		start_failed(w, f);
		return;
	}
	if (x->code == STARTED_TWICE) {	/* then the first one runs */
		if (!w->is_up)
			started(w, w->pid);
		return;
	}
	err_set(&w->err,
		x->code == NOT_WHOLE	   ? ERR_INTEGRITY
		: x->code == WRONG_MACHINE ? ERR_UNSUPPORTED
					   : ERR_PROVIDER,
		0,
		"sandbox %s: the worker ended (%s)", w->place.sandbox->id, x->status);
	snprintf(path, sizeof(path), LOG_PATH, w->place.unique);
	if (!w->said_len)	/* then it got as far as the worker, whose words are in its log */
		w->log_call = envd_read(w->envd, path, 0, 0, on_log_data, &end, NULL);
	if (!w->log_call)
		on_log_read(w, NULL);
}

static void started(struct e2b_worker *w, uint32_t pid)
{
	log_debug("sandbox %s: the worker is process %u", w->place.sandbox->id, pid);
	loop_timer_stop(&w->timer);
	w->is_trying = false;
	w->hooks.on_step(w->hooks.user, MADE_START, 0);
	close_fd(&w->fd);
	w->is_up = true;
	w->hooks.on_up(w->hooks.user, NULL);
}

/* Its word may be lost with the stream: then it is tried without. */
static void on_ready_late(struct loop_timer *t)
{
	struct e2b_worker *w = of_timer(t);

	if (w->is_trying)	/* there may be no worker */
		try_failed(w, "nothing was heard of it");
	else
		started(w, w->pid);
}

static void on_process_start(void *user, uint32_t pid)
{
	struct e2b_worker *w = user;
	uint64_t wait_ms = w->is_trying ? TRY_MS : READY_MS;

	w->pid = pid;
	if (!w->is_up &&
	    loop_timer_start(w->loop, &w->timer, wait_ms, on_ready_late, NULL) < 0)
		on_ready_late(&w->timer);
}

static int start(struct e2b_worker *w, struct err *e)
{
	char worker[100], root[100], log[100], size[24], listen[32], lease[16];
	const char *const args[] = {
		"-c",	    w->is_trying ? bootstrap_there : bootstrap,
		"farstep",  w->is_trying ? WORKER_THERE : worker,
		size,	    w->sha256, log,	  root,		  w->machine,	"--listen",
		listen,	    "--token-sha256", w->place.spec->token_sha256, "--root",
		root,	    "--sandbox-id",   w->place.sandbox->id,	     "--lease",
		lease,	    "--say-ready",    w->place.spec->keep ? "--scratch" : NULL,
		SCRATCH,    NULL,
	};
	struct envd_command cmd = { .cmd = "/bin/sh", .args = args, .twice_is_fine = true };
	struct envd_hooks hooks = { w, on_process_start, on_process_output, on_process_end };

	w->starts++;
	w->pid = 0;
	snprintf(worker, sizeof(worker), WORKER_PATH, w->place.unique);
	snprintf(root, sizeof(root), ROOT_PATH, w->place.unique);
	snprintf(log, sizeof(log), LOG_PATH, w->place.unique);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)w->len);
	/* All addresses: what listens on the loopback is forwarded by envd only after a second. */
	snprintf(listen, sizeof(listen), "0.0.0.0:%d", E2B_WORKER_PORT);
	snprintf(lease, sizeof(lease), "%u", w->place.spec->lease_ms);
	w->process = envd_start(w->envd, &cmd, &hooks, e);
	return w->process ? 0 : -1;
}

/* The pid of the process that has the create's id among its words; 0: there is none. */
static uint32_t find_worker(const struct e2b_worker *w, const json *answer)
{
	const json *list = json_get(answer, "processes");

	for (const json *p = json_first(list); p; p = json_next(p)) {
		const json *args = json_get(json_get(p, "config"), "args");

		for (const json *a = json_first(args); a; a = json_next(a)) {
			const char *text = json_string(a);

			if (text && strstr(text, w->place.unique))
				return (uint32_t)json_number(json_get(p, "pid"));
		}
	}
	return 0;
}

static void on_start_timer(struct loop_timer *t)
{
	struct e2b_worker *w = of_timer(t);
	struct err e = ERR_INIT;

	if (start(w, &e) < 0)
		fail(w, &e);
}

static void on_listed(void *user, const struct envd_result *r)
{
	struct e2b_worker *w = user;
	struct envd_hooks hooks = { w, on_process_start, on_process_output, on_process_end };
	uint32_t pid = r->failure ? 0 : find_worker(w, r->answer);
	struct err e = ERR_INIT;

	w->list_call = NULL;
	if (r->failure) {
		fail(w, &r->failure->err);
		return;
	}
	if (pid) {	/* that is all that matters; to watch it is a luxury */
		w->process = envd_attach(w->envd, pid, &hooks, &e);
		started(w, pid);
	} else if (w->starts >= STARTS ||
		   loop_timer_start(w->loop, &w->timer, START_AGAIN_MS * w->starts,
				    on_start_timer, NULL) < 0) {
		fail(w, &w->start_failed.err);
	}
}

/* It may have been started nevertheless: that is asked before it is started again. */
static void start_failed(struct e2b_worker *w, const struct failure *f)
{
	struct envd_end end = { left_ms(w), on_listed, w };

	w->start_failed = *f;
	if (fail_is_ambiguous(f->class) || f->class == FAIL_GONE || f->class == FAIL_RATE ||
	    f->class == FAIL_UNREACHED)
		w->list_call = envd_list(w->envd, &end, NULL);
	if (!w->list_call)
		fail(w, &f->err);
	else
		log_info("%s; asking what runs", f->err.msg);
}

/* --- one upload, or none --- */

static void on_uploaded(void *user, const struct envd_result *r)
{
	struct e2b_worker *w = user;
	struct err e = ERR_INIT;

	w->upload = NULL;
	if (r->failure) {
		fail(w, &r->failure->err);
		return;
	}
	w->hooks.on_step(w->hooks.user, MADE_UPLOAD, w->len + w->place.package.size);
	if (start(w, &e) < 0)
		fail(w, &e);
}

static int upload(struct e2b_worker *w, struct err *e)
{
	char worker[100];
	const struct make_file *package = &w->place.package;
	struct envd_file files[] = { { worker, w->fd, 0, w->len },
				     { w->place.package_path, package->fd, 0, package->size } };
	struct envd_end end = { left_ms(w), on_uploaded, w };

	snprintf(worker, sizeof(worker), WORKER_PATH, w->place.unique);
	w->upload = envd_upload(w->envd, files, package->fd < 0 ? 1 : 2, &end, e);
	return w->upload ? 0 : -1;
}

/* If it runs nevertheless, the bootstrap of the upload will find its root. */
static void try_failed(struct e2b_worker *w, const char *why)
{
	struct err e = ERR_INIT;

	log_debug("sandbox %s: not the worker of its template: %s", w->place.sandbox->id, why);
	envd_detach(w->process);
	w->process = NULL;
	w->is_trying = false;
	w->said_len = 0;
	w->starts = 0;
	if (upload(w, &e) < 0)
		fail(w, &e);
}

int e2b_worker_start(struct e2b_worker *w, struct http *h, const struct e2b_env *env,
		     const struct e2b_worker_place *place, const struct e2b_worker_hooks *hooks,
		     struct err *e)
{
	w->place = *place;
	w->hooks = *hooks;
	w->envd = envd_new(w->loop, h, env, place->sandbox, NULL, e);
	if (!w->envd)
		return -1;
	w->is_trying = place->may_be_there;
	return w->is_trying ? start(w, e) : upload(w, e);
}
