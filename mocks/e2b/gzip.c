/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/gzip.h"

#include <stdlib.h>
#include <zlib.h>

#include "protocol/base/cleanup.h"

enum { GZIP_WINDOW = 15 + 16, PIECE = 64 * 1024 };

struct gzip {
	z_stream z;
	bool reads;
	bool at_end;
};

static struct gzip *make(bool reads, struct err *e)
{
	struct gzip *z = calloc(1, sizeof(*z));
	int r = Z_MEM_ERROR;

	if (z) {
		z->reads = reads;
		r = reads ? inflateInit2(&z->z, GZIP_WINDOW)
			  : deflateInit2(&z->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 8,
					 Z_DEFAULT_STRATEGY);
	}
	if (r == Z_OK)
		return z;
	free(z);
	err_set(e, ERR_NO_MEMORY, 0, "gzip");
	return NULL;
}

struct gzip *gzip_writer(struct err *e)
{
	return make(false, e);
}

struct gzip *gzip_reader(struct err *e)
{
	return make(true, e);
}

void gzip_free(struct gzip *z)
{
	if (!z)
		return;
	if (z->reads)
		inflateEnd(&z->z);
	else
		deflateEnd(&z->z);
	free(z);
}

int gzip_write(struct gzip *z, const void *p, size_t n, bool last, struct buf *out,
	       struct err *e)
{
	z->z.next_in = (unsigned char *)p;
	z->z.avail_in = (unsigned)n;
	do {
		size_t piece = buf_room(out) < PIECE ? buf_room(out) : PIECE;
		uint8_t *to = buf_reserve(out, piece ? piece : 1, e);

		if (!to)
			return -1;
		z->z.next_out = to;
		z->z.avail_out = (unsigned)piece;
		deflate(&z->z, last ? Z_FINISH : Z_NO_FLUSH);
		buf_commit(out, piece - z->z.avail_out);
	} while (z->z.avail_out == 0);
	return 0;
}

int gzip_read(struct gzip *z, const void *p, size_t n, size_t *used, struct buf *out,
	      struct err *e)
{
	z->z.next_in = (unsigned char *)p;
	z->z.avail_in = (unsigned)n;
	while (!z->at_end && buf_room(out) > 0) {
		size_t piece = buf_room(out) < PIECE ? buf_room(out) : PIECE;
		uint8_t *to = buf_reserve(out, piece, e);
		int r;

		if (!to)
			return -1;
		z->z.next_out = to;
		z->z.avail_out = (unsigned)piece;
		r = inflate(&z->z, Z_NO_FLUSH);
		buf_commit(out, piece - z->z.avail_out);
		z->at_end = r == Z_STREAM_END;
		if (r == Z_BUF_ERROR || (r == Z_OK && z->z.avail_out > 0))
			break;
		if (r != Z_OK && r != Z_STREAM_END)
			return err_set(e, ERR_PARSE, 0, "gzip: invalid %s",
				       z->z.total_out ? "data" : "header");
	}
	*used = n - z->z.avail_in;
	return 0;
}

bool gzip_at_end(const struct gzip *z)
{
	return z->at_end;
}

int gzip_all(const void *p, size_t n, struct buf *out, struct err *e)
{
	struct gzip *z = gzip_writer(e);
	int r = z ? gzip_write(z, p, n, true, out, e) : -1;

	gzip_free(z);
	return r;
}

int gunzip_all(const void *p, size_t n, struct buf *out, struct err *e)
{
	struct gzip *z = gzip_reader(e);
	size_t used = 0;
	int r = z ? gzip_read(z, p, n, &used, out, e) : -1;

	if (r == 0 && !z->at_end)
		r = err_set(e, buf_room(out) ? ERR_PARSE : ERR_LIMIT, 0, "gzip: %s",
			    buf_room(out) ? "unexpected end" : "more than the maximum");
	gzip_free(z);
	return r;
}
