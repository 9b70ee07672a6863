/* SPDX-License-Identifier: Apache-2.0
 *
 * options - the command line of farstep-mock-e2b. */
#ifndef FARSTEP_E2B_OPTIONS_H
#define FARSTEP_E2B_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "mocks/e2b/faults.h"

enum { ENVD_FAULTS_MAX = 16 };

struct options {
	struct sockaddr_in listen;
	const char *root;		/* NULL: a temporary directory */
	const char *api_key;
	uint64_t latency_ms, create_delay_ms;
	unsigned max_sandboxes;
	const char *envd_version;
	const char *log;		/* NULL: none */
	struct faults faults;		/* those of the cloud; */
	const char *envd_fault[ENVD_FAULTS_MAX];	/* and those that envd acts on */
	unsigned n_envd_faults;
	bool print_env, with_parent;
	bool help, version;
};

/* ERR_USAGE.  Strings are borrowed from argv. */
int options_parse(struct options *ret, int argc, char **argv, struct err *e);
void options_usage(void);	/* to standard output */

#endif
