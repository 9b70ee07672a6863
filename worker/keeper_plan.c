/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/keeper_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

#define PLAN_MAX (2 * 1024 * 1024)

static int read_all(int fd, struct buf *b, struct err *e)
{
	struct stat st;
	uint8_t *at;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_SYS, errno, "plan");
	at = buf_reserve(b, (size_t)st.st_size + 1, e);
	if (!at)
		return -1;
	n = pread(fd, at, (size_t)st.st_size, 0);
	if (n != st.st_size)
		return err_set(e, ERR_SYS, n < 0 ? errno : 0, "plan");
	buf_commit(b, (size_t)n);
	return 0;
}

/* A NULL-ended vector of borrowed strings. */
static char **strings(const json *root, const char *key, struct err *e)
{
	const json *list = NULL;
	char **v;
	size_t n = 0;

	if (json_opt_strv(root, "plan", key, &list, e) < 0)
		return NULL;
	v = calloc(json_count(list) + 1, sizeof(*v));
	for (const json *s = json_first(list); v && s; s = json_next(s))
		v[n++] = (char *)(uintptr_t)json_string(s);
	if (!v)
		err_set(e, ERR_NO_MEMORY, 0, "plan");
	return v;
}

static int copy(const json *root, const char *key, char *to, size_t size, struct err *e)
{
	const char *s = NULL;

	if (json_req_str(root, "plan", key, &s, e) < 0)
		return -1;
	if (strlen(s) >= size)
		return err_set(e, ERR_LIMIT, 0, "plan.%s: too long", key);
	memcpy(to, s, strlen(s) + 1);
	return 0;
}

static int read_identity(const json *r, struct receipt *rc, struct err *e)
{
	int64_t attempt = 0, generation = 0;

	if (copy(r, "run", rc->run, sizeof(rc->run), e) < 0 ||
	    copy(r, "session", rc->session, sizeof(rc->session), e) < 0 ||
	    copy(r, "step", rc->step, sizeof(rc->step), e) < 0 ||
	    copy(r, "sandbox", rc->sandbox, sizeof(rc->sandbox), e) < 0 ||
	    copy(r, "worker", rc->worker, sizeof(rc->worker), e) < 0 ||
	    copy(r, "build", rc->build, sizeof(rc->build), e) < 0 ||
	    copy(r, "plan", rc->plan, sizeof(rc->plan), e) < 0 ||
	    json_req_int(r, "plan", "attempt", 1, LIMIT_ATTEMPT, &attempt, e) < 0 ||
	    json_req_int(r, "plan", "generation", 1, INT32_MAX, &generation, e) < 0)
		return -1;
	rc->attempt = (int)attempt;
	rc->generation = (int)generation;
	return 0;
}

/* Out of the parsed text too: only p->key has it then. */
static int take_key(struct keeper_plan *p, struct err *e)
{
	const char *hex = NULL;
	int r;

	if (json_req_str(p->root, "plan", "key", &hex, e) < 0)
		return -1;
	r = hex_decode(hex, strlen(hex), p->key, sizeof(p->key), e);
	wipe((char *)(uintptr_t)hex, strlen(hex));
	return r < 0 ? err_wrap(e, "plan.key") : 0;
}

static int parse(const void *text, size_t n, struct keeper_plan *p, struct receipt *rc,
                 struct err *e)
{
	p->root = json_parse(text, n, PLAN_MAX, LIMIT_JSON_DEPTH, e);
	if (!p->root || read_identity(p->root, rc, e) < 0 || take_key(p, e) < 0)
		return -1;
	if (json_req_str(p->root, "plan", "cwd", &p->cwd, e) < 0 ||
	    json_req_str(p->root, "plan", "dir", &p->dir, e) < 0 ||
	    json_req_str(p->root, "plan", "artifacts_dir", &p->artifacts.artifacts_dir, e) < 0 ||
	    json_req_str(p->root, "plan", "output_dir", &p->artifacts.output_dir, e) < 0 ||
	    json_req_str(p->root, "plan", "work_dir", &p->artifacts.work_dir, e) < 0 ||
	    json_opt_int(p->root, "plan", "timeout_ms", 1, TIMEOUT_MAX_MS, &p->timeout_ms, e) < 0 ||
	    json_req_int(p->root, "plan", "grace_ms", 0, GRACE_MAX_MS, &p->grace_ms, e) < 0 ||
	    json_req_int(p->root, "plan", "linger_ms", 0, LINGER_MAX_MS, &p->linger_ms, e) < 0 ||
	    json_req_int(p->root, "plan", "spool_bytes", 1, JSON_INT_MAX, &p->spool_bytes, e) < 0 ||
	    json_opt_int(p->root, "plan", "memory_mb", 1, MEMORY_MAX_MB, &p->memory_mb, e) < 0 ||
	    json_opt_bool(p->root, "plan", "stdin", &p->has_stdin, e) < 0 ||
	    json_opt_bool(p->root, "plan", "backtrace", &p->backtrace, e) < 0)
		return -1;
	p->argv = strings(p->root, "argv", e);
	p->envp = strings(p->root, "env", e);
	p->globs = (const char **)strings(p->root, "collect", e);
	p->artifacts.globs = p->globs;
	if (!p->argv || !p->envp || !p->globs)
		return -1;
	return p->argv[0] ? 0 : err_set(e, ERR_INVALID_PARAMS, 0, "plan.argv: empty");
}

int keeper_plan_take(void *text, size_t n, struct keeper_plan *p, struct receipt *rc,
                     struct err *e)
{
	int r;

	memset(p, 0, sizeof(*p));
	r = parse(text, n, p, rc, e);
	wipe(text, n);
	if (r < 0)
		keeper_plan_release(p);
	return r;
}

int keeper_plan_read(int fd, struct keeper_plan *p, struct receipt *rc, struct err *e)
{
	struct buf text;
	int r;

	memset(p, 0, sizeof(*p));
	buf_init(&text, PLAN_MAX);
	r = read_all(fd, &text, e);
	if (r == 0)
		r = keeper_plan_take(text.mem, buf_len(&text), p, rc, e);
	buf_release(&text);
	return r;
}

void keeper_plan_forget_env(struct keeper_plan *p)
{
	for (char **v = p->envp; v && *v; v++)
		wipe(*v, strlen(*v));
	free(p->envp);
	p->envp = NULL;
}

void keeper_plan_release(struct keeper_plan *p)
{
	keeper_plan_forget_env(p);
	free(p->argv);
	free(p->globs);
	json_free(p->root);
	wipe(p, sizeof(*p));
}
