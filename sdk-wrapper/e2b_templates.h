/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_templates - templates at E2B, for who has nothing else to do: each call waits until it is
 * over, on a loop of its own. */
#ifndef FARSTEP_SDK_E2B_TEMPLATES_H
#define FARSTEP_SDK_E2B_TEMPLATES_H

#include "sdk-wrapper/e2b_build.h"

struct e2b_template {
	const char *id, *name, *status;	/* borrowed; name: the first; status: of its build */
	uint32_t cpu, memory_mb;
	bool is_public;
};

/* Those of the account. */
int e2b_templates_list(void (*on_item)(void *user, const struct e2b_template *t), void *user,
		       uint32_t deadline_ms, struct err *e);
int e2b_templates_build(const struct e2b_build_spec *spec,
			void (*on_line)(void *user, const char *line), void *user,
			uint32_t deadline_ms, struct err *e);

#endif
