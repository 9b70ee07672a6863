/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_int - what the files of the role envd share: the daemon's state, users, paths, faults. */
#ifndef FARSTEP_E2B_ENVD_INT_H
#define FARSTEP_E2B_ENVD_INT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "mocks/e2b/http.h"
#include "protocol/base/buf.h"
#include "protocol/base/json.h"
#include "protocol/base/loop.h"

enum {
	ENVD_FAULTS = 16,
	ENVD_ENV_MAX = 512,	/* global variables */
	ENVD_NAME = 64,
	ENVD_CONNECTIONS = 1024,
	ENVD_IDLE_S = 640,
	ENVD_EXIT_KEPT_MS = 30000,
	ENVD_KEEPALIVE_S = 90,
	ENVD_JSON_DEPTH = 32,
};

/* --- faults --- */

struct envd_fault {
	char what[32];		/* "process:drop" */
	uint64_t at;		/* bytes, behind '@' */
	int64_t left;		/* how often still; -1: always */
};

int envd_fault_parse(const char *spec, struct envd_fault *ret, struct err *e);

/* --- the daemon --- */

struct procs;
struct watchers;

struct envd {
	struct loop *loop;
	struct http_server *server;
	char *token;			/* NULL: open */
	char version[32];
	char default_user[ENVD_NAME];
	char default_workdir[PATH_MAX];	/* "" for none */
	const char *passwd;		/* path of the user table */
	char *env[ENVD_ENV_MAX + 1];	/* NAME=VALUE; NULL at the end */
	struct envd_fault faults[ENVD_FAULTS];
	unsigned n_faults;
	struct rlimit fd_limit;		/* of what is started */
	struct procs *procs;
	struct watchers *watchers;
};

/* Is the version that is imitated this one or a later one? */
bool envd_since(const struct envd *d, const char *version);
/* Does the fault apply, now?  Counts it.  NULL if not. */
const struct envd_fault *envd_fault(struct envd *d, const char *what);
/* Sets or replaces a global variable.  ERR_LIMIT. */
int envd_setenv(struct envd *d, const char *name, const char *value, struct err *e);
const char *envd_getenv(const struct envd *d, const char *name);	/* NULL if unset */

/* One function answers each kind of request; http_on is theirs to call. */
void envd_on_request(struct http *h, void *envd);
void envd_get_files(struct envd *d, struct http *h);
void envd_post_files(struct envd *d, struct http *h);
void envd_compose(struct envd *d, struct http *h);
void envd_rpc(struct envd *d, struct http *h);		/* /package.Service/Method */
void envd_misc(struct envd *d, struct http *h);		/* /health /init /metrics /envs */

/* {"code":status,"message":".."} */
void envd_fail(struct http *h, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);
void envd_404(struct http *h);		/* as Go's router says it */

/* --- envd_auth.c --- */

bool envd_token_ok(const struct envd *d, const struct http *h);
/* For /files: by token or by signature; op is "read" or "write".  ERR_DENIED. */
int envd_signature_ok(const struct envd *d, const struct http *h, const char *op, struct err *e);

struct user {
	uid_t uid;
	gid_t gid;
	char name[ENVD_NAME];
	char home[PATH_MAX];
};

/* ERR_NOT_FOUND. */
int user_find(const struct envd *d, const char *name, struct user *ret, struct err *e);
/* The names of an owner; numbers where there are none. */
void user_names(const struct envd *d, uid_t uid, gid_t gid, char owner[ENVD_NAME],
		char group[ENVD_NAME]);
/* Absolute and clean; relative paths and "~" start at the user's home, and an empty one is the
 * default working directory (or the home).  ERR_INVALID_PARAMS. */
int path_resolve(const struct envd *d, const struct user *u, const char *path, char ret[PATH_MAX],
		 struct err *e);
/* The missing directories of path, 0755, owned by the user. */
int path_make_dirs(const struct user *u, const char *path, struct err *e);
/* The directory that path is in: "/a/b" of "/a/b/c". */
void path_parent(const char *path, char ret[PATH_MAX]);
const char *path_base(const char *path);
/* Gives it to the user where we may; the one user of a user namespace may not. */
int path_give(int dirfd, const char *path, const struct user *u, struct err *e);

#endif
