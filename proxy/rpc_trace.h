/* SPDX-License-Identifier: Apache-2.0
 *
 * rpc_trace - every frame of a session as a JSON line, for FARSTEP_RPC_DEBUG.
 *
 *   FARSTEP_RPC_DEBUG=1       to standard error, without the payload of binary frames
 *   FARSTEP_RPC_DEBUG=./FILE  (anything with a '/') appended to that file, with it: such a file
 *                             can be played to a worker again
 *
 * {"t_ms":N,"conn":N,"dir":"out"|"in","size":N, and
 *   of a text    "id":?,"method":?,"message":{...}        "text":"..." if it is no JSON
 *   of a binary  "kind":"data","flags":N,"channel":N,"offset":"N","bytes":N,"payload":BASE64|null
 * size: of the frame without its seal; t_ms: since the trace began; conn: from 1 on.
 *
 * The keys, variables and secrets of a session are never in it: what stands there as `key`, `env`
 * and `secrets` of params or result is replaced, and so is every secret value anywhere else.  A
 * payload is left out (null) as soon as there are secrets: one could be cut by two frames. */
#ifndef FARSTEP_PROXY_RPC_TRACE_H
#define FARSTEP_PROXY_RPC_TRACE_H

#include "proxy/mask.h"

struct rpc_trace;

bool rpc_trace_wanted(void);
/* set is borrowed and may grow; NULL: no secrets.  Returns NULL without an error when nobody asks
 * for a trace; ERR_USAGE: the file cannot be opened. */
struct rpc_trace *rpc_trace_open(const struct mask_set *set, struct err *e);
void rpc_trace_close(struct rpc_trace *t);	/* NULL is fine */
void rpc_trace_connected(struct rpc_trace *t);	/* what follows is of another connection */
void rpc_trace_frame(struct rpc_trace *t, bool out, bool binary, const uint8_t *p, size_t n);

#endif
