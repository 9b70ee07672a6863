/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/hash.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <string.h>
#include <sys/random.h>

#include "protocol/base/buf.h"

_Static_assert(SHA256_LEN == SHA256_DIGEST_SIZE, "nettle's digest has our length");

void hash_init(struct hash *h)
{
	sha256_init(&h->ctx);
}

void hash_update(struct hash *h, const void *p, size_t n)
{
	if (n)
		sha256_update(&h->ctx, n, p);
}

void hash_digest(const struct hash *h, uint8_t out[SHA256_LEN])
{
	struct hash last = *h;	/* nettle's digest pads and starts over */

	sha256_digest(&last.ctx, SHA256_LEN, out);
}

void hash_hex(const struct hash *h, char out[SHA256_HEX])
{
	uint8_t digest[SHA256_LEN];

	hash_digest(h, digest);
	hex_encode(digest, sizeof(digest), out);
}

size_t hash_rewind(struct hash *h)
{
	size_t n = h->ctx.index;

	h->ctx.index = 0;
	memset(h->ctx.block, 0, sizeof(h->ctx.block));
	return n;
}

void sha256(const void *p, size_t n, uint8_t out[SHA256_LEN])
{
	struct hash h;

	hash_init(&h);
	hash_update(&h, p, n);
	hash_digest(&h, out);
}

void hmac_sha256(const void *key, size_t key_len, const void *p, size_t n, uint8_t out[SHA256_LEN])
{
	struct hmac_sha256_ctx ctx;

	hmac_sha256_set_key(&ctx, key_len, key_len ? key : (const void *)"");
	if (n)
		hmac_sha256_update(&ctx, n, p);
	hmac_sha256_digest(&ctx, SHA256_LEN, out);
	wipe(&ctx, sizeof(ctx));
}

void hex_encode(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
	*out = 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *hex, size_t hex_len, uint8_t *out, size_t out_len, struct err *e)
{
	if (hex_len / 2 != out_len || hex_len % 2)
		return err_set(e, ERR_INVALID_PARAMS, 0, "want %zu hex digits, got %zu",
			       2 * out_len, hex_len);
	for (size_t i = 0; i < hex_len; i++)
		if (digit(hex[i]) < 0)
			return err_set(e, ERR_INVALID_PARAMS, 0,
				       "want hex digits only, not so at %zu", i);
	for (size_t i = 0; i < out_len; i++)
		out[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	return 0;
}

int base64_decode(const char *text, size_t len, struct buf *out, struct err *e)
{
	struct base64_decode_ctx ctx;
	size_t n = BASE64_DECODE_LENGTH(len);
	uint8_t *to;

	if (len == 0)
		return 0;
	to = buf_reserve(out, n, e); /* one letter is room for one byte */
	if (!to)
		return -1;
	base64_decode_init(&ctx);
	if (!base64_decode_update(&ctx, &n, to, len, text) || !base64_decode_final(&ctx))
		return err_set(e, ERR_PARSE, 0, "no base64");
	buf_commit(out, n);
	return 0;
}

int base64_encode(const void *p, size_t n, struct buf *out, struct err *e)
{
	size_t len = BASE64_ENCODE_RAW_LENGTH(n);
	uint8_t *to;

	if (n == 0)
		return 0;
	to = buf_reserve(out, len, e);
	if (!to)
		return -1;
	base64_encode_raw((char *)to, n, p);
	buf_commit(out, len);
	return 0;
}

bool equal_ct(const void *a, const void *b, size_t n)
{
	return memeql_sec(a, b, n) != 0;
}

int random_bytes(void *p, size_t n, struct err *e)
{
	uint8_t *to = p;

	while (n) {
		ssize_t got = getrandom(to, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_set(e, ERR_SYS, got < 0 ? errno : EIO, "getrandom");
		to += got;
		n -= (size_t)got;
	}
	return 0;
}

void wipe(void *p, size_t n)
{
	if (n)
		explicit_bzero(p, n);
}
