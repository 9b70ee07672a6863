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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_goes_before_bulk),
		cmocka_unit_test(pieces_grow_with_what_a_connection_has_carried),
		cmocka_unit_test(a_peer_that_does_not_read_is_refused_at_the_hard_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
