/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run leaves on disk: what was run, its state, its proofs, and the journal from which
 * another proxy can go on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/lines.h"
#include "proxy/dependencies.h"
#include "proxy/mask_json.h"
#include "proxy/reuse.h"
#include "proxy/run.h"
#include "proxy/ws_address.h"
#include "sdk-wrapper/egress.h"

#define JOURNAL_FILE "journal/run.json"
#define STEPS_FILE   "journal/steps.jsonl"
#define STEPS_MAX    (64 * 1024 * 1024)

static const char *const phase_names[PHASES] = { "create_ms", "start_ms", "ready_ms",
	                                         "upload_ms", "run_ms",   "collect_ms",
	                                         "destroy_ms" };

static int masked_write(struct run *r, const char *path, const char *text, size_t n, bool is_json,
                        struct err *e)
{
	struct buf out;
	int ret;

	buf_init(&out, 16 * (n + 4096));
	ret = (is_json ? mask_json : mask_text)(r->secrets, text, n, &out, e);
	if (ret == 0)
		ret = fs_write(r->dir.fd, path, buf_data(&out), buf_len(&out), 0600, false, e);
	buf_release(&out);
	return ret < 0 ? err_wrap(e, "%s", path) : 0;
}

int run_masked_write(struct run *r, const char *path, const char *text, size_t n, struct err *e)
{
	return masked_write(r, path, text, n, false, e);
}

int run_masked_json(struct run *r, const char *path, const char *text, size_t n, struct err *e)
{
	return masked_write(r, path, text, n, true, e);
}

/* One line, one write: a crash leaves it whole or not at all. */
static int append_line(struct run *r, const char *path, struct buf *line, struct err *e)
{
	auto_close int fd = openat(r->dir.fd, path,
	                           O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	if (buf_putc(line, '\n', e) < 0)
		return -1;
	return fs_write_all(fd, buf_data(line), buf_len(line), e);
}

int run_files_write_plan(struct run *r, struct err *e)
{
	char path[LIMIT_STEP_ID + 16];
	struct buf b;
	int ret;

	ret = run_masked_write(r, "manifest.yaml", r->plan->text, strlen(r->plan->text), e);
	for (size_t i = 0; ret == 0 && i < r->plan->n_steps; i++) {
		const struct plan_step *s = &r->plan->steps[i];

		snprintf(path, sizeof(path), "cfg/%s.json", s->id);
		ret = run_masked_json(r, path, s->config, strlen(s->config), e);
	}
	if (ret < 0 || dependencies_prepare(r, e) < 0)
		return -1;
	buf_init(&b, (size_t)256 * 1024 * 1024);
	ret = package_index_print(&r->package, &b, e);
	if (ret == 0)
		ret = fs_write(r->dir.fd, "package.json", buf_data(&b), buf_len(&b), 0600, false,
		               e);
	buf_release(&b);
	return ret;
}

/* ---- the journal ---- */

int run_journal_write(struct run *r, struct err *e)
{
	char host[128] = "";
	struct buf b, sandbox;
	struct jw w;
	int ret;

	buf_init(&b, LIMIT_TEXT);
	buf_init(&sandbox, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kint(&w, "v", 1);
	jw_kstr(&w, "run", r->run);
	jw_kstr(&w, "target", r->o->target);
	jw_kstr(&w, "file", r->plan->file);
	jw_kstr(&w, "directory", r->plan->dir);
	jw_kstr(&w, "control", r->socket_dir);
	jw_kint(&w, "jobs", r->o->jobs);
	jw_kbool(&w, "network", r->o->network);
	jw_karr(&w, "hosts");
	for (char **h = r->o->hosts; h && *h; h++)
		jw_str(&w, *h);
	jw_end(&w);
	jw_kint(&w, "proxy_pid", getpid());
	jw_kstr(&w, "host", gethostname(host, sizeof(host) - 1) == 0 ? host : "");
	jw_kstr(&w, "key", r->key_id);
	jw_kbool(&w, "keep", r->o->keep);
	jw_kbool(&w, "reused", r->reused);
	jw_ku64s(&w, "started_us", r->started_us);
	jw_ku64s(&w, "deadline_us",
	         r->o->timeout_s ? r->started_us + (uint64_t)r->o->timeout_s * 1000000 : 0);
	jw_kobj(&w, "package");
	jw_kstr(&w, "sha256", r->package.sha256);
	jw_ku64s(&w, "size", r->package.packed);
	jw_kint(&w, "files", (int64_t)r->package.n);
	jw_end(&w);
	ret = 0;
	if (r->has_sandbox && (ret = sandbox_print(&r->sandbox, &sandbox, e)) == 0) {
		jw_key(&w, "sandbox");
		jw_raw(&w, (const char *)buf_data(&sandbox), buf_len(&sandbox));
	}
	jw_end(&w);
	if (ret == 0)
		ret = jw_done(&w, e);
	if (ret == 0)
		ret = fs_write(r->dir.fd, JOURNAL_FILE, buf_data(&b), buf_len(&b), 0600, true, e);
	buf_release(&sandbox);
	buf_release(&b);
	return ret;
}

int run_journal_step(struct run *r, const struct run_step *s, struct err *e)
{
	struct buf b;
	struct jw w;
	int ret;

	buf_init(&b, LIMIT_TEXT * 16);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "step", r->plan->steps[s->index].id);
	jw_kint(&w, "attempt", s->attempt);
	if (s->finished) {
		jw_kstr(&w, "status", status_name(s->status));
		jw_knum(&w, "duration_ms", s->duration_ms);
		fetched_write(&w, s->artifacts, s->n_artifacts);
	}
	jw_end(&w);
	ret = jw_done(&w, e) < 0 ? -1 : append_line(r, STEPS_FILE, &b, e);
	buf_release(&b);
	return ret;
}

int run_receipt_write(struct run *r, const struct step_run *s, struct err *e)
{
	struct buf b;
	struct jw w;
	int ret;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "step_id", s->id);
	jw_kint(&w, "attempt", s->attempt);
	jw_kstr(&w, "receipt", s->receipt_text);
	jw_kstr(&w, "hmac", s->hmac);
	jw_end(&w);
	ret = jw_done(&w, e) < 0 ? -1 : append_line(r, "receipts.jsonl", &b, e);
	buf_release(&b);
	return ret;
}

static int on_step_line(void *arg, const char *line, size_t n, struct err *e)
{
	struct run *r = arg;
	json *v = json_parse(line, n, LIMIT_TEXT * 16, LIMIT_JSON_DEPTH, e);
	const char *id = NULL, *status = NULL;
	int64_t attempt = 1;
	int i, ret = -1;

	if (!v)
		return err_wrap(e, STEPS_FILE);
	if (json_req_str(v, "step", "step", &id, e) == 0 &&
	    json_opt_str(v, "step", "status", &status, e) == 0 &&
	    json_opt_int(v, "step", "attempt", 0, LIMIT_ATTEMPT, &attempt, e) == 0 &&
	    (i = plan_find(r->plan, id)) >= 0) {
		struct run_step *s = &r->steps[i];

		s->attempt = (int)attempt;
		s->duration_ms = json_number(json_get(v, "duration_ms"));
		ret = 0;
		if (status) {
			s->finished = true;
			ret = status_by_name(status, &s->status, e);
			if (ret == 0)
				ret = fetched_read(json_get(v, "artifacts"), &s->artifacts,
				                   &s->n_artifacts, e);
		}
	}
	json_free(v);
	return ret;
}

static int read_steps(struct run *r, struct err *e)
{
	struct buf b;
	struct lines l;
	int ret = 0;

	if (faccessat(r->dir.fd, STEPS_FILE, F_OK, 0) < 0)
		return 0;
	buf_init(&b, STEPS_MAX);
	lines_init(&l, LIMIT_TEXT * 16);
	ret = fs_read(r->dir.fd, STEPS_FILE, STEPS_MAX, &b, e);
	/* A torn last line has no newline: it is passed over, as if it had never been written. */
	if (ret == 0)
		ret = lines_feed(&l, buf_data(&b), buf_len(&b), on_step_line, r, e);
	lines_release(&l);
	buf_release(&b);
	return ret;
}

static void read_hosts(struct run *r, const json *list)
{
	struct buf b;

	if (!json_count(list))
		return;
	buf_init(&b, LIMIT_TEXT);
	for (const json *v = json_first(list); v; v = json_next(v))
		if (json_string(v))
			buf_printf(&b, NULL, "%s%s", buf_len(&b) ? "," : "", json_string(v));
	free(r->o->hosts);
	r->o->hosts = buf_cstr(&b, NULL) ? egress_parse(buf_cstr(&b, NULL), NULL) : NULL;
	buf_release(&b);
}

/* Fills target, plan, sandbox and steps of a run directory that is ours now. */
int run_journal_read(struct run *r, struct err *e)
{
	struct buf b;
	json *v = NULL;
	const char *target = NULL, *file = NULL, *dir = NULL, *control = NULL, *sha = NULL;
	const json *package = NULL;
	uint64_t deadline = 0;
	int64_t jobs = 0;
	int ret = -1;
	static char target_copy[256];

	buf_init(&b, LIMIT_PIPELINE_FILE + 4096);
	if (fs_read(r->dir.fd, JOURNAL_FILE, LIMIT_TEXT, &b, e) == 0)
		v = json_parse((const char *)buf_data(&b), buf_len(&b), LIMIT_TEXT,
		               LIMIT_JSON_DEPTH, e);
	buf_reset(&b);
	if (v && json_req_str(v, "journal", "target", &target, e) == 0 &&
	    json_req_str(v, "journal", "file", &file, e) == 0 &&
	    json_req_str(v, "journal", "directory", &dir, e) == 0 &&
	    json_opt_int(v, "journal", "jobs", 0, LIMIT_STEPS_RUNNING, &jobs, e) == 0 &&
	    json_req_str(v, "journal", "control", &control, e) == 0 &&
	    json_req_obj(v, "journal", "package", &package, e) == 0 &&
	    json_req_str(package, "journal.package", "sha256", &sha, e) == 0 &&
	    json_req_u64(v, "journal", "started_us", &r->started_us, e) == 0 &&
	    json_opt_u64(v, "journal", "deadline_us", &deadline, e) == 0 &&
	    fs_read(r->dir.fd, "manifest.yaml", LIMIT_PIPELINE_FILE, &b, e) == 0) {
		snprintf(target_copy, sizeof(target_copy), "%s", target);
		r->o->target = target_copy;
		snprintf(r->package.sha256, sizeof(r->package.sha256), "%s", sha);
		r->plan = plan_parse_in(dir, (const char *)buf_data(&b), buf_len(&b), file, NULL,
		                        e);
		if (!r->o->jobs)
			r->o->jobs = (int)jobs;
		if (deadline > r->started_us)
			r->o->timeout_s = (int64_t)((deadline - r->started_us) / 1000000);
		r->has_sandbox = json_get(v, "sandbox") &&
		                 sandbox_parse(json_get(v, "sandbox"), &r->sandbox, e) == 0;
		json_opt_bool(v, "journal", "keep", &r->o->keep, NULL);
		json_opt_bool(v, "journal", "network", &r->o->network, NULL);
		read_hosts(r, json_get(v, "hosts"));
		json_opt_bool(v, "journal", "reused", &r->reused, NULL);
		ret = r->plan ? 0 : -1;
	}
	if (ret == 0)
		ret = run_steps_new(r, e) < 0 ? -1 : read_steps(r, e);
	json_free(v);
	buf_release(&b);
	return ret < 0 ? err_wrap(e, "%s", r->dir.path) : 0;
}

/* ---- status.json ---- */

static void print_steps(const struct run *r, struct jw *w)
{
	jw_karr(w, "steps");
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		const struct run_step *s = &r->steps[i];

		jw_obj(w);
		jw_kstr(w, "id", r->plan->steps[i].id);
		jw_kstr(w, "status",
		        s->finished  ? status_name(s->status)
		        : s->started ? "running"
		                     : "waiting");
		if (s->finished && s->sr.verified)
			jw_kint(w, "exit", s->sr.receipt.exit.code);
		jw_knum(w, "duration_ms", s->duration_ms);
		jw_kint(w, "attempts", s->attempt);
		jw_end(w);
	}
	jw_end(w);
}

static void print_artifacts(const struct run *r, struct jw *w)
{
	jw_karr(w, "artifacts");
	for (size_t i = 0; i < r->plan->n_steps; i++) {
		for (size_t a = 0; a < r->steps[i].n_artifacts; a++) {
			jw_obj(w);
			fetched_print(w, r->plan->steps[i].id, &r->steps[i].artifacts[a]);
			jw_end(w);
		}
	}
	dependencies_print(r, w);
	jw_end(w);
}

void run_error_text(const struct run *r, char out[sizeof(((struct err *)0)->msg)])
{
	struct buf text;

	buf_init(&text, 16 * sizeof(r->error.msg));
	if (mask_text(r->secrets, r->error.msg, strlen(r->error.msg), &text, NULL) < 0)
		buf_reset(&text); /* rather nothing than a secret */
	snprintf(out, sizeof(r->error.msg), "%.*s", (int)buf_len(&text),
	         (const char *)buf_data(&text));
	buf_release(&text);
}

static void print_error(const struct run *r, struct jw *w)
{
	char text[sizeof(r->error.msg)];

	jw_key(w, "error");
	if (!r->error.code) {
		jw_null(w);
		return;
	}
	jw_obj(w);
	jw_kstr(w, "class", err_name(r->error.code));
	run_error_text(r, text);
	jw_kstr(w, "message", text);
	jw_kstr(w, "admitted", admitted_name(r->error.admitted));
	jw_kstr(w, "retry", err_retry(r->error.code));
	jw_end(w);
}

int run_status_print(const struct run *r, bool with_dir, struct buf *out, struct err *e)
{
	char text[sizeof(r->error.msg)];
	struct jw w;
	int64_t completed = 0;

	for (size_t i = 0; i < r->plan->n_steps; i++)
		completed += r->steps[i].finished && r->steps[i].status == STATUS_SUCCESS;
	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "run_id", r->run);
	if (with_dir)
		jw_kstr(&w, "run_dir", r->dir.path);
	jw_kstr(&w, "state", r->finished ? "ended" : "running");
	jw_kbool(&w, "ok", r->finished && r->exit_code == 0);
	if (r->finished)
		jw_kint(&w, "exit_code", r->exit_code);
	run_error_text(r, text);
	jw_kstr(&w, "reason", r->error.code ? text : r->finished ? "done" : "running");
	jw_key(&w, "target");
	jw_strn(&w, r->o->target, ws_address_public(r->o->target));
	jw_kstr(&w, "sandbox_id", r->has_sandbox ? r->sandbox.id : NULL);
	if (r->stayed) {
		snprintf(text, sizeof(text), "farstep sandboxes kill %s", r->sandbox.id);
		jw_kobj(&w, "kept");
		jw_kint(&w, "idle_ms", keep_idle_ms(r->o));
		jw_kstr(&w, "end", text);
		jw_end(&w);
	}
	jw_kint(&w, "steps_total", (int64_t)r->plan->n_steps);
	jw_kint(&w, "steps_completed", completed);
	print_steps(r, &w);
	jw_kobj(&w, "phases");
	for (int i = 0; i < PHASES; i++)
		jw_knum(&w, phase_names[i], r->phase_ms[i]);
	jw_end(&w);
	print_artifacts(r, &w);
	jw_kobj(&w, "bytes");
	jw_kint(&w, "up", (int64_t)r->bytes_up);
	jw_kint(&w, "down", (int64_t)r->bytes_down);
	jw_end(&w);
	jw_kint(&w, "events_seen", (int64_t)r->events_seen);
	print_error(r, &w);
	jw_end(&w);
	return jw_done(&w, e);
}

int run_status_write(struct run *r, struct err *e)
{
	struct buf b;
	int ret;

	buf_init(&b, STEPS_MAX);
	ret = run_status_print(r, false, &b, e);
	if (ret == 0)
		ret = run_masked_json(r, "status.json", (const char *)buf_data(&b), buf_len(&b), e);
	buf_release(&b);
	return ret;
}
