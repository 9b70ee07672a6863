/* SPDX-License-Identifier: Apache-2.0
 *
 * tunnel - bytes between two sockets, both ways, after an upgrade. */
#ifndef FARSTEP_E2B_TUNNEL_H
#define FARSTEP_E2B_TUNNEL_H

#include <stdbool.h>

#include "protocol/base/buf.h"
#include "protocol/base/loop.h"

enum { TUNNEL_BUFFER = 256 * 1024 };	/* each way; then its source is not read */

struct tunnel_side {
	struct loop_io io;
	struct tunnel *tunnel;
	struct tunnel_side *other;
	struct buf in;		/* read here, not yet written to the other */
	bool ended;		/* nothing more comes from here */
	bool shut;		/* and the other was told */
	uint64_t bytes;		/* read here */
};

struct tunnel {
	struct loop *loop;
	struct tunnel_side side[2];
	void (*on_end)(struct tunnel *t);	/* both directions ended, or one broke */
};

/* Both descriptors are borrowed, and watched until tunnel_stop, which on_end does not imply.
 * `first`: bytes that came from side 0 and 1 already. */
int tunnel_start(struct tunnel *t, struct loop *l, const int fd[2],
		 const struct buf *const first[2], void (*on_end)(struct tunnel *), struct err *e);
void tunnel_stop(struct tunnel *t);	/* a zeroed one is fine */

#endif
