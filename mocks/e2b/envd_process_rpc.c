/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of process.Process, but for input. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "mocks/e2b/base64.h"
#include "mocks/e2b/envd_process.h"
#include "mocks/e2b/envd_process_rpc.h"
#include "mocks/e2b/envd_rpc.h"
#include "protocol/base/cleanup.h"

enum {
	EVENT_MAX = 2 * PROC_STD_CHUNK + 256,
	CONFIG_MAX = 1024 * 1024,
	LIST_MAX = CONNECT_MESSAGE_MAX,
	ARGS_MAX = 4096,
	ENVS_MAX = 4096,
};

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define KEEPALIVE "{\"event\":{\"keepalive\":{}}}"

/* --- which process --- */

static struct proc *fail_no_pid(struct rpc *r, uint64_t pid)
{
	rpc_fail(r, CONNECT_NOT_FOUND, "process with pid %llu not found", (unsigned long long)pid);
	return NULL;
}

struct proc *select_process(struct rpc *r, const json *message, bool *ret_ended)
{
	const json *selector = json_get(message, "process");
	const char *tag = json_string(json_get(selector, "tag"));
	uint64_t pid = UINT64_MAX;
	struct err e = ERR_INIT;
	struct proc *p;

	if (ret_ended)
		*ret_ended = false;
	if (tag) {
		p = proc_by_tag(r->d->procs, tag);
		if (!p)
			rpc_fail(r, CONNECT_NOT_FOUND, "process with tag %s not found", tag);
		return p;
	}
	if (json_opt_u64(selector, "process", "pid", &pid, &e) < 0) {
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "unmarshal message: %s", e.msg);
		return NULL;
	}
	if (pid == UINT64_MAX) {
		rpc_fail(r, CONNECT_UNIMPLEMENTED, "invalid input type *process.ProcessSelector");
		return NULL;
	}
	p = proc_by_pid(r->d->procs, pid);
	if (!p && ret_ended) {
		p = proc_ended_by_pid(r->d->procs, pid);
		*ret_ended = p != NULL;
	}
	return p ? p : fail_no_pid(r, pid);
}

/* --- events --- */

static void send_started(struct rpc *r, const struct proc *p)
{
	char text[80];
	int n = snprintf(text, sizeof(text), "{\"event\":{\"start\":{\"pid\":%d}}}", proc_pid(p));

	rpc_send(r, text, (size_t)n);
}

/* As Go's os.ProcessState says it. */
static void describe_exit(int status, char text[64])
{
	static const char *const names[] = {
		[SIGHUP] = "hangup", [SIGINT] = "interrupt", [SIGQUIT] = "quit",
		[SIGILL] = "illegal instruction", [SIGTRAP] = "trace/breakpoint trap",
		[SIGABRT] = "aborted", [SIGBUS] = "bus error",
		[SIGFPE] = "floating point exception", [SIGKILL] = "killed",
		[SIGUSR1] = "user defined signal 1", [SIGSEGV] = "segmentation fault",
		[SIGUSR2] = "user defined signal 2", [SIGPIPE] = "broken pipe",
		[SIGALRM] = "alarm clock", [SIGTERM] = "terminated",
	};
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (!sig)
		snprintf(text, 64, "exit status %d", WEXITSTATUS(status));
	else if (sig < (int)ARRAY_LEN(names) && names[sig])
		snprintf(text, 64, "signal: %s%s", names[sig],
			 WCOREDUMP(status) ? " (core dumped)" : "");
	else
		snprintf(text, 64, "signal: signal %d", sig);
}

/* Zero values are left out, as protobuf's JSON mapping has it. */
static void send_end(struct rpc *r, const struct proc *p)
{
	int status = proc_status(p);
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	struct buf text CLEANUP(buf_release);
	char words[64];
	struct jw w;

	describe_exit(status, words);
	buf_init(&text, EVENT_MAX);
	jw_init(&w, &text);
	jw_obj(&w);
	jw_kobj(&w, "event");
	jw_kobj(&w, "end");
	if (code)
		jw_kint(&w, "exitCode", code);
	if (WIFEXITED(status))
		jw_kbool(&w, "exited", true);
	jw_kstr(&w, "status", words);
	if (status)
		jw_kstr(&w, "error", words);
	jw_end(&w);
	jw_end(&w);
	jw_end(&w);
	rpc_send(r, buf_data(&text), buf_len(&text));
	rpc_end(r);
}

/* --- a stream on a process --- */

struct attachment {
	struct proc_watcher watcher;
	struct rpc *rpc;
};

static int on_data(struct proc_watcher *w, enum proc_stream s, const uint8_t *p, size_t n)
{
	static const char *const names[] = { "stdout", "stderr", "pty" };
	struct attachment *a = (struct attachment *)w;
	struct buf text CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&text, EVENT_MAX);
	if (buf_printf(&text, &e, "{\"event\":{\"data\":{\"%s\":\"", names[s]) < 0 ||
	    base64_put(p, n, &text, &e) < 0 || buf_puts(&text, "\"}}}", &e) < 0) {
		rpc_fail(a->rpc, CONNECT_INTERNAL, "%s", e.msg);
		return 0;
	}
	return rpc_send(a->rpc, buf_data(&text), buf_len(&text)) == 1;
}

static void on_proc_end(struct proc_watcher *w, const struct proc *p)
{
	send_end(((struct attachment *)w)->rpc, p);
}

static void on_attached_drain(struct rpc *r)
{
	struct attachment *a = r->ctx;

	proc_watcher_go_on(&a->watcher);
}

/* Who is no longer served holds nobody up. */
static void on_attached_deadline(struct rpc *r)
{
	struct attachment *a = r->ctx;

	proc_unwatch(&a->watcher);
}

static void on_attached_gone(struct rpc *r)
{
	struct attachment *a = r->ctx;

	proc_unwatch(&a->watcher);
	free(a);
}

static void attach(struct rpc *r, struct proc *p)
{
	struct attachment *a = calloc(1, sizeof(*a));

	if (!a) {
		rpc_fail(r, CONNECT_INTERNAL, "out of memory");
		return;
	}
	a->rpc = r;
	a->watcher.on_data = on_data;
	a->watcher.on_end = on_proc_end;
	r->ctx = a;
	r->on_drain = on_attached_drain;
	r->on_deadline = on_attached_deadline;
	r->on_gone = on_attached_gone;
	send_started(r, p);
	rpc_keepalive(r, KEEPALIVE);
	proc_watch(p, &a->watcher);
}

/* --- Start --- */

/* What the request asks for, owned until start_release. */
struct start {
	char *argv[ARGS_MAX + 2];	/* borrowed strings */
	char *envp[ENVS_MAX + ENVD_ENV_MAX + 8];
	size_t n_env;
	struct buf config;
	char cwd[PATH_MAX];
	struct proc_spec spec;
};

static void start_release(struct start *s)
{
	for (size_t i = 0; i < s->n_env; i++)
		free(s->envp[i]);
	buf_release(&s->config);
	free(s);
}

/* The last value of a name counts. */
static int put_env(struct start *s, const char *name, size_t len, const char *value, struct err *e)
{
	size_t i = 0;
	char *text;

	while (i < s->n_env && !(strncmp(s->envp[i], name, len) == 0 && s->envp[i][len] == '='))
		i++;
	if (i + 1 >= ARRAY_LEN(s->envp))
		return err_set(e, ERR_LIMIT, 0, "more than %d variables", ENVS_MAX);
	if (asprintf(&text, "%.*s=%s", (int)len, name, value) < 0)
		return err_set(e, ERR_NO_MEMORY, 0, "environment");
	if (i < s->n_env)
		free(s->envp[i]);
	else
		s->n_env++;
	s->envp[i] = text;
	return 0;
}

static int put_envs(struct rpc *r, struct start *s, const json *process, struct err *e)
{
	const char *path = getenv("PATH");
	const json *envs = NULL;

	if (put_env(s, "PATH", 4, path ? path : DEFAULT_PATH, e) < 0 ||
	    put_env(s, "HOME", 4, r->user.home, e) < 0 ||
	    put_env(s, "USER", 4, r->user.name, e) < 0 ||
	    put_env(s, "LOGNAME", 7, r->user.name, e) < 0)
		return -1;
	for (char **v = r->d->env; *v; v++) {
		size_t len = strcspn(*v, "=");

		if (put_env(s, *v, len, *v + len + 1, e) < 0)
			return -1;
	}
	if (json_opt_obj(process, "process", "envs", &envs, e) < 0)
		return -1;
	for (const json *v = json_first(envs); v; v = json_next(v)) {
		if (!json_string(v))
			return err_set(e, ERR_INVALID_PARAMS, 0, "process.envs.%s: want a string",
				       json_key(v));
		if (put_env(s, json_key(v), strlen(json_key(v)), json_string(v), e) < 0)
			return -1;
	}
	return 0;
}

static int put_args(struct start *s, const json *process, struct err *e)
{
	const char *cmd = "";
	const json *args = NULL;
	size_t n = 0;

	if (json_opt_str(process, "process", "cmd", &cmd, e) < 0 ||
	    json_opt_strv(process, "process", "args", &args, e) < 0)
		return -1;
	if (json_count(args) > ARGS_MAX)
		return err_set(e, ERR_LIMIT, 0, "process.args: more than %d", ARGS_MAX);
	s->argv[n++] = (char *)cmd;
	for (const json *v = json_first(args); v; v = json_next(v))
		s->argv[n++] = (char *)json_string(v);
	return 0;
}

static int put_pty(struct start *s, const json *message, struct err *e)
{
	const json *pty = NULL, *size = NULL;
	int64_t rows = 0, cols = 0;

	if (json_opt_obj(message, "message", "pty", &pty, e) < 0 ||
	    json_opt_obj(pty, "pty", "size", &size, e) < 0 ||
	    json_opt_int(size, "pty.size", "rows", 0, UINT16_MAX, &rows, e) < 0 ||
	    json_opt_int(size, "pty.size", "cols", 0, UINT16_MAX, &cols, e) < 0)
		return -1;
	s->spec.pty = pty != NULL;
	s->spec.rows = (unsigned)rows;
	s->spec.cols = (unsigned)cols;
	return 0;
}

/* What List gives back: the message's own fields, empty ones left out. */
static int put_config(struct start *s, const json *process, struct err *e)
{
	static const char *const keys[] = { "cmd", "args", "envs", "cwd" };
	struct jw w;

	jw_init(&w, &s->config);
	jw_obj(&w);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const json *v = json_get(process, keys[i]);
		const char *text = json_string(v);

		if (text ? *text : json_count(v) > 0)
			jw_kjson(&w, keys[i], v);
	}
	jw_end(&w);
	if (jw_done(&w, e) < 0)
		return -1;
	s->spec.config = buf_cstr(&s->config, e);
	return s->spec.config ? 0 : -1;
}

static int put_cwd(struct rpc *r, struct start *s, const json *process, struct err *e)
{
	const char *cwd = "";
	struct stat st;

	if (json_opt_str(process, "process", "cwd", &cwd, e) < 0 ||
	    path_resolve(r->d, &r->user, cwd, s->cwd, e) < 0)
		return -1;
	if (stat(s->cwd, &st) < 0 && errno == ENOENT)
		return err_set(e, ERR_INVALID_PARAMS, 0, "cwd '%s' does not exist", s->cwd);
	return 0;
}

static int read_start(struct rpc *r, struct start *s, const json *message, struct err *e)
{
	const json *process = NULL;
	bool has_stdin = true;

	if (json_opt_obj(message, "message", "process", &process, e) < 0 ||
	    json_opt_str(message, "message", "tag", &s->spec.tag, e) < 0 ||
	    json_opt_bool(message, "message", "stdin", &has_stdin, e) < 0 ||
	    put_cwd(r, s, process, e) < 0 || put_args(s, process, e) < 0 ||
	    put_envs(r, s, process, e) < 0 || put_pty(s, message, e) < 0 ||
	    put_config(s, process, e) < 0)
		return -1;
	s->spec.argv = s->argv;
	s->spec.envp = s->envp;
	s->spec.cwd = s->cwd;
	s->spec.user = &r->user;
	s->spec.has_stdin = has_stdin || !envd_since(r->d, "0.3.0");
	s->spec.fd_limit = r->d->fd_limit;
	s->spec.timeout_ms = r->timeout_ms;
	return 0;
}

static void on_start(struct rpc *r, const json *message)
{
	struct start *s;
	struct proc *p = NULL;
	struct err e = ERR_INIT;

	if (envd_fault(r->d, "process:start-503")) {
		rpc_fail(r, CONNECT_UNAVAILABLE, "unavailable");
		return;
	}
	if (!rpc_user(r))
		return;
	s = calloc(1, sizeof(*s));
	if (!s) {
		rpc_fail(r, CONNECT_INTERNAL, "out of memory");
		return;
	}
	buf_init(&s->config, CONFIG_MAX);
	if (read_start(r, s, message, &e) == 0)
		p = proc_start(r->d->procs, &s->spec, &e);
	start_release(s);
	if (p)
		attach(r, p);
	else
		rpc_fail(r, e.code == ERR_NO_MEMORY || e.code == ERR_LIMIT
				    ? CONNECT_RESOURCE_EXHAUSTED : CONNECT_INVALID_ARGUMENT,
			 "%s", e.msg);
}

static void on_connect(struct rpc *r, const json *message)
{
	bool ended;
	struct proc *p = select_process(r, message, &ended);

	if (!p)
		return;
	if (!ended) {
		attach(r, p);
		return;
	}
	send_started(r, p);
	send_end(r, p);
}

/* --- List, SendSignal, Update --- */

static void on_list(struct rpc *r, const json *message __attribute__((unused)))
{
	struct buf text CLEANUP(buf_release);
	struct err e = ERR_INIT;
	struct jw w;

	buf_init(&text, LIST_MAX);
	jw_init(&w, &text);
	jw_obj(&w);
	if (proc_first(r->d->procs))
		jw_karr(&w, "processes");
	for (struct proc *p = proc_first(r->d->procs); p; p = proc_next(p)) {
		jw_obj(&w);
		jw_key(&w, "config");
		jw_raw(&w, proc_config(p), strlen(proc_config(p)));
		jw_kint(&w, "pid", proc_pid(p));
		if (proc_tag(p))
			jw_kstr(&w, "tag", proc_tag(p));
		jw_end(&w);
	}
	if (proc_first(r->d->procs))
		jw_end(&w);
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
	else
		rpc_reply(r, buf_data(&text), buf_len(&text));
}

/* An enum is its name or its number. */
static int signal_of(const json *v, char name[64])
{
	const char *text = json_string(v);
	int number = json_type(v) == JSON_NUMBER ? (int)json_number(v) : 0;

	snprintf(name, 64, "%.60s", text ? text : "SIGNAL_UNSPECIFIED");
	if ((text && strcmp(text, "SIGNAL_SIGKILL") == 0) || number == SIGKILL)
		return SIGKILL;
	if ((text && strcmp(text, "SIGNAL_SIGTERM") == 0) || number == SIGTERM)
		return SIGTERM;
	return 0;
}

static void on_send_signal(struct rpc *r, const json *message)
{
	struct proc *p = select_process(r, message, NULL);
	struct err e = ERR_INIT;
	char name[64];
	int sig;

	if (!p)
		return;
	sig = signal_of(json_get(message, "signal"), name);
	if (!sig)
		rpc_fail(r, CONNECT_UNIMPLEMENTED, "invalid signal: %s", name);
	else if (proc_signal(p, sig, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "error sending signal: %s", e.msg);
	else
		rpc_reply(r, "{}", 2);
}

static void on_update(struct rpc *r, const json *message)
{
	struct proc *p = select_process(r, message, NULL);
	const json *pty = json_get(message, "pty"), *size = json_get(pty, "size");
	int64_t rows = 0, cols = 0;
	struct err e = ERR_INIT;

	if (!p)
		return;
	if (json_opt_int(size, "pty.size", "rows", 0, UINT16_MAX, &rows, &e) < 0 ||
	    json_opt_int(size, "pty.size", "cols", 0, UINT16_MAX, &cols, &e) < 0)
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "%s", e.msg);
	else if (pty && proc_resize(p, (unsigned)rows, (unsigned)cols, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "error resizing tty: %s", e.msg);
	else
		rpc_reply(r, "{}", 2);
}

const struct rpc_method process_methods[] = {
	{ "/process.Process/Start", RPC_SERVER_STREAM, NULL, on_start, NULL },
	{ "/process.Process/Connect", RPC_SERVER_STREAM, NULL, on_connect, NULL },
	{ "/process.Process/List", RPC_UNARY, NULL, on_list, NULL },
	{ "/process.Process/Update", RPC_UNARY, NULL, on_update, NULL },
	{ "/process.Process/SendInput", RPC_UNARY, NULL, on_send_input, NULL },
	{ "/process.Process/StreamInput", RPC_CLIENT_STREAM, NULL, on_stream_input,
	  on_stream_input_end },
	{ "/process.Process/SendSignal", RPC_UNARY, NULL, on_send_signal, NULL },
	{ "/process.Process/CloseStdin", RPC_UNARY, "0.5.2", on_close_stdin, NULL },
	{ NULL, RPC_UNARY, NULL, NULL, NULL },
};
