/* SPDX-License-Identifier: Apache-2.0
 *
 * egress - where a sandbox may go when it may not go everywhere: the list of --network; pure.
 *
 * An entry is a host name (api.example.org), all names below a domain (*.example.org), an IPv4
 * address, or a network of them (10.1.0.0/16).  No ports, no URLs. */
#ifndef FARSTEP_SDK_EGRESS_H
#define FARSTEP_SDK_EGRESS_H

#include <stddef.h>

#include "protocol/base/err.h"

enum { EGRESS_MAX = 128 };	/* entries of a list */

/* "A,B,..." as a list with NULL at its end, in one allocation (free).  NULL with ERR_USAGE that
 * names the entry and what is wrong with it. */
char **egress_parse(const char *text, struct err *e);

#endif
