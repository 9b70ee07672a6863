/* SPDX-License-Identifier: Apache-2.0
 *
 * The writing half of json: the jw writer, and parsed values through it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"

enum { DEEPEST = 64 };

#define EXACT_MAX 9007199254740992.0	/* 2^53 */

/* (Without floor, which needs the mathematics library.) */
static bool is_whole(double v)
{
	return fabs(v) <= EXACT_MAX && v == (double)(int64_t)v;
}

static void broken(struct jw *w, enum err_code code, const char *why)
{
	if (!w->failed)
		err_set(&w->err, code, 0, "json: %s", why);
	w->failed = true;
}

static void put(struct jw *w, const char *p, size_t n)
{
	if (!w->failed && buf_put(w->out, p, n, &w->err) < 0)
		w->failed = true;
}

static void put_char(struct jw *w, char c)
{
	put(w, &c, 1);
}

/* --- levels and commas ---
 *
 * Level 0 is outside of everything.  A comma is due at a level once it holds
 * something; in an object the key takes it. */

static uint64_t bit(const struct jw *w)
{
	return UINT64_C(1) << (w->depth - 1);
}

static bool in_array(const struct jw *w)
{
	return w->depth && (w->is_array & bit(w));
}

static void put_comma(struct jw *w)
{
	if (w->comma & bit(w))
		put_char(w, ',');
	w->comma |= bit(w);
}

static void before_value(struct jw *w)
{
	if (in_array(w))
		put_comma(w);
	else if (w->depth && !w->after_key)
		broken(w, ERR_INTERNAL, "a value without a key");
	w->after_key = false;
}

static void open_level(struct jw *w, bool array)
{
	before_value(w);
	if (w->depth >= DEEPEST) {
		broken(w, ERR_LIMIT, "deeper than 64 levels");
		return;
	}
	put_char(w, array ? '[' : '{');
	w->depth++;
	w->comma &= ~bit(w);
	w->is_array = array ? w->is_array | bit(w) : w->is_array & ~bit(w);
}

void jw_init(struct jw *w, struct buf *out)
{
	*w = (struct jw){ .out = out };
}

void jw_obj(struct jw *w)
{
	open_level(w, false);
}

void jw_arr(struct jw *w)
{
	open_level(w, true);
}

void jw_end(struct jw *w)
{
	if (w->depth == 0 || w->after_key) {
		broken(w, ERR_INTERNAL, w->depth ? "a key without a value" : "nothing to end");
		return;
	}
	put_char(w, in_array(w) ? ']' : '}');
	w->depth--;
}

int jw_done(struct jw *w, struct err *e)
{
	if (w->depth)
		broken(w, ERR_INTERNAL, "an object or array was not ended");
	if (!w->failed)
		return 0;
	return err_set(e, w->err.code, 0, "%s", w->err.msg);
}

/* --- strings --- */

static void put_escaped(struct jw *w, unsigned char c)
{
	static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *at = c ? strchr(named, c) : NULL;
	char text[7];

	if (c == 0)
		put(w, "\xef\xbf\xbd", 3);
	else if (at)
		put(w, (char[]){ '\\', letters[at - named] }, 2);
	else
		put(w, text, (size_t)snprintf(text, sizeof(text), "\\u%04x", c));
}

/* How many bytes from p on can be copied as they are. */
static size_t plain_len(const char *p, const char *end)
{
	const char *at = p;

	while (at < end && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\') {
		size_t n = json_utf8_len(at, end);

		if (n == 0)
			break;
		at += n;
	}
	return (size_t)(at - p);
}

static void put_quoted(struct jw *w, const char *s, size_t n)
{
	const char *end = s + n;

	put_char(w, '"');
	while (s < end) {
		size_t plain = plain_len(s, end);

		put(w, s, plain);
		s += plain;
		if (s == end)
			break;
		put_escaped(w, (unsigned char)*s < 0x80 ? (unsigned char)*s : 0);
		s++;
	}
	put_char(w, '"');
}

void jw_key(struct jw *w, const char *key)
{
	if (w->depth == 0 || in_array(w) || w->after_key) {
		broken(w, ERR_INTERNAL, "a key where none can be");
		return;
	}
	put_comma(w);
	w->after_key = true;
	put_quoted(w, key, strlen(key));
	put_char(w, ':');
}

void jw_strn(struct jw *w, const char *s, size_t n)
{
	before_value(w);
	put_quoted(w, n ? s : "", n);
}

void jw_str(struct jw *w, const char *s)
{
	if (s)
		jw_strn(w, s, strlen(s));
	else
		jw_null(w);
}

/* --- numbers --- */

void jw_int(struct jw *w, int64_t v)
{
	char text[24];

	before_value(w);
	put(w, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v));
}

void jw_u64s(struct jw *w, uint64_t v)
{
	char text[24];

	before_value(w);
	put(w, text, (size_t)snprintf(text, sizeof(text), "\"%" PRIu64 "\"", v));
}

/* The program that embeds us may have set a locale: whatever stands for the
 * decimal point becomes one. */
static void put_decimal(struct jw *w, const char *text)
{
	size_t n = strspn(text, "+-0123456789eE");

	put(w, text, n);
	text += n;
	if (!*text)
		return;
	put_char(w, '.');
	text += strcspn(text, "0123456789");
	put(w, text, strlen(text));
}

/* The shortest text that reads back as v. */
static void put_double(struct jw *w, double v)
{
	char text[40];

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	put_decimal(w, text);
}

static void put_number(struct jw *w, double v)
{
	char text[24];

	if (!isfinite(v))
		put(w, "null", 4);
	else if (is_whole(v))
		put(w, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)v));
	else
		put_double(w, v);
}

/* Without the zeros at the end; they are all behind the point. */
static void trim_zeros(char *text)
{
	size_t n = strlen(text);

	while (n && text[n - 1] == '0')
		text[--n] = 0;
}

void jw_num(struct jw *w, double v)
{
	char text[40];

	before_value(w);
	/* From 2^43 on a double holds no three decimals. */
	if (!isfinite(v) || fabs(v) >= 8796093022208.0) {
		put_number(w, v);
		return;
	}
	snprintf(text, sizeof(text), "%.3f", v);
	v = strtod(text, NULL);
	if (is_whole(v)) {	/* also 0.9999 and -0.0001 */
		put_number(w, v);
		return;
	}
	trim_zeros(text);
	put_decimal(w, text);
}

/* --- the rest --- */

void jw_bool(struct jw *w, bool v)
{
	before_value(w);
	put(w, v ? "true" : "false", v ? 4 : 5);
}

void jw_null(struct jw *w)
{
	before_value(w);
	put(w, "null", 4);
}

void jw_raw(struct jw *w, const char *text, size_t n)
{
	before_value(w);
	put(w, text, n);
}

/* --- parsed values --- */

static void write_value(struct jw *w, const json *v, bool sorted);

static int by_key(const void *a, const void *b)
{
	const json *const *x = a, *const *y = b;

	return strcmp(json_key(*x), json_key(*y));
}

static void write_members_sorted(struct jw *w, const json *v)
{
	size_t n = json_count(v), i = 0;
	auto_free const json **members = n ? malloc(n * sizeof(json *)) : NULL;

	if (n && !members) {
		broken(w, ERR_NO_MEMORY, "no memory to sort keys");
		return;
	}
	for (const json *it = json_first(v); it; it = json_next(it))
		members[i++] = it;
	if (n)
		qsort(members, n, sizeof(json *), by_key);
	for (i = 0; i < n; i++) {
		jw_key(w, json_key(members[i]));
		write_value(w, members[i], true);
	}
}

static void write_members(struct jw *w, const json *v)
{
	for (const json *it = json_first(v); it; it = json_next(it)) {
		jw_key(w, json_key(it));
		write_value(w, it, false);
	}
}

/* Recursion ends where the writer's levels do. */
static void write_value(struct jw *w, const json *v, bool sorted)
{
	if (w->failed)
		return;
	switch (json_type(v)) {
	case JSON_NULL:
		jw_null(w);
		return;
	case JSON_BOOL:
		jw_bool(w, json_is_true(v));
		return;
	case JSON_NUMBER:
		before_value(w);
		put_number(w, json_number(v));
		return;
	case JSON_STRING:
		jw_str(w, json_string(v));
		return;
	case JSON_ARRAY:
		jw_arr(w);
		for (const json *it = json_first(v); it; it = json_next(it))
			write_value(w, it, sorted);
		break;
	case JSON_OBJECT:
		jw_obj(w);
		(sorted ? write_members_sorted : write_members)(w, v);
		break;
	}
	jw_end(w);
}

void jw_json(struct jw *w, const json *v)
{
	write_value(w, v, false);
}

static int print(const json *v, bool sorted, struct buf *out, struct err *e)
{
	size_t before = out->len;
	struct jw w;

	jw_init(&w, out);
	write_value(&w, v, sorted);
	if (w.failed)
		w.depth = 0;
	if (jw_done(&w, e) < 0) {
		out->len = before;
		return -1;
	}
	return 0;
}

int json_print(const json *v, struct buf *out, struct err *e)
{
	return print(v, false, out, e);
}

int json_print_sorted(const json *v, struct buf *out, struct err *e)
{
	return print(v, true, out, e);
}

/* --- key and value in one --- */

void jw_kstr(struct jw *w, const char *key, const char *s)
{
	jw_key(w, key);
	jw_str(w, s);
}

void jw_kint(struct jw *w, const char *key, int64_t v)
{
	jw_key(w, key);
	jw_int(w, v);
}

void jw_ku64s(struct jw *w, const char *key, uint64_t v)
{
	jw_key(w, key);
	jw_u64s(w, v);
}

void jw_knum(struct jw *w, const char *key, double v)
{
	jw_key(w, key);
	jw_num(w, v);
}

void jw_kbool(struct jw *w, const char *key, bool v)
{
	jw_key(w, key);
	jw_bool(w, v);
}

void jw_kobj(struct jw *w, const char *key)
{
	jw_key(w, key);
	jw_obj(w);
}

void jw_karr(struct jw *w, const char *key)
{
	jw_key(w, key);
	jw_arr(w);
}

void jw_kjson(struct jw *w, const char *key, const json *v)
{
	jw_key(w, key);
	jw_json(w, v);
}
