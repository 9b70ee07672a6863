/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b.h"

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
#include "sdk-wrapper/e2b_build.h"
#include "sdk-wrapper/e2b_desk.h"
#include "sdk-wrapper/envd_process.h"

#define PENDING "create:"
#define WORKER_PATH "/tmp/farstep-%s/worker"
#define ROOT_PATH "/tmp/farstep-%s/root"
#define LOG_PATH "/tmp/farstep-%s/log"
/* What a kept sandbox is emptied of; what the template has there stays. */
#define SCRATCH "/tmp:/var/tmp:/dev/shm:/home/user:/root"
#define DEBUG_SANDBOX "debug_sandbox_id"	/* as the official client calls it */
#define DEBUG_ENVD "99.99.99"
#define READY "ready\n"
#define OUR_TEMPLATES "farstep-"
#define WORKER_THERE "/opt/farstep/bin/farstep-worker"

enum {
	QUICK_MS = 10000,
	STARTS = 3,
	NOT_WHOLE = 90,
	STARTED_TWICE = 95,
	NOT_THERE = 96,
	START_AGAIN_MS = 300,
	READY_MS = 500,	/* for the worker to say that it listens */
	TRY_MS = 2000,	/* the same, with the digest of a template's worker before it */
	PENDING_ASKS = 5,
	PENDING_GAP_MS = 800,
	SAID_MAX = 600,
	UNIQUE_LEN = 32,
};

/* Its words: worker, its byte count, its SHA-256, log, root, then the worker's own arguments.  An
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
	"chmod 700 \"$1.run\"\n"
	"mkdir \"$5\" 2>/dev/null || { [ ! -d \"$5\" ] || exit 95; mkdir \"$5\"; }\n"
	"mv -f \"$1.run\" \"$1\"\n"
	"cd \"$5\"\n"
	"w=$1 log=$4\n"
	"shift 5\n"
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
	"shift 5\n"
	"exec \"$w\" \"$@\" </dev/null 2>>\"$log\"\n";

struct e2b {
	struct e2b_desk desk;
	/* bring-up */
	const struct sandbox_spec *spec;
	struct sandbox *ret;
	struct make_hooks hooks;
	uint64_t until_ns, step_ns;
	char unique[UNIQUE_LEN + 1], host[128];
	const char *labels[12];
	struct e2b_create create;
	struct e2b_fit fit;
	struct e2b_build *build;	/* of a template of that size */
	struct e2b_build_spec build_spec;
	bool was_built;
	struct e2b_call *call;
	struct e2b_sandbox made;
	struct envd *envd;
	int worker_fd;
	uint64_t worker_len;
	char worker_sha256[SHA256_HEX];
	bool is_trying;	/* the worker that the template holds, instead of an upload */
	bool is_up;	/* on_done was called for success */
	struct envd_call *upload;
	struct envd_process *process;
	unsigned starts;
	uint32_t pid;	/* of the bootstrap, which becomes the worker */
	struct failure start_failed;
	struct envd_call *log_call, *list_call;
	struct loop_timer timer;
	char said[SAID_MAX];	/* by a bootstrap or worker that ended */
	size_t said_len;
	struct err err;
	/* the other calls */
	void (*on_done)(void *user, const struct err *err);
	void (*on_state)(void *user, enum sandbox_state state, const char *why);
	void *user;
};

/* --- life --- */

struct e2b *e2b_open(struct loop *l, struct err *e)
{
	struct e2b *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "e2b");
		return NULL;
	}
	s->worker_fd = -1;
	if (e2b_desk_open(&s->desk, l, e) == 0)
		return s;
	e2b_close(s);
	return NULL;
}

/* What only the bring-up needs. */
static void up_release(struct e2b *s)
{
	loop_timer_stop(&s->timer);
	e2b_cancel(s->call);
	s->call = NULL;
	e2b_build_cancel(s->build);
	s->build = NULL;
	envd_cancel(s->upload);
	s->upload = NULL;
	envd_cancel(s->log_call);
	s->log_call = NULL;
	envd_cancel(s->list_call);
	s->list_call = NULL;
	envd_detach(s->process);
	s->process = NULL;
	envd_free(s->envd);
	s->envd = NULL;
	close_fd(&s->worker_fd);
	s->spec = NULL;
}

void e2b_close(struct e2b *s)
{
	if (!s)
		return;
	up_release(s);
	e2b_desk_close(&s->desk);
	wipe(&s->made, sizeof(s->made));
	free(s);
}

/* --- what is asked for --- */

static int make_unique(char ret[UNIQUE_LEN + 1], struct err *e)
{
	uint8_t rnd[UNIQUE_LEN / 2];

	if (random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(rnd, sizeof(rnd), ret);
	return 0;
}

static void make_create(const struct sandbox_spec *spec, const struct e2b_fit *fit,
			const char *unique, char *host, size_t host_size, const char *labels[12],
			struct e2b_create *ret)
{
	uint32_t life_ms = spec->lease_ms;
	size_t n = 0;

	if (spec->life_ms && spec->life_ms < life_ms)
		life_ms = spec->life_ms;

	if (gethostname(host, host_size - 1) < 0 || !host[0])
		snprintf(host, host_size, "unknown");
	host[host_size - 1] = 0;
	labels[n++] = E2B_LABEL_RUN;
	labels[n++] = spec->run;
	if (spec->key_id && *spec->key_id) {
		labels[n++] = E2B_LABEL_KEY;
		labels[n++] = spec->key_id;
	}
	labels[n++] = E2B_LABEL_HOST;
	labels[n++] = host;
	labels[n++] = E2B_LABEL_NETWORK;
	labels[n++] = spec->network ? "on" : "off";
	if (spec->keep) {
		labels[n++] = E2B_LABEL_KEEP;
		labels[n++] = "yes";
	}
	labels[n] = NULL;
	*ret = (struct e2b_create){ .template_name = fit->template_name,
				    .timeout_s = (life_ms + 999) / 1000,
				    .internet = spec->network,
				    .hosts = spec->hosts,
				    .metadata = labels,
				    .unique = unique };
}

/* With E2B_DEBUG nothing is created: the sandbox is this machine, as with the official client. */
static int check_debug(const struct sandbox_spec *spec, struct err *e)
{
	const char *what = spec->cpu || spec->memory_mb ? "a size"
			   : spec->template_name	? "a template"
			   : spec->hosts		? "a list of hosts"
							: NULL;

	if (!what)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, 0,
		       "%s: with E2B_DEBUG=true the sandbox is this machine, as it is", what);
}

int e2b_check(const struct sandbox_spec *spec, struct err *e)
{
	struct e2b_fit fit;

	return e2b_fit(spec->template_name, spec->cpu, spec->memory_mb, &fit, e);
}

int e2b_describe(const struct sandbox_spec *spec, struct buf *out, struct err *e)
{
	const char *labels[12];
	char host[128] = "";
	struct e2b_create c;
	struct e2b_fit fit;
	struct buf body CLEANUP(buf_release);
	struct jw w;

	buf_init(&body, LIMIT_TEXT);
	if (e2b_fit(spec->template_name, spec->cpu, spec->memory_mb, &fit, e) < 0)
		return -1;
	make_create(spec, &fit, "(made for each request)", host, sizeof(host), labels, &c);
	if (e2b_create_body(&c, E2B_V2, &body, e) < 0)
		return -1;
	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "provider", "e2b");
	jw_kstr(&w, "request", "POST /v2/sandboxes");
	jw_key(&w, "body");
	jw_raw(&w, (const char *)buf_data(&body), buf_len(&body));
	if (fit.is_sized) {	/* what the template must be, which is checked */
		jw_kobj(&w, "size");
		jw_kint(&w, "cpu", fit.size.cpu);
		jw_kint(&w, "memory_mb", fit.size.memory_mb);
		jw_kstr(&w, "base", fit.base);
		jw_kbool(&w, "build_template", spec->build_template);
		jw_end(&w);
	}
	jw_end(&w);
	return jw_done(&w, e);
}

int e2b_address(const struct e2b_env *env, const struct e2b_sandbox *s, char *ret, size_t size,
		struct err *e)
{
	struct e2b_place p;
	char headers[400] = "";
	int n;

	if (e2b_place(env, s->domain, s->id, E2B_WORKER_PORT, &p, e) < 0)
		return -1;
	if (p.shared || s->traffic_token[0])
		snprintf(headers, sizeof(headers), "#E2b-Sandbox-Id=%s&E2b-Sandbox-Port=%d%s%s",
			 s->id, E2B_WORKER_PORT,
			 s->traffic_token[0] ? "&E2b-Traffic-Access-Token=" : "", s->traffic_token);
	/* http://... becomes ws://..., https://... wss://... */
	n = snprintf(ret, size, "ws%s%s", p.base + strlen("http"), headers);
	if (n < 0 || (size_t)n >= size)
		return err_set(e, ERR_LIMIT, 0, "the address of sandbox %s is too long: '%.100s'",
			       s->id, p.base);
	return 0;
}

/* --- bring-up --- */

static uint32_t left_ms(const struct e2b *s)
{
	uint64_t now = now_ns();

	return now >= s->until_ns ? 0 : (uint32_t)((s->until_ns - now) / 1000000);
}

static void tell_step(struct e2b *s, enum make_step step, uint64_t bytes)
{
	uint64_t now = now_ns();

	if (s->hooks.on_step)
		s->hooks.on_step(s->hooks.user, step, (now - s->step_ns) / 1000000, bytes);
	s->step_ns = now;
}

static void up_failed(struct e2b *s, const struct err *err)
{
	struct err copy = *err;

	up_release(s);
	s->hooks.on_done(s->hooks.user, &copy);
}

/* The process is watched on. */
static void up_succeeded(struct e2b *s)
{
	close_fd(&s->worker_fd);
	s->spec = NULL;
	s->is_up = true;
	s->hooks.on_done(s->hooks.user, NULL);
}

/* 4: the worker runs; its end says why it does not any more */

/* Keeps the last of it. */
static int on_log_data(void *user, const uint8_t *p, size_t n)
{
	struct e2b *s = user;
	size_t max = sizeof(s->said) - 1, over;

	if (n > max) {
		p += n - max;
		n = max;
	}
	over = s->said_len + n > max ? s->said_len + n - max : 0;
	memmove(s->said, s->said + over, s->said_len - over);
	s->said_len -= over;
	memcpy(s->said + s->said_len, p, n);
	s->said_len += n;
	s->said[s->said_len] = 0;
	return 0;
}

static void on_log_read(void *user, const struct envd_result *r)
{
	struct e2b *s = user;
	struct err e = ERR_INIT;

	(void)r;	/* what came of it is what there is to say */
	s->log_call = NULL;
	while (s->said_len && s->said[s->said_len - 1] == '\n')
		s->said[--s->said_len] = 0;
	err_set(&e, s->is_up ? ERR_LOST : s->err.code, 0, "%s%s%.280s", s->err.msg,
		s->said_len ? ": " : "", s->said);
	if (!s->is_up)
		up_failed(s, &e);
	else if (s->hooks.on_worker_end)
		s->hooks.on_worker_end(s->hooks.user, &e);
}

static void worker_started(struct e2b *s, uint32_t pid);
static void start_failed(struct e2b *s, const struct failure *f);
static void try_failed(struct e2b *s, const char *why);

/* It listens: who asks the edge for its port before that waits there for 100 ms. */
static void on_process_output(void *user, bool is_stderr, const uint8_t *p, size_t n)
{
	struct e2b *s = user;

	if (!is_stderr && !s->is_up && n == strlen(READY) && memcmp(p, READY, n) == 0)
		worker_started(s, s->pid);
	else
		on_log_data(s, p, n);
}

static void on_process_end(void *user, const struct envd_exit *x, const struct failure *f)
{
	struct e2b *s = user;
	struct envd_end end = { QUICK_MS, on_log_read, s };
	char path[100];

	s->process = NULL;
	if (!s->is_up)
		loop_timer_stop(&s->timer);
	if (s->is_trying && (f || x->code == NOT_THERE)) {
		try_failed(s, f ? f->err.msg : "it holds none, or another one");
		return;
	}
	if (f && (s->is_up || s->pid)) {	/* the stream broke, and the worker was started */
		log_debug("%s", f->err.msg);
		if (!s->is_up)
			worker_started(s, s->pid);
		return;
	}
	if (f) {
		start_failed(s, f);
		return;
	}
	if (x->code == STARTED_TWICE) {	/* then the first one runs */
		if (!s->is_up)
			worker_started(s, s->pid);
		return;
	}
	err_set(&s->err, x->code == NOT_WHOLE ? ERR_INTEGRITY : ERR_PROVIDER, 0,
		"sandbox %s: the worker ended (%s)", s->made.id, x->status);
	snprintf(path, sizeof(path), LOG_PATH, s->unique);
	if (!s->said_len)	/* then it got as far as the worker, whose words are in its log */
		s->log_call = envd_read(s->envd, path, 0, 0, on_log_data, &end, NULL);
	if (!s->log_call)
		on_log_read(s, NULL);
}

static void worker_started(struct e2b *s, uint32_t pid)
{
	log_debug("sandbox %s: the worker is process %u", s->made.id, pid);
	loop_timer_stop(&s->timer);
	s->is_trying = false;
	tell_step(s, MADE_START, 0);
	up_succeeded(s);
}

/* Its word may be lost with the stream: then it is tried without. */
static void on_ready_late(struct loop_timer *t)
{
	struct e2b *s = (struct e2b *)((char *)t - offsetof(struct e2b, timer));

	if (s->is_trying)	/* there may be no worker */
		try_failed(s, "nothing was heard of it");
	else
		worker_started(s, s->pid);
}

static void on_process_start(void *user, uint32_t pid)
{
	struct e2b *s = user;
	uint64_t wait_ms = s->is_trying ? TRY_MS : READY_MS;

	s->pid = pid;
	if (!s->is_up &&
	    loop_timer_start(s->desk.loop, &s->timer, wait_ms, on_ready_late, NULL) < 0)
		on_ready_late(&s->timer);
}

static void start_worker(struct e2b *s)
{
	char worker[100], root[100], log[100], size[24], listen[32], lease[16];
	const char *const args[] = {
		"-c",	    s->is_trying ? bootstrap_there : bootstrap,
		"farstep",  s->is_trying ? WORKER_THERE : worker,
		size,	    s->worker_sha256, log,	  root,		  "--listen",
		listen,	    "--token-sha256", s->spec->token_sha256, "--root",
		root,	    "--sandbox-id",   s->made.id,	     "--lease",
		lease,	    "--say-ready",    s->spec->keep ? "--scratch" : NULL,
		SCRATCH,    NULL,
	};
	struct envd_command cmd = { .cmd = "/bin/sh", .args = args, .twice_is_fine = true };
	struct envd_hooks hooks = { s, on_process_start, on_process_output, on_process_end };
	struct err e = ERR_INIT;

	s->starts++;
	s->pid = 0;
	snprintf(worker, sizeof(worker), WORKER_PATH, s->unique);
	snprintf(root, sizeof(root), ROOT_PATH, s->unique);
	snprintf(log, sizeof(log), LOG_PATH, s->unique);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)s->worker_len);
	/* All addresses: what listens on the loopback is forwarded by envd only after a second. */
	snprintf(listen, sizeof(listen), "0.0.0.0:%d", E2B_WORKER_PORT);
	snprintf(lease, sizeof(lease), "%u", s->spec->lease_ms);
	s->process = envd_start(s->envd, &cmd, &hooks, &e);
	if (!s->process)
		up_failed(s, &e);
}

/* The pid of the process that has the create's id among its words; 0: there is none. */
static uint32_t find_worker(const struct e2b *s, const json *answer)
{
	const json *list = json_get(answer, "processes");

	for (const json *p = json_first(list); p; p = json_next(p)) {
		const json *args = json_get(json_get(p, "config"), "args");

		for (const json *a = json_first(args); a; a = json_next(a)) {
			const char *text = json_string(a);

			if (text && strstr(text, s->unique))
				return (uint32_t)json_number(json_get(p, "pid"));
		}
	}
	return 0;
}

static void on_start_timer(struct loop_timer *t)
{
	start_worker((struct e2b *)((char *)t - offsetof(struct e2b, timer)));
}

static void on_listed(void *user, const struct envd_result *r)
{
	struct e2b *s = user;
	struct envd_hooks hooks = { s, on_process_start, on_process_output, on_process_end };
	uint32_t pid = r->failure ? 0 : find_worker(s, r->answer);
	struct err e = ERR_INIT;

	s->list_call = NULL;
	if (r->failure) {
		up_failed(s, &r->failure->err);
		return;
	}
	if (pid) {	/* that is all that matters; to watch it is a luxury */
		s->process = envd_attach(s->envd, pid, &hooks, &e);
		worker_started(s, pid);
	} else if (s->starts >= STARTS ||
		   loop_timer_start(s->desk.loop, &s->timer, START_AGAIN_MS * s->starts,
				    on_start_timer, NULL) < 0) {
		up_failed(s, &s->start_failed.err);
	}
}

/* It may have been started nevertheless: that is asked before it is started again. */
static void start_failed(struct e2b *s, const struct failure *f)
{
	struct envd_end end = { left_ms(s), on_listed, s };

	s->start_failed = *f;
	if (fail_is_ambiguous(f->class) || f->class == FAIL_GONE || f->class == FAIL_RATE ||
	    f->class == FAIL_UNREACHED)
		s->list_call = envd_list(s->envd, &end, NULL);
	if (!s->list_call)
		up_failed(s, &f->err);
	else
		log_info("%s; asking what runs", f->err.msg);
}

/* 3: one upload, or none */

static void on_uploaded(void *user, const struct envd_result *r)
{
	struct e2b *s = user;

	s->upload = NULL;
	if (r->failure) {
		up_failed(s, &r->failure->err);
		return;
	}
	tell_step(s, MADE_UPLOAD, s->worker_len);
	start_worker(s);
}

static void upload(struct e2b *s)
{
	char worker[100];
	struct envd_file file = { worker, s->worker_fd, 0, s->worker_len };
	struct envd_end end = { left_ms(s), on_uploaded, s };
	struct err e = ERR_INIT;

	snprintf(worker, sizeof(worker), WORKER_PATH, s->unique);
	s->upload = envd_upload(s->envd, &file, 1, &end, &e);
	if (!s->upload)
		up_failed(s, &e);
}

/* If it runs nevertheless, the bootstrap of the upload will find its root. */
static void try_failed(struct e2b *s, const char *why)
{
	log_debug("sandbox %s: not the worker of its template: %s", s->made.id, why);
	envd_detach(s->process);
	s->process = NULL;
	s->is_trying = false;
	s->said_len = 0;
	s->starts = 0;
	upload(s);
}

static void bring_worker(struct e2b *s)
{
	s->is_trying = strncmp(s->fit.base, OUR_TEMPLATES, strlen(OUR_TEMPLATES)) == 0;
	if (s->is_trying)
		start_worker(s);
	else
		upload(s);
}

/* 2: it is there */

static void on_sized(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;
	struct e2b_size got = { 0, 0 };
	struct err e = ERR_INIT;

	s->call = NULL;
	if (r->failure) {
		up_failed(s, &r->failure->err);
		return;
	}
	got = (struct e2b_size){ r->sandbox->cpus, r->sandbox->memory_mb };
	if (e2b_fit_check(&s->fit, &got, &e) < 0) {
		err_wrap(&e, "sandbox %s", s->made.id);
		up_failed(s, &e);
		return;
	}
	bring_worker(s);
}

/* The answer to create does not say it. */
static void ask_size(struct e2b *s)
{
	struct e2b_end end = { left_ms(s), on_sized, s };
	struct err e = ERR_INIT;

	s->call = e2b_get(s->desk.api, s->made.id, &end, &e);
	if (!s->call)
		up_failed(s, &e);
}

static void sandbox_is_there(struct e2b *s)
{
	struct err e = ERR_INIT;

	snprintf(s->ret->id, sizeof(s->ret->id), "%s", s->made.id);
	if (e2b_address(&s->desk.env, &s->made, s->ret->address, sizeof(s->ret->address), &e) < 0) {
		up_failed(s, &e);
		return;
	}
	tell_step(s, MADE_SANDBOX, 0);
	s->envd = envd_new(s->desk.loop, s->desk.http, &s->desk.env, &s->made, NULL, &e);
	if (!s->envd) {
		up_failed(s, &e);
		return;
	}
	if (s->fit.is_sized) {	/* nothing goes there before */
		ask_size(s);
		return;
	}
	bring_worker(s);
}

static void on_created(void *user, const struct e2b_result *r);

static void on_build_line(void *user, const char *line)
{
	struct e2b *s = user;

	log_info("template %s: %s", s->fit.template_name, line);
}

static void on_built(void *user, const struct err *err)
{
	struct e2b *s = user;
	struct e2b_end end = { 0, on_created, s };
	struct err e = ERR_INIT;

	s->build = NULL;
	if (err) {
		up_failed(s, err);
		return;
	}
	/* That took its own time. */
	s->until_ns += now_ns() - s->step_ns;
	s->step_ns = now_ns();
	end.deadline_ms = left_ms(s);
	s->call = e2b_create(s->desk.api, &s->create, NULL, &end, &e);
	if (s->call)
		snprintf(s->ret->id, sizeof(s->ret->id), PENDING "%s", s->unique);
	else
		up_failed(s, &e);
}

/* Of the size that was asked for.  While it is built there is nothing to end. */
static void template_is_missing(struct e2b *s)
{
	const struct e2b_build_hooks hooks = { s, on_build_line, on_built };
	struct err e = ERR_INIT;

	s->ret->id[0] = 0;
	if (!s->spec->build_template) {
		e2b_fit_missing(&s->fit, &e);
	} else {
		log_warn("template %s: there is none yet; building it, which takes minutes",
			 s->fit.template_name);
		s->was_built = true;
		s->build_spec = (struct e2b_build_spec){ .name = s->fit.template_name,
							 .size = s->fit.size,
							 .from_template = s->fit.base };
		s->build = e2b_build_start(s->desk.loop, s->desk.http, s->desk.api, &s->build_spec,
					   E2B_BUILD_MS, &hooks, &e);
		if (s->build)
			return;
	}
	up_failed(s, &e);
}

static void on_asked_for(void *user)
{
	struct e2b *s = user;

	if (s->hooks.on_asked)
		s->hooks.on_asked(s->hooks.user);
}

static void on_created(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;

	s->call = NULL;
	if (r->failure && r->failure->class == FAIL_TEMPLATE && s->fit.is_sized && !s->was_built) {
		template_is_missing(s);
		return;
	}
	if (r->failure) {
		/* Nothing was made: nothing is to be destroyed. */
		if (r->failure->err.admitted == ADMITTED_NO)
			s->ret->id[0] = 0;
		up_failed(s, &r->failure->err);
		return;
	}
	s->made = *r->sandbox;
	sandbox_is_there(s);
}

static void on_debug_timer(struct loop_timer *t)
{
	sandbox_is_there((struct e2b *)((char *)t - offsetof(struct e2b, timer)));
}

/* 1: the request */

static int digest_worker(struct e2b *s, struct err *e)
{
	uint8_t piece[65536];
	struct hash h;
	off_t at = 0;
	ssize_t n;

	hash_init(&h);
	while ((n = pread(s->worker_fd, piece, sizeof(piece), at)) > 0) {
		hash_update(&h, piece, (size_t)n);
		at += n;
	}
	if (n < 0 || (uint64_t)at != s->worker_len)
		return err_set(e, ERR_PROVIDER, n < 0 ? errno : 0,
			       "worker program '%s': cannot be read",
			       s->spec->worker_path);
	hash_hex(&h, s->worker_sha256);
	return 0;
}

static int open_worker(struct e2b *s, struct err *e)
{
	struct stat st;

	s->worker_fd = open(s->spec->worker_path, O_RDONLY | O_CLOEXEC);
	if (s->worker_fd < 0 || fstat(s->worker_fd, &st) < 0)
		return err_set(e, ERR_PROVIDER, errno, "worker program '%s'", s->spec->worker_path);
	s->worker_len = (uint64_t)st.st_size;
	return digest_worker(s, e);
}

int e2b_up(struct e2b *s, const struct sandbox_spec *spec, struct sandbox *ret,
	   uint32_t deadline_ms, const struct make_hooks *hooks, struct err *e)
{
	struct e2b_end end = { deadline_ms, on_created, s };

	s->spec = spec;
	s->ret = ret;
	s->hooks = *hooks;
	s->step_ns = now_ns();
	s->until_ns = s->step_ns + (uint64_t)deadline_ms * 1000000;
	s->is_up = s->was_built = false;
	s->said_len = 0;
	s->starts = 0;
	*ret = (struct sandbox){ .provider = "e2b", .network = spec->network };
	snprintf(ret->run, sizeof(ret->run), "%s", spec->run);
	if (open_worker(s, e) < 0 || make_unique(s->unique, e) < 0)
		goto fail;
	if (e2b_fit(spec->template_name, spec->cpu, spec->memory_mb, &s->fit, e) < 0 ||
	    (s->desk.env.debug && check_debug(spec, e) < 0))
		goto fail;
	make_create(spec, &s->fit, s->unique, s->host, sizeof(s->host), s->labels, &s->create);
	if (s->desk.env.debug) {
		s->made = (struct e2b_sandbox){ .id = DEBUG_SANDBOX, .envd_version = DEBUG_ENVD };
		if (loop_timer_start(s->desk.loop, &s->timer, 0, on_debug_timer, e) < 0)
			goto fail;
		return 0;
	}
	snprintf(ret->id, sizeof(ret->id), PENDING "%s", s->unique);
	s->call = e2b_create(s->desk.api, &s->create, on_asked_for, &end, e);
	if (s->call)
		return 0;
fail:
	ret->id[0] = 0;
	up_release(s);
	return -1;
}

/* --- while it lives --- */

static void on_extended(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;

	s->on_done(s->user, r->failure ? &r->failure->err : NULL);
}

int e2b_extend(struct e2b *s, const char *id, uint32_t lease_ms, uint32_t deadline_ms,
	       void (*on_done)(void *user, const struct err *err), void *user, struct err *e)
{
	struct e2b_end end = { deadline_ms, on_extended, s };

	s->on_done = on_done;
	s->user = user;
	return e2b_set_timeout(s->desk.api, id, (lease_ms + 999) / 1000, &end, e) ? 0 : -1;
}

static void on_asked(void *user, const struct e2b_result *r)
{
	struct e2b *s = user;
	enum sandbox_state state = SANDBOX_RUNNING;
	const char *why = "";

	if (r->failure && r->failure->class == FAIL_GONE) {
		state = SANDBOX_GONE;
		why = "E2B does not know it any more: killed, or past its time";
	} else if (r->failure) {
		state = SANDBOX_UNKNOWN;
		why = r->failure->err.msg;
	} else if (r->sandbox->state == E2B_PAUSED) {
		state = SANDBOX_GONE;
		why = "it was paused";
	}
	s->on_state(s->user, state, why);
}

int e2b_ask(struct e2b *s, const char *id, uint32_t deadline_ms,
	    void (*on_state)(void *user, enum sandbox_state state, const char *why), void *user,
	    struct err *e)
{
	struct e2b_end end = { deadline_ms, on_asked, s };

	s->on_state = on_state;
	s->user = user;
	return e2b_get(s->desk.api, id, &end, e) ? 0 : -1;
}

/* --- the end --- */

enum { TO_KILL_MAX = 8 };

/* Of one sandbox, or of all that one request has made. */
struct ending {
	struct e2b_desk desk;
	uint64_t until_ns;
	char ids[TO_KILL_MAX][64];
	unsigned n;
};

static void ending_end(struct ending *d)
{
	e2b_desk_close(&d->desk);
}

static void on_ended(void *user, const struct e2b_result *r)
{
	struct ending *d = user;

	e2b_desk_answered(&d->desk, r);
}

static void on_to_kill(void *user, const struct e2b_sandbox *s, const json *item)
{
	struct ending *d = user;

	(void)item;
	if (d->n < TO_KILL_MAX)
		snprintf(d->ids[d->n++], sizeof(d->ids[0]), "%s", s->id);
}

static struct e2b_end end_in_time(struct ending *d)
{
	uint64_t now = now_ns(), left = now < d->until_ns ? d->until_ns - now : 0;

	return (struct e2b_end){ (uint32_t)(left / 1000000), on_ended, d };
}

/* What a request that was given up has made; it may still be at work: some patience. */
static int find_pending(struct ending *d, const char *unique, struct err *e)
{
	const char *filter[] = { E2B_UNIQUE, unique, NULL };

	for (int i = 0; i < PENDING_ASKS && !d->n; i++) {
		uint64_t next_ns = now_ns() + PENDING_GAP_MS * UINT64_C(1000000);
		struct e2b_end end = end_in_time(d);
		struct e2b_call *c = e2b_list(d->desk.api, filter, true, on_to_kill, &end, e);

		if (e2b_desk_wait(&d->desk, c != NULL, e) < 0)
			return -1;
		while (!d->n && i + 1 < PENDING_ASKS && now_ns() < next_ns)
			if (loop_pass(d->desk.loop, 50, e) < 0)
				return -1;
	}
	return 0;
}

static int destroy(struct ending *d, const char *id, struct err *e)
{
	if (strncmp(id, PENDING, strlen(PENDING)) != 0)
		snprintf(d->ids[d->n++], sizeof(d->ids[0]), "%.63s", id);
	else if (find_pending(d, id + strlen(PENDING), e) < 0)
		return -1;
	for (unsigned i = 0; i < d->n; i++) {
		struct e2b_end end = end_in_time(d);
		struct e2b_call *c = e2b_kill(d->desk.api, d->ids[i], &end, e);

		if (e2b_desk_wait(&d->desk, c != NULL, e) < 0)
			return -1;
	}
	return 0;
}

int e2b_destroy(const struct sandbox *sandbox, int deadline_ms, struct err *e)
{
	struct ending d CLEANUP(ending_end) = { .n = 0 };
	struct err own = ERR_INIT;

	e = e ? e : &own;
	if (!sandbox->id[0] || strcmp(sandbox->id, DEBUG_SANDBOX) == 0)
		return 0;
	d.until_ns = now_ns() + (uint64_t)deadline_ms * 1000000;
	if (e2b_desk_open(&d.desk, NULL, e) == 0 && destroy(&d, sandbox->id, e) == 0)
		return 0;
	return err_wrap(e, "sandbox %.100s", sandbox->id);
}
