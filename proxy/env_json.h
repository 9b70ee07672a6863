/* SPDX-License-Identifier: Apache-2.0
 *
 * env_json - the variables given on the command line as the JSON object that session.open takes. */
#ifndef FARSTEP_PROXY_ENV_JSON_H
#define FARSTEP_PROXY_ENV_JSON_H

#include "proxy/options.h"

/* Those given by --secret, or all others.  *ret NULL when there are none; free with env_json_free.
 * The last of several with one name wins. */
int env_json(const struct options *o, bool secret, char **ret, struct err *e);
void env_json_free(char *text);		/* wipes */

#endif
