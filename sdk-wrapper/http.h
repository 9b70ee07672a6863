/* SPDX-License-Identifier: Apache-2.0
 *
 * http - requests to providers.
 *
 * Only the http_* files know libcurl.  It is opened when the first client is made, not when the
 * program starts: a run that needs no HTTP does not pay for it, and does not need it.  It reads
 * proxies (HTTPS_PROXY, NO_PROXY, ...) itself; SSL_CERT_FILE, SSL_CERT_DIR and CURL_CA_BUNDLE
 * name other certificates; FARSTEP_HTTP1 pins HTTP/1.1.
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
	const char *headers;	/* "Name: value" lines, for http_text.h */
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

#endif
