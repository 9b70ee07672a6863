/* SPDX-License-Identifier: Apache-2.0
 *
 * boxes - every sandbox that can be known from here, and what is left of those that are gone.
 *
 * Four sources, put together by the sandbox's id: the marks of this user on this machine, run
 * directories with their journals, workers among the processes, and what E2B lists by our
 * labels. */
#ifndef FARSTEP_PROXY_BOXES_H
#define FARSTEP_PROXY_BOXES_H

#include "protocol/keys.h"
#include "protocol/limits.h"
#include "sdk-wrapper/provider.h"

enum box_state {
	BOX_RUNNING,
	BOX_PAUSED,
	BOX_REMAINS, /* it is gone, files of it are left */
};

typedef char box_run[LIMIT_RUN_ID + 1];

struct box {
	struct sandbox sandbox;
	enum box_state state;
	char key_id[20], host[128], run_dir[1024];
	char dir[256]; /* of its mark; "": none */
	uint64_t born_us;
	bool ours;   /* made with this user key */
	bool here;   /* there is a mark or a run directory, so that `living` is known */
	bool living; /* a proxy works with it */
	bool keep;
	box_run *lost; /* runs that did not end and could be attached while it is there */
	size_t n_lost;
};

struct boxes {
	struct box *v;
	size_t n;
	char (*sockets)[256]; /* of runs that nobody listens at any more */
	size_t n_sockets;
};

struct boxes_spec {
	const char *root; /* of run directories; it need not exist */
	const uint8_t *user_key;
	bool all_keys; /* E2B: other keys too */
};

/* What is on this machine. */
int boxes_here(struct boxes *b, const struct boxes_spec *spec, struct err *e);
/* Adds what is at E2B. */
int boxes_at_e2b(struct boxes *b, const struct boxes_spec *spec, struct err *e);
void boxes_release(struct boxes *b);

struct box *boxes_find(const struct boxes *b, const char *id);
/* Ends it and removes what is left of it.  "Already gone" is success.  ERR_BUSY: with spare_used, a
 * proxy works with it by now. */
int box_end(const struct box *b, bool spare_used, struct err *e);

uint64_t box_age_s(const struct box *b, uint64_t now_us);
const char *box_state_name(const struct box *b); /* "in use", "kept", "orphan", ... */

/* ---- what gc ends; pure ---- */

struct gc_rule {
	bool all;
	int64_t older_than_s;
	uint64_t now_us;
};

enum gc_verdict { GC_END, GC_IN_USE, GC_TOO_YOUNG, GC_NOT_OURS, GC_NOT_HERE };

enum gc_verdict gc_judge(const struct box *b, const struct gc_rule *r);
const char *gc_reason(enum gc_verdict v);

#endif
