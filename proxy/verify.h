/* SPDX-License-Identifier: Apache-2.0
 *
 * verify - a run's receipts and digests once more, offline, from the run directory alone. */
#ifndef FARSTEP_PROXY_VERIFY_H
#define FARSTEP_PROXY_VERIFY_H

#include <stdbool.h>

#include "protocol/base/buf.h"

struct verify_result {
	int receipts, steps, artifacts;
	int bad;       /* things that do not fit */
	bool ok;       /* nothing is bad and status.json says ok */
	int exit_code; /* 7 when something does not fit, else the run's own */
};

/* Checks every receipt's signature, every artifact's size and digest, every unmasked log's length
 * and digest, and that each step that status.json calls successful has a receipt.  Appends one
 * line of text per finding to out.  -1 only when the run cannot be read at all. */
int verify_run(const char *path, const char *key_file, struct verify_result *ret, struct buf *out,
               struct err *e);

#endif
