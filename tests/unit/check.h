/* SPDX-License-Identifier: Apache-2.0
 *
 * check - what unit tests share: cmocka in the order it wants its headers, and
 * a temporary directory that goes away with its test. */
#ifndef FARSTEP_TESTS_CHECK_H
#define FARSTEP_TESTS_CHECK_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/base/err.h"
#include "protocol/base/fs.h"

/* TEST(a_sentence_in_underscores) { ... }, listed in main as cmocka_unit_test(...). */
#define TEST(name) static void name(void **state __attribute__((unused)))

/* The same, of a test that proves a row of the requirements: its number is in the name. */
#define unit_test_of_row(f, row) { #f " [R" #row "]", f, NULL, NULL, NULL }

/* The call succeeds; if not, the test fails with the error's message. */
#define assert_ok(call, err) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, (err)->msg); \
	} while (0)

/* The call fails with the code, and the message is the text. */
#define assert_fails(call, err, want_code, want_msg) \
	do { \
		memset((err), 0, sizeof(*(err))); \
		assert_true((call) < 0); \
		assert_string_equal((err)->msg, want_msg); \
		assert_int_equal((err)->code, want_code); \
	} while (0)

struct temp_dir {
	char path[256];
	int fd;
};

static inline void temp_dir_release(struct temp_dir *t)
{
	if (t->fd < 0)
		return;
	close(t->fd);
	t->fd = -1;
	fs_remove_tree(AT_FDCWD, t->path, NULL);
}

/* struct temp_dir t CLEANUP(temp_dir_release) = temp_dir(); */
static inline struct temp_dir temp_dir_in(const char *base)
{
	struct temp_dir t = { .fd = -1 };

	snprintf(t.path, sizeof(t.path), "%.200s/check-XXXXXX", base);
	if (!mkdtemp(t.path))
		abort();
	t.fd = open(t.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return t;
}

static inline struct temp_dir temp_dir(void)
{
	const char *base = getenv("TMPDIR");

	return temp_dir_in(base ? base : "/tmp");
}

#endif
