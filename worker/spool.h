/* SPDX-License-Identifier: Apache-2.0
 *
 * spool - a step's output pipe into a file, with its running digest.
 *
 * The file's size is the stream's length.  What the client has is punched out; when what is
 * left reaches the quota, the pipe is not read, so the step waits. */
#ifndef FARSTEP_WORKER_SPOOL_H
#define FARSTEP_WORKER_SPOOL_H

#include "protocol/base/hash.h"
#include "protocol/base/loop.h"

struct spool {
	struct loop_io io;
	struct loop *loop;
	int dir_fd;
	const char *name;
	int pipe_fd, file_fd; /* file_fd -1: no byte came yet */
	uint64_t len, acked, punched, quota, told; /* told: the owner's */
	struct hash hash;
	bool eof, grown;
	struct err error; /* code 0: none; after an error the pipe is read and dropped */
	void (*on_bytes)(struct spool *s, const uint8_t *p, size_t n); /* may be NULL */
	void (*on_change)(struct spool *s);                            /* grew, ended or failed */
	void *user;
};

/* Takes pipe_fd, which does not block; borrows dir_fd and name.  Starts reading; the file (0600) is
 * made when the first byte comes: most steps leave two of their three streams empty. */
int spool_open(struct spool *s, struct loop *l, int dir_fd, const char *name, int pipe_fd,
               uint64_t quota, struct err *e);
void spool_ack(struct spool *s, uint64_t offset);
void spool_stop(struct spool *s); /* stops reading: what is in the pipe is lost */
void spool_close(struct spool *s);

#endif
