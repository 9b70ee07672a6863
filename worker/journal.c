/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "protocol/base/loop.h"

#define PIECE       (256 * 1024)
#define PENDING_MAX (4 * 1024 * 1024)
_Static_assert(PIECE > JOURNAL_LINE_MAX, "a line is read whole");

/* Calls fn for each whole line in [at, size); returns the offset after the last one. */
static int64_t each_line(int fd, uint64_t at, uint64_t size, int max,
                         int (*fn)(void *arg, const char *line, size_t n, struct err *e), void *arg,
                         struct err *e)
{
	size_t room = at < size && size - at < PIECE ? (size_t)(size - at) : PIECE;
	auto_free char *piece = malloc(room);

	if (!piece)
		return err_set(e, ERR_NO_MEMORY, 0, "journal");
	while (at < size && max > 0) {
		ssize_t n = pread(fd, piece, room, (off_t)at);
		char *line = piece, *end = n > 0 ? memchr(piece, '\n', (size_t)n) : NULL;

		if (n < 0)
			return err_set(e, ERR_SYS, errno, "journal: read");
		if (!end)
			break;
		for (; end && max > 0; max--) {
			if (fn(arg, line, (size_t)(end - line), e) < 0)
				return -1;
			line = end + 1;
			end = memchr(line, '\n', (size_t)(piece + n - line));
		}
		at += (uint64_t)(line - piece);
	}
	return (int64_t)at;
}

struct opening {
	struct journal *j;
	void (*on_line)(void *arg, const char *line, size_t n);
	void *arg;
};

static int take_line(void *arg, const char *line, size_t n, struct err *e)
{
	struct opening *o = arg;

	(void)e;
	o->j->last++;
	if (o->on_line)
		o->on_line(o->arg, line, n);
	return 0;
}

int journal_open(struct journal *j, int dirfd,
                 void (*on_line)(void *arg, const char *line, size_t n), void *arg, struct err *e)
{
	struct opening o = { j, on_line, arg };
	off_t size;
	int64_t end;

	memset(j, 0, sizeof(*j));
	buf_init(&j->pending, PENDING_MAX);
	j->fd = openat(dirfd, "events", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j->fd < 0)
		return err_set(e, ERR_SYS, errno, "journal");
	size = lseek(j->fd, 0, SEEK_END);
	if (size <= 0)
		return size < 0 ? err_set(e, ERR_SYS, errno, "journal") : 0;
	end = each_line(j->fd, 0, (uint64_t)size, INT32_MAX, take_line, &o, e);
	if (end < 0)
		return -1;
	if (ftruncate(j->fd, end) < 0)
		return err_set(e, ERR_SYS, errno, "journal");
	j->size = (uint64_t)end;
	return 0;
}

void journal_close(struct journal *j)
{
	close_fd(&j->fd);
	buf_release(&j->pending);
}

int journal_put(struct journal *j, const char *event, const char *step, int attempt, uint64_t src,
                const char *data, size_t n, struct err *e)
{
	char ts[28];
	struct jw w;
	size_t before;

	/* Twice: a line that is too long is seen when it has been written. */
	if (buf_room(&j->pending) < 2 * JOURNAL_LINE_MAX && journal_flush(j, e) < 0)
		return -1;
	before = buf_len(&j->pending);
	jw_init(&w, &j->pending);
	jw_obj(&w);
	jw_kint(&w, "wseq", (int64_t)(j->last + 1));
	jw_kstr(&w, "ts", time_rfc3339(now_real_us(), ts));
	jw_kstr(&w, "event", event);
	if (step) {
		jw_kstr(&w, "step_id", step);
		jw_kint(&w, "attempt", attempt);
	}
	if (src)
		jw_ku64s(&w, "src", src);
	if (data) {
		jw_key(&w, "data");
		jw_raw(&w, data, n);
	}
	jw_end(&w);
	if (jw_done(&w, e) < 0 || buf_putc(&j->pending, '\n', e) < 0) {
		j->pending.len = before;
		return -1;
	}
	if (buf_len(&j->pending) - before > JOURNAL_LINE_MAX) {
		j->pending.len = before;
		return err_set(e, ERR_LIMIT, 0, "event '%.64s': over %d bytes", event,
		               JOURNAL_LINE_MAX);
	}
	j->last++;
	return 0;
}

int journal_flush(struct journal *j, struct err *e)
{
	if (!buf_len(&j->pending))
		return 0;
	/* One write for a batch: a crash leaves all of it, or a torn tail that is cut off. */
	if (lseek(j->fd, (off_t)j->size, SEEK_SET) < 0 ||
	    fs_write_all(j->fd, buf_data(&j->pending), buf_len(&j->pending), e) < 0)
		return err_wrap(e, "journal");
	j->size += buf_len(&j->pending);
	buf_reset(&j->pending);
	return 0;
}

static int skip_line(void *arg, const char *line, size_t n, struct err *e)
{
	(void)line, (void)e;
	*(uint64_t *)arg += n + 1;
	return 0;
}

int journal_seek(const struct journal *j, uint64_t have, struct journal_cursor *ret, struct err *e)
{
	struct journal_cursor c = { 0, 0 };
	uint64_t bytes = 0;

	if (have > j->last)
		return err_set(e, ERR_NOT_FOUND, 0, "event %llu has not happened: the last is %llu",
		               (unsigned long long)have, (unsigned long long)j->last);
	if (have >= j->acked)
		c = (struct journal_cursor){ j->acked, j->acked_at };
	if (have > c.sent &&
	    each_line(j->fd, c.at, j->size, (int)(have - c.sent), skip_line, &bytes, e) < 0)
		return -1;
	*ret = (struct journal_cursor){ have, c.at + bytes };
	return 0;
}

struct reading {
	struct journal_cursor *c;
	int (*on_line)(void *arg, const char *line, size_t n, struct err *e);
	void *arg;
	int count;
};

static int hand_out(void *arg, const char *line, size_t n, struct err *e)
{
	struct reading *r = arg;

	if (r->on_line(r->arg, line, n, e) < 0)
		return -1;
	r->c->sent++;
	r->c->at += n + 1;
	r->count++;
	return 0;
}

int journal_read(const struct journal *j, struct journal_cursor *c, int max,
                 int (*on_line)(void *arg, const char *line, size_t n, struct err *e), void *arg,
                 struct err *e)
{
	struct reading r = { c, on_line, arg, 0 };

	if (c->at < j->size && each_line(j->fd, c->at, j->size, max, hand_out, &r, e) < 0)
		return -1;
	return r.count;
}

void journal_ack(struct journal *j, uint64_t wseq, const struct journal_cursor *reader)
{
	uint64_t at = 0;
	struct journal_cursor c = *reader;

	if (wseq <= j->acked || wseq > reader->sent)
		return;
	if (wseq == reader->sent)
		at = reader->at;
	else if (journal_seek(j, wseq, &c, NULL) == 0)
		at = c.at;
	else
		return;
	j->acked = wseq;
	j->acked_at = at;
}
