/* SPDX-License-Identifier: Apache-2.0
 *
 * What is told of dependencies: events, and the log of the tool as an artifact. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "proxy/dependencies/state.h"

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

void dependency_tell_report(struct dependencies *d)
{
	const struct need *need = now(d);
	struct buf b;
	struct jw w;

	run_fields_begin(&w, &b);
	jw_kstr(&w, "tool", package_tool_names[d->tool]);
	write_required(&w, need->config);
	write_list(&w, "present", need->report.present);
	write_list(&w, "missing", need->report.missing);
	run_fields_end(d->r, "dependency_check", &w);
	for (const json *v = json_first(need->report.installed); v; v = json_next(v)) {
		run_fields_begin(&w, &b);
		jw_kstr(&w, "tool", package_tool_names[d->tool]);
		jw_kjson(&w, "package", json_get(v, "package"));
		jw_kjson(&w, "version", json_get(v, "version"));
		jw_kjson(&w, "duration_ms", json_get(v, "duration_ms"));
		run_fields_end(d->r, "dependency_installed", &w);
	}
}

void dependency_tell_artifacts(struct dependencies *d)
{
	const struct need *need = now(d);
	struct buf b;
	struct jw w;

	for (size_t i = 0; i < need->n_artifacts; i++) {
		run_fields_begin(&w, &b);
		jw_kstr(&w, "step_id", dependency_tools[d->tool].step);
		jw_kint(&w, "attempt", 1);
		fetched_print(&w, NULL, &need->artifacts[i]);
		run_fields_end(d->r, "artifact_created", &w);
	}
}

void dependency_tell_end(struct dependencies *d, const struct err *why)
{
	double ms = now(d)->sr.verified ? now(d)->sr.receipt.usage.wall_ms : 0;
	struct buf b;
	struct jw w;

	run_fields_begin(&w, &b);
	jw_kstr(&w, "step_id", dependency_tools[d->tool].step);
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
		run_fields_end(d->r, "step_failed", &w);
	else
		run_fields_end(d->r, "step_complete", &w);
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

	snprintf(from, sizeof(from), "logs/%s.stdout", dependency_tools[d->tool].step);
	snprintf(to, sizeof(to), "artifacts/%s", dependency_tools[d->tool].step);
	if (fs_mkdirs(d->r->dir.fd, to, 0700, e) < 0)
		return -1;
	snprintf(to, sizeof(to), "artifacts/%s/" DEPENDENCY_LOG, dependency_tools[d->tool].step);
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
	ret->path = strdup(DEPENDENCY_LOG);
	return ret->path ? 0 : err_set(e, ERR_NO_MEMORY, 0, "%s", to);
}

void dependency_take_artifacts(struct dependencies *d)
{
	struct need *need = now(d);
	struct err e = ERR_INIT;

	need->artifacts = calloc(need->fetch.n_files + 1, sizeof(*need->artifacts));
	if (!need->artifacts) {
		log_error("no memory to list what came home");
		return;
	}
	for (size_t i = 0; i < need->fetch.n_files; i++) {
		/* Only a script that is not ours could use the log's name. */
		if (strcmp(need->fetch.files[i].path, DEPENDENCY_LOG) == 0)
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
