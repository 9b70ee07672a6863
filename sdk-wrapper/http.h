/* SPDX-License-Identifier: Apache-2.0
 *
 * http - requests to providers; the only file that knows libcurl (http.c).
 *
 * libcurl is opened when the first client is made, not when the program starts: a run that
 * needs no HTTP does not pay for it, and does not need it.  It reads proxies (HTTPS_PROXY,
 * NO_PROXY, ...) itself; SSL_CERT_FILE, SSL_CERT_DIR and CURL_CA_BUNDLE name other
 * certificates; FARSTEP_HTTP1 pins HTTP/1.1.
 *
 * Everything runs on the caller's loop.  Redirects are not followed, only http and https are
 * spoken.  Callbacks never come from inside the call that starts something; in them
 * everything may be started and cancelled, but http_free is not allowed. */
#ifndef FARSTEP_SDK_HTTP_H
#define FARSTEP_SDK_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/err.h"
#include "protocol/base/loop.h"

struct http;
struct http_call;

/* A piece of a request's body: memory, or a range of a file when mem is NULL. */
struct http_part {
	const void *mem;
	int fd;
	uint64_t at;
	uint64_t len;
};

/* How a call came to its end. */
enum http_end {
	HTTP_ANSWERED,	/* with whatever status */
	HTTP_NOT_SENT,	/* no connection: nobody has seen the request */
	HTTP_CUT,	/* broke off; the request may have been carried out */
	HTTP_DEADLINE,	/* deadline_ms passed; the same */
	HTTP_IDLE,	/* no byte moved for idle_ms; the same */
	HTTP_STOPPED,	/* on_data said so, or the answer was longer than max_body */
};

struct http_response {
	enum http_end end;
	int status;		/* 0: none came */
	const char *body;	/* NUL-terminated; what on_data did not get */
	size_t body_len;
	const char *headers;	/* "Name: value" lines, for http_header */
	struct err err;		/* unless ANSWERED: what failed, with `admitted` */
};

struct http_request {
	const char *method;	/* GET POST PUT DELETE */
	const char *url;
	const char *const *headers;	/* "Name: value", NULL at the end; NULL: none */
	/* The parts are copied, what they point to is borrowed until the end.  POST and PUT
	 * without parts have an empty body. */
	const struct http_part *parts;
	size_t n_parts;
	size_t max_body;	/* bound on what is collected */
	/* The body of a 2xx answer goes here as it comes (others are collected); a value other
	 * than 0 ends the call. */
	int (*on_data)(void *user, const uint8_t *p, size_t n);
	uint32_t connect_ms;	/* to the end of the TLS handshake; 0: 30 s */
	uint32_t deadline_ms;	/* of the whole call; 0: none */
	uint32_t idle_ms;	/* no byte either way; 0: no watchdog */
	/* On a new connection: libcurl repeats a request by itself when a connection that was
	 * used before turns out to be closed, and that must not happen to this one. */
	bool fresh;
	/* May be NULL.  The last of the body was given to libcurl, which is calling: only to be
	 * noted. */
	void (*on_sent)(void *user);
	/* Called once, not after http_cancel.  *r is borrowed. */
	void (*on_done)(void *user, const struct http_response *r);
	void *user;
};

/* ERR_UNSUPPORTED when there is no libcurl.  `trace` gets one redacted line per request
 * line, header and body length; NULL: nobody. */
struct http *http_new(struct loop *l, void (*trace)(const char *line), struct err *e);
void http_free(struct http *h);	/* cancels all calls; streams must be closed; NULL is fine */
unsigned http_connections(const struct http *h);	/* opened so far */

/* NULL: it could not even be prepared. */
struct http_call *http_start(struct http *h, const struct http_request *req, struct err *e);
void http_cancel(struct http_call *c);	/* NULL is fine */
int http_status(const struct http_call *c);	/* for on_data: of the answer that is coming */

/* The value of the (last) header of that name, copied into ret; false: there is none. */
bool http_header(const struct http_response *r, const char *name, char *ret, size_t size);

/* Appends s percent-encoded, all but A-Z a-z 0-9 - . _ ~ (and '/' where keep_slash). */
struct buf;
int http_escape(struct buf *out, const char *s, bool keep_slash, struct err *e);

/* --- a connected byte stream, with TLS and proxies as for calls --- */

struct http_stream;

/* Connects to the host of url (http: or https:).  on_ready gets err NULL when it stands, else
 * the reason; close the stream in either case. */
struct http_stream *http_stream_open(struct http *h, const char *url, uint32_t connect_ms,
				     void (*on_ready)(void *user, const struct err *err),
				     void *user, struct err *e);
int http_stream_fd(const struct http_stream *s);	/* to watch; belongs to the stream */
/* Bytes moved; 0 at the end (recv); -EAGAIN; -EIO. */
ssize_t http_stream_recv(struct http_stream *s, void *p, size_t n);
ssize_t http_stream_send(struct http_stream *s, const void *p, size_t n);
void http_stream_close(struct http_stream *s);	/* NULL is fine */

#endif
