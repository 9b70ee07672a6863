/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 64 };

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_release(struct buf *b)
{
	free(b->mem);
	*b = (struct buf){ .max = b->max };
}

void buf_reset(struct buf *b)
{
	b->off = b->len = 0;
}

/* The most memory the buffer may hold: half as much again as the maximum, so
 * that a full queue is not moved on every append, and the NUL of buf_cstr. */
static size_t most(const struct buf *b)
{
	return b->max > SIZE_MAX / 4 ? SIZE_MAX / 2 : b->max + b->max / 2 + 1;
}

static void slide(struct buf *b)
{
	memmove(b->mem, b->mem + b->off, b->len);
	b->off = 0;
}

static int grow(struct buf *b, size_t need, struct err *e)
{
	size_t cap = b->cap > SIZE_MAX / 4 ? SIZE_MAX / 2 : 2 * b->cap;
	uint8_t *mem;

	if (cap < SMALLEST)
		cap = SMALLEST;
	if (cap > most(b))
		cap = most(b);
	if (cap < need)
		cap = need;
	mem = malloc(cap);
	if (!mem)
		return err_set(e, ERR_NO_MEMORY, 0, "buffer of %zu bytes", cap);
	if (b->len)
		memcpy(mem, b->mem + b->off, b->len);
	free(b->mem);
	b->mem = mem;
	b->off = 0;
	b->cap = cap;
	return 0;
}

/* Memory for n more bytes behind the last; the maximum was checked before.
 * Moving the unread bytes to the front is paid for by the bytes consumed. */
static int make_room(struct buf *b, size_t n, struct err *e)
{
	size_t need = b->len + n;

	if (b->mem && n <= b->cap - b->off - b->len)
		return 0;
	if (need <= b->cap && (b->off >= b->len / 2 || b->cap >= most(b))) {
		slide(b);
		return 0;
	}
	return grow(b, need, e);
}

uint8_t *buf_reserve(struct buf *b, size_t n, struct err *e)
{
	if (n > buf_room(b)) {
		err_set(e, ERR_LIMIT, 0, "buffer: %zu bytes and %zu more pass the maximum of %zu",
			b->len, n, b->max);
		return NULL;
	}
	if (make_room(b, n, e) < 0)
		return NULL;
	return b->mem + b->off + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
	assert(n <= buf_room(b) && n <= b->cap - b->off - b->len);
	b->len += n;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= n;
	b->off = b->len ? b->off + n : 0;
}

int buf_put(struct buf *b, const void *p, size_t n, struct err *e)
{
	uint8_t *to;

	if (n == 0)
		return 0;
	to = buf_reserve(b, n, e);
	if (!to)
		return -1;
	memcpy(to, p, n);
	b->len += n;
	return 0;
}

int buf_puts(struct buf *b, const char *s, struct err *e)
{
	return buf_put(b, s, strlen(s), e);
}

int buf_putc(struct buf *b, uint8_t c, struct err *e)
{
	return buf_put(b, &c, 1, e);
}

int buf_put_u32(struct buf *b, uint32_t v, struct err *e)
{
	uint8_t raw[4];

	put_u32(raw, v);
	return buf_put(b, raw, sizeof(raw), e);
}

__attribute__((format(printf, 3, 0)))
static int put_formatted(struct buf *b, size_t n, const char *fmt, va_list ap, struct err *e)
{
	if (n > buf_room(b)) {
		buf_reserve(b, n, e);	/* says which bound */
		return -1;
	}
	if (make_room(b, n + 1, e) < 0)	/* vsnprintf writes a NUL */
		return -1;
	vsnprintf((char *)b->mem + b->off + b->len, n + 1, fmt, ap);
	b->len += n;
	return 0;
}

int buf_printf(struct buf *b, struct err *e, const char *fmt, ...)
{
	va_list ap, again;
	int n, ret;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n < 0)
		ret = err_set(e, ERR_INTERNAL, 0, "buffer: cannot format");
	else
		ret = put_formatted(b, (size_t)n, fmt, again, e);
	va_end(again);
	va_end(ap);
	return ret;
}

const char *buf_cstr(struct buf *b, struct err *e)
{
	if (make_room(b, 1, e) < 0)
		return NULL;
	b->mem[b->off + b->len] = 0;
	return (const char *)b->mem + b->off;
}

char *buf_take_str(struct buf *b, struct err *e)
{
	char *str;

	if (!buf_cstr(b, e))
		return NULL;
	if (b->off)
		memmove(b->mem, b->mem + b->off, b->len + 1);
	str = (char *)b->mem;
	*b = (struct buf){ .max = b->max };
	return str;
}
