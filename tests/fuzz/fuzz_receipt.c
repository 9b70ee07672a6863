/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a receipt.  What is accepted is printed and read again as the same; a signature
 * holds for exactly the bytes that were signed.  The first byte chooses what is tried:
 * 's' signs the rest and flips a bit of it, anything else parses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int cond)
{
	if (!cond)
		abort();
}

static void check_signature(const char *text, size_t n)
{
	static const uint8_t key[SHA256_LEN] = "a key that nobody knows";
	char hmac[SHA256_HEX];
	char *copy = malloc(n + 1);

	receipt_sign(key, text, n, hmac);
	must(receipt_check(key, text, n, hmac, NULL) == 0);
	memcpy(copy, text, n);
	for (size_t bit = 0; bit < 8 * n; bit += 1 + n / 8) {
		copy[bit / 8] ^= (char)(1 << bit % 8);
		must(receipt_check(key, copy, n, hmac, NULL) < 0);
		copy[bit / 8] ^= (char)(1 << bit % 8);
	}
	for (size_t i = 0; i < SHA256_HEX - 1; i += 7) {
		char was = hmac[i];

		hmac[i] = was == '0' ? '1' : '0';
		must(receipt_check(key, text, n, hmac, NULL) < 0);
		hmac[i] = 0; /* shorter */
		must(receipt_check(key, text, n, hmac, NULL) < 0);
		hmac[i] = was;
	}
	free(copy);
}

static void check_receipt(const struct receipt *r)
{
	struct receipt again;
	struct buf first, second;
	struct err e = ERR_INIT;

	must(r->exit.kind < EXIT_KINDS && r->status < STATUS_COUNT && r->exit.stage < STAGE_COUNT);
	must(strlen(r->step) <= LIMIT_STEP_ID && strlen(r->run) <= LIMIT_RUN_ID);
	must(r->attempt >= 0 && r->attempt <= LIMIT_ATTEMPT);
	must(receipt_status(r) < STATUS_COUNT);
	buf_init(&first, 1 << 20);
	buf_init(&second, 1 << 20);
	must(receipt_print(r, &first, &e) == 0);
	must(receipt_parse((const char *)buf_data(&first), buf_len(&first), &again, &e) == 0);
	must(receipt_print(&again, &second, &e) == 0);
	must(buf_len(&first) == buf_len(&second) &&
	     memcmp(buf_data(&first), buf_data(&second), buf_len(&first)) == 0);
	buf_release(&first);
	buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct receipt r;
	struct err e = ERR_INIT;

	if (n && p[0] == 's') {
		check_signature((const char *)p + 1, n - 1);
		return 0;
	}
	memset(&r, 0x5a, sizeof(r));
	if (receipt_parse((const char *)p, n, &r, &e) < 0)
		must(e.code == ERR_INTEGRITY && e.msg[0]);
	else
		check_receipt(&r);
	return 0;
}
