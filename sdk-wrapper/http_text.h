/* SPDX-License-Identifier: Apache-2.0
 *
 * http_text - a header out of an answer, a text into a URL; pure. */
#ifndef FARSTEP_SDK_HTTP_TEXT_H
#define FARSTEP_SDK_HTTP_TEXT_H

#include "protocol/base/buf.h"
#include "sdk-wrapper/http.h"

/* The value of the (last) header of that name, copied into ret; false: there is none. */
bool http_header(const struct http_response *r, const char *name, char *ret, size_t size);

/* Appends s percent-encoded, all but A-Z a-z 0-9 - . _ ~ (and '/' where keep_slash). */
int http_escape(struct buf *out, const char *s, bool keep_slash, struct err *e);

#endif
