/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON is nearly YAML; this is the rest. */
#include <stdlib.h>
#include <string.h>

#include "proxy/yaml.h"

enum { UNIT = 6 }; /* \uXXXX */

static uint32_t code_unit(const char *escape)
{
	char hex[5];

	memcpy(hex, escape + 2, 4);
	hex[4] = 0;
	return (uint32_t)strtoul(hex, NULL, 16);
}

/* Of a pair of escapes. */
static int put_pair(struct buf *out, const char *p, struct err *e)
{
	uint32_t c = 0x10000 + ((code_unit(p) & 0x3ff) << 10) + (code_unit(p + UNIT) & 0x3ff);
	const char utf8[] = {
		(char)(0xf0 | c >> 18),
		(char)(0x80 | (c >> 12 & 0x3f)),
		(char)(0x80 | (c >> 6 & 0x3f)),
		(char)(0x80 | (c & 0x3f)),
	};

	return buf_put(out, utf8, sizeof(utf8), e);
}

/* Returns how many bytes of the text it took, or -1. */
static int put_escape(struct buf *out, const char *p, struct err *e)
{
	bool is_unit = p[1] == 'u';

	if (p[1] == '/')
		return buf_putc(out, '/', e) < 0 ? -1 : 2;
	if (is_unit && (code_unit(p) & 0xfc00) == 0xd800)
		return put_pair(out, p, e) < 0 ? -1 : 2 * UNIT;
	return buf_put(out, p, is_unit ? UNIT : 2, e) < 0 ? -1 : is_unit ? UNIT : 2;
}

/* Those of up to three bytes that YAML refuses, or takes for the end of a line. */
static bool is_special(uint32_t c)
{
	return (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
	       c == 0xfffe || c == 0xffff;
}

static int put_character(struct buf *out, const char *p, size_t n, struct err *e)
{
	const uint8_t *b = (const uint8_t *)p;
	uint32_t c = n == 1   ? b[0]
	             : n == 2 ? (uint32_t)(b[0] & 0x1f) << 6 | (b[1] & 0x3f)
	             : n == 3 ? (uint32_t)(b[0] & 0x0f) << 12 | (uint32_t)(b[1] & 0x3f) << 6 |
	                                (b[2] & 0x3f)
	                      : 0;

	return is_special(c) ? buf_printf(out, e, "\\u%04x", (unsigned)c) : buf_put(out, p, n, e);
}

int yaml_from_json(const char *text, size_t len, struct buf *out, struct err *e)
{
	const char *end = text + len;

	while (text < end) {
		int took = (int)json_utf8_len(text, end);

		if (*text == '\\')
			took = put_escape(out, text, e);
		else if (put_character(out, text, (size_t)took, e) < 0)
			took = -1;
		if (took < 0)
			return -1;
		text += took;
	}
	return 0;
}
