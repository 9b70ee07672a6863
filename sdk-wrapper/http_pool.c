/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdlib.h>

#include "protocol/limits.h"
#include "sdk-wrapper/http_int.h"

/* A socket of libcurl on our loop. */
struct sock {
	struct loop_io io;
	struct http_pool *pool;
};

static void pool_act(struct http_pool *p, curl_socket_t fd, int what);

static void on_pool_timer(struct loop_timer *t)
{
	struct http_pool *p = (struct http_pool *)((char *)t - offsetof(struct http_pool, timer));

	pool_act(p, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
	struct http_pool *p = arg;

	(void)multi;
	if (ms < 0)
		loop_timer_stop(&p->timer);
	else if (loop_timer_start(p->http->loop, &p->timer, (uint64_t)ms, on_pool_timer, NULL) < 0)
		return -1;
	return 0;
}

static void on_socket(struct loop_io *io, unsigned got)
{
	struct sock *s = (struct sock *)io;
	int what = 0;

	if (got & LOOP_IN)
		what |= CURL_CSELECT_IN;
	if (got & LOOP_OUT)
		what |= CURL_CSELECT_OUT;
	if (got & LOOP_HUP)
		what |= CURL_CSELECT_ERR;
	pool_act(s->pool, io->fd, what);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct http_pool *p = arg;
	struct sock *s = known;
	unsigned want = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			loop_io_stop(&s->io);
		free(s);
		curl.multi_assign(p->multi, fd, NULL);
		return 0;
	}
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -1;
		s->pool = p;
		curl.multi_assign(p->multi, fd, s);
	}
	if (what & CURL_POLL_IN)
		want |= LOOP_IN;
	if (what & CURL_POLL_OUT)
		want |= LOOP_OUT;
	return loop_io_start(p->http->loop, &s->io, fd, want, on_socket, NULL);
}

struct http_pool *http_pool_new(struct http *h, struct err *e)
{
	struct http_pool *p = calloc(1, sizeof(*p));

	if (p)
		p->multi = curl.multi_init();
	if (!p || !p->multi) {
		free(p);
		err_set(e, ERR_NO_MEMORY, 0, "libcurl");
		return NULL;
	}
	p->http = h;
	curl.multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl.multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
	curl.multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl.multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
	curl.multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)LIMIT_HTTP_KEPT);
	return p;
}

void http_pool_free(struct http_pool *p)
{
	p->http->in_curl++;
	curl.multi_cleanup(p->multi);
	p->http->in_curl--;
	loop_timer_stop(&p->timer);
	free(p);
}

void http_pool_retire(struct http *h, struct http_pool *p)
{
	if (h->pool != p)
		return;
	h->pool = NULL;
	p->next = h->retired;
	h->retired = p;
}

static void on_message(const CURLMsg *m)
{
	CURLcode code = m->data.result;	/* the message dies with its handle */
	struct http_owner *owner = NULL;

	curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &owner);
	owner->on_end(owner, code);
}

/* Something is ready or due: libcurl works, then what is finished is told. */
static void pool_act(struct http_pool *p, curl_socket_t fd, int what)
{
	struct http *h = p->http;
	const CURLMsg *m;
	int running, left;

	p->users++;	/* it must not go while messages are read */
	h->in_curl++;
	curl.multi_socket_action(p->multi, fd, what, &running);
	h->in_curl--;
	while ((m = curl.multi_info_read(p->multi, &left)))
		if (m->msg == CURLMSG_DONE)
			on_message(m);
	p->users--;
	if (h->retired)
		http_kick(h);
}
