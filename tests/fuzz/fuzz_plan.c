/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a pipeline file, YAML or JSON.  Either a plan comes of it, whose printed form is
 * a pipeline file that says the same, or an error that says which line; nothing grows without a
 * bound (the fuzzer's memory and time limits). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"
#include "protocol/step_body.h"
#include "proxy/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define REQUIRE(cond)            \
	do {                     \
		if (!(cond))     \
			abort(); \
	} while (0)

static void check(const struct plan *plan)
{
	REQUIRE(plan->name && *plan->name && plan->dir && plan->text);
	REQUIRE(plan->n_steps > 0 && plan->n_steps <= LIMIT_STEPS);
	for (size_t i = 0; i < plan->n_steps; i++) {
		const struct plan_step *s = &plan->steps[i];

		REQUIRE(s->id && step_id_is_good(s->id) && s->driver && s->config && s->line > 0);
		REQUIRE(plan_find(plan, s->id) == (int)i);
		REQUIRE(s->n_needs <= LIMIT_INPUTS && s->n_env <= LIMIT_ENV);
		for (size_t k = 0; k < s->n_needs; k++)
			REQUIRE(s->needs[k] >= 0 && (size_t)s->needs[k] < plan->n_steps &&
			        (size_t)s->needs[k] != i);
	}
}

/* Printed, read and printed again is the same text. */
static void check_printed(const struct plan *plan)
{
	struct err e = ERR_INIT;
	struct buf one, two;
	struct plan *again;

	buf_init(&one, 64 << 20);
	buf_init(&two, 64 << 20);
	REQUIRE(plan_print(plan, &one, &e) == 0);
	if (buf_len(&one) <= LIMIT_PIPELINE_FILE) {
		again = plan_parse((const char *)buf_data(&one), buf_len(&one), "p", NULL, &e);
		REQUIRE(again);
		REQUIRE(plan_print(again, &two, &e) == 0);
		REQUIRE(buf_len(&one) == buf_len(&two) &&
		        memcmp(buf_data(&one), buf_data(&two), buf_len(&one)) == 0);
		plan_free(again);
	}
	buf_release(&one);
	buf_release(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct err e = ERR_INIT;
	struct buf problems;
	struct plan *plan;

	buf_init(&problems, 256 * 1024);
	plan = plan_parse((const char *)p, n, "p", &problems, &e);
	if (plan) {
		REQUIRE(buf_len(&problems) == 0);
		check(plan);
		check_printed(plan);
	} else {
		REQUIRE(e.code == ERR_PIPELINE || e.code == ERR_UNSUPPORTED);
		REQUIRE(strncmp(e.msg, "p:", 2) == 0);
	}
	plan_free(plan);
	buf_release(&problems);
	return 0;
}
