/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the mock's envd stand on: versions, faults, users, paths. */
#include "tests/unit/check.h"

#include "mocks/e2b/envd.h"
#include "mocks/e2b/envd_int.h"
#include "protocol/base/cleanup.h"

TEST(versions_are_compared_by_their_numbers)
{
	static const struct {
		const char *is, *since;
		bool want;
	} pairs[] = { { "0.6.13", "0.6.13", true }, { "0.6.13", "0.6.2", true },
		      { "0.6.2", "0.6.12", false }, { "0.10.0", "0.9.9", true },
		      { "1.0.0", "0.9.9", true }, { "0.5.19", "0.6.0", false },
		      { "0.6", "0.6.0", true }, { "", "0.1.0", false } };
	static struct envd d;

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		memcpy(d.version, pairs[i].is, strlen(pairs[i].is) + 1);
		assert_int_equal(envd_since(&d, pairs[i].since), pairs[i].want);
	}
}

TEST(faults_are_read_and_act_as_often_as_they_say)
{
	static struct envd d;
	struct err e;

	assert_ok(envd_fault_parse("files:cut@1000x2", &d.faults[0], &e), &e);
	assert_ok(envd_fault_parse("process:truncate", &d.faults[1], &e), &e);
	assert_ok(envd_fault_parse("process:start-503x1", &d.faults[2], &e), &e);
	d.n_faults = 3;
	for (int i = 0; i < 4; i++) {
		const struct envd_fault *f = envd_fault(&d, "files:cut");

		assert_int_equal(f != NULL, i < 2);
		if (f)
			assert_int_equal(f->at, 1000);
		assert_non_null(envd_fault(&d, "process:truncate"));
		assert_int_equal(envd_fault(&d, "process:start-503") != NULL, i < 1);
		assert_null(envd_fault(&d, "files:507"));
	}
}

TEST(what_is_no_fault_is_refused)
{
	static const char *const bad[] = { "", "files", "files:cut", "files:cut@", "files:cut@x2",
					   "files:cut@5x", "files:cut@5x0", "files:cut@5y",
					   "files:507@3", "process:nope", "process:dropx@1" };
	struct envd_fault f;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(envd_fault_parse(bad[i], &f, &e), -1);
		assert_int_equal(e.code, ERR_USAGE);
		assert_false(envd_knows_fault(bad[i]));
	}
	assert_true(envd_knows_fault("process:stall@0"));
}

TEST(global_variables_are_set_and_replaced)
{
	static struct envd d;
	struct err e;
	char name[16];

	assert_ok(envd_setenv(&d, "A", "1", &e), &e);
	assert_ok(envd_setenv(&d, "AB", "2=3", &e), &e);
	assert_ok(envd_setenv(&d, "A", "", &e), &e);
	assert_string_equal(envd_getenv(&d, "A"), "");
	assert_string_equal(envd_getenv(&d, "AB"), "2=3");
	assert_null(envd_getenv(&d, "B"));
	assert_null(d.env[2]);
	assert_fails(envd_setenv(&d, "A=", "x", &e), &e, ERR_INVALID_PARAMS,
		     "'A=' is no name of a variable");
	for (int i = 2; i < ENVD_ENV_MAX; i++) {
		snprintf(name, sizeof(name), "V%d", i);
		assert_ok(envd_setenv(&d, name, "v", &e), &e);
	}
	assert_fails(envd_setenv(&d, "ONE_MORE", "v", &e), &e, ERR_LIMIT,
		     "more than 512 variables");
	assert_ok(envd_setenv(&d, "V7", "again", &e), &e);
	for (char **v = d.env; *v; v++)
		free(*v);
}

TEST(users_are_those_of_the_table)
{
	static const char table[] = "other:x:7:8::/o:/bin/sh\nuser:x:1000:1001::/h:/x\n";
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[300], owner[ENVD_NAME], group[ENVD_NAME];
	static struct envd d;
	struct user u;
	struct err e;

	snprintf(path, sizeof(path), "%s/passwd", t.path);
	d.passwd = path;
	assert_fails(user_find(&d, "user", &u, &e), &e, ERR_NOT_FOUND, "user: unknown user user");
	assert_ok(fs_write(t.fd, "passwd", table, strlen(table), 0644, false, &e), &e);
	assert_ok(user_find(&d, "user", &u, &e), &e);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1001);
	assert_string_equal(u.home, "/h");
	assert_fails(user_find(&d, "use", &u, &e), &e, ERR_NOT_FOUND, "user: unknown user use");
	user_names(&d, 7, 4000000000u, owner, group);
	assert_string_equal(owner, "other");
	assert_string_equal(group, "4000000000");
	user_names(&d, 9, 9, owner, group);
	assert_string_equal(owner, "9");
}

static void assert_path(const struct envd *d, const char *path, const char *want)
{
	static const struct user u = { .name = "user", .home = "/home/user" };
	char got[PATH_MAX];
	struct err e;

	assert_ok(path_resolve(d, &u, path, got, &e), &e);
	assert_string_equal(got, want);
}

TEST(paths_are_resolved_from_the_users_home_and_cleaned)
{
	static const struct user u = { .name = "user", .home = "/home/user" };
	static char longest[PATH_MAX + 10];
	static struct envd d;
	char got[PATH_MAX];
	struct err e;

	assert_path(&d, "", "/home/user");
	assert_path(&d, "a//b/./c", "/home/user/a/b/c");
	assert_path(&d, "../x", "/home/x");
	assert_path(&d, "~", "/home/user");
	assert_path(&d, "~/x/", "/home/user/x");
	assert_path(&d, "/a/../../b/..", "/");
	assert_path(&d, "/a b/\xc3\xa4", "/a b/\xc3\xa4");
	assert_path(&d, "...", "/home/user/...");
	memcpy(d.default_workdir, "/work", 6);
	assert_path(&d, "", "/work");
	assert_path(&d, "x", "/home/user/x");
	assert_fails(path_resolve(&d, &u, "~root/x", got, &e), &e, ERR_INVALID_PARAMS,
		     "failed to expand path '~root/x' for user 'user': cannot expand user-specific "
		     "home dir");
	memset(longest, 'a', sizeof(longest) - 1);
	assert_int_equal(path_resolve(&d, &u, longest, got, &e), -1);
}

TEST(a_path_has_a_parent_and_a_base)
{
	char got[PATH_MAX];

	path_parent("/a/b", got);
	assert_string_equal(got, "/a");
	path_parent("/a", got);
	assert_string_equal(got, "/");
	path_parent("/", got);
	assert_string_equal(got, "/");
	assert_string_equal(path_base("/a/b"), "b");
	assert_string_equal(path_base("/"), "/");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(versions_are_compared_by_their_numbers),
		cmocka_unit_test(faults_are_read_and_act_as_often_as_they_say),
		cmocka_unit_test(what_is_no_fault_is_refused),
		cmocka_unit_test(global_variables_are_set_and_replaced),
		cmocka_unit_test(users_are_those_of_the_table),
		cmocka_unit_test(paths_are_resolved_from_the_users_home_and_cleaned),
		cmocka_unit_test(a_path_has_a_parent_and_a_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
