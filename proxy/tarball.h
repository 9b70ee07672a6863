/* SPDX-License-Identifier: Apache-2.0
 *
 * tarball - the files of a package as a .tar.gz, for who takes nothing else.
 *
 * Deterministic as the package itself: no times, no owners.  Not compressed (gzip has blocks for
 * that): it is a worker and a few small files.  A name of more than 100 bytes is refused, as is a
 * path of more than 155 before it. */
#ifndef FARSTEP_PROXY_TARBALL_H
#define FARSTEP_PROXY_TARBALL_H

#include "proxy/package.h"

/* To fd (a new file).  The package is indexed.  ERR_INTEGRITY: a file changed meanwhile. */
int tarball_write(const struct package *p, int fd, char sha256[SHA256_HEX], uint64_t *len,
		  struct err *e);

#endif
