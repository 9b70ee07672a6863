/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_end.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/e2b_desk.h"
#include "sdk-wrapper/e2b_spec.h"

enum {
	TO_KILL_MAX = 8,
	PENDING_ASKS = 5,
	PENDING_GAP_MS = 800,
};

/* Of one sandbox, or of all that one request has made. */
struct ending {
	struct e2b_desk desk;
	uint64_t until_ns;
	char ids[TO_KILL_MAX][64];
	unsigned n;
};

static void ending_end(struct ending *d)
{
	e2b_desk_close(&d->desk);
}

static void on_ended(void *user, const struct e2b_result *r)
{
	struct ending *d = user;

	e2b_desk_answered(&d->desk, r);
}

static void on_to_kill(void *user, const struct e2b_sandbox *s, const json *item)
{
	struct ending *d = user;

	(void)item;
	if (d->n < TO_KILL_MAX)
		snprintf(d->ids[d->n++], sizeof(d->ids[0]), "%s", s->id);
}

static struct e2b_end end_in_time(struct ending *d)
{
	uint64_t now = now_ns(), left = now < d->until_ns ? d->until_ns - now : 0;

	return (struct e2b_end){ (uint32_t)(left / 1000000), on_ended, d };
}

/* What a request that was given up has made; it may still be at work: some patience. */
static int find_pending(struct ending *d, const char *unique, struct err *e)
{
	const char *filter[] = { E2B_UNIQUE, unique, NULL };

	for (int i = 0; i < PENDING_ASKS && !d->n; i++) {
		uint64_t next_ns = now_ns() + PENDING_GAP_MS * UINT64_C(1000000);
		struct e2b_end end = end_in_time(d);
		struct e2b_call *c = e2b_list(d->desk.api, filter, true, on_to_kill, &end, e);

		if (e2b_desk_wait(&d->desk, c != NULL, e) < 0)
			return -1;
		while (!d->n && i + 1 < PENDING_ASKS && now_ns() < next_ns)
			if (loop_pass(d->desk.loop, 50, e) < 0)
				return -1;
	}
	return 0;
}

static int destroy(struct ending *d, const char *id, struct err *e)
{
	if (strncmp(id, E2B_PENDING, strlen(E2B_PENDING)) != 0)
		snprintf(d->ids[d->n++], sizeof(d->ids[0]), "%.63s", id);
	else if (find_pending(d, id + strlen(E2B_PENDING), e) < 0)
		return -1;
	for (unsigned i = 0; i < d->n; i++) {
		struct e2b_end end = end_in_time(d);
		struct e2b_call *c = e2b_kill(d->desk.api, d->ids[i], &end, e);

		if (e2b_desk_wait(&d->desk, c != NULL, e) < 0)
			return -1;
	}
	return 0;
}

int e2b_destroy(const struct sandbox *sandbox, int deadline_ms, struct err *e)
{
	struct ending d CLEANUP(ending_end) = { .n = 0 };
	struct err own = ERR_INIT;

	e = e ? e : &own;
	if (!sandbox->id[0] || strcmp(sandbox->id, E2B_DEBUG_SANDBOX) == 0)
		return 0;
	d.until_ns = now_ns() + (uint64_t)deadline_ms * 1000000;
	if (e2b_desk_open(&d.desk, NULL, e) == 0 && destroy(&d, sandbox->id, e) == 0)
		return 0;
	return err_wrap(e, "sandbox %.100s", sandbox->id);
}
