/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/http_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "sdk-wrapper/http_int.h"

struct http_stream {
	struct http_owner owner;
	struct http *http;
	struct http_pool *pool;
	CURL *easy;
	void (*on_ready)(void *user, const struct err *err);
	void *user;
	char what[256];
	char error[CURL_ERROR_SIZE];
};

int http_stream_fd(const struct http_stream *s)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	curl.easy_getinfo(s->easy, CURLINFO_ACTIVESOCKET, &fd);
	return (int)fd;
}

static void on_connected(struct http_owner *o, CURLcode code)
{
	struct http_stream *s = (struct http_stream *)o;
	struct err e = ERR_INIT;

	if (code == CURLE_OK && http_stream_fd(s) >= 0) {
		s->http->connections++;
		s->on_ready(s->user, NULL);
		return;
	}
	err_set(&e, code == CURLE_OPERATION_TIMEDOUT ? ERR_DEADLINE : ERR_LOST, 0, "%s: %s",
		s->what, s->error[0] ? s->error : curl.easy_strerror(code));
	s->on_ready(s->user, &e);
}

struct http_stream *http_stream_open(struct http *h, const char *url, uint32_t connect_ms,
				     void (*on_ready)(void *user, const struct err *err),
				     void *user, struct err *e)
{
	struct http_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "connection");
		return NULL;
	}
	s->owner.on_end = on_connected;
	s->http = h;
	s->on_ready = on_ready;
	s->user = user;
	http_describe(s->what, sizeof(s->what), "connect", url);
	s->easy = http_easy_new(h, url, connect_ms, s->error, e);
	s->pool = s->easy ? http_pool_new(h, e) : NULL;
	if (!s->pool) {
		http_stream_close(s);
		return NULL;
	}
	curl.easy_setopt(s->easy, CURLOPT_PRIVATE, (char *)&s->owner);
	curl.easy_setopt(s->easy, CURLOPT_CONNECT_ONLY, 1L);
	curl.easy_setopt(s->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
	/* The upgrade to a WebSocket exists in HTTP/1.1 only. */
	curl.easy_setopt(s->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (curl.multi_add_handle(s->pool->multi, s->easy) != CURLM_OK) {
		err_set(e, ERR_SYS, 0, "%s: libcurl refused", s->what);
		http_stream_close(s);
		return NULL;
	}
	s->pool->users++;
	return s;
}

static ssize_t moved(CURLcode code, size_t n)
{
	if (code == CURLE_AGAIN)
		return -EAGAIN;
	return code == CURLE_OK ? (ssize_t)n : -EIO;
}

ssize_t http_stream_recv(struct http_stream *s, void *p, size_t n)
{
	size_t got = 0;
	CURLcode code = curl.easy_recv(s->easy, p, n, &got);

	return moved(code, got);
}

ssize_t http_stream_send(struct http_stream *s, const void *p, size_t n)
{
	size_t sent = 0;
	CURLcode code = curl.easy_send(s->easy, p, n, &sent);

	return moved(code, sent);
}

void http_stream_close(struct http_stream *s)
{
	struct http *h;

	if (!s)
		return;
	h = s->http;
	if (s->pool) {
		if (s->pool->users) {	/* it was added */
			h->in_curl++;
			curl.multi_remove_handle(s->pool->multi, s->easy);
			h->in_curl--;
			s->pool->users--;
		}
		/* In on_ready the pool is being read: it goes at the next kick. */
		s->pool->next = h->retired;
		h->retired = s->pool;
		http_kick(h);
	}
	if (s->easy)
		curl.easy_cleanup(s->easy);
	free(s);
}
