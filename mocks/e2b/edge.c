/* SPDX-License-Identifier: Apache-2.0
 *
 * The edge: a request to a port of a sandbox, passed on through its door and answered by what
 * listens there; or by the edge itself, in the words of edge_text. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/edge_int.h"
#include "mocks/e2b/envd.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum {
	DIALS = 5,		/* what has just been started may not listen yet */
	DIAL_STEP_MS = 100,	/* 100, 200, 300, 400 ms between them */
	RESUME_MIN_S = 300,	/* of a sandbox that traffic wakes */
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

void edge_let_go(struct edge *d)
{
	sandbox_watch_stop(&d->watch);
	sandbox_wait_stop(&d->resume);
	door_forget(&d->ask);
	loop_timer_stop(&d->redial);
	upstream_stop(&d->up);
}

static void bury(struct edge *d)
{
	edge_let_go(d);
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

void edge_say(struct edge *d, enum edge_case c, const char *text)
{
	struct http *h = d->x.h;
	bool html = edge_wants_html(http_header(h, "User-Agent"), http_header(h, "Accept"));
	struct buf body CLEANUP(buf_release);
	struct err e = ERR_INIT;

	edge_let_go(d);
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

void edge_say_text(struct edge *d, int status, const char *text)
{
	http_reply(d->x.h, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* The sandbox paused or ended under a request. */
static void on_stop(struct sandbox_watch *w)
{
	struct edge *d = (struct edge *)((char *)w - offsetof(struct edge, watch));

	if (d->http_tunnel) {
		edge_end_tunnel(d);
		return;
	}
	if (d->upgraded) {	/* on_open is to come, or on_close */
		close_fd(&d->tunnel_fd);
		return;
	}
	if (!d->answered) {
		edge_say(d, EDGE_NOT_FOUND, NULL);
		return;
	}
	edge_let_go(d);
	http_abort(d->x.h);
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
		edge_pass_on(d, fd);
		return;
	}
	if (sys == EPIPE) {
		edge_say(d, EDGE_NOT_FOUND, NULL);
		return;
	}
	if (d->dials < DIALS &&
	    loop_timer_start(d->x.cloud->loop, &d->redial, (uint64_t)d->dials * DIAL_STEP_MS,
			     on_redial, &e) == 0)
		return;
	edge_say(d, EDGE_PORT_CLOSED, NULL);
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
	edge_say(d, have ? EDGE_WRONG_TOKEN : EDGE_NO_TOKEN, NULL);
	return false;
}

static void enter(struct edge *d)
{
	if (!check_traffic_token(d))
		return;
	if (is_reserved(d)) {
		edge_say(d, EDGE_RESERVED, http_path(d->x.h));
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
		edge_say(d, EDGE_NOT_FOUND, NULL);
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
		edge_say(d, EDGE_QUOTA, e.msg);
	else
		edge_say(d, EDGE_NOT_FOUND, NULL);
}

static void find_sandbox(struct edge *d)
{
	struct fault *f = faults_find(&d->x.cloud->faults, FAULT_EDGE_502);

	if (++d->x.cloud->edge_requests >= (f ? f->at : UINT64_MAX) && fault_act(f)) {
		edge_act(d, f);
		edge_say(d, EDGE_NOT_FOUND, NULL);
		return;
	}
	d->sandbox = sandbox_find(d->x.cloud, d->to.id);
	switch (d->sandbox ? d->sandbox->state : SANDBOX_GONE) {
	case SANDBOX_RUNNING:
		enter(d);
		break;
	case SANDBOX_PAUSING:
	case SANDBOX_RESUMING:
		edge_say(d, EDGE_IN_TRANSITION, NULL);
		break;
	case SANDBOX_PAUSED:
		if (d->sandbox->auto_resume) {
			resume(d);
			break;
		}
		edge_say(d, EDGE_NOT_FOUND, NULL);
		break;
	default:
		edge_say(d, EDGE_NOT_FOUND, NULL);
	}
}

void edge_begin(const struct exchange *arrived, const struct target *t)
{
	static const struct http_calls calls = {
		.on_body = edge_on_body,
		.on_body_end = edge_on_body_end,
		.on_drain = edge_on_drain,
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
		edge_say_text(d, 400, "missing header");
		break;
	case TARGET_BAD_ID:
		edge_say_text(d, 400, "Invalid sandbox ID");
		break;
	case TARGET_BAD_PORT:
		edge_say_text(d, 500,
			      "Unexpected error when routing request: invalid sandbox port");
		break;
	default:
		find_sandbox(d);
	}
}
