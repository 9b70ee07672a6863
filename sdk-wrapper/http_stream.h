/* SPDX-License-Identifier: Apache-2.0
 *
 * http_stream - a connected byte stream, with TLS and proxies as for calls. */
#ifndef FARSTEP_SDK_HTTP_STREAM_H
#define FARSTEP_SDK_HTTP_STREAM_H

#include "sdk-wrapper/http.h"

struct http_stream;

/* Connects to the host of url (http: or https:).  on_ready gets err NULL when it stands, else
 * the reason; close the stream in either case. */
struct http_stream *http_stream_open(struct http *h, const char *url, uint32_t connect_ms,
				     void (*on_ready)(void *user, const struct err *err),
				     void *user, struct err *e);
int http_stream_fd(const struct http_stream *s);	/* to watch; belongs to the stream */
/* Bytes moved; 0 at the end (recv); -EAGAIN; -EIO.  What a send refused with -EAGAIN is to be
 * given to the next one, from the same address on. */
ssize_t http_stream_recv(struct http_stream *s, void *p, size_t n);
ssize_t http_stream_send(struct http_stream *s, const void *p, size_t n);
void http_stream_close(struct http_stream *s);	/* NULL is fine */

#endif
