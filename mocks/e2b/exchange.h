/* SPDX-License-Identifier: Apache-2.0
 *
 * exchange - one request to the mock, from its head to its line in the log.
 *
 * The front waits for the latency, then hands the exchange to the control API or to the edge.
 * Each has an object of its own that begins with one of these, and ends it in its on_close. */
#ifndef FARSTEP_E2B_EXCHANGE_H
#define FARSTEP_E2B_EXCHANGE_H

#include <stdint.h>

#include "mocks/e2b/cloud.h"
#include "mocks/e2b/http.h"
#include "mocks/e2b/target.h"

struct exchange {
	struct cloud *cloud;
	struct http *h;
	uint64_t start_ns, start_us;
	char sandbox[SANDBOX_ID_MAX];	/* for the log; "" if none */
	const char *fault;		/* the rule that acted; NULL if none */
	bool body_ended;		/* during the latency: on_body_end will not come again */
};

/* Writes the line; while the http's strings still hold, that is in on_close. */
void exchange_log(const struct exchange *x);
/* The same for an upgraded connection that has ended; x->h is not looked at. */
void exchange_log_tunnel(const struct exchange *x, const char *path, uint64_t in, uint64_t out);

/* `arrived` is copied; both take the request over with http_on. */
void edge_begin(const struct exchange *arrived, const struct target *t);
void control_begin(const struct exchange *arrived);
/* What has ended since the last pass of the loop is freed here. */
void edges_reap(void);
void calls_reap(void);
/* Calls that still wait for something, though no client does; when the server is gone. */
void calls_end(void);

#endif
