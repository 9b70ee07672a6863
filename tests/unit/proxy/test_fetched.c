/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include "protocol/limits.h"
#include "proxy/fetched.h"

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char *made; /* what print() wrote */

static void print(const struct fetched *list, size_t n, const char *under)
{
	struct buf b;
	struct jw w;

	buf_init(&b, LIMIT_TEXT);
	jw_init(&w, &b);
	jw_obj(&w);
	if (under)
		fetched_print(&w, under, list);
	else
		fetched_write(&w, list, n);
	jw_end(&w);
	assert_int_equal(jw_done(&w, NULL), 0);
	free(made);
	made = buf_take_str(&b, NULL);
	assert_non_null(made);
	buf_release(&b);
}

static int read_back(const char *text, struct fetched **list, size_t *n, struct err *e)
{
	json *v = json_parse(text, strlen(text), LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL);
	int ret;

	assert_non_null(v);
	ret = fetched_read(json_get(v, "artifacts"), list, n, e);
	json_free(v);
	return ret;
}

static void what_the_journal_says_of_artifacts_is_read_back(void **state)
{
	struct fetched two[] = { { .path = (char *)"a/b", .size = 1ull << 62, .sha256 = SHA },
		                 { .path = (char *)"c", .size = 0, .sha256 = SHA } };
	struct fetched *list;
	size_t n;

	(void)state;
	print(two, 2, NULL);
	assert_int_equal(read_back(made, &list, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_string_equal(list[0].path, "a/b");
	assert_true(list[0].size == 1ull << 62);
	assert_string_equal(list[0].sha256, SHA);
	assert_string_equal(list[1].path, "c");
	fetched_free(list, n);
}

static void a_journal_that_lacks_a_field_is_refused_by_its_name(void **state)
{
	struct err e = ERR_INIT;
	struct fetched *list;
	size_t n;

	(void)state;
	assert_int_equal(read_back("{\"artifacts\":[{\"path\":\"x\",\"sha256\":\"" SHA
	                           "\",\"size\":\"1\"},{\"path\":\"y\"}]}",
	                           &list, &n, &e),
	                 -1);
	assert_int_equal(n, 1); /* what was read is the caller's */
	assert_non_null(strstr(e.msg, "sha256"));
	fetched_free(list, n);
}

static void status_names_an_artifact_under_its_step(void **state)
{
	struct fetched one = { .path = (char *)"a/b", .size = 7, .sha256 = SHA };

	(void)state;
	print(&one, 1, "step");
	assert_string_equal(made, "{\"path\":\"step/a/b\",\"size\":7,\"sha256\":\"" SHA "\"}");
}

static int forget(void **state)
{
	(void)state;
	free(made);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_journal_says_of_artifacts_is_read_back),
		cmocka_unit_test(a_journal_that_lacks_a_field_is_refused_by_its_name),
		cmocka_unit_test(status_names_an_artifact_under_its_step),
	};

	return cmocka_run_group_tests(tests, NULL, forget);
}
