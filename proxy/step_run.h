/* SPDX-License-Identifier: Apache-2.0
 *
 * step_run - one attempt of a step at the worker, until it is proved.
 *
 * Ends when the answer is here, its receipt is verified (signature, ids, byte counts and
 * digests of what actually came), and everything is home: streams, events, artifacts.  Only
 * then can the status be success. */
#ifndef FARSTEP_PROXY_STEP_RUN_H
#define FARSTEP_PROXY_STEP_RUN_H

#include "protocol/receipt.h"
#include "proxy/fetch.h"
#include "proxy/link.h"
#include "proxy/sink.h"

struct stdin_source;

struct step_run {
	/* the request, borrowed: */
	const char *id, *driver;
	int attempt;
	const char *config; /* JSON texts; NULL: {} or [] */
	const char *inputs, *env, *collect;
	bool backtrace;
	int64_t timeout_ms, grace_ms, linger_ms;
	struct stdin_source *input; /* NULL: /dev/null */
	/* who is who, for the receipt: */
	const char *run, *session, *session_key, *sandbox;
	struct sink *out, *err;
	struct fetch *fetch;
	/* Called once, never from inside step_run_start. */
	void (*on_done)(struct step_run *r);
	void *user;

	/* what came of it: */
	enum step_status status;
	struct err error; /* why it is no success */
	struct receipt receipt;
	bool verified;
	char *receipt_text;
	char hmac[SHA256_HEX];
	char said[400]; /* the step's own words for its failure, "": none; checked by the receipt */

	/* its own: */
	struct link *link;
	struct call call, release;
	bool answered, done;
	char body[SHA256_HEX];
	uint64_t events_needed;
	struct loop *loop;
	struct loop_timer finish;
};

void step_run_start(struct step_run *r, struct loop *loop, struct link *l);
/* Events up to wseq are here: a step waits for those it caused. */
void step_run_events(struct step_run *r, uint64_t wseq);
/* The link is back: a step whose answer came but whose bytes did not all come is asked again,
 * which binds its streams to the new connection. */
void step_run_resume(struct step_run *r);
void step_run_release(struct step_run *r);

/* What a signature and a comparison can tell (also used offline by verify). */
int receipt_verify(const char *text, const char *hmac, const char *session_key, const char *run,
                   const char *session, const char *step, int attempt, struct receipt *ret,
                   struct err *e);

#endif
