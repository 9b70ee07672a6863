/* SPDX-License-Identifier: Apache-2.0
 *
 * The control API's routes that only look at sandboxes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "mocks/e2b/call.h"
#include "mocks/e2b/control_text.h"
#include "mocks/e2b/listing.h"
#include "mocks/e2b/template.h"
#include "protocol/base/cleanup.h"

enum {
	PAGE = 100,
	SANDBOXES_MAX = 4096,	/* more than --max-sandboxes lets run; many may be paused */
	METRIC_IDS = 100,
	LOG_LINES = 1000,
	LOG_BYTES = 256 * 1024,
};

static void reply_written(struct call *c, struct jw *w, struct buf *body)
{
	struct err e = ERR_INIT;

	if (jw_done(w, &e) < 0)
		call_fail(c, &e);
	else
		call_reply(c, 200, body);
}

/* --- lists --- */

struct wish {
	struct filter metadata;
	bool running, paused, ascending;
	uint64_t after_us;		/* started later than this */
	const struct template *template;
	bool no_such_template;
	int64_t limit;
	struct page_token from;
	bool has_from;
};

static void wish_release(struct wish *w)
{
	filter_release(&w->metadata);
}

static bool read_metadata(struct call *c, struct wish *w)
{
	struct buf text CLEANUP(buf_release) = { 0 };
	struct err e = ERR_INIT;
	int r;

	buf_init(&text, CALL_BODY_MAX);
	r = call_query(c, "metadata", &text);
	if (r <= 0)
		return r == 0;
	if (filter_parse(buf_cstr(&text, NULL), &w->metadata, &e) == 0)
		return true;
	call_error(c, 400, NULL, "Error parsing metadata: %s", e.msg);
	return false;
}

static bool read_states(struct call *c, struct wish *w)
{
	struct buf text CLEANUP(buf_release) = { 0 };
	const char *p;
	int r;

	w->running = w->paused = true;
	buf_init(&text, 4096);
	r = call_query(c, "state", &text);
	if (r <= 0)
		return r == 0;
	w->running = w->paused = false;
	for (p = buf_cstr(&text, NULL); *p; p += strcspn(p, ","), p += *p == ',') {
		size_t n = strcspn(p, ",");

		if (n == 7 && memcmp(p, "running", 7) == 0) {
			w->running = true;
		} else if (n == 6 && memcmp(p, "paused", 6) == 0) {
			w->paused = true;
		} else {
			call_error(c, 400, NULL,
				   "validation error: parameter \"state\" in query has an error: "
				   "value is not one of the allowed values "
				   "[\"running\",\"paused\"]");
			return false;
		}
	}
	return true;
}

static bool read_order(struct call *c, struct wish *w)
{
	struct buf text CLEANUP(buf_release) = { 0 };
	int r;

	buf_init(&text, 4096);
	r = call_query(c, "order", &text);
	if (r <= 0)
		return r == 0;
	w->ascending = strcmp(buf_cstr(&text, NULL), "asc") == 0;
	if (w->ascending || strcmp(buf_cstr(&text, NULL), "desc") == 0)
		return true;
	call_error(c, 400, NULL,
		   "validation error: parameter \"order\" in query has an error: value is not one "
		   "of the allowed values [\"asc\",\"desc\"]");
	return false;
}

static bool read_place(struct call *c, struct wish *w)
{
	struct buf token CLEANUP(buf_release) = { 0 }, after CLEANUP(buf_release) = { 0 };
	struct buf template CLEANUP(buf_release) = { 0 };
	struct err e = ERR_INIT;
	int r;

	buf_init(&token, 4096);
	buf_init(&after, 4096);
	buf_init(&template, 4096);
	w->limit = PAGE;
	if (call_query_int(c, "limit", 1, PAGE, &w->limit) < 0)
		return false;
	r = call_query(c, "nextToken", &token);
	if (r < 0)
		return false;
	w->has_from = r > 0;
	if (r > 0 && page_token_parse(buf_cstr(&token, NULL), w->ascending, &w->from, &e) < 0) {
		call_error(c, 400, NULL, "%s", e.msg);
		return false;
	}
	r = call_query(c, "startedAfter", &after);
	if (r < 0)
		return false;
	if (r > 0 && time_parse(buf_cstr(&after, NULL), &w->after_us, &e) < 0) {
		call_error(c, 400, NULL,
			   "validation error: parameter \"startedAfter\" in query has an error: %s",
			   e.msg);
		return false;
	}
	r = call_query(c, "template", &template);
	if (r > 0) {
		w->template = template_find(c->cloud, buf_cstr(&template, NULL), NULL);
		w->no_such_template = !w->template;
	}
	return r >= 0;
}

static bool fits(const struct wish *w, const struct sandbox *s)
{
	bool paused = strcmp(listed_state(s), "paused") == 0;

	if (s->state == SANDBOX_STARTING || !(paused ? w->paused : w->running))
		return false;
	if (s->started_us <= w->after_us || w->no_such_template)
		return false;
	if (w->template && strcmp(w->template->id, s->template_id) != 0)
		return false;
	return filter_fits(&w->metadata, json_get(s->request, "metadata"));
}

/* By start, then by id: what a page's token says. */
static int compare(const struct sandbox *a, uint64_t us, const char *id)
{
	if (a->started_us != us)
		return a->started_us < us ? -1 : 1;
	return strcmp(a->id, id);
}

static int oldest_first(const void *a, const void *b)
{
	const struct sandbox *x = *(const struct sandbox *const *)a;
	const struct sandbox *y = *(const struct sandbox *const *)b;

	return compare(x, y->started_us, y->id);
}

static int newest_first(const void *a, const void *b)
{
	return oldest_first(b, a);
}

/* All that fit, in order; the caller frees. */
static const struct sandbox **select_all(const struct cloud *c, const struct wish *w, size_t *ret_n)
{
	const struct sandbox **all = calloc(SANDBOXES_MAX, sizeof(*all));
	size_t n = 0;

	for (const struct sandbox *s = c->sandboxes; all && s && n < SANDBOXES_MAX; s = s->next)
		if (fits(w, s))
			all[n++] = s;
	if (all)
		qsort(all, n, sizeof(*all), w->ascending ? oldest_first : newest_first);
	*ret_n = n;
	return all;
}

/* The first of the page: behind the one that the token names, which may be gone. */
static size_t first_of_page(const struct sandbox *const *all, size_t n, const struct wish *w)
{
	size_t i = 0;

	while (w->has_from && i < n) {
		int r = compare(all[i], w->from.us, w->from.id);

		if (w->ascending ? r > 0 : r < 0)
			break;
		i++;
	}
	return i;
}

static void add_next_token(struct call *c, const struct sandbox *last, bool ascending)
{
	struct page_token t = { .us = last->started_us, .ascending = ascending };
	struct buf text CLEANUP(buf_release) = { 0 };

	snprintf(t.id, sizeof(t.id), "%s", last->id);
	buf_init(&text, 4096);
	if (page_token_print(&t, &text, NULL) == 0)
		call_header(c, "X-Next-Token", buf_cstr(&text, NULL));
}

static void add_total(struct call *c, const struct wish *w)
{
	struct wish running = *w;
	auto_free const struct sandbox **all = NULL;
	char text[24];
	size_t n;

	running.paused = false;
	all = select_all(c->cloud, &running, &n);
	snprintf(text, sizeof(text), "%zu", n);
	call_header(c, "X-Total-Running", text);
}

static void list(struct call *c, const struct wish *w, bool paged)
{
	auto_free const struct sandbox **all = NULL;
	struct buf body CLEANUP(buf_release) = { 0 };
	size_t n, at, end;
	struct jw out;

	all = select_all(c->cloud, w, &n);
	if (!all) {
		call_fail(c, &(struct err){ .code = ERR_NO_MEMORY, .msg = "list" });
		return;
	}
	at = first_of_page(all, n, w);
	end = paged && n - at > (size_t)w->limit ? at + (size_t)w->limit : n;
	if (end < n)
		add_next_token(c, all[end - 1], w->ascending);
	if (paged && w->running)
		add_total(c, w);
	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&out, &body);
	jw_arr(&out);
	for (; at < end; at++)
		write_listed(all[at], false, &out);
	jw_end(&out);
	reply_written(c, &out, &body);
}

static void get_v1(struct call *c)
{
	struct wish w CLEANUP(wish_release) = { .running = true };

	if (read_metadata(c, &w))
		list(c, &w, false);
}

static void get_v2(struct call *c)
{
	struct wish w CLEANUP(wish_release) = { 0 };

	if (read_metadata(c, &w) && read_states(c, &w) && read_order(c, &w) && read_place(c, &w))
		list(c, &w, true);
}

static void get_one(struct call *c)
{
	const struct sandbox *s = call_sandbox(c);
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw out;

	if (!s)
		return;
	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&out, &body);
	write_listed(s, true, &out);
	reply_written(c, &out, &body);
}

/* --- metrics --- */

struct use {
	uint64_t resident_bytes;
	uint64_t cpu_ticks;
};

static ssize_t pid_namespace(const char *pid, char ret[64])
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/ns/pid", pid);
	return readlink(path, ret, 64);
}

/* Fields of /proc/PID/stat, counted behind the name: 12 and 13 are ticks, 22 is pages. */
static void add_use(const char *pid, struct use *u)
{
	unsigned long long user, system, pages;
	auto_fclose FILE *f = NULL;
	char path[64], line[1024];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	f = fopen(path, "re");
	p = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (!p || sscanf(p + 1,
			 " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d "
			 "%*d %*d %*u %*u %llu",
			 &user, &system, &pages) != 3)
		return;
	u->cpu_ticks += user + system;
	u->resident_bytes += pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Of all processes in its pid namespace. */
static struct use use_of(const struct sandbox *s)
{
	auto_closedir DIR *d = s->box.pid ? opendir("/proc") : NULL;
	struct use u = { 0 };
	char first[24], own[64], ns[64];
	struct dirent *ent;
	ssize_t n;

	snprintf(first, sizeof(first), "%d", (int)s->box.pid);
	n = pid_namespace(first, own);
	while (d && n > 0 && (ent = readdir(d)))
		if (ent->d_name[0] >= '1' && ent->d_name[0] <= '9' &&
		    pid_namespace(ent->d_name, ns) == n && memcmp(ns, own, (size_t)n) == 0)
			add_use(ent->d_name, &u);
	return u;
}

/* The mean since its start. */
static double cpu_percent(const struct sandbox *s, const struct use *u)
{
	double lived_s = (double)(now_real_us() - s->started_us) / 1e6;
	double used_s = (double)u->cpu_ticks / (double)sysconf(_SC_CLK_TCK);
	double percent = lived_s > 0 ? used_s / lived_s / s->cpu * 100 : 0;

	return percent < 100 ? percent : 100;
}

static void write_metric(const struct sandbox *s, struct jw *w)
{
	uint64_t now = now_real_us(), disk_used = 0;
	struct use u = use_of(s);
	struct statvfs fs;
	char text[28];

	if (statvfs(s->cloud->root, &fs) == 0)
		disk_used = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
	jw_obj(w);
	jw_kstr(w, "timestamp", time_rfc3339(now, text));
	jw_kint(w, "timestampUnix", (int64_t)(now / 1000000));
	jw_kint(w, "cpuCount", s->cpu);
	jw_knum(w, "cpuUsedPct", cpu_percent(s, &u));
	jw_kint(w, "memUsed", (int64_t)u.resident_bytes);
	jw_kint(w, "memTotal", (int64_t)s->memory_mb * 1024 * 1024);
	jw_kint(w, "memCache", 0);
	jw_kint(w, "diskUsed", (int64_t)disk_used);
	jw_kint(w, "diskTotal", (int64_t)DISK_MB * 1024 * 1024);
	jw_end(w);
}

/* One sample, taken now, if the time asked for holds it. */
static void get_metrics(struct call *c)
{
	const struct sandbox *s = call_sandbox(c);
	int64_t start = 0, end = INT64_MAX, now = (int64_t)(now_real_us() / 1000000);
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw out;

	buf_init(&body, CALL_REPLY_MAX);
	if (!s || call_query_int(c, "start", 0, INT64_MAX, &start) < 0 ||
	    call_query_int(c, "end", 0, INT64_MAX, &end) < 0)
		return;
	jw_init(&out, &body);
	jw_arr(&out);
	if (start <= now && now <= end && s->state == SANDBOX_RUNNING)
		write_metric(s, &out);
	jw_end(&out);
	reply_written(c, &out, &body);
}

static void get_metrics_of_many(struct call *c)
{
	struct buf ids CLEANUP(buf_release) = { 0 }, body CLEANUP(buf_release) = { 0 };
	char *save = NULL, *text;
	size_t n = 0;
	struct jw out;
	int r;

	buf_init(&ids, CALL_BODY_MAX);
	buf_init(&body, CALL_REPLY_MAX);
	r = call_query(c, "sandbox_ids", &ids);
	if (r < 0)
		return;
	jw_init(&out, &body);
	jw_obj(&out);
	jw_kobj(&out, "sandboxes");
	text = r ? (char *)(uintptr_t)buf_cstr(&ids, NULL) : NULL;
	for (char *id = text ? strtok_r(text, ",", &save) : NULL; id && n < METRIC_IDS;
	     id = strtok_r(NULL, ",", &save), n++) {
		const struct sandbox *s = sandbox_find(c->cloud, id);

		if (!s)
			continue;
		jw_key(&out, s->id);
		write_metric(s, &out);
	}
	jw_end(&out);
	jw_end(&out);
	reply_written(c, &out, &body);
}

/* --- logs --- */

/* Lines of envd's log, which begin with a time and a level. */
static void write_logs(const struct sandbox *s, bool entries, int64_t limit, struct jw *w)
{
	char path[512], line[2048], time[40], level[16];
	auto_fclose FILE *f = NULL;
	int at;

	snprintf(path, sizeof(path), "%s/%s/envd.log", s->cloud->root, s->id);
	f = fopen(path, "re");
	while (f && limit > 0 && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%39s %15s %n", time, level, &at) != 2)
			continue;
		jw_obj(w);
		jw_kstr(w, "timestamp", time);
		if (entries) {
			jw_kstr(w, "level", level);
			jw_kstr(w, "message", line + at);
			jw_kobj(w, "fields");
			jw_end(w);
		} else {
			jw_kstr(w, "line", line + at);
		}
		jw_end(w);
		limit--;
	}
}

static void reply_logs(struct call *c, bool v1)
{
	const struct sandbox *s = call_sandbox(c);
	struct buf body CLEANUP(buf_release) = { 0 };
	int64_t limit = LOG_LINES;
	struct jw out;

	buf_init(&body, CALL_REPLY_MAX);
	if (!s || call_query_int(c, "limit", 0, LOG_LINES, &limit) < 0)
		return;
	jw_init(&out, &body);
	jw_obj(&out);
	jw_karr(&out, "logs");
	write_logs(s, !v1, limit, &out);
	jw_end(&out);
	if (v1) {
		jw_karr(&out, "logEntries");
		write_logs(s, true, limit, &out);
		jw_end(&out);
	}
	jw_end(&out);
	reply_written(c, &out, &body);
}

static void get_logs(struct call *c)
{
	reply_logs(c, true);
}

static void get_logs_v2(struct call *c)
{
	reply_logs(c, false);
}

/* --- what this cloud has not --- */

static void not_here(struct call *c)
{
	call_error(c, 501, NULL, "%s %s: farstep-mock-e2b does not have it", c->route->method,
		   c->route->path);
}

static void get_snapshots(struct call *c)
{
	struct buf body CLEANUP(buf_release) = { 0 };

	buf_init(&body, 16);
	if (buf_puts(&body, "[]", NULL) == 0)
		call_reply(c, 200, &body);
}

static void get_health(struct call *c)
{
	call_reply_empty(c, 204);
}

const struct route sandbox_more_routes[] = {
	{ "GET", "/health", get_health, ROUTE_OPEN, 0 },
	{ "GET", "/sandboxes", get_v1, 0, FAULT_LIST_503 },
	{ "GET", "/v2/sandboxes", get_v2, 0, FAULT_LIST_503 },
	{ "GET", "/sandboxes/metrics", get_metrics_of_many, 0, 0 },
	{ "GET", "/sandboxes/{}", get_one, 0, 0 },
	{ "GET", "/sandboxes/{}/metrics", get_metrics, 0, 0 },
	{ "GET", "/sandboxes/{}/logs", get_logs, 0, 0 },
	{ "GET", "/v2/sandboxes/{}/logs", get_logs_v2, 0, 0 },
	{ "GET", "/snapshots", get_snapshots, 0, 0 },
	{ "POST", "/sandboxes/{}/fork", not_here, 0, 0 },
	{ "POST", "/sandboxes/{}/snapshots", not_here, 0, 0 },
	{ "GET", "/volumes", not_here, 0, 0 },
	{ "POST", "/volumes", not_here, 0, 0 },
	{ "GET", "/volumes/{}", not_here, 0, 0 },
	{ "DELETE", "/volumes/{}", not_here, 0, 0 },
	{ 0 },
};
