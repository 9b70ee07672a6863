/* SPDX-License-Identifier: Apache-2.0
 *
 * scripts - the programs that look after dependencies in the sandbox: pip.py and npm.js, as
 * they lie beside this file. */
#ifndef FARSTEP_PROXY_DEPENDENCIES_SCRIPTS_H
#define FARSTEP_PROXY_DEPENDENCIES_SCRIPTS_H

extern const char dependencies_pip[], dependencies_npm[]; /* texts that end in NUL */

#endif
