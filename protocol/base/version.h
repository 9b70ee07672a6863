/* SPDX-License-Identifier: Apache-2.0
 *
 * version - what this binary is.  Both strings are set by the build. */
#ifndef FARSTEP_BASE_VERSION_H
#define FARSTEP_BASE_VERSION_H

const char *farstep_version(void);	/* "0.1.0" */
const char *farstep_build(void);	/* commit or source digest; "unknown" outside a build */

#endif
