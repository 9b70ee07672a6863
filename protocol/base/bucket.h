/* SPDX-License-Identifier: Apache-2.0
 *
 * bucket - a token bucket: so many requests a second on average, so many at once; pure, told
 * the time. */
#ifndef FARSTEP_BASE_BUCKET_H
#define FARSTEP_BASE_BUCKET_H

#include <stdint.h>

struct bucket {
	uint32_t per_second, burst;
	int64_t level;		/* thousandths of a token; below 0: spent in advance */
	uint64_t filled_ms;
};

void bucket_init(struct bucket *b, uint32_t per_second, uint32_t burst, uint64_t now_ms);
/* 0: one is taken.  Else: none is there, how long until one will be. */
uint32_t bucket_take(struct bucket *b, uint64_t now_ms);
/* n are taken, whether they are there or not: how long until there is one again, 0: there is. */
uint32_t bucket_spend(struct bucket *b, uint32_t n, uint64_t now_ms);

#endif
