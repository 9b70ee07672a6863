/* SPDX-License-Identifier: Apache-2.0
 *
 * session - one run's stay in this worker: key, environment, lease, events, steps.
 *
 * Survives connections (they attach and detach) and the worker itself: what cannot be on
 * disk is in the supervisor's store as "session/ID", the rest in ROOT/sessions/ID:
 *   events              journal
 *   steps/STEP.N/       step_dir.h
 *   no-inputs.json      {}, for the steps that have none
 *   checkpoints/STEP    of a step, for all its attempts
 *   work  home  tmp     shared by the steps
 *   package.part, package.json, package.list       upload, what came of it, its paths */
#ifndef FARSTEP_WORKER_SESSION_H
#define FARSTEP_WORKER_SESSION_H

#include "protocol/base/json.h"
#include "worker/conn.h"
#include "worker/journal.h"
#include "worker/worker.h"

struct left;
struct step;
struct upload;

#define STEP_BUCKETS   1024
#define NO_INPUTS_FILE "no-inputs.json"
#define CLOSE_GRACE_MS (GRACE_DEFAULT_MS / 5) /* of steps when their session ends */

struct session {
	struct worker *w;
	struct session *next;
	char id[LIMIT_RUN_ID + 1], run[LIMIT_RUN_ID + 1];
	char key[SHA256_HEX];
	char dir[512];
	int dir_fd;
	int next_fd;			/* a directory for the next step; -1: none */
	struct conn *driver;		/* NULL: detached */
	json *blob;			/* what the store holds: env and secrets are read from it */
	struct journal journal;
	struct step *buckets[STEP_BUCKETS];
	struct live *lives;		/* of its steps that were not released */
	int n_steps, n_running;
	struct upload *upload;
	struct left *left;		/* a walk through work/ under way */
	int64_t lease_ms;
	int64_t memory_mb;		/* of each process of a step; 0: no bound */
	uint64_t lease_until_ns;
	struct loop_timer lease;
	bool closing;
	struct reply *close_reply;
	struct loop_timer close_deadline;	/* then for each piece of the removal */
	int leftovers;			/* steps that would not end */
	uint64_t remove_until_ns;
	bool files_gone;
};

/* A new session from session.open's params. */
struct session *session_open(struct worker *w, const json *params, struct err *e);
/* The session named in params, if its key fits (constant time) and the sandbox is this one. */
struct session *session_find(struct worker *w, const json *params, struct err *e);
/* After a restart: one entry of the store; then, when all are there, the steps. */
int session_restore(struct worker *w, const uint8_t *blob, size_t n, struct err *e);
void session_recover_steps(struct session *s);

void session_attach(struct session *s, struct conn *c);	/* evicts the driver before */
void session_detach(struct session *s, struct conn *c);
int session_renew(struct session *s, int64_t lease_ms, struct err *e);
/* Ends its steps, with that grace; removes its files; r is answered when that is done. */
void session_close(struct session *s, struct reply *r, const char *why, int grace_ms);

/* Something may be sent now: events, then streams, as windows and the carrier allow. */
void session_pump(struct session *s);
/* Flushes the journal and shows new events to whoever reads. */
void session_publish(struct session *s);
/* A step ended (called by step.c). */
void session_step_ended(struct session *s);
void session_list_running(struct session *s, struct jw *w);	/* elements of an open array */

#endif
