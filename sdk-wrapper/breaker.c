/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/breaker.h"

enum { PROBE_POLL_MS = 100 };	/* how often others look whether the probe is back */

void breaker_init(struct breaker *b, unsigned threshold, uint32_t open_ms, uint32_t open_max_ms)
{
	*b = (struct breaker){ .threshold = threshold,
			       .open_ms = open_ms,
			       .open_max_ms = open_max_ms,
			       .now_open_ms = open_ms };
}

uint32_t breaker_ask(struct breaker *b, uint64_t now_ms)
{
	if (b->failures < b->threshold)
		return 0;
	if (now_ms < b->open_until_ms)
		return (uint32_t)(b->open_until_ms - now_ms);
	if (b->probing)
		return PROBE_POLL_MS;
	b->probing = true;
	return 0;
}

void breaker_report(struct breaker *b, uint64_t now_ms, bool ok)
{
	bool probe = b->probing;

	b->probing = false;
	if (ok) {
		b->failures = 0;
		b->now_open_ms = b->open_ms;
		return;
	}
	b->failures++;
	if (b->failures < b->threshold)
		return;
	if (probe)
		b->now_open_ms = b->now_open_ms > b->open_max_ms / 2 ? b->open_max_ms
								     : b->now_open_ms * 2;
	b->open_until_ms = now_ms + b->now_open_ms;
}

void breaker_forget(struct breaker *b)
{
	b->probing = false;
}
