/* SPDX-License-Identifier: Apache-2.0
 *
 * crash - a keeper as the tracer of its step: when a process is about to die of a fault, its
 * backtrace is written first.
 *
 *   crash.c          ptrace: follows every descendant, passes every signal on
 *   crash_report.c   one stopped process into a text
 *
 * For steps with `backtrace: true` only; without it nothing here runs.  What is traced cannot be
 * traced by another (gdb, strace inside the step), and gains no rights from set-user-id bits.
 * Reports are DIR/crash.PID.txt: one a process, CRASH_MAX a step. */
#ifndef FARSTEP_WORKER_CRASH_H
#define FARSTEP_WORKER_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "protocol/base/buf.h"

enum { CRASH_MAX = 16, CRASH_BYTES = 64 * 1024 };

/* Does this system let a process be traced by its parent?  ERR_POLICY with the reason. */
int crash_check(struct err *e);

/* The leader, which was spawned with `traced` and has just reached exec: follows it and whatever
 * it will start.  -1: it runs on, but is not traced.  dir is borrowed for the process's life. */
int crash_follow(pid_t leader, const char *dir, struct err *e);

/* What waitpid(-1, ..., __WALL) said.  true: a stop, which has been dealt with; false: an end. */
bool crash_on_status(pid_t pid, int status);

/* Appends "; see crash.123.txt" to why a step failed, if there is such a file. */
void crash_note(char *error, size_t size);

/* crash_report.c: the text about a traced thread that is stopped by sig; at most
 * CRASH_BYTES.  Best effort: what cannot be read is said to be so. */
void crash_report(pid_t pid, pid_t tid, int sig, struct buf *out);

#endif
