/* SPDX-License-Identifier: Apache-2.0
 *
 * step_body - the digest that tells whether two step.execute requests ask for the same
 * (README 4.4, 8): everything in params but channels, offsets and windows. */
#ifndef FARSTEP_STEP_BODY_H
#define FARSTEP_STEP_BODY_H

#include "protocol/base/hash.h"
#include "protocol/base/json.h"

/* params need not be valid: only what is there is digested. */
int step_body_digest(const json *params, char hex[SHA256_HEX], struct err *e);
/* [A-Za-z0-9_][A-Za-z0-9_.-]*, at most LIMIT_STEP_ID bytes. */
bool step_id_is_good(const char *id);

#endif
