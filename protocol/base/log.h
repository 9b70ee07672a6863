/* SPDX-License-Identifier: Apache-2.0
 *
 * log - one line per event to standard error (or another descriptor), as text or JSON.
 *
 * error = this operation failed; warn = odd but going on; info = life cycle;
 * debug = frames.  Never payload, never environment, never a key.  The state is
 * per process, as standard error is.
 *
 *   2026-11-02T10:11:12.123456Z info farstep-worker: listening
 *   {"ts":"2026-11-02T10:11:12.123456Z","level":"info","program":"farstep","msg":"listening"}
 *
 * A line is one write(2); messages are clipped at 2 KiB; control characters and
 * invalid UTF-8 are escaped.  errno is kept. */
#ifndef FARSTEP_BASE_LOG_H
#define FARSTEP_BASE_LOG_H

#include <stdbool.h>

#include "protocol/base/err.h"

enum log_level { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_open(int fd, enum log_level level, bool as_json, const char *program);
int log_level_parse(const char *name, enum log_level *ret);	/* error warn info debug */
bool log_enabled(enum log_level level);
void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
