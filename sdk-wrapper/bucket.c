/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/bucket.h"

enum { TOKEN = 1000 };

void bucket_init(struct bucket *b, uint32_t per_second, uint32_t burst, uint64_t now_ms)
{
	*b = (struct bucket){ .per_second = per_second,
			      .burst = burst,
			      .level = (uint64_t)burst * TOKEN,
			      .filled_ms = now_ms };
}

uint32_t bucket_take(struct bucket *b, uint64_t now_ms)
{
	uint64_t full = (uint64_t)b->burst * TOKEN, passed;

	passed = now_ms > b->filled_ms ? now_ms - b->filled_ms : 0;
	b->filled_ms = now_ms;
	/* per_second tokens a second are per_second thousandths a millisecond. */
	if (passed > full / b->per_second)
		b->level = full;
	else
		b->level += passed * b->per_second;
	if (b->level > full)
		b->level = full;
	if (b->level >= TOKEN) {
		b->level -= TOKEN;
		return 0;
	}
	return (uint32_t)((TOKEN - b->level + b->per_second - 1) / b->per_second);
}
