/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper_plan - the orders that a keeper gets from its worker. */
#ifndef FARSTEP_WORKER_KEEPER_PLAN_H
#define FARSTEP_WORKER_KEEPER_PLAN_H

#include "protocol/receipt.h"
#include "protocol/base/json.h"
#include "worker/manifest.h"

struct keeper_plan {
	json *root;
	uint8_t key[SHA256_LEN];
	char **argv, **envp;
	const char *cwd, *dir;
	struct manifest_spec artifacts;
	const char **globs;
	int64_t timeout_ms;	/* 0: none */
	int64_t grace_ms, linger_ms, spool_bytes;
	int64_t memory_mb;	/* 0: no bound */
	bool has_stdin, backtrace;
};

/* From n bytes of JSON, which are wiped; fills the identity members of *rc too.  The key is in
 * p->key alone from then on.  On failure nothing is left in *p; *rc may be half filled. */
int keeper_plan_take(void *text, size_t n, struct keeper_plan *p, struct receipt *rc,
		     struct err *e);
/* The same from the file fd. */
int keeper_plan_read(int fd, struct keeper_plan *p, struct receipt *rc, struct err *e);
/* After exec: what the step's environment holds is no business of the keeper's any more. */
void keeper_plan_forget_env(struct keeper_plan *p);
/* Forgets all of it, the key too, and frees it. */
void keeper_plan_release(struct keeper_plan *p);

#endif
