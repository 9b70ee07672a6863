/* SPDX-License-Identifier: Apache-2.0
 *
 * http_int - what the http_* files share: the client, its pools of connections, and who is told
 * of the end of a transfer. */
#ifndef FARSTEP_SDK_HTTP_INT_H
#define FARSTEP_SDK_HTTP_INT_H

#include "sdk-wrapper/http.h"
#include "sdk-wrapper/http_curl.h"

/* Connections that are used together.  After anything broke, new calls get a new pool: what
 * else is open of the old one, an HTTP/2 connection that was told to go away above all, is not
 * used for anything new. */
struct http_pool {
	struct http *http;
	struct http_pool *next;
	CURLM *multi;
	struct loop_timer timer;
	unsigned users;		/* calls, or the stream */
};

struct http {
	struct loop *loop;
	void (*trace)(const char *line);
	struct http_pool *pool;	/* for new calls; NULL: to be made */
	struct http_pool *retired;
	struct http_call *waiting, *running;
	struct loop_timer kick;	/* waiting ones are to be added, or doomed ones removed */
	unsigned in_curl;	/* it calls us: nothing may be added or removed now */
	unsigned connections;
	bool http1;
	const char *ca_file, *ca_dir;	/* of the environment */
};

/* What a transfer belongs to: its CURLOPT_PRIVATE, the first member of a call or a stream. */
struct http_owner {
	void (*on_end)(struct http_owner *o, CURLcode code);
};

/* --- http.c --- */

/* With the loop's next round: waiting calls begin, cancelled ones and unused pools go. */
void http_kick(struct http *h);

/* --- http_pool.c: libcurl on our loop --- */

struct http_pool *http_pool_new(struct http *h, struct err *e);
void http_pool_free(struct http_pool *p);	/* closes its connections; it has no users */
void http_pool_retire(struct http *h, struct http_pool *p);	/* nothing new comes into it */

/* --- http_easy.c --- */

/* A transfer with all that calls and streams have in common; error holds CURL_ERROR_SIZE bytes
 * and lives as long.  connect_ms 0: 30 s. */
CURL *http_easy_new(struct http *h, const char *url, uint32_t connect_ms, char *error,
		    struct err *e);
/* "POST https://host/path", without the query: signatures stand there. */
void http_describe(char *ret, size_t size, const char *method, const char *url);

#endif
