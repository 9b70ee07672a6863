/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox - the life of the cloud's sandboxes: states, deadlines, tokens.
 *
 *   starting -> running -> pausing -> paused -> resuming -> running ...
 *                                   any -> gone
 *
 * Knows boxes and doors; knows nothing of HTTP.  What takes time is told by a sandbox_wait. */
#ifndef FARSTEP_E2B_SANDBOX_H
#define FARSTEP_E2B_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "mocks/e2b/box.h"
#include "mocks/e2b/cloud.h"
#include "mocks/e2b/door.h"
#include "mocks/e2b/target.h"
#include "protocol/base/hash.h"
#include "protocol/base/json.h"

enum sandbox_state {
	SANDBOX_STARTING,
	SANDBOX_RUNNING,
	SANDBOX_PAUSING,
	SANDBOX_PAUSED,
	SANDBOX_RESUMING,
	SANDBOX_GONE,
};

/* Told once, when what is under way has ended: why is NULL if well, else s may be gone. */
struct sandbox_wait {
	void (*on_done)(struct sandbox_wait *w, struct sandbox *s, const struct err *why);
	struct sandbox *sandbox;	/* NULL when not waiting */
	struct sandbox_wait *next;
};

/* Told when the sandbox stops: pauses or ends.  Then it is no longer watched. */
struct sandbox_watch {
	void (*on_stop)(struct sandbox_watch *w);
	struct sandbox_watch *next, **at;	/* at: NULL when not watching */
};

/* What a create asks for; all borrowed but request, which is taken over in any case. */
struct sandbox_spec {
	const char *template_id, *alias;	/* alias may be NULL */
	int cpu, memory_mb;
	uint64_t timeout_s;
	json *request;		/* metadata, envVars and network are read from it */
	bool secure, private_traffic;
	bool auto_pause, auto_pause_memory, auto_resume;
};

struct sandbox {
	struct cloud *cloud;
	enum sandbox_state state;
	char id[SANDBOX_ID_MAX];
	char *template_id, *alias;
	json *request, *network;	/* network: of a later PUT; NULL if none */
	int cpu, memory_mb;
	char token[SHA256_HEX];		/* envd's; "" if not secure */
	char traffic_token[SHA256_HEX];	/* "" if traffic is public */
	bool auto_pause, auto_pause_memory, auto_resume;
	uint64_t timeout_s;		/* as asked for last */
	uint64_t started_us, end_us;	/* of this run; since 1970.  end: or when it paused */
	bool kept_memory;		/* paused: frozen, not ended */

	struct box box;
	struct door door;
	struct door_ask ask;
	struct loop_timer expiry, vanish, boot;
	uint64_t boot_until_ns;
	struct sandbox_wait *waits;
	struct sandbox_watch *watches;
	struct sandbox *next, **at;
};

/* ERR_QUOTA: as many run as may.  Otherwise *ret is there, starting, and w told later; it is
 * gone again if that fails. */
int sandbox_create(struct cloud *c, const struct sandbox_spec *spec, struct sandbox_wait *w,
		   struct sandbox **ret, struct err *e);
struct sandbox *sandbox_find(const struct cloud *c, const char *id);	/* NULL if none */
const char *sandbox_state_name(enum sandbox_state state);	/* "running", ... */
unsigned sandboxes_running(const struct cloud *c);	/* all that count towards the quota */

/* Only when running.  memory: the processes stay, frozen; else only the files. */
int sandbox_pause(struct sandbox *s, bool memory, struct sandbox_wait *w, struct err *e);
/* Only when paused; ERR_QUOTA.  memory false: from the files, even if processes are frozen. */
int sandbox_resume(struct sandbox *s, uint64_t timeout_s, bool memory, struct sandbox_wait *w,
		   struct err *e);
/* Another one who waits for what is under way. */
void sandbox_join(struct sandbox *s, struct sandbox_wait *w);
void sandbox_wait_stop(struct sandbox_wait *w);		/* it is not told any more */
/* The end of its life from now on; shortens too.  Clamped to TIMEOUT_MAX_S from its start. */
void sandbox_set_timeout(struct sandbox *s, uint64_t timeout_s, bool only_extend);
/* Everything in it ends, its files are removed; the object holds until sandboxes_reap. */
void sandbox_kill(struct sandbox *s);

void sandbox_watch(struct sandbox *s, struct sandbox_watch *w);
void sandbox_watch_stop(struct sandbox_watch *w);

void sandboxes_reap(struct cloud *c);	/* between two passes of the loop */
void sandboxes_end(struct cloud *c);	/* all of them */

#endif
