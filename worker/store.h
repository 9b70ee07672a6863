/* SPDX-License-Identifier: Apache-2.0
 *
 * store - what the supervisor keeps for its worker, and how they talk.
 *
 * Over one SOCK_SEQPACKET pair: named entries (bytes, at most one descriptor) that survive
 * the worker in the supervisor's memory: sessions with their keys and secrets, the sockets of
 * keepers.  A new worker first receives every entry, then STORE_END, and only then serves.
 * Puts arrive in order even when the worker dies right after them. */
#ifndef FARSTEP_WORKER_STORE_H
#define FARSTEP_WORKER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/err.h"
#include "protocol/limits.h"
#include "worker/spare.h"

#define STORE_MESSAGE_MAX (160 * 1024)
#define STORE_NAME_MAX    200
/* "keeper/PID", "SESSION/STEP/N", its socket: of all steps that run, and of keepers that wait for
 * another, under the last one that they had. */
#define STORE_KEEPERS_MAX (LIMIT_SESSIONS * LIMIT_STEPS_RUNNING + SPARE_MAX)
#define STORE_ENTRIES_MAX (LIMIT_SESSIONS + STORE_KEEPERS_MAX + 1) /* one for SCRATCH_ENTRY */

#define SCRATCH_ENTRY "scratch" /* what was there before the first session: scratch.h */

enum store_type {
	STORE_PUT = 'P', /* name NUL, bytes; with or without a descriptor; replaces (a put without a
				 * descriptor keeps the one that is there) */
	STORE_DEL = 'D', /* name NUL; with "session/ID" go keepers whose bytes begin with "ID/" */
	STORE_END = 'E', /* supervisor: that was all */
	STORE_LEASE = 'L', /* u32 ms: end everything unless renewed in time; 0: no lease */
	STORE_BEAT = 'B',  /* the worker lives */
	STORE_SWEEP = 'S', /* a keeper died: end what it left behind */
	STORE_SPARE = 'N', /* worker: start a keeper; supervisor: its socket, and its pid as text */
	STORE_TERM = 'T',  /* supervisor: shut down gracefully */
	STORE_QUIT = 'Q',  /* worker: end everything, exit 0 */
};

struct store_message {
	enum store_type type;
	const char *name; /* PUT, DEL; borrowed from the buffer given */
	const uint8_t *data;
	size_t len;
	int fd; /* -1: none; the receiver owns it */
};

/* One datagram; blocks (bounded by the socket's SO_SNDTIMEO). */
int store_send(int sock, enum store_type type, const char *name, const void *data, size_t n, int fd,
               struct err *e);
/* 1: *ret filled; 0: nothing there (non-blocking) ; -1: error or the other end is gone (ERR_LOST).
 * buf holds at least STORE_MESSAGE_MAX bytes. */
int store_receive(int sock, uint8_t *buf, size_t size, bool wait, struct store_message *ret,
                  struct err *e);

#endif
