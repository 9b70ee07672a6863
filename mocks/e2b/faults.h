/* SPDX-License-Identifier: Apache-2.0
 *
 * faults - what the mock does wrong on purpose, and how often.  Pure computation. */
#ifndef FARSTEP_E2B_FAULTS_H
#define FARSTEP_E2B_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/err.h"

enum fault_kind {
	FAULT_NONE,
	FAULT_CREATE_QUOTA,	/* create:429:quota */
	FAULT_CREATE_RATE,	/* create:429:rate */
	FAULT_CREATE_BALANCER,	/* create:429:lb */
	FAULT_CREATE_500,	/* create:500 */
	FAULT_CREATE_503,	/* create:503 */
	FAULT_CREATE_504,	/* create:504 */
	FAULT_CREATE_HANG,	/* create:hang */
	FAULT_CREATE_AMBIGUOUS,	/* create:ambiguous: creates, and answers 500 */
	FAULT_CREATE_CUT,	/* create:cut: creates, and hangs up */
	FAULT_LIST_503,		/* list:503 */
	FAULT_TIMEOUT_503,	/* timeout:503 */
	FAULT_DELETE_503,	/* delete:503 */
	FAULT_FILES_CUT,	/* files:cut@N */
	FAULT_FILES_CORRUPT,	/* files:corrupt@N */
	FAULT_PROCESS_DROP,	/* process:drop@N */
	FAULT_VANISH,		/* sandbox:vanish@SECONDS */
	FAULT_EDGE_502,		/* edge:502@N */
	FAULT_KINDS
};

struct fault {
	enum fault_kind kind;
	uint64_t at;
	int64_t left;	/* how often it may act still; -1: always */
};

enum { FAULTS_MAX = 32 };

struct faults {
	struct fault fault[FAULTS_MAX];
	size_t n;
};

const char *faults_help(void);
const char *fault_name(enum fault_kind kind);	/* "create:429:quota" */
/* Appends the rule in text, such as "files:cut@4k" or "create:503x2".  ERR_USAGE, ERR_LIMIT. */
int faults_parse(struct faults *f, const char *text, struct err *e);
/* The first rule of that kind that may still act; NULL if there is none. */
struct fault *faults_find(struct faults *f, enum fault_kind kind);
/* It acts: true, and counted, unless it has done so as often as it may. */
bool fault_act(struct fault *r);

#endif
