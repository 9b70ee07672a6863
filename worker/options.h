/* SPDX-License-Identifier: Apache-2.0
 *
 * options - the worker's command line, the same for the supervisor and, passed on, for the
 * worker. */
#ifndef FARSTEP_WORKER_OPTIONS_H
#define FARSTEP_WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/hash.h"
#include "protocol/base/log.h"

struct worker_options {
	const char *listen;       /* unix:PATH or HOST:PORT */
	const char *token_sha256; /* 64 hex digits */
	const char *root;         /* absolute; NULL: a new directory under /tmp */
	const char *sandbox_id;   /* "" until the supervisor made one */
	int64_t lease_ms;         /* 0: the worker outlives its sessions */
	int64_t max_sessions;
	bool once; /* exit when the first session is closed */
	enum log_level log_level;
	bool log_json;
	const char *role;   /* NULL: supervisor */
	int64_t generation; /* role worker */
	char **rest;        /* what follows --role keeper|unpack */
	int n_rest;
	enum { ACT_SERVE, ACT_HELP, ACT_VERSION, ACT_HEALTH, ACT_CAPABILITIES } action;
};

/* Exit codes (contract): */
enum { WORKER_DONE = 0, WORKER_USAGE = 100, WORKER_BUG = 101, WORKER_REFUSED = 111 };

int worker_options_parse(struct worker_options *o, int argc, char **argv, struct err *e);
void worker_help(void);

#endif
