/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct row {
	const char *name;
	int rpc;
	const char *retry;
	int exit;
};

/* Indexed by enum err_code. */
static const struct row rows[ERR_COUNT] = {
	[ERR_NONE] = { "none", 0, "never", 0 },
#define ERROR(id, name, rpc, retry, exit, text) [ERR_##id] = { name, rpc, retry, exit },
#include "protocol/errors.def"
#undef ERROR
};

static const struct row *row_of(enum err_code code)
{
	return (unsigned)code < ERR_COUNT ? &rows[code] : &rows[ERR_INTERNAL];
}

/* Appends as much of s as fits; len is the length of what is there. */
static size_t append(char *msg, size_t size, size_t len, const char *s)
{
	size_t n = strlen(s);

	if (n > size - 1 - len)
		n = size - 1 - len;
	memcpy(msg + len, s, n);
	msg[len + n] = 0;
	return len + n;
}

int err_set(struct err *e, enum err_code code, int sys, const char *fmt, ...)
{
	char msg[sizeof(e->msg)];	/* the arguments may point into e->msg */
	size_t len;
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
		msg[0] = 0;
	va_end(ap);
	len = strlen(msg);
	if (sys) {
		if (len)
			len = append(msg, sizeof(msg), len, ": ");
		append(msg, sizeof(msg), len, strerror(sys));
	}
	e->code = code;
	e->admitted = ADMITTED_NO;
	e->sys = sys;
	memcpy(e->msg, msg, sizeof(msg));
	return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char msg[sizeof(e->msg)];
	size_t len;
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
		msg[0] = 0;
	va_end(ap);
	len = append(msg, sizeof(msg), strlen(msg), ": ");
	append(msg, sizeof(msg), len, e->msg);
	memcpy(e->msg, msg, sizeof(msg));
	return -1;
}

const char *err_name(enum err_code code)
{
	return row_of(code)->name;
}

enum err_code err_by_name(const char *name)
{
	for (int i = 0; name && i < ERR_COUNT; i++)
		if (strcmp(rows[i].name, name) == 0)
			return (enum err_code)i;
	return ERR_INTERNAL;
}

int err_rpc(enum err_code code)
{
	return row_of(code)->rpc;
}

enum err_code err_by_rpc(int rpc)
{
	for (int i = 0; i < ERR_COUNT; i++)
		if (rows[i].rpc == rpc)
			return (enum err_code)i;
	return ERR_INTERNAL;
}

const char *err_retry(enum err_code code)
{
	return row_of(code)->retry;
}

int err_exit(enum err_code code)
{
	return row_of(code)->exit;
}

const char *admitted_name(enum admitted a)
{
	static const char *const names[] = { "no", "yes", "unknown" };

	return (unsigned)a < 3 ? names[a] : "unknown";
}
