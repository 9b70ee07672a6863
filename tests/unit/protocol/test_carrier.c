/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/carrier.h"

static struct out_frame *push(struct carrier *c, bool bulk, size_t n)
{
	struct err e = ERR_INIT;
	struct out_frame *f = carrier_frame(c, bulk, bulk, n, &e);

	if (!f)
		fail_msg("%s", e.msg);
	memset(out_frame_payload(f), 0, n);
	carrier_push(c, f);
	return f;
}

TEST(control_goes_before_bulk)
{
	struct carrier c;
	struct out_frame *data, *text;

	carrier_init(&c);
	data = push(&c, true, 100);
	text = push(&c, false, 10);
	assert_ptr_equal(carrier_take(&c), text);
	assert_ptr_equal(carrier_take(&c), data);
	assert_null(carrier_take(&c));
	free(text);
	free(data);
	carrier_release(&c);
}

TEST(pieces_grow_with_what_a_connection_has_carried)
{
	struct carrier c;
	uint64_t before = 0, sent = 0;

	carrier_init(&c);
	assert_int_equal(carrier_piece(&c), CARRIER_FIRST_PIECE);
	for (int i = 0; i < 8; i++) {
		uint64_t n = carrier_piece(&c);

		assert_true(n >= before && n <= LIMIT_DATA);
		assert_true(n <= CARRIER_FIRST_PIECE || n <= sent);
		push(&c, true, (size_t)n);
		carrier_written(&c, carrier_take(&c));
		sent += n;
		before = n;
	}
	assert_int_equal(carrier_piece(&c), LIMIT_DATA);
	carrier_release(&c);
}

TEST(a_peer_that_does_not_read_is_refused_at_the_hard_bound)
{
	struct carrier c;
	struct err e = ERR_INIT;

	carrier_init(&c);
	while (c.queued + LIMIT_DATA <= LIMIT_SEND_QUEUE_HARD)
		push(&c, true, LIMIT_DATA);
	assert_false(carrier_has_room(&c));
	assert_null(carrier_frame(&c, true, true, LIMIT_DATA, &e));
	assert_int_equal(e.code, ERR_LIMIT);
	carrier_release(&c);
}

/* What carrier a sends for the payload, into out; its length. */
static size_t send_one(struct carrier *a, bool binary, const char *text, uint8_t out[64])
{
	struct out_frame *f = carrier_frame(a, binary, binary, strlen(text), NULL);
	size_t n;

	memcpy(out_frame_payload(f), text, strlen(text));
	carrier_push(a, f);
	f = carrier_take(a);
	n = carrier_seal(a, f);
	assert_true(n <= 64);
	memcpy(out, out_frame_payload(f), n);
	carrier_written(a, f);
	return n;
}

TEST(a_frame_without_a_seal_stays_as_it_is)
{
	struct carrier c;
	uint8_t out[64];
	size_t n;

	carrier_init(&c);
	n = send_one(&c, false, "text", out);
	assert_int_equal(n, 4);
	assert_true(carrier_unseal(&c, false, out, &n));
	assert_int_equal(n, 4);
	carrier_release(&c);
}

TEST(every_flipped_bit_of_a_sealed_frame_is_found)
{
	for (int binary = 0; binary < 2; binary++) {
		struct carrier c;
		uint8_t out[64];
		size_t whole, n;

		carrier_init(&c);
		c.checked = true;
		whole = n = send_one(&c, binary, "some payload", out);
		assert_int_equal(whole, binary ? 12 + 4 : 12 + 8);
		assert_true(carrier_unseal(&c, binary, out, &n));
		assert_int_equal(n, 12);
		for (size_t bit = 0; bit < 8 * whole; bit++) {
			out[bit / 8] ^= (uint8_t)(1 << bit % 8);
			n = whole;
			assert_false(carrier_unseal(&c, binary, out, &n));
			out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t shorter = 0; shorter < whole; shorter++) {
			n = shorter;
			assert_false(carrier_unseal(&c, binary, out, &n));
		}
		carrier_release(&c);
	}
}

TEST(a_lost_frame_and_a_doubled_one_are_found)
{
	struct carrier a, b;
	uint8_t first[64], second[64];
	size_t n, n1, n2;

	carrier_init(&a);
	carrier_init(&b);
	a.checked = b.checked = true;
	n1 = send_one(&a, true, "first", first);
	n2 = send_one(&a, true, "first", second);
	n = n2;
	assert_false(carrier_unseal(&b, true, second, &n));
	n = n1;
	assert_true(carrier_unseal(&b, true, first, &n));
	b.frames_in++;
	n = n1;
	assert_false(carrier_unseal(&b, true, first, &n));
	n = n2;
	assert_true(carrier_unseal(&b, true, second, &n));
	carrier_release(&a);
	carrier_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_goes_before_bulk),
		cmocka_unit_test(pieces_grow_with_what_a_connection_has_carried),
		cmocka_unit_test(a_peer_that_does_not_read_is_refused_at_the_hard_bound),
		cmocka_unit_test(a_frame_without_a_seal_stays_as_it_is),
		cmocka_unit_test(every_flipped_bit_of_a_sealed_frame_is_found),
		cmocka_unit_test(a_lost_frame_and_a_doubled_one_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
