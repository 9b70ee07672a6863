/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/front.h"

#include <stddef.h>
#include <stdlib.h>

#include "mocks/e2b/exchange.h"

enum {
	CONNECTIONS = 1024,	/* at once; more wait */
	IDLE_S = 620,
};

/* A request in its latency. */
struct arrival {
	struct exchange x;
	struct loop_timer latency;
};

static size_t on_body(struct http *h __attribute__((unused)),
		      const uint8_t *p __attribute__((unused)), size_t n __attribute__((unused)))
{
	return 0;	/* not before the latency is over */
}

static void on_body_end(struct http *h)
{
	struct arrival *a = http_ctx(h);

	a->x.body_ended = true;
}

static void on_close(struct http *h, bool whole __attribute__((unused)))
{
	struct arrival *a = http_ctx(h);

	loop_timer_stop(&a->latency);
	exchange_log(&a->x);
	free(a);
}

static void hand_on(const struct exchange *x)
{
	const char *host = http_header(x->h, "Host");
	struct target t = target_find(host, http_header(x->h, "E2b-Sandbox-Id"),
				      http_header(x->h, "E2b-Sandbox-Port"));

	if (t.kind == TARGET_CONTROL)
		control_begin(x);
	else
		edge_begin(x, &t);
}

static void on_latency(struct loop_timer *t)
{
	struct arrival *a = (struct arrival *)((char *)t - offsetof(struct arrival, latency));
	struct http *h = a->x.h;

	hand_on(&a->x);
	free(a);
	http_take_on(h);
}

static void on_request(struct http *h, void *arg)
{
	static const struct http_calls waiting = {
		.on_body = on_body, .on_body_end = on_body_end, .on_close = on_close,
	};
	struct cloud *c = arg;
	struct exchange x = {
		.cloud = c, .h = h, .start_ns = now_ns(), .start_us = now_real_us(),
	};
	struct arrival *a;
	struct err e = ERR_INIT;

	if (c->o->latency_ms == 0) {
		hand_on(&x);
		return;
	}
	a = calloc(1, sizeof(*a));
	if (!a) {
		http_abort(h);
		return;
	}
	a->x = x;
	http_on(h, &waiting, a);
	if (loop_timer_start(c->loop, &a->latency, c->o->latency_ms, on_latency, &e) < 0)
		http_abort(h);
}

struct http_server *front_start(struct cloud *c, int listen_fd, struct err *e)
{
	struct http_server_options o = {
		.listen_fd = listen_fd,
		.connections = CONNECTIONS,
		.idle_s = IDLE_S,
		.on_request = on_request,
		.arg = c,
	};

	return http_server_new(c->loop, &o, e);
}

void front_reap(void)
{
	edges_reap();
	calls_reap();
}

void front_end(struct http_server *s)
{
	http_server_free(s);
	calls_end();
	edges_reap();
}
