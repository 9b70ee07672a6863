/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_tier - sizes at E2B; pure.
 *
 * A sandbox there has the size of its template, and create takes none.  So a size that is
 * asked for selects a template whose name says it: farstep-BASE-CPUc-MEMORYm, the same content as
 * BASE in that size. */
#ifndef FARSTEP_SDK_E2B_TIER_H
#define FARSTEP_SDK_E2B_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"

enum {
	/* of a template that is built without a word on its size */
	E2B_CPU_DEFAULT = 2,
	E2B_MEMORY_DEFAULT_MB = 1024,
	E2B_CPU_MAX = 32,
	E2B_MEMORY_MIN_MB = 128,
	E2B_TEMPLATE_NAME_MAX = 128,
};

struct e2b_size {
	uint32_t cpu, memory_mb;
};

/* Both or one of them asked for (0: not): the other is the default's.  ERR_POLICY with the nearest
 * size that there is: 1 or an even number of processors up to 32; an even number of MiB from
 * 128 on. */
int e2b_size_of(uint32_t cpu, uint32_t memory_mb, struct e2b_size *ret, struct err *e);

/* The name.  What a name cannot hold of BASE (its namespace's slash, its tag's colon and what else
 * there is) becomes '-', with eight digits of BASE's digest behind, so that two bases never
 * share a name.  ERR_LIMIT. */
int e2b_tier_name(const char *base, const struct e2b_size *size, char ret[E2B_TEMPLATE_NAME_MAX],
		  struct err *e);

/* What a sandbox that was asked for will be made from. */
struct e2b_fit {
	const char *base;	/* borrowed */
	char template_name[E2B_TEMPLATE_NAME_MAX];
	struct e2b_size size;
	bool is_sized;		/* else as the template is */
};

/* Of a base template (NULL: "base"). */
int e2b_fit(const char *base, uint32_t cpu, uint32_t memory_mb, struct e2b_fit *ret,
	    struct err *e);
/* What the sandbox reports is what was asked for, or ERR_POLICY. */
int e2b_fit_check(const struct e2b_fit *fit, const struct e2b_size *got, struct err *e);
/* There is no such template: says how to get it.  Returns -1. */
int e2b_fit_missing(const struct e2b_fit *fit, struct err *e);

#endif
