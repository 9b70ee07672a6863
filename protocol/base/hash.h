/* SPDX-License-Identifier: Apache-2.0
 *
 * hash - SHA-256, HMAC, hex, base64, random bytes and a constant-time compare (nettle). */
#ifndef FARSTEP_BASE_HASH_H
#define FARSTEP_BASE_HASH_H

#include <nettle/sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/err.h"

#define SHA256_LEN 32
#define SHA256_HEX 65	/* 64 digits and NUL */

/* Running SHA-256; a plain value: copying it keeps the midstate. */
struct hash {
	struct sha256_ctx ctx;
};
void hash_init(struct hash *h);
void hash_update(struct hash *h, const void *p, size_t n);
void hash_digest(const struct hash *h, uint8_t out[SHA256_LEN]);	/* leaves h as it was */
void hash_hex(const struct hash *h, char out[SHA256_HEX]);
/* Goes back to the last block border and returns by how many bytes (0-63): what is left holds
 * no byte of the input, so it may be written down where the input may not. */
size_t hash_rewind(struct hash *h);
void sha256(const void *p, size_t n, uint8_t out[SHA256_LEN]);

void hmac_sha256(const void *key, size_t key_len, const void *p, size_t n, uint8_t out[SHA256_LEN]);

void hex_encode(const uint8_t *p, size_t n, char *out);	/* 2n digits and NUL */
/* Exactly out_len bytes. */
int hex_decode(const char *hex, size_t hex_len, uint8_t *out, size_t out_len, struct err *e);
/* Appends what the text stands for; line ends and blanks in it are passed over.  ERR_PARSE when
 * it is no base64 (letters, padding); out is then as it was. */
struct buf;
int base64_decode(const char *text, size_t len, struct buf *out, struct err *e);
/* Appends the text, with padding. */
int base64_encode(const void *p, size_t n, struct buf *out, struct err *e);
bool equal_ct(const void *a, const void *b, size_t n);		/* constant time */
int random_bytes(void *p, size_t n, struct err *e);		/* getrandom */
void wipe(void *p, size_t n);					/* not optimised away */

#endif
