/* SPDX-License-Identifier: Apache-2.0
 *
 * mark - what this machine knows of a sandbox that it made or uses, and whether somebody does.
 *
 * A directory RUNTIME/RUN a sandbox, RUN being the run for which it was made: "sandbox.json" says
 * what it is, and "lock" is held (shared) by every proxy that uses it.  Nothing in it is secret:
 * the token follows from the user key and RUN.  The sockets of the sandbox, if it is on this
 * machine, lie there too. */
#ifndef FARSTEP_PROXY_MARK_H
#define FARSTEP_PROXY_MARK_H

#include "sdk-wrapper/provider.h"

struct mark {
	struct sandbox sandbox;
	char key_id[17];
	char run_dir[1024];	/* "": no run directory, as with exec */
	bool keep;		/* it is meant to stay when nobody uses it */
	uint64_t born_us;
};

/* RUNTIME/RUN. */
int mark_dir(const char *run, char out[256], struct err *e);
/* Makes the directory and says that it is used, until the descriptor *ret is closed. */
int mark_make(const char *dir, int *ret, struct err *e);
/* Says what it is, in place of what was said before. */
int mark_write(const char *dir, const struct mark *m, struct err *e);
int mark_read(const char *dir, struct mark *ret, struct err *e);
/* Uses one that is there.  ERR_NOT_FOUND, or ERR_BUSY while somebody ends it. */
int mark_hold(const char *dir, int *ret, struct err *e);
bool mark_is_held(const char *dir);
bool mark_has_lock(const char *dir);
/* Nobody begins to use it until the descriptor is closed.  ERR_BUSY: somebody does already. */
int mark_seize(const char *dir, int *ret, struct err *e);
/* Removes mark and directory; what else lies there keeps the directory. */
void mark_remove(const char *dir);

#endif
