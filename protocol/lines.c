/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/lines.h"

#include <string.h>

typedef int (*line_fn)(void *arg, const char *line, size_t len, struct err *e);

void lines_init(struct lines *l, size_t max_line)
{
	*l = (struct lines){ .max = max_line };
	buf_init(&l->part, max_line);
}

void lines_release(struct lines *l)
{
	buf_release(&l->part);
}

/* p[0..n) has no newline and belongs to the line that is open. */
static int keep(struct lines *l, const char *p, size_t n, struct err *e)
{
	if (l->skipping)
		return 0;
	if (n > buf_room(&l->part)) {
		l->skipping = true;
		l->too_long++;
		buf_reset(&l->part);
		return 0;
	}
	return buf_put(&l->part, p, n, e);
}

/* The open line ends after p[0..n): most lines lie whole in one piece and are
 * handed out where they are. */
static int end_line(struct lines *l, const char *p, size_t n, line_fn on_line, void *arg,
		    struct err *e)
{
	int ret = 0;

	if (!l->skipping && buf_len(&l->part) == 0 && n <= l->max) {
		l->taken = l->seen;
		return on_line(arg, p, n, e);
	}
	if (keep(l, p, n, e) < 0)
		return -1;
	/* A dropped line counts as taken too: nobody will ever ask for it again. */
	l->taken = l->seen;
	if (!l->skipping)
		ret = on_line(arg, (const char *)buf_data(&l->part), buf_len(&l->part), e);
	l->skipping = false;
	buf_reset(&l->part);
	return ret;
}

int lines_feed(struct lines *l, const void *p, size_t n, line_fn on_line, void *arg, struct err *e)
{
	const char *at = p, *end = at + n;

	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((nl ? nl : end) - at);

		l->seen += len + (nl ? 1 : 0);
		if (!nl)
			return keep(l, at, len, e);
		if (end_line(l, at, len, on_line, arg, e) < 0)
			return -1;
		at = nl + 1;
	}
	return 0;
}

int lines_finish(struct lines *l, line_fn on_line, void *arg, struct err *e)
{
	if (!l->skipping && buf_len(&l->part) == 0)
		return 0;
	return end_line(l, "", 0, on_line, arg, e);
}
