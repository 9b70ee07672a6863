/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_entry - what a file looks like from outside: EntryInfo, and the metadata of uploads. */
#ifndef FARSTEP_E2B_ENVD_ENTRY_H
#define FARSTEP_E2B_ENVD_ENTRY_H

#include "mocks/e2b/envd_int.h"

enum {
	METADATA_KEY_MAX = 246,
	METADATA_MAX = 4096,	/* keys and values of one file */
};

/* Writes the EntryInfo object of path (absolute, not followed if a link) after a jw_key or in an
 * array.  ERR_NOT_FOUND, with nothing written. */
int entry_write(const struct envd *d, const char *path, struct jw *w, struct err *e);

/* One NAME\0VALUE\0 after the other. */
struct metadata {
	struct buf pairs;
};
/* From X-Metadata-* headers.  ERR_INVALID_PARAMS. */
int metadata_take(const struct http *h, struct metadata *ret, struct err *e);
void metadata_release(struct metadata *m);
/* Replaces what the open file has. */
int metadata_store(int fd, const struct metadata *m, struct err *e);
/* Writes the member "metadata" if there is any. */
void metadata_write(const struct metadata *m, struct jw *w);

#endif
