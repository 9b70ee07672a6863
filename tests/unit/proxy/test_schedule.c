/* SPDX-License-Identifier: Apache-2.0
 *
 * Plans are written as "a: ; b: a; c: a b": a step and what it needs. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/schedule.h"

static struct plan *plan_of(const char *spec)
{
	struct err e = ERR_INIT;
	struct buf text;
	struct plan *p;

	buf_init(&text, 1 << 20);
	buf_puts(&text, "steps:\n", NULL);
	while (*spec) {
		size_t id = strcspn(spec, ":"), needs = strcspn(spec + id + 1, ";");

		buf_printf(&text, NULL, "- {id: %.*s, driver: shell, config: {script: x}, needs: [",
		           (int)id, spec);
		spec += id + 1;
		for (size_t i = 0; i < needs; i++)
			buf_putc(&text, spec[i] == ' ' && i ? ',' : (uint8_t)spec[i], NULL);
		buf_puts(&text, "]}\n", NULL);
		spec += needs;
		spec += strspn(spec, "; ");
	}
	p = plan_parse((const char *)buf_data(&text), buf_len(&text), "p.yaml", NULL, &e);
	if (!p)
		fail_msg("%s", e.msg);
	buf_release(&text);
	return p;
}

/* What was skipped: "c(b) d(b) ", the step and because of which; "-" for none. */
struct skipped {
	const struct plan *plan;
	char text[400];
};

static void on_skip(void *arg, int step, int because)
{
	struct skipped *k = arg;
	size_t len = strlen(k->text);

	snprintf(k->text + len, sizeof(k->text) - len, "%s(%s) ", k->plan->steps[step].id,
	         because < 0 ? "-" : k->plan->steps[because].id);
}

struct run {
	struct plan *plan;
	struct schedule s;
	struct skipped skipped;
};

static void run_init(struct run *r, const char *spec, int at_once)
{
	struct err e = ERR_INIT;

	memset(r, 0, sizeof(*r));
	r->plan = plan_of(spec);
	r->skipped.plan = r->plan;
	assert_ok(schedule_init(&r->s, r->plan, at_once, &e), &e);
}

static void run_release(struct run *r)
{
	schedule_release(&r->s);
	plan_free(r->plan);
}

static void ends(struct run *r, const char *id, enum step_status status)
{
	schedule_done(&r->s, plan_find(r->plan, id), status, on_skip, &r->skipped);
}

/* All that may start now starts: its ids. */
static const char *started(struct run *r, char out[200])
{
	size_t len = 0;
	int i;

	out[0] = 0;
	while ((i = schedule_next(&r->s)) >= 0)
		len += (size_t)snprintf(out + len, 200 - len, "%s%s", len ? " " : "",
		                        r->plan->steps[i].id);
	return out;
}

#define assert_started(r, want)                                \
	do {                                                   \
		char got_[200];                                \
		assert_string_equal(started((r), got_), want); \
	} while (0)

TEST(steps_start_when_all_that_they_need_is_done)
{
	struct run r;

	run_init(&r, "a: ; b: a; c: a; d: b c", 8);
	assert_started(&r, "a");
	ends(&r, "a", STATUS_SUCCESS);
	assert_started(&r, "b c");
	ends(&r, "b", STATUS_SUCCESS);
	assert_started(&r, "");
	ends(&r, "c", STATUS_SUCCESS);
	assert_started(&r, "d");
	assert_false(schedule_finished(&r.s));
	ends(&r, "d", STATUS_SUCCESS);
	assert_true(schedule_finished(&r.s));
	assert_string_equal(r.skipped.text, "");
	run_release(&r);
}

TEST(no_more_run_at_once_than_asked_for_and_in_the_order_of_the_file)
{
	struct run r;

	run_init(&r, "a: ; b: ; c: ; d: ; e: ", 2);
	assert_started(&r, "a b");
	ends(&r, "b", STATUS_SUCCESS);
	assert_started(&r, "c");
	ends(&r, "a", STATUS_SUCCESS);
	ends(&r, "c", STATUS_SUCCESS);
	assert_started(&r, "d e");
	run_release(&r);
}

TEST(what_became_ready_later_but_stands_before_starts_first)
{
	struct run r;

	run_init(&r, "late: first; x: ; y: ; first: ", 1);
	assert_started(&r, "x");
	ends(&r, "x", STATUS_SUCCESS);
	assert_started(&r, "y");
	ends(&r, "y", STATUS_SUCCESS);
	assert_started(&r, "first");
	ends(&r, "first", STATUS_SUCCESS);
	assert_started(&r, "late");
	run_release(&r);
}

TEST(less_than_one_at_once_counts_as_one)
{
	struct run r;

	run_init(&r, "a: ; b: ", -3);
	assert_started(&r, "a");
	run_release(&r);
}

TEST(a_failure_stops_what_depends_on_it_while_siblings_finish)
{
	struct run r;

	run_init(&r, "a: ; bad: a; side: a; x: bad; y: x; both: side bad; own: side", 8);
	assert_started(&r, "a");
	ends(&r, "a", STATUS_SUCCESS);
	assert_started(&r, "bad side");
	ends(&r, "bad", STATUS_ERROR);
	assert_string_equal(r.skipped.text, "x(bad) y(bad) both(bad) ");
	assert_int_equal(r.s.steps[plan_find(r.plan, "y")].status, STATUS_SKIPPED);
	assert_int_equal(r.s.steps[plan_find(r.plan, "y")].because, plan_find(r.plan, "bad"));
	assert_started(&r, "");
	assert_false(schedule_finished(&r.s));
	ends(&r, "side", STATUS_SUCCESS);
	assert_started(&r, "own");
	ends(&r, "own", STATUS_SUCCESS);
	assert_true(schedule_finished(&r.s));
	run_release(&r);
}

TEST(whatever_is_no_success_stops_dependents)
{
	for (int st = 0; st < STATUS_COUNT; st++) {
		struct run r;

		run_init(&r, "a: ; b: a", 1);
		assert_started(&r, "a");
		ends(&r, "a", (enum step_status)st);
		assert_string_equal(r.skipped.text, st == STATUS_SUCCESS ? "" : "b(a) ");
		run_release(&r);
	}
}

TEST(a_step_is_skipped_once_for_the_first_that_failed)
{
	struct run r;

	run_init(&r, "a: ; b: ; both: a b; after: both", 2);
	assert_started(&r, "a b");
	ends(&r, "b", STATUS_TIMEOUT);
	ends(&r, "a", STATUS_ERROR);
	assert_string_equal(r.skipped.text, "both(b) after(b) ");
	assert_true(schedule_finished(&r.s));
	run_release(&r);
}

TEST(skips_are_told_in_the_order_of_the_file)
{
	struct run r;

	run_init(&r, "z: y; y: x; x: bad; bad: ", 1);
	assert_started(&r, "bad");
	ends(&r, "bad", STATUS_LOST);
	assert_string_equal(r.skipped.text, "z(bad) y(bad) x(bad) ");
	run_release(&r);
}

/* A proxy that attaches knows steps that are done already. */
TEST(a_step_may_be_done_before_it_was_started)
{
	struct run r;

	run_init(&r, "a: ; b: a; c: b", 1);
	ends(&r, "a", STATUS_SUCCESS);
	assert_started(&r, "b");
	ends(&r, "a", STATUS_ERROR); /* done is done */
	assert_string_equal(r.skipped.text, "");
	ends(&r, "b", STATUS_SUCCESS);
	assert_started(&r, "c");
	run_release(&r);
}

TEST(a_step_done_before_its_turn_frees_no_place)
{
	struct run r;

	run_init(&r, "a: ; b: ; c: ; d: ", 1);
	assert_started(&r, "a");
	ends(&r, "b", STATUS_SUCCESS);
	assert_started(&r, "");
	ends(&r, "a", STATUS_SUCCESS);
	assert_started(&r, "c");
	run_release(&r);
}

TEST(stopping_skips_what_waits_and_lets_what_runs_end)
{
	struct run r;

	run_init(&r, "a: ; b: ; c: a; d: ", 2);
	assert_started(&r, "a b");
	schedule_stop(&r.s, on_skip, &r.skipped);
	assert_string_equal(r.skipped.text, "c(-) d(-) ");
	assert_false(schedule_finished(&r.s));
	ends(&r, "a", STATUS_SUCCESS);
	ends(&r, "b", STATUS_CANCELLED);
	assert_started(&r, "");
	assert_true(schedule_finished(&r.s));
	schedule_stop(&r.s, on_skip, &r.skipped); /* twice is once */
	assert_string_equal(r.skipped.text, "c(-) d(-) ");
	run_release(&r);
}

TEST(nobody_need_listen_to_skips)
{
	struct run r;

	run_init(&r, "a: ; b: a; c: ", 1);
	assert_started(&r, "a");
	schedule_done(&r.s, 0, STATUS_ERROR, NULL, NULL);
	schedule_stop(&r.s, NULL, NULL);
	assert_true(schedule_finished(&r.s));
	run_release(&r);
}

/* Any order of ends, any number at once: every step starts after its needs and never twice. */
TEST(random_plans_run_to_their_end)
{
	unsigned seed = 4711;

	for (int round = 0; round < 200; round++) {
		struct plan_step steps[130];
		int needs[130][4], running[130], n_running = 0, at_once = 1 + round % 9, next;
		bool done[130] = { false }, was_started[130] = { false };
		struct plan p = { .steps = steps, .n_steps = (size_t)(1 + round % 130) };
		struct schedule s;
		struct err e = ERR_INIT;

		for (int i = 0; i < (int)p.n_steps; i++) {
			steps[i] = (struct plan_step){ .needs = needs[i] };
			for (int k = 0; i && k < 4; k++)
				if (rand_r(&seed) % 3 == 0)
					needs[i][steps[i].n_needs++] = rand_r(&seed) % i;
		}
		assert_ok(schedule_init(&s, &p, at_once, &e), &e);
		while (!schedule_finished(&s)) {
			while ((next = schedule_next(&s)) >= 0) {
				assert_false(was_started[next]);
				was_started[next] = true;
				for (size_t k = 0; k < steps[next].n_needs; k++)
					assert_true(done[steps[next].needs[k]]);
				running[n_running++] = next;
			}
			assert_in_range(n_running, 1, at_once);
			next = rand_r(&seed) % n_running;
			done[running[next]] = true;
			schedule_done(&s, running[next], STATUS_SUCCESS, NULL, NULL);
			running[next] = running[--n_running];
		}
		for (size_t i = 0; i < p.n_steps; i++)
			assert_true(done[i]);
		schedule_release(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steps_start_when_all_that_they_need_is_done),
		cmocka_unit_test(no_more_run_at_once_than_asked_for_and_in_the_order_of_the_file),
		cmocka_unit_test(what_became_ready_later_but_stands_before_starts_first),
		cmocka_unit_test(less_than_one_at_once_counts_as_one),
		cmocka_unit_test(a_failure_stops_what_depends_on_it_while_siblings_finish),
		cmocka_unit_test(whatever_is_no_success_stops_dependents),
		cmocka_unit_test(a_step_is_skipped_once_for_the_first_that_failed),
		cmocka_unit_test(skips_are_told_in_the_order_of_the_file),
		cmocka_unit_test(a_step_may_be_done_before_it_was_started),
		cmocka_unit_test(a_step_done_before_its_turn_frees_no_place),
		cmocka_unit_test(stopping_skips_what_waits_and_lets_what_runs_end),
		cmocka_unit_test(nobody_need_listen_to_skips),
		cmocka_unit_test(random_plans_run_to_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
