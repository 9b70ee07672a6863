/* SPDX-License-Identifier: Apache-2.0
 *
 * The strict half of json: one pass over the text, without recursion, that
 * accepts what RFC 8259 calls JSON and refuses what cJSON would quietly change.
 * Whatever passes here, cJSON parses; so a later failure means no memory. */
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"

enum {
	DEEPEST = 64,		/* levels: one bit each */
	LONGEST_NUMBER = 63,	/* cJSON copies numbers to a buffer of 64 */
	LARGEST_EXPONENT = 307,	/* beyond, a double may become infinite */
	FEW_KEYS = 8,		/* compared each with each; more are sorted */
	INLINE_KEYS = 64,	/* more are on the heap */
};

/* The inside of a string that passed the check. */
struct str {
	const char *p;
	size_t len;
	bool escaped;
};

/* Keys of all open objects, the innermost last: an object's keys are checked
 * and dropped when it closes. */
struct scan {
	const char *text;
	const char *p;
	const char *end;
	unsigned depth;
	unsigned max_depth;
	uint64_t in_object;		/* bit per level */
	size_t first_key[DEEPEST];	/* of each level */
	struct str *keys;
	size_t key_count;
	size_t key_cap;
	struct str inline_keys[INLINE_KEYS];
	struct err *e;
};

static int bad_at(const struct scan *s, const char *at, const char *why)
{
	return err_set(s->e, ERR_PARSE, 0, "json: byte %zu: %s", (size_t)(at - s->text), why);
}

static int bad(const struct scan *s, const char *why)
{
	return bad_at(s, s->p, s->p == s->end ? "the text ends too early" : why);
}

/* The byte at the cursor, -1 at the end. */
static int peek(const struct scan *s)
{
	return s->p < s->end ? (unsigned char)*s->p : -1;
}

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
}

/* --- strings --- */

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Four hex digits at p, or -1. */
static long hex4(const char *p, const char *end)
{
	long v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int d = hex_digit((unsigned char)p[i]);

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

static bool is_high(long u) { return u >= 0xd800 && u <= 0xdbff; }
static bool is_low(long u) { return u >= 0xdc00 && u <= 0xdfff; }

/* At the "u" of an escape. */
static int scan_unicode(struct scan *s)
{
	long u = hex4(s->p + 1, s->end);

	if (u < 0)
		return bad(s, "\\u wants four hex digits");
	if (u == 0)
		return bad(s, "\\u0000 is not allowed");
	if (is_low(u))
		return bad(s, "half a surrogate pair");
	s->p += 5;
	if (!is_high(u))
		return 0;
	if (s->end - s->p < 6 || memcmp(s->p, "\\u", 2) != 0 || !is_low(hex4(s->p + 2, s->end)))
		return bad(s, "half a surrogate pair");
	s->p += 6;
	return 0;
}

static int scan_escape(struct scan *s)
{
	int c;

	s->p++;
	c = peek(s);
	if (c == 'u')
		return scan_unicode(s);
	if (c <= 0 || !strchr("\"\\/bfnrt", c))
		return bad(s, "no such escape");
	s->p++;
	return 0;
}

size_t json_utf8_len(const char *text, const char *end)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	if (n == 1)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4 || (size_t)(end - text) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90))
		return 0;	/* a shorter form exists */
	if ((p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;	/* a surrogate; past U+10FFFF */
	return n;
}

/* At the opening quote; leaves the cursor behind the closing one. */
static int scan_string(struct scan *s, struct str *ret)
{
	const char *start = ++s->p;
	bool escaped = false;
	size_t n;

	for (;;) {
		int c = peek(s);

		if (c == '"')
			break;
		if (c < 0x20)
			return bad(s, "a control character in a string");
		if (c == '\\') {
			escaped = true;
			if (scan_escape(s) < 0)
				return -1;
			continue;
		}
		n = json_utf8_len(s->p, s->end);
		if (n == 0)
			return bad(s, "invalid UTF-8");
		s->p += n;
	}
	*ret = (struct str){ start, (size_t)(s->p - start), escaped };
	s->p++;
	return 0;
}

/* Decodes a checked string, a character at a time. */
struct decoder {
	const char *p;
	const char *end;
	unsigned char out[4];
	unsigned at;
	unsigned len;
};

static unsigned put_utf8(long u, unsigned char out[4])
{
	if (u < 0x80) {
		out[0] = (unsigned char)u;
		return 1;
	}
	if (u < 0x800) {
		out[0] = (unsigned char)(0xc0 | u >> 6);
		out[1] = (unsigned char)(0x80 | (u & 0x3f));
		return 2;
	}
	if (u < 0x10000) {
		out[0] = (unsigned char)(0xe0 | u >> 12);
		out[1] = (unsigned char)(0x80 | (u >> 6 & 0x3f));
		out[2] = (unsigned char)(0x80 | (u & 0x3f));
		return 3;
	}
	out[0] = (unsigned char)(0xf0 | u >> 18);
	out[1] = (unsigned char)(0x80 | (u >> 12 & 0x3f));
	out[2] = (unsigned char)(0x80 | (u >> 6 & 0x3f));
	out[3] = (unsigned char)(0x80 | (u & 0x3f));
	return 4;
}

/* Behind the backslash. */
static void decode_escape(struct decoder *d)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *at;
	long u;

	if (*d->p != 'u') {
		at = strchr(from, *d->p);
		d->out[0] = (unsigned char)(at ? to[at - from] : *d->p);
		d->len = 1;
		d->p++;
		return;
	}
	u = hex4(d->p + 1, d->end);
	d->p += 5;
	if (is_high(u)) {
		u = 0x10000 + ((u - 0xd800) << 10) + (hex4(d->p + 2, d->end) - 0xdc00);
		d->p += 6;
	}
	d->len = put_utf8(u, d->out);
}

/* The next byte of the decoded string, -1 at its end. */
static int next_byte(struct decoder *d)
{
	if (d->at < d->len)
		return d->out[d->at++];
	if (d->p >= d->end)
		return -1;
	if (*d->p != '\\')
		return (unsigned char)*d->p++;
	d->p++;
	decode_escape(d);
	d->at = 1;
	return d->out[0];
}

/* Orders by the decoded bytes, so that "a" and "\u0061" are the same key. */
static int compare_keys(const void *a, const void *b)
{
	const struct str *x = a, *y = b;
	struct decoder dx = { .p = x->p, .end = x->p + x->len };
	struct decoder dy = { .p = y->p, .end = y->p + y->len };
	int cx, cy;

	if (!x->escaped && !y->escaped) {
		cx = memcmp(x->p, y->p, x->len < y->len ? x->len : y->len);
		return cx ? cx : (x->len > y->len) - (x->len < y->len);
	}
	do {
		cx = next_byte(&dx);
		cy = next_byte(&dy);
	} while (cx == cy && cx >= 0);
	return cx - cy;
}

/* --- numbers --- */

static bool is_digit(int c) { return c >= '0' && c <= '9'; }

static int scan_digits(struct scan *s)
{
	if (!is_digit(peek(s)))
		return bad(s, "want a digit");
	while (is_digit(peek(s)))
		s->p++;
	return 0;
}

/* Behind the "e".  whole: digits before the point, of which each moves the
 * exponent by one. */
static int scan_exponent(struct scan *s, long whole)
{
	bool negative = peek(s) == '-';
	long value = 0;

	if (negative || peek(s) == '+')
		s->p++;
	for (const char *p = s->p; p < s->end && is_digit(*p); p++)
		value = value > 100000 ? value : 10 * value + (*p - '0');
	if (!negative && value + whole - 1 > LARGEST_EXPONENT)
		return bad(s, "a number too large");
	return scan_digits(s);
}

static int scan_number(struct scan *s)
{
	const char *start = s->p;
	long whole;

	if (peek(s) == '-')
		s->p++;
	if (peek(s) == '0' && s->end - s->p > 1 && is_digit(s->p[1]))
		return bad(s, "a number must not start with 0");
	whole = -(s->p - start);
	if (scan_digits(s) < 0)
		return -1;
	whole += s->p - start;
	if (peek(s) == '.') {
		s->p++;
		if (scan_digits(s) < 0)
			return -1;
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->p++;
		if (scan_exponent(s, whole) < 0)
			return -1;
	}
	if (s->p - start > LONGEST_NUMBER)
		return bad_at(s, start, "a number of more than 63 characters");
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return bad(s, "want a value");
	s->p += n;
	return 0;
}

/* --- objects and arrays --- */

static bool in_object(const struct scan *s)
{
	return s->depth && s->in_object >> (s->depth - 1) & 1;
}

static int open_level(struct scan *s, bool object)
{
	uint64_t bit;

	if (s->depth >= s->max_depth)
		return err_set(s->e, ERR_LIMIT, 0, "json: byte %zu: deeper than %u levels",
			       (size_t)(s->p - s->text), s->max_depth);
	bit = UINT64_C(1) << s->depth;
	s->in_object = object ? s->in_object | bit : s->in_object & ~bit;
	s->first_key[s->depth++] = s->key_count;
	s->p++;
	return 0;
}

static int add_key(struct scan *s, struct str key)
{
	size_t cap = 2 * s->key_cap;
	struct str *keys;

	if (s->key_count == s->key_cap) {
		keys = malloc(cap * sizeof(*keys));
		if (!keys)
			return err_set(s->e, ERR_NO_MEMORY, 0, "json: %zu keys", cap);
		memcpy(keys, s->keys, s->key_count * sizeof(*keys));
		if (s->keys != s->inline_keys)
			free(s->keys);
		s->keys = keys;
		s->key_cap = cap;
	}
	s->keys[s->key_count++] = key;
	return 0;
}

static int twice(const struct scan *s, const struct str *a, const struct str *b)
{
	return bad_at(s, (a->p > b->p ? a->p : b->p) - 1, "a key comes twice in one object");
}

static int check_few(const struct scan *s, const struct str *keys, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (compare_keys(&keys[i], &keys[j]) == 0)
				return twice(s, &keys[i], &keys[j]);
	return 0;
}

static int check_many(const struct scan *s, struct str *keys, size_t n)
{
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < n; i++)
		if (compare_keys(&keys[i - 1], &keys[i]) == 0)
			return twice(s, &keys[i - 1], &keys[i]);
	return 0;
}

static int close_level(struct scan *s)
{
	size_t first = s->first_key[--s->depth];
	size_t n = s->key_count - first;
	struct str *keys = s->keys + first;

	s->p++;
	s->key_count = first;
	return n <= FEW_KEYS ? check_few(s, keys, n) : check_many(s, keys, n);
}

/* At a key; leaves the cursor where its value is due. */
static int scan_key(struct scan *s)
{
	struct str key;

	skip_space(s);
	if (peek(s) != '"')
		return bad(s, "want a key");
	if (scan_string(s, &key) < 0 || add_key(s, key) < 0)
		return -1;
	skip_space(s);
	if (peek(s) != ':')
		return bad(s, "want a colon");
	s->p++;
	return 0;
}

static int scan_scalar(struct scan *s)
{
	struct str unused;
	int c = peek(s);

	if (c == '"')
		return scan_string(s, &unused);
	if (c == '-' || is_digit(c))
		return scan_number(s);
	return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

/* Where a value is due.  Returns 1 when it is complete, 0 when it opened a
 * level whose first value is due. */
static int scan_value(struct scan *s)
{
	int c;

	skip_space(s);
	c = peek(s);
	if (c != '{' && c != '[') {
		if (c < 0)
			return bad(s, "");
		return scan_scalar(s) < 0 ? -1 : 1;
	}
	if (open_level(s, c == '{') < 0)
		return -1;
	skip_space(s);
	if (peek(s) == (c == '{' ? '}' : ']'))
		return close_level(s) < 0 ? -1 : 1;
	return c == '{' ? scan_key(s) : 0;
}

/* Behind a value inside a level: closes what closes here.  Returns 1 when
 * nothing is open any more, 0 when another value is due. */
static int scan_after(struct scan *s)
{
	while (s->depth) {
		int c;

		skip_space(s);
		c = peek(s);
		if (c == ',') {
			s->p++;
			return in_object(s) ? scan_key(s) : 0;
		}
		if (c != (in_object(s) ? '}' : ']'))
			return bad(s, "want a comma or the end of the object or array");
		if (close_level(s) < 0)
			return -1;
	}
	return 1;
}

static int scan_document(struct scan *s)
{
	int got;

	do {
		got = scan_value(s);
		if (got > 0)
			got = scan_after(s);
	} while (got == 0);
	if (got < 0)
		return -1;
	skip_space(s);
	if (s->p != s->end)
		return bad(s, "something after the value");
	return 0;
}

int json_check(const char *text, size_t len, size_t max_len, unsigned max_depth, struct err *e)
{
	struct scan s;
	int ret;

	if (len > max_len)
		return err_set(e, ERR_LIMIT, 0, "json: %zu bytes, the maximum is %zu", len,
			       max_len);
	s.text = s.p = text;
	s.end = text + len;
	s.depth = 0;
	s.max_depth = max_depth < DEEPEST ? max_depth : DEEPEST;
	s.in_object = 0;
	s.keys = s.inline_keys;
	s.key_count = 0;
	s.key_cap = INLINE_KEYS;
	s.e = e;
	ret = scan_document(&s);
	if (s.keys != s.inline_keys)
		free(s.keys);
	return ret;
}

/* --- raw members --- */

/* Behind the value at p, in checked text: brackets are counted, strings are
 * stepped over. */
static const char *end_of_value(const char *p, const char *end)
{
	unsigned depth = 0;
	bool quoted = false;

	for (; p < end; p++) {
		if (quoted) {
			if (*p == '\\')
				p++;
			else if (*p == '"')
				quoted = false;
			continue;
		}
		if (depth == 0 && strchr(",}] \t\r\n", *p))
			return p;
		if (*p == '"')
			quoted = true;
		else if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
	}
	return end;
}

static bool key_is(const struct str *raw, const char *key)
{
	struct str want = { key, strlen(key), false };
	struct decoder d = { .p = raw->p, .end = raw->p + raw->len };

	for (size_t i = 0; i < want.len; i++)
		if (next_byte(&d) != (unsigned char)key[i])
			return false;
	return next_byte(&d) < 0;
}

const char *json_raw_member(const char *text, size_t len, const char *key, size_t *ret_len)
{
	struct scan s = { .text = text, .p = text, .end = text + len };

	skip_space(&s);
	if (peek(&s) != '{')
		return NULL;
	for (;;) {
		struct str raw;
		const char *value;

		s.p++;	/* the brace or a comma */
		skip_space(&s);
		if (peek(&s) != '"' || scan_string(&s, &raw) < 0)
			return NULL;
		skip_space(&s);
		if (peek(&s) != ':')
			return NULL;
		s.p++;
		skip_space(&s);
		value = s.p;
		s.p = end_of_value(value, s.end);
		if (key_is(&raw, key)) {
			*ret_len = (size_t)(s.p - value);
			return value;
		}
		skip_space(&s);
		if (peek(&s) != ',')
			return NULL;
	}
}
