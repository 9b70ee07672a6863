/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "protocol/base/cleanup.h"

enum {
	JSON_DEPTH = 64, /* deeper than a tree may be: that is told with its line */
	UNIT_MAX = 6,    /* what one byte of JSON may become */
};

/* An open list or mapping. */
struct level {
	struct tree *node;
	struct tree *last; /* child */
	char *key;         /* a mapping's key whose value comes next */
	int key_line;
};

struct builder {
	yaml_parser_t parser;
	yaml_event_t event;
	bool has_event;
	const char *text;
	const struct tree_sink *sink;
	struct level levels[YAML_DEPTH];
	int depth;
	size_t nodes;
	struct tree *root;
	struct err *e;
};

/* --- nodes --- */

/* Iterative: a chain of children may be as long as the file. */
void tree_free(struct tree *t)
{
	struct tree *todo = t;

	while (todo) {
		struct tree *at = todo;

		todo = at->next;
		if (at->first) { /* its children come next, then what followed it */
			struct tree *last = at->first;

			while (last->next)
				last = last->next;
			last->next = todo;
			todo = at->first;
		}
		free(at->key);
		free(at->text);
		free(at);
	}
}

const struct tree *tree_get(const struct tree *map, const char *key)
{
	const struct tree *t;

	if (map->type != TREE_MAP)
		return NULL;
	for (t = map->first; t && strcmp(t->key, key) != 0; t = t->next)
		;
	return t;
}

const char *tree_type_name(enum tree_type t)
{
	static const char *const names[] = {
		[TREE_NULL] = "nothing",    [TREE_BOOL] = "a boolean", [TREE_NUMBER] = "a number",
		[TREE_STRING] = "a string", [TREE_LIST] = "a list",    [TREE_MAP] = "a mapping",
	};

	return names[t];
}

double tree_number(const struct tree *t)
{
	return strtod(t->text, NULL);
}

/* --- what a scalar is --- */

static size_t digits(const char *s)
{
	return strspn(s, "0123456789");
}

/* -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static bool is_number(const char *s)
{
	s += *s == '-';
	if (!digits(s) || (s[0] == '0' && digits(s) > 1))
		return false;
	s += digits(s);
	if (*s == '.') {
		if (!digits(++s))
			return false;
		s += digits(s);
	}
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '+' || *s == '-';
		if (!digits(s))
			return false;
		s += digits(s);
	}
	return *s == 0;
}

static bool is_one_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(s, *words) == 0)
			return true;
	return false;
}

static enum tree_type plain_type(const char *s)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const bools[] = {
		"true", "True", "TRUE", "false", "False", "FALSE", NULL
	};

	if (is_one_of(s, nulls))
		return TREE_NULL;
	if (is_one_of(s, bools))
		return TREE_BOOL;
	return is_number(s) ? TREE_NUMBER : TREE_STRING;
}

/* --- building --- */

static void mistake(struct builder *b, int line, const char *what)
{
	b->sink->on_mistake(b->sink->arg, line, what);
}

static int event_line(const struct builder *b)
{
	return (int)b->event.start_mark.line + 1;
}

static int no_memory(struct builder *b)
{
	return err_set(b->e, ERR_NO_MEMORY, 0, "pipeline file");
}

/* Told, and nothing more can be made of the text. */
static int hopeless(struct builder *b, int line, const char *what)
{
	mistake(b, line, what);
	return err_set(b->e, ERR_PIPELINE, 0, "line %d: %s", line, what);
}

/* The reader of characters runs ahead of the lines: it knows only the byte. */
static int problem_line(const struct builder *b)
{
	const char *at = b->text, *end = at + b->parser.problem_offset;
	int line = 1;

	if (b->parser.error != YAML_READER_ERROR)
		return (int)b->parser.problem_mark.line + 1;
	while ((at = memchr(at, '\n', (size_t)(end - at)))) {
		at++;
		line++;
	}
	return line;
}

static int syntax_error(struct builder *b)
{
	const yaml_parser_t *p = &b->parser;
	char what[200];

	if (p->error == YAML_MEMORY_ERROR)
		return no_memory(b);
	if (p->context && p->problem)
		snprintf(what, sizeof(what), "no YAML: %s, %s", p->context, p->problem);
	else
		snprintf(what, sizeof(what), "no YAML: %s",
		         p->problem ? p->problem : "cannot be read");
	return hopeless(b, problem_line(b), what);
}

static int next_event(struct builder *b)
{
	if (b->has_event)
		yaml_event_delete(&b->event);
	b->has_event = yaml_parser_parse(&b->parser, &b->event);
	return b->has_event ? 0 : syntax_error(b);
}

static void attach(struct builder *b, struct tree *t)
{
	struct level *l = b->depth ? &b->levels[b->depth - 1] : NULL;

	if (!l) {
		b->root = t;
		return;
	}
	t->key = take_ptr(l->key);
	t->key_line = l->key_line;
	if (l->last)
		l->last->next = t;
	else
		l->node->first = t;
	l->last = t;
	l->node->count++;
}

static struct tree *add_node(struct builder *b, enum tree_type type)
{
	struct tree *t;

	if (++b->nodes > YAML_NODES) {
		hopeless(b, event_line(b), "too many values in one file");
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		no_memory(b);
		return NULL;
	}
	t->type = type;
	t->line = event_line(b);
	attach(b, t);
	return t;
}

static int open_level(struct builder *b, enum tree_type type)
{
	struct tree *t;
	char what[64];

	if (b->depth == YAML_DEPTH) {
		snprintf(what, sizeof(what), "nested deeper than %d levels", YAML_DEPTH);
		return hopeless(b, event_line(b), what);
	}
	t = add_node(b, type);
	if (!t)
		return -1;
	b->levels[b->depth++] = (struct level){ .node = t };
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct tree *const *x = a, *const *y = b;
	int c = strcmp((*x)->key, (*y)->key);

	return c ? c : (*x)->key_line - (*y)->key_line;
}

static int tell_repeated(struct builder *b, struct tree **sorted, size_t n)
{
	size_t first = 0;
	char what[200];

	for (size_t i = 1; i < n; i++) {
		if (strcmp(sorted[i]->key, sorted[first]->key) != 0) {
			first = i;
			continue;
		}
		sorted[i]->is_repeated = true;
		snprintf(what, sizeof(what), "duplicate key '%.64s' (first in line %d)",
		         sorted[i]->key, sorted[first]->key_line);
		mistake(b, sorted[i]->key_line, what);
	}
	return 0;
}

static int find_repeated(struct builder *b, struct tree *map)
{
	auto_free struct tree **sorted = NULL;
	size_t n = 0;

	if (map->count < 2)
		return 0;
	sorted = malloc(map->count * sizeof(struct tree *));
	if (!sorted)
		return no_memory(b);
	for (struct tree *t = map->first; t; t = t->next)
		sorted[n++] = t;
	qsort(sorted, n, sizeof(struct tree *), by_key);
	return tell_repeated(b, sorted, n);
}

static int close_level(struct builder *b)
{
	struct tree *t = b->levels[--b->depth].node;

	return t->type == TREE_MAP ? find_repeated(b, t) : 0;
}

/* Does a key come next? */
static bool wants_key(const struct builder *b)
{
	const struct level *l = b->depth ? &b->levels[b->depth - 1] : NULL;

	return l && l->node->type == TREE_MAP && !l->key;
}

static int on_key(struct builder *b, const char *text)
{
	struct level *l = &b->levels[b->depth - 1];

	l->key = strdup(text);
	l->key_line = event_line(b);
	return l->key ? 0 : no_memory(b);
}

static int on_scalar(struct builder *b)
{
	const char *text = (const char *)b->event.data.scalar.value;
	bool plain = b->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct tree *t;

	if (strlen(text) != b->event.data.scalar.length)
		mistake(b, event_line(b), "a NUL character");
	if (b->event.data.scalar.tag)
		mistake(b, event_line(b), "tags (!x) are not supported: quotes make a string");
	if (wants_key(b))
		return on_key(b, text);
	t = add_node(b, plain ? plain_type(text) : TREE_STRING);
	if (!t)
		return -1;
	t->text = strdup(text);
	return t->text ? 0 : no_memory(b);
}

static int on_alias(struct builder *b)
{
	mistake(b, event_line(b), "aliases (*x) are not supported: write the value out");
	if (wants_key(b))
		return on_key(b, "*");
	return add_node(b, TREE_NULL) ? 0 : -1;
}

static int on_collection(struct builder *b, enum tree_type type, const unsigned char *tag)
{
	if (tag)
		mistake(b, event_line(b), "tags (!x) are not supported");
	if (wants_key(b))
		return hopeless(b, event_line(b), "a key must be a plain word or a string");
	return open_level(b, type);
}

static void refuse_anchor(struct builder *b, const unsigned char *anchor)
{
	if (anchor)
		mistake(b, event_line(b),
		        "anchors (&x) are not supported: write the value out where it is needed");
}

static int on_document(struct builder *b)
{
	return b->root ? hopeless(b, event_line(b), "a second document (after '---')") : 0;
}

/* One event: 1 at the end of the text. */
static int on_event(struct builder *b)
{
	switch (b->event.type) {
	case YAML_DOCUMENT_START_EVENT:
		return on_document(b);
	case YAML_SCALAR_EVENT:
		refuse_anchor(b, b->event.data.scalar.anchor);
		return on_scalar(b);
	case YAML_ALIAS_EVENT:
		return on_alias(b);
	case YAML_SEQUENCE_START_EVENT:
		refuse_anchor(b, b->event.data.sequence_start.anchor);
		return on_collection(b, TREE_LIST, b->event.data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		refuse_anchor(b, b->event.data.mapping_start.anchor);
		return on_collection(b, TREE_MAP, b->event.data.mapping_start.tag);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return close_level(b);
	case YAML_STREAM_END_EVENT:
		return 1;
	default:
		return 0;
	}
}

static int build(struct builder *b)
{
	int got = 0;

	while (got == 0)
		got = next_event(b) < 0 ? -1 : on_event(b);
	if (got < 0)
		return -1;
	if (!b->root) {
		b->root = calloc(1, sizeof(*b->root));
		if (!b->root)
			return no_memory(b);
		b->root->line = 1;
	}
	return 0;
}

static struct tree *parse_yaml(const char *text, size_t len, const struct tree_sink *sink,
                               struct err *e)
{
	struct builder b = { .text = text, .sink = sink, .e = e };
	struct tree *ret = NULL;

	if (!yaml_parser_initialize(&b.parser)) {
		no_memory(&b);
		return NULL;
	}
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, len);
	yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
	if (build(&b) == 0)
		ret = take_ptr(b.root);
	while (b.depth > 0)
		free(b.levels[--b.depth].key);
	if (b.has_event)
		yaml_event_delete(&b.event);
	yaml_parser_delete(&b.parser);
	tree_free(b.root);
	return ret;
}

static bool is_json(const char *text, size_t len)
{
	size_t blank = 0;

	while (blank < len && strchr(" \t\r\n", text[blank]) && text[blank])
		blank++;
	return blank < len && (text[blank] == '{' || text[blank] == '[') &&
	       json_check(text, len, len, JSON_DEPTH, NULL) == 0;
}

struct tree *tree_parse(const char *text, size_t len, const struct tree_sink *sink, struct err *e)
{
	struct tree *ret = NULL;
	struct buf yaml;

	if (!is_json(text, len))
		return parse_yaml(text, len, sink, e);
	buf_init(&yaml, UNIT_MAX * len);
	if (yaml_from_json(text, len, &yaml, e) == 0)
		ret = parse_yaml((const char *)buf_data(&yaml), buf_len(&yaml), sink, e);
	buf_release(&yaml);
	return ret;
}
