/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees are compared as one line of text: {key:value}, [a,b], 'string', true, 1.5, ~. */
#include "tests/unit/check.h"

#include "protocol/base/cleanup.h"
#include "proxy/yaml.h"

struct told {
	char text[2000]; /* "LINE: what\n" of every mistake */
	int n;
};

static void on_mistake(void *arg, int line, const char *what)
{
	struct told *t = arg;
	size_t len = strlen(t->text);

	snprintf(t->text + len, sizeof(t->text) - len, "%d: %s\n", line, what);
	t->n++;
}

static void dump(const struct tree *t, struct buf *out)
{
	if (t->type == TREE_STRING) {
		buf_printf(out, NULL, "'%s'", t->text);
		return;
	}
	if (t->type == TREE_NULL || t->text) {
		buf_puts(out, t->type == TREE_NULL ? "~" : t->text, NULL);
		return;
	}
	buf_putc(out, t->type == TREE_MAP ? '{' : '[', NULL);
	for (const struct tree *c = t->first; c; c = c->next) {
		if (c != t->first)
			buf_putc(out, ',', NULL);
		if (c->key)
			buf_printf(out, NULL, "%s:", c->key);
		dump(c, out);
	}
	buf_putc(out, t->type == TREE_MAP ? '}' : ']', NULL);
}

static struct tree *parse(const char *text, size_t n, struct told *told, struct err *e)
{
	struct tree_sink sink = { on_mistake, told };

	memset(told, 0, sizeof(*told));
	return tree_parse(text, n, &sink, e);
}

#define assert_tree(text, want) assert_tree_n(text, strlen(text), want)

static void assert_tree_n(const char *text, size_t n, const char *want)
{
	struct err e = ERR_INIT;
	struct told told;
	struct buf out;
	struct tree *t = parse(text, n, &told, &e);

	if (!t)
		fail_msg("%s: %s", text, e.msg);
	assert_string_equal(told.text, "");
	buf_init(&out, 4096);
	dump(t, &out);
	assert_string_equal(buf_cstr(&out, NULL), want);
	buf_release(&out);
	tree_free(t);
}

/* The mistakes; whether a tree was made all the same. */
static void assert_told(const char *text, const char *want, bool has_tree)
{
	struct err e = ERR_INIT;
	struct told told;
	struct tree *t = parse(text, strlen(text), &told, &e);

	assert_string_equal(told.text, want);
	assert_int_equal(t != NULL, has_tree);
	if (!t)
		assert_int_equal(e.code, ERR_PIPELINE);
	tree_free(t);
}

TEST(plain_scalars_have_the_types_of_json)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "true", "true" },
		{ "True", "True" },
		{ "FALSE", "FALSE" },
		{ "null", "~" },
		{ "~", "~" },
		{ "", "~" },
		{ "# nothing", "~" },
		{ "0", "0" },
		{ "-0", "-0" },
		{ "42", "42" },
		{ "-1.5e+10", "-1.5e+10" },
		{ "1E3", "1E3" },
		{ "0.5", "0.5" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_tree(rows[i].text, rows[i].want);
}

TEST(what_json_would_not_call_a_number_or_a_boolean_is_a_string)
{
	static const char *const texts[] = {
		"yes",  "no",    "on",  "off",  "y",    "N",          "007",   "1_000",
		"0x10", "0o7",   "1.",  ".5",   "1e",   "+1",         "1e+",   ".inf",
		".nan", "12:30", "1 2", "tRUE", "nULL", "2026-11-25", "a b c",
	};
	char want[64];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		snprintf(want, sizeof(want), "'%s'", texts[i]);
		assert_tree(texts[i], want);
	}
}

TEST(quotes_make_a_string_of_anything)
{
	assert_tree("\"true\"", "'true'");
	assert_tree("'12'", "'12'");
	assert_tree("\"\"", "''");
	assert_tree("|\n  1\n", "'1\n'");
	assert_tree("\"a\\u00e9\\n\"", "'a\xc3\xa9\n'");
}

TEST(lists_and_mappings_keep_their_order)
{
	assert_tree("b: 1\na: [x, {y: 2}]\nc:\n  - 3\n  -\n", "{b:1,a:['x',{y:2}],c:[3,~]}");
	assert_tree("{}", "{}");
	assert_tree("[]", "[]");
	assert_tree("1: one\ntrue: two\n", "{1:'one',true:'two'}");
}

TEST(json_is_read_as_it_is)
{
	assert_tree("{\"a\": [1, true, null, \"s\", {\"b\": {}}], \"c\": -1.5e3}",
	            "{a:[1,true,~,'s',{b:{}}],c:-1.5e3}");
}

TEST(json_means_what_json_means)
{
	/* What YAML folds, refuses or does not know. */
	assert_tree("[\"a\xe2\x80\xa8"
	            "b\xe2\x80\xa9"
	            "c\xc2\x85"
	            "d\"]",
	            "['a\xe2\x80\xa8"
	            "b\xe2\x80\xa9"
	            "c\xc2\x85"
	            "d']");
	assert_tree("[\"\x7f\xc2\x80\xef\xbb\xbf\xef\xbf\xbf\"]",
	            "['\x7f\xc2\x80\xef\xbb\xbf\xef\xbf\xbf']");
	assert_tree("[\"\\ud83d\\ude00\\u00e9\\/\\\\u\\b\\f\\n\\r\\t\\\"\"]",
	            "['\xf0\x9f\x98\x80\xc3\xa9/\\u\b\f\n\r\t\"']");
	assert_tree(" \n{\"k\xe2\x80\xa8\":\"\xf0\x9f\x98\x80\"}\n",
	            "{k\xe2\x80\xa8:'\xf0\x9f\x98\x80'}");
}

TEST(json_with_a_mistake_is_told_as_yaml)
{
	assert_told("{\"a\": 1,\n\"a\": 2}\n", "2: duplicate key 'a' (first in line 1)\n", true);
	assert_told("{\"a\": \"b\\u0000\"}\n", "1: a NUL character\n", true);
}

TEST(nodes_know_their_lines)
{
	static const char text[] = "# first\na: 1\nb:\n  - x\n  -\n    y: 2\n";
	struct err e = ERR_INIT;
	struct told told;
	struct tree *t = parse(text, strlen(text), &told, &e);
	const struct tree *b;

	assert_non_null(t);
	assert_int_equal(t->line, 2);
	assert_int_equal(tree_get(t, "a")->line, 2);
	b = tree_get(t, "b");
	assert_int_equal(b->key_line, 3);
	assert_int_equal(b->count, 2);
	assert_int_equal(b->first->line, 4);
	assert_int_equal(tree_get(b->first->next, "y")->line, 6);
	assert_null(tree_get(t, "c"));
	assert_null(tree_get(b, "x")); /* no mapping */
	tree_free(t);
}

TEST(numbers_are_what_they_say)
{
	struct err e = ERR_INIT;
	struct told told;
	struct tree *t = parse("-2.5e2", 6, &told, &e);

	assert_non_null(t);
	assert_true(tree_number(t) == -250);
	tree_free(t);
}

TEST(what_can_hide_or_repeat_a_value_is_refused_with_its_line)
{
	assert_told("a: &x 1\nb: *x\n",
	            "1: anchors (&x) are not supported: write the value out where it is needed\n"
	            "2: aliases (*x) are not supported: write the value out\n",
	            true);
	assert_told("a: &x [1]\n",
	            "1: anchors (&x) are not supported: write the value out where it is needed\n",
	            true);
	assert_told("a: &x {b: 1}\n",
	            "1: anchors (&x) are not supported: write the value out where it is needed\n",
	            true);
	assert_told("a: !!str 1\n", "1: tags (!x) are not supported: quotes make a string\n", true);
	assert_told("a: !x [1]\n", "1: tags (!x) are not supported\n", true);
	assert_told("a: \"b\\0c\"\n", "1: a NUL character\n", true);
	assert_told("a: 1\nb: 2\na: 3\nb: 4\na: 5\n",
	            "3: duplicate key 'a' (first in line 1)\n"
	            "5: duplicate key 'a' (first in line 1)\n"
	            "4: duplicate key 'b' (first in line 2)\n",
	            true);
	assert_told("a: 1\n---\nb: 2\n", "2: a second document (after '---')\n", false);
	assert_told("? [a]\n: 1\n", "1: a key must be a plain word or a string\n", false);
	assert_told("? {a: 1}\n: 1\n", "1: a key must be a plain word or a string\n", false);
}

TEST(the_first_of_repeated_keys_counts)
{
	struct err e = ERR_INIT;
	struct told told;
	struct tree *t = parse("a: 1\na: 2\n", 10, &told, &e);

	assert_non_null(t);
	assert_string_equal(tree_get(t, "a")->text, "1");
	assert_false(t->first->is_repeated);
	assert_true(t->first->next->is_repeated);
	tree_free(t);
}

TEST(what_is_no_yaml_is_told_with_its_line)
{
	static const char *const texts[] = { "a: [1, 2\n", "a: 1\n b: 2\n", "\"open\n",
		                             "a: b: c\n",  "\t- x\n",       "{a",
		                             "%BAD\n" };
	struct err e = ERR_INIT;
	struct told told;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_null(parse(texts[i], strlen(texts[i]), &told, &e));
		assert_int_equal(told.n, 1);
		assert_int_equal(e.code, ERR_PIPELINE);
		assert_non_null(strstr(told.text, ": no YAML: "));
	}
	assert_null(parse("a: 1\nb: \xff\n", 10, &told, &e));
	assert_memory_equal(told.text, "2: no YAML: ", 12);
}

TEST(lone_surrogates_and_other_encodings_are_no_text)
{
	struct err e = ERR_INIT;
	struct told told;

	assert_null(parse("a: \"\\ud800\"\n", 12, &told, &e));
	assert_null(parse("a\0:\0 \0"
	                  "1\0",
	                  8, &told, &e)); /* UTF-16 */
}

static void nested(char *out, int n)
{
	memset(out, '[', (size_t)n);
	memset(out + n, ']', (size_t)n);
	out[2 * n] = 0;
}

TEST(nesting_has_a_bound)
{
	char text[2 * YAML_DEPTH + 3];

	nested(text, YAML_DEPTH);
	assert_told(text, "", true);
	nested(text, YAML_DEPTH + 1);
	assert_told(text, "1: nested deeper than 24 levels\n", false);
}

static char *many(size_t n)
{
	char *text = malloc(2 * n + 3), *p = text;

	*p++ = '[';
	for (size_t i = 0; i < n; i++) {
		*p++ = '1';
		*p++ = ',';
	}
	*p++ = ']';
	*p = 0;
	return text;
}

TEST(the_number_of_values_has_a_bound)
{
	auto_free char *fits = many(YAML_NODES - 1);
	auto_free char *over = many(YAML_NODES);

	assert_told(fits, "", true);
	assert_told(over, "1: too many values in one file\n", false);
}

/* Freeing and looking for repeated keys take no stack and no square of time. */
TEST(a_mapping_of_very_many_keys_is_read)
{
	enum { KEYS = 100000 };
	auto_free char *text = malloc(KEYS * 16 + 1);
	struct err e = ERR_INIT;
	struct told told;
	struct tree *t;
	size_t n = 0;

	for (int i = 0; i < KEYS; i++)
		n += (size_t)sprintf(text + n, "k%d: %d\n", i, i);
	t = parse(text, n, &told, &e);
	assert_non_null(t);
	assert_int_equal(told.n, 0);
	assert_int_equal(t->count, KEYS);
	tree_free(t);
}

TEST(freeing_nothing_is_fine)
{
	tree_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_scalars_have_the_types_of_json),
		cmocka_unit_test(what_json_would_not_call_a_number_or_a_boolean_is_a_string),
		cmocka_unit_test(quotes_make_a_string_of_anything),
		cmocka_unit_test(lists_and_mappings_keep_their_order),
		cmocka_unit_test(json_is_read_as_it_is),
		cmocka_unit_test(json_means_what_json_means),
		cmocka_unit_test(json_with_a_mistake_is_told_as_yaml),
		cmocka_unit_test(nodes_know_their_lines),
		cmocka_unit_test(numbers_are_what_they_say),
		cmocka_unit_test(what_can_hide_or_repeat_a_value_is_refused_with_its_line),
		cmocka_unit_test(the_first_of_repeated_keys_counts),
		cmocka_unit_test(what_is_no_yaml_is_told_with_its_line),
		cmocka_unit_test(lone_surrogates_and_other_encodings_are_no_text),
		cmocka_unit_test(nesting_has_a_bound),
		cmocka_unit_test(the_number_of_values_has_a_bound),
		cmocka_unit_test(a_mapping_of_very_many_keys_is_read),
		cmocka_unit_test(freeing_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
