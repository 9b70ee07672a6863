/* SPDX-License-Identifier: Apache-2.0
 *
 * However a stream is split, the same messages come out of it, and the same end or error. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/hash.h"
#include "sdk-wrapper/connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct hash hash;
	unsigned n;
};

static int note(void *user, const char *text, size_t len, struct err *e)
{
	struct seen *s = user;
	uint64_t n = len;

	(void)e;
	hash_update(&s->hash, &n, sizeof(n));
	hash_update(&s->hash, text, len);
	s->n++;
	return 0;
}

/* In pieces of `step` bytes; the digest of all that came out. */
static void read_all(const uint8_t *data, size_t size, size_t step, char out[SHA256_HEX])
{
	struct connect_reader r;
	struct seen s = { .n = 0 };
	struct err e = ERR_INIT;
	int failed = 0;

	connect_init(&r);
	hash_init(&s.hash);
	for (size_t at = 0; at < size && !failed; at += step)
		failed = connect_feed(&r, data + at, size - at < step ? size - at : step, note, &s,
				      &e) < 0;
	hash_update(&s.hash, &failed, sizeof(failed));
	hash_update(&s.hash, &r.ended, sizeof(r.ended));
	hash_update(&s.hash, r.code, strlen(r.code));
	hash_update(&s.hash, r.message, strlen(r.message));
	if (failed && e.code == ERR_NONE)
		abort();
	hash_hex(&s.hash, out);
	connect_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char whole[SHA256_HEX], pieces[SHA256_HEX];
	size_t step = size > 1 ? 1 + data[0] % 7 : 1;

	read_all(data, size, size ? size : 1, whole);
	read_all(data, size, step, pieces);
	if (strcmp(whole, pieces) != 0)
		abort();
	return 0;
}
