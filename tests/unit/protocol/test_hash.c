/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <time.h>

#include "protocol/base/hash.h"

static void assert_digest(const uint8_t *digest, const char *hex)
{
	char got[SHA256_HEX];

	hex_encode(digest, SHA256_LEN, got);
	assert_string_equal(got, hex);
}

TEST(sha256_gives_the_published_digests)
{
	static const struct { const char *text, *hex; } rows[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	uint8_t digest[SHA256_LEN];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sha256(rows[i].text, strlen(rows[i].text), digest);
		assert_digest(digest, rows[i].hex);
	}
}

TEST(sha256_of_a_million_letters_is_the_published_one)
{
	char text[1000];
	char hex[SHA256_HEX];
	struct hash h;

	memset(text, 'a', sizeof(text));
	hash_init(&h);
	for (int i = 0; i < 1000; i++)
		hash_update(&h, text, sizeof(text));
	hash_hex(&h, hex);
	assert_string_equal(hex,
			    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(a_digest_does_not_depend_on_how_the_bytes_were_cut)
{
	uint8_t text[200], whole[SHA256_LEN], parts[SHA256_LEN];
	struct sha256_ctx nettle;
	struct hash h;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 37);
	sha256_init(&nettle);
	sha256_update(&nettle, sizeof(text), text);
	sha256_digest(&nettle, sizeof(whole), whole);
	for (size_t a = 0; a <= sizeof(text); a++) {
		for (size_t b = a; b <= sizeof(text); b++) {
			hash_init(&h);
			hash_update(&h, text, a);
			hash_update(&h, text + a, b - a);
			hash_update(&h, text + b, sizeof(text) - b);
			hash_digest(&h, parts);
			assert_memory_equal(parts, whole, sizeof(whole));
		}
	}
}

TEST(every_length_gives_what_nettle_gives)
{
	uint8_t text[260] = { 1, 2, 3 }, ours[SHA256_LEN], theirs[SHA256_LEN];
	struct sha256_ctx nettle;

	for (size_t n = 0; n <= sizeof(text); n++) {
		sha256_init(&nettle);
		sha256_update(&nettle, n, text);
		sha256_digest(&nettle, sizeof(theirs), theirs);
		sha256(text, n, ours);
		assert_memory_equal(ours, theirs, sizeof(ours));
	}
}

TEST(reading_a_digest_leaves_the_hash_running)
{
	uint8_t digest[SHA256_LEN];
	struct hash h;

	hash_init(&h);
	hash_update(&h, "a", 1);
	hash_digest(&h, digest);
	hash_update(&h, "bc", 2);
	hash_digest(&h, digest);
	assert_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(a_copied_hash_goes_its_own_way)
{
	uint8_t digest[SHA256_LEN];
	struct hash h, copy;

	hash_init(&h);
	hash_update(&h, "ab", 2);
	copy = h;
	hash_update(&h, "xyz", 3);
	hash_update(&copy, "c", 1);
	hash_digest(&copy, digest);
	assert_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(nothing_may_be_a_null_pointer)
{
	uint8_t digest[SHA256_LEN];
	struct hash h;

	hash_init(&h);
	hash_update(&h, NULL, 0);
	hash_digest(&h, digest);
	assert_digest(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	hmac_sha256(NULL, 0, NULL, 0, digest);
	assert_digest(digest, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
	wipe(NULL, 0);
}

/* RFC 4231 */
TEST(hmac_gives_the_published_codes)
{
	uint8_t key[131], data[50], code[SHA256_LEN];

	memset(key, 0x0b, 20);
	hmac_sha256(key, 20, "Hi There", 8, code);
	assert_digest(code, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, code);
	assert_digest(code, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	memset(data, 0xdd, sizeof(data));
	hmac_sha256(key, 20, data, sizeof(data), code);
	assert_digest(code, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
	hmac_sha256(key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First", 54,
		    code);
	assert_digest(code, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(hex_goes_there_and_back)
{
	uint8_t all[256], back[256];
	char hex[513];
	struct err e;

	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	hex_encode(all, sizeof(all), hex);
	assert_int_equal(strlen(hex), 512);
	assert_memory_equal(hex, "000102", 6);
	assert_memory_equal(hex + 506, "fdfeff", 6);
	assert_ok(hex_decode(hex, 512, back, sizeof(back), &e), &e);
	assert_memory_equal(all, back, sizeof(all));
	assert_ok(hex_decode("DEadBEef", 8, back, 4, &e), &e);
	assert_memory_equal(back, "\xde\xad\xbe\xef", 4);
}

TEST(hex_of_another_length_or_alphabet_is_refused_and_writes_nothing)
{
	uint8_t out[4] = { 9, 9, 9, 9 };
	struct err e;

	assert_fails(hex_decode("0102", 4, out, 4, &e), &e, ERR_INVALID_PARAMS,
		     "want 8 hex digits, got 4");
	assert_fails(hex_decode("010203040", 9, out, 4, &e), &e, ERR_INVALID_PARAMS,
		     "want 8 hex digits, got 9");
	assert_fails(hex_decode("010203g4", 8, out, 4, &e), &e, ERR_INVALID_PARAMS,
		     "want hex digits only, not so at 6");
	assert_fails(hex_decode("0102 304", 8, out, 4, &e), &e, ERR_INVALID_PARAMS,
		     "want hex digits only, not so at 4");
	assert_memory_equal(out, "\11\11\11\11", 4);
}

TEST(base64_of_the_standard_is_read_also_when_it_is_wrapped)
{
	/* RFC 4648, 10. */
	static const struct { const char *text, *want; } rows[] = {
		{ "", "" },
		{ "Zg==", "f" },
		{ "Zm8=", "fo" },
		{ "Zm9v", "foo" },
		{ "Zm9vYg==", "foob" },
		{ "Zm9vYmE=", "fooba" },
		{ "Zm9vYmFy", "foobar" },
		{ "Zm9v\nYmFy\r\n", "foobar" },
	};
	struct err e = ERR_INIT;
	struct buf out;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_init(&out, 64);
		assert_ok(base64_decode(rows[i].text, strlen(rows[i].text), &out, &e), &e);
		assert_int_equal(buf_len(&out), strlen(rows[i].want));
		assert_memory_equal(buf_data(&out), rows[i].want, buf_len(&out));
		buf_release(&out);
	}
}

TEST(base64_is_written_with_padding)
{
	static const char *const rows[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "\xfb\xff\xbf", "+/+/" }, { "user:", "dXNlcjo=" },
	};
	struct err e = ERR_INIT;
	struct buf out;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_init(&out, 8); /* exactly as much as is needed */
		assert_ok(base64_encode(rows[i][0], strlen(rows[i][0]), &out, &e), &e);
		assert_string_equal(buf_cstr(&out, &e), rows[i][1]);
		buf_release(&out);
	}
	buf_init(&out, 7);
	assert_int_equal(base64_encode("user:", 5, &out, &e), -1);
	assert_int_equal(buf_len(&out), 0);
	buf_release(&out);
}

TEST(what_is_no_base64_is_refused_and_writes_nothing)
{
	static const char *const texts[] = {
		"Z", "Zg", "Zg=", "Zm9=v", "Zm9v=", "Zm-v", "{\"a\":1}", "Zg==Zg==",
	};
	struct err e = ERR_INIT;
	struct buf out;

	buf_init(&out, 64);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_fails(base64_decode(texts[i], strlen(texts[i]), &out, &e), &e, ERR_PARSE,
		             "no base64");
		assert_int_equal(buf_len(&out), 0);
	}
	buf_release(&out);
	buf_init(&out, 2);
	assert_int_equal(base64_decode("Zm9vYmFy", 8, &out, &e), -1);
	assert_int_equal(e.code, ERR_LIMIT);
	buf_release(&out);
}

TEST(a_difference_in_any_bit_is_seen)
{
	uint8_t a[40], b[40];

	memset(a, 0x5a, sizeof(a));
	memcpy(b, a, sizeof(b));
	assert_true(equal_ct(a, b, sizeof(a)));
	assert_true(equal_ct(a, b, 0));
	for (size_t i = 0; i < 8 * sizeof(a); i++) {
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_false(equal_ct(a, b, sizeof(a)));
		b[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

TEST(random_bytes_differ_and_fill_all_of_a_large_buffer)
{
	static uint8_t a[100000], zero[64];
	uint8_t b[32], c[32];
	struct err e;

	assert_ok(random_bytes(b, sizeof(b), &e), &e);
	assert_ok(random_bytes(c, sizeof(c), &e), &e);
	assert_memory_not_equal(b, c, sizeof(b));
	assert_ok(random_bytes(a, sizeof(a), &e), &e);
	for (size_t i = 0; i + sizeof(zero) <= sizeof(a); i += sizeof(zero))
		assert_memory_not_equal(a + i, zero, sizeof(zero));
	assert_ok(random_bytes(b, 0, &e), &e);
}

TEST(a_wiped_key_is_gone)
{
	uint8_t key[32], zero[32] = { 0 };

	memset(key, 7, sizeof(key));
	wipe(key, sizeof(key));
	assert_memory_equal(key, zero, sizeof(key));
}

static bool cpu_has_sha(void)
{
	char line[8192];
	bool found = false;
	FILE *f = fopen("/proc/cpuinfo", "r");

	while (f && !found && fgets(line, sizeof(line), f))
		found = strncmp(line, "flags", 5) == 0 && strstr(line, " sha_ni");
	if (f)
		fclose(f);
	return found;
}

/* CPU time, so that a busy machine does not count. */
static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static double hash_mb_per_second(void)
{
	static uint8_t block[1 << 20];
	const int blocks = 16;
	double start = cpu_seconds();
	struct hash h;
	uint8_t digest[SHA256_LEN];

	hash_init(&h);
	for (int i = 0; i < blocks; i++)
		hash_update(&h, block, sizeof(block));
	hash_digest(&h, digest);
	return blocks * (sizeof(block) / 1e6) / (cpu_seconds() - start);
}

/* nettle built without its assembler is a tenth as fast, and nothing says so. */
TEST(hashing_uses_the_instructions_of_the_processor)
{
	double best = 0;

	if (!cpu_has_sha())
		skip();
	for (int i = 0; i < 5; i++) {
		double got = hash_mb_per_second();

		best = got > best ? got : best;
	}
	if (best <= 500)
		fail_msg("%.0f MB/s", best);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_gives_the_published_digests),
		cmocka_unit_test(sha256_of_a_million_letters_is_the_published_one),
		cmocka_unit_test(a_digest_does_not_depend_on_how_the_bytes_were_cut),
		cmocka_unit_test(every_length_gives_what_nettle_gives),
		cmocka_unit_test(reading_a_digest_leaves_the_hash_running),
		cmocka_unit_test(a_copied_hash_goes_its_own_way),
		cmocka_unit_test(nothing_may_be_a_null_pointer),
		cmocka_unit_test(hmac_gives_the_published_codes),
		cmocka_unit_test(hex_goes_there_and_back),
		cmocka_unit_test(hex_of_another_length_or_alphabet_is_refused_and_writes_nothing),
		cmocka_unit_test(base64_of_the_standard_is_read_also_when_it_is_wrapped),
		cmocka_unit_test(base64_is_written_with_padding),
		cmocka_unit_test(what_is_no_base64_is_refused_and_writes_nothing),
		cmocka_unit_test(a_difference_in_any_bit_is_seen),
		cmocka_unit_test(random_bytes_differ_and_fill_all_of_a_large_buffer),
		cmocka_unit_test(a_wiped_key_is_gone),
		cmocka_unit_test(hashing_uses_the_instructions_of_the_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
