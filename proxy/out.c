/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/out.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/limits.h"

/* At the top of DIR, where only directories named like steps are: no artifact is called so. */
#define PART ".farstep-part"

static int copy_file(int from_dir, int top, int to_dir, const char *name, struct err *e)
{
	auto_close int in = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_close int out = -1;
	struct stat st;
	off_t at = 0;

	if (in < 0 || fstat(in, &st) < 0)
		return err_set(e, ERR_SYS, errno, "%s", name);
	out = openat(top, PART, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
	             st.st_mode & 0777);
	if (out < 0)
		return err_set(e, ERR_SYS, errno, "%s", name);
	while (at < st.st_size)
		if (sendfile(out, in, &at, (size_t)(st.st_size - at)) <= 0)
			return err_set(e, ERR_SYS, errno, "%s", name);
	return renameat(top, PART, to_dir, name) < 0 ? err_set(e, ERR_SYS, errno, "%s", name) : 0;
}

static int copy_dir(int from, int top, int to, int depth, struct err *e)
{
	int again = fcntl(from, F_DUPFD_CLOEXEC, 3);
	auto_closedir DIR *d = again < 0 ? NULL : fdopendir(again);
	struct dirent *f;

	if (!d) {
		close_fd(&again);
		return err_set(e, ERR_SYS, errno, "artifacts");
	}
	if (depth > LIMIT_PATH_DEPTH + 2)
		return err_set(e, ERR_LIMIT, 0, "artifacts: over %d directories deep",
		               LIMIT_PATH_DEPTH);
	while ((f = readdir(d))) {
		auto_close int sub = -1;
		auto_close int sub_to = -1;

		if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0)
			continue;
		sub = openat(from, f->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub < 0) {
			if (copy_file(from, top, to, f->d_name, e) < 0)
				return -1;
			continue;
		}
		if (fs_mkdirs(to, f->d_name, 0755, e) < 0)
			return -1;
		sub_to = openat(to, f->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub_to < 0 || copy_dir(sub, top, sub_to, depth + 1, e) < 0)
			return e->code ? -1 : err_set(e, ERR_SYS, errno, "%s", f->d_name);
	}
	return 0;
}

int out_copy(int run_dir_fd, const char *dir, struct err *e)
{
	auto_close int from =
		openat(run_dir_fd, "artifacts", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	auto_close int to = -1;

	if (fs_mkdirs(AT_FDCWD, dir, 0755, e) < 0)
		return -1;
	to = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		return err_set(e, ERR_SYS, errno, "%s", dir);
	return copy_dir(from, to, to, 0, e);
}
