/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/listing.h"

#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mocks/e2b/query.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/loop.h"

enum { FILTER_BYTES = 64 * 1024, TOKEN_BYTES = 256 };

/* --- the metadata filter --- */

/* Decodes n bytes into f->text with a NUL behind; the offset of the result there, or -1. */
static ssize_t keep(struct filter *f, const char *p, size_t n, struct err *e)
{
	size_t at = buf_len(&f->text);

	if (url_decode(p, n, true, &f->text, e) < 0 || buf_putc(&f->text, 0, e) < 0)
		return -1;
	return (ssize_t)at;
}

static int parse_pair(struct filter *f, const char *p, size_t n, size_t at[2], struct err *e)
{
	const char *eq = memchr(p, '=', n);
	size_t key = eq ? (size_t)(eq - p) : 0;
	ssize_t k, v;

	if (!eq || key == 0 || key + 1 == n || memchr(eq + 1, '=', n - key - 1))
		return err_set(e, ERR_PARSE, 0, "invalid key value pair in query: '%.*s'",
			       (int)(n < 80 ? n : 80), p);
	k = keep(f, p, key, e);
	v = keep(f, eq + 1, n - key - 1, e);
	if (k < 0 || v < 0)
		return -1;
	at[0] = (size_t)k;
	at[1] = (size_t)v;
	return 0;
}

int filter_parse(const char *text, struct filter *ret, struct err *e)
{
	struct buf whole CLEANUP(buf_release);
	size_t at[FILTER_MAX][2];
	const char *p;

	*ret = (struct filter){ 0 };
	buf_init(&ret->text, FILTER_BYTES);
	buf_init(&whole, FILTER_BYTES);
	if (url_decode(text, strlen(text), true, &whole, e) < 0)
		return -1;
	p = buf_cstr(&whole, e);
	if (!p)
		return -1;
	for (;;) {
		size_t n = strcspn(p, "&");

		if (ret->n == FILTER_MAX)
			return err_set(e, ERR_LIMIT, 0, "more than %d pairs", FILTER_MAX);
		if (parse_pair(ret, p, n, at[ret->n++], e) < 0)
			return -1;
		if (!p[n])
			break;
		p += n + 1;
	}
	for (size_t i = 0; i < ret->n; i++) {
		ret->pair[i].key = (const char *)buf_data(&ret->text) + at[i][0];
		ret->pair[i].value = (const char *)buf_data(&ret->text) + at[i][1];
	}
	return 0;
}

void filter_release(struct filter *f)
{
	buf_release(&f->text);
}

bool filter_fits(const struct filter *f, const json *metadata)
{
	for (size_t i = 0; i < f->n; i++) {
		const char *have = json_string(json_get(metadata, f->pair[i].key));

		if (!have || strcmp(have, f->pair[i].value) != 0)
			return false;
	}
	return true;
}

/* --- times --- */

int time_parse(const char *text, uint64_t *ret_us, struct err *e)
{
	struct tm tm = { 0 };
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	uint64_t us = 0, digit = 100000;
	int hours, minutes;
	char sign;
	time_t sec;

	if (p && *p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++, digit /= 10)
			us += (uint64_t)(*p - '0') * digit;
	sec = p ? timegm(&tm) : -1;
	if (p && sscanf(p, "%c%2d:%2d", &sign, &hours, &minutes) == 3 && strlen(p) == 6 &&
	    (sign == '+' || sign == '-')) {
		sec -= (sign == '+' ? 60 : -60) * (hours * 60 + minutes);
		p = "Z";
	}
	if (!p || strcmp(p, "Z") != 0 || sec < 0)
		return err_set(e, ERR_PARSE, 0, "'%.60s': want a time as RFC 3339 has it", text);
	*ret_us = (uint64_t)sec * 1000000 + us;
	return 0;
}

/* --- tokens of pages --- */

int page_token_print(const struct page_token *t, struct buf *out, struct err *e)
{
	char time[28], text[TOKEN_BYTES], code[BASE64_ENCODE_RAW_LENGTH(TOKEN_BYTES) + 1];
	size_t n, len;

	snprintf(text, sizeof(text), "%s__%s%s", time_rfc3339(t->us, time), t->id,
		 t->ascending ? "__asc" : "");
	len = strlen(text);
	base64_encode_raw(code, len, (const uint8_t *)text);
	n = BASE64_ENCODE_RAW_LENGTH(len);
	for (size_t i = 0; i < n; i++)
		code[i] = code[i] == '+' ? '-' : code[i] == '/' ? '_' : code[i];
	return buf_put(out, code, n, e);
}

static int not_a_token(struct err *e)
{
	return err_set(e, ERR_PARSE, 0, "Invalid next token");
}

/* The text behind the base64, NUL-terminated. */
static int decode(const char *code, char ret[TOKEN_BYTES + 1], struct err *e)
{
	struct base64_decode_ctx ctx;
	char plain[TOKEN_BYTES];
	size_t n = strlen(code), len = TOKEN_BYTES;

	if (n == 0 || BASE64_DECODE_LENGTH(n) > TOKEN_BYTES)
		return not_a_token(e);
	for (size_t i = 0; i < n; i++)
		plain[i] = code[i] == '-' ? '+' : code[i] == '_' ? '/' : code[i];
	base64_decode_init(&ctx);
	if (!base64_decode_update(&ctx, &len, (uint8_t *)ret, n, plain) ||
	    !base64_decode_final(&ctx))
		return not_a_token(e);
	ret[len] = 0;
	return 0;
}

int page_token_parse(const char *code, bool ascending, struct page_token *ret, struct err *e)
{
	char text[TOKEN_BYTES + 1];
	struct page_token t = { 0 };
	char *id, *order;

	if (decode(code, text, e) < 0)
		return -1;
	id = strstr(text, "__");
	if (!id)
		return not_a_token(e);
	*id = 0;
	id += 2;
	order = strstr(id, "__");
	if (order) {
		*order = 0;
		t.ascending = strcmp(order + 2, "asc") == 0;
		if (!t.ascending)
			return not_a_token(e);
	}
	if (time_parse(text, &t.us, NULL) < 0 || !*id || strlen(id) >= sizeof(t.id) ||
	    t.ascending != ascending)
		return not_a_token(e);
	memcpy(t.id, id, strlen(id) + 1);
	*ret = t;
	return 0;
}
