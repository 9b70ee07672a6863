/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_build - builds a template at E2B: named, its files uploaded, its steps run there, waited for.
 *
 * Builds take minutes; what they log comes line by line.  The service keeps what it built of
 * the same steps, so that a second build of the same is quick. */
#ifndef FARSTEP_SDK_E2B_BUILD_H
#define FARSTEP_SDK_E2B_BUILD_H

#include "sdk-wrapper/e2b_api.h"
#include "sdk-wrapper/e2b_tier.h"

enum { E2B_STEPS_MAX = 256, E2B_BUILD_MS = 30 * 60 * 1000 };

struct e2b_build_step {
	const char *type;	/* COPY ENV RUN WORKDIR USER */
	const char *args[4];	/* NULL ends them */
	/* COPY: a tar.gz with the files, and its SHA-256, by which it is known there. */
	int fd;
	uint64_t len;
	char hash[65];
};

struct e2b_build_spec {
	const char *name;
	struct e2b_size size;
	const char *from_image, *from_template;	/* one of them */
	const struct e2b_build_step *steps;
	size_t n_steps;
};

struct e2b_build;

struct e2b_build_hooks {
	void *user;
	void (*on_line)(void *user, const char *line);	/* may be NULL; without a line end */
	/* Once, NULL: it is ready.  The build is over and freed then. */
	void (*on_done)(void *user, const struct err *err);
};

/* Everything is borrowed until on_done.  NULL: it could not be prepared. */
struct e2b_build *e2b_build_start(struct loop *l, struct http *h, struct e2b_api *a,
				  const struct e2b_build_spec *spec, uint32_t deadline_ms,
				  const struct e2b_build_hooks *hooks, struct err *e);
void e2b_build_cancel(struct e2b_build *b);	/* here, not there; NULL is fine */

/* The two requests, as JSON. */
int e2b_template_body(const struct e2b_build_spec *spec, struct buf *out, struct err *e);
int e2b_build_body(const struct e2b_build_spec *spec, struct buf *out, struct err *e);

#endif
