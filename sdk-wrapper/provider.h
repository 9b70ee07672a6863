/* SPDX-License-Identifier: Apache-2.0
 *
 * provider - one kind of place where a sandbox can be.
 *
 * A provider does only what cannot be done through the worker: make the sandbox, get
 * the worker's program started in it, say where to connect, end it.  On this machine that is
 * done at once (create, state); elsewhere it takes its time on the caller's loop (make, keep,
 * look, let_go).
 *
 * The handle is plain data (struct sandbox): it is written into the run's journal, so
 * that another proxy can go on with it or destroy it after a crash. */
#ifndef FARSTEP_SDK_PROVIDER_H
#define FARSTEP_SDK_PROVIDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/json.h"
#include "protocol/base/loop.h"
#include "protocol/limits.h"

/* What is asked for.  Everything is borrowed until `done`. */
struct sandbox_spec {
	const char *run;		/* labels */
	const char *key_id;
	const char *worker_path;	/* the farstep-worker program on this machine */
	const char *token_sha256;	/* hex */
	const char *state_dir;		/* 0700 directory on disk, of this run alone */
	const char *socket_dir;		/* 0700 directory with a short path: unix sockets */
	const char *template_name;	/* NULL: default */
	uint32_t lease_ms;
	uint32_t life_ms;		/* of the whole run; 0: as long as the lease is renewed */
	bool network;			/* false: off */
	const char *const *hosts;	/* off but for these (egress.h); NULL: none */
	uint32_t cpu, memory_mb;	/* 0: the template's */
	bool build_template;		/* one of that size may be built when there is none */
	bool keep;
	int log_fd;			/* where the worker's standard error goes; -1: nowhere */
};

enum sandbox_state { SANDBOX_NONE, SANDBOX_RUNNING, SANDBOX_GONE, SANDBOX_UNKNOWN };

/* A sandbox, as the journal keeps it. */
struct sandbox {
	char provider[16];
	char id[128];		/* unique; what events and receipts call the sandbox */
	char address[512];	/* how to reach the worker: unix:PATH, ws://..., wss://... */
	char state_dir[512];	/* of the spec; removed by destroy */
	char run[LIMIT_RUN_ID + 1];	/* for which it was made: it takes that run's token */
	bool network;		/* of the spec */
	pid_t pid;		/* of the process here that is the sandbox; 0: none */
	uint64_t pid_start;	/* its start time (/proc/PID/stat field 22): fences a reused pid */
};

enum make_step { MADE_SANDBOX, MADE_UPLOAD, MADE_START };

/* A file that is wanted in the sandbox: size bytes of fd. */
struct make_file {
	int fd;
	uint64_t size;
};

struct make_hooks {
	void *user;
	/* May be NULL.  The request is on its way: while the provider is at work there is time
	 * for some of one's own, even if it blocks the loop. */
	void (*on_asked)(void *user);
	/* May be NULL.  took_ms: that step alone; bytes: of the upload, which may be left out. */
	void (*on_step)(void *user, enum make_step step, uint64_t took_ms, uint64_t bytes);
	/* May be NULL.  The sandbox is there and gets its worker: is there a package that could
	 * come along?  fd is borrowed until on_package, or let_go. */
	bool (*package)(void *user, struct make_file *ret);
	/* Once after a true, also later than on_done: it lies there under path (borrowed); NULL: it
	 * does not, and has to come over the session. */
	void (*on_package)(void *user, const char *path);
	/* Once: the sandbox is there and the worker's program was started (it may not listen yet),
	 * or why not.  Never from inside make. */
	void (*on_done)(void *user, const struct err *err);
	/* After a successful on_done, at most once, may be NULL: the worker ended, with its last
	 * words.  That it never comes means nothing: nobody may be there to tell. */
	void (*on_worker_end)(void *user, const struct err *why);
};

struct provider {
	const char *name;
	const char *isolation;	/* one line for people: what holds it apart */
	/* What of the spec and the target options it cannot do: -1 with ERR_UNSUPPORTED by name. */
	int (*check)(const struct sandbox_spec *spec, struct err *e);
	/* What the sandbox request would be, for --dry-run: appends one JSON object. */
	int (*describe)(const struct sandbox_spec *spec, struct buf *out, struct err *e);
	/* Starts sandbox and worker.  *ret is filled as far as known even before `done` so that
	 * it can be journalled and destroyed.  The worker may not listen yet when it returns:
	 * the caller connects and retries until its deadline, asking `state` in between. */
	int (*create)(struct loop *l, const struct sandbox_spec *spec, struct sandbox *ret,
		      struct err *e);
	enum sandbox_state (*state)(const struct sandbox *s);
	/* Instead of both, where it takes time; NULL otherwise.  make: like create; spec and *ret
	 * are borrowed until on_done.  keep: a sandbox that another proxy made.  The lease is
	 * renewed while the handle is held.  look: what is known; asks again in the background,
	 * and why (may be NULL) is for people.  let_go: the sandbox stays; not from a callback. */
	void *(*make)(struct loop *l, const struct sandbox_spec *spec, struct sandbox *ret,
		      const struct make_hooks *hooks, struct err *e);
	void *(*keep)(struct loop *l, const struct sandbox *s, struct err *e);
	enum sandbox_state (*look)(void *handle, const char **why);
	/* What it reaches from now on: all, or nothing but hosts (NULL: nothing at all).  on_done
	 * once, unless it is let go.  NULL: what was asked for at first stays. */
	int (*reach)(void *handle, bool network, const char *const *hosts,
		     void (*on_done)(void *user, const struct err *err), void *user, struct err *e);
	void (*let_go)(void *handle);
	/* Nobody uses it for now: it ends by itself after idle_ms.  NULL: the worker's lease sees
	 * to that.  Blocks at most deadline_ms. */
	int (*leave)(const struct sandbox *s, uint32_t idle_ms, int deadline_ms, struct err *e);
	/* Ends it and everything in it, removes its files.  "Already gone" is success.
	 * Blocks at most deadline_ms. */
	int (*destroy)(const struct sandbox *s, int deadline_ms, struct err *e);
};

extern const struct provider provider_local;	/* bubblewrap */
extern const struct provider provider_native;	/* no isolation */
extern const struct provider provider_e2b;	/* a microVM in a cloud */

/* NULL and a message that names the valid ones. */
const struct provider *provider_find(const char *name, struct err *e);
/* What an id consists of. */
#define SANDBOX_ID_BYTES \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
/* The name of the provider that calls its sandboxes so. */
const char *provider_of_id(const char *sandbox_id);

int sandbox_print(const struct sandbox *s, struct buf *out, struct err *e);	/* JSON object */
int sandbox_parse(const json *v, struct sandbox *ret, struct err *e);

#endif
