/* SPDX-License-Identifier: Apache-2.0
 *
 * options - the worker's command line, the same for the supervisor and, passed on, for the
 * worker.
 *
 * What the supervisor is told may also stand in a JSON object (config.h) whose keys are the
 * options' long names.  An option on the command line counts more than --job-config, that more
 * than --config, that more than the environment. */
#ifndef FARSTEP_WORKER_OPTIONS_H
#define FARSTEP_WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "worker/config.h"

struct worker_options {
	const char *listen;       /* unix:PATH or HOST:PORT */
	const char *token_sha256; /* 64 hex digits */
	const char *root;         /* absolute; NULL: a new directory under /tmp */
	const char *scratch;      /* NULL: none; see scratch.h */
	const char *sandbox_id;   /* "" until the supervisor made one */
	int64_t lease_ms;         /* 0: the worker outlives its sessions */
	int64_t max_sessions;
	int64_t heartbeat_ms;
	bool once; /* exit when the first session is closed */
	bool say_ready;
	enum log_level log_level;
	bool log_json;
	const char *role;   /* NULL: supervisor */
	int64_t generation; /* role worker */
	char **rest;        /* what follows --role keeper|unpack */
	int n_rest;
	const char *config, *job_config;	/* as given */
	json *loaded[CONFIG_SOURCES];		/* the strings above may be of these */
	enum { ACT_SERVE, ACT_HELP, ACT_VERSION, ACT_HEALTH, ACT_CAPABILITIES } action;
};

/* Exit codes (contract): */
enum { WORKER_DONE = 0, WORKER_USAGE = 100, WORKER_BUG = 101, WORKER_REFUSED = 111 };

/* ERR_USAGE names what is wrong and, with nothing given, what to give.  Reads the configuration
 * (standard input too, if told so) unless a role or an action needs none.  Strings are borrowed
 * from argv and from what was loaded. */
int worker_options_parse(struct worker_options *o, int argc, char **argv, struct err *e);
void worker_options_release(struct worker_options *o);
void worker_help(void);

#endif
