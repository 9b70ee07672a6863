/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_build.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "sdk-wrapper/http_text.h"

enum {
	POLL_MS = 1000,
	LINES_PER_POLL = 100,
	PAGES_MAX = 200,	/* of its log, at the end */
	PUT_IDLE_MS = 60000,
	LINE_MAX_LEN = 2000,
};

struct e2b_build {
	struct loop *loop;
	struct http *http;
	struct e2b_api *api;
	const struct e2b_build_spec *spec;
	struct e2b_build_hooks hooks;
	uint64_t until_ns;
	char template_id[128], build_id[64];
	size_t step;		/* the one whose files are next */
	struct e2b_call *call;
	struct http_call *put;
	unsigned puts;
	char *put_url;
	bool is_triggered;
	struct err not_triggered;	/* what its request said */
	uint64_t lines;		/* seen of the log */
	unsigned pages;		/* full ones, one behind the other */
	struct loop_timer timer;
};

/* --- requests --- */

int e2b_template_body(const struct e2b_build_spec *spec, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "name", spec->name);
	jw_kint(&w, "cpuCount", spec->size.cpu);
	jw_kint(&w, "memoryMB", spec->size.memory_mb);
	jw_end(&w);
	return jw_done(&w, e);
}

int e2b_build_body(const struct e2b_build_spec *spec, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	if (spec->from_image)
		jw_kstr(&w, "fromImage", spec->from_image);
	else
		jw_kstr(&w, "fromTemplate", spec->from_template);
	jw_karr(&w, "steps");
	for (size_t i = 0; i < spec->n_steps; i++) {
		const struct e2b_build_step *s = &spec->steps[i];

		jw_obj(&w);
		jw_kstr(&w, "type", s->type);
		jw_karr(&w, "args");
		for (size_t k = 0; k < ARRAY_LEN(s->args) && s->args[k]; k++)
			jw_str(&w, s->args[k]);
		jw_end(&w);
		if (s->hash[0])
			jw_kstr(&w, "filesHash", s->hash);
		jw_end(&w);
	}
	jw_end(&w);
	jw_kbool(&w, "force", false);
	jw_end(&w);
	return jw_done(&w, e);
}

/* --- the end --- */

static void build_free(struct e2b_build *b)
{
	e2b_cancel(b->call);
	http_cancel(b->put);
	loop_timer_stop(&b->timer);
	free(b->put_url);
	free(b);
}

void e2b_build_cancel(struct e2b_build *b)
{
	if (b)
		build_free(b);
}

static void finish(struct e2b_build *b, const struct err *err)
{
	struct e2b_build_hooks hooks = b->hooks;
	struct err copy = ERR_INIT;

	if (err) {
		copy = *err;
		err_wrap(&copy, "template %s", b->spec->name);
	}
	build_free(b);
	hooks.on_done(hooks.user, err ? &copy : NULL);
}

static uint32_t left_ms(const struct e2b_build *b)
{
	uint64_t now = now_ns();

	return now >= b->until_ns ? 0 : (uint32_t)((b->until_ns - now) / 1000000);
}

static void tell(struct e2b_build *b, const char *line)
{
	if (b->hooks.on_line)
		b->hooks.on_line(b->hooks.user, line);
}

/* A call of the API; its failure to begin ends the build. */
static void call(struct e2b_build *b, const char *name, const char *method, struct buf *path,
		 struct buf *body, void (*on_done)(void *user, const struct e2b_result *r))
{
	struct err e = ERR_INIT;
	struct e2b_request r = { name, method, buf_cstr(path, &e), body ? buf_cstr(body, &e) : NULL,
				 strcmp(method, "GET") == 0 ? RETRY_READ : RETRY_IDEMPOTENT };
	struct e2b_end end = { left_ms(b), on_done, b };

	b->call = r.path && (!body || r.body) ? e2b_request(b->api, &r, &end, &e) : NULL;
	if (!b->call)
		finish(b, &e);
}

/* "/templates/ID" and what follows, with its parts escaped. */
static int put_path(struct buf *out, const char *begin, const char *id, const char *middle,
		    const char *last, struct err *e)
{
	if (buf_puts(out, begin, e) < 0 || http_escape(out, id, false, e) < 0 ||
	    buf_puts(out, middle, e) < 0)
		return -1;
	return http_escape(out, last, false, e);
}

/* --- 4: waiting --- */

static void poll(struct e2b_build *b);

static void on_poll_timer(struct loop_timer *t)
{
	poll((struct e2b_build *)((char *)t - offsetof(struct e2b_build, timer)));
}

/* False: the page was full, there may be more. */
static bool tell_lines(struct e2b_build *b, const json *status)
{
	const json *entries = json_get(status, "logEntries");
	const json *list = json_count(entries) ? entries : json_get(status, "logs");

	for (const json *v = json_first(list); v; v = json_next(v)) {
		const char *text = json_string(json_type(v) == JSON_OBJECT ? json_get(v, "message")
									   : v);
		char line[LINE_MAX_LEN];
		size_t n = 0;

		b->lines++;
		for (const char *p = text ? text : ""; *p && n + 1 < sizeof(line); p++)
			line[n++] = (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p;
		while (n && line[n - 1] == ' ')
			n--;
		line[n] = 0;
		if (n)
			tell(b, line);
	}
	return json_count(list) < LINES_PER_POLL;
}

static void build_failed(struct e2b_build *b, const json *status)
{
	const json *reason = json_get(status, "reason");
	const char *message = json_string(json_get(reason, "message"));
	const char *step = json_string(json_get(reason, "step"));
	struct err e = ERR_INIT;

	err_set(&e, ERR_PROVIDER, 0, "the build failed%s%.60s: %.400s", step ? " at step " : "",
		step ? step : "", message ? message : "no reason was given");
	finish(b, &e);
}

static void on_status(void *user, const struct e2b_result *r)
{
	struct e2b_build *b = user;
	const char *status = json_string(json_get(r->answer, "status"));
	struct err e = ERR_INIT;

	b->call = NULL;
	if (r->failure) {
		finish(b, &r->failure->err);
		return;
	}
	if (tell_lines(b, r->answer)) {
		b->pages = 0;
	} else if (++b->pages < PAGES_MAX && left_ms(b)) {
		poll(b);
		return;
	}
	if (status && strcmp(status, "ready") == 0) {
		finish(b, NULL);
	} else if (status && strcmp(status, "error") == 0) {
		build_failed(b, r->answer);
	} else if (!b->is_triggered && status && strcmp(status, "waiting") == 0) {
		finish(b, &b->not_triggered);
	} else if (!status ||
		   (strcmp(status, "waiting") != 0 && strcmp(status, "building") != 0)) {
		err_set(&e, ERR_PROTO, 0, "a build cannot be '%.40s'", status ? status : "");
		finish(b, &e);
	} else if (left_ms(b) < POLL_MS) {
		err_set(&e, ERR_DEADLINE, 0, "the build is not ready in time; it goes on at E2B");
		finish(b, &e);
	} else {
		b->is_triggered = true;
		if (loop_timer_start(b->loop, &b->timer, POLL_MS, on_poll_timer, &e) < 0)
			finish(b, &e);
	}
}

static void poll(struct e2b_build *b)
{
	struct buf path CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&path, LIMIT_DATA);
	if (put_path(&path, "/templates/", b->template_id, "/builds/", b->build_id, &e) < 0 ||
	    buf_printf(&path, &e, "/status?logsOffset=%llu&limit=%d", (unsigned long long)b->lines,
		       LINES_PER_POLL) < 0) {
		finish(b, &e);
		return;
	}
	call(b, "look at the build", "GET", &path, NULL, on_status);
}

/* --- 3: it begins --- */

static void on_triggered(void *user, const struct e2b_result *r)
{
	struct e2b_build *b = user;

	b->call = NULL;
	b->is_triggered = !r->failure;
	if (r->failure) {
		b->not_triggered = r->failure->err;
		/* It may be refused because a request before it, whose answer was lost, was not. */
		if (r->failure->class != FAIL_CONFLICT && r->failure->class != FAIL_REQUEST) {
			finish(b, &r->failure->err);
			return;
		}
	}
	poll(b);
}

static void trigger(struct e2b_build *b)
{
	struct buf path CLEANUP(buf_release), body CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&path, LIMIT_DATA);
	buf_init(&body, LIMIT_TEXT);
	if (put_path(&path, "/v2/templates/", b->template_id, "/builds/", b->build_id, &e) < 0 ||
	    e2b_build_body(b->spec, &body, &e) < 0) {
		finish(b, &e);
		return;
	}
	tell(b, "building");
	call(b, "start the build", "POST", &path, &body, on_triggered);
}

/* --- 2: files --- */

static void next_files(struct e2b_build *b);
static void put_files(struct e2b_build *b);

static void on_put_timer(struct loop_timer *t)
{
	put_files((struct e2b_build *)((char *)t - offsetof(struct e2b_build, timer)));
}

static void put_failed(struct e2b_build *b, const struct failure *f)
{
	uint32_t chance = 0;
	struct retry_plan p;

	random_bytes(&chance, sizeof(chance), NULL);
	p = retry_plan(RETRY_IDEMPOTENT, f, ++b->puts, left_ms(b), chance);
	if (p.verdict == RETRY_STOP ||
	    loop_timer_start(b->loop, &b->timer, p.wait_ms, on_put_timer, NULL) < 0) {
		finish(b, &f->err);
		return;
	}
	log_info("%s; again in %u ms", f->err.msg, p.wait_ms);
}

static void on_put(void *user, const struct http_response *r)
{
	struct e2b_build *b = user;
	struct failure f;

	b->put = NULL;
	failure_of_response(FAIL_AT_SANDBOX, "upload files", r, &f);
	if (f.class != FAIL_NONE) {
		put_failed(b, &f);
		return;
	}
	b->step++;
	next_files(b);
}

/* The storage behind the link is another service: our key is no business of its. */
static void put_files(struct e2b_build *b)
{
	const struct e2b_build_step *s = &b->spec->steps[b->step];
	struct http_part part = { NULL, s->fd, 0, s->len };
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	struct http_request req = { .method = "PUT", .url = b->put_url, .headers = headers,
				    .parts = &part, .n_parts = 1, .max_body = LIMIT_API_ANSWER,
				    .deadline_ms = left_ms(b), .idle_ms = PUT_IDLE_MS,
				    .on_done = on_put, .user = b };
	struct err e = ERR_INIT;

	b->put = http_start(b->http, &req, &e);
	if (!b->put)
		finish(b, &e);
}

static void on_link(void *user, const struct e2b_result *r)
{
	struct e2b_build *b = user;
	const char *url = json_string(json_get(r->answer, "url"));
	struct err e = ERR_INIT;
	char line[80];

	b->call = NULL;
	if (r->failure) {
		finish(b, &r->failure->err);
		return;
	}
	if (json_is_true(json_get(r->answer, "present"))) {
		b->step++;
		next_files(b);
		return;
	}
	free(b->put_url);
	b->put_url = url ? strdup(url) : NULL;
	b->puts = 0;
	if (!b->put_url) {
		err_set(&e, ERR_PROTO, 0, "there is no link to upload the files to");
		finish(b, &e);
		return;
	}
	snprintf(line, sizeof(line), "uploading %llu bytes",
		 (unsigned long long)b->spec->steps[b->step].len);
	tell(b, line);
	put_files(b);
}

static void next_files(struct e2b_build *b)
{
	struct buf path CLEANUP(buf_release);
	struct err e = ERR_INIT;

	while (b->step < b->spec->n_steps && !b->spec->steps[b->step].hash[0])
		b->step++;
	if (b->step == b->spec->n_steps) {
		trigger(b);
		return;
	}
	buf_init(&path, LIMIT_DATA);
	if (put_path(&path, "/templates/", b->template_id, "/files/",
		     b->spec->steps[b->step].hash, &e) < 0) {
		finish(b, &e);
		return;
	}
	call(b, "ask for the files", "GET", &path, NULL, on_link);
}

/* --- 1: its name --- */

static void on_named(void *user, const struct e2b_result *r)
{
	struct e2b_build *b = user;
	const char *id = NULL, *build = NULL;
	struct err e = ERR_INIT;

	b->call = NULL;
	if (r->failure) {
		finish(b, &r->failure->err);
		return;
	}
	if (json_req_str(r->answer, "template", "templateID", &id, &e) < 0 ||
	    json_req_str(r->answer, "template", "buildID", &build, &e) < 0) {
		e.code = ERR_PROTO;
		finish(b, &e);
		return;
	}
	if (strlen(id) >= sizeof(b->template_id) || strlen(build) >= sizeof(b->build_id)) {
		err_set(&e, ERR_PROTO, 0, "the ids of template and build are too long");
		finish(b, &e);
		return;
	}
	snprintf(b->template_id, sizeof(b->template_id), "%s", id);
	snprintf(b->build_id, sizeof(b->build_id), "%s", build);
	next_files(b);
}

struct e2b_build *e2b_build_start(struct loop *l, struct http *h, struct e2b_api *a,
				  const struct e2b_build_spec *spec, uint32_t deadline_ms,
				  const struct e2b_build_hooks *hooks, struct err *e)
{
	struct e2b_build *b = calloc(1, sizeof(*b));
	struct buf body CLEANUP(buf_release);
	struct e2b_request r = { "name the template", "POST", "/v3/templates", NULL,
				 RETRY_IDEMPOTENT };
	struct e2b_end end = { deadline_ms, on_named, b };

	buf_init(&body, LIMIT_DATA);
	if (!b) {
		err_set(e, ERR_NO_MEMORY, 0, "build");
		return NULL;
	}
	b->loop = l;
	b->http = h;
	b->api = a;
	b->spec = spec;
	b->hooks = *hooks;
	b->until_ns = now_ns() + (uint64_t)deadline_ms * 1000000;
	if (e2b_template_body(spec, &body, e) == 0 && (r.body = buf_cstr(&body, e)) != NULL)
		b->call = e2b_request(a, &r, &end, e);
	if (b->call)
		return b;
	err_wrap(e, "template %s", spec->name);
	build_free(b);
	return NULL;
}
