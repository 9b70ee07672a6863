/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_process - a process in an E2B sandbox, watched over a Connect stream.
 *
 * The stream may break; the process goes on then, and its output meanwhile is lost (envd
 * replays nothing): who needs all of it lets the process write to a file. */
#ifndef FARSTEP_SDK_ENVD_PROCESS_H
#define FARSTEP_SDK_ENVD_PROCESS_H

#include "sdk-wrapper/envd.h"

struct envd_process;

struct envd_command {
	const char *cmd;
	const char *const *args;	/* NULL at the end; NULL: none */
	const char *const *envs;	/* name, value, ..., NULL; NULL: none */
	const char *cwd;		/* NULL: the user's */
	bool has_stdin;			/* else /dev/null, with an envd since 0.3.0 */
	uint32_t timeout_ms;		/* envd kills it then; 0: never */
	bool twice_is_fine;	/* may go over a connection that was used before (see http.h) */
};

struct envd_exit {
	int code;
	bool exited;		/* else by a signal */
	char status[80];	/* "exit status 3", "signal: killed" */
	char error[200];
};

struct envd_hooks {
	void *user;
	void (*on_start)(void *user, uint32_t pid);
	void (*on_output)(void *user, bool is_stderr, const uint8_t *p, size_t n);
	/* Once, last: how it ended, or why nobody knows (x NULL).  The handle is gone after it. */
	void (*on_end)(void *user, const struct envd_exit *x, const struct failure *f);
};

/* NULL: it could not be prepared.  Never repeated by itself: see retry.h why. */
struct envd_process *envd_start(struct envd *d, const struct envd_command *cmd,
				const struct envd_hooks *hooks, struct err *e);
/* Watches one that runs, or ended less than 30 s ago (envd since 0.6.12). */
struct envd_process *envd_attach(struct envd *d, uint32_t pid, const struct envd_hooks *hooks,
				 struct err *e);
/* Stops watching; nothing is called any more, the process goes on.  NULL is fine. */
void envd_detach(struct envd_process *p);

/* SIGTERM or SIGKILL, to the process alone; ERR_UNSUPPORTED for others. */
struct envd_call *envd_signal(struct envd *d, uint32_t pid, int sig, const struct envd_end *end,
			      struct err *e);
/* Once only, each: what was sent twice would be read twice. */
struct envd_call *envd_send_stdin(struct envd *d, uint32_t pid, const void *p, size_t n,
				  const struct envd_end *end, struct err *e);
/* ERR_UNSUPPORTED with an envd before 0.5.2. */
struct envd_call *envd_close_stdin(struct envd *d, uint32_t pid, const struct envd_end *end,
				   struct err *e);
/* The answer has "processes", each with "pid" and "config". */
struct envd_call *envd_list(struct envd *d, const struct envd_end *end, struct err *e);

#endif
