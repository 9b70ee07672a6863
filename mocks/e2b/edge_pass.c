/* SPDX-License-Identifier: Apache-2.0
 *
 * A request on its way to what listens in the sandbox, and the answer on its way back. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mocks/e2b/edge_int.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

/* --- the answer, from the sandbox to the client --- */

static bool is_hop(const char *name)
{
	static const char *const hops[] = {
		"connection", "keep-alive", "proxy-connection", "proxy-authentication",
		"te",	      "trailer",    "transfer-encoding", "upgrade",
	};

	for (size_t i = 0; i < ARRAY_LEN(hops); i++)
		if (strcasecmp(name, hops[i]) == 0)
			return true;
	return false;
}

static int64_t length_of(const struct edge *d, const struct answer_head *head)
{
	const char *length = answer_header(head, "Content-Length");

	if (d->up.body.kind == BODY_LENGTH)
		return (int64_t)d->up.body.left;
	if (d->up.body.kind != BODY_NONE)
		return HTTP_LENGTH_UNKNOWN;
	return strcmp(http_method(d->x.h), "HEAD") == 0 && length ? strtoll(length, NULL, 10) : 0;
}

static void copy_headers(struct edge *d, const struct answer_head *head, bool upgrade)
{
	struct err e = ERR_INIT;

	for (size_t i = 0; i < head->n; i++)
		if (!is_hop(head->header[i].name) ||
		    (upgrade && strcasecmp(head->header[i].name, "upgrade") == 0))
			if (http_add(d->x.h, head->header[i].name, head->header[i].value, &e) < 0)
				log_warn("edge: a header was dropped: %s", e.msg);
}

static void begin_upgrade(struct edge *d);

static void on_head(struct upstream *u, const struct answer_head *head)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));

	d->answered = true;
	copy_headers(d, head, head->status == 101);
	if (head->status == 101)
		begin_upgrade(d);
	else
		http_start(d->x.h, head->status, length_of(d, head));
}

static bool on_answer_body(struct upstream *u, const uint8_t *p, size_t n)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));
	struct http *h = d->x.h;
	struct buf copy = { 0 };
	size_t may = edge_until_cut(d, &d->out, n);
	struct err e = ERR_INIT;
	int r = 0;

	if (may)
		r = http_write(h, edge_meddle(d, &d->out, p, may, &copy), may, &e);
	buf_release(&copy);
	d->out.passed += may;
	if (r < 0 || may < n) {
		edge_let_go(d);
		http_abort(h);
		return false;
	}
	return r == 0;
}

static void on_end(struct upstream *u)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));

	edge_let_go(d);
	http_end(d->x.h);
}

static void on_fail(struct upstream *u, const char *why)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));

	log_debug("edge: %s:%u: %s", d->to.id, d->to.port, why);
	if (!d->answered) {
		edge_say(d, EDGE_PORT_CLOSED, NULL);
		return;
	}
	edge_let_go(d);
	http_abort(d->x.h);
}

static void on_room(struct upstream *u)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));

	http_take_on(d->x.h);
}

static const struct upstream_calls from_sandbox = {
	.on_head = on_head,
	.on_body = on_answer_body,
	.on_end = on_end,
	.on_fail = on_fail,
	.on_room = on_room,
};

/* --- upgrades --- */

void edge_end_tunnel(struct edge *d)
{
	tunnel_stop(&d->tunnel);
	exchange_log_tunnel(&d->x, d->path, d->tunnel.side[0].bytes, d->tunnel.side[1].bytes);
	if (d->http_tunnel)
		http_tunnel_close(d->http_tunnel);
	d->http_tunnel = NULL;
	close_fd(&d->tunnel_fd);
	d->tunnel_over = true;
}

static void on_tunnel_end(struct tunnel *t)
{
	edge_end_tunnel((struct edge *)((char *)t - offsetof(struct edge, tunnel)));
}

static void on_server_end(void *arg)
{
	struct edge *d = arg;

	d->http_tunnel = NULL;
	edge_end_tunnel(d);
}

static void on_open(struct http_tunnel *t, void *arg, int fd, const uint8_t *extra, size_t n)
{
	struct edge *d = arg;
	struct buf early CLEANUP(buf_release);
	const int fds[2] = { fd, d->tunnel_fd };
	const struct buf *const first[2] = { &early, &d->up.in };
	struct err e = ERR_INIT;

	d->http_tunnel = t;
	http_tunnel_on_end(t, on_server_end, d);
	buf_init(&early, TUNNEL_BUFFER);
	/* tunnel_fd is -1 when the sandbox stopped in between. */
	if (d->tunnel_fd < 0 || buf_put(&early, extra, n, &e) < 0 ||
	    tunnel_start(&d->tunnel, d->x.cloud->loop, fds, first, on_tunnel_end, &e) < 0) {
		log_debug("edge: no tunnel: %s", e.msg);
		edge_end_tunnel(d);
	}
}

static void begin_upgrade(struct edge *d)
{
	struct err e = ERR_INIT;

	d->tunnel_fd = upstream_release(&d->up);
	snprintf(d->path, sizeof(d->path), "%s", http_path(d->x.h));
	d->upgraded = true;
	if (http_upgrade(d->x.h, on_open, d, &e) < 0) {
		log_warn("edge: %s", e.msg);
		d->upgraded = false;
		close_fd(&d->tunnel_fd);
		http_abort(d->x.h);
	}
}

/* --- the request, from the client to the sandbox --- */

struct copying {
	struct edge *d;
	struct buf head;
	struct err e;
	bool failed;
};

static void put_line(struct copying *c, const char *name, const char *value)
{
	if (!c->failed && buf_printf(&c->head, &c->e, "%s: %s\r\n", name, value) < 0)
		c->failed = true;
}

static void copy_request_header(void *arg, const char *name, const char *value)
{
	struct copying *c = arg;

	if (is_hop(name) || strcasecmp(name, "host") == 0 || strcasecmp(name, "expect") == 0 ||
	    (strcasecmp(name, "content-length") == 0 && c->d->chunked))
		return;
	put_line(c, name, value);
}

/* maskRequestHost of the sandbox's network: what is inside sees another Host. */
static void put_host(struct copying *c)
{
	static const char place[] = "${PORT}";
	const struct sandbox *s = c->d->sandbox;
	const char *host = http_header(c->d->x.h, "Host");
	const char *mask = json_string(json_get(json_get(s->request, "network"),
						"maskRequestHost"));
	const char *at = mask ? strstr(mask, place) : NULL;
	char text[512];

	if (!mask) {
		put_line(c, "Host", host ? host : "");
		return;
	}
	if (at)
		snprintf(text, sizeof(text), "%.*s%u%s", (int)(at - mask), mask, c->d->to.port,
			 at + strlen(place));
	put_line(c, "Host", at ? text : mask);
	put_line(c, "X-Forwarded-Host", host ? host : "");
}

static bool put_head(struct copying *c)
{
	struct http *h = c->d->x.h;
	const char *upgrade = http_header(h, "Upgrade");

	if (buf_printf(&c->head, &c->e, "%s %s HTTP/1.1\r\n", http_method(h), http_target(h)) < 0)
		return false;
	put_host(c);
	http_headers(h, copy_request_header, c);
	if (upgrade) {
		put_line(c, "Connection", "Upgrade");
		put_line(c, "Upgrade", upgrade);
	}
	if (c->d->chunked)
		put_line(c, "Transfer-Encoding", "chunked");
	return !c->failed && buf_puts(&c->head, "\r\n", &c->e) == 0;
}

/* A chunk's frame and data go together or not at all. */
static size_t send_chunk(struct edge *d, const uint8_t *p, size_t n)
{
	size_t room = buf_room(&d->up.out);
	char size[24];
	int len;

	if (room < 64) {
		d->up.full = true;
		return 0;
	}
	if (n > room - 32) {
		n = room - 32;
		d->up.full = true;
	}
	len = snprintf(size, sizeof(size), "%zx\r\n", n);
	upstream_send(&d->up, size, (size_t)len);
	upstream_send(&d->up, p, n);
	upstream_send(&d->up, "\r\n", 2);
	return n;
}

size_t edge_on_body(struct http *h, const uint8_t *p, size_t n)
{
	struct edge *d = http_ctx(h);
	struct buf copy = { 0 };
	size_t may, sent;

	if (!d->up.loop)
		return 0;	/* not connected yet */
	may = edge_until_cut(d, &d->in, n);
	sent = may;
	if (may) {
		const uint8_t *q = edge_meddle(d, &d->in, p, may, &copy);

		sent = d->chunked ? send_chunk(d, q, may) : upstream_send(&d->up, q, may);
		buf_release(&copy);
	}
	d->in.passed += sent;
	if (may < n && sent == may) {
		edge_let_go(d);
		http_abort(h);
		return n;
	}
	return sent;
}

void edge_on_body_end(struct http *h)
{
	struct edge *d = http_ctx(h);

	d->body_ended = true;
	if (d->up.loop && d->chunked)
		upstream_send(&d->up, "0\r\n\r\n", 5);
}

void edge_on_drain(struct http *h)
{
	struct edge *d = http_ctx(h);

	upstream_pause(&d->up, false);
}

void edge_pass_on(struct edge *d, int fd)
{
	struct copying c = { .d = d };
	struct err e = ERR_INIT;

	d->chunked = http_header(d->x.h, "Transfer-Encoding") != NULL;
	edge_choose_faults(d);
	if (upstream_start(&d->up, d->x.cloud->loop, fd, http_method(d->x.h), &from_sandbox,
			   &e) < 0) {
		log_error("edge: %s", e.msg);
		http_abort(d->x.h);
		return;
	}
	buf_init(&c.head, ANSWER_HEAD_MAX + 4096);
	if (put_head(&c)) {
		upstream_send(&d->up, buf_data(&c.head), buf_len(&c.head));
		if (d->body_ended && d->chunked)
			upstream_send(&d->up, "0\r\n\r\n", 5);
		http_take_on(d->x.h);
	} else {
		edge_say_text(d, 431, "Request Header Fields Too Large");
	}
	buf_release(&c.head);
}
