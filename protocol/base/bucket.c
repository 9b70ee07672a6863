/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/bucket.h"

enum { TOKEN = 1000 };

void bucket_init(struct bucket *b, uint32_t per_second, uint32_t burst, uint64_t now_ms)
{
	*b = (struct bucket){ .per_second = per_second,
		              .burst = burst,
		              .level = (int64_t)burst * TOKEN,
		              .filled_ms = now_ms };
}

static void fill(struct bucket *b, uint64_t now_ms)
{
	int64_t full = (int64_t)b->burst * TOKEN;
	uint64_t passed = now_ms > b->filled_ms ? now_ms - b->filled_ms : 0;

	b->filled_ms = now_ms;
	/* per_second tokens a second are per_second thousandths a millisecond. */
	if (passed > (uint64_t)(full - b->level) / b->per_second)
		b->level = full;
	else
		b->level += (int64_t)(passed * b->per_second);
}

/* Until there is a whole token. */
static uint32_t wait_ms(const struct bucket *b)
{
	return b->level >= TOKEN ? 0
	                         : (uint32_t)((TOKEN - b->level + b->per_second - 1) /
	                                      b->per_second);
}

uint32_t bucket_take(struct bucket *b, uint64_t now_ms)
{
	uint32_t wait;

	fill(b, now_ms);
	wait = wait_ms(b);
	if (!wait)
		b->level -= TOKEN;
	return wait;
}

uint32_t bucket_spend(struct bucket *b, uint32_t n, uint64_t now_ms)
{
	fill(b, now_ms);
	b->level -= (int64_t)n * TOKEN;
	return wait_ms(b);
}
