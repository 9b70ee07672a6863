/* SPDX-License-Identifier: Apache-2.0
 *
 * err - the one error type, passed by the caller, never allocated.
 *
 * Every function that can fail takes a trailing `struct err *e` and returns -1
 * (or NULL).  On success *e is untouched.  Libraries never print; the caller
 * who gives up on the operation reports the error, once.
 *
 * The codes, their JSON-RPC numbers, retry advice and exit codes are the rows
 * of protocol/errors.def. */
#ifndef FARSTEP_BASE_ERR_H
#define FARSTEP_BASE_ERR_H

#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

enum err_code {
	ERR_NONE = 0,
#define ERROR(id, name, rpc, retry, exit, text) ERR_##id,
#include "protocol/errors.def"
#undef ERROR
	ERR_COUNT
};

/* Was the request carried out?  UNKNOWN is resolved by asking again by id. */
enum admitted { ADMITTED_NO = 0, ADMITTED_YES, ADMITTED_UNKNOWN };

struct err {
	enum err_code code;
	enum admitted admitted;
	int sys;	/* errno, 0 if none; never leaves the machine raw */
	char msg[400];	/* "outer: inner: reason", NUL-terminated, valid UTF-8 not promised */
};

#define ERR_INIT { 0 }

/* Fill *e; appends ": strerror(sys)" if sys is not 0.  Always returns -1, so that
 * `return err_set(...)` is the failure path.  e may be NULL. */
int err_set(struct err *e, enum err_code code, int sys, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Prefix the message with what the caller was doing.  Returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

const char *err_name(enum err_code code);   /* "invalid_params" */
enum err_code err_by_name(const char *name); /* ERR_INTERNAL when unknown */
int err_rpc(enum err_code code);	    /* JSON-RPC number */
enum err_code err_by_rpc(int rpc);
const char *err_retry(enum err_code code);  /* "same" | "changed" | "never" */
int err_exit(enum err_code code);	    /* exit code of the command line */
const char *admitted_name(enum admitted a); /* "no" | "yes" | "unknown" */

#endif
