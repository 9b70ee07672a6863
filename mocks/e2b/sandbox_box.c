/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/sandbox_box.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum {
	ENVS_MAX = 256,
	ARGS_MAX = 32 + 2 * ENVS_MAX + 2 * ENVD_FAULTS_MAX,
	ENV_BYTES = 128 * 1024,
};

/* Arguments of process 1, in which each variable needs its text. */
struct args {
	char *v[ARGS_MAX];
	size_t n;
	struct buf text;
};

static void args_release(struct args *a)
{
	buf_release(&a->text);
}

static void add(struct args *a, const char *word)
{
	if (a->n < ARGS_MAX - 1)
		a->v[a->n++] = (char *)(uintptr_t)word;	/* exec takes it unchanged */
}

static int put_env(struct args *a, const char *name, const char *value, struct err *e)
{
	return buf_printf(&a->text, e, "%s=%s", name, value) < 0 || buf_putc(&a->text, 0, e) < 0
		       ? err_wrap(e, "envVars")
		       : 0;
}

/* Those that E2B sets, then those of the request. */
static int add_envs(struct args *a, const struct sandbox *s, struct err *e)
{
	const json *envs = json_get(s->request, "envVars");
	const char *p, *end;

	if (json_count(envs) > ENVS_MAX - 2)
		return err_set(e, ERR_LIMIT, 0, "more than %d variables", ENVS_MAX - 2);
	if (put_env(a, "E2B_SANDBOX_ID", s->id, e) < 0 ||
	    put_env(a, "E2B_TEMPLATE_ID", s->template_id, e) < 0)
		return -1;
	for (const json *v = json_first(envs); v; v = json_next(v))
		if (put_env(a, json_key(v), json_string(v), e) < 0)
			return -1;
	p = (const char *)buf_data(&a->text);
	for (end = p + buf_len(&a->text); p < end; p += strlen(p) + 1) {
		add(a, "--env");
		add(a, p);
	}
	return 0;
}

static int make_args(const struct sandbox *s, struct args *a, struct err *e)
{
	const struct options *o = s->cloud->o;

	a->n = 0;
	buf_init(&a->text, ENV_BYTES);
	add(a, "farstep-mock-e2b");
	add(a, "--role");
	add(a, "door");
	add(a, "--");
	add(a, "envd");
	add(a, "--role");
	add(a, "envd");
	add(a, "--listen-fd");
	add(a, "3");
	if (s->token[0]) {
		add(a, "--token-fd");
		add(a, "4");
	}
	add(a, "--envd-version");
	add(a, o->envd_version);
	for (unsigned i = 0; i < o->n_envd_faults; i++) {
		add(a, "--fault");
		add(a, o->envd_fault[i]);
	}
	if (add_envs(a, s, e) < 0)
		return -1;
	a->v[a->n] = NULL;
	return 0;
}

static int token_pipe(const struct sandbox *s, int *ret, struct err *e)
{
	size_t n = strlen(s->token);
	int fd[2], r = 0;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_set(e, ERR_SYS, errno, "token");
	if (n && write(fd[1], s->token, n) != (ssize_t)n)	/* far less than a pipe holds */
		r = err_set(e, ERR_SYS, errno, "token");
	close(fd[1]);
	*ret = fd[0];
	return r;
}

void sandbox_dir(const struct sandbox *s, char ret[SANDBOX_DIR])
{
	snprintf(ret, SANDBOX_DIR, "%s/%s", s->cloud->root, s->id);
}

static void on_gone(struct door *d)
{
	struct sandbox *s = (struct sandbox *)((char *)d - offsetof(struct sandbox, door));

	log_warn("sandbox %s: its first process ended", s->id);
	sandbox_kill(s);
}

int sandbox_box_start(struct sandbox *s, struct err *e)
{
	struct args a CLEANUP(args_release);
	struct box_spec spec = { .name = s->id, .users = &s->cloud->users, .argv = a.v };
	auto_close int log_fd = -1, token_fd = -1;
	char dir[SANDBOX_DIR], path[SANDBOX_DIR + 16];

	sandbox_dir(s, dir);
	snprintf(path, sizeof(path), "%s/envd.log", dir);
	if (make_args(s, &a, e) < 0 || token_pipe(s, &token_fd, e) < 0)
		return -1;
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	spec.dir = dir;
	spec.log_fd = log_fd;
	spec.token_fd = token_fd;
	if (box_start(&spec, &s->box, e) < 0)
		return -1;
	if (door_open(&s->door, s->cloud->loop, s->box.door, on_gone, e) < 0) {
		box_end(&s->box);
		return -1;
	}
	return 0;
}

void sandbox_box_stop(struct sandbox *s)
{
	loop_timer_stop(&s->boot);
	if (s->box.pid)
		door_close(&s->door);
	box_end(&s->box);
}
