/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/faults.h"

#include <ctype.h>
#include <string.h>

static const struct {
	const char *name;
	bool wants_at;
} kinds[FAULT_KINDS] = {
	[FAULT_NONE] = { "", false },
	[FAULT_CREATE_QUOTA] = { "create:429:quota", false },
	[FAULT_CREATE_RATE] = { "create:429:rate", false },
	[FAULT_CREATE_BALANCER] = { "create:429:lb", false },
	[FAULT_CREATE_500] = { "create:500", false },
	[FAULT_CREATE_503] = { "create:503", false },
	[FAULT_CREATE_504] = { "create:504", false },
	[FAULT_CREATE_HANG] = { "create:hang", false },
	[FAULT_CREATE_AMBIGUOUS] = { "create:ambiguous", false },
	[FAULT_CREATE_CUT] = { "create:cut", false },
	[FAULT_LIST_503] = { "list:503", false },
	[FAULT_TIMEOUT_503] = { "timeout:503", false },
	[FAULT_DELETE_503] = { "delete:503", false },
	[FAULT_FILES_CUT] = { "files:cut", true },
	[FAULT_FILES_CORRUPT] = { "files:corrupt", true },
	[FAULT_PROCESS_DROP] = { "process:drop", true },
	[FAULT_VANISH] = { "sandbox:vanish", true },
	[FAULT_EDGE_502] = { "edge:502", true },
};

const char *faults_help(void)
{
	return "Fault rules:\n"
	       "  create:429:quota   the quota is used up (429 without Retry-After)\n"
	       "  create:429:rate    too many requests (429 with Retry-After: 1)\n"
	       "  create:429:lb      the same from a balancer in front, which speaks no JSON\n"
	       "  create:500         an internal error; nothing was created\n"
	       "  create:503         no capacity\n"
	       "  create:504         placement timed out\n"
	       "  create:hang        no answer ever comes, and nothing is created\n"
	       "  create:ambiguous   the sandbox is created, but the answer is 500\n"
	       "  create:cut         the sandbox is created, but the connection breaks\n"
	       "  list:503           a balancer in front answers in place of a list of sandboxes,\n"
	       "  timeout:503        of a change of a lifetime,\n"
	       "  delete:503         of the end of a sandbox; nothing was done\n"
	       "  files:cut@N        the connection of a file transfer breaks after N bytes of its "
	       "body\n"
	       "  files:corrupt@N    one bit of byte N (the first is 0) of a transferred file is "
	       "flipped\n"
	       "  process:drop@N     the stream of a command breaks after N bytes, without its "
	       "end\n"
	       "  sandbox:vanish@S   a sandbox is gone S seconds after its creation\n"
	       "  edge:502@N         from the Nth request to a sandbox on: 502, not found\n"
	       "xN behind a rule: it acts N times in all. N may be written as 4k or 1M. Of several "
	       "rules the\n"
	       "first that fits acts. A request that a rule acted on has it as \"fault\" in "
	       "--log.\n";
}

const char *fault_name(enum fault_kind kind)
{
	return kinds[kind].name;
}

/* Decimal digits up to 2^40, with k or M behind them; the place behind, or NULL. */
static const char *take_number(const char *p, uint64_t *ret)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*p))
		return NULL;
	for (; isdigit((unsigned char)*p); p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > UINT64_C(1) << 40)
			return NULL;
	}
	if (*p == 'k' || *p == 'M')
		v *= *p++ == 'k' ? 1024 : 1024 * 1024;
	*ret = v;
	return p;
}

static int fail(const char *text, const char *why, struct err *e)
{
	return err_set(e, ERR_USAGE, 0, "fault '%.80s': %s", text, why);
}

static int find_kind(const char *text, size_t n)
{
	for (int k = FAULT_NONE + 1; k < FAULT_KINDS; k++)
		if (strlen(kinds[k].name) == n && memcmp(kinds[k].name, text, n) == 0)
			return k;
	return -1;
}

/* "create:503x2": no name ends in x and digits, so what does is a count. */
static size_t name_length(const char *text)
{
	size_t n = strcspn(text, "@"), digits = 0;

	if (text[n])
		return n;
	while (digits < n && isdigit((unsigned char)text[n - 1 - digits]))
		digits++;
	return digits && digits < n && text[n - 1 - digits] == 'x' ? n - 1 - digits : n;
}

int faults_parse(struct faults *f, const char *text, struct err *e)
{
	struct fault r = { .left = -1 };
	size_t n = name_length(text);
	const char *p = text + n;
	int kind = find_kind(text, n);
	uint64_t times;

	if (kind < 0)
		return fail(text, "unknown; --help lists the rules", e);
	r.kind = (enum fault_kind)kind;
	if (kinds[kind].wants_at && *p != '@')
		return fail(text, "wants @ and a number", e);
	if (*p == '@') {
		if (!kinds[kind].wants_at)
			return fail(text, "takes no @", e);
		p = take_number(p + 1, &r.at);
		if (!p)
			return fail(text, "wants a number behind @", e);
	}
	if (*p == 'x') {
		p = take_number(p + 1, &times);
		if (!p || times == 0)
			return fail(text, "wants a number of times behind x", e);
		r.left = (int64_t)times;
	}
	if (*p)
		return fail(text, "has something behind it that is no part of it", e);
	if (f->n == FAULTS_MAX)
		return err_set(e, ERR_LIMIT, 0, "more than %d faults", FAULTS_MAX);
	f->fault[f->n++] = r;
	return 0;
}

struct fault *faults_find(struct faults *f, enum fault_kind kind)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->fault[i].kind == kind && f->fault[i].left != 0)
			return &f->fault[i];
	return NULL;
}

bool fault_act(struct fault *r)
{
	if (r->left == 0)
		return false;
	if (r->left > 0)
		r->left--;
	return true;
}
