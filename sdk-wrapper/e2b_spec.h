/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_spec - what is asked of E2B for a sandbox, and how one is called and reached; sends
 * nothing. */
#ifndef FARSTEP_SDK_E2B_SPEC_H
#define FARSTEP_SDK_E2B_SPEC_H

#include "sdk-wrapper/e2b_env.h"
#include "sdk-wrapper/e2b_tier.h"
#include "sdk-wrapper/e2b_wire.h"
#include "sdk-wrapper/provider.h"

/* Below the ports that Linux gives to outgoing connections (32768 and up): one of those, made in
 * the sandbox before the worker listens, would have its port now and then. */
enum { E2B_WORKER_PORT = 27110 };

/* The names of our labels in the metadata. */
#define E2B_LABEL_RUN "farstep_run"
#define E2B_LABEL_KEY "farstep_key"
#define E2B_LABEL_HOST "farstep_host"
#define E2B_LABEL_NETWORK "farstep_network"	/* on, off */
#define E2B_LABEL_KEEP "farstep_keep"		/* yes, or absent */

/* A sandbox whose id is not known yet: this, and the id of the request for it. */
#define E2B_PENDING "create:"
/* With E2B_DEBUG: this machine, under the name that the official client gives it. */
#define E2B_DEBUG_SANDBOX "debug_sandbox_id"

enum { E2B_UNIQUE_LEN = 32 };

/* A request, and what it points into: not to be moved. */
struct e2b_order {
	struct e2b_create create;
	char unique[E2B_UNIQUE_LEN + 1];
	char host[128];
	const char *labels[12];
};

/* spec and fit are borrowed as long as ret is used. */
int e2b_order(const struct sandbox_spec *spec, const struct e2b_fit *fit, struct e2b_order *ret,
	      struct err *e);

/* What of a spec it cannot do. */
int e2b_check(const struct sandbox_spec *spec, struct err *e);
/* The same with E2B_DEBUG, where nothing is created and the sandbox is this machine. */
int e2b_check_debug(const struct sandbox_spec *spec, struct err *e);

/* The create request, for --dry-run: appends one JSON object. */
int e2b_describe(const struct sandbox_spec *spec, struct buf *out, struct err *e);

/* Where the worker of a sandbox is reached. */
int e2b_address(const struct e2b_env *env, const struct e2b_sandbox *s, char *ret, size_t size,
		struct err *e);

#endif
