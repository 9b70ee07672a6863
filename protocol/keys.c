/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is signed is short: a purpose and names of at most 64 bytes.  Cutting a
 * longer one off would give two names one key, so that is no way out. */
static void derive(const void *key, size_t key_len, const char *purpose, const char *names,
		   uint8_t out[SHA256_LEN])
{
	char msg[512];
	int n = snprintf(msg, sizeof(msg), "%s\n%s", purpose, names);

	if (n < 0 || (size_t)n >= sizeof(msg))
		abort();
	hmac_sha256(key, key_len, msg, (size_t)n, out);
}

static void derive_hex(const uint8_t user_key[USER_KEY_LEN], const char *purpose, const char *run,
		       char out[SHA256_HEX])
{
	uint8_t mac[SHA256_LEN];

	derive(user_key, USER_KEY_LEN, purpose, run, mac);
	hex_encode(mac, sizeof(mac), out);
	wipe(mac, sizeof(mac));
}

void key_token(const uint8_t user_key[USER_KEY_LEN], const char *run, char token[SHA256_HEX])
{
	derive_hex(user_key, "farstep token 1", run, token);
}

void key_session(const uint8_t user_key[USER_KEY_LEN], const char *run,
		 char session_key[SHA256_HEX])
{
	derive_hex(user_key, "farstep session 1", run, session_key);
}

void key_step(const char *session_key, const char *step, int attempt, uint8_t step_key[SHA256_LEN])
{
	char names[256];
	int n = snprintf(names, sizeof(names), "%s\n%d", step, attempt);

	if (n < 0 || (size_t)n >= sizeof(names))
		abort();
	derive(session_key, strlen(session_key), "farstep step 1", names, step_key);
}

void key_id(const uint8_t user_key[USER_KEY_LEN], char id[17])
{
	static const char purpose[] = "farstep key id 1\n";
	uint8_t digest[SHA256_LEN];
	struct hash h;

	hash_init(&h);
	hash_update(&h, purpose, sizeof(purpose) - 1);
	hash_update(&h, user_key, USER_KEY_LEN);
	hash_digest(&h, digest);
	hex_encode(digest, 8, id);
	wipe(&h, sizeof(h));
}
