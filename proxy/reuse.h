/* SPDX-License-Identifier: Apache-2.0
 *
 * reuse - --keep and --sandbox: a sandbox that outlives its run, and another run in it. */
#ifndef FARSTEP_PROXY_REUSE_H
#define FARSTEP_PROXY_REUSE_H

#include "proxy/options.h"
#include "protocol/keys.h"
#include "sdk-wrapper/provider.h"

#define KEEP_IDLE_MS 300000 /* how long a kept sandbox that nobody uses stays */

/* Finds the sandbox of --sandbox and holds its mark (*hold; -1 when this machine has none), so that
 * gc leaves it alone.  ERR_PROVIDER: it is gone.  ERR_DENIED: it was made with another user key.
 * ERR_POLICY: its network is not as asked for. */
int reuse_find(const struct options *o, const uint8_t user_key[USER_KEY_LEN], struct sandbox *ret,
               int *hold, struct err *e);
/* How long it stays when it is left: KEEP_IDLE_MS, or --timeout if that is shorter. */
uint32_t keep_idle_ms(const struct options *o);

#endif
