/* SPDX-License-Identifier: Apache-2.0
 *
 * sink - where one stream of a step goes on this machine: a log file or a descriptor.
 *
 * Keeps the running digest of what came, so that the receipt can be checked against it.  A
 * log sink writes masked bytes and a checkpoint (raw offset, file offset, digest's midstate):
 * only what the checkpoint covers is acknowledged to the worker, so another proxy can go on
 * from there.  The checkpoint lies before the bytes that the masker still holds back.  The digest
 * in it stands at the block border before (a block that is not full would be raw bytes, perhaps of
 * a secret): those few bytes come once more and are only hashed. */
#ifndef FARSTEP_PROXY_SINK_H
#define FARSTEP_PROXY_SINK_H

#include "protocol/base/hash.h"
#include "protocol/base/loop.h"
#include "protocol/stream.h"
#include "proxy/mask.h"

struct sink {
	struct stream_in in;
	struct hash hash; /* of everything that came */
	bool failed;
	struct err error;
	void (*on_room)(struct sink *s); /* more became durable: a grant may be due */
	void *user;
	/* log */
	int file_fd, mark_fd; /* -1: not a log */
	struct mask mask;
	struct hash safe_hash; /* midstate at safe_raw */
	uint64_t safe_raw, safe_file, file_at, marked;
	size_t only_hash; /* bytes that come once more: in the file already */
	/* descriptor */
	int fd; /* -1: none */
	bool reopened;
	struct loop *loop;
	struct loop_io io;
	struct buf wait; /* what the descriptor did not take yet */
};

/* Open nowhere; sink_close() may follow. */
void sink_init(struct sink *s);
/* A log file `path` below dirfd with its checkpoint file `mark`; goes on where the checkpoint
 * says. */
int sink_open_log(struct sink *s, int dirfd, const char *path, const char *mark,
                  const struct mask_set *secrets, struct err *e);
/* A descriptor of ours (1 or 2), never blocked on. */
int sink_open_fd(struct sink *s, struct loop *l, int fd, struct err *e);
/* Takes the bytes of an accepted DATA frame.  -1: cannot be written (disk full, closed pipe). */
int sink_write(struct sink *s, const void *p, size_t n, struct err *e);
/* At the end of the stream: what is held back goes out. */
int sink_finish(struct sink *s, struct err *e);
bool sink_is_flushed(const struct sink *s);
/* Makes what came durable; sets s->in.durable. */
int sink_checkpoint(struct sink *s, struct err *e);
void sink_close(struct sink *s);

#endif
