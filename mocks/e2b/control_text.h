/* SPDX-License-Identifier: Apache-2.0
 *
 * control_text - a sandbox in the shapes that the control API shows it in. */
#ifndef FARSTEP_E2B_CONTROL_TEXT_H
#define FARSTEP_E2B_CONTROL_TEXT_H

#include "mocks/e2b/sandbox.h"

/* As create, connect and resume answer. */
int print_sandbox(const struct sandbox *s, struct buf *out, struct err *e);
/* As lists have it; detail: with what only GET /sandboxes/{id} tells. */
void write_listed(const struct sandbox *s, bool detail, struct jw *w);
/* What a list shows it as: "running" or "paused". */
const char *listed_state(const struct sandbox *s);

#endif
