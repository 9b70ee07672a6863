/* SPDX-License-Identifier: Apache-2.0
 *
 * native - the worker as a plain process of this user: nothing holds it apart. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/loop.h"
#include "sdk-wrapper/here.h"
#include "sdk-wrapper/process.h"
#include "sdk-wrapper/provider.h"

/* What of our environment the worker needs; keys and tokens are not among it. */
static const char *const passed[] = {
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
};

static int native_check(const struct sandbox_spec *spec, struct err *e)
{
	struct sandbox named;

	return here_check(spec, "native", e) < 0 ? -1 : here_name(spec, "native", &named, e);
}

/* The worker's command line; root has room for the path. */
static void native_args(const struct sandbox_spec *spec, const struct sandbox *s, char *root,
			size_t size, struct here_worker *ret)
{
	snprintf(root, size, "%s/root", s->state_dir);
	here_worker_args(spec, s->id, spec->worker_path, here_socket(s), root, NULL, ret);
}

static int native_describe(const struct sandbox_spec *spec, struct buf *out, struct err *e)
{
	struct here_worker w;
	struct sandbox s;
	char root[600];
	size_t n = 0;

	if (here_name(spec, "native", &s, e) < 0)
		return -1;
	native_args(spec, &s, root, sizeof(root), &w);
	while (w.argv[n])
		n++;
	return here_describe("native", w.argv, n, out, e);
}

static void environment(char *ret[ARRAY_LEN(passed) + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
		const char *value = getenv(passed[i]);

		if (value && asprintf(&ret[n], "%s=%s", passed[i], value) >= 0)
			n++;
	}
	ret[n] = NULL;
}

static int native_start(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
	char *envp[ARRAY_LEN(passed) + 1];
	struct process_spec p = { .path = spec->worker_path,
				  .out_fd = spec->log_fd,
				  .pass = { -1, -1, -1 } };
	struct process_info info = { .start = 0 };
	struct here_worker w;
	char root[600];

	native_args(spec, s, root, sizeof(root), &w);
	environment(envp);
	p.argv = (char *const *)(uintptr_t)w.argv;	/* exec takes them unchanged */
	p.envp = envp;
	s->pid = process_start(&p, e);
	for (char **v = envp; *v; v++)
		free(*v);
	if (s->pid < 0) {
		s->pid = 0;
		e->code = ERR_PROVIDER;
		return err_wrap(e, "cannot start the worker");
	}
	/* Already gone: then its start time matters to nobody. */
	s->pid_start = process_info(s->pid, &info) ? info.start : 0;
	return 0;
}

static int native_destroy(const struct sandbox *s, int deadline_ms, struct err *e);

static int native_create(struct loop *l __attribute__((unused)), const struct sandbox_spec *spec,
			 struct sandbox *ret, struct err *e)
{
	struct err own = ERR_INIT;

	e = e ? e : &own;
	if (native_check(spec, e) < 0 || here_name(spec, "native", ret, e) < 0 ||
	    here_make_dirs(spec, e) < 0)
		return -1;
	if (native_start(spec, ret, e) < 0) {
		here_remove_files(ret, NULL);
		return -1;
	}
	return 0;
}

/* --- the end --- */

/* SIGKILL to all that the supervisor's tree has.  The supervisor is stopped first: it adopts
 * every orphan, so what escapes one pass is its child, and seen, in the next; were it dead,
 * they would be init's and out of sight. */
static bool kill_tree(const struct process *p, uint64_t until_ns)
{
	pid_t pids[256];
	size_t n;

	if (process_signal(p, SIGSTOP) < 0)
		return true;
	while ((n = process_descendants(p->pid, pids, ARRAY_LEN(pids))) > 0 &&
	       now_ns() < until_ns) {
		size_t listed = n < ARRAY_LEN(pids) ? n : ARRAY_LEN(pids);

		for (size_t i = 0; i < listed; i++)	/* none can fork between the two */
			kill(pids[i], SIGSTOP);
		for (size_t i = 0; i < listed; i++)
			kill(pids[i], SIGKILL);
		process_wait(p, 500);	/* it is stopped: this is a pause for the killed to go */
	}
	process_signal(p, SIGKILL);
	return n == 0;
}

/* Worker and keepers outlive a supervisor that was killed by as long as they need to end their
 * steps.  False: some had to be killed, so what they started may be left. */
static bool wait_for_rest(const struct sandbox *s, uint64_t until_ns)
{
	static const struct timespec pause = { .tv_nsec = 2000000 };
	pid_t pids[64];
	size_t n;

	while ((n = process_with_argument("farstep-worker", s->id, pids, ARRAY_LEN(pids))) > 0 &&
	       now_ns() < until_ns)
		nanosleep(&pause, NULL);
	for (size_t i = 0; i < n && i < ARRAY_LEN(pids); i++)
		kill(pids[i], SIGKILL);
	return n == 0;
}

static int native_end(const struct sandbox *s, int deadline_ms, struct err *e)
{
	uint64_t until_ns = now_ns() + (uint64_t)deadline_ms * 1000000;
	struct process p;
	bool whole = true, dead;

	if (s->pid <= 0)
		return 0;
	if (!process_open(&p, s->pid, s->pid_start))
		return wait_for_rest(s, until_ns)
		               ? 0
		               : err_set(e, ERR_DEADLINE, 0,
		                         "sandbox %s: processes did not end in time", s->id);
	process_signal(&p, SIGTERM);
	dead = process_wait(&p, here_grace_us(deadline_ms));
	if (!dead) {
		int64_t left_us;

		whole = kill_tree(&p, until_ns);
		left_us = ((int64_t)until_ns - (int64_t)now_ns()) / 1000;
		dead = process_wait(&p, left_us > 0 ? left_us : 0);
	}
	process_close(&p);
	waitpid(s->pid, NULL, WNOHANG);	/* ours only if we stand in for init */
	whole = wait_for_rest(s, until_ns) && whole;
	if (!dead || !whole)
		return err_set(e, ERR_DEADLINE, 0, "sandbox %s: processes did not end in time",
			       s->id);
	return 0;
}

static int native_destroy(const struct sandbox *s, int deadline_ms, struct err *e)
{
	if (native_end(s, deadline_ms, e) < 0)
		return -1;
	return here_remove_files(s, e);
}

const struct provider provider_native = {
	.name = "native",
	.isolation = "none: steps are processes of this user, with its files and its network",
	.check = native_check,
	.describe = native_describe,
	.create = native_create,
	.state = here_state,
	.destroy = native_destroy,
};
