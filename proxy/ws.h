/* SPDX-License-Identifier: Apache-2.0
 *
 * ws - the WebSocket carrier, client side; the only file here that knows libwebsockets. */
#ifndef FARSTEP_PROXY_WS_H
#define FARSTEP_PROXY_WS_H

#include "protocol/base/loop.h"
#include "protocol/carrier.h"

struct ws_client;

/* Adopts the loop: ws_client_pass is the process's main loop from now on. */
struct ws_client *ws_client_new(struct loop *l, struct err *e);
int ws_client_pass(struct ws_client *w); /* one round; blocks until something happened */
void ws_client_free(struct ws_client *w);

/* Begins to connect (proxy/ws_address.h says what an address is).  on_open follows, or
 * on_closed with the reason (a refused upgrade: "the worker answered 401").  The carrier is
 * owned by the driver: freed after on_closed.  NULL: it failed at once. */
struct carrier *ws_connect(struct ws_client *w, const char *address, const char *token,
                           void (*on_open)(struct carrier *c),
                           void (*on_closed)(struct carrier *c, int code, const char *reason),
                           void *user, struct err *e);

#endif
