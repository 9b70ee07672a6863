/* SPDX-License-Identifier: Apache-2.0
 *
 * retry - what is done after a failure, as a table; pure. */
#ifndef FARSTEP_SDK_RETRY_H
#define FARSTEP_SDK_RETRY_H

#include "sdk-wrapper/failure.h"

enum retry_kind {
	RETRY_READ,	/* changes nothing: may always be repeated */
	RETRY_IDEMPOTENT,	/* twice is as good as once: kill, set the timeout */
	RETRY_CREATE,	/* twice would make two */
};

enum retry_verdict {
	RETRY_STOP,
	RETRY_AGAIN,	/* after wait_ms */
	RETRY_ASK,	/* after wait_ms, but first find out whether it was carried out */
};

struct retry_plan {
	enum retry_verdict verdict;
	uint32_t wait_ms;
};

enum { RETRY_ATTEMPTS = 6, RETRY_BASE_MS = 250, RETRY_MAX_MS = 8000 };

/* attempt counts from 1; left_ms is what remains of the deadline; rnd is any random number, for
 * the jitter.  A wait that would pass the deadline is RETRY_STOP. */
struct retry_plan retry_plan(enum retry_kind kind, const struct failure *f, unsigned attempt,
			     uint64_t left_ms, uint32_t rnd);

#endif
