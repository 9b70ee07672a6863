/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/answer.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

size_t answer_head_len(const char *text, size_t n)
{
	const char *p = text, *end = text + n;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
		p++;
		if (p < end && *p == '\n')
			return (size_t)(p + 1 - text);
		if (p + 1 < end && p[0] == '\r' && p[1] == '\n')
			return (size_t)(p + 2 - text);
	}
	return 0;
}

/* Ends the line at p and returns the next one. */
static char *cut_line(char *p)
{
	char *end = strchr(p, '\n');
	char *next;

	if (!end)
		return p + strlen(p);
	next = end + 1;
	if (end > p && end[-1] == '\r')
		end--;
	*end = 0;
	return next;
}

static int parse_status(const char *line, int *ret, struct err *e)
{
	bool ok = strncmp(line, "HTTP/1.", 7) == 0 && isdigit((unsigned char)line[7]) &&
		  line[8] == ' ';
	int status = 0;

	for (int i = 9; ok && i < 12; i++) {
		ok = isdigit((unsigned char)line[i]);
		status = status * 10 + line[i] - '0';
	}
	if (!ok || (line[12] && line[12] != ' ') || status < 100)
		return err_set(e, ERR_PROTO, 0, "not an HTTP/1 answer: '%.60s'", line);
	*ret = status;
	return 0;
}

int answer_parse(char *text, size_t n, struct answer_head *ret, struct err *e)
{
	char *line = text, *next;

	ret->n = 0;
	if (memchr(text, 0, n))
		return err_set(e, ERR_PROTO, 0, "a NUL in an answer's head");
	text[n] = 0;
	next = cut_line(line);
	if (parse_status(line, &ret->status, e) < 0)
		return -1;
	for (line = next; *line; line = next) {
		char *colon, *value;

		next = cut_line(line);
		if (!*line)
			break;
		colon = strchr(line, ':');
		if (!colon || colon == line || strpbrk(line, " \t") == line)
			return err_set(e, ERR_PROTO, 0, "not a header: '%.60s'", line);
		if (ret->n == ANSWER_HEADERS)
			return err_set(e, ERR_PROTO, 0, "more than %d headers", ANSWER_HEADERS);
		*colon = 0;
		value = colon + 1 + strspn(colon + 1, " \t");
		for (char *end = value + strlen(value); end > value && strchr(" \t", end[-1]);)
			*--end = 0;
		ret->header[ret->n].name = line;
		ret->header[ret->n++].value = value;
	}
	return 0;
}

const char *answer_header(const struct answer_head *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcasecmp(h->header[i].name, name) == 0)
			return h->header[i].value;
	return NULL;
}

static bool has_no_body(int status, const char *method)
{
	return strcmp(method, "HEAD") == 0 || status < 200 || status == 204 || status == 304;
}

int body_init(struct body *b, const struct answer_head *h, const char *method, struct err *e)
{
	const char *coding = answer_header(h, "Transfer-Encoding");
	const char *length = answer_header(h, "Content-Length");

	*b = (struct body){ .kind = BODY_TO_END };
	if (has_no_body(h->status, method)) {
		b->kind = BODY_NONE;
		b->done = true;
	} else if (coding) {
		if (strcasecmp(coding, "chunked") != 0)
			return err_set(e, ERR_PROTO, 0, "transfer encoding '%.40s'", coding);
		b->kind = BODY_CHUNKED;
	} else if (length) {
		size_t n = strspn(length, "0123456789");

		if (n == 0 || n > 18 || length[n])
			return err_set(e, ERR_PROTO, 0, "content length '%.40s'", length);
		b->kind = BODY_LENGTH;
		for (const char *p = length; *p; p++)
			b->left = b->left * 10 + (uint64_t)(*p - '0');
		b->done = b->left == 0;
	}
	return 0;
}

static size_t take_data(struct body *b, const uint8_t *p, size_t n, const uint8_t **ret,
			size_t *ret_n)
{
	if (b->kind != BODY_TO_END) {
		n = n < b->left ? n : (size_t)b->left;
		b->left -= n;
	}
	*ret = p;
	*ret_n = n;
	return n;
}

/* A byte of a line; true when the line is complete, without its end. */
static int take_char(struct body *b, uint8_t c, struct err *e)
{
	if (c == '\n') {
		if (b->line_len && b->line[b->line_len - 1] == '\r')
			b->line_len--;
		b->line[b->line_len] = 0;
		b->line_len = 0;
		return 1;
	}
	if (b->line_len == sizeof(b->line) - 1)
		return err_set(e, ERR_PROTO, 0, "a line of a chunked body is too long");
	b->line[b->line_len++] = (char)c;
	return 0;
}

static int parse_chunk_size(struct body *b, struct err *e)
{
	size_t n = strspn(b->line, "0123456789abcdefABCDEF");

	if (n == 0 || n > 15 || (b->line[n] && !strchr("; \t", b->line[n])))
		return err_set(e, ERR_PROTO, 0, "chunk size '%.40s'", b->line);
	b->left = 0;
	for (size_t i = 0; i < n; i++) {
		char c = b->line[i];

		b->left = b->left * 16 + (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
	}
	b->at = b->left ? CHUNK_DATA : CHUNK_TRAILER;
	return 0;
}

static int end_line(struct body *b, struct err *e)
{
	switch (b->at) {
	case CHUNK_SIZE:
		return parse_chunk_size(b, e);
	case CHUNK_CRLF:
		if (b->line[0])
			return err_set(e, ERR_PROTO, 0, "a chunk is longer than it says");
		b->at = CHUNK_SIZE;
		return 0;
	default:
		b->done = !b->line[0];
		return 0;
	}
}

ssize_t body_next(struct body *b, const uint8_t *p, size_t n, const uint8_t **ret, size_t *ret_n,
		  struct err *e)
{
	size_t i = 0;
	int r;

	*ret = p;
	*ret_n = 0;
	if (b->done)
		return 0;
	if (b->kind != BODY_CHUNKED || b->at == CHUNK_DATA) {
		i = take_data(b, p, n, ret, ret_n);
		if (b->kind == BODY_LENGTH)
			b->done = b->left == 0;
		else if (b->kind == BODY_CHUNKED && b->left == 0)
			b->at = CHUNK_CRLF;
		return (ssize_t)i;
	}
	while (i < n) {
		r = take_char(b, p[i++], e);
		if (r < 0 || (r > 0 && end_line(b, e) < 0))
			return -1;
		if (r > 0)
			break;
	}
	return (ssize_t)i;
}
