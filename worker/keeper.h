/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper - a process with one step at a time, which outlives the worker.
 *
 * The keeper owns the step's pipes, spools, running digests, deadline and end; it
 * writes the signed record and exits, or waits for the plan of another step: after one that
 * ended by itself and left nothing, nothing of it is left in the keeper either.  It talks to
 * whatever worker holds the other end of its SOCK_SEQPACKET socket (a duplicate waits at the
 * supervisor, so that a new worker can take it over).  Messages are datagrams: a half-written
 * one cannot
 * exist.  The keeper never waits for the worker: what cannot be sent is dropped,
 * because a later STATE says the same.
 *
 * Files in its step directory:
 *   stdout stderr events   spools: the file's size is the stream's length; what is
 *                          acknowledged is punched out; 0600
 *   manifest               artifact manifest (absent when there are no artifacts)
 *   files                  one line per artifact: absolute path, as in the manifest's order,
 * NUL-ended
 *   claim                  made by the worker, one line; the keeper appends the record as its last
 *                          act: {"receipt":"...","hmac":"...","said":"..."?}
 */
#ifndef FARSTEP_WORKER_KEEPER_H
#define FARSTEP_WORKER_KEEPER_H

#include <stdint.h>

#include "protocol/base/err.h"
#include "protocol/limits.h"

/* Worker to keeper.  Byte 0 is the type. */
enum keeper_order {
	KO_PLAN = 'P',  /* the plan as JSON, or a memfd of it (it holds secrets: never a file) */
	KO_STATE = 'H', /* asks for a STATE: after adoption, and as a sign of life */
	KO_STDIN =
		/* u8 end, u64 offset (native order), bytes; pieces before what it has are
		 * skipped */
		'I',
	KO_CANCEL = 'C', /* i32 grace_ms, then why ("cancel", "lease", "shutdown"), NUL-ended */
	KO_ACK = 'A',    /* u8 stream (enum keeper_stream), u64 offset: durable at the client */
};

enum keeper_stream { KS_STDOUT, KS_STDERR, KS_EVENTS, KS_COUNT };
enum keeper_phase { KP_WAITING, KP_RUNNING, KP_DRAINING, KP_FINISHED };

/* Keeper to worker: the only message.  Sent after KO_PLAN led to exec (or failed),
 * when a spool grew, when stdin was taken, on KO_STATE, and at the end. */
struct keeper_state {
	uint8_t type;         /* 'S' */
	uint8_t phase;        /* enum keeper_phase; KP_FINISHED: the record is there */
	uint8_t stdin_closed; /* nobody reads stdin any more */
	uint8_t again; /* with KP_FINISHED: it waits for another plan */
	int32_t pid;            /* the step's leader, 0 before it runs */
	uint64_t stdin_have;    /* stdin bytes accepted, the next offset wanted */
	uint64_t stdin_room;    /* bytes the keeper will buffer beyond that */
	uint64_t len[KS_COUNT]; /* spool lengths */
};

#define KEEPER_INLINE_MAX (48 * 1024) /* a longer plan comes as a memfd */
#define KEEPER_FD 3 /* the socket, in the keeper's process */
#define KEEPER_LIFELINE_FD \
	4 /* a pipe whose write end only the supervisor holds: end of file ends the step */
#define KEEPER_SELF_FD 5 /* the program itself (memfd or file), for nothing here; closed at once */

/* The plan, as the worker writes and the keeper reads it (all members needed
 * unless marked "?"):
 *   run session step attempt sandbox worker generation build plan (sha256) key (step key, hex)
 *   argv[] env["K=V"...] cwd dir artifacts_dir output_dir work_dir collect[]
 *   timeout_ms? grace_ms linger_ms stdin (bool) spool_bytes memory_mb? backtrace? (bool)
 * dir, artifacts_dir, ... are absolute, made by the worker before. */

/* The keeper's main: waits for KO_PLAN, runs the step, returns its exit code
 * (0, or 111 when the system refused to let it work at all). */
int keeper_main(void);

#endif
