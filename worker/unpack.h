/* SPDX-License-Identifier: Apache-2.0
 *
 * unpack - a package (tar.zst) into a directory, by a confined helper process.
 *
 * The helper is this program again (`--role unpack`): it works inside the destination
 * only, under Landlock and rlimits where the kernel has them, so that a bug in a parser
 * harms nothing but this unpacking.  All or nothing: it fills DEST.new and renames; the paths
 * of its files, NUL-ended, are in package.list beside it. */
#ifndef FARSTEP_WORKER_UNPACK_H
#define FARSTEP_WORKER_UNPACK_H

#include <stdint.h>

#include "protocol/base/err.h"

struct unpack_result {
	uint64_t files, bytes;
};

/* What the helper's main does after its arguments: reads the archive from in_fd, writes
 * below dir_fd (the session's directory) into `name`, which must not exist or be an empty
 * directory.  Refuses (ERR_INTEGRITY, nothing left behind): absolute or unclean paths,
 * links that leave, hard links, devices, fifos, sockets, duplicate entries, setuid/setgid/
 * sticky bits (masked: mode & 0777), a missing or wrong index, anything over the bounds of
 * limits.h (bytes, ratio, entries, path length and depth, zstd window), data after the end,
 * a truncated archive. */
int unpack(int in_fd, int dir_fd, const char *name, struct unpack_result *ret, struct err *e);

/* The helper process: arguments as main() got them after --role unpack: IN_FD DIR_FD NAME
 * [SHA256].  With a digest it looks first whether the archive has it (ERR_INTEGRITY).
 * Reports on standard output one line "ok FILES BYTES" or "CLASS message". Exit 0 or 1. */
int unpack_main(int argc, char **argv);

#endif
