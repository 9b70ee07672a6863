/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of process.Process that bring a process its input, or the end of it. */
#include <errno.h>
#include <stdlib.h>

#include "mocks/e2b/base64.h"
#include "mocks/e2b/envd_process.h"
#include "mocks/e2b/envd_process_rpc.h"
#include "mocks/e2b/envd_rpc.h"
#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"

struct input {
	struct proc_write write;
	struct rpc *rpc;
	uint64_t pid;		/* of a stream; 0 before its start message */
	bool ended;		/* the stream was read to its end */
};

static void reply_empty(struct rpc *r)
{
	rpc_reply(r, "{}", 2);
}

static void on_written(struct proc_write *w, int sys)
{
	struct input *in = (struct input *)w;
	struct rpc *r = in->rpc;

	if (sys)
		rpc_fail(r, sys == EPIPE ? CONNECT_FAILED_PRECONDITION : CONNECT_INTERNAL,
			 "error writing to stdin: write |1: %s", sys_text(sys));
	else if (r->method->kind == RPC_UNARY || in->ended)
		reply_empty(r);
	else
		rpc_go_on(r);
}

static void on_input_gone(struct rpc *r)
{
	struct input *in = r->ctx;

	proc_write_forget(&in->write);
	free(in);
}

static struct input *input_of(struct rpc *r)
{
	struct input *in = r->ctx;

	if (in)
		return in;
	in = calloc(1, sizeof(*in));
	if (!in) {
		rpc_fail(r, CONNECT_INTERNAL, "out of memory");
		return NULL;
	}
	in->rpc = r;
	in->write.on_done = on_written;
	r->ctx = in;
	r->on_gone = on_input_gone;
	return in;
}

/* What keeps the process from taking it, if anything; else whether it is for the terminal. */
static bool input_fits(struct rpc *r, const struct proc *p, bool for_pty)
{
	if (for_pty && !proc_has_pty(p))
		rpc_fail(r, CONNECT_FAILED_PRECONDITION,
			 "error writing to tty: tty not assigned to process \xe2\x80\x94 input "
			 "should be written to the stdin, not the tty");
	else if (!for_pty && proc_has_pty(p))
		rpc_fail(r, CONNECT_FAILED_PRECONDITION,
			 "error writing to stdin: tty assigned to process \xe2\x80\x94 input "
			 "should be written to the pty, not the stdin");
	else if (!proc_has_stdin(p))
		rpc_fail(r, CONNECT_FAILED_PRECONDITION,
			 "error writing to stdin: stdin not enabled or closed");
	return !r->done;
}

/* The answer, or the next message, waits until the process has taken the bytes. */
static void write_input(struct rpc *r, struct proc *p, const json *input)
{
	const char *pty = json_string(json_get(input, "pty"));
	const char *std = json_string(json_get(input, "stdin"));
	struct input *in = input_of(r);
	struct buf data CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&data, CONNECT_MESSAGE_MAX);
	if (!in)
		return;
	if (!pty && !std) {
		rpc_fail(r, CONNECT_UNIMPLEMENTED, "invalid input type <nil>");
		return;
	}
	if (!input_fits(r, p, pty != NULL))
		return;
	if (base64_take(pty ? pty : std, &data, &e) < 0) {
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "unmarshal message: %s", e.msg);
		return;
	}
	rpc_pause(r);
	if (proc_write(p, buf_data(&data), buf_len(&data), &in->write, &e) < 0)
		rpc_fail(r, CONNECT_RESOURCE_EXHAUSTED, "%s", e.msg);
}

void on_send_input(struct rpc *r, const json *message)
{
	struct proc *p = select_process(r, message, NULL);

	if (p)
		write_input(r, p, json_get(message, "input"));
}

void on_stream_input(struct rpc *r, const json *message)
{
	const json *start = json_get(message, "start"), *data = json_get(message, "data");
	struct input *in = input_of(r);
	struct proc *p;

	if (!in)
		return;
	if (start) {
		p = select_process(r, start, NULL);
		in->pid = p ? (uint64_t)proc_pid(p) : 0;
	} else if (data) {
		p = proc_by_pid(r->d->procs, in->pid);
		if (p)
			write_input(r, p, json_get(data, "input"));
		else
			rpc_fail(r, CONNECT_FAILED_PRECONDITION, "error writing to stdin: %s",
				 in->pid ? "file already closed" : "no start message");
	} else if (!json_get(message, "keepalive")) {
		rpc_fail(r, CONNECT_UNIMPLEMENTED, "invalid event type <nil>");
	}
}

void on_stream_input_end(struct rpc *r)
{
	struct input *in = r->ctx;

	if (in && in->write.proc)
		in->ended = true;
	else
		reply_empty(r);
}

void on_close_stdin(struct rpc *r, const json *message)
{
	struct proc *p = select_process(r, message, NULL);

	if (!p)
		return;
	if (proc_has_pty(p)) {
		rpc_fail(r, CONNECT_FAILED_PRECONDITION, "error closing stdin: cannot close stdin "
			 "for PTY process \xe2\x80\x94 send Ctrl+D (0x04) instead");
		return;
	}
	proc_close_stdin(p);
	reply_empty(r);
}
