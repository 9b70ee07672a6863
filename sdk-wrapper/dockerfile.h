/* SPDX-License-Identifier: Apache-2.0
 *
 * dockerfile - a Dockerfile as steps that a builder of sandbox templates can take; pure.
 *
 * FROM, ENV, RUN, COPY, WORKDIR and USER are understood, one stage, RUN as a line for the shell.
 * What cannot be translated is refused with its line, all mistakes at once: a template that
 * lacks half of its file would be worse than none. */
#ifndef FARSTEP_SDK_DOCKERFILE_H
#define FARSTEP_SDK_DOCKERFILE_H

#include <stddef.h>

#include "protocol/base/buf.h"
#include "protocol/base/err.h"

enum {
	DOCKERFILE_MAX = 256 * 1024,
	DOCKERFILE_STEPS = 200,
};

enum docker_verb { DOCKER_ENV, DOCKER_RUN, DOCKER_COPY, DOCKER_WORKDIR, DOCKER_USER };

struct docker_step {
	enum docker_verb verb;
	int line;
	/* ENV: name, value.  RUN: the command.  COPY: one source, destination, owner, mode (or
	 * NULL).  WORKDIR, USER: it. */
	char *args[4];
};

struct dockerfile {
	char *from;
	struct docker_step *steps;
	size_t n;
};

/* ERR_PIPELINE: "NAME:LINE: what", a line for each; *e has the first, `problems` (may be NULL) all
 * of them.  The caller releases in any case. */
int dockerfile_parse(const char *text, size_t len, const char *name, struct dockerfile *ret,
		     struct buf *problems, struct err *e);
void dockerfile_release(struct dockerfile *d);

#endif
