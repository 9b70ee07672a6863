/* SPDX-License-Identifier: Apache-2.0
 *
 * address - HOST:PORT or unix:PATH, to listen on or to connect to. */
#ifndef FARSTEP_CHAOS_ADDRESS_H
#define FARSTEP_CHAOS_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "protocol/base/err.h"

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
	socklen_t len;
};

#define ADDRESS_TEXT 160

/* ERR_USAGE.  A host name is looked up once, here; "[::1]:80" for IPv6. */
int address_parse(const char *text, struct address *ret, struct err *e);
/* A listening descriptor, non-blocking; text gets the address with its real port.  A unix
 * socket that nobody listens on is replaced. */
int address_listen(const struct address *a, char text[ADDRESS_TEXT], struct err *e);
/* A descriptor that connects or is connected, non-blocking; -1 with errno. */
int address_connect(const struct address *a);
/* Removes the file of a unix socket. */
void address_unlink(const struct address *a);

#endif
