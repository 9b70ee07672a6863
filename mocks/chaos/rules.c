/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/chaos/rules.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"

/* What may follow a name. */
enum {
	WANT_MS = 1,	/* a time must */
	WITH_JITTER = 2, /* "±J" may follow it */
	WANT_RATE = 4,
	WITH_AT = 8,	/* "@BYTES" may */
	WANT_AT = 16,	/* "@BYTES" must */
	NO_DIR = 32,	/* "up:" and "down:" mean nothing */
};

static const struct {
	const char *name;
	unsigned flags;
	uint64_t at;	/* where there is no "@BYTES" */
} kinds[RULE_KINDS] = {
	[RULE_CUT] = { "cut", WITH_AT, RULE_DRAWN },
	[RULE_CUT_EVERY] = { "cut-every", WANT_MS | WITH_JITTER | NO_DIR, 0 },
	[RULE_DELAY] = { "delay", WANT_MS | WITH_JITTER, 0 },
	[RULE_RATE] = { "rate", WANT_RATE, 0 },
	[RULE_STALL] = { "stall", WANT_MS | WITH_AT, RULE_DRAWN },
	[RULE_BLACKHOLE] = { "blackhole", WITH_AT, 0 },
	[RULE_TRUNCATE] = { "truncate", WITH_AT, RULE_DRAWN },
	[RULE_CORRUPT] = { "corrupt", WITH_AT | WANT_AT, 0 },
	[RULE_ONE_BYTE] = { "one-byte", 0, 0 },
};

const char *rules_help(void)
{
	return "Rules (without up: or down: they hold for both directions, each on its own):\n"
	       "  cut@BYTES        after so many bytes of a direction both sides get a reset\n"
	       "  cut-every MS[±J] every connection gets a reset so long after it was made\n"
	       "  delay MS[±J]     all bytes come so much later, in order\n"
	       "  rate KB/s        at most so many thousand bytes a second\n"
	       "  stall MS[@BYTES] once a connection, after so many bytes, nothing moves for so "
	       "long\n"
	       "  blackhole[@BYTES] bytes from there on are taken and vanish; the end of a stream "
	       "too\n"
	       "  truncate[@BYTES] the receiver gets a clean end of stream there; the rest is "
	       "dropped\n"
	       "  corrupt@N        one bit of byte N is flipped (the first byte is 0)\n"
	       "  one-byte         every write is one byte\n"
	       "Where BYTES may be left out it is 0 for blackhole; else it is drawn for each "
	       "connection, from 1\n"
	       "to 65536. Bytes may be written as 4k or 1M, times as 500, 500ms or 2s, ± as +-.\n"
	       "xN behind a rule: it acts N times in all, over all connections. up: or down: in "
	       "front: only in\n"
	       "this direction (up is from --listen to --to).\n";
}

const char *rule_name(enum rule_kind kind)
{
	return kinds[kind].name;
}

/* --- parsing --- */

struct parser {
	const char *p;
	const char *word;	/* for messages: where the rule began */
	struct err *e;
};

static int fail(struct parser *s, const char *why)
{
	int n = (int)strcspn(s->word, " ,\t");

	return err_set(s->e, ERR_USAGE, 0, "rule '%.*s': %s", n > 80 ? 80 : n, s->word, why);
}

static void skip_blanks(struct parser *s)
{
	s->p += strspn(s->p, " \t,");
}

static bool take(struct parser *s, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(s->p, text, n) != 0)
		return false;
	s->p += n;
	return true;
}

/* Decimal digits, up to 2^40: nothing here overflows when it is multiplied. */
static bool take_number(struct parser *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*s->p))
		return false;
	for (; isdigit((unsigned char)*s->p); s->p++) {
		v = v * 10 + (uint64_t)(*s->p - '0');
		if (v > UINT64_C(1) << 40)
			return false;
	}
	*ret = v;
	return true;
}

static bool take_bytes(struct parser *s, uint64_t *ret)
{
	if (!take_number(s, ret))
		return false;
	if (take(s, "k") || take(s, "K"))
		*ret *= 1024;
	else if (take(s, "M"))
		*ret *= 1024 * 1024;
	return true;
}

static bool take_ms(struct parser *s, uint64_t *ret)
{
	if (!take_number(s, ret))
		return false;
	if (!take(s, "ms") && take(s, "s"))
		*ret *= 1000;
	return *ret <= 86400000;
}

/* Between a name and its number may be a blank, "=" or nothing. */
static void skip_to_number(struct parser *s)
{
	const char *p = s->p + strspn(s->p, " \t=");

	if (isdigit((unsigned char)*p))
		s->p = p;
}

static int parse_time(struct parser *s, unsigned flags, struct rule *r)
{
	skip_to_number(s);
	if (!take_ms(s, &r->ms))
		return fail(s, "wants a time in milliseconds, at most a day");
	if (!(flags & WITH_JITTER) || (!take(s, "\xc2\xb1") && !take(s, "+-")))
		return 0;
	if (!take_ms(s, &r->jitter_ms))
		return fail(s, "wants a time in milliseconds behind ±");
	return r->jitter_ms > r->ms ? fail(s, "varies by more than it is") : 0;
}

static int parse_rate(struct parser *s, struct rule *r)
{
	const char *unit;

	skip_to_number(s);
	if (!take_number(s, &r->bytes_per_s) || r->bytes_per_s == 0 || r->bytes_per_s > 100000000)
		return fail(s, "wants a number of KB/s");
	r->bytes_per_s *= 1000;
	unit = s->p + strspn(s->p, " ");	/* it may be there or not */
	if (strncmp(unit, "KB/s", 4) == 0 || strncmp(unit, "kB/s", 4) == 0)
		s->p = unit + 4;
	return 0;
}

static int parse_parameters(struct parser *s, struct rule *r)
{
	unsigned flags = kinds[r->kind].flags;
	uint64_t times;

	if ((flags & WANT_MS) && parse_time(s, flags, r) < 0)
		return -1;
	if ((flags & WANT_RATE) && parse_rate(s, r) < 0)
		return -1;
	if (*s->p == '@' && !(flags & WITH_AT))
		return fail(s, "takes no @BYTES");
	if (take(s, "@")) {
		if (!take_bytes(s, &r->at))
			return fail(s, "wants a number of bytes behind @");
	} else if (flags & WANT_AT) {
		return fail(s, "wants @ and the number of a byte");
	}
	if (take(s, "x")) {
		if (!take_number(s, &times) || times == 0)
			return fail(s, "wants a number of times behind x");
		r->times = (int64_t)times;
	}
	if (*s->p && !strchr(" \t,", *s->p))
		return fail(s, "has something behind it that is no part of it");
	return 0;
}

static int parse_name(struct parser *s, struct rule *r)
{
	size_t n = strspn(s->p, "abcdefghijklmnopqrstuvwxyz-");

	for (int k = 0; k < RULE_KINDS; k++)
		if (strlen(kinds[k].name) == n && memcmp(kinds[k].name, s->p, n) == 0) {
			r->kind = (enum rule_kind)k;
			r->at = kinds[k].at;
			s->p += n;
			return 0;
		}
	return fail(
		s,
		"unknown; want cut, cut-every, delay, rate, stall, blackhole, truncate, corrupt or "
		"one-byte");
}

static int parse_rule(struct parser *s, struct rule *ret)
{
	struct rule r = { .dirs = RULE_UP | RULE_DOWN, .times = -1 };
	bool one_way;

	s->word = s->p;
	if (take(s, "up:"))
		r.dirs = RULE_UP;
	else if (take(s, "down:"))
		r.dirs = RULE_DOWN;
	one_way = r.dirs != (RULE_UP | RULE_DOWN);
	if (parse_name(s, &r) < 0)
		return -1;
	if (one_way && (kinds[r.kind].flags & NO_DIR))
		return fail(s, "has no direction");
	if (parse_parameters(s, &r) < 0)
		return -1;
	*ret = r;
	return 0;
}

int rules_parse(struct rules *r, const char *text, struct err *e)
{
	struct parser s = { .p = text, .word = text, .e = e };
	size_t before = r->n;

	skip_blanks(&s);
	if (!*s.p)
		return err_set(e, ERR_USAGE, 0, "an empty rule");
	for (; *s.p; skip_blanks(&s)) {
		if (r->n == RULES_MAX) {
			r->n = before;
			return err_set(e, ERR_LIMIT, 0, "more than %d rules", RULES_MAX);
		}
		if (parse_rule(&s, &r->rule[r->n]) < 0) {
			r->n = before;
			return -1;
		}
		r->n++;
	}
	return 0;
}

int rule_print(const struct rule *r, struct buf *out, struct err *e)
{
	unsigned flags = kinds[r->kind].flags;
	const char *dir = r->dirs == RULE_UP ? "up:" : r->dirs == RULE_DOWN ? "down:" : "";

	if (buf_printf(out, e, "%s%s", dir, kinds[r->kind].name) < 0)
		return -1;
	if ((flags & WANT_MS) && buf_printf(out, e, " %llu", (unsigned long long)r->ms) < 0)
		return -1;
	if (r->jitter_ms && buf_printf(out, e, "±%llu", (unsigned long long)r->jitter_ms) < 0)
		return -1;
	if ((flags & WANT_RATE) &&
	    buf_printf(out, e, " %llu", (unsigned long long)r->bytes_per_s / 1000) < 0)
		return -1;
	if ((flags & WITH_AT) && r->at != RULE_DRAWN &&
	    buf_printf(out, e, "@%llu", (unsigned long long)r->at) < 0)
		return -1;
	return r->times < 0 ? 0 : buf_printf(out, e, "x%lld", (long long)r->times);
}

/* --- chance --- */

/* splitmix64: every bit of the result depends on every bit of x. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t rules_draw(const struct rules *r, uint64_t connection, unsigned dir, size_t i, uint64_t n,
		    uint64_t below)
{
	uint64_t x = mix(mix(mix(mix(r->seed) ^ connection) ^ (dir << 8 | (uint64_t)i)) ^ n);

	return below ? x % below : 0;
}

uint64_t rules_at(const struct rules *r, uint64_t connection, unsigned dir, size_t i)
{
	if (r->rule[i].at != RULE_DRAWN)
		return r->rule[i].at;
	return 1 + rules_draw(r, connection, dir, i, 0, 65536);
}

uint64_t rules_ms(const struct rules *r, uint64_t connection, unsigned dir, size_t i, uint64_t n)
{
	const struct rule *rule = &r->rule[i];

	return rule->ms - rule->jitter_ms +
	       rules_draw(r, connection, dir, i, n + 1, 2 * rule->jitter_ms + 1);
}
