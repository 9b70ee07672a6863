/* SPDX-License-Identifier: Apache-2.0
 *
 * ws - the WebSocket carrier, server side; the only file here that knows libwebsockets.
 *
 * Connections are accepted by us and adopted by libwebsockets; who has not shown the token
 * in time, or is one too many, is dropped.  Refusals happen before the upgrade. */
#ifndef FARSTEP_WORKER_WS_H
#define FARSTEP_WORKER_WS_H

#include <stdbool.h>

#include "protocol/base/hash.h"
#include "protocol/base/loop.h"
#include "protocol/carrier.h"

struct ws_server;

struct ws_server_hooks {
	void *arg;
	/* A connection with a good token.  Sets the carrier's on_ functions.  false: no room
	 * (4004). */
	bool (*on_open)(void *arg, struct carrier *c);
	/* GET /healthz: is all well? */
	bool (*is_healthy)(void *arg);
	int64_t heartbeat_ms; /* between pings to a silent peer */
};

/* Adopts the loop: ws_server_run is the process's main loop from now on. */
struct ws_server *ws_server_new(struct loop *l, int listen_fd,
                                const uint8_t token_sha256[SHA256_LEN],
                                const struct ws_server_hooks *hooks, struct err *e);
/* One round of the nested loops; blocks until something happened. */
int ws_server_pass(struct ws_server *s);
void ws_server_stop_accepting(struct ws_server *s);
void ws_server_free(struct ws_server *s);

#endif
