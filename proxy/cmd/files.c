/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands about runs that are there: cancel, ps, status, verify; and doctor. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/keys.h"
#include "protocol/step_body.h"
#include "proxy/cmd/cmd.h"
#include "proxy/run.h"
#include "proxy/userkey.h"
#include "proxy/verify.h"
#include "proxy/where.h"

#define STATUS_MAX (64 * 1024 * 1024)

int cmd_fail(const struct err *e)
{
	fprintf(stderr, "farstep: %s: %s\n", err_name(e->code), e->msg);
	return err_exit(e->code);
}

static int open_run(const struct options *o, const char *name, struct rundir *d, struct err *e)
{
	char root[1024], path[1024];

	d->fd = d->lock_fd = -1;
	if (rundir_root(o->run_dir, root, false, e) < 0 || rundir_find(root, name, path, e) < 0)
		return -1;
	return rundir_open(d, path, e);
}

/* What a living proxy says, else what it left. */
static int read_status(struct rundir *d, struct buf *out, bool *living, struct err *e)
{
	struct err nobody = ERR_INIT;

	*living = control_ask(d->run, "{\"do\":\"status\"}\n", out, &nobody) == 0;
	if (*living)
		return 0;
	buf_reset(out);
	return fs_read(d->fd, "status.json", STATUS_MAX, out, e);
}

int cmd_status(struct options *o)
{
	struct rundir d;
	struct buf b;
	struct err e = ERR_INIT;
	bool living = false;
	int code = 0;

	if (open_run(o, o->n_args ? o->args[0] : "last", &d, &e) < 0)
		return cmd_fail(&e);
	buf_init(&b, STATUS_MAX);
	if (read_status(&d, &b, &living, &e) == 0) {
		fs_write_all(1, buf_data(&b), buf_len(&b), NULL);
		if (!living)
			putchar('\n');
	} else if (e.sys == ENOENT) {
		fprintf(stderr,
		        "farstep: run %s did not end and has no living proxy: farstep attach %s\n",
		        d.run, d.run);
		code = err_exit(ERR_LOST);
	} else {
		code = cmd_fail(&e);
	}
	buf_release(&b);
	rundir_close(&d);
	return code;
}

static const char *state_of(const char *root, const char *run, char text[64])
{
	struct rundir d = { .fd = -1, .lock_fd = -1 };
	char path[1200];
	struct buf b;
	json *v = NULL;
	const char *state = "interrupted"; /* no proxy, no end: attach or gc */

	snprintf(path, sizeof(path), "%s/%s", root, run);
	if (rundir_open(&d, path, NULL) < 0)
		return "unreadable";
	buf_init(&b, STATUS_MAX);
	if (rundir_is_locked(&d)) {
		state = "running";
	} else if (fs_read(d.fd, "status.json", STATUS_MAX, &b, NULL) == 0 &&
	           (v = json_parse((const char *)buf_data(&b), buf_len(&b), STATUS_MAX,
	                           LIMIT_JSON_DEPTH, NULL))) {
		int64_t code = 0;

		json_opt_int(v, "", "exit_code", 0, 255, &code, NULL);
		snprintf(text, 64, "ended %d", (int)code);
		state = text;
	}
	json_free(v);
	buf_release(&b);
	rundir_close(&d);
	return state;
}

int cmd_ps(struct options *o)
{
	char root[1024], text[64];
	char(*runs)[LIMIT_RUN_ID + 1] = NULL;
	size_t n = 0;
	struct err e = ERR_INIT;

	if (rundir_root(o->run_dir, root, false, &e) < 0 || rundir_list(root, &runs, &n, &e) < 0)
		return cmd_fail(&e);
	if (o->json)
		printf("[");
	for (size_t i = 0; i < n; i++) {
		const char *state = state_of(root, runs[i], text);

		if (o->json)
			printf("%s{\"run_id\":\"%s\",\"state\":\"%s\"}", i ? "," : "", runs[i],
			       state);
		else
			printf("%-32s %s\n", runs[i], state);
	}
	if (o->json)
		printf("]\n");
	free(runs);
	return 0;
}

int cmd_cancel(struct options *o)
{
	struct rundir d;
	struct buf b;
	struct err e = ERR_INIT;
	char request[160];
	int code = 0;

	if (o->n_args > 1 && !step_id_is_good(o->args[1])) {
		err_set(&e, ERR_USAGE, 0, "'%.64s' is no id of a step", o->args[1]);
		return cmd_fail(&e);
	}
	if (open_run(o, o->args[0], &d, &e) < 0)
		return cmd_fail(&e);
	if (o->n_args > 1)
		snprintf(request, sizeof(request), "{\"do\":\"cancel\",\"step\":\"%s\"}\n",
		         o->args[1]);
	else
		snprintf(request, sizeof(request), "{\"do\":\"cancel\"}\n");
	buf_init(&b, STATUS_MAX);
	if (control_ask(d.run, request, &b, &e) < 0)
		code = cmd_fail(&e);
	else if (o->json)
		fs_write_all(1, buf_data(&b), buf_len(&b), NULL);
	else
		puts(memmem(buf_data(&b), buf_len(&b), "true", 4) ? "cancelled"
		                                                  : "nothing to cancel");
	buf_release(&b);
	rundir_close(&d);
	return code;
}

int cmd_verify(struct options *o)
{
	char root[1024], path[1024];
	struct verify_result v;
	struct buf b;
	struct err e = ERR_INIT;

	if (rundir_root(o->run_dir, root, false, &e) < 0 ||
	    rundir_find(root, o->n_args ? o->args[0] : "last", path, &e) < 0)
		return cmd_fail(&e);
	buf_init(&b, STATUS_MAX);
	if (verify_run(path, o->key_file, &v, &b, &e) < 0) {
		buf_release(&b);
		return cmd_fail(&e);
	}
	if (o->json)
		printf("{\"run_dir\":\"%s\",\"ok\":%s,\"bad\":%d,\"receipts\":%d,\"artifacts\":%d}"
		       "\n",
		       path, v.bad ? "false" : "true", v.bad, v.receipts, v.artifacts);
	else
		fs_write_all(1, buf_data(&b), buf_len(&b), NULL);
	buf_release(&b);
	return v.bad ? err_exit(ERR_INTEGRITY) : 0;
}

/* ---- doctor ---- */

static int bad_checks;

static void PRINTF_LIKE(3, 4) check(bool good, const char *what, const char *fmt, ...)
{
	va_list ap;

	bad_checks += !good;
	printf("%s %-22s ", good ? "ok  " : "BAD ", what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static int exit_of(char *const argv[])
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int cmd_doctor(struct options *o)
{
	char path[1024], base[256];
	uint8_t key[USER_KEY_LEN];
	struct err e = ERR_INIT;
	char *bwrap[] = { (char *)"bwrap", (char *)"--version", NULL };
	char *inside[] = { (char *)"bwrap",
		           (char *)"--unshare-all",
		           (char *)"--ro-bind",
		           (char *)"/usr",
		           (char *)"/usr",
		           (char *)"--symlink",
		           (char *)"usr/lib",
		           (char *)"/lib",
		           (char *)"--symlink",
		           (char *)"usr/lib64",
		           (char *)"/lib64",
		           (char *)"/usr/bin/true",
		           NULL };
	char *worker[] = { path, (char *)"--version", NULL };
	int code;

	check(userkey_load(o->key_file, key, &e) == 0, "user key", "%s",
	      e.code ? e.msg : "present, readable by you alone");
	e = (struct err)ERR_INIT;
	check(runtime_dir(base, &e) == 0, "runtime directory", "%s", e.code ? e.msg : base);
	e = (struct err)ERR_INIT;
	if (worker_path(path, &e) == 0)
		check(exit_of(worker) == 0, "worker program", "%s", path);
	else
		check(false, "worker program", "%s", e.msg);
	code = exit_of(bwrap);
	check(code == 0, "bubblewrap", "%s",
	      code == 0 ? "installed" : "missing: apt-get install bubblewrap");
	if (code == 0) {
		code = exit_of(inside);
		check(code == 0, "local sandboxes", "%s",
		      code == 0 ? "start"
		                : "bubblewrap cannot make namespaces here: allow user namespaces "
		                  "(sysctl kernel.unprivileged_userns_clone=1), or use --target "
		                  "native");
	}
	wipe(key, sizeof(key));
	return bad_checks ? err_exit(ERR_POLICY) : 0;
}
