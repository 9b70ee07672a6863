/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/query.h"

#include <string.h>

#include "protocol/base/cleanup.h"

enum { KEY_MAX = 256 };

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int url_decode(const char *text, size_t n, bool plus_is_space, struct buf *out, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)text[i];

		if (c == '+' && plus_is_space)
			c = ' ';
		if (c == '%') {
			int hi = n - i > 2 ? hex_digit(text[i + 1]) : -1;
			int lo = n - i > 2 ? hex_digit(text[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return err_set(e, ERR_PARSE, 0, "'%%' at byte %zu: want two hex "
					       "digits behind it", i);
			c = hi << 4 | lo;
			i += 2;
		}
		if (c == 0)
			return err_set(e, ERR_PARSE, 0, "a NUL byte");
		if (buf_putc(out, (uint8_t)c, e) < 0)
			return -1;
	}
	return 0;
}

static bool is_plain(char c, const char *keep)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return strchr("-._~", c) || (keep && strchr(keep, c));
}

int url_encode(const char *text, const char *keep, struct buf *out, struct err *e)
{
	for (; *text; text++) {
		int r = is_plain(*text, keep) ? buf_putc(out, (uint8_t)*text, e)
					      : buf_printf(out, e, "%%%02X", (uint8_t)*text);

		if (r < 0)
			return -1;
	}
	return 0;
}

static struct query_pair pair_at(const char *p)
{
	struct query_pair q = { 0 };
	size_t n;

	while (*p == '&')
		p++;
	if (!*p)
		return q;
	n = strcspn(p, "&");
	q.key = p;
	q.key_len = strcspn(p, "=&");
	q.value = q.key_len < n ? p + q.key_len + 1 : p + n;
	q.value_len = (size_t)(p + n - q.value);
	return q;
}

struct query_pair query_first(const char *query)
{
	return pair_at(query);
}

struct query_pair query_next(struct query_pair p)
{
	return pair_at(p.value + p.value_len);
}

static bool key_is(struct query_pair q, const char *key)
{
	struct buf decoded CLEANUP(buf_release);

	buf_init(&decoded, KEY_MAX);
	return url_decode(q.key, q.key_len, true, &decoded, NULL) == 0 &&
	       buf_len(&decoded) == strlen(key) &&
	       memcmp(buf_data(&decoded), key, strlen(key)) == 0;
}

int query_get(const char *query, const char *key, struct buf *out, struct err *e)
{
	for (struct query_pair q = query_first(query); q.key; q = query_next(q)) {
		if (!key_is(q, key))
			continue;
		if (url_decode(q.value, q.value_len, true, out, e) < 0)
			return err_wrap(e, "query parameter '%s'", key);
		return 1;
	}
	return 0;
}
