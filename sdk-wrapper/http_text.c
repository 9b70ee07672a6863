/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/http_text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool http_header(const struct http_response *r, const char *name, char *ret, size_t size)
{
	size_t len = strlen(name);
	bool found = false;

	for (const char *p = r->headers; *p;) {
		size_t line = strcspn(p, "\n"), end = line;

		if (line > len && p[len] == ':' && strncasecmp(p, name, len) == 0) {
			const char *v = p + len + 1;

			while (*v == ' ' || *v == '\t')
				v++;
			while (end && isspace((unsigned char)p[end - 1]))
				end--;
			snprintf(ret, size, "%.*s", v < p + end ? (int)(p + end - v) : 0, v);
			found = true;
		}
		p += line + (p[line] == '\n');
	}
	return found;
}

int http_escape(struct buf *out, const char *s, bool keep_slash, struct err *e)
{
	for (; *s; s++) {
		bool plain = isalnum((unsigned char)*s) || strchr("-._~", *s) ||
			     (keep_slash && *s == '/');
		int r = plain ? buf_putc(out, (uint8_t)*s, e)
			      : buf_printf(out, e, "%%%02X", (unsigned)(unsigned char)*s);

		if (r < 0)
			return -1;
	}
	return 0;
}
