/* SPDX-License-Identifier: Apache-2.0
 *
 * libmicrohttpd runs on its own epoll set, which our loop adopts as one descriptor.  A connection
 * that has nothing to do (no room for the body, no answer yet, no bytes to send) is suspended;
 * meanwhile the library does not look at it, so we watch its socket for the client's farewell
 * ourselves.  An answer is handed to the library only when the request was read to its end: from
 * an earlier one it would make a connection that closes, with bytes unread, and a client that is
 * still writing would meet a reset before it sees the answer. */
#include "mocks/e2b/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "mocks/e2b/query.h"
#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum {
	POOL_BYTES = 2 * HTTP_HEAD_MAX,	/* of a connection; the head and the buffers */
	READER_BLOCK = 64 * 1024,
};

struct http_server {
	struct loop *loop;
	struct MHD_Daemon *daemon;
	struct http_server_options o;
	struct loop_io io;
	struct loop_timer timer;
	struct http *open;
	struct http_tunnel *tunnels;
	bool closing;
};

enum phase { HEAD, BODY, ANSWERING };

struct http {
	struct http_server *server;
	struct MHD_Connection *conn;
	const char *method;
	char *target;
	struct buf path;
	const char *query;
	const struct http_calls *calls;
	void *ctx;
	enum phase phase;
	bool body_ended;
	bool suspended;
	bool gone;		/* the client left, or we are closing */
	bool close_after;
	struct loop_io watch;	/* the socket, while suspended */
	uint64_t in, out;

	int status;		/* not 0: the answer was started */
	int64_t length;
	struct buf head;	/* name NUL value NUL ... */
	struct buf queue;
	bool ended, aborted;
	bool told_full;

	http_on_open *on_open;
	void *open_arg;

	struct http *next, **at;
};

struct http_tunnel {
	struct http_server *server;
	struct MHD_UpgradeResponseHandle *handle;
	void (*on_end)(void *arg);
	void *arg;
	struct http_tunnel *next, **at;
};

static const struct http_calls no_calls;

/* --- waiting and going on --- */

static void on_timer(struct loop_timer *t);

/* The library tells nobody that it has something to do after a resume. */
static void run_soon(struct http_server *s)
{
	struct err e = ERR_INIT;

	if (loop_timer_start(s->loop, &s->timer, 0, on_timer, &e) < 0)
		log_error("http: %s", e.msg);
}

static void resume(struct http *h)
{
	loop_io_stop(&h->watch);
	h->suspended = false;
	MHD_resume_connection(h->conn);
	run_soon(h->server);
}

static void wake(struct http *h)
{
	if (h->suspended)
		resume(h);
}

/* Bytes that wait are of the body or the next request; then only a reset tells. */
static void on_watched(struct loop_io *io, unsigned got)
{
	struct http *h = (struct http *)((char *)io - offsetof(struct http, watch));
	char scrap;
	ssize_t n = recv(io->fd, &scrap, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n > 0 && !(got & LOOP_HUP)) {
		loop_io_want(io, 0);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(got & LOOP_HUP))
		return;
	h->gone = true;
	resume(h);
}

static void sleep_until_woken(struct http *h)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(h->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct err e = ERR_INIT;

	MHD_suspend_connection(h->conn);
	h->suspended = true;
	if (loop_io_start(h->server->loop, &h->watch, info->connect_fd, LOOP_IN, on_watched,
			  &e) < 0)
		log_warn("http: a client that leaves will not be noticed: %s", e.msg);
}

static void run(struct http_server *s);

static void on_epoll(struct loop_io *io, unsigned got __attribute__((unused)))
{
	run((struct http_server *)((char *)io - offsetof(struct http_server, io)));
}

static void on_timer(struct loop_timer *t)
{
	run((struct http_server *)((char *)t - offsetof(struct http_server, timer)));
}

static void run(struct http_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;
	struct err e = ERR_INIT;

	MHD_run(s->daemon);
	if (MHD_get_timeout(s->daemon, &ms) != MHD_YES)
		loop_timer_stop(&s->timer);
	else if (loop_timer_start(s->loop, &s->timer, ms, on_timer, &e) < 0)
		log_error("http: %s", e.msg);
}

/* --- the answer, on its way out --- */

static void tell_drained(struct http *h)
{
	if (!h->told_full || buf_len(&h->queue) > HTTP_QUEUE_LOW)
		return;
	h->told_full = false;
	if (h->calls->on_drain)
		h->calls->on_drain(h);
}

static ssize_t read_answer(void *arg, uint64_t pos __attribute__((unused)), char *to, size_t max)
{
	struct http *h = arg;
	size_t n = buf_len(&h->queue);

	if (h->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n > max)
		n = max;
	if (n > 0) {
		memcpy(to, buf_data(&h->queue), n);
		buf_consume(&h->queue, n);
		h->out += n;
		tell_drained(h);
		return (ssize_t)n;
	}
	if (h->aborted)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (h->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	sleep_until_woken(h);
	return 0;
}

static bool is_servers_business(const char *name)
{
	return strcasecmp(name, "content-length") == 0 || strcasecmp(name, "date") == 0 ||
	       strcasecmp(name, "transfer-encoding") == 0 || strcasecmp(name, "connection") == 0;
}

static void add_head(struct http *h, struct MHD_Response *r)
{
	const char *p = (const char *)buf_data(&h->head), *end = p + buf_len(&h->head);

	while (p < end) {
		const char *name = p, *value = name + strlen(name) + 1;

		if (MHD_add_response_header(r, name, value) != MHD_YES)
			log_debug("http: the header '%s' was not taken", name);
		p = value + strlen(value) + 1;
	}
	if (h->close_after)
		MHD_add_response_header(r, "Connection", "close");
}

static void on_upgrade(void *arg, struct MHD_Connection *conn, void *req, const char *extra,
		       size_t n, int fd, struct MHD_UpgradeResponseHandle *handle);

static bool has_no_body(int status)
{
	return status == 204 || status == 304;
}

static struct MHD_Response *new_response(struct http *h)
{
	if (h->on_open)
		return MHD_create_response_for_upgrade(on_upgrade, h);
	if (has_no_body(h->status) || (h->length == 0 && !h->aborted))
		return MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
	return MHD_create_response_from_callback(h->length < 0 ? MHD_SIZE_UNKNOWN
							       : (uint64_t)h->length,
						 READER_BLOCK, read_answer, h, NULL);
}

static enum MHD_Result give_answer(struct http *h)
{
	struct MHD_Response *r = new_response(h);
	enum MHD_Result done;

	if (!r) {
		log_error("http: no memory for an answer");
		return MHD_NO;
	}
	add_head(h, r);
	h->phase = ANSWERING;
	done = MHD_queue_response(h->conn, (unsigned)h->status, r);
	MHD_destroy_response(r);	/* the connection has its own reference */
	return done;
}

/* --- the request, on its way in --- */

static const char *conn_header(const struct http *h, const char *name)
{
	return MHD_lookup_connection_value(h->conn, MHD_HEADER_KIND, name);
}

/* The target is all we keep of it: the library takes it apart in place. */
static void *on_target(void *arg, const char *target, struct MHD_Connection *conn)
{
	struct http_server *s = arg;
	struct http *h = calloc(1, sizeof(*h));
	size_t path_len;

	if (!h)
		return NULL;
	h->server = s;
	h->conn = conn;
	h->calls = &no_calls;
	h->target = strdup(target);
	buf_init(&h->path, HTTP_HEAD_MAX);
	buf_init(&h->head, HTTP_HEAD_MAX);
	buf_init(&h->queue, HTTP_QUEUE_MAX);
	path_len = strcspn(target, "?");
	h->query = h->target ? h->target + path_len + (h->target[path_len] == '?') : "";
	h->next = s->open;
	h->at = &s->open;
	if (h->next)
		h->next->at = &h->next;
	s->open = h;
	return h;
}

static enum MHD_Result on_head(struct http *h, const char *method)
{
	struct err e = ERR_INIT;

	h->method = method;
	h->phase = BODY;
	if (!h->target)
		return MHD_NO;
	if (url_decode(h->target, strcspn(h->target, "?"), false, &h->path, &e) < 0 ||
	    !buf_cstr(&h->path, &e)) {
		http_reply(h, 400, "text/plain; charset=utf-8", "400 Bad Request", 15);
		return MHD_YES;
	}
	h->server->o.on_request(h, h->server->o.arg);
	if (h->status && (h->ended || h->aborted) && conn_header(h, "Expect"))
		return give_answer(h);	/* instead of "100 Continue" */
	return MHD_YES;
}

static void on_some_body(struct http *h, const char *data, size_t *left)
{
	size_t n = *left, took = n;

	h->in += n;
	if (!h->status && h->calls->on_body)
		took = h->calls->on_body(h, (const uint8_t *)data, n);
	*left = n - took;
	h->in -= *left;
	if (*left > 0)
		sleep_until_woken(h);
}

/* Called for the head, for each piece of the body, at its end, and again whenever a connection
 * that was suspended in one of these is resumed. */
static enum MHD_Result on_access(void *arg __attribute__((unused)),
				 struct MHD_Connection *conn __attribute__((unused)),
				 const char *url __attribute__((unused)), const char *method,
				 const char *version __attribute__((unused)), const char *data,
				 size_t *left, void **req)
{
	struct http *h = *req;

	if (!h || h->gone || h->server->closing)
		return MHD_NO;
	if (h->phase == HEAD)
		return on_head(h, method);
	if (*left > 0) {
		on_some_body(h, data, left);
		return MHD_YES;
	}
	if (!h->body_ended) {
		h->body_ended = true;
		if (!h->status && h->calls->on_body_end)
			h->calls->on_body_end(h);
	}
	if (h->status)
		return give_answer(h);
	sleep_until_woken(h);
	return MHD_YES;
}

static void on_completed(void *arg __attribute__((unused)),
			 struct MHD_Connection *conn __attribute__((unused)), void **req,
			 enum MHD_RequestTerminationCode code)
{
	struct http *h = *req;

	*req = NULL;
	if (!h)
		return;
	loop_io_stop(&h->watch);
	*h->at = h->next;
	if (h->next)
		h->next->at = h->at;
	if (h->calls->on_close)
		h->calls->on_close(h, h->phase == ANSWERING && !h->aborted && !h->gone &&
					      code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	free(h->target);
	buf_release(&h->path);
	buf_release(&h->head);
	buf_release(&h->queue);
	free(h);
}

/* --- the request: what may be asked of it --- */

void http_on(struct http *h, const struct http_calls *calls, void *ctx)
{
	h->calls = calls ? calls : &no_calls;
	h->ctx = ctx;
}

void *http_ctx(const struct http *h)
{
	return h->ctx;
}

const char *http_method(const struct http *h)
{
	return h->method;
}

const char *http_target(const struct http *h)
{
	return h->target;
}

const char *http_path(const struct http *h)
{
	return (const char *)buf_data(&h->path);
}

const char *http_query(const struct http *h)
{
	return h->query;
}

const char *http_header(const struct http *h, const char *name)
{
	return conn_header(h, name);
}

struct each_header {
	void (*each)(void *arg, const char *name, const char *value);
	void *arg;
};

static enum MHD_Result one_header(void *arg, enum MHD_ValueKind kind __attribute__((unused)),
				  const char *name, const char *value)
{
	const struct each_header *x = arg;

	x->each(x->arg, name, value ? value : "");
	return MHD_YES;
}

void http_headers(const struct http *h, void (*each)(void *arg, const char *name,
						     const char *value), void *arg)
{
	struct each_header x = { each, arg };

	MHD_get_connection_values(h->conn, MHD_HEADER_KIND, one_header, &x);
}

bool http_has_body(const struct http *h)
{
	const char *length = conn_header(h, "Content-Length");

	return conn_header(h, "Transfer-Encoding") || (length && strcmp(length, "0") != 0);
}

uint64_t http_bytes_in(const struct http *h)
{
	return h->in;
}

uint64_t http_bytes_out(const struct http *h)
{
	return h->out;
}

int http_status(const struct http *h)
{
	return h->status;
}

void http_take_on(struct http *h)
{
	if (h->phase == BODY && !h->body_ended)
		wake(h);
}

/* --- the answer: what may be said --- */

int http_add(struct http *h, const char *name, const char *value, struct err *e)
{
	size_t before = buf_len(&h->head);

	if (is_servers_business(name))
		return 0;
	if (buf_put(&h->head, name, strlen(name) + 1, e) == 0 &&
	    buf_put(&h->head, value, strlen(value) + 1, e) == 0)
		return 0;
	h->head.len = before;
	return err_wrap(e, "header '%s'", name);
}

void http_start(struct http *h, int status, int64_t length)
{
	if (h->status)
		return;
	h->status = status;
	h->length = length;
	wake(h);
}

int http_write(struct http *h, const void *p, size_t n, struct err *e)
{
	if (buf_put(&h->queue, p, n, e) < 0)
		return err_wrap(e, "http: the client does not read");
	wake(h);
	if (buf_len(&h->queue) < HTTP_QUEUE_HIGH)
		return 0;
	h->told_full = true;
	return 1;
}

size_t http_queued(const struct http *h)
{
	return buf_len(&h->queue);
}

void http_end(struct http *h)
{
	h->ended = true;
	wake(h);
}

void http_abort(struct http *h)
{
	h->aborted = true;
	if (!h->status)
		h->gone = true;
	wake(h);
}

void http_close_after(struct http *h)
{
	h->close_after = true;
}

void http_reply(struct http *h, int status, const char *type, const void *p, size_t n)
{
	struct err e = ERR_INIT;

	if (h->status)
		return;
	/* It is whole, so who made it has bounded it. */
	if (n > h->queue.max)
		h->queue.max = n;
	if ((type && http_add(h, "Content-Type", type, &e) < 0) ||
	    (n > 0 && http_write(h, p, n, &e) < 0)) {
		log_error("http: an answer was dropped: %s", e.msg);
		http_abort(h);
		return;
	}
	http_start(h, status, (int64_t)n);
	http_end(h);
}

/* --- upgrade --- */

static void on_upgrade(void *arg, struct MHD_Connection *conn __attribute__((unused)),
		       void *req __attribute__((unused)), const char *extra, size_t n, int fd,
		       struct MHD_UpgradeResponseHandle *handle)
{
	struct http *h = arg;
	struct http_tunnel *t = calloc(1, sizeof(*t));
	int on = 1;

	if (!t) {
		MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
		return;
	}
	t->server = h->server;
	t->handle = handle;
	t->next = t->server->tunnels;
	t->at = &t->server->tunnels;
	if (t->next)
		t->next->at = &t->next;
	t->server->tunnels = t;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	h->on_open(t, h->open_arg, fd, (const uint8_t *)extra, n);
}

int http_upgrade(struct http *h, http_on_open *on_open, void *arg, struct err *e)
{
	if (h->status)
		return err_set(e, ERR_STATE, 0, "http: an answer was given already");
	if (http_has_body(h) || !conn_header(h, "Upgrade"))
		return err_set(e, ERR_STATE, 0, "http: the request asks for no upgrade");
	h->on_open = on_open;
	h->open_arg = arg;
	http_start(h, MHD_HTTP_SWITCHING_PROTOCOLS, HTTP_LENGTH_UNKNOWN);
	return 0;
}

void http_tunnel_on_end(struct http_tunnel *t, void (*on_end)(void *arg), void *arg)
{
	t->on_end = on_end;
	t->arg = arg;
}

void http_tunnel_close(struct http_tunnel *t)
{
	MHD_upgrade_action(t->handle, MHD_UPGRADE_ACTION_CLOSE);
	run_soon(t->server);
	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	free(t);
}

/* --- the server --- */

static void __attribute__((format(printf, 2, 0))) on_log(void *arg __attribute__((unused)),
							  const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	log_debug("microhttpd: %s", text);
}

/* The path is ours to decode: the library would stop at an encoded NUL. */
static size_t no_unescape(void *arg __attribute__((unused)),
			  struct MHD_Connection *conn __attribute__((unused)), char *s)
{
	return strlen(s);
}

static struct MHD_Daemon *start_daemon(struct http_server *s)
{
	return MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG,
		0, NULL, NULL, on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, s->o.listen_fd, MHD_OPTION_URI_LOG_CALLBACK, on_target, s,
		MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED,
		on_completed, s, MHD_OPTION_CONNECTION_LIMIT, s->o.connections,
		MHD_OPTION_CONNECTION_TIMEOUT, s->o.idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)POOL_BYTES, MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)READER_BLOCK,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
}

struct http_server *http_server_new(struct loop *l, const struct http_server_options *o,
				    struct err *e)
{
	struct http_server *s = calloc(1, sizeof(*s));
	const union MHD_DaemonInfo *info;

	if (!s) {
		close(o->listen_fd);
		err_set(e, ERR_NO_MEMORY, 0, "http");
		return NULL;
	}
	s->loop = l;
	s->o = *o;
	s->daemon = start_daemon(s);
	if (!s->daemon) {
		close(o->listen_fd);
		free(s);
		err_set(e, ERR_SYS, errno, "http: the server did not start");
		return NULL;
	}
	info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (loop_io_start(l, &s->io, info->epoll_fd, LOOP_IN, on_epoll, e) < 0) {
		http_server_free(s);
		return NULL;
	}
	return s;
}

/* The library demands that nothing is suspended or upgraded when it stops. */
void http_server_free(struct http_server *s)
{
	if (!s)
		return;
	s->closing = true;
	while (s->tunnels) {
		struct http_tunnel *t = s->tunnels;

		if (t->on_end)
			t->on_end(t->arg);
		http_tunnel_close(t);
	}
	for (struct http *h = s->open; h; h = h->next) {
		h->gone = true;
		wake(h);
	}
	MHD_run(s->daemon);
	loop_io_stop(&s->io);
	loop_timer_stop(&s->timer);
	MHD_stop_daemon(s->daemon);
	free(s);
}
