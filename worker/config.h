/* SPDX-License-Identifier: Apache-2.0
 *
 * config - the worker's options as one JSON object, from wherever whoever starts it can put it:
 * an argument, a file, standard input, the environment.  Knows no option by name. */
#ifndef FARSTEP_WORKER_CONFIG_H
#define FARSTEP_WORKER_CONFIG_H

#include "protocol/base/json.h"

#define CONFIG_VARIABLE "FARSTEP_WORKER_CONFIG"

/* In the order of their rank: what an earlier one says counts. */
enum config_source { CONFIG_JOB, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_SOURCES };

/* "--config FILE" and so on, for messages. */
const char *config_source_name(enum config_source from);
/* value: base64 (JOB), a path or "-" for standard input (FILE), JSON or base64 of it
 * (ENVIRONMENT).  An object; the caller frees.  Anything else, and more than
 * LIMIT_WORKER_CONFIG, is ERR_USAGE.  Standard input is waited for, WORKER_CONFIG_MS at most. */
json *config_load(enum config_source from, const char *value, struct err *e);

#endif
