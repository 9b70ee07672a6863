/* SPDX-License-Identifier: Apache-2.0
 *
 * events - writes events.jsonl and metrics.jsonl of a run directory.
 *
 * One compact JSON object a line: ts, session, seq (strictly rising, ours), wseq when the
 * event came from the worker, event, then flat fields.  Each line is one write(2); values
 * are masked before they are escaped.  On reopening, seq goes on and the last wseq is known,
 * so that replayed events are recognised.
 *
 * A member of a step's `data` whose name is taken (ts, session, seq, wseq, event, step_id,
 * attempt, data) is written inside an object `data`: a step cannot speak for another one. */
#ifndef FARSTEP_PROXY_EVENTS_H
#define FARSTEP_PROXY_EVENTS_H

#include "protocol/base/json.h"
#include "proxy/mask.h"

struct events {
	int fd, metrics_fd; /* O_APPEND */
	int live_fd;        /* --events: a copy of each line of events.jsonl; -1: none; borrowed.
				 * A reader that has gone ends the copies, not the run. */
	char session[80];
	uint64_t seq, wseq;
	const struct mask_set *secrets; /* borrowed; may be NULL */
	/* the display's hook: called after each event was written.  fields is the line as it was
	 * written (masked, flat, with ts, session and seq), borrowed for the call; for a metric
	 * its line in metrics.jsonl */
	void (*on_event)(void *arg, const char *event, const json *fields);
	void *arg;
};

/* Opens (appends to) the files in dirfd; finds seq and wseq from what is there (a torn last
 * line is cut off).  Sets live_fd to -1 and no hook.  After a failure nothing is open. */
int events_open(struct events *ev, int dirfd, const char *session, const struct mask_set *secrets,
                struct err *e);
void events_close(struct events *ev);
/* A proxy event.  fields: text of a JSON object, NULL = {}. */
int events_put(struct events *ev, const char *event, const char *fields, struct err *e);
/* An event of the worker (params of its notification): 1 written, 0 known already, -1 error
 * (ERR_PROTO when wseq leaves a hole, or the event is not the worker's to send).  "metric"
 * goes to metrics.jsonl. */
int events_put_worker(struct events *ev, const json *params, struct err *e);

#endif
