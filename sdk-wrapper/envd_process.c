/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/envd_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/limits.h"
#include "sdk-wrapper/connect.h"

enum {
	PING_S = 20,	/* envd says that it is there after so much silence */
	SILENT_MS = 50000,	/* two pings and a half missed: the stream is dead */
	CONNECT_MS = 10000,
	PIECE = 256 * 1024,	/* of standard input in one call */
};

struct envd_process {
	struct envd *envd;
	struct http_call *http;
	struct envd_hooks hooks;
	struct connect_reader reader;
	struct buf request, output;
	const char *what;
	bool ended;		/* the end event came */
	bool feeding, detached;	/* envd_detach from inside a hook waits for the feeding's end */
	struct envd_exit exit;
	struct err error;	/* what was wrong with the stream */
};

static void process_free(struct envd_process *p)
{
	http_cancel(p->http);
	connect_release(&p->reader);
	buf_release(&p->request);
	buf_release(&p->output);
	free(p);
}

void envd_detach(struct envd_process *p)
{
	if (!p)
		return;
	p->detached = true;
	if (!p->feeding)
		process_free(p);
}

/* --- events --- */

static int on_start_event(struct envd_process *p, const json *start, struct err *e)
{
	int64_t pid = 0;

	if (json_req_int(start, "start", "pid", 1, UINT32_MAX, &pid, e) < 0)
		return -1;
	if (p->hooks.on_start)
		p->hooks.on_start(p->hooks.user, (uint32_t)pid);
	return 0;
}

static int on_data_event(struct envd_process *p, const json *data, struct err *e)
{
	const json *v = json_first(data);
	const char *text = json_string(v);

	if (!text)	/* nothing: zero values are left out */
		return 0;
	buf_reset(&p->output);
	if (base64_decode(text, strlen(text), &p->output, e) < 0)
		return -1;
	if (p->hooks.on_output && buf_len(&p->output))
		p->hooks.on_output(p->hooks.user, strcmp(json_key(v), "stderr") == 0,
				   buf_data(&p->output), buf_len(&p->output));
	return 0;
}

static int on_end_event(struct envd_process *p, const json *end, struct err *e)
{
	const char *status = "", *error = "";
	int64_t code = 0;

	if (json_opt_int(end, "end", "exitCode", INT32_MIN, INT32_MAX, &code, e) < 0 ||
	    json_opt_bool(end, "end", "exited", &p->exit.exited, e) < 0 ||
	    json_opt_str(end, "end", "status", &status, e) < 0 ||
	    json_opt_str(end, "end", "error", &error, e) < 0)
		return -1;
	p->exit.code = (int)code;
	snprintf(p->exit.status, sizeof(p->exit.status), "%.79s", status);
	snprintf(p->exit.error, sizeof(p->exit.error), "%.199s", error);
	p->ended = true;
	return 0;
}

static int on_message(void *user, const char *text, size_t len, struct err *e)
{
	struct envd_process *p = user;
	auto_json json *v = json_parse(text, len, LIMIT_ENVELOPE, LIMIT_JSON_DEPTH, e);
	const json *event = json_first(json_get(v, "event"));
	const char *kind = event ? json_key(event) : "";

	if (!v || p->detached)
		return -1;
	if (strcmp(kind, "start") == 0)
		return on_start_event(p, event, e);
	if (strcmp(kind, "data") == 0)
		return on_data_event(p, event, e);
	if (strcmp(kind, "end") == 0)
		return on_end_event(p, event, e);
	return 0;	/* a ping, or something new */
}

static int on_data(void *user, const uint8_t *bytes, size_t n)
{
	struct envd_process *p = user;
	int r;

	p->feeding = true;
	r = connect_feed(&p->reader, bytes, n, on_message, p, &p->error);
	p->feeding = false;
	if (!p->detached)
		return r;
	process_free(p);
	return -1;
}

/* What the stream's end says: false: nothing is wrong. */
static bool stream_failure(struct envd_process *p, const struct http_response *r,
			   struct failure *f)
{
	struct err e = ERR_INIT;

	if (p->error.code) {
		failure_set(f, FAIL_PROTOCOL, p->what, &p->error);
		return true;
	}
	if (p->reader.ended && p->reader.code[0]) {
		failure_of_connect(p->what, p->reader.code, p->reader.message, f);
		return true;
	}
	if (p->reader.ended && p->ended)
		return false;
	if (r->end != HTTP_ANSWERED || r->status >= 300) {
		failure_of_response(FAIL_AT_SANDBOX, p->what, r, f);
		return true;
	}
	err_set(&e, ERR_LOST, 0, p->reader.ended ? "the stream ended before the process did"
						 : "the stream was dropped before its end");
	failure_set(f, p->reader.ended ? FAIL_PROTOCOL : FAIL_CUT, p->what, &e);
	return true;
}

static void on_done(void *user, const struct http_response *r)
{
	struct envd_process *p = user;
	struct failure f;
	bool failed = stream_failure(p, r, &f);

	p->http = NULL;
	p->hooks.on_end(p->hooks.user, failed ? NULL : &p->exit, failed ? &f : NULL);
	process_free(p);
}

/* --- starting and attaching --- */

static struct envd_process *process_new(struct envd *d, const char *what,
					const struct envd_hooks *hooks, struct err *e)
{
	struct envd_process *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(e, ERR_NO_MEMORY, 0, "%s", what);
		return NULL;
	}
	p->envd = d;
	p->what = what;
	p->hooks = *hooks;
	connect_init(&p->reader);
	buf_init(&p->request, CONNECT_HEADER + LIMIT_TEXT);
	buf_init(&p->output, LIMIT_ENVELOPE);
	return p;
}

/* The message in an envelope; the stream of events is the answer. */
static int open_stream(struct envd_process *p, const char *path, const struct buf *message,
		       uint32_t timeout_ms, bool fresh, struct err *e)
{
	struct envd_headers h;
	struct buf url CLEANUP(buf_release);
	struct http_part part;
	struct http_request req = { .method = "POST",
				    .headers = h.list,
				    .parts = &part,
				    .n_parts = 1,
				    .max_body = LIMIT_DATA,
				    .on_data = on_data,
				    .connect_ms = CONNECT_MS,
				    .idle_ms = SILENT_MS,
				    .fresh = fresh,
				    .on_done = on_done,
				    .user = p };

	if (connect_envelope(&p->request, buf_data(message), buf_len(message), e) < 0)
		return -1;
	part = (struct http_part){ buf_data(&p->request), -1, 0, buf_len(&p->request) };
	buf_init(&url, LIMIT_DATA);
	if (envd_url(p->envd, path, &url, e) < 0)
		return -1;
	req.url = buf_cstr(&url, e);
	envd_headers(p->envd, true, &h);
	envd_header(&h, "Content-Type: application/connect+json");
	envd_header(&h, "Connect-Protocol-Version: 1");
	envd_header(&h, "Keepalive-Ping-Interval: %d", PING_S);
	if (timeout_ms)	/* it would kill the process: never a default */
		envd_header(&h, "Connect-Timeout-Ms: %u", timeout_ms);
	p->http = req.url ? http_start(envd_http(p->envd), &req, e) : NULL;
	wipe(&h, sizeof(h));
	return p->http ? 0 : -1;
}

static void put_command(struct jw *w, const struct envd_command *cmd)
{
	jw_obj(w);
	jw_kobj(w, "process");
	jw_kstr(w, "cmd", cmd->cmd);
	jw_karr(w, "args");
	for (size_t i = 0; cmd->args && cmd->args[i]; i++)
		jw_str(w, cmd->args[i]);
	jw_end(w);
	jw_kobj(w, "envs");
	for (size_t i = 0; cmd->envs && cmd->envs[i]; i += 2)
		jw_kstr(w, cmd->envs[i], cmd->envs[i + 1]);
	jw_end(w);
	if (cmd->cwd)
		jw_kstr(w, "cwd", cmd->cwd);
	jw_end(w);
	jw_kbool(w, "stdin", cmd->has_stdin);	/* left out it would be true */
	jw_end(w);
}

struct envd_process *envd_start(struct envd *d, const struct envd_command *cmd,
				const struct envd_hooks *hooks, struct err *e)
{
	struct envd_process *p = process_new(d, "start process", hooks, e);
	struct buf message CLEANUP(buf_release);
	struct jw w;

	buf_init(&message, LIMIT_TEXT);
	if (!p)
		return NULL;
	jw_init(&w, &message);
	put_command(&w, cmd);
	if (jw_done(&w, e) == 0 &&
	    open_stream(p, "/process.Process/Start", &message, cmd->timeout_ms,
			!cmd->twice_is_fine, e) == 0)
		return p;
	process_free(p);
	return NULL;
}

struct envd_process *envd_attach(struct envd *d, uint32_t pid, const struct envd_hooks *hooks,
				 struct err *e)
{
	struct envd_process *p = process_new(d, "watch process", hooks, e);
	struct buf message CLEANUP(buf_release);

	buf_init(&message, 200);
	if (!p)
		return NULL;
	if (buf_printf(&message, e, "{\"process\":{\"pid\":%u}}", pid) == 0 &&
	    open_stream(p, "/process.Process/Connect", &message, 0, false, e) == 0)
		return p;
	process_free(p);
	return NULL;
}

/* --- calls --- */

struct envd_call *envd_signal(struct envd *d, uint32_t pid, int sig, const struct envd_end *end,
			      struct err *e)
{
	char message[120];

	if (sig != SIGTERM && sig != SIGKILL) {
		err_set(e, ERR_UNSUPPORTED, 0, "envd sends no signal %d: only TERM and KILL", sig);
		return NULL;
	}
	snprintf(message, sizeof(message),
		 "{\"process\":{\"pid\":%u},\"signal\":\"SIGNAL_%s\"}", pid,
		 sig == SIGTERM ? "SIGTERM" : "SIGKILL");
	return envd_rpc(d, "process.Process/SendSignal", message, RETRY_IDEMPOTENT, end, e);
}

struct envd_call *envd_send_stdin(struct envd *d, uint32_t pid, const void *p, size_t n,
				  const struct envd_end *end, struct err *e)
{
	struct buf message CLEANUP(buf_release);

	buf_init(&message, PIECE / 3 * 4 + 200);
	if (buf_printf(&message, e, "{\"process\":{\"pid\":%u},\"input\":{\"stdin\":\"", pid) < 0 ||
	    base64_encode(p, n, &message, e) < 0 || buf_puts(&message, "\"}}", e) < 0 ||
	    !buf_cstr(&message, e))
		return NULL;
	return envd_rpc(d, "process.Process/SendInput", buf_cstr(&message, e), RETRY_CREATE, end,
			e);
}

struct envd_call *envd_close_stdin(struct envd *d, uint32_t pid, const struct envd_end *end,
				   struct err *e)
{
	char message[60];

	if (!envd_can(envd_version(d), ENVD_CLOSE_STDIN)) {
		err_set(e, ERR_UNSUPPORTED, 0,
			"envd %s cannot close the standard input of a process: want 0.5.2",
			envd_version(d));
		return NULL;
	}
	snprintf(message, sizeof(message), "{\"process\":{\"pid\":%u}}", pid);
	return envd_rpc(d, "process.Process/CloseStdin", message, RETRY_IDEMPOTENT, end, e);
}

struct envd_call *envd_list(struct envd *d, const struct envd_end *end, struct err *e)
{
	return envd_rpc(d, "process.Process/List", "{}", RETRY_READ, end, e);
}
