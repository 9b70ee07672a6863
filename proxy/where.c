/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/where.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int worker_path(char out[1024], struct err *e)
{
	static const char *const places[] = { "farstep-worker", "../lib/farstep/farstep-worker",
		                              "../libexec/farstep/farstep-worker" };
	const char *named = getenv("FARSTEP_WORKER");
	char self[900];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *dir;

	if (named && *named) {
		snprintf(out, 1024, "%s", named);
		return access(out, X_OK) == 0
		               ? 0
		               : err_set(e, ERR_NOT_FOUND, 0, "FARSTEP_WORKER: '%s' is no program",
		                         named);
	}
	self[n > 0 ? n : 0] = 0;
	dir = dirname(self);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(out, 1024, "%s/%s", dir, places[i]);
		if (access(out, X_OK) == 0)
			return 0;
	}
	return err_set(e, ERR_NOT_FOUND, 0,
	               "farstep-worker is not beside %s; install it or set FARSTEP_WORKER", self);
}
