/* SPDX-License-Identifier: Apache-2.0
 *
 * mask_json - masks the values of a JSON text rather than its characters: a secret with a quote
 * in it stands there escaped, and a secret of digits must not break a number. */
#ifndef FARSTEP_PROXY_MASK_JSON_H
#define FARSTEP_PROXY_MASK_JSON_H

#include "proxy/mask.h"

/* Appends the value in text, compact, with its strings and the names of its members masked.
 * Numbers stay: in our own files they are ours. */
int mask_json(const struct mask_set *set, const char *text, size_t n, struct buf *out,
              struct err *e);

#endif
