/* SPDX-License-Identifier: Apache-2.0
 *
 * mask - replaces secret values by ***MASKED*** in what is written on this machine.
 *
 * Works on raw bytes before any escaping, across piece borders: the longest tail that
 * could be the beginning of a secret is carried to the next piece. */
#ifndef FARSTEP_PROXY_MASK_H
#define FARSTEP_PROXY_MASK_H

#include <stdbool.h>

#include "protocol/base/buf.h"

#define MASK_TEXT "***MASKED***"

/* The set of secret values of one run. */
struct mask_set;
struct mask_set *mask_set_new(void);
void mask_set_free(struct mask_set *m);	/* wipes */
/* Values under LIMIT_MASK_SECRET_MIN bytes are taken only when `always`; empty ones never.
 * Duplicates are fine.  Longer values win over shorter ones at the same place. */
int mask_set_add(struct mask_set *m, const char *value, bool always, struct err *e);
bool mask_set_empty(const struct mask_set *m);

struct mask {
	const struct mask_set *set;
	struct buf carry;	/* bytes that may begin a secret: not written yet */
};
void mask_init(struct mask *k, const struct mask_set *set);
void mask_release(struct mask *k);
/* Appends what is safe to write to out; linear time in n for a handful of secrets. */
int mask_feed(struct mask *k, const void *p, size_t n, struct buf *out, struct err *e);
int mask_finish(struct mask *k, struct buf *out, struct err *e);	/* the carry */
/* A whole text at once. */
int mask_text(const struct mask_set *set, const char *p, size_t n, struct buf *out, struct err *e);

#endif
