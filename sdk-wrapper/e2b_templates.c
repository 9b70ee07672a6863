/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_templates.h"

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/e2b_desk.h"

struct job {
	struct e2b_desk desk;
	void (*on_item)(void *user, const struct e2b_template *t);
	void (*on_line)(void *user, const char *line);
	void *user;
};

static void job_end(struct job *j)
{
	e2b_desk_close(&j->desk);
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
	struct job *j = user;
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
		j->on_item(j->user, &t);
	}
	if (e.code)
		e2b_desk_over(&j->desk, &e);
	else
		e2b_desk_answered(&j->desk, r);
}

int e2b_templates_list(void (*on_item)(void *user, const struct e2b_template *t), void *user,
		       uint32_t deadline_ms, struct err *e)
{
	static const struct e2b_request r = { "list templates", "GET", "/v2/templates", NULL,
					      RETRY_READ };
	struct job j CLEANUP(job_end) = { .on_item = on_item, .user = user };
	struct e2b_end end = { deadline_ms, on_listed, &j };

	if (e2b_desk_open(&j.desk, NULL, e) < 0)
		return -1;
	return e2b_desk_wait(&j.desk, e2b_request(j.desk.api, &r, &end, e) != NULL, e);
}

/* --- build --- */

static void on_build_line(void *user, const char *line)
{
	struct job *j = user;

	if (j->on_line)
		j->on_line(j->user, line);
}

static void on_built(void *user, const struct err *err)
{
	struct job *j = user;

	e2b_desk_over(&j->desk, err);
}

int e2b_templates_build(const struct e2b_build_spec *spec,
			void (*on_line)(void *user, const char *line), void *user,
			uint32_t deadline_ms, struct err *e)
{
	struct job j CLEANUP(job_end) = { .on_line = on_line, .user = user };
	const struct e2b_build_hooks hooks = { &j, on_build_line, on_built };
	struct e2b_build *b;
	int ret;

	if (e2b_desk_open(&j.desk, NULL, e) < 0)
		return -1;
	b = e2b_build_start(j.desk.loop, j.desk.http, j.desk.api, spec, deadline_ms, &hooks, e);
	ret = e2b_desk_wait(&j.desk, b != NULL, e);
	if (!j.desk.over)
		e2b_build_cancel(b);
	return ret;
}
