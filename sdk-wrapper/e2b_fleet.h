/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_fleet - the sandboxes that are at E2B, whoever made them.
 *
 * Each call blocks, on a loop of its own, at most deadline_ms. */
#ifndef FARSTEP_SDK_E2B_FLEET_H
#define FARSTEP_SDK_E2B_FLEET_H

#include "sdk-wrapper/provider.h"

struct e2b_found {
	struct sandbox sandbox;	/* without an address when it was listed */
	char key_id[20], host[128];	/* "": it has no such label */
	bool paused, keep;
	uint64_t started_us, end_us;	/* 0: unknown */
};

/* Is there a key, so that asking makes sense? */
bool e2b_is_usable(void);
/* All sandboxes with this key of ours; NULL: all that farstep made in the account. */
int e2b_list_all(const char *key_id, int deadline_ms,
		 void (*on_found)(void *user, const struct e2b_found *f), void *user,
		 struct err *e);
/* One of them, with its address.  ERR_NOT_FOUND: E2B knows none of that id. */
int e2b_find_one(const char *id, int deadline_ms, struct e2b_found *ret, struct err *e);
/* It ends idle_ms from now. */
int e2b_leave(const struct sandbox *s, uint32_t idle_ms, int deadline_ms, struct err *e);

/* "2026-11-21T03:21:07.5Z" in microseconds since 1970; 0: it is none. */
uint64_t e2b_time(const char *text);

#endif
