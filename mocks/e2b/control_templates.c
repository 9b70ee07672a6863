/* SPDX-License-Identifier: Apache-2.0
 *
 * The control API's routes for templates.  A build is ready as soon as it is triggered: its steps
 * are not run, only its name and size are kept, so that sandboxes made from it have them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/call.h"
#include "mocks/e2b/template.h"
#include "protocol/base/cleanup.h"

enum {
	CPU_DEFAULT = 2,
	CPU_MAX = 32,
	MEMORY_DEFAULT_MB = 1024,
	MEMORY_MIN_MB = 128,
	MEMORY_MAX_MB = 65536,
};

static void reply(struct call *c, int status, struct jw *w, struct buf *body)
{
	struct err e = ERR_INIT;

	if (jw_done(w, &e) < 0)
		call_fail(c, &e);
	else
		call_reply(c, status, body);
}

static void write_names(const struct template *t, struct jw *w, const char *key)
{
	jw_karr(w, key);
	jw_str(w, t->name);
	jw_end(w);
}

/* --- builds --- */

static int make_build_id(char ret[BUILD_ID_MAX], struct err *e)
{
	uint8_t r[16];
	char hex[33];

	if (random_bytes(r, sizeof(r), e) < 0)
		return -1;
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	hex_encode(r, sizeof(r), hex);
	snprintf(ret, BUILD_ID_MAX, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
		 hex + 20);
	return 0;
}

static struct template *new_template(struct cloud *c, const char *name, struct err *e)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	struct template *t;
	uint8_t raw[20];
	size_t n = 0;

	for (t = c->templates; t; t = t->next)
		n++;
	t = n < TEMPLATES_MAX && random_bytes(raw, sizeof(raw), e) == 0 ? calloc(1, sizeof(*t))
									: NULL;
	if (!t) {
		err_set(e, ERR_LIMIT, 0, "no room for more than %d templates", TEMPLATES_MAX);
		return NULL;
	}
	for (size_t i = 0; i < sizeof(raw); i++)
		t->id[i] = letters[raw[i] % (sizeof(letters) - 1)];
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->created_us = now_real_us();
	t->next = c->templates;
	c->templates = t;
	return t;
}

static bool check_size(struct call *c, int64_t cpu, int64_t memory_mb)
{
	if (cpu < 1)
		call_error(c, 400, NULL, "CPU count must be at least 1");
	else if (cpu > CPU_MAX)
		call_error(c, 400, NULL,
			   "CPU count can't be higher than %d (if you need to increase this limit, "
			   "please contact support)",
			   CPU_MAX);
	else if (cpu > 1 && cpu % 2)
		call_error(c, 400, NULL, "CPU count must be 1 or an even number");
	else if (memory_mb < MEMORY_MIN_MB)
		call_error(c, 400, NULL, "Memory must be at least %d MiB", MEMORY_MIN_MB);
	else if (memory_mb > MEMORY_MAX_MB)
		call_error(c, 400, NULL,
			   "Memory can't be higher than %d MiB (if you need to increase this "
			   "limit, please contact support)",
			   MEMORY_MAX_MB);
	else if (memory_mb % 2)
		call_error(c, 400, NULL, "Memory must be divisible by 2");
	else
		return true;
	return false;
}

static void put_tag(struct template *t, const char *name)
{
	size_t i = 0;

	while (i < t->n_tags && strcmp(t->tag[i].name, name) != 0)
		i++;
	if (i == TAGS_MAX)
		return;
	t->n_tags += i == t->n_tags;
	snprintf(t->tag[i].name, sizeof(t->tag[i].name), "%s", name);
	snprintf(t->tag[i].build, sizeof(t->tag[i].build), "%s", t->build);
	t->tag[i].us = now_real_us();
}

static void reply_build(struct call *c, const struct template *t, const json *tags, const char *tag)
{
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw w;

	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kstr(&w, "templateID", t->id);
	jw_kstr(&w, "buildID", t->build);
	jw_kbool(&w, "public", t->public);
	write_names(t, &w, "names");
	write_names(t, &w, "aliases");
	jw_karr(&w, "tags");
	if (*tag)
		jw_str(&w, tag);
	for (const json *v = json_first(tags); v; v = json_next(v))
		jw_str(&w, json_string(v));
	if (!*tag && !json_count(tags))
		jw_str(&w, "default");
	jw_end(&w);
	jw_end(&w);
	reply(c, 202, &w, &body);
}

static void post_v3(struct call *c)
{
	int64_t cpu = CPU_DEFAULT, memory_mb = MEMORY_DEFAULT_MB;
	char name[TEMPLATE_NAME_MAX], tag[TEMPLATE_NAME_MAX];
	const char *text = NULL;
	const json *tags = NULL;
	struct template *t;
	struct err e = ERR_INIT;

	if (!call_str(c, "name", NEEDED, &text) || !call_str_array(c, "tags", &tags) ||
	    !call_int(c, "cpuCount", INT32_MIN, INT32_MAX, 0, &cpu) ||
	    !call_int(c, "memoryMB", INT32_MIN, INT32_MAX, 0, &memory_mb) ||
	    !check_size(c, cpu, memory_mb))
		return;
	if (!template_name_parse(text, name, tag)) {
		call_error(c, 400, NULL, "Invalid template name: %.120s", text);
		return;
	}
	t = template_by_name(c->cloud, name);
	if (t && t->public) {
		call_error(c, 403, NULL, "you don't have access to template '%s'", name);
		return;
	}
	if (!t)
		t = new_template(c->cloud, name, &e);
	if (!t || make_build_id(t->build, &e) < 0) {
		call_fail(c, &e);
		return;
	}
	t->cpu = (int)cpu;
	t->memory_mb = (int)memory_mb;
	t->updated_us = now_real_us();
	if (*tag)
		put_tag(t, tag);
	for (const json *v = json_first(tags); v; v = json_next(v))
		put_tag(t, json_string(v));
	reply_build(c, t, tags, tag);
}

/* The template of the first parameter; NULL: answered. */
static struct template *call_template(struct call *c)
{
	struct err e = ERR_INIT;
	struct template *t = template_find(c->cloud, c->param[0], &e);

	if (!t)
		call_error(c, e.code == ERR_NOT_FOUND ? 404 : 400, NULL, "%s", e.msg);
	return t;
}

static struct template *call_build(struct call *c)
{
	struct template *t = call_template(c);

	if (t && strcmp(t->build, c->param[1]) != 0) {
		call_error(c, 404, NULL, "Build '%s' not found", c->param[1]);
		return NULL;
	}
	return t;
}

static void post_build(struct call *c)
{
	struct template *t = call_build(c);
	const json *steps = json_get(c->doc, "steps");
	const char *image = NULL, *from = NULL;

	if (!t || !call_str(c, "fromImage", 0, &image) || !call_str(c, "fromTemplate", 0, &from))
		return;
	if (steps && json_type(steps) != JSON_ARRAY) {
		call_invalid(c, "steps", "value must be an array");
		return;
	}
	if (from && !template_find(c->cloud, from, NULL)) {
		call_error(c, 404, NULL, "template '%s' not found", from);
		return;
	}
	t->built = true;
	t->updated_us = now_real_us();
	call_reply_empty(c, 202);
}

static void get_status(struct call *c)
{
	const struct template *t = call_build(c);
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw w;

	if (!t)
		return;
	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kstr(&w, "templateID", t->id);
	jw_kstr(&w, "buildID", t->build);
	jw_kstr(&w, "status", t->built ? "ready" : "waiting");
	jw_karr(&w, "logs");
	jw_end(&w);
	jw_karr(&w, "logEntries");
	jw_end(&w);
	jw_end(&w);
	reply(c, 200, &w, &body);
}

static void get_build_logs(struct call *c)
{
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw w;

	if (!call_build(c))
		return;
	buf_init(&body, 256);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_karr(&w, "logs");
	jw_end(&w);
	jw_end(&w);
	reply(c, 200, &w, &body);
}

/* What is uploaded is not needed: the steps are not run. */
static void get_file_link(struct call *c)
{
	const char *host = http_header(c->x.h, "Host");
	struct buf body CLEANUP(buf_release) = { 0 };
	char url[512];
	struct jw w;

	if (!call_template(c))
		return;
	snprintf(url, sizeof(url), "http://%s/mock/uploads/%s", host ? host : "127.0.0.1",
		 c->param[1]);
	buf_init(&body, 4096);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kbool(&w, "present", false);
	jw_kstr(&w, "url", url);
	jw_end(&w);
	reply(c, 201, &w, &body);
}

static void put_upload(struct call *c)
{
	if (!http_header(c->x.h, "Content-Length"))
		call_error(c, 501, NULL,
			   "A header you provided implies functionality that is not implemented");
	else
		call_reply_empty(c, 200);
}

/* --- what there is --- */

static void write_template(const struct template *t, const struct cloud *c, struct jw *w)
{
	char time[28];

	jw_obj(w);
	jw_kstr(w, "templateID", t->id);
	jw_kstr(w, "buildID", t->build);
	jw_kint(w, "cpuCount", t->cpu);
	jw_kint(w, "memoryMB", t->memory_mb);
	jw_kint(w, "diskSizeMB", DISK_MB);
	jw_kbool(w, "public", t->public);
	write_names(t, w, "aliases");
	write_names(t, w, "names");
	jw_kstr(w, "createdAt", time_rfc3339(t->created_us, time));
	jw_kstr(w, "updatedAt", time_rfc3339(t->updated_us, time));
	jw_kstr(w, "createdBy", NULL);
	jw_kstr(w, "lastSpawnedAt", NULL);
	jw_kint(w, "spawnCount", 0);
	jw_kint(w, "buildCount", t->built);
	jw_kstr(w, "buildStatus", t->built ? "ready" : "waiting");
	jw_kstr(w, "envdVersion", c->o->envd_version);
	jw_end(w);
}

/* A team's own. */
static void get_templates(struct call *c)
{
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw w;

	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&w, &body);
	jw_arr(&w);
	for (const struct template *t = c->cloud->templates; t; t = t->next)
		if (!t->public)
			write_template(t, c->cloud, &w);
	jw_end(&w);
	reply(c, 200, &w, &body);
}

static void get_alias(struct call *c)
{
	const struct template *t = call_template(c);
	struct buf body CLEANUP(buf_release) = { 0 };
	struct jw w;

	if (!t)
		return;
	buf_init(&body, 4096);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kstr(&w, "templateID", t->id);
	jw_kbool(&w, "public", t->public);
	jw_end(&w);
	reply(c, 200, &w, &body);
}

/* Public ones belong to another team. */
static struct template *own_template(struct call *c)
{
	struct template *t = call_template(c);

	if (!t || !t->public)
		return t;
	call_error(c, 403, NULL, "you don't have access to template '%s'", t->id);
	return NULL;
}

static void patch_template(struct call *c)
{
	const struct template *t = own_template(c);
	struct buf body CLEANUP(buf_release) = { 0 };
	bool public = false;
	struct jw w;

	if (!t || !call_bool(c, "public", &public))
		return;
	buf_init(&body, 4096);
	jw_init(&w, &body);
	jw_obj(&w);
	write_names(t, &w, "names");
	jw_end(&w);
	reply(c, 200, &w, &body);
}

static void delete_template(struct call *c)
{
	struct template *t = own_template(c), **at;

	if (!t)
		return;
	for (at = &c->cloud->templates; *at != t; at = &(*at)->next)
		;
	*at = t->next;
	free(t);
	call_reply_empty(c, 204);
}

/* --- tags --- */

static struct template *template_of(struct call *c, const char *text)
{
	struct err e = ERR_INIT;
	struct template *t = template_find(c->cloud, text, &e);

	if (!t)
		call_error(c, e.code == ERR_NOT_FOUND ? 404 : 400, NULL, "%s", e.msg);
	return t;
}

static void post_tags(struct call *c)
{
	struct buf body CLEANUP(buf_release) = { 0 };
	const char *target = NULL;
	const json *tags = NULL;
	struct template *t;
	struct jw w;

	if (!call_str(c, "target", NEEDED, &target) || !call_str_array(c, "tags", &tags))
		return;
	t = template_of(c, target);
	if (!t)
		return;
	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&w, &body);
	jw_obj(&w);
	jw_kstr(&w, "buildID", t->build);
	jw_karr(&w, "tags");
	for (const json *v = json_first(tags); v; v = json_next(v)) {
		put_tag(t, json_string(v));
		jw_str(&w, json_string(v));
	}
	jw_end(&w);
	jw_end(&w);
	reply(c, 201, &w, &body);
}

static void delete_tags(struct call *c)
{
	const char *name = NULL;
	const json *tags = NULL;
	struct template *t;

	if (!call_str(c, "name", NEEDED, &name) || !call_str_array(c, "tags", &tags))
		return;
	t = template_of(c, name);
	if (!t)
		return;
	for (const json *v = json_first(tags); v; v = json_next(v))
		for (size_t i = 0; i < t->n_tags; i++)
			if (strcmp(t->tag[i].name, json_string(v)) == 0) {
				t->tag[i] = t->tag[--t->n_tags];
				break;
			}
	call_reply_empty(c, 204);
}

static void get_tags(struct call *c)
{
	const struct template *t = call_template(c);
	struct buf body CLEANUP(buf_release) = { 0 };
	char time[28];
	struct jw w;

	if (!t)
		return;
	buf_init(&body, CALL_REPLY_MAX);
	jw_init(&w, &body);
	jw_arr(&w);
	for (size_t i = 0; i < t->n_tags; i++) {
		jw_obj(&w);
		jw_kstr(&w, "tag", t->tag[i].name);
		jw_kstr(&w, "buildID", t->tag[i].build);
		jw_kstr(&w, "createdAt", time_rfc3339(t->tag[i].us, time));
		jw_end(&w);
	}
	jw_end(&w);
	reply(c, 200, &w, &body);
}

const struct route template_routes[] = {
	{ "POST", "/v3/templates", post_v3, ROUTE_BODY, 0 },
	{ "GET", "/templates", get_templates, 0, 0 },
	{ "GET", "/v2/templates", get_templates, 0, 0 },
	{ "POST", "/templates/tags", post_tags, ROUTE_BODY, 0 },
	{ "DELETE", "/templates/tags", delete_tags, ROUTE_BODY, 0 },
	{ "GET", "/templates/aliases/{}", get_alias, 0, 0 },
	{ "GET", "/templates/{}/tags", get_tags, 0, 0 },
	{ "GET", "/templates/{}/files/{}", get_file_link, 0, 0 },
	{ "POST", "/v2/templates/{}/builds/{}", post_build, ROUTE_BODY, 0 },
	{ "GET", "/templates/{}/builds/{}/status", get_status, 0, 0 },
	{ "GET", "/templates/{}/builds/{}/logs", get_build_logs, 0, 0 },
	{ "PATCH", "/templates/{}", patch_template, ROUTE_BODY, 0 },
	{ "PATCH", "/v2/templates/{}", patch_template, ROUTE_BODY, 0 },
	{ "DELETE", "/templates/{}", delete_template, 0, 0 },
	{ "PUT", "/mock/uploads/{}", put_upload, ROUTE_OPEN | ROUTE_UPLOAD, 0 },
	{ 0 },
};
