/* SPDX-License-Identifier: Apache-2.0
 *
 * What the steps of dependencies run, and what came of it, in the run directory. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/fs.h"
#include "proxy/dependencies/scripts.h"
#include "proxy/dependencies/state.h"

enum { DONE_MAX = 2 * LIMIT_DEPENDENCY_REPORT };

const struct dependency_tool dependency_tools[TOOLS] = {
	[TOOL_PIP] = { RESERVED_STEPS ".pip", "python3", "-c", dependencies_pip },
	[TOOL_NPM] = { RESERVED_STEPS ".npm", "node", "-e", dependencies_npm },
};

static void name_file(char to[64], int tool, const char *end)
{
	snprintf(to, 64, "journal/%s.%s", dependency_tools[tool].step, end);
}

bool dependencies_may_install(const struct options *o, const struct plan *p)
{
	int said = o->install_deps ? o->install_deps : p->install_deps;

	return said ? said > 0 : o->install_deps_default;
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
	jw_str(&w, dependency_tools[tool].program);
	jw_str(&w, dependency_tools[tool].option);
	jw_str(&w, dependency_tools[tool].script);
	jw_end(&w);
	jw_karr(&w, "requirements");
	for (size_t i = 0; i < need->n; i++)
		jw_str(&w, need->list[i]);
	jw_end(&w);
	jw_kstr(&w, "lock", lock);
	jw_kbool(&w, "install", dependencies_may_install(r->o, r->plan));
	jw_kbool(&w, "offline", dependencies_are_offline(r));
	jw_kbool(&w, "ask", dependencies_have_door(r));
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

int dependency_read_report(struct dependencies *d, int tool, const char *path, struct err *e)
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

static int read_done(struct dependencies *d, int tool, const char *path, struct err *e)
{
	struct need *need = &d->needs[tool];
	const json *report = NULL;
	struct buf b, text;
	json *v = NULL;
	int ret = -1;

	buf_init(&b, DONE_MAX);
	buf_init(&text, LIMIT_DEPENDENCY_REPORT);
	if (fs_read(d->r->dir.fd, path, DONE_MAX, &b, e) == 0)
		v = json_parse((const char *)buf_data(&b), buf_len(&b), DONE_MAX, LIMIT_JSON_DEPTH,
		               e);
	if (v && json_req_obj(v, "journal", "report", &report, e) == 0 &&
	    json_print(report, &text, e) == 0 &&
	    dependency_report_parse(&need->report, (const char *)buf_data(&text), buf_len(&text),
	                            e) == 0)
		ret = fetched_read(json_get(v, "artifacts"), &need->artifacts, &need->n_artifacts,
		                   e);
	need->done = ret == 0;
	json_free(v);
	buf_release(&text);
	buf_release(&b);
	return ret < 0 ? err_wrap(e, "%s", path) : 0;
}

static bool read_asks(const char *config)
{
	auto_json json *v = json_parse(config, strlen(config), LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL);

	return json_is_true(json_get(v, "ask"));
}

int dependency_read_need(struct dependencies *d, int tool, struct err *e)
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
	if (ret == 0)
		need->asks = read_asks(need->config);
	name_file(path, tool, "done");
	if (ret == 0 && faccessat(d->r->dir.fd, path, F_OK, 0) == 0)
		ret = read_done(d, tool, path, e);
	return ret;
}

/* Report and artifacts, for a proxy that goes on behind us. */
int dependency_keep_report(struct dependencies *d, struct err *e)
{
	const struct need *need = now(d);
	char path[64];
	struct buf b;
	struct jw w;
	int ret;

	buf_init(&b, DONE_MAX);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kjson(&w, "report", need->report.v);
	fetched_write(&w, need->artifacts, need->n_artifacts);
	jw_end(&w);
	name_file(path, d->tool, "done");
	ret = jw_done(&w, e);
	if (ret == 0)
		ret = fs_write(d->r->dir.fd, path, buf_data(&b), buf_len(&b), 0600, false, e);
	buf_release(&b);
	return ret;
}
