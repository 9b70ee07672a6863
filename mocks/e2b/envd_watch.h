/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_watch - who wants to know what happens in a directory: WatchDir streams it, a watcher
 * keeps it until it is asked.  Over inotify. */
#ifndef FARSTEP_E2B_ENVD_WATCH_H
#define FARSTEP_E2B_ENVD_WATCH_H

#include "mocks/e2b/envd_int.h"

struct rpc;

enum {
	WATCH_DIRS_MAX = 8192,		/* directories of one watch */
	WATCH_EVENTS_MAX = 8 * 1024 * 1024,	/* bytes of JSON that wait to be asked for */
	WATCHERS_MAX = 256,
};

struct watchers *watchers_new(struct envd *d, struct err *e);
void watchers_free(struct watchers *ws);	/* NULL is fine */

void on_watch_dir(struct rpc *r, const json *message);
void on_create_watcher(struct rpc *r, const json *message);
void on_watcher_events(struct rpc *r, const json *message);
void on_remove_watcher(struct rpc *r, const json *message);

#endif
