/* SPDX-License-Identifier: Apache-2.0
 *
 * envd_put - one file into an E2B sandbox, whole or not at all.
 *
 * In parts of 16 MiB, several at once, each sent again by itself when it breaks off; then envd
 * puts them together and renames.  With an envd before 0.5.7, which knows no such parts: one
 * upload beside the place, then a rename. */
#ifndef FARSTEP_SDK_ENVD_PUT_H
#define FARSTEP_SDK_ENVD_PUT_H

#include "sdk-wrapper/envd.h"

struct envd_put;

/* `id` names the parts: with `resume`, those of an earlier try with the same id and file that are
 * there in full length are not sent again.  file->fd is borrowed until the end.  `bytes` of
 * the result: what was sent. */
struct envd_put *envd_put(struct envd *d, const struct envd_file *file, const char *id,
			  bool resume, const struct envd_end *end, struct err *e);
void envd_put_cancel(struct envd_put *p);	/* parts stay, to be resumed; NULL is fine */

#endif
