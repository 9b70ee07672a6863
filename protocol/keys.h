/* SPDX-License-Identifier: Apache-2.0
 *
 * keys - everything derived from the user key (protocol/README.md 3). */
#ifndef FARSTEP_KEYS_H
#define FARSTEP_KEYS_H

#include "protocol/base/hash.h"

#define USER_KEY_LEN 32

void key_token(const uint8_t user_key[USER_KEY_LEN], const char *run, char token[SHA256_HEX]);
void key_session(const uint8_t user_key[USER_KEY_LEN], const char *run,
                 char session_key[SHA256_HEX]);
void key_step(const char *session_key, const char *step, int attempt, uint8_t step_key[SHA256_LEN]);
/* First 16 hex digits of SHA-256("farstep key id 1\n" key): names a key in labels, proves
 * nothing. */
void key_id(const uint8_t user_key[USER_KEY_LEN], char id[17]);

#endif
