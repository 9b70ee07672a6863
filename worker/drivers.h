/* SPDX-License-Identifier: Apache-2.0
 *
 * drivers - what a driver's name means: a program, its arguments, its environment. */
#ifndef FARSTEP_WORKER_DRIVERS_H
#define FARSTEP_WORKER_DRIVERS_H

#include "protocol/base/json.h"
#include "worker/session.h"

/* Elements of an open array: driver.list's rows; category NULL: all. */
void drivers_list(const char *category, struct jw *w);
/* A driver's name that stays; "" if there is none of that name. */
const char *drivers_name(const char *name);
/* Checks driver and config of step.execute's params: ERR_INVALID_PARAMS names what is wrong
 * and, for an unknown driver, those there are. */
int drivers_check(const json *params, struct err *e);
/* Writes the members argv, env, cwd of the keeper's plan (README of keeper.h) into the open
 * object: the environment contract.  params were checked. */
int drivers_plan(const struct session *s, const json *params, const char *step, int attempt,
                 struct jw *w, struct err *e);

#endif
