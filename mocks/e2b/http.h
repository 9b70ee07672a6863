/* SPDX-License-Identifier: Apache-2.0
 *
 * http - an HTTP/1.1 server on our loop: bodies stream in and out, and wait where they must.
 *
 * Over libmicrohttpd, which only http.c knows.  It parses requests, reads and writes chunked
 * bodies, keeps connections alive and answers "Expect: 100-continue"; here is what it lacks: a
 * push model for answers, back-pressure both ways, and notice of a client that leaves while
 * nothing is being sent.
 *
 * A request (struct http) lives from on_request to on_close, which comes exactly once for each;
 * all its strings are borrowed until then.  Any function of it may be called from any callback,
 * but http_server_free, which must not be called from within one.  An answer may be given while
 * the body still comes in: the rest of the body is then read and dropped, and the answer sent
 * behind it (at once to a client that waits for "100 Continue"). */
#ifndef FARSTEP_E2B_HTTP_H
#define FARSTEP_E2B_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"
#include "protocol/base/loop.h"

enum {
	HTTP_HEAD_MAX = 64 * 1024,	/* request line and headers; 431 or 414 beyond */
	HTTP_QUEUE_HIGH = 256 * 1024,	/* http_write asks the writer to wait */
	HTTP_QUEUE_LOW = 64 * 1024,	/* on_drain */
	HTTP_QUEUE_MAX = 4 * 1024 * 1024,	/* http_write fails */
};
#define HTTP_LENGTH_UNKNOWN (-1)	/* the body is chunked */

struct http_server;
struct http;

struct http_server_options {
	int listen_fd;		/* listening, non-blocking; owned by the server from http_server_new
				 * on, even when that fails */
	unsigned connections;	/* at once; more wait in the backlog */
	unsigned idle_s;	/* a connection on which nothing happens this long is closed */
	/* The head of a request is there.  It must answer, or http_on with callbacks that will. */
	void (*on_request)(struct http *h, void *arg);
	void *arg;
};

/* What happens to one request; each may be NULL. */
struct http_calls {
	/* Some of the body, n > 0.  Returns how much of it was taken; less than n pauses the
	 * body until http_take_on.  Without this callback the body is dropped. */
	size_t (*on_body)(struct http *h, const uint8_t *p, size_t n);
	void (*on_body_end)(struct http *h);
	/* The answer's queue has fallen below HTTP_QUEUE_LOW after http_write said 1. */
	void (*on_drain)(struct http *h);
	/* The end: whole when the last byte of the answer was given to the kernel, not when the
	 * client left, the connection broke or http_abort was called. */
	void (*on_close)(struct http *h, bool whole);
};

struct http_server *http_server_new(struct loop *l, const struct http_server_options *o,
				    struct err *e);
/* Ends all connections, upgraded ones too; on_close comes for what was open.  NULL is fine. */
void http_server_free(struct http_server *s);

/* --- the request --- */

/* calls: borrowed. */
void http_on(struct http *h, const struct http_calls *calls, void *ctx);
void *http_ctx(const struct http *h);
const char *http_method(const struct http *h);
const char *http_target(const struct http *h);	/* as it came: "/files?path=%2Fa" */
const char *http_path(const struct http *h);	/* decoded; never holds NUL */
const char *http_query(const struct http *h);	/* as it came, behind '?'; "" if none */
/* The first of that name; NULL if none. */
const char *http_header(const struct http *h, const char *name);
void http_headers(const struct http *h, void (*each)(void *arg, const char *name,
						     const char *value), void *arg);
bool http_has_body(const struct http *h);	/* does the head announce one? */
uint64_t http_bytes_in(const struct http *h);	/* of the body, so far */
uint64_t http_bytes_out(const struct http *h);
int http_status(const struct http *h);		/* of the answer; 0 before http_start */
/* The body may come on; also in place of on_body's own return. */
void http_take_on(struct http *h);

/* --- the answer --- */

/* For the head that http_start sends; the values are copied.  Length, transfer encoding, date and
 * connection are the server's business and ignored here.  ERR_LIMIT over HTTP_HEAD_MAX. */
int http_add(struct http *h, const char *name, const char *value, struct err *e);
/* Once a request; length in bytes or HTTP_LENGTH_UNKNOWN.  If it is known, exactly so many
 * must be written before http_end (else the connection ends early, as http_abort does). */
void http_start(struct http *h, int status, int64_t length);
/* Queues n bytes of the body.  0; 1: taken, but wait for on_drain now; -1: ERR_LIMIT. */
int http_write(struct http *h, const void *p, size_t n, struct err *e);
size_t http_queued(const struct http *h);
void http_end(struct http *h);
/* After what is queued the connection breaks, without the mark of a whole body. */
void http_abort(struct http *h);
/* Says "Connection: close" and does so after the answer; before http_start. */
void http_close_after(struct http *h);
/* Start, write and end in one, whatever n; type may be NULL when n is 0. */
void http_reply(struct http *h, int status, const char *type, const void *p, size_t n);

/* --- upgrade --- */

struct http_tunnel;
typedef void http_on_open(struct http_tunnel *t, void *arg, int fd, const uint8_t *extra,
			  size_t n);
/* Answers 101 with what http_add has ("Connection: Upgrade" is added) in place of http_start;
 * then on_open gets the socket (non-blocking, borrowed until http_tunnel_close) and what the
 * client sent behind its request.  on_close comes after http_tunnel_close, or when the client left
 * before on_open.  Only for a request without a body that asked for an upgrade. */
int http_upgrade(struct http *h, http_on_open *on_open, void *arg, struct err *e);
void http_tunnel_close(struct http_tunnel *t);	/* stop watching the socket first */
/* What to call when http_server_free ends the tunnel; after it, t is gone. */
void http_tunnel_on_end(struct http_tunnel *t, void (*on_end)(void *arg), void *arg);

#endif
