/* SPDX-License-Identifier: Apache-2.0
 *
 * The edge: a request to a port of a sandbox, passed on through its door and answered by what
 * listens there; or by the edge itself, in the words of edge_text. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mocks/e2b/edge_text.h"
#include "mocks/e2b/envd.h"
#include "mocks/e2b/exchange.h"
#include "mocks/e2b/sandbox.h"
#include "mocks/e2b/tunnel.h"
#include "mocks/e2b/upstream.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum {
	DIALS = 5,		/* what has just been started may not listen yet */
	DIAL_STEP_MS = 100,	/* 100, 200, 300, 400 ms between them */
	RESUME_MIN_S = 300,	/* of a sandbox that traffic wakes */
};

/* One direction's body under a fault rule. */
struct meddling {
	struct fault *cut, *corrupt;
	uint64_t passed;
};

struct edge {
	struct exchange x;
	struct target to;
	struct sandbox *sandbox;
	struct sandbox_watch watch;
	struct sandbox_wait resume;
	struct door_ask ask;
	struct loop_timer redial;
	unsigned dials;
	struct upstream up;
	struct meddling in, out;
	bool chunked;		/* the request's body is */
	bool body_ended;
	bool answered;		/* its head is on the way */
	bool upgraded;		/* its connection is, or will be, a tunnel's, */
	bool tunnel_over;	/* until here */
	char path[256];		/* of an upgraded one, for the log */
	struct tunnel tunnel;
	struct http_tunnel *http_tunnel;
	int tunnel_fd;		/* the sandbox's end */
	struct edge *next;
};

static struct edge *ended;	/* freed between two passes */

void edges_reap(void)
{
	while (ended) {
		struct edge *d = ended;

		ended = d->next;
		free(d);
	}
}

/* Lets go of everything but the client. */
static void let_go(struct edge *d)
{
	sandbox_watch_stop(&d->watch);
	sandbox_wait_stop(&d->resume);
	door_forget(&d->ask);
	loop_timer_stop(&d->redial);
	upstream_stop(&d->up);
}

static void bury(struct edge *d)
{
	let_go(d);
	d->next = ended;
	ended = d;
}

/* Of an upgraded connection this comes when its tunnel is over, which has been logged then; or
 * before it was opened. */
static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	struct edge *d = http_ctx(h);

	if (!d->tunnel_over)
		exchange_log(&d->x);
	d->x.h = NULL;
	close_fd(&d->tunnel_fd);
	bury(d);
}

/* --- what the edge itself says --- */

static void say(struct edge *d, enum edge_case c, const char *text)
{
	struct http *h = d->x.h;
	bool html = edge_wants_html(http_header(h, "User-Agent"), http_header(h, "Accept"));
	struct buf body CLEANUP(buf_release);
	struct err e = ERR_INIT;

	let_go(d);
	buf_init(&body, 2 * HTTP_HEAD_MAX);
	if (edge_body(c, d->to.id, d->to.port, text, html, &body, &e) < 0) {
		log_error("edge: %s", e.msg);
		http_abort(h);
		return;
	}
	http_reply(h, edge_status(c),
		   html ? "text/html; charset=utf-8" : "application/json; charset=utf-8",
		   buf_data(&body), buf_len(&body));
}

static void say_text(struct edge *d, int status, const char *text)
{
	http_reply(d->x.h, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void on_tunnel_end(struct tunnel *t);

/* The sandbox paused or ended under a request. */
static void on_stop(struct sandbox_watch *w)
{
	struct edge *d = (struct edge *)((char *)w - offsetof(struct edge, watch));

	if (d->http_tunnel) {
		on_tunnel_end(&d->tunnel);
		return;
	}
	if (d->upgraded) {	/* on_open is to come, or on_close */
		close_fd(&d->tunnel_fd);
		return;
	}
	if (!d->answered) {
		say(d, EDGE_NOT_FOUND, NULL);
		return;
	}
	let_go(d);
	http_abort(d->x.h);
}

/* --- faults --- */

static void act(struct edge *d, const struct fault *f)
{
	d->x.fault = fault_name(f->kind);
	log_debug("edge: %s acts on %s", d->x.fault, http_target(d->x.h));
}

static void choose_faults(struct edge *d)
{
	struct faults *f = &d->x.cloud->faults;
	const char *path = http_path(d->x.h);
	struct meddling m;

	if (d->to.port != ENVD_PORT)
		return;
	if (strcmp(path, "/process.Process/Start") == 0 ||
	    strcmp(path, "/process.Process/Connect") == 0) {
		d->out.cut = faults_find(f, FAULT_PROCESS_DROP);
	} else if (strcmp(path, "/files") == 0) {
		m = (struct meddling){ faults_find(f, FAULT_FILES_CUT),
				       faults_find(f, FAULT_FILES_CORRUPT), 0 };
		if (strcmp(http_method(d->x.h), "GET") == 0)
			d->out = m;
		else
			d->in = m;
	}
}

/* How much of n bytes may still pass; less: the cut is there. */
static size_t until_cut(struct edge *d, struct meddling *m, size_t n)
{
	uint64_t left;

	if (!m->cut || m->passed + n <= m->cut->at)
		return n;
	left = m->cut->at > m->passed ? m->cut->at - m->passed : 0;
	if (!fault_act(m->cut)) {
		m->cut = NULL;
		return n;
	}
	act(d, m->cut);
	return (size_t)left;
}

/* The bytes as they go on: those given, or a changed copy in `copy`. */
static const uint8_t *meddle(struct edge *d, struct meddling *m, const uint8_t *p, size_t n,
			     struct buf *copy)
{
	uint64_t at = m->corrupt ? m->corrupt->at : 0;

	if (!m->corrupt || at < m->passed || at >= m->passed + n || !fault_act(m->corrupt))
		return p;
	buf_init(copy, n);
	if (buf_put(copy, p, n, NULL) < 0)
		return p;
	act(d, m->corrupt);
	copy->mem[copy->off + (at - m->passed)] ^= 1;
	m->corrupt = NULL;
	return buf_data(copy);
}

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
	size_t may = until_cut(d, &d->out, n);
	struct err e = ERR_INIT;
	int r = 0;

	if (may)
		r = http_write(h, meddle(d, &d->out, p, may, &copy), may, &e);
	buf_release(&copy);
	d->out.passed += may;
	if (r < 0 || may < n) {
		let_go(d);
		http_abort(h);
		return false;
	}
	return r == 0;
}

static void on_end(struct upstream *u)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));

	let_go(d);
	http_end(d->x.h);
}

static void on_fail(struct upstream *u, const char *why)
{
	struct edge *d = (struct edge *)((char *)u - offsetof(struct edge, up));

	log_debug("edge: %s:%u: %s", d->to.id, d->to.port, why);
	if (!d->answered) {
		say(d, EDGE_PORT_CLOSED, NULL);
		return;
	}
	let_go(d);
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

static void on_tunnel_end(struct tunnel *t)
{
	struct edge *d = (struct edge *)((char *)t - offsetof(struct edge, tunnel));

	tunnel_stop(&d->tunnel);
	exchange_log_tunnel(&d->x, d->path, d->tunnel.side[0].bytes, d->tunnel.side[1].bytes);
	if (d->http_tunnel)
		http_tunnel_close(d->http_tunnel);
	d->http_tunnel = NULL;
	close_fd(&d->tunnel_fd);
	d->tunnel_over = true;
}

static void on_server_end(void *arg)
{
	struct edge *d = arg;

	d->http_tunnel = NULL;
	on_tunnel_end(&d->tunnel);
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
		on_tunnel_end(&d->tunnel);
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

static size_t on_request_body(struct http *h, const uint8_t *p, size_t n)
{
	struct edge *d = http_ctx(h);
	struct buf copy = { 0 };
	size_t may, sent;

	if (!d->up.loop)
		return 0;	/* not connected yet */
	may = until_cut(d, &d->in, n);
	sent = may;
	if (may) {
		const uint8_t *q = meddle(d, &d->in, p, may, &copy);

		sent = d->chunked ? send_chunk(d, q, may) : upstream_send(&d->up, q, may);
		buf_release(&copy);
	}
	d->in.passed += sent;
	if (may < n && sent == may) {
		let_go(d);
		http_abort(h);
		return n;
	}
	return sent;
}

static void on_request_end(struct http *h)
{
	struct edge *d = http_ctx(h);

	d->body_ended = true;
	if (d->up.loop && d->chunked)
		upstream_send(&d->up, "0\r\n\r\n", 5);
}

static void on_drain(struct http *h)
{
	struct edge *d = http_ctx(h);

	upstream_pause(&d->up, false);
}

static void pass_on(struct edge *d, int fd)
{
	struct copying c = { .d = d };
	struct err e = ERR_INIT;

	d->chunked = http_header(d->x.h, "Transfer-Encoding") != NULL;
	choose_faults(d);
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
		say_text(d, 431, "Request Header Fields Too Large");
	}
	buf_release(&c.head);
}

/* --- the way in --- */

static void dial(struct edge *d);

static void on_redial(struct loop_timer *t)
{
	dial((struct edge *)((char *)t - offsetof(struct edge, redial)));
}

static void on_dialled(struct door_ask *a, int sys, int fd)
{
	struct edge *d = (struct edge *)((char *)a - offsetof(struct edge, ask));
	struct err e = ERR_INIT;

	if (sys == 0) {
		pass_on(d, fd);
		return;
	}
	if (sys == EPIPE) {
		say(d, EDGE_NOT_FOUND, NULL);
		return;
	}
	if (d->dials < DIALS &&
	    loop_timer_start(d->x.cloud->loop, &d->redial, (uint64_t)d->dials * DIAL_STEP_MS,
			     on_redial, &e) == 0)
		return;
	say(d, EDGE_PORT_CLOSED, NULL);
}

static void dial(struct edge *d)
{
	d->dials++;
	d->ask.on_answer = on_dialled;
	door_connect(&d->sandbox->door, &d->ask, d->to.port);
}

static bool is_reserved(const struct edge *d)
{
	static const char *const paths[] = { "/init",	  "/freeze",   "/unfreeze",
					     "/collapse", "/fsfreeze", "/fsthaw" };

	for (size_t i = 0; d->to.port == ENVD_PORT && i < ARRAY_LEN(paths); i++)
		if (strcmp(http_path(d->x.h), paths[i]) == 0)
			return true;
	return false;
}

/* Checked everywhere but at envd, which has a token of its own. */
static bool check_traffic_token(struct edge *d)
{
	const char *want = d->sandbox->traffic_token;
	const char *have = http_header(d->x.h, "e2b-traffic-access-token");

	if (!*want || d->to.port == ENVD_PORT)
		return true;
	if (have && strlen(have) == strlen(want) && equal_ct(have, want, strlen(want)))
		return true;
	say(d, have ? EDGE_WRONG_TOKEN : EDGE_NO_TOKEN, NULL);
	return false;
}

static void enter(struct edge *d)
{
	if (!check_traffic_token(d))
		return;
	if (is_reserved(d)) {
		say(d, EDGE_RESERVED, http_path(d->x.h));
		return;
	}
	d->watch.on_stop = on_stop;
	sandbox_watch(d->sandbox, &d->watch);
	dial(d);
}

static void on_resumed(struct sandbox_wait *w, struct sandbox *s __attribute__((unused)),
		       const struct err *why)
{
	struct edge *d = (struct edge *)((char *)w - offsetof(struct edge, resume));

	if (why)
		say(d, EDGE_NOT_FOUND, NULL);
	else
		enter(d);
}

static void resume(struct edge *d)
{
	struct sandbox *s = d->sandbox;
	uint64_t timeout_s = s->timeout_s < RESUME_MIN_S ? RESUME_MIN_S : s->timeout_s;
	struct err e = ERR_INIT;

	if (!check_traffic_token(d))
		return;
	d->resume.on_done = on_resumed;
	if (sandbox_resume(s, timeout_s, true, &d->resume, &e) == 0)
		return;
	if (e.code == ERR_QUOTA)
		say(d, EDGE_QUOTA, e.msg);
	else
		say(d, EDGE_NOT_FOUND, NULL);
}

static void find_sandbox(struct edge *d)
{
	struct fault *f = faults_find(&d->x.cloud->faults, FAULT_EDGE_502);

	if (++d->x.cloud->edge_requests >= (f ? f->at : UINT64_MAX) && fault_act(f)) {
		act(d, f);
		say(d, EDGE_NOT_FOUND, NULL);
		return;
	}
	d->sandbox = sandbox_find(d->x.cloud, d->to.id);
	switch (d->sandbox ? d->sandbox->state : SANDBOX_GONE) {
	case SANDBOX_RUNNING:
		enter(d);
		break;
	case SANDBOX_PAUSING:
	case SANDBOX_RESUMING:
		say(d, EDGE_IN_TRANSITION, NULL);
		break;
	case SANDBOX_PAUSED:
		if (d->sandbox->auto_resume) {
			resume(d);
			break;
		}
		say(d, EDGE_NOT_FOUND, NULL);
		break;
	default:
		say(d, EDGE_NOT_FOUND, NULL);
	}
}

void edge_begin(const struct exchange *arrived, const struct target *t)
{
	static const struct http_calls calls = {
		.on_body = on_request_body,
		.on_body_end = on_request_end,
		.on_drain = on_drain,
		.on_close = on_close,
	};
	struct edge *d = calloc(1, sizeof(*d));

	if (!d) {
		http_abort(arrived->h);
		return;
	}
	d->x = *arrived;
	d->to = *t;
	d->body_ended = d->x.body_ended;
	d->tunnel_fd = -1;
	snprintf(d->x.sandbox, sizeof(d->x.sandbox), "%s", t->id);
	http_on(d->x.h, &calls, d);
	switch (t->kind) {
	case TARGET_NO_HEADER:
		say_text(d, 400, "missing header");
		break;
	case TARGET_BAD_ID:
		say_text(d, 400, "Invalid sandbox ID");
		break;
	case TARGET_BAD_PORT:
		say_text(d, 500, "Unexpected error when routing request: invalid sandbox port");
		break;
	default:
		find_sandbox(d);
	}
}
