/* SPDX-License-Identifier: Apache-2.0
 *
 * query - percent-encoding and the query part of a URL.  Pure computation. */
#ifndef FARSTEP_E2B_QUERY_H
#define FARSTEP_E2B_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/buf.h"

/* Appends n bytes of text to out, decoded once; '+' is a space where plus_is_space.  A '%' that
 * no two hex digits follow is ERR_PARSE, and so is a NUL. */
int url_decode(const char *text, size_t n, bool plus_is_space, struct buf *out, struct err *e);
/* Appends text encoded: all but letters, digits and "-._~" (and keep, which may be NULL). */
int url_encode(const char *text, const char *keep, struct buf *out, struct err *e);

/* The pairs of a raw query, in order: for (p = query_first(..); p.key; p = query_next(p)). */
struct query_pair {
	const char *key, *value;	/* raw; value is "" without '=' */
	size_t key_len, value_len;
};
struct query_pair query_first(const char *query);
struct query_pair query_next(struct query_pair p);
/* The first value of key, decoded once and appended to out.  1 if there is one, 0 if not, -1
 * with ERR_PARSE.  Keys are compared decoded; one that cannot be decoded is no match. */
int query_get(const char *query, const char *key, struct buf *out, struct err *e);

#endif
