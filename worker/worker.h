/* SPDX-License-Identifier: Apache-2.0
 *
 * worker - the process that speaks the protocol: who is who in it.
 *
 *   ws.c        sockets: makes carriers
 *   conn.c      one connection: frames in, JSON-RPC requests to methods.c, replies out
 *   methods.c   one handler per method
 *   session.c   sessions: keys, lease, event journal, steps; survives connections
 *   journal.c   a session's events on disk
 *   step.c      a step: claim, keeper, streams, end
 *   spare.c     a keeper that waits for the next step
 *   upload.c    a package on its way in
 *   left.c      files that steps left and nothing brought home
 *   drivers.c   what a driver's name means: program, arguments, environment
 */
#ifndef FARSTEP_WORKER_WORKER_H
#define FARSTEP_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/buf.h"
#include "protocol/base/loop.h"
#include "worker/options.h"
#include "worker/spare.h"

struct conn;
struct session;

struct counters {
	uint64_t ok, failed;
	uint64_t by_method[32];		/* in the order of methods.def */
	uint64_t steps_started, steps_finished, steps_lost;
};

struct worker {
	struct loop *loop;
	const struct worker_options *o;
	int store_fd, self_fd;
	char id[160];			/* sandbox/generation */
	uint64_t started_ns;
	bool sealed;
	bool draining, quitting;
	struct session *sessions;
	int n_sessions;
	struct conn *conns;
	int n_conns;
	struct counters count;
	int root_fd;			/* the root directory */
	struct buf scratch_known;	/* what was in --scratch before the first session */
	struct spare spare;
};

/* Role worker: serves until the supervisor ends it; returns the exit code. */
int worker_main(struct worker_options *o);

/* No new sessions or steps; running ones are cancelled, with that grace; quits when they have
 * ended. */
void worker_drain(struct worker *w, int grace_ms);
/* Everything is done: the supervisor ends us. */
void worker_quit(struct worker *w);
void worker_conn_gone(struct worker *w);	/* a connection has ended */
void worker_read_store(struct worker *w); /* what the supervisor has to say by now */
long worker_rss_kb(void);	/* -1 without /proc */

#endif
