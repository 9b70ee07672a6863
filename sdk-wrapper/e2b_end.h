/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_end - the end of a sandbox at E2B, or of whatever a request for one has made. */
#ifndef FARSTEP_SDK_E2B_END_H
#define FARSTEP_SDK_E2B_END_H

#include "sdk-wrapper/provider.h"

/* Its id may be E2B_PENDING and the id of a request that was given up: then what that made is
 * looked for, with some patience.  "Already gone" is success.  Blocks, on a loop of its own, at
 * most deadline_ms.  e NULL: nobody wants to know why. */
int e2b_destroy(const struct sandbox *s, int deadline_ms, struct err *e);

#endif
