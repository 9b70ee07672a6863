/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/check.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "proxy/userkey.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* The default key is below here; nothing else says where it is. */
static void live_in(const struct temp_dir *t)
{
	setenv("XDG_CONFIG_HOME", t->path, 1);
	setenv("HOME", t->path, 1);
	unsetenv("FARSTEP_KEY_FILE");
}

static const char *write_key(const struct temp_dir *t, const char *text, size_t n, mode_t mode,
                             char path[400])
{
	struct err e = ERR_INIT;

	snprintf(path, 400, "%s/a-key", t->path);
	unlink(path);
	assert_ok(fs_write(AT_FDCWD, path, text, n, 0600, false, &e), &e);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static void assert_refused(const char *file, enum err_code code, const char *want)
{
	uint8_t key[USER_KEY_LEN];
	struct err e = ERR_INIT;

	assert_int_equal(userkey_load(file, key, &e), -1);
	if (want)
		assert_string_equal(e.msg, want);
	assert_int_equal(e.code, code);
}

TEST(the_default_key_is_made_once_for_its_owner_alone)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	uint8_t key[USER_KEY_LEN], again[USER_KEY_LEN], zero[USER_KEY_LEN] = { 0 };
	struct err e = ERR_INIT;
	struct stat st;
	mode_t mask = umask(0);

	live_in(&t);
	assert_ok(userkey_load(NULL, key, &e), &e);
	umask(mask);
	assert_int_equal(fstatat(t.fd, "farstep/key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 65);
	assert_int_equal(st.st_nlink, 1); /* the temporary name has gone */
	assert_int_equal(fstatat(t.fd, "farstep", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_memory_not_equal(key, zero, sizeof(key));
	assert_ok(userkey_load(NULL, again, &e), &e);
	assert_memory_equal(key, again, sizeof(key));
}

TEST(another_home_has_another_key)
{
	struct temp_dir one CLEANUP(temp_dir_release) = temp_dir();
	struct temp_dir two CLEANUP(temp_dir_release) = temp_dir();
	uint8_t key[USER_KEY_LEN], other[USER_KEY_LEN];
	struct err e = ERR_INIT;
	struct stat st;

	live_in(&one);
	assert_ok(userkey_load(NULL, key, &e), &e);
	live_in(&two);
	setenv("XDG_CONFIG_HOME", "relative", 1); /* to be ignored */
	assert_ok(userkey_load(NULL, other, &e), &e);
	assert_memory_not_equal(key, other, sizeof(key));
	assert_int_equal(fstatat(two.fd, ".config/farstep/key", &st, 0), 0);
}

TEST(two_first_uses_at_once_have_one_key)
{
	enum { USERS = 8 };
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	uint8_t key[USER_KEY_LEN], first[USER_KEY_LEN];
	struct err e = ERR_INIT;
	int go[2], keys[2], status;
	char c;

	live_in(&t);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(keys, O_CLOEXEC), 0);
	for (int i = 0; i < USERS; i++)
		if (fork() == 0) {
			close(go[1]);
			(void)!read(go[0], &c, 1); /* until all are there */
			_exit(userkey_load(NULL, key, &e) == 0 &&
			                      write(keys[1], key, sizeof(key)) == sizeof(key)
			              ? 0
			              : 1);
		}
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < USERS; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
		assert_int_equal(read(keys[0], key, sizeof(key)), sizeof(key));
		if (i == 0)
			memcpy(first, key, sizeof(key));
		assert_memory_equal(key, first, sizeof(key));
	}
	close(keys[0]);
	close(keys[1]);
}

TEST(a_key_file_is_the_options_or_the_environments)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	uint8_t key[USER_KEY_LEN];
	struct err e = ERR_INIT;
	char path[400];

	live_in(&t);
	write_key(&t, HEX "\n", 65, 0600, path);
	assert_ok(userkey_load(path, key, &e), &e);
	for (int i = 0; i < USER_KEY_LEN; i++)
		assert_int_equal(key[i], i);
	memset(key, 0, sizeof(key));
	setenv("FARSTEP_KEY_FILE", path, 1);
	assert_ok(userkey_load(NULL, key, &e), &e);
	assert_int_equal(key[31], 31);
	assert_refused("/no/such/key", ERR_NOT_FOUND, NULL); /* the option counts more */
	unsetenv("FARSTEP_KEY_FILE");
	write_key(&t, HEX, 64, 0400, path);
	assert_ok(userkey_load(path, key, &e), &e); /* the newline may be missing */
	assert_int_equal(faccessat(t.fd, "farstep/key", F_OK, 0), -1);
}

TEST(a_named_key_that_is_missing_is_not_made)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400], want[600];

	live_in(&t);
	snprintf(path, sizeof(path), "%s/none", t.path);
	snprintf(want, sizeof(want),
	         "%s: no such key file: without --key-file and FARSTEP_KEY_FILE farstep makes its "
	         "own",
	         path);
	assert_refused(path, ERR_NOT_FOUND, want);
	assert_int_equal(access(path, F_OK), -1);
}

TEST(a_key_that_others_may_use_is_refused_with_what_to_do)
{
	static const mode_t modes[] = { 0640, 0604, 0620, 0602, 0610, 0644, 0666, 0777 };
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400], want[900];

	live_in(&t);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		write_key(&t, HEX "\n", 65, modes[i], path);
		snprintf(want, sizeof(want), "%s: others may use it (mode %03o): chmod 600 %s",
		         path, (unsigned)modes[i], path);
		assert_refused(path, ERR_DENIED, want);
	}
	assert_int_equal(err_exit(ERR_DENIED), 8);
}

TEST(what_is_no_key_is_refused)
{
	static const char *const texts[] = {
		"",
		"\n",
		"abc\n",
		HEX "0",
		HEX "\n\n",
		HEX " \n",
		HEX "\r\n",
		" " HEX,
		"x" HEX,
		"g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1\n",
	};
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400];

	live_in(&t);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		write_key(&t, texts[i], strlen(texts[i]), 0600, path);
		assert_refused(path, ERR_DENIED, NULL);
	}
	write_key(&t, HEX, 10, 0600, path);
	assert_refused(path, ERR_DENIED, NULL);
}

TEST(a_default_key_that_is_bad_is_refused_and_not_replaced)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	struct err e = ERR_INIT;
	struct stat st;

	live_in(&t);
	assert_int_equal(mkdirat(t.fd, "farstep", 0700), 0);
	assert_ok(fs_write(t.fd, "farstep/key", "short\n", 6, 0600, false, &e), &e);
	assert_refused(NULL, ERR_DENIED, NULL);
	assert_int_equal(fstatat(t.fd, "farstep/key", &st, 0), 0);
	assert_int_equal(st.st_size, 6);
}

TEST(a_key_that_is_no_file_is_refused_and_holds_nobody_up)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400], want[600];

	live_in(&t);
	snprintf(path, sizeof(path), "%s/fifo", t.path);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(want, sizeof(want), "%s: not a regular file: name another with --key-file", path);
	assert_refused(path, ERR_DENIED, want);
	assert_refused(t.path, ERR_DENIED, NULL);
}

TEST(a_key_of_somebody_else_is_refused)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400], want[600];

	if (geteuid() != 0)
		skip(); /* only root can give a file away */
	live_in(&t);
	write_key(&t, HEX "\n", 65, 0600, path);
	assert_int_equal(chown(path, 4711, 4711), 0);
	snprintf(want, sizeof(want),
	         "%s: belongs to user 4711, not to you: name another with --key-file", path);
	assert_refused(path, ERR_DENIED, want);
}

/* --- the directory of sockets --- */

TEST(sockets_have_a_directory_that_is_ones_own)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir_in("/tmp"); /* short */
	char out[256], want[700];
	struct err e = ERR_INIT;
	struct stat st;

	setenv("XDG_RUNTIME_DIR", t.path, 1);
	assert_ok(runtime_dir(out, &e), &e);
	snprintf(want, sizeof(want), "%s/farstep", t.path);
	assert_string_equal(out, want);
	assert_int_equal(stat(out, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_ok(runtime_dir(out, &e), &e); /* again */
	assert_int_equal(chmod(out, 0755), 0);
	snprintf(want, sizeof(want), "%s: others may use it (mode 755): chmod 700 %s", out, out);
	assert_fails(runtime_dir(out, &e), &e, ERR_DENIED, want);
	unsetenv("XDG_RUNTIME_DIR");
}

TEST(a_directory_too_deep_for_a_socket_is_not_used)
{
	struct temp_dir t CLEANUP(temp_dir_release) = temp_dir();
	char path[400], out[256];
	struct err e = ERR_INIT;

	snprintf(path, sizeof(path), "%s/%060d", t.path, 0);
	assert_int_equal(mkdir(path, 0700), 0);
	setenv("XDG_RUNTIME_DIR", path, 1);
	assert_ok(runtime_dir(out, &e), &e);
	assert_memory_equal(out, "/tmp/farstep-", 13);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	assert_ok(runtime_dir(out, &e), &e);
	assert_memory_equal(out, "/tmp/farstep-", 13);
	unsetenv("XDG_RUNTIME_DIR");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_default_key_is_made_once_for_its_owner_alone),
		cmocka_unit_test(another_home_has_another_key),
		cmocka_unit_test(two_first_uses_at_once_have_one_key),
		cmocka_unit_test(a_key_file_is_the_options_or_the_environments),
		cmocka_unit_test(a_named_key_that_is_missing_is_not_made),
		cmocka_unit_test(a_key_that_others_may_use_is_refused_with_what_to_do),
		cmocka_unit_test(what_is_no_key_is_refused),
		cmocka_unit_test(a_default_key_that_is_bad_is_refused_and_not_replaced),
		cmocka_unit_test(a_key_that_is_no_file_is_refused_and_holds_nobody_up),
		cmocka_unit_test(a_key_of_somebody_else_is_refused),
		cmocka_unit_test(sockets_have_a_directory_that_is_ones_own),
		cmocka_unit_test(a_directory_too_deep_for_a_socket_is_not_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
