/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/version.h"

#ifndef FARSTEP_VERSION
#define FARSTEP_VERSION "0.0.0"
#endif
#ifndef FARSTEP_BUILD
#define FARSTEP_BUILD "unknown"
#endif

const char *farstep_version(void)
{
	return FARSTEP_VERSION;
}

const char *farstep_build(void)
{
	return FARSTEP_BUILD;
}
