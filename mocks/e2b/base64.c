/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/base64.h"

#include <nettle/base64.h>
#include <string.h>

int base64_put(const void *p, size_t n, struct buf *out, struct err *e)
{
	size_t len = BASE64_ENCODE_RAW_LENGTH(n);
	uint8_t *to = len ? buf_reserve(out, len, e) : NULL;

	if (len == 0)
		return 0;
	if (!to)
		return -1;
	base64_encode_raw((char *)to, n, p);
	buf_commit(out, len);
	return 0;
}

int base64_take(const char *text, struct buf *out, struct err *e)
{
	static const char padding[] = "==";
	struct base64_decode_ctx ctx;
	size_t len = strlen(text), got = 0, more = 0;
	uint8_t *to = buf_reserve(out, BASE64_DECODE_LENGTH(len) + 3, e);
	int ok;

	if (!to)
		return -1;
	if (strpbrk(text, "-_"))
		base64url_decode_init(&ctx);
	else
		base64_decode_init(&ctx);
	ok = base64_decode_update(&ctx, &got, to, len, text);
	if (ok && len % 4)
		ok = base64_decode_update(&ctx, &more, to + got, 4 - len % 4 > 2 ? 0 : 4 - len % 4,
					  padding);
	if (!ok || !base64_decode_final(&ctx))
		return err_set(e, ERR_PARSE, 0, "invalid base64 of %zu characters", len);
	buf_commit(out, got + more);
	return 0;
}
