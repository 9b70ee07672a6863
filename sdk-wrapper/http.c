/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/http.h"

#define CURL_DISABLE_TYPECHECK	/* its macros would name functions that are not linked */
#include <ctype.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "sdk-wrapper/http_trace.h"

/* --- the library --- */

#define LIBRARY "libcurl.so.4"

enum {
	OLDEST = 0x074000,	/* 7.64: the socket interface as used here */
	CONNECT_MS = 30000,
};

#define FUNCTIONS(F)                                                                               \
	F(global_init)                                                                             \
	F(version_info)                                                                            \
	F(slist_append)                                                                            \
	F(slist_free_all)                                                                          \
	F(easy_init)                                                                               \
	F(easy_cleanup)                                                                            \
	F(easy_setopt)                                                                             \
	F(easy_getinfo)                                                                            \
	F(easy_strerror)                                                                           \
	F(easy_send)                                                                               \
	F(easy_recv)                                                                               \
	F(multi_init)                                                                              \
	F(multi_cleanup)                                                                           \
	F(multi_setopt)                                                                            \
	F(multi_strerror)                                                                          \
	F(multi_add_handle)                                                                        \
	F(multi_remove_handle)                                                                     \
	F(multi_socket_action)                                                                     \
	F(multi_info_read)                                                                         \
	F(multi_assign)

#define MEMBER(f) __typeof__(&curl_##f) f;
/* Per process, as the library is. */
static struct {
	void *handle;
	FUNCTIONS(MEMBER)
} lib;
#undef MEMBER

static int find(void *handle, const char *name, void *ret, struct err *e)
{
	void *symbol = dlsym(handle, name);

	if (!symbol)
		return err_set(e, ERR_UNSUPPORTED, 0, LIBRARY " has no %s: too old", name);
	memcpy(ret, &symbol, sizeof(symbol));
	return 0;
}

static int library_open(struct err *e)
{
	void *handle;

	if (lib.handle)
		return 0;
	handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return err_set(e, ERR_UNSUPPORTED, 0,
			       "HTTP needs libcurl (apt install libcurl4): %s", dlerror());
#define FIND(f)                                                                                    \
	if (find(handle, "curl_" #f, &lib.f, e) < 0)                                               \
		goto fail;
	FUNCTIONS(FIND)
#undef FIND
	if (lib.version_info(CURLVERSION_NOW)->version_num < OLDEST) {
		err_set(e, ERR_UNSUPPORTED, 0, "libcurl %s is too old: want 7.64",
			lib.version_info(CURLVERSION_NOW)->version);
		goto fail;
	}
	if (lib.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		err_set(e, ERR_UNSUPPORTED, 0, "libcurl cannot be initialised");
		goto fail;
	}
	lib.handle = handle;
	return 0;
fail:
	dlclose(handle);
	return -1;
}

/* --- structures --- */

/* Connections that are used together.  After anything broke, new calls get a new pool: what
 * else is open of the old one, an HTTP/2 connection that was told to go away above all, is not
 * used for anything new. */
struct pool {
	struct http *http;
	struct pool *next;
	CURLM *multi;
	struct loop_timer timer;
	unsigned users;		/* calls, or the stream */
};

struct http {
	struct loop *loop;
	void (*trace)(const char *line);
	struct pool *pool;	/* for new calls; NULL: to be made */
	struct pool *retired;
	struct http_call *waiting, *running;
	struct loop_timer kick;	/* waiting ones are to be added, or doomed ones removed */
	unsigned in_curl;	/* it calls us: nothing may be added or removed now */
	unsigned connections;
	bool http1;
	const char *ca_file, *ca_dir;	/* of the environment */
};

struct http_call {
	struct http *http;
	struct pool *pool;	/* NULL: not added yet */
	struct http_call *next, **at;
	struct http_request req;
	struct http_part *parts;
	size_t part;
	uint64_t part_done;
	CURL *easy;
	struct curl_slist *headers;
	struct buf head, body;
	int status;
	bool cancelled, stopped;
	struct loop_timer idle;
	uint64_t moved_ns;	/* when a byte moved last */
	char what[256];		/* "POST https://host/path" */
	char why[160];		/* our own reason; libcurl's would be "aborted by callback" */
	char error[CURL_ERROR_SIZE];
};

struct http_stream {
	struct http *http;
	struct pool *pool;
	CURL *easy;
	void (*on_ready)(void *user, const struct err *err);
	void *user;
	char what[256];
	char error[CURL_ERROR_SIZE];
};

/* A socket of libcurl on our loop. */
struct sock {
	struct loop_io io;
	struct pool *pool;
};

static void pool_act(struct pool *p, curl_socket_t fd, int what);
static void call_end(struct http_call *c, CURLcode code, bool idle);
static void stream_connected(struct http_stream *s, CURLcode code);

/* --- pools: libcurl on our loop --- */

static void on_pool_timer(struct loop_timer *t)
{
	struct pool *p = (struct pool *)((char *)t - offsetof(struct pool, timer));

	pool_act(p, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
	struct pool *p = arg;

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
	struct pool *p = arg;
	struct sock *s = known;
	unsigned want = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			loop_io_stop(&s->io);
		free(s);
		lib.multi_assign(p->multi, fd, NULL);
		return 0;
	}
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -1;
		s->pool = p;
		lib.multi_assign(p->multi, fd, s);
	}
	if (what & CURL_POLL_IN)
		want |= LOOP_IN;
	if (what & CURL_POLL_OUT)
		want |= LOOP_OUT;
	return loop_io_start(p->http->loop, &s->io, fd, want, on_socket, NULL);
}

static struct pool *pool_new(struct http *h, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (p)
		p->multi = lib.multi_init();
	if (!p || !p->multi) {
		free(p);
		err_set(e, ERR_NO_MEMORY, 0, "libcurl");
		return NULL;
	}
	p->http = h;
	lib.multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	lib.multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
	lib.multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	lib.multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
	lib.multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)LIMIT_HTTP_KEPT);
	return p;
}

/* Closes its connections; it has no users. */
static void pool_free(struct pool *p)
{
	p->http->in_curl++;
	lib.multi_cleanup(p->multi);
	p->http->in_curl--;
	loop_timer_stop(&p->timer);
	free(p);
}

static void pool_retire(struct http *h, struct pool *p)
{
	if (h->pool != p)
		return;
	h->pool = NULL;
	p->next = h->retired;
	h->retired = p;
}

static void on_kick(struct loop_timer *t);

static void kick(struct http *h)
{
	if (!h->kick.loop)
		loop_timer_start(h->loop, &h->kick, 0, on_kick, NULL);
}

static void on_message(const CURLMsg *m)
{
	CURL *easy = m->easy_handle;
	CURLcode code = m->data.result;	/* the message dies with its handle */
	char *owner = NULL;
	struct http_call *c;

	lib.easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
	if ((uintptr_t)owner & 1) {
		stream_connected((struct http_stream *)(owner - 1), code);
		return;
	}
	c = (struct http_call *)owner;
	call_end(c, code, false);
}

/* Something is ready or due: libcurl works, then what is finished is told. */
static void pool_act(struct pool *p, curl_socket_t fd, int what)
{
	struct http *h = p->http;
	const CURLMsg *m;
	int running, left;

	p->users++;	/* it must not go while messages are read */
	h->in_curl++;
	lib.multi_socket_action(p->multi, fd, what, &running);
	h->in_curl--;
	while ((m = lib.multi_info_read(p->multi, &left)))
		if (m->msg == CURLMSG_DONE)
			on_message(m);
	p->users--;
	if (h->retired)
		kick(h);
}

/* --- what a call sends and gets --- */

static size_t give_body(char *to, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t room = size * n, done = 0;

	c->moved_ns = now_ns();
	while (done < room && c->part < c->req.n_parts) {
		const struct http_part *p = &c->parts[c->part];
		uint64_t left = p->len - c->part_done;
		size_t want = left < room - done ? (size_t)left : room - done;
		ssize_t got = (ssize_t)want;

		if (p->mem)
			memcpy(to + done, (const char *)p->mem + c->part_done, want);
		else if (want)
			got = pread(p->fd, to + done, want, (off_t)(p->at + c->part_done));
		if (got < 0 || (got == 0 && want)) {
			snprintf(c->why, sizeof(c->why), "the file to send: %s",
				 got ? strerror(errno) : "shorter than it was");
			return CURL_READFUNC_ABORT;
		}
		done += (size_t)got;
		c->part_done += (uint64_t)got;
		if (c->part_done == p->len) {
			c->part++;
			c->part_done = 0;
		}
	}
	if (c->part == c->req.n_parts && c->req.on_sent) {
		c->req.on_sent(c->req.user);
		c->req.on_sent = NULL;
	}
	return done;
}

/* Only ever to the start: a connection closed before anything was answered. */
static int rewind_body(void *arg, curl_off_t offset, int origin)
{
	struct http_call *c = arg;

	if (offset || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	c->part = 0;
	c->part_done = 0;
	return CURL_SEEKFUNC_OK;
}

static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n;

	c->moved_ns = now_ns();
	if (len > 5 && memcmp(p, "HTTP/", 5) == 0) {	/* of the next answer: after a 100, say */
		const char *space = memchr(p, ' ', len);

		buf_reset(&c->head);
		c->status = space ? (int)strtol(space, NULL, 10) : 0;
		return len;
	}
	if (buf_put(&c->head, p, len, NULL) < 0) {
		snprintf(c->why, sizeof(c->why), "more than %d bytes of headers",
			 LIMIT_HTTP_HEADERS);
		c->stopped = true;
		return 0;
	}
	return len;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n;

	c->moved_ns = now_ns();
	if (c->cancelled)
		return 0;
	if (c->req.on_data && c->status >= 200 && c->status < 300) {
		if (c->req.on_data(c->req.user, (const uint8_t *)p, len) == 0)
			return len;
		snprintf(c->why, sizeof(c->why), "not wanted any further");
		c->stopped = true;
		return 0;
	}
	if (buf_put(&c->body, p, len, NULL) == 0)
		return len;
	snprintf(c->why, sizeof(c->why), "the answer is longer than %zu bytes",
		 c->req.max_body);
	c->stopped = true;
	return 0;
}

/* --- traces --- */

static void trace_lines(struct http *h, const char *arrow, const char *p, size_t n,
			void (*redact)(const char *line, size_t n, char *ret, size_t size))
{
	char shown[1024], line[1100];

	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n, text = len;

		while (text && (p[text - 1] == '\r'))
			text--;
		if (text) {
			redact(p, text, shown, sizeof(shown));
			snprintf(line, sizeof(line), "http %s %s", arrow, shown);
			h->trace(line);
		}
		len += nl ? 1 : 0;
		p += len;
		n -= len;
	}
}

static int on_debug(CURL *easy, curl_infotype type, char *p, size_t n, void *arg)
{
	struct http *h = arg;
	char line[64];

	(void)easy;
	switch (type) {
	case CURLINFO_TEXT:
		trace_lines(h, "*", p, n, http_redact_note);
		break;
	case CURLINFO_HEADER_OUT:
		trace_lines(h, ">", p, n, http_redact);
		break;
	case CURLINFO_HEADER_IN:
		trace_lines(h, "<", p, n, http_redact);
		break;
	case CURLINFO_DATA_OUT:
	case CURLINFO_DATA_IN:	/* never what is in it */
		snprintf(line, sizeof(line), "http %s %zu bytes",
			 type == CURLINFO_DATA_OUT ? ">" : "<", n);
		h->trace(line);
		break;
	default:
		break;
	}
	return 0;
}

/* --- setting up --- */

/* libcurl itself does not ask for close-on-exec. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)arg;
	(void)purpose;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static void set_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	if (lib.easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK)
		return;
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	lib.easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#pragma GCC diagnostic pop
}

/* What calls and streams have in common. */
static CURL *easy_new(struct http *h, const char *url, uint32_t connect_ms, char *error,
		      struct err *e)
{
	CURL *easy = lib.easy_init();

	if (!easy || lib.easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK) {
		lib.easy_cleanup(easy);
		err_set(e, ERR_NO_MEMORY, 0, "request");
		return NULL;
	}
	set_protocols(easy);
	lib.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A resolver that hangs is left alone; else cleaning up would wait for its thread. */
	lib.easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	lib.easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
	lib.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
			(long)(connect_ms ? connect_ms : CONNECT_MS));
	lib.easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	lib.easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	lib.easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	lib.easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	lib.easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (h->ca_file)
		lib.easy_setopt(easy, CURLOPT_CAINFO, h->ca_file);
	if (h->ca_dir)
		lib.easy_setopt(easy, CURLOPT_CAPATH, h->ca_dir);
	if (h->trace) {
		lib.easy_setopt(easy, CURLOPT_VERBOSE, 1L);
		lib.easy_setopt(easy, CURLOPT_DEBUGFUNCTION, on_debug);
		lib.easy_setopt(easy, CURLOPT_DEBUGDATA, h);
	}
	return easy;
}

/* Without the query: signatures stand there. */
static void describe(char *ret, size_t size, const char *method, const char *url)
{
	snprintf(ret, size, "%s %.*s", method, (int)strcspn(url, "?#"), url);
}

static int add_header(struct http_call *c, const char *line, struct err *e)
{
	struct curl_slist *list;

	if (strpbrk(line, "\r\n"))
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s: a header with a line break", c->what);
	list = lib.slist_append(c->headers, line);
	if (!list)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", c->what);
	c->headers = list;
	return 0;
}

static void set_method(struct http_call *c)
{
	const char *m = c->req.method;
	curl_off_t len = 0;

	for (size_t i = 0; i < c->req.n_parts; i++)
		len += (curl_off_t)c->parts[i].len;
	if (strcmp(m, "POST") == 0) {
		lib.easy_setopt(c->easy, CURLOPT_POST, 1L);
		lib.easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, len);
	} else if (strcmp(m, "PUT") == 0) {
		lib.easy_setopt(c->easy, CURLOPT_UPLOAD, 1L);
		lib.easy_setopt(c->easy, CURLOPT_INFILESIZE_LARGE, len);
	} else if (strcmp(m, "GET") != 0) {
		lib.easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, m);
	}
	lib.easy_setopt(c->easy, CURLOPT_READFUNCTION, give_body);
	lib.easy_setopt(c->easy, CURLOPT_READDATA, c);
	lib.easy_setopt(c->easy, CURLOPT_SEEKFUNCTION, rewind_body);
	lib.easy_setopt(c->easy, CURLOPT_SEEKDATA, c);
	if (len > 1 << 20)
		lib.easy_setopt(c->easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
}

static int call_prepare(struct http_call *c, struct err *e)
{
	const struct http_request *r = &c->req;

	c->easy = easy_new(c->http, r->url, r->connect_ms, c->error, e);
	if (!c->easy)
		return -1;
	lib.easy_setopt(c->easy, CURLOPT_PRIVATE, (char *)c);
	set_method(c);
	for (size_t i = 0; r->headers && r->headers[i]; i++)
		if (add_header(c, r->headers[i], e) < 0)
			return -1;
	if (add_header(c, "Expect:", e) < 0)	/* no waiting for "100 Continue" */
		return -1;
	lib.easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	lib.easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, take_header);
	lib.easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
	lib.easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, take_body);
	lib.easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	lib.easy_setopt(c->easy, CURLOPT_BUFFERSIZE, r->on_data ? 256L * 1024 : 32L * 1024);
	lib.easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)r->deadline_ms);
	lib.easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, r->fresh ? 1L : 0L);
	lib.easy_setopt(c->easy, CURLOPT_HTTP_VERSION,
			(long)(c->http->http1 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
	return 0;
}

/* --- calls --- */

static void call_link(struct http_call **list, struct http_call *c)
{
	c->next = *list;
	c->at = list;
	if (c->next)
		c->next->at = &c->next;
	*list = c;
}

static void call_unlink(struct http_call *c)
{
	if (!c->at)
		return;
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->at = NULL;
}

/* Out of libcurl: its connection is closed, or kept for another call. */
static void call_detach(struct http_call *c)
{
	struct http *h = c->http;
	long opened = 0;

	loop_timer_stop(&c->idle);
	call_unlink(c);
	if (!c->pool)
		return;
	lib.easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &opened);
	h->connections += (unsigned)opened;
	h->in_curl++;
	lib.multi_remove_handle(c->pool->multi, c->easy);
	h->in_curl--;
	c->pool->users--;
	c->pool = NULL;
}

static void call_free(struct http_call *c)
{
	call_detach(c);
	if (c->easy)
		lib.easy_cleanup(c->easy);
	if (c->headers)
		lib.slist_free_all(c->headers);
	free(c->parts);
	buf_release(&c->head);
	buf_release(&c->body);
	free(c);
}

static void on_idle(struct loop_timer *t)
{
	struct http_call *c = (struct http_call *)((char *)t - offsetof(struct http_call, idle));
	uint64_t quiet_ms = (now_ns() - c->moved_ns) / 1000000;

	if (quiet_ms >= c->req.idle_ms)
		call_end(c, CURLE_OPERATION_TIMEDOUT, true);
	else
		loop_timer_start(c->http->loop, t, c->req.idle_ms - quiet_ms + 1, on_idle, NULL);
}

static int call_add(struct http_call *c, struct err *e)
{
	struct http *h = c->http;
	CURLMcode code;

	if (!h->pool)
		h->pool = pool_new(h, e);
	if (!h->pool)
		return -1;
	c->moved_ns = now_ns();
	if (c->req.idle_ms &&
	    loop_timer_start(h->loop, &c->idle, c->req.idle_ms, on_idle, e) < 0)
		return -1;
	code = lib.multi_add_handle(h->pool->multi, c->easy);
	if (code != CURLM_OK)
		return err_set(e, ERR_SYS, 0, "%s: %s", c->what, lib.multi_strerror(code));
	c->pool = h->pool;
	c->pool->users++;
	call_unlink(c);
	call_link(&h->running, c);
	return 0;
}

static void call_fail(struct http_call *c, const struct err *e)
{
	struct http_response r = { .end = HTTP_NOT_SENT, .body = "", .headers = "", .err = *e };

	call_detach(c);
	c->req.on_done(c->req.user, &r);
	call_free(c);
}

static void sweep(struct http *h)
{
	struct pool **at = &h->retired, *p;
	struct http_call *next;

	for (struct http_call *c = h->running; c; c = next) {
		next = c->next;
		if (c->cancelled)
			call_free(c);
	}
	while ((p = *at)) {
		if (p->users) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		pool_free(p);
	}
}

static void on_kick(struct loop_timer *t)
{
	struct http *h = (struct http *)((char *)t - offsetof(struct http, kick));
	struct http_call *batch = h->waiting;

	sweep(h);
	/* The oldest first: they are linked the other way round. */
	while (batch && batch->next)
		batch = batch->next;
	while (batch) {
		struct err e = ERR_INIT;
		struct http_call *c = batch;

		batch = c->at == &h->waiting
			? NULL
			: (struct http_call *)((char *)c->at - offsetof(struct http_call, next));
		if (call_add(c, &e) < 0) {
			call_fail(c, &e);
			kick(h);	/* the callback may have changed the list */
			return;
		}
	}
}

struct http_call *http_start(struct http *h, const struct http_request *req, struct err *e)
{
	struct http_call *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(e, ERR_NO_MEMORY, 0, "request");
		return NULL;
	}
	c->http = h;
	c->req = *req;
	buf_init(&c->head, LIMIT_HTTP_HEADERS);
	buf_init(&c->body, req->max_body);
	describe(c->what, sizeof(c->what), req->method, req->url);
	c->parts = calloc(req->n_parts + 1, sizeof(*c->parts));
	if (!c->parts) {
		err_set(e, ERR_NO_MEMORY, 0, "request");
		call_free(c);
		return NULL;
	}
	if (req->n_parts)
		memcpy(c->parts, req->parts, req->n_parts * sizeof(*c->parts));
	if (call_prepare(c, e) < 0) {
		call_free(c);
		return NULL;
	}
	c->req.url = NULL;	/* libcurl has copies; the caller's may be gone later */
	c->req.headers = NULL;
	c->req.parts = NULL;
	call_link(&h->waiting, c);
	kick(h);
	return c;
}

void http_cancel(struct http_call *c)
{
	if (!c)
		return;
	if (c->http->in_curl && c->pool) {
		c->cancelled = true;
		kick(c->http);
		return;
	}
	call_free(c);
}

int http_status(const struct http_call *c)
{
	return c->status;
}

/* --- the end of a call --- */

/* No connection stood: nothing of the request has left. */
static bool never_sent(const struct http_call *c, CURLcode code)
{
	long sent = 0;

	switch (code) {
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_PROXY:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return true;
	default:
		lib.easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &sent);
		return sent == 0;
	}
}

static void response_fail(struct http_call *c, CURLcode code, struct http_response *r)
{
	const char *why = c->why[0] ? c->why : c->error[0] ? c->error : lib.easy_strerror(code);
	static const enum err_code codes[] = {
		[HTTP_NOT_SENT] = ERR_PROVIDER, [HTTP_CUT] = ERR_LOST,
		[HTTP_DEADLINE] = ERR_DEADLINE, [HTTP_IDLE] = ERR_LOST,
		[HTTP_STOPPED] = ERR_LIMIT,
	};

	if (r->end == HTTP_IDLE)
		err_set(&r->err, ERR_LOST, 0, "%s: nothing moved for %u ms", c->what,
			c->req.idle_ms);
	else
		err_set(&r->err, codes[r->end], 0, "%s: %s", c->what, why);
	r->err.admitted = r->end == HTTP_NOT_SENT ? ADMITTED_NO : ADMITTED_UNKNOWN;
}

static enum http_end end_of(const struct http_call *c, CURLcode code, bool idle)
{
	if (code == CURLE_OK)
		return HTTP_ANSWERED;
	if (c->stopped)
		return HTTP_STOPPED;
	if (never_sent(c, code))
		return HTTP_NOT_SENT;
	if (idle)
		return HTTP_IDLE;
	return code == CURLE_OPERATION_TIMEDOUT ? HTTP_DEADLINE : HTTP_CUT;
}

static void call_end(struct http_call *c, CURLcode code, bool idle)
{
	struct http *h = c->http;
	struct http_response r = { .end = end_of(c, code, idle), .status = c->status };
	bool tell = !c->cancelled;

	/* An answer that came before the body was sent whole counts as one. */
	if (r.end == HTTP_CUT && code == CURLE_SEND_ERROR && c->status >= 400)
		r.end = HTTP_ANSWERED;
	if (r.end != HTTP_ANSWERED)
		response_fail(c, code, &r);
	if (r.end != HTTP_ANSWERED && r.end != HTTP_STOPPED && c->pool)
		pool_retire(h, c->pool);
	r.body_len = buf_len(&c->body);
	r.body = buf_cstr(&c->body, NULL);
	r.headers = buf_cstr(&c->head, NULL);
	if (!r.body || !r.headers) {
		r.end = HTTP_CUT;
		err_set(&r.err, ERR_NO_MEMORY, 0, "%s", c->what);
		r.body = r.headers = "";
		r.body_len = 0;
	}
	call_detach(c);
	if (tell)
		c->req.on_done(c->req.user, &r);
	call_free(c);
	kick(h);
}

bool http_header(const struct http_response *r, const char *name, char *ret, size_t size)
{
	size_t len = strlen(name);
	bool found = false;

	for (const char *p = r->headers; *p;) {
		size_t line = strcspn(p, "\n"), end = line;

		if (line > len && p[len] == ':' && strncasecmp(p, name, len) == 0) {
			const char *v = p + len + 1;

			while (*v == ' ' || *v == '\t')
				v++;
			while (end && isspace((unsigned char)p[end - 1]))
				end--;
			snprintf(ret, size, "%.*s", v < p + end ? (int)(p + end - v) : 0, v);
			found = true;
		}
		p += line + (p[line] == '\n');
	}
	return found;
}

int http_escape(struct buf *out, const char *s, bool keep_slash, struct err *e)
{
	for (; *s; s++) {
		bool plain = isalnum((unsigned char)*s) || strchr("-._~", *s) ||
			     (keep_slash && *s == '/');
		int r = plain ? buf_putc(out, (uint8_t)*s, e)
			      : buf_printf(out, e, "%%%02X", (unsigned)(unsigned char)*s);

		if (r < 0)
			return -1;
	}
	return 0;
}

/* --- streams --- */

struct http_stream *http_stream_open(struct http *h, const char *url, uint32_t connect_ms,
				     void (*on_ready)(void *user, const struct err *err),
				     void *user, struct err *e)
{
	struct http_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "connection");
		return NULL;
	}
	s->http = h;
	s->on_ready = on_ready;
	s->user = user;
	describe(s->what, sizeof(s->what), "connect", url);
	s->easy = easy_new(h, url, connect_ms, s->error, e);
	s->pool = s->easy ? pool_new(h, e) : NULL;
	if (!s->pool) {
		http_stream_close(s);
		return NULL;
	}
	/* Odd: a stream's.  The upgrade to a WebSocket exists in HTTP/1.1 only. */
	lib.easy_setopt(s->easy, CURLOPT_PRIVATE, (char *)s + 1);
	lib.easy_setopt(s->easy, CURLOPT_CONNECT_ONLY, 1L);
	lib.easy_setopt(s->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
	lib.easy_setopt(s->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (lib.multi_add_handle(s->pool->multi, s->easy) != CURLM_OK) {
		err_set(e, ERR_SYS, 0, "%s: libcurl refused", s->what);
		http_stream_close(s);
		return NULL;
	}
	s->pool->users++;
	return s;
}

static void stream_connected(struct http_stream *s, CURLcode code)
{
	struct err e = ERR_INIT;

	if (code == CURLE_OK && http_stream_fd(s) >= 0) {
		s->http->connections++;
		s->on_ready(s->user, NULL);
		return;
	}
	err_set(&e, code == CURLE_OPERATION_TIMEDOUT ? ERR_DEADLINE : ERR_LOST, 0, "%s: %s",
		s->what, s->error[0] ? s->error : lib.easy_strerror(code));
	s->on_ready(s->user, &e);
}

int http_stream_fd(const struct http_stream *s)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	lib.easy_getinfo(s->easy, CURLINFO_ACTIVESOCKET, &fd);
	return (int)fd;
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
	CURLcode code = lib.easy_recv(s->easy, p, n, &got);

	return moved(code, got);
}

ssize_t http_stream_send(struct http_stream *s, const void *p, size_t n)
{
	size_t sent = 0;
	CURLcode code = lib.easy_send(s->easy, p, n, &sent);

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
			lib.multi_remove_handle(s->pool->multi, s->easy);
			h->in_curl--;
			s->pool->users--;
		}
		/* In on_ready the pool is being read: it goes at the next kick. */
		s->pool->next = h->retired;
		h->retired = s->pool;
		kick(h);
	}
	if (s->easy)
		lib.easy_cleanup(s->easy);
	free(s);
}

/* --- the client --- */

static const char *environment(const char *a, const char *b)
{
	const char *v = getenv(a);

	if ((!v || !*v) && b)
		v = getenv(b);
	return v && *v ? v : NULL;
}

struct http *http_new(struct loop *l, void (*trace)(const char *line), struct err *e)
{
	struct http *h;

	if (library_open(e) < 0)
		return NULL;
	h = calloc(1, sizeof(*h));
	if (!h) {
		err_set(e, ERR_NO_MEMORY, 0, "http");
		return NULL;
	}
	h->loop = l;
	h->trace = trace;
	h->ca_file = environment("CURL_CA_BUNDLE", "SSL_CERT_FILE");
	h->ca_dir = environment("SSL_CERT_DIR", NULL);
	h->http1 = environment("FARSTEP_HTTP1", NULL) != NULL;
	/* TLS writes to sockets that the other end may have closed. */
	signal(SIGPIPE, SIG_IGN);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->waiting)
		call_free(h->waiting);
	while (h->running)
		call_free(h->running);
	if (h->pool)
		pool_retire(h, h->pool);
	sweep(h);
	loop_timer_stop(&h->kick);
	free(h);
}

unsigned http_connections(const struct http *h)
{
	return h->connections;
}
