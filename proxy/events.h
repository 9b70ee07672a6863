/* SPDX-License-Identifier: Apache-2.0
 *
 * events - writes events.jsonl and metrics.jsonl of a run directory.
 *
 * One compact JSON object a line: ts, session, seq (strictly rising, ours), wseq when the
 * event came from the worker, event, then flat fields.  Each line is one write(2); values
 * are masked before they are escaped.  On reopening, seq goes on and the last wseq is known,
 * so that replayed events are recognised. */
#ifndef FARSTEP_PROXY_EVENTS_H
#define FARSTEP_PROXY_EVENTS_H

#include "protocol/base/json.h"
#include "proxy/mask.h"

struct events {
	int fd, metrics_fd;	/* O_APPEND */
	int live_fd;		/* --events: a copy of each line; -1: none */
	char session[80];
	uint64_t seq, wseq;
	const struct mask_set *secrets;
	/* the display's hook: called after each event was written; fields is the flat object's text */
	void (*on_event)(void *arg, const char *event, const json *fields);
	void *arg;
};

/* Opens (appends to) the files in dirfd; finds seq and wseq from what is there (a torn last
 * line is cut off). */
int events_open(struct events *ev, int dirfd, const char *session, const struct mask_set *secrets, struct err *e);
void events_close(struct events *ev);
/* A proxy event.  fields: text of a JSON object, NULL = {}. */
int events_put(struct events *ev, const char *event, const char *fields, struct err *e);
/* An event of the worker (params of its notification): 1 written, 0 known already, -1 error
 * (ERR_PROTO when wseq leaves a hole).  "metric" goes to metrics.jsonl. */
int events_put_worker(struct events *ev, const json *params, struct err *e);

#endif
