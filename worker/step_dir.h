/* SPDX-License-Identifier: Apache-2.0
 *
 * step_dir - a step's directory, steps/STEP.N of its session, which can be made only once.
 *
 *   claim            whose it is, one line; the keeper adds the record as a second one
 *   config.json      and inputs.json
 *   out  artifacts   what the step makes for others, and for home
 *   and the files of the keeper (keeper.h).  checkpoints/STEP is for all attempts.
 *
 * On a disk each file and directory takes its time.  So in a session with several steps those of
 * the next one are made while a step runs, as steps/.next: a rename that replaces nothing is its
 * claim. */
#ifndef FARSTEP_WORKER_STEP_DIR_H
#define FARSTEP_WORKER_STEP_DIR_H

#include "protocol/base/buf.h"

struct session;

/* The claim: after 0, of which *fd is the directory, this (step, attempt) can never start a second
 * time.  On failure nothing of it is there. */
int step_dir_claim(struct session *s, const char *id, int attempt, const struct buf *claim, int *fd,
                   struct err *e);
/* A file in it; one that is there is replaced. */
int step_dir_put(int fd, const char *name, const struct buf *b, struct err *e);
/* The next one, if there is none yet.  That it fails is no error. */
void step_dir_prepare(struct session *s);
/* What a worker before this one had prepared. */
void step_dir_forget(struct session *s);

#endif
