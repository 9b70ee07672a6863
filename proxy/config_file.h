/* SPDX-License-Identifier: Apache-2.0
 *
 * config_file - farstep.yaml in the directory where farstep is started: what options and
 * environment leave open.
 *
 *   target: e2b
 *   timeout: 900
 *   network: off                 # or on, or a list of hosts
 *   install_deps: true           # what the pipeline says of it goes before
 *   e2b:                         # counts only when that is the target
 *     template: python
 *     cpu: 4
 *     memory: 8                  # GiB
 *     build_template: true
 *     timeout: 1800              # goes before the one above
 *     network: [api.example.org]
 *     templates: {python: my-team/python-3}   # names for --template
 *
 * A file of that name that has `steps` is a pipeline, and none of this. */
#ifndef FARSTEP_PROXY_CONFIG_FILE_H
#define FARSTEP_PROXY_CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/err.h"

#define CONFIG_FILE "farstep.yaml"

enum { CONFIG_FILE_MAX = 64 * 1024, CONFIG_VALUES_MAX = 32, CONFIG_NAMES_MAX = 100 };

struct config_value {
	char *option;	/* "--cpu" */
	char *value;	/* as the option takes it; "" for one that takes none; on or off */
	bool e2b_only;
	int line;
};

struct config_name {
	char *name, *template_id;
};

struct config_file {
	struct config_value values[CONFIG_VALUES_MAX];
	size_t n;
	struct config_name names[CONFIG_NAMES_MAX];
	size_t n_names;
};

/* NULL and no error in *e: there is none.  ERR_USAGE: every mistake as "FILE:LINE: what". */
struct config_file *config_file_load(const char *file, struct err *e);
void config_file_free(struct config_file *c);	/* NULL is fine */
/* The last that is said of an option for that target; NULL. */
const struct config_value *config_file_get(const struct config_file *c, const char *option,
					   bool is_e2b);
/* What a template's name stands for: itself when it is not in the list. */
const char *config_file_template(const struct config_file *c, const char *name);

#endif
