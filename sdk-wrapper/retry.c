/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/retry.h"

#define S RETRY_STOP
#define A RETRY_AGAIN
#define Q RETRY_ASK

/* Rows that are not here stop. */
static const enum retry_verdict table[FAIL_CLASSES][3] = {
	/*                       read idempotent create */
	[FAIL_RATE] =        {      A,         A,     A },
	[FAIL_NO_CAPACITY] = {      A,         A,     A },
	[FAIL_UNREACHED] =   {      A,         A,     A },
	[FAIL_TIMEOUT] =     {      A,         A,     Q },
	[FAIL_SERVER] =      {      A,         A,     Q },
	[FAIL_CUT] =         {      A,         A,     Q },
	[FAIL_CONFLICT] =    {      S,         A,     S },
	[FAIL_PORT_CLOSED] = {      A,         A,     S },
	[FAIL_QUOTA] =       {      S,         S,     S },
	[FAIL_PROTOCOL] =    {      S,         S,     Q },
};

/* Doubling; half of it certain, half of it chance, so that many do not come back at once. */
static uint32_t backoff(unsigned attempt, uint32_t rnd)
{
	uint32_t ms = RETRY_BASE_MS;

	while (--attempt && ms < RETRY_MAX_MS)
		ms *= 2;
	if (ms > RETRY_MAX_MS)
		ms = RETRY_MAX_MS;
	return ms / 2 + rnd % (ms / 2 + 1);
}

struct retry_plan retry_plan(enum retry_kind kind, const struct failure *f, unsigned attempt,
			     uint64_t left_ms, uint32_t rnd)
{
	struct retry_plan p = { table[f->class][kind], 0 };

	if (p.verdict == RETRY_STOP || attempt >= RETRY_ATTEMPTS)
		return (struct retry_plan){ RETRY_STOP, 0 };
	p.wait_ms = f->has_retry_after ? f->retry_after_ms + rnd % RETRY_BASE_MS
				       : backoff(attempt, rnd);
	if (p.wait_ms >= left_ms)
		return (struct retry_plan){ RETRY_STOP, 0 };
	return p;
}
