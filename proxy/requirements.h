/* SPDX-License-Identifier: Apache-2.0
 *
 * requirements - packages that the steps of a pipeline need, as it names them.
 *
 * Pure: texts in, texts out; what is installed somewhere is not known here.  A requirement is
 * brought into one form (names of pip in lower case with '-', one space where spaces may be), so
 * that the same requirements, however written, have the same digest.  Nothing that could be
 * an option of the tool passes: those are given as its variables (--env PIP_INDEX_URL=...). */
#ifndef FARSTEP_PROXY_REQUIREMENTS_H
#define FARSTEP_PROXY_REQUIREMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/buf.h"
#include "protocol/base/hash.h"

enum package_tool { TOOL_PIP, TOOL_NPM, TOOLS };
extern const char *const package_tool_names[TOOLS]; /* "pip", "npm" */

struct requirements {
	char *file; /* relative to the pipeline's directory; NULL: they stand in the pipeline */
	char **list; /* sorted, each once, when requirements_sort has run */
	size_t n;
	size_t bytes;
};

void requirements_release(struct requirements *r);
/* Appends one in its one form.  ERR_PIPELINE: it is none, and why. */
int requirements_add(struct requirements *r, enum package_tool tool, const char *text,
                     struct err *e);
void requirements_sort(struct requirements *r);
/* The lines of a requirements.txt (pip) or the "dependencies" of a package.json (npm).  All
 * mistakes go to `problems` (may be NULL) as "FILE:LINE: what\n"; *e has the first and how many
 * more (ERR_PIPELINE). */
int requirements_parse(struct requirements *r, enum package_tool tool, const char *text, size_t len,
                       const char *file, struct buf *problems, struct err *e);
/* Reads r->file in `dir`; nothing when there is none. */
int requirements_read(struct requirements *r, enum package_tool tool, const char *dir,
                      struct buf *problems, struct err *e);
/* Of the sorted list: the lock digest. */
void requirements_digest(const struct requirements *r, enum package_tool tool,
                         char hex[SHA256_HEX]);

#endif
