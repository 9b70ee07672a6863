/* SPDX-License-Identifier: Apache-2.0
 *
 * tunnel - a connection with TLS, or through a proxy, as a unix socket of this process.
 *
 * libwebsockets is built without TLS and knows no proxies, and its client takes no connected
 * socket, only an address.  So libcurl connects, and when that stands a listener with an
 * abstract random name takes exactly one connection, from this process alone (by the kernel's
 * word, SO_PEERCRED); its bytes are pumped to the connection and back. */
#ifndef FARSTEP_SDK_TUNNEL_H
#define FARSTEP_SDK_TUNNEL_H

#include "sdk-wrapper/http_stream.h"

struct tunnel;

/* Connects to the host of url (https: with TLS).  on_ready, once: the name to connect to, which
 * begins with '@' as libwebsockets writes abstract names; or name NULL and the reason.  The
 * tunnel is closed by its owner in any case. */
struct tunnel *tunnel_open(struct http *h, struct loop *l, const char *url, uint32_t connect_ms,
			   void (*on_ready)(void *user, const char *name, const struct err *err),
			   void *user, struct err *e);
/* Sends what is at hand without waiting, then closes both ends.  NULL is fine. */
void tunnel_close(struct tunnel *t);

#endif
