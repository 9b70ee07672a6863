/* SPDX-License-Identifier: Apache-2.0
 *
 * manifest - what a step leaves to be brought home: found, hashed, listed.
 *
 * Everything in artifacts_dir, then what the globs match in output_dir and in work_dir; where
 * the same relative path appears twice, the first wins.  Only regular files: anything else is
 * refused and named in the receipt.  Writes `manifest` (canonical JSON) and `files` (absolute
 * paths, NUL-ended, in its order) into dir_fd; nothing when there is nothing. */
#ifndef FARSTEP_WORKER_MANIFEST_H
#define FARSTEP_WORKER_MANIFEST_H

#include "protocol/receipt.h"

struct manifest_spec {
	const char *artifacts_dir, *output_dir, *work_dir; /* absolute */
	const char *const *globs; /* NULL-ended; `**` crosses directories */
	/* Called again and again while it looks and hashes, which may take minutes; may be NULL. */
	void (*alive)(void);
};

/* Fills ret->artifacts and ret->refused. */
int manifest_make(const struct manifest_spec *spec, int dir_fd, struct receipt *ret, struct err *e);
/* A glob can match something: not empty, relative, no ".." component, at most LIMIT_PATH bytes. */
bool glob_is_good(const char *glob);
/* Does the glob match the relative path?  As fnmatch with FNM_PATHNAME | FNM_PERIOD, and "**". */
bool glob_match(const char *glob, const char *path);

#endif
