/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_templates.h"

#include <stdlib.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "sdk-wrapper/http_trace.h"

struct desk {
	struct loop *loop;
	struct http *http;
	struct e2b_env env;
	struct e2b_api *api;
	bool over, failed;
	struct err err;
	void (*on_item)(void *user, const struct e2b_template *t);
	void (*on_line)(void *user, const char *line);
	void *user;
};

static const char *get_variable(const char *name)
{
	return getenv(name);
}

static void close_desk(struct desk *d)
{
	e2b_api_free(d->api);
	http_free(d->http);
	loop_free(d->loop);
	wipe(&d->env, sizeof(d->env));
}

static int open_desk(struct desk *d, struct err *e)
{
	if (e2b_env_read(get_variable, &d->env, e) < 0)
		return -1;
	d->loop = loop_new(e);
	if (d->loop)
		d->http = http_new(d->loop, http_trace_wanted() ? http_trace_log : NULL, e);
	d->api = d->http ? e2b_api_new(d->loop, d->http, &d->env, e) : NULL;
	return d->api ? 0 : -1;
}

static void end(struct desk *d, const struct err *err)
{
	d->over = true;
	d->failed = err != NULL;
	if (err)
		d->err = *err;
}

/* Every call has its deadline: it comes to its end. */
static int wait_for_end(struct desk *d, bool begun, struct err *e)
{
	if (!begun)
		return -1;
	while (!d->over)
		if (loop_pass(d->loop, 1000, e) < 0)
			return -1;
	if (d->failed && e)
		*e = d->err;
	return d->failed ? -1 : 0;
}

/* --- list --- */

static const char *first_name(const json *v)
{
	static const char *const keys[] = { "names", "aliases" };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *name = json_string(json_first(json_get(v, keys[i])));

		if (name)
			return name;
	}
	return json_string(json_get(v, "templateID"));
}

static void on_listed(void *user, const struct e2b_result *r)
{
	struct desk *d = user;
	struct err e = ERR_INIT;

	if (!r->failure && json_type(r->answer) != JSON_ARRAY)
		err_set(&e, ERR_PROTO, 0, "list templates: want an array");
	for (const json *v = r->failure ? NULL : json_first(r->answer); v; v = json_next(v)) {
		struct e2b_template t = { .name = first_name(v) };
		int64_t cpu = 0, memory = 0;

		t.id = json_string(json_get(v, "templateID"));
		t.status = json_string(json_get(v, "buildStatus"));
		t.is_public = json_is_true(json_get(v, "public"));
		if (!t.id)
			err_set(&e, ERR_PROTO, 0, "list templates: one has no id");
		if (!t.id || json_opt_int(v, "template", "cpuCount", 0, 100000, &cpu, &e) < 0 ||
		    json_opt_int(v, "template", "memoryMB", 0, INT32_MAX, &memory, &e) < 0)
			break;
		t.cpu = (uint32_t)cpu;
		t.memory_mb = (uint32_t)memory;
		d->on_item(d->user, &t);
	}
	end(d, r->failure ? &r->failure->err : e.code ? &e : NULL);
}

int e2b_templates_list(void (*on_item)(void *user, const struct e2b_template *t), void *user,
		       uint32_t deadline_ms, struct err *e)
{
	static const struct e2b_request r = { "list templates", "GET", "/v2/templates", NULL,
					      RETRY_READ };
	struct desk d = { .on_item = on_item, .user = user };
	struct e2b_end done = { deadline_ms, on_listed, &d };
	int ret = -1;

	if (open_desk(&d, e) == 0)
		ret = wait_for_end(&d, e2b_request(d.api, &r, &done, e) != NULL, e);
	close_desk(&d);
	return ret;
}

/* --- build --- */

static void on_build_line(void *user, const char *line)
{
	struct desk *d = user;

	if (d->on_line)
		d->on_line(d->user, line);
}

static void on_built(void *user, const struct err *err)
{
	end(user, err);
}

int e2b_templates_build(const struct e2b_build_spec *spec,
			void (*on_line)(void *user, const char *line), void *user,
			uint32_t deadline_ms, struct err *e)
{
	struct desk d = { .on_line = on_line, .user = user };
	const struct e2b_build_hooks hooks = { &d, on_build_line, on_built };
	struct e2b_build *b = NULL;
	int ret = -1;

	if (open_desk(&d, e) == 0) {
		b = e2b_build_start(d.loop, d.http, d.api, spec, deadline_ms, &hooks, e);
		ret = wait_for_end(&d, b != NULL, e);
	}
	if (!d.over)
		e2b_build_cancel(b);
	close_desk(&d);
	return ret;
}
