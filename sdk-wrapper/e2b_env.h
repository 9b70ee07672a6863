/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_env - where E2B is and who we are there, from the environment variables of the official
 * SDK: E2B_API_KEY, E2B_DOMAIN, E2B_API_URL, E2B_SANDBOX_URL, E2B_DEBUG, E2B_VALIDATE_API_KEY.
 * Pure, but for whoever reads the environment. */
#ifndef FARSTEP_SDK_E2B_ENV_H
#define FARSTEP_SDK_E2B_ENV_H

#include <stdbool.h>

#include "protocol/base/err.h"

enum { E2B_ENVD_PORT = 49983, E2B_URL_MAX = 256 };

struct e2b_env {
	char api_key[128];
	char domain[128];	/* e2b.app */
	char api_url[E2B_URL_MAX];	/* without a slash at the end */
	char sandbox_url[E2B_URL_MAX];	/* for all sandboxes; "": by their names */
	bool debug;	/* everything on this machine, nothing is created */
};

/* `get` is getenv, or a test's.  ERR_DENIED: no key, or none of the usual shape; ERR_USAGE: a URL
 * that is none. */
int e2b_env_read(const char *(*get)(const char *name), struct e2b_env *ret, struct err *e);

/* Where a sandbox is reached: the base URL for its envd, or for the WebSocket of a port
 * (scheme http or https).  The two headers E2b-Sandbox-Id and -Port go with each request. */
struct e2b_place {
	char base[E2B_URL_MAX];
	bool shared;	/* one host for many sandboxes: only the headers say which */
};

/* `domain` is the one that the create answer named, or "".  ERR_LIMIT. */
int e2b_place(const struct e2b_env *env, const char *domain, const char *sandbox, int port,
	      struct e2b_place *ret, struct err *e);

#endif
