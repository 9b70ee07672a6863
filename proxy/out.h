/* SPDX-License-Identifier: Apache-2.0
 *
 * out - copies a run's artifacts to where the user wants them (--out). */
#ifndef FARSTEP_PROXY_OUT_H
#define FARSTEP_PROXY_OUT_H

#include "protocol/base/err.h"

/* Everything below RUN_DIR/artifacts to dir, which is made; files are replaced atomically. */
int out_copy(int run_dir_fd, const char *dir, struct err *e);

#endif
