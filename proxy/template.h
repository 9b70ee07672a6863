/* SPDX-License-Identifier: Apache-2.0
 *
 * template - definitions of sandbox templates on this machine: a directory with a template.yaml
 * and a Dockerfile each, found by name.
 *
 * template.yaml: name, description, cpu, memory (GiB), worker (the name under which the Dockerfile
 * copies the worker's program; it is no file of the directory). */
#ifndef FARSTEP_PROXY_TEMPLATE_H
#define FARSTEP_PROXY_TEMPLATE_H

#include "sdk-wrapper/dockerfile.h"
#include "sdk-wrapper/e2b_build.h"

enum { TEMPLATES_HERE_MAX = 200, TEMPLATE_DIRS = 4 };

struct template_def {
	char *name, *description, *worker;
	char dir[1024];		/* absolute */
	uint32_t cpu, memory_mb;
};

/* The directories that hold definitions, in the order in which they are looked through:
 * FARSTEP_TEMPLATES, else ./templates, and those that came with this program. */
size_t template_places(char ret[TEMPLATE_DIRS][1024]);

/* Reads DIR/template.yaml.  ERR_PIPELINE with its lines; `problems` (may be NULL) all of them. */
int template_load(const char *dir, struct template_def *ret, struct buf *problems, struct err *e);
void template_release(struct template_def *t);

/* All that are found, sorted by name; of two with one name the first found.  A definition that is
 * wrong is told to on_wrong and left out.  Returns how many, or -1. */
int template_list(struct template_def ret[TEMPLATES_HERE_MAX],
		  void (*on_wrong)(const char *dir, const struct err *err), struct err *e);
/* By name, or by a path with a slash in it.  ERR_NOT_FOUND. */
int template_find(const char *name, struct template_def *ret, struct buf *problems, struct err *e);

/* --- what is built from one --- */

struct template_build {
	struct e2b_build_step steps[E2B_STEPS_MAX];
	size_t n;
	struct dockerfile file;	/* steps borrow from it */
};

/* Translates the Dockerfile, packs what it copies.  The caller releases in any case. */
int template_steps(const struct template_def *t, struct template_build *ret, struct buf *problems,
		   struct err *e);
void template_build_release(struct template_build *b);

#endif
