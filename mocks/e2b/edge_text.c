/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/edge_text.h"

#include <string.h>

#include "protocol/base/json.h"

static const struct {
	int status;
	const char *message;
} cases[] = {
	[EDGE_NOT_FOUND] = { 502, "The sandbox was not found" },
	[EDGE_PORT_CLOSED] = { 502, "The sandbox is running but port is not open" },
	[EDGE_NO_TOKEN] = { 403, "Sandbox is secured with traffic access token. Token header "
				 "'e2b-traffic-access-token' is missing" },
	[EDGE_WRONG_TOKEN] = { 403, "Sandbox is secured with traffic access token. Provided token "
				    "in header 'e2b-traffic-access-token' is invalid" },
	[EDGE_IN_TRANSITION] = { 409, "The sandbox is still transitioning. Try again in a "
				      "moment." },
	[EDGE_QUOTA] = { 429, NULL },
	[EDGE_RESERVED] = { 404, "This endpoint is reserved for the E2B control plane and is not "
				 "reachable through the sandbox URL" },
};

int edge_status(enum edge_case c)
{
	return cases[c].status;
}

bool edge_wants_html(const char *user_agent, const char *accept)
{
	if (accept && strstr(accept, "application/json") && !strstr(accept, "text/html"))
		return false;
	return user_agent && strstr(user_agent, "Mozilla/");
}

static int put_escaped(const char *text, struct buf *out, struct err *e)
{
	for (; *text; text++) {
		const char *as = *text == '<' ? "&lt;" : *text == '&' ? "&amp;" : NULL;

		if ((as ? buf_puts(out, as, e) : buf_putc(out, (uint8_t)*text, e)) < 0)
			return -1;
	}
	return 0;
}

static int put_page(enum edge_case c, const char *sandbox, const char *message, struct buf *out,
		    struct err *e)
{
	if (buf_printf(out, e, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>%d"
			       "</title></head>\n<body><h1>",
		       cases[c].status) < 0 ||
	    put_escaped(message, out, e) < 0 ||
	    buf_printf(out, e, "</h1><p>Sandbox %s</p></body></html>\n", sandbox) < 0)
		return -1;
	return 0;
}

int edge_body(enum edge_case c, const char *sandbox, unsigned port, const char *text, bool html,
	      struct buf *out, struct err *e)
{
	const char *message = c == EDGE_QUOTA ? text : cases[c].message;
	struct jw w;

	if (html)
		return put_page(c, sandbox, message, out, e);
	jw_init(&w, out);
	jw_obj(&w);
	if (c != EDGE_RESERVED)
		jw_kstr(&w, "sandboxId", sandbox);
	jw_kstr(&w, "message", message);
	if (c == EDGE_PORT_CLOSED)
		jw_kint(&w, "port", port);
	if (c == EDGE_RESERVED)
		jw_kstr(&w, "path", text);
	jw_kint(&w, "code", cases[c].status);
	jw_end(&w);
	return jw_done(&w, e);
}
