/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper_plan - the keeper's orders, read from the worker's memory file. */
#ifndef FARSTEP_WORKER_KEEPER_PLAN_H
#define FARSTEP_WORKER_KEEPER_PLAN_H

#include "protocol/receipt.h"
#include "protocol/base/json.h"
#include "worker/manifest.h"

struct keeper_plan {
	struct buf text;	/* the JSON as read: holds secrets, wiped by keeper_plan_wipe */
	json *root;
	uint8_t key[SHA256_LEN];
	char **argv, **envp;
	const char *cwd, *dir;
	struct manifest_spec artifacts;
	const char **globs;
	int64_t timeout_ms;	/* 0: none */
	int64_t grace_ms, linger_ms, spool_bytes;
	bool has_stdin;
};

/* Reads the file fd, or, when that is -1, n bytes of text; fills the identity members of *rc
 * too. */
int keeper_plan_read(int fd, const void *text, size_t n, struct keeper_plan *p,
		     struct receipt *rc, struct err *e);
/* After exec: what the step's environment holds is no business of the keeper's any more. */
void keeper_plan_forget_env(struct keeper_plan *p);

#endif
