/* SPDX-License-Identifier: Apache-2.0
 *
 * rules - what farstep-chaos does to a link, as text and as numbers.
 *
 *   [up:|down:]NAME[PARAMETERS][xTIMES]      for example   down:cut@4096x1
 *
 * Several stand in one text, with blanks or commas between.  Pure: no sockets, no clock;
 * what chance decides is drawn here, from the seed and the place alone, so that it does
 * not depend on time or on how the bytes come in pieces. */
#ifndef FARSTEP_CHAOS_RULES_H
#define FARSTEP_CHAOS_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/err.h"

enum rule_kind {
	RULE_CUT,	/* at bytes: both sides get a reset */
	RULE_CUT_EVERY, /* ms after a connection was made: reset */
	RULE_DELAY,	/* ms and jitter: each piece comes later, in order */
	RULE_RATE,	/* bytes_per_s */
	RULE_STALL,	/* ms, at bytes: nothing moves for so long */
	RULE_BLACKHOLE, /* at bytes: from there on all is taken and nothing given, no end either */
	RULE_TRUNCATE, /* at bytes: the receiver gets a clean end there, the rest is dropped */
	RULE_CORRUPT,  /* at bytes: one bit of that byte is flipped */
	RULE_ONE_BYTE, /* every write is one byte */
	RULE_KINDS
};

/* Directions, as bits: up is from --listen to --to. */
#define RULE_UP 1u
#define RULE_DOWN 2u

#define RULE_DRAWN UINT64_MAX	/* rule.at: drawn for each connection from 1 to 65536 */
#define RULES_MAX 32

struct rule {
	enum rule_kind kind;
	unsigned dirs;		/* bits; both unless named */
	uint64_t at;		/* byte offset in its direction */
	uint64_t ms, jitter_ms;
	uint64_t bytes_per_s;
	int64_t times;		/* how often it acts in all; -1: always */
};

struct rules {
	struct rule rule[RULES_MAX];
	size_t n;
	uint64_t seed;
};

/* Appends the rules of the text.  ERR_USAGE says which word is wrong and why; rules are
 * unchanged then. */
int rules_parse(struct rules *r, const char *text, struct err *e);
/* The rule as it would be written in full: "down:cut@4096x1". */
int rule_print(const struct rule *r, struct buf *out, struct err *e);
const char *rule_name(enum rule_kind kind);

/* A number from 0 to below - 1 for the n-th draw of rule i in a direction of a connection. */
uint64_t rules_draw(const struct rules *r, uint64_t connection, unsigned dir, size_t i, uint64_t n,
		    uint64_t below);
/* Where rule i acts in this connection: its `at`, or drawn. */
uint64_t rules_at(const struct rules *r, uint64_t connection, unsigned dir, size_t i);
/* ms ± jitter of rule i for the n-th time. */
uint64_t rules_ms(const struct rules *r, uint64_t connection, unsigned dir, size_t i, uint64_t n);

/* The table of rules for --help. */
const char *rules_help(void);

#endif
