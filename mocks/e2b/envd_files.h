/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_files - what downloads, uploads and compose share. */
#ifndef FARSTEP_E2B_ENVD_FILES_H
#define FARSTEP_E2B_ENVD_FILES_H

#include "mocks/e2b/envd_int.h"

struct files_target {
	struct buf path;	/* as the query has it, decoded; a NUL follows */
	int has_path;
	struct user user;
};

/* Checks token or signature for op ("read", "write"), finds user and path.  false: the request
 * was answered.  Release t either way. */
bool files_begin(struct envd *d, struct http *h, const char *op, struct files_target *t);
void files_target_release(struct files_target *t);
/* The user of that name, or the default if it is empty.  false: the request was answered. */
bool files_user(const struct envd *d, struct http *h, const char *name, struct user *ret);
/* A query parameter with a NUL behind.  1, or 0 if there is none, or -1. */
int files_query(const struct http *h, const char *key, struct buf *out, struct err *e);

#endif
