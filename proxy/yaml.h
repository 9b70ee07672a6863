/* SPDX-License-Identifier: Apache-2.0
 *
 * yaml - a YAML or JSON text as a small tree whose nodes know their lines (yaml.c is the only
 * file that includes libyaml).
 *
 * Plain scalars are typed as in JSON: true, false, null (also ~ and nothing at all) and numbers
 * as JSON writes them; everything else, `yes`, `no`, `on`, `007` and `1_000` too, is a string.
 * A text that is JSON means what JSON means by it.
 * Refused: anchors and aliases, tags, duplicate keys, keys that are no scalars, NUL characters,
 * more than one document, more than YAML_DEPTH levels or YAML_NODES nodes. */
#ifndef FARSTEP_PROXY_YAML_H
#define FARSTEP_PROXY_YAML_H

#include <stdbool.h>

#include "protocol/base/buf.h"
#include "protocol/base/json.h"

enum { YAML_DEPTH = 24, YAML_NODES = 500000 };

enum tree_type { TREE_NULL, TREE_BOOL, TREE_NUMBER, TREE_STRING, TREE_LIST, TREE_MAP };

struct tree {
	enum tree_type type;
	int line;		/* from 1 */
	char *key;		/* in a mapping; NULL elsewhere */
	int key_line;
	char *text;		/* of a scalar, as written; NULL for lists and mappings */
	struct tree *first, *next;
	size_t count;		/* children */
	bool is_repeated;	/* its key stood in this mapping before (has been reported) */
};

/* Where mistakes go: each is told, the tree is made as far as it makes sense. */
struct tree_sink {
	void (*on_mistake)(void *arg, int line, const char *what);
	void *arg;
};

/* Valid JSON as YAML that means the same, line by line: characters that YAML refuses or takes for
 * ends of lines are escaped, pairs of surrogates become their character, "\/" becomes "/". */
int yaml_from_json(const char *text, size_t len, struct buf *out, struct err *e);

/* NULL when it is no YAML (then that is told too) or memory runs out (e).  An empty text is
 * a node of TREE_NULL.  The caller frees. */
struct tree *tree_parse(const char *text, size_t len, const struct tree_sink *sink, struct err *e);
void tree_free(struct tree *t);		/* NULL is fine */
const struct tree *tree_get(const struct tree *map, const char *key);	/* NULL if absent */
const char *tree_type_name(enum tree_type t);	/* "a string", "a mapping" ... */
/* The number of a TREE_NUMBER. */
double tree_number(const struct tree *t);

#endif
