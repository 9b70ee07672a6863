/* SPDX-License-Identifier: Apache-2.0
 *
 * step - one attempt of one step: claim, keeper, streams, end.
 *
 *   step.c         the table, step.execute and its siblings, recovery
 *   step_dir.c     its directory
 *   step_keeper.c  its keeper: orders, states, the record it leaves
 *   step_live.c    its streams, bound to a connection; its end
 *   step_artifacts.c  its artifacts as one stream
 *   step_events.c  lines of descriptor 3 into events
 *
 * A (session, step, attempt) starts at most once: its directory with the claim is
 * made before anything is forked, and found again by a new worker. */
#ifndef FARSTEP_WORKER_STEP_H
#define FARSTEP_WORKER_STEP_H

#include "protocol/lines.h"
#include "protocol/receipt.h"
#include "worker/keeper.h"
#include "worker/session.h"

enum step_state { STEP_CLAIMED, STEP_RUNNING, STEP_DRAINING, STEP_FINISHED, STEP_LOST };

/* What is in memory until the client has everything and releases the step. */
struct live {
	struct step *st;
	struct live *next, **at; /* in the session's lives */
	int dir_fd;    /* steps/STEP.N */
	int keeper_fd; /* -1: no keeper (any more) */
	pid_t keeper_pid;
	struct loop_io io;
	struct keeper_state ks;
	uint64_t state_ns; /* when the keeper last gave a sign of life */
	int idle_said;     /* of one that was adopted: how often it said that it has no plan */
	bool adopted;
	int spool[KS_COUNT];
	struct stream_out out[2]; /* stdout, stderr */
	uint64_t durable[2];      /* what WINDOW frames acknowledged: gone from the spool */
	struct stream_out artifacts;
	struct stream_in in;
	struct conn *conn;   /* where the streams are bound */
	struct reply *reply; /* step.execute, to be answered at the end */
	struct lines lines;
	uint64_t events_acked; /* the keeper may drop descriptor 3 up to here */
	bool events_done;
	char *receipt; /* text; NULL when lost */
	char hmac[SHA256_HEX];
	uint64_t manifest_bytes, artifact_bytes;
	/* the artifact file being streamed */
	char *files;
	size_t files_len;
	const char *file; /* in files; NULL: none open */
	int file_fd;
	uint64_t file_at, file_size; /* its place in the stream */
};

struct step {
	struct step *next; /* in its bucket */
	struct session *s;
	char id[LIMIT_STEP_ID + 1];
	int attempt;
	const char *driver;
	enum step_state state;
	enum step_status status; /* STATUS_LOST until its record says better */
	char body[SHA256_HEX];
	bool started_seen, ended_seen; /* these events are in the journal */
	uint64_t src;                  /* how far descriptor 3 is in the journal */
	int64_t rows, wall_ms;
	char error[400];
	struct live *live; /* NULL: released */
};

/* ---- methods (r: the reply to give, owned) ---- */
void step_execute(struct session *s, struct conn *c, const json *params, struct reply *r);
void step_cancel(struct session *s, const json *params, struct reply *r);
void step_status(struct session *s, const json *params, struct reply *r);
void step_release(struct session *s, const json *params, struct reply *r);

/* ---- for the session ---- */
void step_cancel_all(struct session *s, int grace_ms, const char *why);
void step_pump_all(struct session *s);
void step_free_all(struct session *s);
void step_watch_all(struct session *s); /* asks keepers for a sign of life, ends stuck ones */
void step_list(struct session *s, struct jw *w, bool running_only); /* {step,attempt,state} */
int step_load_all(struct session *s, struct err *e);                /* the claims on disk */
void step_replay_event(struct session *s, const json *event);       /* one journal line */
void step_recover_all(struct session *s, int *adopted, int *lost);  /* keepers, records */

/* ---- between step*.c ---- */
extern const char *const step_stream_names[KS_COUNT]; /* and those of the spools */
struct step *step_lookup(struct session *s, const char *id, int attempt);
/* Takes dir_fd, the step's directory; -1: opens it. */
struct live *live_new(struct step *st, int dir_fd, struct err *e);
void live_free(struct step *st);
#define LIVE_NAME_MAX (LIMIT_RUN_ID + LIMIT_STEP_ID + 16) /* "SESSION/STEP/ATTEMPT" */
void live_name(const struct step *st, char ret[LIVE_NAME_MAX]);
int live_start(struct step *st, const json *params, struct err *e); /* gives it to a keeper */
int live_adopt(struct step *st, int keeper_fd, pid_t keeper_pid, struct err *e);
int live_load_record(struct step *st, struct err *e);
int live_open_spools(struct live *l, struct err *e); /* those that have bytes */
/* One that has ended and whose client may come back holds no descriptors until then. */
void live_sleep(struct live *l);
int live_wake(struct step *st, struct err *e);
/* Are the channels that params name free? Checked before a step is claimed. */
int live_check_binding(const struct conn *c, const json *params, struct err *e);
int live_bind(struct step *st, struct conn *c, const json *params, struct err *e);
bool live_pump(struct step *st); /* one frame a stream; true if something moved */
void live_watch(struct step *st);
void live_cancel(struct step *st, int grace_ms, const char *why);
void live_ask_state(struct live *l); /* the keeper answers with its state */
/* false: it was not told, because it is gone or does not listen now. */
bool live_ack(struct live *l, enum keeper_stream stream, uint64_t offset);
void live_grant_stdin(struct step *st); /* as much as the keeper has room for */
void live_drop_keeper(struct step *st); /* it has ended */
void live_remove_files(struct live *l); /* the client has everything: the record stays */
/* At most n bytes at `at` of the artifact stream, fewer at the end of a file; -1: e says why. */
ssize_t live_read_artifacts(struct live *l, uint64_t at, uint8_t *p, size_t n, struct err *e);
void step_end(struct step *st); /* record is loaded or the step lost: events, reply */
void step_lose(struct step *st, const char *why);
void step_answer(struct step *st);
/* As far as the journal has room; what is in it the keeper may drop.  false: more to come. */
bool step_events_pump(struct step *st);

/* A keeper's socket that the store gave back: name "keeper/SESSION/STEP/N". */
void step_keep_socket(pid_t pid, const char *what, size_t n, int fd);
/* Those that no step took, once all sessions have recovered: nobody needs these keepers. */
void step_drop_sockets(struct worker *w);

#endif
