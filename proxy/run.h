/* SPDX-License-Identifier: Apache-2.0
 *
 * run - one run of a pipeline, from the sandbox's creation to its end.
 *
 *   run_open.c     a new run, or one that is taken over: plan, directory, keys
 *   run.c          its life: link, signals, deadline, the end
 *   run_sandbox.c  its sandbox, from the request to the end
 *   run_tell.c     its events and phases
 *   run_steps.c    steps as the schedule allows, their proofs and events
 *   dependencies.c what the plan requires, before its first step
 *   run_files.c    what is written beside: status.json, receipts, the journal for attach
 *   left_files.c   the warning about files that stayed in the sandbox
 *   send.c         the package on its way out
 *   control.c      ps, status and cancel from other processes */
#ifndef FARSTEP_PROXY_RUN_H
#define FARSTEP_PROXY_RUN_H

#include "proxy/display.h"
#include "proxy/events.h"
#include "proxy/link.h"
#include "proxy/options.h"
#include "proxy/package.h"
#include "proxy/plan.h"
#include "proxy/rundir.h"
#include "proxy/schedule.h"
#include "proxy/step_run.h"
#include "protocol/keys.h"
#include "sdk-wrapper/provider.h"

enum phase {
	PHASE_CREATE,
	PHASE_START,
	PHASE_READY,
	PHASE_UPLOAD,
	PHASE_RUN,
	PHASE_COLLECT,
	PHASE_DESTROY,
	PHASES
};

struct run_step {
	struct run *run;
	int index, attempt;
	bool started; /* step.execute went out (maybe by a proxy before us) */
	bool finished;
	enum step_status status;
	double duration_ms;
	struct sink out, err;
	struct fetch fetch;
	struct step_run sr;
	struct call release, cancel;
	char *inputs, *env, *collect; /* JSON texts */
	struct fetched *artifacts;
	size_t n_artifacts;
};

struct sending;
struct control;
struct dependencies;

struct run {
	struct options *o;
	struct plan *plan;
	struct package package;
	struct rundir dir;
	char run[LIMIT_RUN_ID + 1];
	uint8_t user_key[USER_KEY_LEN];
	char token[SHA256_HEX], session_key[SHA256_HEX];
	struct mask_set *secrets;
	struct events ev;
	struct display display;
	bool has_display;

	struct loop *loop;
	struct ws_client *ws;
	struct link *link;
	struct rpc_trace *trace;
	const struct provider
		*provider; /* NULL: a worker of the user's own (--target unix:, ws:) */
	struct sandbox sandbox;
	struct sandbox_spec spec; /* while it is made, and what it points to */
	char worker[1024], token_digest[SHA256_HEX], key_id[17];
	void *kept; /* by a provider that takes its time */
	bool reused; /* --sandbox: not ours to end */
	bool stayed; /* it was left to the next run */
	int mark;    /* what says that we use it; -1: none */
	bool has_sandbox, attached;
	bool was_up;    /* the worker answered once */
	off_t log_from; /* where its standard error begins in farstep.log */
	char socket_dir[256], state_dir[1200];

	struct sending *sending;
	struct control *control;
	struct dependencies *dependencies;
	struct schedule schedule;
	bool has_schedule, starting;
	struct run_step *steps;
	struct loop_signal on_int, on_term;
	struct loop_timer deadline, owner, step_soon, shutdown;
	struct call close_call, left_call, idle_call;
	bool closed; /* the session has ended, says the worker */
	struct loop_timer left_late;
	enum { LEFT_UNASKED, LEFT_ASKED, LEFT_DONE } left;

	uint64_t started_us, began_ns, phase_ns[PHASES + 1], phase_start_ns;
	double phase_ms[PHASES];
	bool stopping, finished;
	bool taken_over;
	int interrupted;  /* signal number */
	struct err error; /* why it is no success; code 0: it is */
	int exit_code;
	uint64_t events_seen;
	uint64_t bytes_up, bytes_down;
};

/* ---- run.c ---- */
/* Everything up to and including the end; returns the exit code. */
int run_execute(struct run *r);
/* Stops: nothing new starts, running steps are cancelled, the sandbox is destroyed. */
void run_stop(struct run *r, const struct err *why);
void run_leave(struct run *r); /* the loop ends: the end of the run follows */
/* The sandbox is there: links to its worker.  -1: e says why not. */
int run_go_on(struct run *r, struct err *e);

/* ---- run_open.c ---- */
struct run *run_new(void); /* NULL: no memory.  run_release(), then free() */
/* A new run of a plan: run directory, keys, secrets, package index. */
int run_prepare(struct run *r, struct options *o, struct plan *plan, struct err *e);
/* An existing run directory, taken over. */
int run_attach(struct run *r, struct options *o, const char *path, bool force, struct err *e);
void run_release(struct run *r);
void run_display_open(struct run *r); /* by the options: -q, -v, --json, a terminal or not */

/* ---- run_sandbox.c ---- */
#define DESTROY_MS 10000 /* how long the end of a sandbox may take */
/* 1: it is there; 0: it is being made, and run_go_on is called then; -1: e says why not. */
int run_sandbox_begin(struct run *r, struct err *e);
/* It is kept if that was asked for and nothing speaks against it, else destroyed. */
void run_sandbox_end(struct run *r);
bool run_sandbox_stays(const struct run *r); /* asked for, and not cut short */

/* ---- run_tell.c ---- */
void run_phase(struct run *r, enum phase p); /* the phase before ends now, p begins */
/* An event of ours; fields: a JSON object, NULL: none. */
void run_event(struct run *r, const char *name, const struct buf *fields);
/* The same with printf-made fields: only for numbers and texts of our own. */
void PRINTF_LIKE(3, 4) run_tell(struct run *r, const char *name, const char *fmt, ...);
/* The same with fields that somebody else wrote: begin, write members with w, end. */
void run_fields_begin(struct jw *w, struct buf *b);
void run_fields_end(struct run *r, const char *name, struct jw *w);
double ms_since(uint64_t ns);

/* ---- run_steps.c ---- */
int run_steps_new(struct run *r, struct err *e); /* all of the plan's, none of them open */
void run_steps_begin(struct run *r); /* the package is there: start what may start */
void run_steps_soon(struct run *r);  /* look again, from the loop */
void run_steps_events(struct run *r, uint64_t wseq);
/* The link is back after it was down. */
void run_steps_resume(struct run *r);
void run_steps_cancel(struct run *r);
bool run_step_cancel(struct run *r, const char *step);
void run_steps_release(struct run *r);
void run_steps_finish(struct run *r); /* all done: close the session */

/* ---- run_files.c ---- */
int run_files_write_plan(struct run *r, struct err *e);
int run_journal_write(struct run *r, struct err *e);
int run_journal_read(struct run *r, struct err *e);
int run_journal_step(struct run *r, const struct run_step *s,
                     struct err *e); /* started, or finished */
int run_receipt_write(struct run *r, const struct step_run *s, struct err *e);
int run_status_print(const struct run *r, bool with_dir, struct buf *out, struct err *e);
int run_status_write(struct run *r, struct err *e);
/* Why the run is no success, masked: a step's own words may be in it. */
void run_error_text(const struct run *r, char out[sizeof(((struct err *)0)->msg)]);
int run_masked_write(struct run *r, const char *path, const char *text, size_t n, struct err *e);
/* The same for a JSON text, by its values. */
int run_masked_json(struct run *r, const char *path, const char *text, size_t n, struct err *e);

/* ---- left_files.c ---- */
/* Asks for files that nothing brought home, once; true: run_steps_finish is called again. */
bool left_files_ask(struct run *r);
/* All was at home when we came: says so if the proxy before us had not asked. */
void left_files_unasked(struct run *r);

/* ---- send.c ---- */
struct sending *sending_new(struct run *r, struct err *e); /* compresses; blocks for it */
void sending_start(struct sending *s);                     /* there is a link */
/* The provider brings it: its descriptor, borrowed.  Nothing is sent until sending_brought. */
int sending_expect(struct sending *s, uint64_t *size);
void sending_brought(struct sending *s, const char *path); /* NULL: it did not */
void sending_free(struct sending *s);
void sending_pump(struct sending *s);

/* ---- control.c ---- */
struct control *control_open(struct run *r, struct err *e);
void control_close(struct control *c);
void control_forget(const struct run *r); /* of a proxy that was killed; the run's lock is ours */
/* Asks a living run's proxy; out gets its answer (JSON).  ERR_NOT_FOUND: nobody is there. */
int control_ask(const char *run, const char *request, struct buf *out, struct err *e);

#endif
