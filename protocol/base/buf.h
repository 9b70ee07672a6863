/* SPDX-License-Identifier: Apache-2.0
 *
 * buf - a growable byte buffer with a hard maximum.
 *
 * Bytes are appended at the end and consumed at the front.  The maximum is
 * named when the buffer is made: no buffer in farstep grows without a bound
 * (the memory behind it stays below one and a half times the maximum).
 * After a failed append the buffer is unchanged.  Memory: owned by the buffer;
 * pointers from buf_data() are borrowed until the next mutating call. */
#ifndef FARSTEP_BASE_BUF_H
#define FARSTEP_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"

struct buf {
	uint8_t *mem;
	size_t off;	/* first unread byte */
	size_t len;	/* unread bytes */
	size_t cap;	/* bytes allocated */
	size_t max;	/* bound on len */
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);		/* frees; b may be used again after buf_init */
void buf_reset(struct buf *b);			/* forgets the bytes, keeps the memory */

/* Never NULL, so that it may be handed to memcpy with a length of 0. */
static inline const uint8_t *buf_data(const struct buf *b)
{
	return b->mem ? b->mem + b->off : (const uint8_t *)"";
}
static inline size_t buf_len(const struct buf *b) { return b->len; }
static inline size_t buf_room(const struct buf *b) { return b->max - b->len; }

/* ERR_LIMIT over the maximum, ERR_NO_MEMORY when malloc fails. */
int buf_put(struct buf *b, const void *p, size_t n, struct err *e);
int buf_puts(struct buf *b, const char *s, struct err *e);
int buf_putc(struct buf *b, uint8_t c, struct err *e);
int buf_put_u32(struct buf *b, uint32_t v, struct err *e);	/* big endian */
int buf_printf(struct buf *b, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Room for n bytes at the end; buf_commit(b, written) afterwards. */
uint8_t *buf_reserve(struct buf *b, size_t n, struct err *e);
void buf_commit(struct buf *b, size_t n);
void buf_consume(struct buf *b, size_t n);
/* NUL-terminated view of the bytes (the NUL is not counted); NULL on failure. */
const char *buf_cstr(struct buf *b, struct err *e);
/* The bytes as a malloc'ed NUL-terminated string, moved out; the caller frees. */
char *buf_take_str(struct buf *b, struct err *e);

static inline uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t get_u64(const uint8_t *p)
{
	return (uint64_t)get_u32(p) << 32 | get_u32(p + 4);
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}
static inline void put_u64(uint8_t *p, uint64_t v)
{
	put_u32(p, (uint32_t)(v >> 32));
	put_u32(p + 4, (uint32_t)v);
}

#endif
