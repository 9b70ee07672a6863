/* SPDX-License-Identifier: Apache-2.0
 *
 * journal - a session's events: an append-only file, one line each, numbered from 1.
 *
 * A line is the `params` text of the event's notification.  It is written before it is sent,
 * so a new worker finds all of them.  The file stays until the session ends.
 * Events that came from a step's descriptor 3 carry `src`, the offset in its spool after
 * the line: a new worker goes on exactly there. */
#ifndef FARSTEP_WORKER_JOURNAL_H
#define FARSTEP_WORKER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"

#define JOURNAL_ROOM (16 * 1024 * 1024) /* unacknowledged bytes: then steps' events are not read */
#define JOURNAL_MAX \
	(1024 * 1024 * 1024) /* all of it: beyond, a step's own events are dropped and declared */
#define JOURNAL_LINE_MAX (LIMIT_TEXT - 64) /* its notification fits into a frame */

struct journal {
	int fd;
	uint64_t last; /* wseq of the last event */
	uint64_t size; /* bytes */
	uint64_t acked,
		/* everything up to this wseq, which ends at this offset, is acknowledged */
		acked_at;
	struct buf pending; /* lines not written yet: journal_flush */
};

/* Where a reader is: the event it gets next. */
struct journal_cursor {
	uint64_t sent, at; /* wseq already handed out, and where its line ends */
};

/* Opens dir/events (makes it); after a crash cuts a torn last line off and calls on_line for
 * every line that is there (text without newline). */
int journal_open(struct journal *j, int dirfd,
                 void (*on_line)(void *arg, const char *line, size_t n), void *arg, struct err *e);
void journal_close(struct journal *j);
/* Appends one event:
 * {"wseq":N,"ts":...,"event":name<,"step_id":..,"attempt":..><,"src":".."><,"data":{..}>}.
 * step NULL: none.  data: text of an object, NULL = none.  It is in the file after journal_flush,
 * which callers call once per batch.  ERR_LIMIT: the line would be over JOURNAL_LINE_MAX. */
int journal_put(struct journal *j, const char *event, const char *step, int attempt, uint64_t src,
                const char *data, size_t n, struct err *e);
int journal_flush(struct journal *j, struct err *e);
static inline bool journal_has_room(const struct journal *j)
{
	return j->size - j->acked_at + buf_len(&j->pending) < JOURNAL_ROOM;
}
/* Positions the cursor after event `have`.  ERR_NOT_FOUND when there is no such event yet. */
int journal_seek(const struct journal *j, uint64_t have, struct journal_cursor *ret, struct err *e);
/* Hands out at most max lines after the cursor. Returns how many, or -1. */
int journal_read(const struct journal *j, struct journal_cursor *c, int max,
                 int (*on_line)(void *arg, const char *line, size_t n, struct err *e), void *arg,
                 struct err *e);
void journal_ack(struct journal *j, uint64_t wseq, const struct journal_cursor *reader);

#endif
