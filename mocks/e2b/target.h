/* SPDX-License-Identifier: Apache-2.0
 *
 * target - whom a request is for: the control API, or a port of a sandbox.  Pure computation.
 *
 * The host "sandbox.*", "localhost" and numeric ones are shared by all sandboxes: there the
 * headers E2b-Sandbox-Id and E2b-Sandbox-Port choose; without either it is the control API.
 * Elsewhere the first label does, "<port>-<id>", or "<port>-<id>-<client>" as it once was; if
 * it has another shape, the control API is meant. */
#ifndef FARSTEP_E2B_TARGET_H
#define FARSTEP_E2B_TARGET_H

#include <stdbool.h>

#define SANDBOX_ID_MAX 64

enum target_kind {
	TARGET_CONTROL,
	TARGET_SANDBOX,
	TARGET_NO_HEADER,	/* one of the two is missing */
	TARGET_BAD_ID,
	TARGET_BAD_PORT,
};

struct target {
	enum target_kind kind;
	char id[SANDBOX_ID_MAX];	/* of TARGET_SANDBOX */
	unsigned port;			/* 1 to 65535 */
};

/* Each may be NULL: the value of Host, E2b-Sandbox-Id, E2b-Sandbox-Port. */
struct target target_find(const char *host, const char *id, const char *port);
/* Letters and digits in lower case, at most SANDBOX_ID_MAX - 1; what follows a '-' (the client
 * id of old) is not copied. */
bool sandbox_id_parse(const char *text, char ret[SANDBOX_ID_MAX]);

#endif
