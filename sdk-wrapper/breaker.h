/* SPDX-License-Identifier: Apache-2.0
 *
 * breaker - stops asking a service that keeps failing, for a while; pure, told the time.
 *
 * Closed: everything passes.  After `threshold` failures in a row it opens for `open_ms`: nothing
 * passes.  Then one request passes as a probe; its outcome closes it, or opens it again for
 * twice as long (up to `open_max_ms`). */
#ifndef FARSTEP_SDK_BREAKER_H
#define FARSTEP_SDK_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

struct breaker {
	unsigned threshold;
	uint32_t open_ms, open_max_ms;
	unsigned failures;	/* in a row */
	uint32_t now_open_ms;	/* how long it opens, or opened last */
	uint64_t open_until_ms;
	bool probing;
};

void breaker_init(struct breaker *b, unsigned threshold, uint32_t open_ms, uint32_t open_max_ms);
/* 0: go on, and report what came of it.  Else: how long to wait before asking again. */
uint32_t breaker_ask(struct breaker *b, uint64_t now_ms);
void breaker_report(struct breaker *b, uint64_t now_ms, bool ok);
/* It passed, but nothing will be reported (cancelled). */
void breaker_forget(struct breaker *b);

#endif
