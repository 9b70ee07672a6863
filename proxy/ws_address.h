/* SPDX-License-Identifier: Apache-2.0
 *
 * ws_address - where a worker listens, taken apart; pure.
 *
 *   unix:PATH
 *   ws://HOST:PORT[/PATH][#HEADERS]
 *   wss://HOST[:PORT][/PATH][#HEADERS]
 *
 * HEADERS ("E2b-Sandbox-Id=i0123&E2b-Sandbox-Port=49999") are sent with the upgrade request: an
 * edge that serves many sandboxes on one host finds the sandbox by them.  The path is
 * /farstep unless given. */
#ifndef FARSTEP_PROXY_WS_ADDRESS_H
#define FARSTEP_PROXY_WS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/err.h"

enum { WS_HEADERS_MAX = 4 };

struct ws_address {
	char host[256];   /* unix: the path with a '+' before it; else a name or number */
	int port;         /* 0: unix */
	char shown[264];  /* the Host header */
	char path[128];
	/* What must be connected by libcurl, because libwebsockets cannot: TLS, and names (it
	 * would wait for the resolver, and knows no proxy).  "": it connects itself. */
	char tunnel[300];
	struct {
		char name[64], value[200];
	} headers[WS_HEADERS_MAX];
	int n_headers;
};

/* How much of it may be shown: headers may hold a token. */
size_t ws_address_public(const char *text);
/* ERR_USAGE. */
int ws_address_parse(const char *text, struct ws_address *ret, struct err *e);

#endif
