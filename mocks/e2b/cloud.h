/* SPDX-License-Identifier: Apache-2.0
 *
 * cloud - what the parts of the mock share: one of it a process. */
#ifndef FARSTEP_E2B_CLOUD_H
#define FARSTEP_E2B_CLOUD_H

#include <stdint.h>

#include "mocks/e2b/box.h"
#include "mocks/e2b/faults.h"
#include "mocks/e2b/options.h"
#include "protocol/base/hash.h"
#include "protocol/base/loop.h"

struct sandbox;
struct template;

enum {
	TIMEOUT_MAX_S = 24 * 3600,	/* of a run of a sandbox, as a paying team has it */
	DISK_MB = 22528,
};

struct cloud {
	struct loop *loop;
	const struct options *o;
	struct faults faults;
	struct box_users users;
	char root[256];			/* one directory a sandbox */
	uint8_t key[SHA256_LEN];	/* makes the tokens */
	struct sandbox *sandboxes;	/* the newest first */
	struct sandbox *dead;		/* freed by sandboxes_reap */
	struct template *templates;
	uint64_t edge_requests;
	int log_fd;			/* -1: none */
};

#endif
