/* SPDX-License-Identifier: Apache-2.0
 *
 * package - what travels to the sandbox: a deterministic tar.zst with an index.
 *
 * The first entry is `.farstep/index.json`:
 *   {"v":1,"files":[{"path":"data/a.csv","size":"12","mode":420,"sha256":"..."}]}
 * sorted by path, then the files in that order; no times, no owners; modes are 0644 or
 * 0755.  Directories are implied by their files (empty ones are entries of their own:
 * {"path":"d","dir":true}).  The same files give the same bytes. */
#ifndef FARSTEP_PROXY_PACKAGE_H
#define FARSTEP_PROXY_PACKAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/hash.h"

struct package_file {
	char *path;	/* in the package: clean, relative */
	char *source;	/* absolute path on this machine */
	uint64_t size;
	unsigned mode;
	char sha256[SHA256_HEX];
	bool dir;
};

struct package {
	struct package_file *files;
	size_t n;
	uint64_t bytes;			/* of all files */
	/* filled by package_write: */
	uint64_t packed;		/* bytes of the archive */
	char sha256[SHA256_HEX];	/* of the archive */
};

void package_init(struct package *p);
void package_release(struct package *p);
/* Adds a file (or, for a directory, everything below it; hidden files too, but for .git,
 * .farstep) under its path relative to base_dir.  Symlinks that stay inside base_dir are
 * followed, others refused by name; devices, sockets and fifos are refused.  Adding twice is
 * fine. */
int package_add(struct package *p, const char *base_dir, const char *relative, struct err *e);
/* Adds everything that the shell-like glob (with **) matches below base_dir; ERR_PIPELINE if
 * nothing does. */
int package_glob(struct package *p, const char *base_dir, const char *pattern, struct err *e);
/* Sorts, hashes: the index is complete afterwards. */
int package_index(struct package *p, struct err *e);
/* Appends the index as JSON. */
int package_index_print(const struct package *p, struct buf *out, struct err *e);
/* Writes the archive to fd (a new file); a file that changed since the index is ERR_INTEGRITY. */
int package_write(struct package *p, int fd, int level, struct err *e);

#endif
