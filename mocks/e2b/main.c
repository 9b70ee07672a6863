/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep-mock-e2b - an E2B cloud on loopback; one binary with roles. */
#include <stdio.h>
#include <string.h>

#include "mocks/e2b/envd.h"

int main(int argc, char **argv)
{
	if (argc >= 3 && strcmp(argv[1], "--role") == 0 && strcmp(argv[2], "envd") == 0)
		return envd_main(argc - 3, argv + 3);
	fprintf(stderr, "usage: farstep-mock-e2b --role envd [option...]\n");
	return 2;
}
