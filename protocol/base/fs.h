/* SPDX-License-Identifier: Apache-2.0
 *
 * fs - files and directories, always close-on-exec, always bounded. */
#ifndef FARSTEP_BASE_FS_H
#define FARSTEP_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "protocol/base/buf.h"
#include "protocol/base/err.h"

/* A file that is not there is ERR_NOT_FOUND (sys ENOENT), other refusals ERR_SYS;
 * messages start with the path.  mode is subject to the umask, as in open(2). */

/* Every missing directory of path below dirfd; existing ones are fine. */
int fs_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e);
/* Reads a whole regular file of at most max bytes, ERR_LIMIT beyond; appends to out,
 * which stays as it was on failure. */
int fs_read(int dirfd, const char *path, size_t max, struct buf *out, struct err *e);
/* Writes path by a temporary name beside it (".farstep-*.tmp"), fsync of file and
 * directory when sync, rename: readers see the old content or the new. */
int fs_write(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync,
	     struct err *e);
/* All of it, or an error; retries on EINTR and short counts.  A descriptor that would
 * block and is non-blocking is an error (EAGAIN). */
int fs_write_all(int fd, const void *p, size_t n, struct err *e);
/* Removes path and everything below it without following links; missing is fine.
 * Makes directories writable on the way.  Uses a few descriptors and no recursion, up
 * to 4096 levels (ERR_LIMIT below; the rest of the tree may be gone by then).  A mount
 * point inside is EBUSY and is not entered.  Whoever keeps filling the tree meanwhile
 * gets ERR_BUSY, whoever moves a directory away from under it ERR_STATE.  path must not
 * end in "/", "." or "..". */
int fs_remove_tree(int dirfd, const char *path, struct err *e);
/* The same until until_ns (now_ns), but at least something: 1 if there is more, to be called
 * again. */
int fs_remove_some(int dirfd, const char *path, uint64_t until_ns, struct err *e);
/* openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS) with a component-wise O_NOFOLLOW
 * fallback where the kernel has none (it refuses every link and every "..").  path is
 * relative.  Returns a close-on-exec descriptor. */
int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct err *e);
/* Is this a clean relative path: not empty, not absolute, no "." or ".." component,
 * no "//", no NUL or control character, at most 4096 bytes and 255 a component? */
bool fs_path_is_clean(const char *path);
int fs_nonblock(int fd, bool on);

#endif
