/* SPDX-License-Identifier: Apache-2.0
 *
 * report - what a script of dependencies found and did, read from its report.json.
 *
 * It comes from the sandbox: types and bounds are checked, and what it says is only ever
 * used for the steps of that same sandbox. */
#ifndef FARSTEP_PROXY_DEPENDENCIES_REPORT_H
#define FARSTEP_PROXY_DEPENDENCIES_REPORT_H

#include "protocol/base/json.h"
#include "proxy/plan.h"

struct dependency_report {
	json *v; /* NULL: there is none */
	const json *present, *missing, *installed; /* arrays, may be NULL */
	bool reused;
	const char *error;                    /* of the tool; NULL: none */
	const char *environment, *bin, *path; /* path: PATH as it is in the sandbox */
	const json *env;                      /* variables for steps; NULL: none */
};

int dependency_report_parse(struct dependency_report *r, const char *text, size_t len,
                            struct err *e);
void dependency_report_release(struct dependency_report *r);
/* "a, b and 3 more" of an array of strings. */
void dependency_report_names(const json *list, char *to, size_t size);

/* Of the last lines of a tool's log those that tell of errors (the first three; else the last
 * line), without control characters. */
void dependency_log_words(const char *text, size_t len, char *to, size_t size);

/* The variables that steps get from n reports, as members of an object that is open, together
 * with those of the step itself (`own`).  A variable that is a search path (PATH, PYTHONPATH,
 * NODE_PATH) is put in front of what the step sets; of others the step's value counts. */
void dependency_reports_env(const struct dependency_report *reports, size_t n,
                            const struct plan_env *own, size_t n_own, struct jw *w);

#endif
