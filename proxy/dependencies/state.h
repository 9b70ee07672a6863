/* SPDX-License-Identifier: Apache-2.0
 *
 * state - what the parts of dependencies share.
 *
 *   dependencies.c           the steps: when, and what follows
 *   dependencies/door.c      the network that the tool gets
 *   dependencies/journal.c   what another proxy needs to go on
 *   dependencies/tell.c      events, and the tool's log as an artifact
 *   dependencies/verdict.c   whether all is there, and the error if not
 *   dependencies/report.c    what a script reported (knows no run)
 *   dependencies/scripts.c   the scripts */
#ifndef FARSTEP_PROXY_DEPENDENCIES_STATE_H
#define FARSTEP_PROXY_DEPENDENCIES_STATE_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proxy/dependencies.h"
#include "proxy/dependencies/report.h"
#include "proxy/run.h"
#include "proxy/stdin_source.h"

#define DEPENDENCY_LOG "install.log"

struct dependency_tool {
	const char *step, *program, *option, *script;
};
extern const struct dependency_tool dependency_tools[TOOLS];

/* What becomes of one tool's requirements. */
struct need {
	char *config; /* of the step, JSON; NULL: nothing is required */
	bool done;
	bool asks; /* of the journal's config: the tool gets a network only for its work */
	struct dependency_report report;
	struct fetched *artifacts; /* one place more than the step's own, for the log */
	size_t n_artifacts;
	bool open;
	struct step_run sr;
	struct sink out, err;
	struct fetch fetch;
	struct call release;
};

struct dependencies {
	struct run *r;
	struct need needs[TOOLS];
	int tool; /* whose turn it is; TOOLS: all are done */
	bool running;
	struct call cancel;
	/* door.c */
	int go_fd, wait_fd; /* the step's standard input: a pipe; -1: it needs none */
	struct stdin_source *input;
	char **hosts;
	bool door_open;
	void (*then)(struct dependencies *d, struct err *e);
	struct err why; /* of the step that has ended */
};

static inline struct need *now(struct dependencies *d)
{
	return &d->needs[d->tool];
}

/* Without a network pip and npm would try for a long time. */
static inline bool dependencies_are_offline(const struct run *r)
{
	return strcmp(r->o->target, "local") == 0 && !r->o->network;
}

/* ---- door.c, for the turn's step ---- */
/* May a tool need a network that it only gets for that?  Then its step asks. */
bool dependencies_have_door(const struct run *r);
int dependency_door_begin(struct dependencies *d, struct err *e); /* sets its standard input */
/* The step has ended: then is called when nothing is open any more, or e says why it still is. */
void dependency_door_end(struct dependencies *d,
                         void (*then)(struct dependencies *d, struct err *e));
void dependency_door_release(struct dependencies *d);

/* ---- journal.c ---- */
int dependency_read_need(struct dependencies *d, int tool, struct err *e);
int dependency_read_report(struct dependencies *d, int tool, const char *path, struct err *e);
int dependency_keep_report(struct dependencies *d, struct err *e); /* the turn's need is done */

/* ---- tell.c, about the turn's need ---- */
void dependency_take_artifacts(struct dependencies *d); /* out of fetch, and the log */
void dependency_tell_report(struct dependencies *d);
void dependency_tell_artifacts(struct dependencies *d);
void dependency_tell_end(struct dependencies *d, const struct err *why); /* NULL: success */

/* ---- verdict.c ---- */
int dependency_judge(struct dependencies *d, struct err *e); /* 0: everything is there */

#endif
