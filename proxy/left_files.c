/* SPDX-License-Identifier: Apache-2.0
 *
 * At the end of a run: which files did steps leave in their working directory that nothing
 * brought home?  They go with the sandbox, so they are named in a warning. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "proxy/run.h"

/* Written when the question was answered, for a proxy that finds everything at home. */
#define ASKED_FILE "journal/left"

#define MESSAGE_MAX 4096

static void warn(struct run *r, const char *message, const json *files, int64_t count)
{
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kstr(&w, "message", message);
	if (files) {
		jw_kint(&w, "left", count);
		jw_kjson(&w, "files", files);
	}
	jw_end(&w);
	run_event(r, "warning", &b);
	buf_release(&b);
}

static void warn_unknown(struct run *r, const char *why)
{
	char message[600];

	snprintf(message, sizeof(message),
	         "whether steps left other files in their working directory is not known: %.400s",
	         why);
	warn(r, message, NULL, 0);
}

static void name_files(const json *files, int64_t count, bool complete, char *to, size_t size)
{
	size_t n = (size_t)snprintf(
		to, size,
		"%s%lld file%s stayed in the working directory and %s not brought home "
		"('artifacts' globs or $FARSTEP_ARTIFACTS_DIR do that):",
		complete ? "" : "at least ", (long long)count, count == 1 ? "" : "s",
		count == 1 ? "was" : "were");
	int64_t named = 0;

	for (const json *f = json_first(files); f && n < size; f = json_next(f), named++) {
		const char *path = json_string(json_get(f, "path"));

		n += (size_t)snprintf(to + n, size - n, "%s %.200s%s", named ? "," : "",
		                      path ? path : "?",
		                      json_is_true(json_get(f, "changed")) ? " (changed)" : "");
	}
	if (n < size && named < count)
		snprintf(to + n, size - n, " and %lld more", (long long)(count - named));
}

static void tell(struct run *r, const json *result)
{
	const json *files = NULL;
	int64_t count = 0;
	bool complete = true;
	struct err e = ERR_INIT;
	char message[MESSAGE_MAX];

	if (json_opt_arr(result, "session.left", "files", &files, &e) < 0 ||
	    json_req_int(result, "session.left", "count", 0, JSON_INT_MAX, &count, &e) < 0 ||
	    json_opt_bool(result, "session.left", "complete", &complete, &e) < 0) {
		warn_unknown(r, e.msg);
		return;
	}
	if (count) {
		name_files(files, count, complete, message, sizeof(message));
		warn(r, message, files, count);
	} else if (!complete) {
		warn_unknown(r, "it holds more than the worker could look through");
	}
}

static void go_on(struct run *r)
{
	r->left = LEFT_DONE;
	if (fs_write(r->dir.fd, ASKED_FILE, "", 0, 0600, false, NULL) < 0)
		log_debug("cannot write " ASKED_FILE);
	run_steps_finish(r);
}

static void on_answer(struct call *c, const json *result, const struct err *error)
{
	struct run *r = (struct run *)((char *)c - offsetof(struct run, left_call));

	loop_timer_stop(&r->left_late);
	if (error)
		warn_unknown(r, error->msg);
	else
		tell(r, result);
	go_on(r);
}

static void on_late(struct loop_timer *t)
{
	struct run *r = (struct run *)((char *)t - offsetof(struct run, left_late));

	link_forget(r->link, &r->left_call);
	warn_unknown(r, "the worker did not answer in time");
	go_on(r);
}

static bool any_started(const struct run *r)
{
	for (size_t i = 0; i < r->plan->n_steps; i++)
		if (r->steps[i].started || (r->steps[i].finished && r->steps[i].attempt))
			return true;
	return false;
}

bool left_files_ask(struct run *r)
{
	if (r->left != LEFT_UNASKED)
		return r->left == LEFT_ASKED;
	/* Without a link there is a larger trouble, and it is being told. */
	if (!link_is_up(r->link) || !any_started(r)) {
		r->left = LEFT_DONE;
		return false;
	}
	r->left = LEFT_ASKED;
	r->left_call.method = "session.left";
	r->left_call.on_done = on_answer;
	loop_timer_start(r->loop, &r->left_late, LEFT_WAIT_MS, on_late, NULL);
	link_call(r->link, &r->left_call);
	return true;
}

void left_files_unasked(struct run *r)
{
	if (r->provider && any_started(r) && faccessat(r->dir.fd, ASKED_FILE, F_OK, 0) < 0)
		warn_unknown(r, "the farstep before this one ended before it had asked");
}
