/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_process_rpc - what the two files with the methods of process.Process share. */
#ifndef FARSTEP_E2B_ENVD_PROCESS_RPC_H
#define FARSTEP_E2B_ENVD_PROCESS_RPC_H

#include "mocks/e2b/envd_rpc.h"

struct proc;

/* The process that the message's selector names, by pid or by tag; ended ones only if ret_ended
 * asks for them.  NULL: the call was failed. */
struct proc *select_process(struct rpc *r, const json *message, bool *ret_ended);

void on_send_input(struct rpc *r, const json *message);
void on_stream_input(struct rpc *r, const json *message);
void on_stream_input_end(struct rpc *r);
void on_close_stdin(struct rpc *r, const json *message);

#endif
