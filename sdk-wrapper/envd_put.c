/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/envd_put.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"

enum {
	PART = 16 << 20,
	AT_ONCE = 4,
	PUT_PATH = 512,
	CLEAN_MS = 20000,
};

enum step { STEP_PARTS, STEP_JOIN, STEP_CHECK };

/* One of the uploads under way. */
struct lane {
	struct envd_put *put;
	struct envd_call *call;
	size_t part;
	bool asking;	/* is this part there already? */
};

struct envd_put {
	struct envd *envd;
	struct envd_end end;
	struct envd_file file;
	char path[PUT_PATH], id[64];
	uint64_t until_ns, sent;
	bool resume, in_parts;
	size_t n_parts, next, done;
	struct lane lanes[AT_ONCE];
	enum step step;
	struct envd_call *call;		/* the joining, the checking */
	struct loop_timer timer;	/* to begin, and to fail, from the loop */
	bool begun;
	struct failure failed;
};

static void lane_next(struct lane *l);
static void join(struct envd_put *p);

static void put_free(struct envd_put *p)
{
	for (size_t i = 0; i < AT_ONCE; i++)
		envd_cancel(p->lanes[i].call);
	envd_cancel(p->call);
	loop_timer_stop(&p->timer);
	free(p);
}

void envd_put_cancel(struct envd_put *p)
{
	if (p)
		put_free(p);
}

static uint32_t left_ms(const struct envd_put *p)
{
	uint64_t now = now_ns();

	return now >= p->until_ns ? 0 : (uint32_t)((p->until_ns - now) / 1000000);
}

static void part_path(const struct envd_put *p, size_t part, char ret[PUT_PATH + 100])
{
	snprintf(ret, PUT_PATH + 100, "%s.%s.part%zu", p->path, p->id, part);
}

static uint64_t part_len(const struct envd_put *p, size_t part)
{
	uint64_t from = (uint64_t)part * PART;

	if (!p->in_parts)
		return p->file.len;
	return p->file.len - from < PART ? p->file.len - from : PART;
}

static void ignore(void *user, const struct envd_result *r)
{
	(void)user;
	(void)r;
}

/* {"path":...} for a call about a file */
static int path_message(const char *path, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "path", path);
	jw_end(&w);
	return jw_done(&w, e);
}

static void remove_parts(struct envd_put *p)
{
	struct envd_end end = { .deadline_ms = CLEAN_MS, .on_done = ignore };
	char path[PUT_PATH + 100];

	for (size_t i = 0; i < p->next; i++) {
		struct buf message CLEANUP(buf_release);

		buf_init(&message, LIMIT_DATA);
		part_path(p, i, path);
		if (path_message(path, &message, NULL) == 0)
			envd_rpc(p->envd, "filesystem.Filesystem/Remove", buf_cstr(&message, NULL),
				 RETRY_IDEMPOTENT, &end, NULL);
	}
}

static void finish(struct envd_put *p, const struct failure *f)
{
	struct envd_result r = { .failure = f, .bytes = p->sent };

	for (size_t i = 0; i < AT_ONCE; i++) {
		envd_cancel(p->lanes[i].call);
		p->lanes[i].call = NULL;
	}
	if (f && f->class != FAIL_GONE)
		remove_parts(p);
	p->end.on_done(p->end.user, &r);
	put_free(p);
}

static void on_timer(struct loop_timer *t)
{
	struct envd_put *p = (struct envd_put *)((char *)t - offsetof(struct envd_put, timer));

	if (p->begun) {
		finish(p, &p->failed);
		return;
	}
	p->begun = true;
	for (size_t i = 0; i < AT_ONCE && p->next < p->n_parts; i++)
		lane_next(&p->lanes[i]);
}

/* A call could not even be prepared. */
static void fail(struct envd_put *p, const struct err *e)
{
	failure_set(&p->failed, FAIL_UNREACHED, "upload", e);
	loop_timer_start(envd_loop(p->envd), &p->timer, 0, on_timer, NULL);
}

/* --- the parts --- */

static void on_part(void *user, const struct envd_result *r)
{
	struct lane *l = user;
	struct envd_put *p = l->put;

	l->call = NULL;
	if (r->failure) {
		p->failed = *r->failure;
		finish(p, &p->failed);
		return;
	}
	p->sent += part_len(p, l->part);
	p->done++;
	lane_next(l);
}

static void send_part(struct lane *l)
{
	struct envd_put *p = l->put;
	struct envd_end end = { left_ms(p), on_part, l };
	char path[PUT_PATH + 100];
	struct envd_file f = { path, p->file.fd, p->file.at + (uint64_t)l->part * PART,
			       part_len(p, l->part) };
	struct err e = ERR_INIT;

	part_path(p, l->part, path);
	l->call = p->in_parts ? envd_upload_raw(p->envd, &f, &end, &e)
			      : envd_upload(p->envd, &f, 1, &end, &e);
	if (!l->call)
		fail(p, &e);
}

static void on_part_known(void *user, const struct envd_result *r)
{
	struct lane *l = user;
	struct envd_put *p = l->put;
	uint64_t size = 0;

	l->call = NULL;
	if (!r->failure)
		json_opt_u64(json_get(r->answer, "entry"), "entry", "size", &size, NULL);
	if (r->failure || size != part_len(p, l->part)) {
		send_part(l);
		return;
	}
	p->done++;
	lane_next(l);
}

static struct envd_call *stat_file(struct envd_put *p, const char *path,
				   const struct envd_end *end, struct err *e)
{
	struct buf message CLEANUP(buf_release);

	buf_init(&message, LIMIT_DATA);
	if (path_message(path, &message, e) < 0 || !buf_cstr(&message, e))
		return NULL;
	return envd_rpc(p->envd, "filesystem.Filesystem/Stat", buf_cstr(&message, e), RETRY_READ,
			end, e);
}

static void lane_next(struct lane *l)
{
	struct envd_put *p = l->put;
	struct envd_end end = { left_ms(p), on_part_known, l };
	char path[PUT_PATH + 100];
	struct err e = ERR_INIT;

	if (p->next == p->n_parts) {
		if (p->done == p->n_parts && p->step == STEP_PARTS)
			join(p);
		return;
	}
	l->part = p->next++;
	if (!p->resume) {
		send_part(l);
		return;
	}
	part_path(p, l->part, path);
	l->call = stat_file(p, path, &end, &e);
	if (!l->call)
		fail(p, &e);
}

/* --- the whole --- */

static void on_checked(void *user, const struct envd_result *r)
{
	struct envd_put *p = user;
	uint64_t size = 0;

	p->call = NULL;
	if (!r->failure &&
	    json_req_u64(json_get(r->answer, "entry"), "entry", "size", &size, NULL) == 0 &&
	    size == p->file.len)
		finish(p, NULL);
	else
		finish(p, &p->failed);
}

/* Its answer was lost, or says that the parts are gone: is the file there? */
static void on_joined(void *user, const struct envd_result *r)
{
	struct envd_put *p = user;
	struct envd_end end = { left_ms(p), on_checked, p };
	struct err e = ERR_INIT;

	p->call = NULL;
	if (!r->failure) {
		finish(p, NULL);
		return;
	}
	p->failed = *r->failure;
	if (fail_is_ambiguous(r->failure->class)) {
		p->step = STEP_CHECK;
		p->call = stat_file(p, p->path, &end, &e);
		if (p->call)
			return;
	}
	finish(p, &p->failed);
}

static struct envd_call *compose(struct envd_put *p, const struct envd_end *end, struct err *e)
{
	auto_free char *texts = malloc(p->n_parts * (PUT_PATH + 100));
	auto_free const char **sources = calloc(p->n_parts, sizeof(*sources));

	if (!texts || !sources) {
		err_set(e, ERR_NO_MEMORY, 0, "upload");
		return NULL;
	}
	for (size_t i = 0; i < p->n_parts; i++) {
		part_path(p, i, texts + i * (PUT_PATH + 100));
		sources[i] = texts + i * (PUT_PATH + 100);
	}
	return envd_compose(p->envd, sources, p->n_parts, p->path, end, e);
}

static struct envd_call *rename_it(struct envd_put *p, const struct envd_end *end, struct err *e)
{
	struct buf message CLEANUP(buf_release);
	char path[PUT_PATH + 100];
	struct jw w;

	buf_init(&message, LIMIT_DATA);
	part_path(p, 0, path);
	jw_init(&w, &message);
	jw_obj(&w);
	jw_kstr(&w, "source", path);
	jw_kstr(&w, "destination", p->path);
	jw_end(&w);
	if (jw_done(&w, e) < 0 || !buf_cstr(&message, e))
		return NULL;
	return envd_rpc(p->envd, "filesystem.Filesystem/Move", buf_cstr(&message, e), RETRY_CREATE,
			end, e);
}

static void join(struct envd_put *p)
{
	struct envd_end end = { left_ms(p), on_joined, p };
	struct err e = ERR_INIT;

	p->step = STEP_JOIN;
	p->call = p->in_parts ? compose(p, &end, &e) : rename_it(p, &end, &e);
	if (!p->call)
		fail(p, &e);
}

struct envd_put *envd_put(struct envd *d, const struct envd_file *file, const char *id,
			  bool resume, const struct envd_end *end, struct err *e)
{
	struct envd_put *p = calloc(1, sizeof(*p));

	if (!p || strlen(file->path) >= PUT_PATH || strlen(id) >= sizeof(p->id)) {
		err_set(e, p ? ERR_INVALID_PARAMS : ERR_NO_MEMORY, 0, "upload '%.200s'",
			file->path);
		free(p);
		return NULL;
	}
	p->envd = d;
	p->end = *end;
	p->file = *file;
	snprintf(p->path, sizeof(p->path), "%s", file->path);
	snprintf(p->id, sizeof(p->id), "%s", id);
	p->file.path = p->path;
	p->until_ns = now_ns() + (uint64_t)end->deadline_ms * 1000000;
	p->in_parts = envd_can(envd_version(d), ENVD_OCTET_STREAM);
	p->resume = resume && p->in_parts;
	p->n_parts = p->in_parts && file->len ? (size_t)((file->len + PART - 1) / PART) : 1;
	for (size_t i = 0; i < AT_ONCE; i++)
		p->lanes[i].put = p;
	if (loop_timer_start(envd_loop(d), &p->timer, 0, on_timer, e) < 0) {
		put_free(p);
		return NULL;
	}
	return p;
}
