/* SPDX-License-Identifier: Apache-2.0
 *
 * upstream - one request over a connection to a server: written as it comes, the answer handed
 * on as it comes, with bounded memory both ways.
 *
 * Callbacks may call anything here, upstream_stop too. */
#ifndef FARSTEP_E2B_UPSTREAM_H
#define FARSTEP_E2B_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "mocks/e2b/answer.h"
#include "protocol/base/buf.h"
#include "protocol/base/loop.h"

enum {
	UPSTREAM_BUFFER = 256 * 1024,	/* each way */
	UPSTREAM_QUEUE = 256 * 1024 + ANSWER_HEAD_MAX,
};

struct upstream;

struct upstream_calls {
	/* The head of the final answer (1xx are dropped, but 101). */
	void (*on_head)(struct upstream *u, const struct answer_head *h);
	/* Some of the body; false: no more until upstream_pause(u, false). */
	bool (*on_body)(struct upstream *u, const uint8_t *p, size_t n);
	void (*on_end)(struct upstream *u);	/* the whole answer has come */
	void (*on_fail)(struct upstream *u, const char *why);	/* it broke */
	void (*on_room)(struct upstream *u);	/* what was queued is sent, by half at least */
};

struct upstream {
	struct loop *loop;
	struct loop_io io;
	int fd;			/* -1 when stopped */
	const struct upstream_calls *calls;
	const char *method;
	struct buf in, out;
	char *head_text;
	struct answer_head head;
	struct body body;
	bool has_head, paused, full, ended;
	struct loop_timer soon;
};

/* Takes fd (connected, non-blocking).  method: borrowed. */
int upstream_start(struct upstream *u, struct loop *l, int fd, const char *method,
		   const struct upstream_calls *calls, struct err *e);
/* Queues as much as there is room for; returns how much.  Less than n: on_room comes. */
size_t upstream_send(struct upstream *u, const void *p, size_t n);
void upstream_pause(struct upstream *u, bool pause);
/* After on_head with 101: the connection, with what came behind the head in in.  The caller
 * owns it from now on. */
int upstream_release(struct upstream *u);
void upstream_stop(struct upstream *u);		/* a zeroed one is fine */

#endif
