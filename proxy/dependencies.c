/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/dependencies.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "proxy/dependencies/report.h"
#include "proxy/dependencies/scripts.h"
#include "proxy/last_words.h"
#include "proxy/run.h"

#define LOG_NAME "install.log"

enum { LOG_TAIL = 8192 };

static const struct tool {
	const char *step, *program, *option, *script;
} tools[TOOLS] = {
	[TOOL_PIP] = { RESERVED_STEPS ".pip", "python3", "-c", dependencies_pip },
	[TOOL_NPM] = { RESERVED_STEPS ".npm", "node", "-e", dependencies_npm },
};

/* What becomes of one tool's requirements. */
struct need {
	char *config; /* of the step, JSON; NULL: nothing is required */
	bool done;
	struct dependency_report report;
	struct fetched *artifacts; /* one place more than the step's own, for the log */
	size_t n_artifacts;
	bool open;
	struct step_run sr;
	struct sink out, err;
	struct fetch fetch;
	struct call release;
};

struct dependencies {
	struct run *r;
	struct need needs[TOOLS];
	int tool; /* whose turn it is; TOOLS: all are done */
	bool running;
	struct call cancel;
};

static struct need *now(struct dependencies *d)
{
	return &d->needs[d->tool];
}

/* ---- what is journalled ---- */

static void name_file(char to[64], int tool, const char *end)
{
	snprintf(to, 64, "journal/%s.%s", tools[tool].step, end);
}

/* Without a network pip and npm would try for a long time. */
static bool is_offline(const struct run *r)
{
	return strcmp(r->o->target, "local") == 0 && !r->o->network;
}

/* The order of precedence: option or environment, then the file. */
static bool may_install(const struct run *r)
{
	return (r->o->install_deps ? r->o->install_deps : r->plan->install_deps) > 0;
}

static int print_config(const struct run *r, int tool, struct buf *out, struct err *e)
{
	const struct requirements *need = &r->plan->requires[tool];
	char lock[SHA256_HEX];
	struct jw w;

	requirements_digest(need, (enum package_tool)tool, lock);
	jw_init(&w, out);
	jw_obj(&w);
	jw_karr(&w, "argv");
	jw_str(&w, tools[tool].program);
	jw_str(&w, tools[tool].option);
	jw_str(&w, tools[tool].script);
	jw_end(&w);
	jw_karr(&w, "requirements");
	for (size_t i = 0; i < need->n; i++)
		jw_str(&w, need->list[i]);
	jw_end(&w);
	jw_kstr(&w, "lock", lock);
	jw_kbool(&w, "install", may_install(r));
	jw_kbool(&w, "offline", is_offline(r));
	jw_kstr(&w, "wheels", tool == TOOL_PIP ? r->plan->wheels : NULL);
	jw_end(&w);
	return jw_done(&w, e);
}

int dependencies_prepare(struct run *r, struct err *e)
{
	char path[64];
	struct buf b;
	int ret = 0;

	buf_init(&b, LIMIT_TEXT);
	for (int i = 0; i < TOOLS && ret == 0; i++) {
		if (!r->plan->requires[i].n)
			continue;
		buf_reset(&b);
		name_file(path, i, "config");
		ret = print_config(r, i, &b, e);
		if (ret == 0)
			ret = fs_write(r->dir.fd, path, buf_data(&b), buf_len(&b), 0600, false, e);
	}
	buf_release(&b);
	return ret < 0 ? err_wrap(e, "requirements") : 0;
}

static int read_report(struct dependencies *d, int tool, const char *path, struct err *e)
{
	struct buf b;
	int ret;

	buf_init(&b, LIMIT_DEPENDENCY_REPORT);
	ret = fs_read(d->r->dir.fd, path, LIMIT_DEPENDENCY_REPORT, &b, e);
	if (ret == 0)
		ret = dependency_report_parse(&d->needs[tool].report, (const char *)buf_data(&b),
		                              buf_len(&b), e);
	buf_release(&b);
	return ret;
}

static int read_need(struct dependencies *d, int tool, struct err *e)
{
	struct need *need = &d->needs[tool];
	char path[64];
	struct buf b;
	int ret = 0;

	name_file(path, tool, "config");
	if (faccessat(d->r->dir.fd, path, F_OK, 0) < 0)
		return 0;
	buf_init(&b, LIMIT_TEXT);
	if (fs_read(d->r->dir.fd, path, LIMIT_TEXT, &b, e) < 0 ||
	    !(need->config = buf_take_str(&b, e)))
		ret = -1;
	buf_release(&b);
	name_file(path, tool, "done");
	if (ret == 0 && faccessat(d->r->dir.fd, path, F_OK, 0) == 0) {
		ret = read_report(d, tool, path, e);
		need->done = ret == 0;
	}
	return ret;
}

/* ---- events ---- */

static void end_event(struct run *r, const char *name, struct jw *w)
{
	struct err e = ERR_INIT;

	jw_end(w);
	if (jw_done(w, &e) < 0)
		log_error("event %s: %s", name, e.msg);
	else
		run_event(r, name, w->out);
	buf_release(w->out);
}

static void begin_event(struct jw *w, struct buf *b)
{
	buf_init(b, LIMIT_TEXT);
	jw_init(w, b);
	jw_obj(w);
}

static void write_required(struct jw *w, const char *config)
{
	json *v = json_parse(config, strlen(config), LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL);

	jw_karr(w, "required");
	for (const json *one = json_first(json_get(v, "requirements")); one; one = json_next(one)) {
		const char *text = json_string(one), *hash = strstr(text, " --hash=");

		jw_strn(w, text, hash ? (size_t)(hash - text) : strlen(text));
	}
	jw_end(w);
	json_free(v);
}

static void write_list(struct jw *w, const char *key, const json *list)
{
	jw_karr(w, key);
	for (const json *v = json_first(list); v; v = json_next(v))
		jw_json(w, v);
	jw_end(w);
}

static void tell_report(struct dependencies *d)
{
	const struct need *need = now(d);
	struct buf b;
	struct jw w;

	begin_event(&w, &b);
	jw_kstr(&w, "tool", package_tool_names[d->tool]);
	write_required(&w, need->config);
	write_list(&w, "present", need->report.present);
	write_list(&w, "missing", need->report.missing);
	end_event(d->r, "dependency_check", &w);
	for (const json *v = json_first(need->report.installed); v; v = json_next(v)) {
		begin_event(&w, &b);
		jw_kstr(&w, "tool", package_tool_names[d->tool]);
		jw_kjson(&w, "package", json_get(v, "package"));
		jw_kjson(&w, "version", json_get(v, "version"));
		jw_kjson(&w, "duration_ms", json_get(v, "duration_ms"));
		end_event(d->r, "dependency_installed", &w);
	}
}

static void tell_artifacts(struct dependencies *d)
{
	const struct need *need = now(d);
	struct buf b;
	struct jw w;

	for (size_t i = 0; i < need->n_artifacts; i++) {
		begin_event(&w, &b);
		jw_kstr(&w, "step_id", tools[d->tool].step);
		jw_kint(&w, "attempt", 1);
		jw_kstr(&w, "path", need->artifacts[i].path);
		jw_kint(&w, "size", (int64_t)need->artifacts[i].size);
		jw_kstr(&w, "sha256", need->artifacts[i].sha256);
		end_event(d->r, "artifact_created", &w);
	}
}

static void tell_end(struct dependencies *d, const struct err *why)
{
	double ms = now(d)->sr.verified ? now(d)->sr.receipt.usage.wall_ms : 0;
	struct buf b;
	struct jw w;

	begin_event(&w, &b);
	jw_kstr(&w, "step_id", tools[d->tool].step);
	jw_kint(&w, "attempt", 1);
	if (why) {
		jw_kstr(&w, "status", status_name(now(d)->sr.status));
		jw_kstr(&w, "error_type", err_name(why->code));
		jw_kstr(&w, "error", why->msg);
	} else {
		jw_kint(&w, "rows_processed", 0);
	}
	jw_knum(&w, "duration_ms", ms);
	if (why)
		end_event(d->r, "step_failed", &w);
	else
		end_event(d->r, "step_complete", &w);
}

/* ---- the tool's log, as an artifact ---- */

/* A copy of the log as it was written here, masked: what the tool printed may hold a secret. */
static int copy_log(struct dependencies *d, struct fetched *ret, struct err *e)
{
	char from[64], to[96], chunk[16384];
	auto_close int in = -1;
	auto_close int out = -1;
	struct hash h;
	ssize_t n;

	snprintf(from, sizeof(from), "logs/%s.stdout", tools[d->tool].step);
	snprintf(to, sizeof(to), "artifacts/%s", tools[d->tool].step);
	if (fs_mkdirs(d->r->dir.fd, to, 0700, e) < 0)
		return -1;
	snprintf(to, sizeof(to), "artifacts/%s/" LOG_NAME, tools[d->tool].step);
	in = openat(d->r->dir.fd, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	out = openat(d->r->dir.fd, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (in < 0 || out < 0)
		return err_set(e, ERR_SYS, errno, "%s", in < 0 ? from : to);
	hash_init(&h);
	ret->size = 0;
	while ((n = read(in, chunk, sizeof(chunk))) > 0) {
		if (fs_write_all(out, chunk, (size_t)n, e) < 0)
			return err_wrap(e, "%s", to);
		hash_update(&h, chunk, (size_t)n);
		ret->size += (uint64_t)n;
	}
	if (n < 0)
		return err_set(e, ERR_SYS, errno, "%s", from);
	hash_hex(&h, ret->sha256);
	ret->path = strdup(LOG_NAME);
	return ret->path ? 0 : err_set(e, ERR_NO_MEMORY, 0, "%s", to);
}

static void take_artifacts(struct dependencies *d, struct need *need)
{
	struct err e = ERR_INIT;

	need->artifacts = calloc(need->fetch.n_files + 1, sizeof(*need->artifacts));
	if (!need->artifacts)
		return;
	for (size_t i = 0; i < need->fetch.n_files; i++) {
		/* Only a script that is not ours could use the log's name. */
		if (strcmp(need->fetch.files[i].path, LOG_NAME) == 0)
			continue;
		need->artifacts[need->n_artifacts++] = need->fetch.files[i];
		need->fetch.files[i].path = NULL;
	}
	if (need->sr.receipt.out.bytes == 0)
		return; /* no tool was called */
	if (copy_log(d, &need->artifacts[need->n_artifacts], &e) == 0)
		need->n_artifacts++;
	else
		log_error("%s", e.msg);
}

/* ---- the verdict ---- */

static void explain_silence(struct dependencies *d, struct err *e)
{
	const struct tool *t = &tools[d->tool];
	char path[64], words[200];
	auto_close int fd = -1;

	if (now(d)->sr.receipt.exit.kind == EXIT_SPAWN_FAILED) {
		err_set(e, ERR_DEPENDENCY, 0,
		        "requirements of %s need %s in the sandbox, and it cannot be started: %s",
		        package_tool_names[d->tool], t->program, now(d)->sr.receipt.error);
		return;
	}
	snprintf(path, sizeof(path), "logs/%s.stderr", t->step);
	fd = openat(d->r->dir.fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	last_words(fd, 0, words, sizeof(words));
	err_set(e, ERR_DEPENDENCY, 0, "what %s has could not be found out: %.100s%s%s (%s)",
	        package_tool_names[d->tool], now(d)->sr.error.msg, words[0] ? ": " : "", words,
	        path);
}

/* What the tool had without a network. */
static const char *offline_hint(const struct dependencies *d)
{
	if (!is_offline(d->r))
		return "";
	return d->tool == TOOL_PIP
	               ? "; without --network on it has only 'wheels' and PIP_FIND_LINKS"
	               : "; without --network on it has only file: packages";
}

/* Out of the log as it was written here: it is masked. */
static void read_words(struct dependencies *d, char *to, size_t size)
{
	char path[64], tail[LOG_TAIL];
	auto_close int fd = -1;
	off_t end;
	ssize_t n;

	*to = 0;
	snprintf(path, sizeof(path), "logs/%s.stdout", tools[d->tool].step);
	fd = openat(d->r->dir.fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	n = end > 0 ? pread(fd, tail, sizeof(tail), end > LOG_TAIL ? end - LOG_TAIL : 0) : 0;
	if (n > 0)
		dependency_log_words(tail, (size_t)n, to, size);
}

static void explain_tool(struct dependencies *d, struct err *e)
{
	const struct dependency_report *report = &now(d)->report;
	char names[140], words[200] = "";

	dependency_report_names(report->missing, names, sizeof(names));
	if (now(d)->sr.receipt.out.bytes)
		read_words(d, words, sizeof(words));
	err_set(e, ERR_DEPENDENCY, 0,
	        "%s could not install %s (log: artifacts/%s/" LOG_NAME ")%s: %s%s%s",
	        package_tool_names[d->tool], names[0] ? names : "anything", tools[d->tool].step,
	        offline_hint(d), report->error, words[0] ? ": " : "", words);
}

/* 0: everything is there. */
static int judge(struct dependencies *d, struct err *e)
{
	const struct dependency_report *report = &now(d)->report;
	char names[220];

	if (!now(d)->sr.verified) { /* no proof: the reason is its own class */
		*e = now(d)->sr.error;
		return err_wrap(e, "step '%s'", tools[d->tool].step);
	}
	if (now(d)->sr.status == STATUS_SUCCESS)
		return report->v ? 0
		                 : err_set(e, ERR_INTEGRITY, 0, "step '%s': no report came",
		                           tools[d->tool].step);
	if (now(d)->sr.status == STATUS_TIMEOUT)
		return err_set(e, ERR_DEPENDENCY, 0, "%s: not done after %d s",
		               package_tool_names[d->tool], DEPENDENCIES_MS / 1000);
	if (report->error) {
		explain_tool(d, e);
	} else if (json_count(report->missing)) {
		dependency_report_names(report->missing, names, sizeof(names));
		err_set(e, ERR_DEPENDENCY, 0,
		        "missing in the sandbox: %s (%s); --install-deps installs what is missing",
		        names, package_tool_names[d->tool]);
	} else {
		explain_silence(d, e);
	}
	return -1;
}

static int keep_result(struct dependencies *d, struct err *e)
{
	char path[64];
	struct buf b;
	int ret;

	buf_init(&b, 2 * LIMIT_DEPENDENCY_REPORT);
	name_file(path, d->tool, "done");
	ret = json_print(now(d)->report.v, &b, e);
	if (ret == 0)
		ret = fs_write(d->r->dir.fd, path, buf_data(&b), buf_len(&b), 0600, false, e);
	buf_release(&b);
	return ret;
}

/* ---- the step ---- */

static void close_step(struct need *need)
{
	if (!need->open)
		return;
	need->open = false;
	step_run_release(&need->sr);
	sink_close(&need->out);
	sink_close(&need->err);
	fetch_release(&need->fetch);
}

static int render_release(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct need *need = (struct need *)((char *)c - offsetof(struct need, release));

	(void)l;
	return buf_printf(out, e, "{\"step\":\"%s\",\"attempt\":1}", need->sr.id);
}

static int render_cancel(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct dependencies *d =
		(struct dependencies *)((char *)c - offsetof(struct dependencies, cancel));

	(void)l;
	return buf_printf(out, e, "{\"step\":\"%s\"}", tools[d->tool].step);
}

static void on_told(struct call *c, const json *result, const struct err *error)
{
	(void)c, (void)result, (void)error; /* how the step ended comes with its own answer */
}

static void finish(struct dependencies *d, struct err *why)
{
	struct run *r = d->r;

	d->running = false;
	tell_end(d, why->code ? why : NULL);
	if (!why->code) {
		now(d)->done = true;
		run_steps_begin(r);
	} else if (r->stopping) {
		run_steps_soon(r);
	} else {
		run_stop(r, why);
	}
}

static void on_step_done(struct step_run *sr)
{
	struct dependencies *d = sr->user;
	struct need *need = now(d);
	struct err why = ERR_INIT, e = ERR_INIT;
	char path[96];

	if (sr->verified && run_receipt_write(d->r, sr, &e) < 0)
		why = e; /* without its proof on disk it is no success */
	snprintf(path, sizeof(path), "artifacts/%s/report.json", sr->id);
	if (sr->verified && faccessat(d->r->dir.fd, path, F_OK, 0) == 0 &&
	    read_report(d, d->tool, path, &e) < 0 && !why.code)
		why = e;
	if (sr->verified)
		take_artifacts(d, need);
	close_step(need);
	if (need->report.v)
		tell_report(d);
	tell_artifacts(d);
	if (!why.code && judge(d, &why) == 0 && keep_result(d, &e) < 0)
		why = e;
	need->release.method = "step.release";
	need->release.render = render_release;
	need->release.on_done = on_told;
	link_call(d->r->link, &need->release);
	finish(d, &why);
}

static int open_files(struct dependencies *d, struct err *e)
{
	const char *id = tools[d->tool].step;
	char path[64], mark[64];

	snprintf(path, sizeof(path), "logs/%s.stdout", id);
	snprintf(mark, sizeof(mark), "journal/%s.1.stdout", id);
	if (sink_open_log(&now(d)->out, d->r->dir.fd, path, mark, d->r->secrets, e) < 0)
		return -1;
	snprintf(path, sizeof(path), "logs/%s.stderr", id);
	snprintf(mark, sizeof(mark), "journal/%s.1.stderr", id);
	if (sink_open_log(&now(d)->err, d->r->dir.fd, path, mark, d->r->secrets, e) < 0) {
		sink_close(&now(d)->out);
		return -1;
	}
	fetch_init(&now(d)->fetch, d->r->dir.fd, id);
	now(d)->open = true;
	return 0;
}

static void start(struct dependencies *d)
{
	struct run *r = d->r;
	struct err e = ERR_INIT;

	now(d)->sr = (struct step_run){
		.id = tools[d->tool].step,
		.driver = "exec",
		.attempt = 1,
		.config = now(d)->config,
		.timeout_ms = DEPENDENCIES_MS,
		.grace_ms = GRACE_DEFAULT_MS,
		.linger_ms = LINGER_DEFAULT_MS,
		.run = r->run,
		.session = r->run,
		.session_key = r->session_key,
		.sandbox = r->has_sandbox ? r->sandbox.id : NULL,
		.out = &now(d)->out,
		.err = &now(d)->err,
		.fetch = &now(d)->fetch,
		.on_done = on_step_done,
		.user = d,
	};
	receipt_init(&now(d)->sr.receipt);
	d->running = true;
	if (open_files(d, &e) < 0) {
		now(d)->sr.status = STATUS_ERROR;
		finish(d, &e);
		return;
	}
	step_run_start(&now(d)->sr, r->loop, r->link);
}

/* ---- what run_steps.c calls ---- */

bool dependencies_begin(struct run *r)
{
	struct dependencies *d = r->dependencies;
	struct err e = ERR_INIT;

	if (!d) {
		d = r->dependencies = calloc(1, sizeof(*d));
		if (!d) {
			err_set(&e, ERR_NO_MEMORY, 0, "dependencies");
			run_stop(r, &e);
			return true;
		}
		d->r = r;
		for (int i = 0; i < TOOLS && !e.code; i++)
			read_need(d, i, &e);
		if (e.code) {
			run_stop(r, &e);
			return true;
		}
	}
	while (d->tool < TOOLS && (!now(d)->config || now(d)->done))
		d->tool++;
	if (d->tool == TOOLS)
		return false;
	if (!d->running)
		start(d);
	return true;
}

bool dependencies_are_running(const struct run *r)
{
	return r->dependencies && r->dependencies->running;
}

void dependencies_events(struct run *r, uint64_t wseq)
{
	if (dependencies_are_running(r))
		step_run_events(&now(r->dependencies)->sr, wseq);
}

void dependencies_resume(struct run *r)
{
	if (dependencies_are_running(r))
		step_run_resume(&now(r->dependencies)->sr);
}

void dependencies_cancel(struct run *r)
{
	struct dependencies *d = r->dependencies;

	if (!dependencies_are_running(r) || d->cancel.method)
		return;
	d->cancel.method = "step.cancel";
	d->cancel.render = render_cancel;
	d->cancel.on_done = on_told;
	link_call(r->link, &d->cancel);
}

void dependencies_env(const struct run *r, const struct plan_step *s, struct jw *w)
{
	struct dependency_report reports[TOOLS];
	size_t n = 0;

	for (int i = 0; r->dependencies && i < TOOLS; i++)
		if (r->dependencies->needs[i].done)
			reports[n++] = r->dependencies->needs[i].report;
	dependency_reports_env(reports, n, s->env, s->n_env, w);
}

void dependencies_print(const struct run *r, struct jw *w)
{
	char path[LIMIT_PATH + 64];

	for (int i = 0; r->dependencies && i < TOOLS; i++)
		for (size_t a = 0; a < r->dependencies->needs[i].n_artifacts; a++) {
			const struct fetched *f = &r->dependencies->needs[i].artifacts[a];

			snprintf(path, sizeof(path), "%s/%s", tools[i].step, f->path);
			jw_obj(w);
			jw_kstr(w, "path", path);
			jw_kint(w, "size", (int64_t)f->size);
			jw_kstr(w, "sha256", f->sha256);
			jw_end(w);
		}
}

void dependencies_release(struct run *r)
{
	struct dependencies *d = r->dependencies;

	if (!d)
		return;
	if (r->link)
		link_forget(r->link, &d->cancel);
	for (int i = 0; i < TOOLS; i++) {
		close_step(&d->needs[i]);
		if (r->link)
			link_forget(r->link, &d->needs[i].release);
		for (size_t a = 0; a < d->needs[i].n_artifacts; a++)
			free(d->needs[i].artifacts[a].path);
		free(d->needs[i].artifacts);
		free(d->needs[i].config);
		dependency_report_release(&d->needs[i].report);
	}
	free(d);
	r->dependencies = NULL;
}
