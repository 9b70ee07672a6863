/* SPDX-License-Identifier: Apache-2.0
 *
 * The small endpoints: health, metrics, global environment, init; and answers that all share. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "mocks/e2b/envd_int.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum { TEXT_MAX = 64 * 1024, INIT_MAX = 4 * 1024 * 1024, MIB = 1024 * 1024 };

/* --- errors --- */

void envd_fail(struct http *h, int status, const char *fmt, ...)
{
	struct buf message CLEANUP(buf_release), body CLEANUP(buf_release);
	char text[8192];
	struct jw w;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_init(&message, 0);
	buf_init(&body, TEXT_MAX);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kint(&w, "code", status);
	jw_kstr(&w, "message", text);
	jw_end(&w);
	jw_done(&w, NULL);
	http_add(h, "X-Content-Type-Options", "nosniff", NULL);
	http_reply(h, status, "application/json; charset=utf-8", buf_data(&body), buf_len(&body));
}

void envd_404(struct http *h)
{
	static const char text[] = "404 page not found\n";

	http_add(h, "X-Content-Type-Options", "nosniff", NULL);
	http_reply(h, 404, "text/plain; charset=utf-8", text, sizeof(text) - 1);
}

/* --- metrics --- */

static void read_memory(int64_t *total, int64_t *available, int64_t *cached)
{
	FILE *f auto_fclose = fopen("/proc/meminfo", "re");
	char line[256];
	long long kib;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemTotal: %lld", &kib) == 1)
			*total = kib * 1024;
		else if (sscanf(line, "MemAvailable: %lld", &kib) == 1)
			*available = kib * 1024;
		else if (sscanf(line, "Cached: %lld", &kib) == 1)
			*cached = kib * 1024;
	}
}

/* Of all processors together, since the last call (or the start of the machine). */
static double cpu_used_pct(void)
{
	static long long last_all, last_idle;
	FILE *f auto_fclose = fopen("/proc/stat", "re");
	long long v[8] = { 0 }, all = 0, idle;
	double pct;

	if (!f || fscanf(f, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &v[0], &v[1], &v[2],
			 &v[3], &v[4], &v[5], &v[6], &v[7]) < 5)
		return 0;
	for (int i = 0; i < 8; i++)
		all += v[i];
	idle = v[3] + v[4];
	pct = all > last_all ? 100.0 * (double)(all - last_all - (idle - last_idle)) /
				       (double)(all - last_all)
			     : 0;
	last_all = all;
	last_idle = idle;
	return pct < 0 ? 0 : pct;
}

static void reply_json(struct http *h, struct jw *w, struct buf *body)
{
	struct err e = ERR_INIT;

	if (jw_done(w, &e) < 0)
		envd_fail(h, 500, "%s", e.msg);
	else
		http_reply(h, 200, "application/json", buf_data(body), buf_len(body));
}

static void get_metrics(struct envd *d, struct http *h)
{
	struct buf body CLEANUP(buf_release);
	int64_t total = 0, available = 0, cached = 0;
	struct statvfs disk = { 0 };
	struct jw w;

	read_memory(&total, &available, &cached);
	buf_init(&body, TEXT_MAX);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kint(&w, "ts", (int64_t)time(NULL));
	jw_kint(&w, "cpu_count", sysconf(_SC_NPROCESSORS_ONLN));
	jw_knum(&w, "cpu_used_pct", cpu_used_pct());
	jw_kint(&w, "mem_total_mib", total / MIB);
	jw_kint(&w, "mem_used_mib", (total - available) / MIB);
	jw_kint(&w, "mem_total", total);
	jw_kint(&w, "mem_used", total - available);
	jw_kint(&w, "mem_cache", cached);
	if (envd_since(d, "0.2.4") && statvfs("/", &disk) == 0) {
		jw_kint(&w, "disk_used", (int64_t)((disk.f_blocks - disk.f_bfree) * disk.f_frsize));
		jw_kint(&w, "disk_total", (int64_t)(disk.f_blocks * disk.f_frsize));
	}
	jw_end(&w);
	http_add(h, "Cache-Control", "no-store", NULL);
	reply_json(h, &w, &body);
}

static void get_envs(struct envd *d, struct http *h)
{
	struct buf body CLEANUP(buf_release);
	struct jw w;

	buf_init(&body, INIT_MAX);
	jw_init(&w, &body);
	jw_obj(&w);
	for (char **v = d->env; *v; v++) {
		const char *eq = strchr(*v, '=');
		char name[1024];

		snprintf(name, sizeof(name), "%.*s", (int)(eq - *v), *v);
		jw_kstr(&w, name, eq + 1);
	}
	jw_end(&w);
	http_add(h, "Cache-Control", "no-store", NULL);
	reply_json(h, &w, &body);
}

/* --- init --- */

struct init {
	struct envd *d;
	struct buf body;
};

static int take_env(struct envd *d, const json *doc, struct err *e)
{
	const json *vars = json_get(doc, "envVars");

	for (const json *v = json_first(vars); v; v = json_next(v))
		if (json_string(v) && envd_setenv(d, json_key(v), json_string(v), e) < 0)
			return -1;
	return 0;
}

static int copy_opt(const json *doc, const char *key, char *to, size_t max, struct err *e)
{
	const char *s = NULL;

	if (json_opt_str(doc, "body", key, &s, e) < 0)
		return -1;
	if (s && strlen(s) >= max)
		return err_set(e, ERR_LIMIT, 0, "body.%s: too long", key);
	if (s && *s)
		memcpy(to, s, strlen(s) + 1);
	return 0;
}

/* The time that comes along is left alone: the clock is the host's. */
static int take_init(struct envd *d, const json *doc, struct err *e)
{
	const char *token = NULL;

	if (json_opt_str(doc, "body", "accessToken", &token, e) < 0)
		return -1;
	if (token && *token && d->token && strcmp(token, d->token) != 0)
		return err_set(e, ERR_DENIED, 0, "access token validation failed");
	if (token && *token && !d->token) {
		d->token = strdup(token);
		if (!d->token)
			return err_set(e, ERR_NO_MEMORY, 0, "init");
	}
	if (copy_opt(doc, "defaultUser", d->default_user, sizeof(d->default_user), e) < 0 ||
	    copy_opt(doc, "defaultWorkdir", d->default_workdir, sizeof(d->default_workdir), e) < 0)
		return -1;
	return take_env(d, doc, e);
}

static size_t on_init_body(struct http *h, const uint8_t *p, size_t n)
{
	struct init *i = http_ctx(h);

	if (buf_put(&i->body, p, n, NULL) < 0)
		http_reply(h, 413, "text/plain; charset=utf-8", "too large", 9);
	return n;
}

static void on_init_end(struct http *h)
{
	struct init *i = http_ctx(h);
	struct err e = ERR_INIT;
	json *doc auto_json = NULL;
	int r = 0;

	if (buf_len(&i->body) > 0) {
		doc = json_parse((const char *)buf_data(&i->body), buf_len(&i->body), INIT_MAX,
				 ENVD_JSON_DEPTH, &e);
		r = doc ? take_init(i->d, doc, &e) : -1;
	}
	http_add(h, "X-Envd-Version", i->d->version, NULL);
	http_add(h, "Cache-Control", "no-store", NULL);
	if (r == 0)
		http_reply(h, 204, NULL, NULL, 0);
	else
		http_reply(h, e.code == ERR_DENIED ? 401 : 400, "text/plain; charset=utf-8", e.msg,
			   strlen(e.msg));
}

static void on_init_close(struct http *h, bool whole __attribute__((unused)))
{
	struct init *i = http_ctx(h);

	buf_release(&i->body);
	free(i);
}

static void post_init(struct envd *d, struct http *h)
{
	static const struct http_calls calls = { on_init_body, on_init_end, NULL, on_init_close };
	struct init *i = calloc(1, sizeof(*i));

	if (!i) {
		envd_fail(h, 500, "out of memory");
		return;
	}
	i->d = d;
	buf_init(&i->body, INIT_MAX);
	http_on(h, &calls, i);
}

/* --- which of them --- */

static const struct {
	const char *method, *path;
	void (*answer)(struct envd *d, struct http *h);
} routes[] = {
	{ "GET", "/metrics", get_metrics },
	{ "GET", "/envs", get_envs },
	{ "POST", "/init", post_init },
};

void envd_misc(struct envd *d, struct http *h)
{
	bool known = strcmp(http_path(h), "/health") == 0;

	if (known && strcmp(http_method(h), "GET") == 0) {
		http_add(h, "Cache-Control", "no-store", NULL);
		http_reply(h, 204, NULL, NULL, 0);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		if (strcmp(routes[i].path, http_path(h)) != 0)
			continue;
		known = true;
		if (strcmp(routes[i].method, http_method(h)) == 0) {
			routes[i].answer(d, h);
			return;
		}
	}
	if (known)
		http_reply(h, 405, NULL, NULL, 0);
	else
		envd_404(h);
}
