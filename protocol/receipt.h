/* SPDX-License-Identifier: Apache-2.0
 *
 * receipt - what a step's end is proved by (protocol/README.md 8.3).
 *
 * The keeper fills a struct receipt, writes it as JSON and signs those exact
 * bytes; the proxy checks the signature, parses the same bytes and compares
 * what they say with what it received. */
#ifndef FARSTEP_RECEIPT_H
#define FARSTEP_RECEIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/hash.h"
#include "protocol/limits.h"

enum exit_kind {
	EXIT_EXITED,
	EXIT_SIGNALED,
	EXIT_TIMEOUT,
	EXIT_CANCELLED,
	EXIT_SPAWN_FAILED,
	EXIT_LOST,
	EXIT_KINDS
};
enum step_status {
	STATUS_SUCCESS,
	STATUS_ERROR,
	STATUS_TIMEOUT,
	STATUS_CANCELLED,
	STATUS_RESOURCE_LIMIT,
	STATUS_SECURITY_VIOLATION,
	STATUS_SKIPPED,
	STATUS_LOST,
	STATUS_COUNT
};
enum spawn_stage {
	STAGE_NONE,
	STAGE_FORK,
	STAGE_PGRP,
	STAGE_STDIO,
	STAGE_CWD,
	STAGE_FDS,
	STAGE_EXEC,
	STAGE_COUNT
};

const char *exit_kind_name(enum exit_kind k);
const char *status_name(enum step_status s); /* "success" ... as in the contract */
int status_by_name(const char *name, enum step_status *ret, struct err *e);
const char *spawn_stage_name(enum spawn_stage s);

struct stream_sum {
	uint64_t bytes;
	char sha256[SHA256_HEX];
};

struct receipt {
	char run[LIMIT_RUN_ID + 1], session[LIMIT_RUN_ID + 1], step[LIMIT_STEP_ID + 1];
	int attempt;
	char sandbox[128], worker[128];
	int generation;
	char build[64];
	char plan[SHA256_HEX];
	enum step_status status;
	struct {
		enum exit_kind kind;
		int code,
			/* code: 0-255, 128+n for signal n, 127/126 for spawn failures; signal:
			 * 0 if none */
			signal;
		bool core;
		char by[16]; /* "timeout", "cancel", "lease", "shutdown" or "" */
		int sys;     /* errno of a spawn failure */
		enum spawn_stage stage;
	} exit;
	uint64_t stdin_bytes;
	struct stream_sum out, err, events;
	struct {
		uint64_t count, bytes, manifest_bytes;
		char sha256
			[SHA256_HEX]; /* of the manifest's bytes; of nothing when there are none */
	} artifacts;
	char refused[8][256]; /* "path: reason"; unused ones empty */
	struct {
		double wall_ms, user_ms, sys_ms;
		int64_t max_rss_kb, read_kb, written_kb;
	} usage;
	int leftovers;
	bool said_complete, said_success; /* the step's own `complete` line */
	/* Digest of the reason that it gave, "" for none.  The words themselves may hold a secret,
	 * so they travel beside the receipt, which is kept as it is. */
	char said_sha256[SHA256_HEX];
	int64_t rows;                     /* -1: none reported */
	char error[512];                  /* why it is no success, in our words; "" at success */
	uint64_t started_us, ended_us;    /* real time */
};

void receipt_init(struct receipt *r);
/* Notes the digest of the step's words. */
void receipt_note_said(struct receipt *r, const char *words);
/* Are those the words?  ERR_INTEGRITY when not. */
int receipt_check_said(const struct receipt *r, const char *words, struct err *e);
/* Status from exit kind, code, signal and the step's own word (README 8.4). */
enum step_status receipt_status(const struct receipt *r);
/* Appends the JSON text. */
int receipt_print(const struct receipt *r, struct buf *out, struct err *e);
/* Parses untrusted text: ERR_INTEGRITY when it is no receipt. */
int receipt_parse(const char *text, size_t len, struct receipt *ret, struct err *e);
/* hex(HMAC-SHA256(step_key, text)) */
void receipt_sign(const uint8_t step_key[SHA256_LEN], const char *text, size_t len,
                  char hmac[SHA256_HEX]);
/* ERR_INTEGRITY when the signature is not that of the text. Constant time. */
int receipt_check(const uint8_t step_key[SHA256_LEN], const char *text, size_t len,
                  const char *hmac, struct err *e);

#endif
