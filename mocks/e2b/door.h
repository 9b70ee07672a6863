/* SPDX-License-Identifier: Apache-2.0
 *
 * door - the one way into a sandbox: process 1 inside, and who speaks to it outside.
 *
 * Inside (door_main, the role "door") it starts envd, reaps orphans, and answers, one after
 * the other, what comes through its socket:
 *
 *   connect PORT   a socket connected to that port of the sandbox's loopback
 *   freeze, thaw   every other process of the sandbox stops, or goes on
 *
 * When the socket closes it ends, and the kernel ends the sandbox with it.
 *
 * Outside (struct door) calls back on our loop, in the order of the questions. */
#ifndef FARSTEP_E2B_DOOR_H
#define FARSTEP_E2B_DOOR_H

#include <stdbool.h>

#include "protocol/base/err.h"
#include "protocol/base/loop.h"

enum { DOOR_QUEUE = 1024 };	/* unanswered questions; more are refused */

/* argv: what envd is started with, ended by NULL; argv[0] is a name only. */
int door_main(char *const *argv);

struct door;

/* sys: 0, or the errno of the refusal (ECONNREFUSED: nobody listens; EPIPE: the sandbox is
 * gone).  fd: of connect, non-blocking, owned by who is called; else -1. */
struct door_ask {
	void (*on_answer)(struct door_ask *a, int sys, int fd);
	struct door *door;	/* NULL when not asked */
	struct door_ask *next;
};

struct door {
	struct loop_io io;
	int fd;			/* borrowed */
	struct door_ask *first, *last;
	unsigned waiting;
	void (*on_gone)(struct door *d);	/* process 1 has ended; may be NULL */
};

int door_open(struct door *d, struct loop *l, int fd, void (*on_gone)(struct door *),
	      struct err *e);
/* Everything that waits is answered with EPIPE. */
void door_close(struct door *d);

/* The asker's memory must hold until on_answer, or door_forget.  If the question can't be put
 * the answer comes at once, before these return. */
void door_connect(struct door *d, struct door_ask *a, unsigned port);
void door_freeze(struct door *d, struct door_ask *a, bool freeze);
/* No answer will come; a socket on its way is closed. */
void door_forget(struct door_ask *a);

#endif
