/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_package - a run's package into a sandbox, beside what brings the worker.
 *
 * A small one travels in the worker's own request (e2b_worker.h); this is for those that are too
 * large for that, in parts at once, and for sandboxes whose template has the worker. */
#ifndef FARSTEP_SDK_E2B_PACKAGE_H
#define FARSTEP_SDK_E2B_PACKAGE_H

#include "sdk-wrapper/envd.h"

/* A package of at most so many bytes goes in one request. */
enum { E2B_PACKAGE_ONE_REQUEST = 8 << 20 };

struct e2b_package;

/* Where it will lie; %s is the id that names all files of this sandbox's worker. */
#define E2B_PACKAGE_PATH "/tmp/farstep-%s/package"

/* fd and sandbox are borrowed until on_end (never from inside this call; NULL: it is there). */
struct e2b_package *e2b_package_start(struct loop *l, struct http *h, const struct e2b_env *env,
				      const struct e2b_sandbox *sandbox, const char *unique, int fd,
				      uint64_t len,
				      void (*on_end)(void *user, const struct err *err),
				      void *user, struct err *e);
void e2b_package_cancel(struct e2b_package *p);	/* also after its end; NULL is fine */

#endif
