/* SPDX-License-Identifier: Apache-2.0
 *
 * fetch - a step's artifacts coming home: the manifest, then file after file.
 *
 * Every file is written outside artifacts/, checked against the manifest, and renamed into
 * place; the manifest is checked against the receipt before any of it is used.  Paths are checked
 * too: they come from the sandbox. */
#ifndef FARSTEP_PROXY_FETCH_H
#define FARSTEP_PROXY_FETCH_H

#include "protocol/base/hash.h"
#include "protocol/base/json.h"
#include "protocol/receipt.h"
#include "protocol/stream.h"
#include "proxy/fetched.h"

struct fetch {
	struct stream_in in;
	int dir_fd;			/* artifacts/STEP; -1 until the first file */
	int parent_fd;			/* borrowed: the run directory */
	char dir[128];
	char part[128];			/* where a file is until it is proved */
	/* from the receipt: */
	bool known;
	uint64_t manifest_bytes, total;
	char manifest_sha256[SHA256_HEX];
	struct buf manifest;
	json *list;
	const json *current;
	int file_fd;
	uint64_t file_left;
	struct hash hash;
	struct fetched *files;
	size_t n_files;
};

void fetch_init(struct fetch *f, int run_dir_fd, const char *step);
/* What the receipt says: nothing may come before this is known. */
void fetch_expect(struct fetch *f, const struct receipt *r);
int fetch_write(struct fetch *f, const void *p, size_t n, struct err *e);
bool fetch_is_complete(const struct fetch *f);
void fetch_release(struct fetch *f);

#endif
