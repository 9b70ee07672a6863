/* SPDX-License-Identifier: Apache-2.0
 *
 * rundir - the directory of one run: files that users read, and the journal from which
 * another proxy can go on.
 *
 * One owner at a time: `lock` is held (an open file description lock, so that asking who has
 * it disturbs nobody) while a proxy works on it, `epoch` rises with each owner.  A proxy that
 * finds a newer epoch has been taken over and touches nothing.
 *
 *   .farstep/runs/RUN/     0700
 *     manifest.yaml cfg/STEP.json package.json     what is run (masked)
 *     events.jsonl metrics.jsonl receipts.jsonl status.json farstep.log
 *     logs/STEP.stdout logs/STEP.stderr            masked
 *     artifacts/STEP/...
 *     lock epoch journal/...                       how to go on: journal.h */
#ifndef FARSTEP_PROXY_RUNDIR_H
#define FARSTEP_PROXY_RUNDIR_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"

struct rundir {
	char run[LIMIT_RUN_ID + 1];
	char path[1024]; /* absolute */
	int fd;          /* the directory; -1 when closed */
	int lock_fd;     /* -1: opened for reading only */
	uint64_t epoch;
};

/* A new run id: sorts by time, "20261102t101112-3f9a1c07" (UTC; three hex digits of the
 * fraction of the second, five random ones). */
int run_id_new(char run[LIMIT_RUN_ID + 1], struct err *e);
/* Where run directories are: dir (option), else FARSTEP_RUNS, else .farstep/runs; absolute.
 * With make, made when missing, and a .gitignore in it; without, it need not exist. */
int rundir_root(const char *dir, char out[1024], bool make, struct err *e);
/* Makes the directory with its subdirectories and takes the lock (epoch 1).  ERR_EXISTS. */
int rundir_create(struct rundir *d, const char *root, const char *run, struct err *e);
/* RUN: a directory, a run id, a unique prefix, or "last".  ERR_NOT_FOUND names what there is. */
int rundir_find(const char *root, const char *run, char path[1024], struct err *e);
/* The ids of all runs below root, rising (so by time): *ret is one block that the caller
 * frees.  A root that does not exist holds none. */
int rundir_list(const char *root, char (**ret)[LIMIT_RUN_ID + 1], size_t *ret_n, struct err *e);
int rundir_open(struct rundir *d, const char *path, struct err *e); /* to read */
/* Takes the lock and raises the epoch.  ERR_BUSY when a living proxy holds it; with force
 * the epoch is raised all the same (the holder notices and goes, exit 6) and the lock is
 * waited for, blocking, at most 15 s (ERR_BUSY).  ERR_REPLACED: somebody else forced it as
 * well, and later. */
int rundir_lock(struct rundir *d, bool force, struct err *e);
bool rundir_is_locked(const struct rundir *d); /* does a living proxy hold it (perhaps we)? */
bool rundir_still_mine(
	const struct rundir
		*d); /* is the epoch still ours? cheap: called before writes that matter */
void rundir_close(struct rundir *d); /* lets the lock go; fine when half-built */

#endif
