/* SPDX-License-Identifier: Apache-2.0
 *
 * mask - replaces secret values by ***MASKED*** in what is written on this machine.
 *
 * Works on raw bytes before any escaping, across piece borders: the longest tail that
 * could be the beginning of a secret is carried to the next piece.  Every byte of every
 * occurrence is masked; occurrences that overlap become one MASK_TEXT.  How the text is cut
 * into pieces makes no difference.  Linear in the text, whatever the text and the secrets. */
#ifndef FARSTEP_PROXY_MASK_H
#define FARSTEP_PROXY_MASK_H

#include <stdbool.h>

#include "protocol/base/buf.h"

#define MASK_TEXT "***MASKED***"

/* The set of secret values of one run. */
struct mask_set;
struct mask_set *mask_set_new(void);	/* NULL: out of memory */
void mask_set_free(struct mask_set *m);	/* wipes; NULL is fine */
/* Values under LIMIT_MASK_SECRET_MIN bytes are taken only when `always`; empty ones never.
 * Duplicates are fine.  May be called later too: masks that are under way take it up with
 * their next piece or at their end.  ERR_LIMIT: all values together pass LIMIT_SECRETS_BYTES. */
int mask_set_add(struct mask_set *m, const char *value, bool always, struct err *e);
bool mask_set_empty(const struct mask_set *m);	/* NULL is empty */

struct mask_span { uint64_t from, to; };

/* One stream that is being masked. */
struct mask {
	const struct mask_set *set;	/* NULL: nothing is masked */
	struct buf carry;		/* bytes that may begin a secret: not written yet */
	uint64_t base;			/* offset in the stream of the first byte of carry */
	unsigned node, version;		/* where the search stands, and of which state of the set */
	struct mask_span *spans;	/* occurrences that reach into carry, merged, rising */
	size_t n_spans, cap_spans;
	bool begun;			/* the MASK_TEXT of spans[0] is written already */
};
void mask_init(struct mask *k, const struct mask_set *set);
void mask_release(struct mask *k);	/* wipes */
/* Appends what is safe to write to out. */
int mask_feed(struct mask *k, const void *p, size_t n, struct buf *out, struct err *e);
int mask_finish(struct mask *k, struct buf *out, struct err *e);	/* the carry */
/* What a journal keeps: the bytes of `carry`, and how many of them belong to an occurrence
 * whose MASK_TEXT is written already. */
size_t mask_covered(const struct mask *k);
/* Goes on from there; k is fresh from mask_init. */
int mask_restore(struct mask *k, const void *carry, size_t n, size_t covered, struct err *e);
/* A whole text at once. */
int mask_text(const struct mask_set *set, const char *p, size_t n, struct buf *out, struct err *e);

#endif
