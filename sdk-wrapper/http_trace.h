/* SPDX-License-Identifier: Apache-2.0
 *
 * http_trace - lines of HTTP traces without the secrets in them. */
#ifndef FARSTEP_SDK_HTTP_TRACE_H
#define FARSTEP_SDK_HTTP_TRACE_H

#include <stdbool.h>
#include <stddef.h>

/* One request line, status line or header, without its line end, as it may be shown: values of
 * headers that carry keys, and of a signature in a URL, become "***". */
void http_redact(const char *line, size_t n, char *ret, size_t size);
/* The same of what the library says about itself, where headers stand in the middle
 * ("h2h3 [x-api-key: ...]"): from a name that is secret on nothing is shown. */
void http_redact_note(const char *line, size_t n, char *ret, size_t size);

/* Do FARSTEP_HTTP_DEBUG or E2B_DEBUG ask for traces? */
bool http_trace_wanted(void);
/* For http_new: to the log, at a level that is shown unless -q says otherwise. */
void http_trace_log(const char *line);

#endif
