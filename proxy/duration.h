/* SPDX-License-Identifier: Apache-2.0
 *
 * duration - "90", "90s", "15m", "2h", "3d", and back for people.  Pure. */
#ifndef FARSTEP_PROXY_DURATION_H
#define FARSTEP_PROXY_DURATION_H

#include <stdint.h>

#include "protocol/base/err.h"

/* 0 to 10 years.  ERR_USAGE; `what` names it. */
int duration_parse(const char *what, const char *text, int64_t *ret_s, struct err *e);
/* "42s", "7m", "3h", "12d": the largest unit that gives a whole one. */
void duration_text(uint64_t s, char ret[24]);

#endif
