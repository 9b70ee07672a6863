/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd - one function per command, one file per family; the table is in proxy/main.c. */
#ifndef FARSTEP_PROXY_CMD_H
#define FARSTEP_PROXY_CMD_H

#include "proxy/options.h"

int cmd_run(struct options *o);
int cmd_prepare(struct options *o);
int cmd_execute(struct options *o);
int cmd_collect(struct options *o);
int cmd_attach(struct options *o);
int cmd_cancel(struct options *o);
int cmd_ps(struct options *o);
int cmd_status(struct options *o);
int cmd_exec(struct options *o);
int cmd_verify(struct options *o);
int cmd_doctor(struct options *o);
int cmd_sandboxes(struct options *o);
int cmd_template(struct options *o);
int cmd_completions(struct options *o);

/* Prints "farstep: CLASS: message" and returns the exit code. */
int cmd_fail(const struct err *e);

#endif
