/* SPDX-License-Identifier: Apache-2.0
 *
 * link - every connection that farstep-chaos carries, and what the rules do to it.
 *
 * A connection has two flows, up and down, which know nothing of each other but for resets.
 * A flow holds at most FLOW_BUFFER bytes; then its source is not read. */
#ifndef FARSTEP_CHAOS_LINK_H
#define FARSTEP_CHAOS_LINK_H

#include "mocks/chaos/address.h"
#include "mocks/chaos/rules.h"
#include "protocol/base/loop.h"

enum {
	FLOW_BUFFER = 1024 * 1024,
	LINKS_MAX = 256,	/* then nothing is accepted until one ends */
};

struct link;

struct chaos {
	struct loop *loop;
	struct rules rules;
	int64_t left[RULES_MAX];	/* how often each rule may act still; -1: always */
	struct address to;
	int listen_fd;
	struct loop_io listen_io;
	struct link *links;		/* living */
	struct link *ended;		/* freed by chaos_reap */
	uint64_t number;		/* of the last connection */
	unsigned n_links;
	bool stopping;
	uint64_t start_ns;
};

/* Accepts from now on; borrows what the caller filled in: loop, rules, to, listen_fd. */
int chaos_start(struct chaos *c, struct err *e);
/* Frees what has ended; call it between two passes of the loop. */
void chaos_reap(struct chaos *c);
void chaos_stop(struct chaos *c);
/* One line on standard output, with the seconds since the start in front. */
void chaos_say(const struct chaos *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
