/* SPDX-License-Identifier: Apache-2.0
 *
 * listing - what the lists of the control API are asked with: the metadata filter and the
 * token of the next page.  Pure computation. */
#ifndef FARSTEP_E2B_LISTING_H
#define FARSTEP_E2B_LISTING_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/json.h"

enum {
	FILTER_MAX = 32,	/* pairs */
	TOKEN_ID_MAX = 64,
};

/* The pairs a sandbox must have.  The text arrives decoded once, by the query; here the whole
 * is decoded again, split, and each key and value decoded a third time, as E2B does. */
struct filter {
	struct buf text;	/* the strings */
	struct {
		const char *key, *value;
	} pair[FILTER_MAX];
	size_t n;
};
/* ERR_PARSE: a pair without '=', or with an empty side.  Release it in any case. */
int filter_parse(const char *text, struct filter *ret, struct err *e);
void filter_release(struct filter *f);
bool filter_fits(const struct filter *f, const json *metadata);

/* Where the next page begins: behind this sandbox, in this order. */
struct page_token {
	uint64_t us;		/* its start, since 1970 */
	char id[TOKEN_ID_MAX];
	bool ascending;
};
/* url-base64 of "<RFC 3339>__<id>[__asc]" */
int page_token_print(const struct page_token *t, struct buf *out, struct err *e);
/* ERR_PARSE: no token, or one of the other order. */
int page_token_parse(const char *text, bool ascending, struct page_token *ret, struct err *e);
/* "2026-11-02T10:11:12.123Z", also with an offset in place of the Z. */
int time_parse(const char *text, uint64_t *ret_us, struct err *e);

#endif
