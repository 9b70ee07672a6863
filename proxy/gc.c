/* SPDX-License-Identifier: Apache-2.0
 *
 * Which sandboxes gc ends: those that nobody works with, for all that can be known here. */
#include "proxy/boxes.h"

uint64_t box_age_s(const struct box *b, uint64_t now_us)
{
	return b->born_us && b->born_us < now_us ? (now_us - b->born_us) / 1000000 : 0;
}

enum gc_verdict gc_judge(const struct box *b, const struct gc_rule *r)
{
	if (b->living)
		return GC_IN_USE;
	if (!r->all && !b->ours)
		return GC_NOT_OURS;
	if (!r->all && !b->here)
		return GC_NOT_HERE;
	if (box_age_s(b, r->now_us) < (uint64_t)r->older_than_s)
		return GC_TOO_YOUNG;
	return GC_END;
}

const char *gc_reason(enum gc_verdict v)
{
	static const char *const reasons[] = {
		[GC_END] = "nobody works with it",
		[GC_IN_USE] = "a farstep works with it",
		[GC_TOO_YOUNG] = "younger than --older-than",
		[GC_NOT_OURS] = "made with another user key (--all)",
		[GC_NOT_HERE] = "its run directory is not here (--run-dir, or --all)",
	};

	return reasons[v];
}

const char *box_state_name(const struct box *b)
{
	if (b->state == BOX_REMAINS)
		return "remains";
	if (b->living)
		return "in use";
	if (b->state == BOX_PAUSED)
		return "paused";
	return b->keep ? "kept" : b->here ? "orphan" : "running";
}
