/* SPDX-License-Identifier: Apache-2.0
 *
 * What may still become a boundary is held back; everything before it is data.  At most a mark,
 * or a part's head, is held. */
#include "mocks/e2b/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/cleanup.h"

enum state {
	PREAMBLE,	/* up to the first boundary, which needs no line end in front */
	AFTER_MARK,	/* two bytes tell: line end, or "--" for the end */
	PART_HEAD,
	PART_DATA,
	EPILOGUE,
};

enum { FEED_PIECE = 64 * 1024 };

/* --- header values --- */

/* A quoted string or a token at p; returns the place behind it. */
static const char *take_value(const char *p, struct buf *out, struct err *e)
{
	if (*p != '"') {
		size_t n = strcspn(p, "; \t");

		return buf_put(out, p, n, e) < 0 ? NULL : p + n;
	}
	for (p++; *p && *p != '"'; p++) {
		/* Browsers send C:\dir\file unescaped; only quote and backslash are escaped. */
		if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
			p++;
		if (buf_putc(out, (uint8_t)*p, e) < 0)
			return NULL;
	}
	return *p ? p + 1 : p;
}

int header_param(const char *value, const char *name, struct buf *out, struct err *e)
{
	size_t name_len = strlen(name);
	const char *p = value + strcspn(value, ";");

	while (*p == ';') {
		bool is_it;
		struct buf other CLEANUP(buf_release);

		buf_init(&other, MULTIPART_HEAD_MAX);
		p += 1 + strspn(p + 1, " \t");
		is_it = strncasecmp(p, name, name_len) == 0 && p[name_len] == '=';
		p += strcspn(p, "=;");
		if (*p == '=')
			p = take_value(p + 1, is_it ? out : &other, e);
		if (!p)
			return -1;
		if (is_it)
			return 1;
		p += strcspn(p, ";");
	}
	return 0;
}

/* --- the parser --- */

int multipart_init(struct multipart *m, const char *content_type,
		   const struct multipart_calls *calls, void *arg, struct err *e)
{
	struct buf boundary CLEANUP(buf_release);
	int r;

	*m = (struct multipart){ .calls = calls, .arg = arg, .state = PREAMBLE };
	buf_init(&m->held, MULTIPART_HEAD_MAX + FEED_PIECE);
	buf_init(&boundary, MULTIPART_BOUNDARY_MAX);
	r = header_param(content_type, "boundary", &boundary, NULL);
	if (r <= 0 || buf_len(&boundary) == 0)
		return err_set(e, ERR_PARSE, 0, "no multipart boundary param in Content-Type");
	m->mark_len = (size_t)snprintf(m->mark, sizeof(m->mark), "\r\n--%s",
				       buf_cstr(&boundary, e));
	/* The first boundary may stand at the very start: pretend a line ended before it. */
	return buf_put(&m->held, "\r\n", 2, e);
}

void multipart_release(struct multipart *m)
{
	buf_release(&m->held);
}

/* The field names and values of a part's head, of which one matters. */
static int on_head(struct multipart *m, char *head, struct err *e)
{
	struct buf name CLEANUP(buf_release), filename CLEANUP(buf_release);
	struct multipart_part part = { 0 };
	char *save = NULL;
	int has_name = 0, has_filename = 0;

	buf_init(&name, MULTIPART_HEAD_MAX);
	buf_init(&filename, MULTIPART_HEAD_MAX);
	for (char *line = strtok_r(head, "\r\n", &save); line;
	     line = strtok_r(NULL, "\r\n", &save)) {
		if (strncasecmp(line, "Content-Disposition:", 20) != 0)
			continue;
		has_name = header_param(line + 20, "name", &name, e);
		has_filename = header_param(line + 20, "filename", &filename, e);
	}
	if (has_name < 0 || has_filename < 0)
		return -1;
	if (has_name)
		part.name = buf_cstr(&name, e);
	if (has_filename)
		part.filename = buf_cstr(&filename, e);
	return m->calls->on_part(m->arg, &part, e);
}

/* Each step takes something from what is held and goes on, 1; or wants more, 0; or fails. */
static int step_mark(struct multipart *m, bool is_data, struct err *e)
{
	const uint8_t *p = buf_data(&m->held), *at;
	size_t n = buf_len(&m->held), keep;

	at = memmem(p, n, m->mark, m->mark_len);
	keep = n < m->mark_len - 1 ? n : m->mark_len - 1;
	n = at ? (size_t)(at - p) : n - keep;
	if (is_data && n > 0 && m->calls->on_data(m->arg, p, n, e) < 0)
		return -1;
	buf_consume(&m->held, n);
	if (!at)
		return 0;
	buf_consume(&m->held, m->mark_len);
	m->state = AFTER_MARK;
	return is_data && m->calls->on_part_end(m->arg, e) < 0 ? -1 : 1;
}

static int step_after_mark(struct multipart *m, struct err *e)
{
	const uint8_t *p = buf_data(&m->held);
	size_t blanks = 0;

	while (blanks < buf_len(&m->held) && (p[blanks] == ' ' || p[blanks] == '\t'))
		blanks++;
	if (buf_len(&m->held) < blanks + 2)
		return 0;
	if (memcmp(p + blanks, "--", 2) == 0) {
		m->state = EPILOGUE;
		return 1;
	}
	if (memcmp(p + blanks, "\r\n", 2) != 0)
		return err_set(e, ERR_PARSE, 0, "multipart: expecting a new Part");
	m->state = PART_HEAD;
	/* The line end stays: a head without fields is then just an empty line. */
	buf_consume(&m->held, blanks);
	return 1;
}

static int step_head(struct multipart *m, struct err *e)
{
	const uint8_t *p = buf_data(&m->held), *at;
	char head[MULTIPART_HEAD_MAX + 1];
	size_t n;

	at = memmem(p, buf_len(&m->held), "\r\n\r\n", 4);
	n = at ? (size_t)(at - p) : buf_len(&m->held);
	if (n > MULTIPART_HEAD_MAX)
		return err_set(e, ERR_PARSE, 0, "multipart: the head of a part is too long");
	if (!at)
		return 0;
	memcpy(head, p, n);
	head[n] = 0;
	buf_consume(&m->held, n + 4);
	m->state = PART_DATA;
	return on_head(m, head, e) < 0 ? -1 : 1;
}

static int step(struct multipart *m, struct err *e)
{
	switch ((enum state)m->state) {
	case PREAMBLE:
		return step_mark(m, false, e);
	case AFTER_MARK:
		return step_after_mark(m, e);
	case PART_HEAD:
		return step_head(m, e);
	case PART_DATA:
		return step_mark(m, true, e);
	case EPILOGUE:
		break;
	}
	buf_reset(&m->held);
	return 0;
}

int multipart_feed(struct multipart *m, const uint8_t *p, size_t n, struct err *e)
{
	while (n > 0) {
		size_t piece = n < FEED_PIECE ? n : FEED_PIECE;
		int r;

		if (piece > buf_room(&m->held))
			piece = buf_room(&m->held);
		if (buf_put(&m->held, p, piece, e) < 0)
			return -1;
		p += piece;
		n -= piece;
		do
			r = step(m, e);
		while (r > 0);
		if (r < 0)
			return -1;
	}
	return 0;
}

int multipart_end(const struct multipart *m, struct err *e)
{
	if (m->state == EPILOGUE)
		return 0;
	return err_set(e, ERR_PARSE, 0, "multipart: NextPart: EOF");
}
