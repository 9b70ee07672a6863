/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_process - the processes that envd started: their pipes, terminals, ends.
 *
 * Knows nothing of requests.  A process lives in the table until it has exited and its output is
 * over (or waiting for the output was given up); then, from envd 0.6.12 on, its end is
 * remembered for 30 s.  Its output goes to who watches it; to nobody it is lost (before 0.5.19:
 * it waits).  One watcher that is full stops the reading for all. */
#ifndef FARSTEP_E2B_ENVD_PROCESS_H
#define FARSTEP_E2B_ENVD_PROCESS_H

#include "mocks/e2b/envd_int.h"

enum {
	PROC_STD_CHUNK = 32 * 1024,
	PROC_PTY_CHUNK = 16 * 1024,
	PROC_INPUT_MAX = 20 * 1024 * 1024,	/* input that the process did not take yet */
	PROC_INPUT_HIGH = 256 * 1024,
	PROC_MAX = 4096,			/* in the table at once */
};

enum proc_stream { PROC_STDOUT, PROC_STDERR, PROC_PTY };

struct proc;

struct proc_spec {
	char *const *argv;	/* argv[0] is looked up in the PATH of envp */
	char *const *envp;
	const char *cwd;
	const struct user *user;
	const char *tag;	/* NULL for none */
	const char *config;	/* its ProcessConfig as JSON, for lists */
	bool has_stdin;		/* else /dev/null */
	bool pty;
	unsigned rows, cols;
	struct rlimit fd_limit;
	uint64_t timeout_ms;	/* then it is killed, watched or not; 0: never */
};

/* Embedded in who watches; zero before proc_watch. */
struct proc_watcher {
	/* 1 when full: nothing more comes until proc_watcher_go_on. */
	int (*on_data)(struct proc_watcher *w, enum proc_stream s, const uint8_t *p, size_t n);
	/* It is detached already; p stands during the call. */
	void (*on_end)(struct proc_watcher *w, const struct proc *p);
	struct proc *proc;	/* NULL when detached */
	bool full;
	struct proc_watcher *next;
};

/* A write that is told when the process has taken it, or never will; zero before proc_write. */
struct proc_write {
	void (*on_done)(struct proc_write *w, int sys);	/* errno, 0 if taken */
	struct proc *proc;	/* NULL when done */
	uint64_t until;
	struct proc_write *next;
};

struct procs *procs_new(struct envd *d, struct err *e);
void procs_free(struct procs *ps);	/* kills all that was started, with descendants */

/* ERR_SPAWN when it could not even be tried (a missing program is an exit with 127). */
struct proc *proc_start(struct procs *ps, const struct proc_spec *spec, struct err *e);
struct proc *proc_by_pid(const struct procs *ps, uint64_t pid);
/* As envd does it: only the first process that has a tag is ever found. */
struct proc *proc_by_tag(const struct procs *ps, const char *tag);
struct proc *proc_ended_by_pid(const struct procs *ps, uint64_t pid);
struct proc *proc_first(const struct procs *ps);
struct proc *proc_next(const struct proc *p);
pid_t proc_pid(const struct proc *p);
const char *proc_tag(const struct proc *p);
const char *proc_config(const struct proc *p);
int proc_status(const struct proc *p);	/* as waitpid gave it, once it has ended */
bool proc_has_pty(const struct proc *p);
bool proc_has_stdin(const struct proc *p);	/* open */

void proc_watch(struct proc *p, struct proc_watcher *w);
void proc_unwatch(struct proc_watcher *w);
void proc_watcher_go_on(struct proc_watcher *w);

/* Queues n bytes for its stdin or terminal.  ERR_LIMIT. */
int proc_write(struct proc *p, const void *data, size_t n, struct proc_write *w, struct err *e);
void proc_write_forget(struct proc_write *w);	/* the bytes go all the same */
void proc_close_stdin(struct proc *p);		/* after what is queued */
int proc_signal(struct proc *p, int sig, struct err *e);
int proc_resize(struct proc *p, unsigned rows, unsigned cols, struct err *e);

#endif
