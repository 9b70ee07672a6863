/* SPDX-License-Identifier: Apache-2.0
 *
 * Whatever text is accepted prints as text that is accepted and means the same;
 * printing that again gives the same bytes, sorted or not. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/json.h"

enum { MAX = 1 << 22, DEPTH = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const json *a, const json *b)
{
	if (json_type(a) != json_type(b))
		return false;
	if (json_key(a) && strcmp(json_key(a), json_key(b)) != 0)
		return false;
	if (json_type(a) == JSON_STRING)
		return strcmp(json_string(a), json_string(b)) == 0;
	if (json_type(a) == JSON_NUMBER)
		return json_number(a) == json_number(b);
	if (json_is_true(a) != json_is_true(b))
		return false;
	a = json_first(a);
	b = json_first(b);
	for (; a && b; a = json_next(a), b = json_next(b))
		if (!same(a, b))
			return false;
	return !a && !b;
}

typedef int printer(const json *, struct buf *, struct err *);

static void must_print(printer *print, const json *v, struct buf *out)
{
	struct err e;

	buf_init(out, MAX);
	if (print(v, out, &e) < 0)
		abort();
}

static json *must_parse(const struct buf *text)
{
	struct err e;
	json *v = json_parse((const char *)buf_data(text), buf_len(text), MAX, DEPTH, &e);

	if (!v)
		abort();
	return v;
}

/* Parse, print, parse, print: nothing may change the second time. */
static void round_trip(printer *print, const json *v, bool ordered)
{
	struct buf first, second;
	json *again;

	must_print(print, v, &first);
	again = must_parse(&first);
	if (ordered && !same(v, again))
		abort();
	must_print(print, again, &second);
	if (buf_len(&first) != buf_len(&second) ||
	    memcmp(buf_data(&first), buf_data(&second), buf_len(&first)) != 0)
		abort();
	json_free(again);
	buf_release(&first);
	buf_release(&second);
}

/* Every member of an object is found raw, inside the text. */
static void raw_members(const char *text, size_t len, const json *v)
{
	if (json_type(v) != JSON_OBJECT)
		return;
	v = json_first(v);
	for (unsigned n = 0; v && n < 8; v = json_next(v), n++) {
		size_t raw_len;
		const char *raw = json_raw_member(text, len, json_key(v), &raw_len);
		json *member;

		if (!raw || raw < text || raw + raw_len > text + len)
			abort();
		member = json_parse(raw, raw_len, MAX, DEPTH, NULL);
		if (!member || json_type(member) != json_type(v))
			abort();
		json_free(member);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct err e;
	size_t len;
	json *v = json_parse(text, size, 1 << 18, DEPTH, &e);

	if (!v) {
		/* Anything after a check that passed means no memory. */
		if (json_check(text, size, 1 << 18, DEPTH, NULL) == 0)
			abort();
		json_raw_member(text, size, "id", &len);
		return 0;
	}
	round_trip(json_print, v, true);
	round_trip(json_print_sorted, v, false);
	raw_members(text, size, v);
	json_free(v);
	return 0;
}
