/* SPDX-License-Identifier: Apache-2.0
 *
 * here - what the providers on this machine (local, native) have in common: names and
 * directories of a sandbox, the worker's command line, and an end that leaves nothing. */
#ifndef FARSTEP_SDK_HERE_H
#define FARSTEP_SDK_HERE_H

#include "sdk-wrapper/process.h"
#include "sdk-wrapper/provider.h"

/* The words of the worker's command line behind its program, and their memory. */
struct here_worker {
	char listen[160];
	char lease[16];
	const char *argv[16];	/* argv[0] is for the caller; NULL at the end */
};

int here_check(const struct sandbox_spec *spec, const char *target, struct err *e);
/* Names it: id, address (socket_dir/w.sock), state_dir.  Touches nothing. */
int here_name(const struct sandbox_spec *spec, const char *provider, struct sandbox *ret,
	      struct err *e);
/* Makes state_dir, state_dir/root and socket_dir, all 0700. */
int here_make_dirs(const struct sandbox_spec *spec, struct err *e);
/* `socket` and `root` as the worker sees them; scratch: what it empties for the next session if the
 * sandbox is kept (NULL: nothing). */
void here_worker_args(const struct sandbox_spec *spec, const char *id, const char *program,
		      const char *socket, const char *root, const char *scratch,
		      struct here_worker *ret);
/* Appends {"provider":name,"argv":[...]}. */
int here_describe(const char *provider, const char *const *argv, size_t n, struct buf *out,
		  struct err *e);

enum sandbox_state here_state(const struct sandbox *s);
/* The path of a unix: address, NULL for others. */
const char *here_socket(const struct sandbox *s);
/* Removes socket and state directory; missing is fine. */
int here_remove_files(const struct sandbox *s, struct err *e);
/* How long of the deadline the worker has to end by itself after SIGTERM. */
int64_t here_grace_us(int deadline_ms);

#endif
