/* SPDX-License-Identifier: Apache-2.0
 *
 * template - what sandboxes are made from: names, and the size that a build gave them. */
#ifndef FARSTEP_E2B_TEMPLATE_H
#define FARSTEP_E2B_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "mocks/e2b/cloud.h"

enum {
	TEMPLATE_ID_MAX = 24,
	TEMPLATE_NAME_MAX = 129,
	BUILD_ID_MAX = 40,
	TAGS_MAX = 16,
	TEMPLATES_MAX = 1000,
};

struct template {
	char id[TEMPLATE_ID_MAX];
	char name[TEMPLATE_NAME_MAX];	/* without a tag */
	char build[BUILD_ID_MAX];	/* the last one asked for */
	bool built;			/* and it has been run */
	bool public;
	int cpu, memory_mb;
	uint64_t created_us, updated_us;
	struct {
		char name[TEMPLATE_NAME_MAX];
		char build[BUILD_ID_MAX];
		uint64_t us;
	} tag[TAGS_MAX];
	size_t n_tags;
	struct template *next;
};

/* "base" and the others that E2B has for everybody. */
int templates_start(struct cloud *c, struct err *e);
void templates_free(struct cloud *c);

/* Splits "[namespace/]name[:tag]" in any case into name and tag (the tag "default" is none). */
bool template_name_parse(const char *text, char name[TEMPLATE_NAME_MAX],
			 char tag[TEMPLATE_NAME_MAX]);
struct template *template_by_name(const struct cloud *c, const char *name);	/* or id */
/* "name", "namespace/name" or an id, each maybe with ":tag"; in any case.  NULL: ERR_NOT_FOUND,
 * or ERR_INVALID_PARAMS for a text that is no name; the message is E2B's. */
struct template *template_find(const struct cloud *c, const char *text, struct err *e);

#endif
