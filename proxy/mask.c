/* SPDX-License-Identifier: Apache-2.0
 *
 * The search is that of Aho and Corasick: one walk through a trie of all secrets, and for
 * each node the link to the longest other beginning of a secret that ends there as well.
 * The depth of the node is how many bytes must be carried. */
#include "proxy/mask.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/hash.h"
#include "protocol/limits.h"

enum { PIECE = 64 * 1024, ROOT = 0 };

struct node {
	unsigned child, sibling; /* 0: none, as no node leads to the root */
	unsigned fail;
	unsigned depth;
	unsigned longest; /* of the secrets that end here; 0: none */
	uint8_t byte;
};

struct trie {
	struct node *nodes;
	unsigned n, cap;
	unsigned first[256]; /* the root's children by their byte */
	unsigned version;    /* rises with each value */
	bool linked;         /* the fail links are right */
};

/* The trie is made complete at its first use, by whoever has the set only to read. */
struct mask_set {
	struct trie *trie;
};

/* --- the set --- */

static int trie_reserve(struct trie *t, size_t more, struct err *e)
{
	size_t need = t->n + more, cap = t->cap ? t->cap : 64;
	struct node *nodes;

	if (need > LIMIT_SECRETS_BYTES + 1)
		return err_set(e, ERR_LIMIT, 0, "the secrets together have more than %d bytes",
		               LIMIT_SECRETS_BYTES);
	if (need <= t->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	nodes = malloc(cap * sizeof(*nodes));
	if (!nodes)
		return err_set(e, ERR_NO_MEMORY, 0, "secrets");
	if (t->n) {
		memcpy(nodes, t->nodes, t->n * sizeof(*nodes));
		wipe(t->nodes, t->n * sizeof(*nodes));
	}
	free(t->nodes);
	t->nodes = nodes;
	t->cap = (unsigned)cap;
	return 0;
}

static unsigned trie_child(const struct trie *t, unsigned at, uint8_t byte)
{
	unsigned c;

	if (at == ROOT)
		return t->first[byte];
	for (c = t->nodes[at].child; c && t->nodes[c].byte != byte; c = t->nodes[c].sibling)
		;
	return c;
}

static unsigned trie_grow(struct trie *t, unsigned at, uint8_t byte)
{
	unsigned c = t->n++;

	t->nodes[c] = (struct node){
		.byte = byte,
		.depth = t->nodes[at].depth + 1,
		.sibling = t->nodes[at].child,
	};
	t->nodes[at].child = c;
	if (at == ROOT)
		t->first[byte] = c;
	return c;
}

static unsigned trie_step(const struct trie *t, unsigned at, uint8_t byte)
{
	for (;;) {
		unsigned c = trie_child(t, at, byte);

		if (c || at == ROOT)
			return c;
		at = t->nodes[at].fail;
	}
}

/* Children of `at` get their links; those of all nodes nearer to the root are right. */
static void link_children(struct trie *t, unsigned at, unsigned *queue, unsigned *queued)
{
	for (unsigned c = t->nodes[at].child; c; c = t->nodes[c].sibling) {
		struct node *n = &t->nodes[c];

		n->fail = at == ROOT ? ROOT : trie_step(t, t->nodes[at].fail, n->byte);
		if (n->longest != n->depth) /* no secret of its own */
			n->longest = t->nodes[n->fail].longest;
		queue[(*queued)++] = c;
	}
}

static int trie_link(struct trie *t, struct err *e)
{
	unsigned queued = 1, *queue;

	if (t->linked)
		return 0;
	queue = malloc(t->n * sizeof(*queue));
	if (!queue)
		return err_set(e, ERR_NO_MEMORY, 0, "secrets");
	queue[0] = ROOT;
	for (unsigned i = 0; i < queued; i++)
		link_children(t, queue[i], queue, &queued);
	free(queue);
	t->linked = true;
	return 0;
}

struct mask_set *mask_set_new(void)
{
	struct mask_set *m = calloc(1, sizeof(*m));

	if (m)
		m->trie = calloc(1, sizeof(*m->trie));
	if (!m || !m->trie || trie_reserve(m->trie, 1, NULL) < 0) {
		mask_set_free(m);
		return NULL;
	}
	m->trie->nodes[ROOT] = (struct node){ 0 };
	m->trie->n = 1;
	return m;
}

void mask_set_free(struct mask_set *m)
{
	if (!m)
		return;
	if (m->trie) {
		if (m->trie->nodes)
			wipe(m->trie->nodes, m->trie->cap * sizeof(*m->trie->nodes));
		free(m->trie->nodes);
		wipe(m->trie, sizeof(*m->trie));
	}
	free(m->trie);
	free(m);
}

int mask_set_add(struct mask_set *m, const char *value, bool always, struct err *e)
{
	size_t len = strlen(value), shared = 0;
	struct trie *t = m->trie;
	unsigned at = ROOT, next;

	if (len == 0 || (len < LIMIT_MASK_SECRET_MIN && !always))
		return 0;
	while (shared < len && (next = trie_child(t, at, (uint8_t)value[shared]))) {
		at = next;
		shared++;
	}
	if (trie_reserve(t, len - shared, e) < 0)
		return -1;
	for (size_t i = shared; i < len; i++)
		at = trie_grow(t, at, (uint8_t)value[i]);
	t->nodes[at].longest = t->nodes[at].depth;
	t->linked = false;
	t->version++;
	return 0;
}

bool mask_set_empty(const struct mask_set *m)
{
	return !m || m->trie->n == 1;
}

/* --- one stream --- */

void mask_init(struct mask *k, const struct mask_set *set)
{
	*k = (struct mask){ .set = set };
	buf_init(&k->carry, LIMIT_SECRETS_BYTES + PIECE);
}

void mask_release(struct mask *k)
{
	if (k->carry.mem)
		wipe(k->carry.mem, k->carry.cap);
	buf_release(&k->carry);
	free(k->spans);
	mask_init(k, k->set);
}

static int spans_reserve(struct mask *k, struct err *e)
{
	size_t cap = k->cap_spans ? 2 * k->cap_spans : 8;
	struct mask_span *spans;

	if (k->n_spans < k->cap_spans)
		return 0;
	spans = realloc(k->spans, cap * sizeof(*spans));
	if (!spans)
		return err_set(e, ERR_NO_MEMORY, 0, "masking");
	k->spans = spans;
	k->cap_spans = cap;
	return 0;
}

/* An occurrence that ends behind all others; what it overlaps becomes one with it. */
static int span_add(struct mask *k, uint64_t from, uint64_t to, struct err *e)
{
	while (k->n_spans && k->spans[k->n_spans - 1].to > from) {
		if (k->spans[k->n_spans - 1].from < from)
			from = k->spans[k->n_spans - 1].from;
		k->n_spans--;
	}
	if (spans_reserve(k, e) < 0)
		return -1;
	k->spans[k->n_spans++] = (struct mask_span){ from, to };
	return 0;
}

/* Searches carry from byte `at` on. */
static int scan(struct mask *k, size_t at, struct err *e)
{
	const struct trie *t = k->set->trie;
	const uint8_t *p = buf_data(&k->carry);
	size_t n = buf_len(&k->carry);
	unsigned node = k->node;

	for (; at < n; at++) {
		uint64_t end = k->base + at + 1;

		node = trie_step(t, node, p[at]);
		if (t->nodes[node].longest && span_add(k, end - t->nodes[node].longest, end, e) < 0)
			return -1;
		/* Where no secret goes on there is nothing to wait for. */
		while (node != ROOT && !t->nodes[node].child)
			node = t->nodes[node].fail;
	}
	k->node = node;
	return 0;
}

/* The set has grown, or the carry came out of a journal: the search begins again there. */
static int rescan(struct mask *k, struct err *e)
{
	size_t covered = mask_covered(k);

	if (trie_link(k->set->trie, e) < 0)
		return -1;
	k->n_spans = covered ? 1 : 0;
	if (covered)
		k->spans[0].to = k->base + covered;
	k->node = ROOT;
	k->version = k->set->trie->version;
	return scan(k, 0, e);
}

/* What was added to the set meanwhile, and what a journal brought. */
static int take_up(struct mask *k, struct err *e)
{
	return k->version == k->set->trie->version ? 0 : rescan(k, e);
}

/* Writes the first of the carry's bytes up to offset `end`, and the first span if it begins
 * before that. */
static int flush_some(struct mask *k, uint64_t end, struct buf *out, struct err *e)
{
	uint64_t stop = k->n_spans && k->spans[0].from < end ? k->spans[0].from : end;

	if (stop > k->base) {
		if (buf_put(out, buf_data(&k->carry), (size_t)(stop - k->base), e) < 0)
			return -1;
		buf_consume(&k->carry, (size_t)(stop - k->base));
		k->base = stop;
	}
	if (k->base == end)
		return 0;
	if (!k->begun && buf_puts(out, MASK_TEXT, e) < 0)
		return -1;
	stop = k->spans[0].to < end ? k->spans[0].to : end;
	k->begun = stop < k->spans[0].to;
	k->spans[0].from = stop;
	if (!k->begun)
		memmove(k->spans, k->spans + 1, --k->n_spans * sizeof(*k->spans));
	buf_consume(&k->carry, (size_t)(stop - k->base));
	k->base = stop;
	return 0;
}

static int flush(struct mask *k, size_t keep, struct buf *out, struct err *e)
{
	uint64_t end = k->base + buf_len(&k->carry) - keep;

	while (k->base < end)
		if (flush_some(k, end, out, e) < 0)
			return -1;
	return 0;
}

/* Bytes at p that begin no secret. */
static size_t harmless(const struct trie *t, const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && !t->first[p[i]])
		i++;
	return i;
}

static int feed_piece(struct mask *k, const uint8_t *p, size_t n, struct buf *out, struct err *e)
{
	size_t before = buf_len(&k->carry);

	if (buf_put(&k->carry, p, n, e) < 0 || scan(k, before, e) < 0)
		return -1;
	return flush(k, k->set->trie->nodes[k->node].depth, out, e);
}

int mask_feed(struct mask *k, const void *data, size_t n, struct buf *out, struct err *e)
{
	const uint8_t *p = data;

	if (mask_set_empty(k->set))
		return flush(k, 0, out, e) < 0 ? -1 : buf_put(out, data, n, e);
	if (take_up(k, e) < 0)
		return -1;
	while (n) {
		size_t plain = buf_len(&k->carry) ? 0 : harmless(k->set->trie, p, n);
		size_t piece = n - plain < PIECE ? n - plain : PIECE;

		if (plain && buf_put(out, p, plain, e) < 0)
			return -1;
		k->base += plain;
		if (feed_piece(k, p + plain, piece, out, e) < 0)
			return -1;
		p += plain + piece;
		n -= plain + piece;
	}
	return 0;
}

int mask_finish(struct mask *k, struct buf *out, struct err *e)
{
	if (!mask_set_empty(k->set) && take_up(k, e) < 0)
		return -1;
	k->node = ROOT;
	return flush(k, 0, out, e);
}

size_t mask_covered(const struct mask *k)
{
	return k->begun ? (size_t)(k->spans[0].to - k->base) : 0;
}

int mask_restore(struct mask *k, const void *carry, size_t n, size_t covered, struct err *e)
{
	if (covered > n)
		return err_set(e, ERR_INTEGRITY, 0, "masking: %zu of %zu bytes are covered",
		               covered, n);
	if (buf_put(&k->carry, carry, n, e) < 0 || spans_reserve(k, e) < 0)
		return -1;
	k->spans[0] = (struct mask_span){ k->base, k->base + covered };
	k->n_spans = covered ? 1 : 0;
	k->begun = covered > 0;
	return 0;
}

int mask_text(const struct mask_set *set, const char *p, size_t n, struct buf *out, struct err *e)
{
	struct mask k;
	int ret;

	mask_init(&k, set);
	ret = mask_feed(&k, p, n, out, e);
	if (ret == 0)
		ret = mask_finish(&k, out, e);
	mask_release(&k);
	return ret;
}
