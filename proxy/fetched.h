/* SPDX-License-Identifier: Apache-2.0
 *
 * fetched - the artifacts of a step that are home and proved, as events, status.json and the
 * run directory's journal tell them. */
#ifndef FARSTEP_PROXY_FETCHED_H
#define FARSTEP_PROXY_FETCHED_H

#include "protocol/base/hash.h"
#include "protocol/base/json.h"

struct fetched {
	char *path; /* under artifacts/STEP/ */
	uint64_t size;
	char sha256[SHA256_HEX];
};

/* The members path, size and sha256 of an open object.  under: what stands before the path, or
 * NULL. */
void fetched_print(struct jw *w, const char *under, const struct fetched *f);
/* The journal's member "artifacts", and back from its value.  What was read is the caller's in
 * either case, for fetched_free(). */
void fetched_write(struct jw *w, const struct fetched *list, size_t n);
int fetched_read(const json *v, struct fetched **list, size_t *n, struct err *e);
void fetched_free(struct fetched *list, size_t n);

#endif
