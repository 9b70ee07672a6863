/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/receipt.h"

#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void sample(struct receipt *r)
{
	receipt_init(r);
	strcpy(r->run, "20261102t101112-3f9a1c");
	strcpy(r->session, "20261102t101112-3f9a1c");
	strcpy(r->step, "sort");
	r->attempt = 1;
	strcpy(r->sandbox, "sb-1");
	strcpy(r->worker, "w-1");
	r->generation = 2;
	strcpy(r->build, "v0-g1");
	strcpy(r->plan, NOTHING);
	r->exit.kind = EXIT_EXITED;
	r->status = STATUS_SUCCESS;
	r->stdin_bytes = 5;
	r->out.bytes = UINT64_MAX;
	r->artifacts.count = 1;
	r->artifacts.bytes = 120;
	r->artifacts.manifest_bytes = 101;
	strcpy(r->refused[0], "link: a symbolic link");
	r->usage.wall_ms = 3.125;
	r->usage.user_ms = 1;
	r->usage.sys_ms = 0.8;
	r->usage.max_rss_kb = 2100;
	r->usage.written_kb = 4;
	r->started_us = UINT64_C(1793614272123456);
	r->ended_us = UINT64_C(1793614272126581);
}

static const char sample_text[] =
	"{\"v\":1,\"run\":\"20261102t101112-3f9a1c\",\"session\":\"20261102t101112-3f9a1c\","
	"\"step\":\"sort\",\"attempt\":1,\"sandbox\":\"sb-1\",\"worker\":\"w-1\",\"generation\":2,"
	"\"build\":\"v0-g1\",\"plan\":\"" NOTHING "\",\"status\":\"success\","
	"\"exit\":{\"kind\":\"exited\",\"code\":0,\"signal\":0,\"core\":false,\"by\":\"\"},"
	"\"stdin\":{\"bytes\":\"5\"},"
	"\"stdout\":{\"bytes\":\"18446744073709551615\",\"sha256\":\"" NOTHING "\"},"
	"\"stderr\":{\"bytes\":\"0\",\"sha256\":\"" NOTHING "\"},"
	"\"events\":{\"bytes\":\"0\",\"sha256\":\"" NOTHING "\"},"
	"\"artifacts\":{\"count\":1,\"bytes\":\"120\",\"manifest_bytes\":\"101\","
	"\"sha256\":\"" NOTHING "\",\"refused\":[\"link: a symbolic link\"]},"
	"\"usage\":{\"wall_ms\":3.125,\"user_ms\":1,\"sys_ms\":0.8,\"max_rss_kb\":2100,"
	"\"read_kb\":0,\"written_kb\":4},\"leftovers\":0,"
	"\"started\":\"2026-11-02T10:11:12.123456Z\","
	"\"ended\":\"2026-11-02T10:11:12.126581Z\",\"error\":\"\"}";

/* The receipt's text in a buffer that lives until the next call. */
static const char *printed(const struct receipt *r)
{
	static struct buf b;

	buf_release(&b);
	buf_init(&b, 1 << 20);
	assert_int_equal(receipt_print(r, &b, NULL), 0);
	return buf_cstr(&b, NULL);
}

static void reparse(const struct receipt *r, struct receipt *ret)
{
	const char *text = printed(r);
	struct err e = ERR_INIT;

	if (receipt_parse(text, strlen(text), ret, &e) < 0)
		fail_msg("%s in %s", e.msg, text);
}

static void a_receipt_is_the_text_of_the_specification(void **state)
{
	struct receipt r;

	(void)state;
	sample(&r);
	assert_string_equal(printed(&r), sample_text);
}

static void a_receipt_survives_printing_and_parsing(void **state)
{
	struct receipt r, back;

	(void)state;
	sample(&r);
	reparse(&r, &back);
	assert_string_equal(printed(&back), sample_text);
	assert_int_equal(back.out.bytes, UINT64_MAX);
	assert_int_equal(back.rows, -1);
	assert_int_equal(back.started_us, r.started_us);
	assert_int_equal(back.ended_us, r.ended_us);
}

#define NO_ROWS "c9039c6dfee534e6c5a55263017d32f10fc93d2faf34f61f2ac0b20c0b3892fc"

/* Its words may hold a secret, and receipts are kept as they are. */
static void a_failure_carries_the_digest_of_what_the_step_said(void **state)
{
	struct receipt r, back;
	struct err e = ERR_INIT;

	(void)state;
	sample(&r);
	r.said_complete = true;
	r.rows = 100;
	r.leftovers = 3;
	strcpy(r.error, "the step reported a failure");
	receipt_note_said(&r, "no rows");
	r.status = receipt_status(&r);
	assert_int_equal(r.status, STATUS_ERROR);
	assert_non_null(strstr(printed(&r), "\"leftovers\":3,\"complete\":{\"success\":false,"
				       "\"error_sha256\":\"" NO_ROWS "\"},"
				       "\"rows\":100,\"started\""));
	assert_null(strstr(printed(&r), "no rows"));
	reparse(&r, &back);
	assert_true(back.said_complete);
	assert_false(back.said_success);
	assert_int_equal(back.rows, 100);
	assert_int_equal(back.leftovers, 3);
	assert_int_equal(receipt_check_said(&back, "no rows", &e), 0);
	assert_int_equal(receipt_check_said(&back, "no row", &e), -1);
	assert_int_equal(e.code, ERR_INTEGRITY);
}

static void a_spawn_failure_carries_its_stage_and_errno(void **state)
{
	struct receipt r, back;

	(void)state;
	sample(&r);
	r.exit.kind = EXIT_SPAWN_FAILED;
	r.exit.code = 127;
	r.exit.sys = 2;
	r.exit.stage = STAGE_EXEC;
	r.status = receipt_status(&r);
	assert_non_null(strstr(printed(&r), "\"by\":\"\",\"errno\":2,\"stage\":\"exec\"}"));
	reparse(&r, &back);
	assert_int_equal(back.status, STATUS_ERROR);
	assert_int_equal(back.exit.kind, EXIT_SPAWN_FAILED);
	assert_int_equal(back.exit.sys, 2);
	assert_int_equal(back.exit.stage, STAGE_EXEC);
}

static void bytes_that_are_no_text_do_not_spoil_a_receipt(void **state)
{
	struct receipt r, back;

	(void)state;
	sample(&r);
	memset(r.error, 0xff, sizeof(r.error) - 1);
	for (size_t i = 0; i < 8; i++)
		memset(r.refused[i], i % 2 ? 1 : 0x80, sizeof(r.refused[i]) - 1);
	r.exit.code = 1;
	r.status = receipt_status(&r);
	reparse(&r, &back);
	assert_int_equal(strlen(back.error), 510);	/* whole characters of three bytes */
	assert_memory_equal(back.error + 507, "\xef\xbf\xbd", 4);
	assert_int_equal(strlen(back.refused[7]), 255);
}

static void the_status_follows_from_the_end(void **state)
{
	static const struct {
		enum exit_kind kind;
		int code, signal;
		enum step_status status;
	} rows[] = {
		{ EXIT_EXITED, 0, 0, STATUS_SUCCESS },
		{ EXIT_EXITED, 1, 0, STATUS_ERROR },
		{ EXIT_SIGNALED, 137, SIGKILL, STATUS_ERROR },
		{ EXIT_SIGNALED, 152, SIGXCPU, STATUS_RESOURCE_LIMIT },
		{ EXIT_SIGNALED, 153, SIGXFSZ, STATUS_RESOURCE_LIMIT },
		{ EXIT_SIGNALED, 159, SIGSYS, STATUS_SECURITY_VIOLATION },
		{ EXIT_TIMEOUT, 0, 0, STATUS_TIMEOUT },
		{ EXIT_CANCELLED, 0, 0, STATUS_CANCELLED },
		{ EXIT_SPAWN_FAILED, 127, 0, STATUS_ERROR },
		{ EXIT_LOST, 0, 0, STATUS_LOST },
	};
	struct receipt r;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sample(&r);
		r.exit.kind = rows[i].kind;
		r.exit.code = rows[i].code;
		r.exit.signal = rows[i].signal;
		assert_int_equal(receipt_status(&r), rows[i].status);
	}
	sample(&r);
	r.said_complete = true;
	r.said_success = true;
	assert_int_equal(receipt_status(&r), STATUS_SUCCESS);
	r.exit.code = 1;	/* a good word does not mend a bad exit */
	assert_int_equal(receipt_status(&r), STATUS_ERROR);
}

static void a_fresh_receipt_proves_nothing(void **state)
{
	struct receipt r;

	(void)state;
	receipt_init(&r);
	assert_int_equal(receipt_status(&r), STATUS_LOST);
	assert_string_equal(r.out.sha256, NOTHING);
	assert_string_equal(r.artifacts.sha256, NOTHING);
}

/* The sample with one part replaced. */
static void refused(const char *from, const char *to)
{
	char text[4096];
	const char *at = strstr(sample_text, from);
	struct receipt r;
	struct err e = ERR_INIT;
	int n;

	assert_non_null(at);
	n = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - sample_text), sample_text, to,
		     at + strlen(from));
	memset(&r, 0x5a, sizeof(r));
	if (receipt_parse(text, (size_t)n, &r, &e) == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(e.code, ERR_INTEGRITY);
	assert_int_equal(r.attempt, 0x5a5a5a5a);	/* written on success only */
}

static void what_is_no_receipt_is_refused(void **state)
{
	(void)state;
	refused("{\"v\"", "[\"v\"");
	refused("\"v\":1", "\"v\":2");
	refused("\"v\":1,", "");
	refused("\"attempt\":1,", "");
	refused("\"attempt\":1,", "\"attempt\":\"1\",");
	refused("\"attempt\":1,", "\"attempt\":1001,");
	refused("\"attempt\":1,", "\"attempt\":-1,");
	refused("\"sort\"", "\"" NOTHING NOTHING "\"");
	refused("\"success\"", "\"done\"");
	refused("\"exited\"", "\"left\"");
	refused("\"code\":0", "\"code\":256");
	refused("\"by\":\"\"", "\"by\":\"0123456789abcdef\"");
	refused("\"bytes\":\"5\"", "\"bytes\":\"-5\"");
	refused("\"bytes\":\"0\"", "\"bytes\":\"18446744073709551616\"");
	refused("\"bytes\":\"120\"", "\"bytes\":[]");
	refused("\"sha256\":\"e", "\"sha256\":\"g");
	refused("\"sha256\":\"e", "\"sha256\":\"E");
	refused("\"sha256\":\"e", "\"sha256\":\"");
	refused("\"count\":1", "\"count\":100001");
	refused("\"manifest_bytes\":\"101\"", "\"manifest_bytes\":\"33554433\"");
	refused("[\"link: a symbolic link\"]", "[1]");
	refused("\"wall_ms\":3.125", "\"wall_ms\":-1");
	refused("\"wall_ms\":3.125", "\"wall_ms\":null");
	refused("2026-11-02T10:11:12.123456Z", "2026-11-02T10:11:12.123456");
	refused("2026-11-02T10:11:12.123456Z", "2026-11-02 10:11:12.123456Z");
	refused("2026-11-02T10:11:12.123456Z", "2026-13-02T10:11:12.123456Z");
	refused("2026-11-02T10:11:12.123456Z", "1826-11-02T10:11:12.123456Z");
	refused("\"error\":\"\"}", "\"error\":\"\"}}");
	refused("\"error\":\"\"}", "\"error\":\"\",\"v\":1}");
	refused(",\"error\":\"\"}", "}");
}

static void a_success_that_its_exit_contradicts_is_refused(void **state)
{
	(void)state;
	refused("\"code\":0", "\"code\":1");
	refused("\"kind\":\"exited\"", "\"kind\":\"timeout\"");
	refused("\"leftovers\":0", "\"leftovers\":0,\"complete\":{\"success\":false}");
}

static void a_receipt_cut_off_anywhere_is_refused(void **state)
{
	struct receipt r;

	(void)state;
	for (size_t n = 0; n < sizeof(sample_text) - 1; n++)
		assert_int_equal(receipt_parse(sample_text, n, &r, NULL), -1);
	assert_int_equal(receipt_parse(sample_text, sizeof(sample_text) - 1, &r, NULL), 0);
}

static void unknown_members_are_ignored(void **state)
{
	static const char more[] = ",\"later\":{\"a\":[1]}}";
	char text[4096];
	struct receipt r;
	int n = snprintf(text, sizeof(text), "%.*s%s", (int)sizeof(sample_text) - 2, sample_text,
			 more);

	(void)state;
	assert_int_equal(receipt_parse(text, (size_t)n, &r, NULL), 0);
}

static void every_flipped_bit_breaks_the_signature(void **state)
{
	uint8_t key[SHA256_LEN] = { 1, 2, 3 };
	char text[sizeof(sample_text)], hmac[SHA256_HEX];
	struct err e = ERR_INIT;

	(void)state;
	memcpy(text, sample_text, sizeof(text));
	receipt_sign(key, text, sizeof(text) - 1, hmac);
	assert_int_equal(receipt_check(key, text, sizeof(text) - 1, hmac, NULL), 0);
	for (size_t bit = 0; bit < 8 * (sizeof(text) - 1); bit++) {
		text[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(receipt_check(key, text, sizeof(text) - 1, hmac, &e), -1);
		text[bit / 8] ^= (char)(1 << bit % 8);
	}
	assert_int_equal(e.code, ERR_INTEGRITY);
	assert_int_equal(receipt_check(key, text, sizeof(text) - 2, hmac, NULL), -1);
	assert_int_equal(receipt_check(key, text, sizeof(text) - 1, "", NULL), -1);
	assert_int_equal(receipt_check(key, text, sizeof(text) - 1, "zz", NULL), -1);
	key[0] = 0;
	assert_int_equal(receipt_check(key, text, sizeof(text) - 1, hmac, NULL), -1);
}

static void names_are_those_of_the_contract(void **state)
{
	enum step_status s = STATUS_SUCCESS;

	(void)state;
	for (int i = 0; i < STATUS_COUNT; i++) {
		assert_int_equal(status_by_name(status_name((enum step_status)i), &s, NULL), 0);
		assert_int_equal(s, i);
	}
	assert_int_equal(status_by_name("Success", &s, NULL), -1);
	assert_string_equal(status_name(STATUS_COUNT), "unknown");
	assert_string_equal(exit_kind_name(EXIT_SPAWN_FAILED), "spawn_failed");
	assert_string_equal(exit_kind_name((enum exit_kind)-1), "unknown");
	assert_string_equal(spawn_stage_name(STAGE_PGRP), "pgrp");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_receipt_is_the_text_of_the_specification),
		cmocka_unit_test(a_receipt_survives_printing_and_parsing),
		cmocka_unit_test(a_failure_carries_the_digest_of_what_the_step_said),
		cmocka_unit_test(a_spawn_failure_carries_its_stage_and_errno),
		cmocka_unit_test(bytes_that_are_no_text_do_not_spoil_a_receipt),
		cmocka_unit_test(the_status_follows_from_the_end),
		cmocka_unit_test(a_fresh_receipt_proves_nothing),
		cmocka_unit_test(what_is_no_receipt_is_refused),
		cmocka_unit_test(a_success_that_its_exit_contradicts_is_refused),
		cmocka_unit_test(a_receipt_cut_off_anywhere_is_refused),
		cmocka_unit_test(unknown_members_are_ignored),
		cmocka_unit_test(every_flipped_bit_breaks_the_signature),
		cmocka_unit_test(names_are_those_of_the_contract),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
