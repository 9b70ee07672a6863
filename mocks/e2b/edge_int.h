/* SPDX-License-Identifier: Apache-2.0
 *
 * edge_int - what the files of the edge share: edge.c lets requests in and speaks for the edge,
 * edge_pass.c passes them on, edge_fault.c does wrong to what passes. */
#ifndef FARSTEP_E2B_EDGE_INT_H
#define FARSTEP_E2B_EDGE_INT_H

#include "mocks/e2b/edge_text.h"
#include "mocks/e2b/exchange.h"
#include "mocks/e2b/sandbox.h"
#include "mocks/e2b/tunnel.h"
#include "mocks/e2b/upstream.h"

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

/* Lets go of everything but the client. */
void edge_let_go(struct edge *d);
/* The edge's own answer, after letting go.  text: where the case has one. */
void edge_say(struct edge *d, enum edge_case c, const char *text);
void edge_say_text(struct edge *d, int status, const char *text);

/* Sends the request over fd, which it takes, and the answer back. */
void edge_pass_on(struct edge *d, int fd);
void edge_end_tunnel(struct edge *d);	/* of an upgraded one, from either side */
/* For the http of a request that is, or will be, passed on. */
size_t edge_on_body(struct http *h, const uint8_t *p, size_t n);
void edge_on_body_end(struct http *h);
void edge_on_drain(struct http *h);

void edge_act(struct edge *d, const struct fault *f);	/* for the log */
void edge_choose_faults(struct edge *d);
/* How much of n bytes may still pass; less: the cut is there. */
size_t edge_until_cut(struct edge *d, struct meddling *m, size_t n);
/* The bytes as they go on: those given, or a changed copy in `copy`, which the caller zeroed and
 * releases. */
const uint8_t *edge_meddle(struct edge *d, struct meddling *m, const uint8_t *p, size_t n,
			   struct buf *copy);

#endif
