/* SPDX-License-Identifier: Apache-2.0
 *
 * edge_text - what the edge itself says: JSON, or a page for a browser.  Pure computation. */
#ifndef FARSTEP_E2B_EDGE_TEXT_H
#define FARSTEP_E2B_EDGE_TEXT_H

#include <stdbool.h>

#include "protocol/base/buf.h"

enum edge_case {
	EDGE_NOT_FOUND,		/* 502 */
	EDGE_PORT_CLOSED,	/* 502 */
	EDGE_NO_TOKEN,		/* 403 */
	EDGE_WRONG_TOKEN,	/* 403 */
	EDGE_IN_TRANSITION,	/* 409 */
	EDGE_QUOTA,		/* 429: `text` is the message */
	EDGE_RESERVED,		/* 404: `text` is the path */
};

int edge_status(enum edge_case c);
/* sandbox: its id.  port and text: where the case has them. */
int edge_body(enum edge_case c, const char *sandbox, unsigned port, const char *text, bool html,
	      struct buf *out, struct err *e);
/* Does this look like a browser that shows a page?  Each may be NULL. */
bool edge_wants_html(const char *user_agent, const char *accept);

#endif
