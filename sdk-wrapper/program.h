/* SPDX-License-Identifier: Apache-2.0
 *
 * program - for which processor the worker's program is. */
#ifndef FARSTEP_SDK_PROGRAM_H
#define FARSTEP_SDK_PROGRAM_H

#include "protocol/base/err.h"

/* As `uname -m` calls it, from the program's ELF header; "" when it is none, or of a processor that
 * is not known here.  ERR_PROVIDER: it cannot be read. */
int program_machine(const char *path, const char **ret, struct err *e);
/* ERR_UNSUPPORTED: it is for another processor than this machine's. */
int program_fits_here(const char *path, struct err *e);

#endif
