/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tarball.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

enum {
	RECORD = 512,
	STORED_MAX = 65535,	/* bytes of a block that is not compressed */
	NAME_FIELD = 100,
	PREFIX_FIELD = 155,
	SIZE_MAX_OCTAL = 11,
};

struct out {
	int fd;
	struct hash hash;
	uint64_t len;		/* of what was written */
	uint32_t crc, raw_len;	/* of what is inside */
	uint32_t table[256];
	uint8_t block[STORED_MAX];
	size_t n;		/* in block */
};

/* --- gzip, RFC 1952, of stored blocks, RFC 1951 3.2.4 --- */

static void crc_table(uint32_t table[256])
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
		table[i] = c;
	}
}

static int put(struct out *o, const void *p, size_t n, struct err *e)
{
	hash_update(&o->hash, p, n);
	o->len += n;
	return fs_write_all(o->fd, p, n, e);
}

static void little(uint8_t *p, uint32_t v, int n)
{
	for (int i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static int flush(struct out *o, bool last, struct err *e)
{
	uint8_t head[5] = { last };

	little(head + 1, (uint32_t)o->n, 2);
	little(head + 3, ~(uint32_t)o->n, 2);
	if (put(o, head, sizeof(head), e) < 0 || put(o, o->block, o->n, e) < 0)
		return -1;
	o->n = 0;
	return 0;
}

static int put_raw(struct out *o, const void *data, size_t n, struct err *e)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++)
		o->crc = o->table[(o->crc ^ p[i]) & 0xff] ^ o->crc >> 8;
	o->raw_len += (uint32_t)n;
	while (n) {
		size_t k = sizeof(o->block) - o->n < n ? sizeof(o->block) - o->n : n;

		memcpy(o->block + o->n, p, k);
		o->n += k;
		p += k;
		n -= k;
		if (o->n == sizeof(o->block) && flush(o, false, e) < 0)
			return -1;
	}
	return 0;
}

static int put_begin(struct out *o, struct err *e)
{
	static const uint8_t head[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255 };

	crc_table(o->table);
	o->crc = ~0u;
	hash_init(&o->hash);
	return put(o, head, sizeof(head), e);
}

static int put_end(struct out *o, struct err *e)
{
	uint8_t tail[8];

	if (flush(o, true, e) < 0)
		return -1;
	little(tail, ~o->crc, 4);
	little(tail + 4, o->raw_len, 4);
	return put(o, tail, sizeof(tail), e);
}

/* --- tar, POSIX ustar --- */

static int put_name(char header[RECORD], const char *path, struct err *e)
{
	size_t len = strlen(path);
	const char *slash = path;

	if (len <= NAME_FIELD) {
		memcpy(header, path, len);
		return 0;
	}
	/* Split at a slash: one field has what is behind, the other what is before. */
	while ((slash = strchr(slash + 1, '/')))
		if (slash - path <= PREFIX_FIELD && strlen(slash + 1) <= NAME_FIELD && slash[1]) {
			memcpy(header + 345, path, (size_t)(slash - path));
			memcpy(header, slash + 1, strlen(slash + 1));
			return 0;
		}
	return err_set(e, ERR_LIMIT, 0, "'%.100s...': the path is too long", path);
}

static void octal(char *at, size_t digits, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*llo", (int)digits, (unsigned long long)v);
	memcpy(at, text, digits);
}

static int put_header(struct out *o, const struct package_file *f, struct err *e)
{
	char header[RECORD] = "";
	unsigned sum = 0;

	if (put_name(header, f->path, e) < 0)
		return -1;
	if (f->size >> 3 * SIZE_MAX_OCTAL)
		return err_set(e, ERR_LIMIT, 0, "'%.100s': larger than a tar holds", f->path);
	octal(header + 100, 7, f->dir ? 0755 : f->mode);
	octal(header + 108, 7, 0);
	octal(header + 116, 7, 0);
	octal(header + 124, SIZE_MAX_OCTAL, f->dir ? 0 : f->size);
	octal(header + 136, 11, 0);
	memset(header + 148, ' ', 8);
	header[156] = f->dir ? '5' : '0';
	memcpy(header + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(header); i++)
		sum += (unsigned char)header[i];
	octal(header + 148, 6, sum);
	header[154] = 0;
	return put_raw(o, header, sizeof(header), e);
}

static int put_file(struct out *o, const struct package_file *f, struct err *e)
{
	auto_close int fd = open(f->source, O_RDONLY | O_CLOEXEC);
	static const char zeros[RECORD];
	uint8_t chunk[16384];
	char hex[SHA256_HEX];
	uint64_t left = f->size;
	struct hash hash;

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "'%.200s'", f->source);
	hash_init(&hash);
	while (left) {
		ssize_t n = read(fd, chunk, left < sizeof(chunk) ? (size_t)left : sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		hash_update(&hash, chunk, (size_t)n);
		if (put_raw(o, chunk, (size_t)n, e) < 0)
			return -1;
		left -= (uint64_t)n;
	}
	hash_hex(&hash, hex);
	if (left || read(fd, chunk, 1) != 0 || strcmp(hex, f->sha256) != 0)
		return err_set(e, ERR_INTEGRITY, 0, "'%.200s' changed while it was packed",
			       f->source);
	return f->size % RECORD ? put_raw(o, zeros, RECORD - f->size % RECORD, e) : 0;
}

int tarball_write(const struct package *p, int fd, char sha256[SHA256_HEX], uint64_t *len,
		  struct err *e)
{
	static const char end[2 * RECORD];
	auto_free struct out *o = calloc(1, sizeof(*o));

	if (!o)
		return err_set(e, ERR_NO_MEMORY, 0, "tarball");
	o->fd = fd;
	if (put_begin(o, e) < 0)
		return -1;
	for (size_t i = 0; i < p->n; i++)
		if (put_header(o, &p->files[i], e) < 0 ||
		    (!p->files[i].dir && put_file(o, &p->files[i], e) < 0))
			return -1;
	if (put_raw(o, end, sizeof(end), e) < 0 || put_end(o, e) < 0)
		return -1;
	hash_hex(&o->hash, sha256);
	*len = o->len;
	return 0;
}
