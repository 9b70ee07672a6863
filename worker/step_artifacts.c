/* SPDX-License-Identifier: Apache-2.0
 *
 * The artifacts of a step as one stream: the manifest, then file after file in its order. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "worker/step.h"

static int open_next_file(struct live *l, struct err *e)
{
	const char *next = l->file ? l->file + strlen(l->file) + 1 : l->files;
	struct stat st;

	if (l->file_fd >= 0)
		l->file_at += l->file_size;
	else
		l->file_at = l->manifest_bytes;
	close_fd(&l->file_fd);
	if (next >= l->files + l->files_len)
		return err_set(e, ERR_INTEGRITY, 0,
		               "artifacts: fewer bytes than the manifest says");
	l->file = next;
	l->file_fd = open(next, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (l->file_fd < 0 || fstat(l->file_fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_INTEGRITY, errno, "artifact '%s'", next);
	l->file_size = (uint64_t)st.st_size;
	return 0;
}

static int load_files(struct live *l, struct err *e)
{
	struct buf b;

	if (l->files)
		return 0;
	buf_init(&b, (size_t)LIMIT_ARTIFACTS * LIMIT_PATH);
	if (fs_read(l->dir_fd, "files", b.max, &b, e) < 0) {
		buf_release(&b);
		return -1;
	}
	l->files_len = buf_len(&b);
	l->files = buf_take_str(&b, e);
	return l->files ? 0 : -1;
}

ssize_t live_read_artifacts(struct live *l, uint64_t at, uint8_t *p, size_t n, struct err *e)
{
	if (at < l->manifest_bytes) {
		auto_close int fd =
			openat(l->dir_fd, "manifest", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		uint64_t left = l->manifest_bytes - at;
		ssize_t got = fd < 0 ? -1 : pread(fd, p, left < n ? (size_t)left : n, (off_t)at);

		return got > 0 ? got : err_set(e, ERR_INTEGRITY, errno, "artifact manifest");
	}
	if (load_files(l, e) < 0)
		return -1;
	while (l->file_fd < 0 || at >= l->file_at + l->file_size)
		if (open_next_file(l, e) < 0)
			return -1;
	if (at < l->file_at)
		return err_set(e, ERR_INTERNAL, 0, "artifacts: offset moved back");
	{
		ssize_t got = pread(l->file_fd, p, n, (off_t)(at - l->file_at));

		return got > 0 ? got
		               : err_set(e, ERR_INTEGRITY, errno, "artifact '%s' became shorter",
		                         l->file);
	}
}

