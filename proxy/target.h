/* SPDX-License-Identifier: Apache-2.0
 *
 * target - what the target options ask of a provider. */
#ifndef FARSTEP_PROXY_TARGET_H
#define FARSTEP_PROXY_TARGET_H

#include "proxy/options.h"
#include "sdk-wrapper/provider.h"

/* How much longer than --timeout a sandbox may live: what there is comes home, then it is ended. */
enum { LIFE_AFTER_TIMEOUT_MS = 60000 };

/* Sets what options say: template, size, network, lease, life.  Borrows from o. */
void target_spec(const struct options *o, struct sandbox_spec *ret);

#endif
