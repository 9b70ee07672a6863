/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/requirements.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/limits.h"
#include "proxy/problems.h"
#include "proxy/yaml.h"

const char *const package_tool_names[TOOLS] = { "pip", "npm" };

void requirements_release(struct requirements *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->list[i]);
	free(r->list);
	free(r->file);
	*r = (struct requirements){ .file = NULL };
}

/* ---- one requirement: a text that is read, and what it becomes ---- */

struct reading {
	const char *at;
	struct buf out;
	struct err *e;
};

static void skip_space(struct reading *r)
{
	r->at += strspn(r->at, " \t");
}

static void put(struct reading *r, const char *p, size_t n)
{
	buf_put(&r->out, p, n, NULL); /* never longer than what was measured: see normalise */
}

static bool is_mark(char c)
{
	return c == '-' || c == '_' || c == '.';
}

/* Letters, digits and inside them '-', '_' and '.': in lower case, runs of those as one '-'. */
static bool read_name(struct reading *r)
{
	const char *s = r->at;

	while (isalnum((unsigned char)*s) || (is_mark(*s) && s > r->at)) {
		char c = is_mark(*s) ? '-' : (char)tolower((unsigned char)*s);

		s++;
		if (c == '-' && is_mark(*s))
			continue;
		put(r, &c, 1);
	}
	if (s == r->at || is_mark(s[-1]))
		return false;
	r->at = s;
	return true;
}

/* [a,b] */
static bool read_extras(struct reading *r)
{
	if (*r->at != '[')
		return true;
	do {
		put(r, r->at++, 1);
		skip_space(r);
		if (!read_name(r))
			return false;
		skip_space(r);
	} while (*r->at == ',');
	if (*r->at != ']')
		return false;
	put(r, r->at++, 1);
	return true;
}

/* >=1.0,<2 */
static bool read_versions(struct reading *r)
{
	static const char *const comparisons[] = { "===", "==", "~=", "!=", "<=", ">=", "<", ">" };
	static const char of_version[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!+*_-";
	bool comma = false;

	for (;;) {
		size_t i = 0, n;

		while (i < ARRAY_LEN(comparisons) &&
		       strncmp(r->at, comparisons[i], strlen(comparisons[i])) != 0)
			i++;
		if (i == ARRAY_LEN(comparisons))
			return !comma;
		put(r, comparisons[i], strlen(comparisons[i]));
		r->at += strlen(comparisons[i]);
		skip_space(r);
		n = strspn(r->at, of_version);
		if (!n)
			return false;
		put(r, r->at, n);
		r->at += n;
		skip_space(r);
		comma = *r->at == ',';
		if (!comma)
			return true;
		put(r, r->at++, 1);
		skip_space(r);
	}
}

static bool read_url(struct reading *r)
{
	size_t n;

	r->at++;
	skip_space(r);
	n = strcspn(r->at, " \t");
	put(r, " @ ", 3);
	put(r, r->at, n);
	r->at += n;
	return n > 0;
}

/* ; python_version < "3.9" */
static bool read_marker(struct reading *r)
{
	const char *hashes = strstr(r->at, " --");
	size_t n = hashes ? (size_t)(hashes - r->at) : strlen(r->at), from;

	if (*r->at != ';')
		return true;
	from = 1 + strspn(r->at + 1, " \t");
	while (n > from && isspace((unsigned char)r->at[n - 1]))
		n--;
	if (n <= from)
		return false;
	put(r, "; ", 2);
	put(r, r->at + from, n - from);
	r->at += n;
	return true;
}

/* --hash=sha256:0123abcd, as lock files have them */
static bool read_hashes(struct reading *r)
{
	static const char option[] = "--hash=";

	for (;;) {
		size_t name, digits;

		skip_space(r);
		if (strncmp(r->at, option, strlen(option)) != 0)
			return true;
		name = strlen(option) +
		       strspn(r->at + strlen(option), "abcdefghijklmnopqrstuvwxyz0123456789");
		if (r->at[name] != ':')
			return false;
		digits = strspn(r->at + name + 1, "0123456789abcdefABCDEF");
		if (!digits)
			return false;
		put(r, " ", 1);
		put(r, r->at, name + 1 + digits);
		r->at += name + 1 + digits;
	}
}

static bool read_pip(struct reading *r)
{
	if (!read_name(r))
		return false;
	skip_space(r);
	if (!read_extras(r))
		return false;
	skip_space(r);
	if (*r->at == '@' ? !read_url(r) : !read_versions(r))
		return false;
	skip_space(r);
	return read_marker(r) && read_hashes(r) && !*r->at;
}

/* NAME, @SCOPE/NAME, and behind an '@' whatever npm makes of it. */
static bool read_npm(struct reading *r)
{
	static const char of_name[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-";
	size_t n = 0, part;

	if (*r->at == '@') {
		n = 1 + strspn(r->at + 1, of_name);
		if (n == 1 || r->at[n] != '/')
			return false;
		n++;
	}
	part = strspn(r->at + n, of_name);
	if (!part || r->at[n] == '.' || r->at[n] == '-')
		return false;
	n += part;
	if (r->at[n] == '@' ? !r->at[n + 1] : r->at[n] != 0)
		return false;
	put(r, r->at, strlen(r->at));
	return true;
}

static const char *const forms[TOOLS] = {
	"NAME, NAME==VERSION, NAME[EXTRA]>=VERSION; MARKER or NAME @ URL",
	"NAME, NAME@VERSION, NAME@RANGE, @SCOPE/NAME@VERSION or NAME@URL",
};

static int check_text(const char *text, enum package_tool tool, struct err *e)
{
	for (const char *s = text; *s; s++)
		if ((unsigned char)*s < 0x20 && *s != '\t')
			return err_set(e, ERR_PIPELINE, 0, "a line break or control character");
	if (*text == '-')
		return err_set(e, ERR_PIPELINE, 0,
		               "'%.60s': an option is no requirement; what %s is to know goes "
		               "into its variables (--env, --pass-env)",
		               text, package_tool_names[tool]);
	if (strlen(text) > LIMIT_REQUIREMENT)
		return err_set(e, ERR_PIPELINE, 0, "'%.60s...': more than %d bytes", text,
		               LIMIT_REQUIREMENT);
	return 0;
}

static char *normalise(enum package_tool tool, const char *text, struct err *e)
{
	auto_free char *copy = NULL;
	struct reading r = { .e = e };
	char *ret = NULL;
	size_t n;

	text += strspn(text, " \t");
	if (check_text(text, tool, e) < 0)
		return NULL;
	n = strlen(text);
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	copy = strndup(text, n);
	if (!copy) {
		err_set(e, ERR_NO_MEMORY, 0, "requirements");
		return NULL;
	}
	r.at = copy;
	buf_init(&r.out, 2 * n + 16); /* a space or two more at most for each part */
	if (tool == TOOL_PIP ? read_pip(&r) : read_npm(&r))
		ret = buf_take_str(&r.out, e);
	else
		err_set(e, ERR_PIPELINE, 0, "'%.80s' is no requirement of %s: want %s", copy,
		        package_tool_names[tool], forms[tool]);
	buf_release(&r.out);
	return ret;
}

int requirements_add(struct requirements *r, enum package_tool tool, const char *text,
                     struct err *e)
{
	char *one = normalise(tool, text, e), **more;

	if (!one)
		return -1;
	r->bytes += strlen(one) + 1;
	if (r->n >= LIMIT_REQUIREMENTS || r->bytes > LIMIT_REQUIREMENTS_BYTES) {
		free(one);
		return err_set(e, ERR_PIPELINE, 0, "more than %d requirements or %d KiB of them",
		               LIMIT_REQUIREMENTS, LIMIT_REQUIREMENTS_BYTES / 1024);
	}
	more = realloc(r->list, (r->n + 1) * sizeof(*more));
	if (!more) {
		free(one);
		return err_set(e, ERR_NO_MEMORY, 0, "requirements");
	}
	r->list = more;
	more[r->n++] = one;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void requirements_sort(struct requirements *r)
{
	size_t kept = 0;

	if (!r->n)
		return;
	qsort(r->list, r->n, sizeof(*r->list), by_text);
	for (size_t i = 1; i < r->n; i++) {
		if (strcmp(r->list[kept], r->list[i]) == 0)
			free(r->list[i]);
		else
			r->list[++kept] = r->list[i];
	}
	r->n = kept + 1;
}

void requirements_digest(const struct requirements *r, enum package_tool tool, char hex[SHA256_HEX])
{
	struct hash h;

	hash_init(&h);
	hash_update(&h, package_tool_names[tool], strlen(package_tool_names[tool]));
	for (size_t i = 0; i < r->n; i++) {
		hash_update(&h, "\n", 1);
		hash_update(&h, r->list[i], strlen(r->list[i]));
	}
	hash_hex(&h, hex);
}

/* ---- files ---- */

static void add_line(struct requirements *r, enum package_tool tool, const char *text, int line,
                     struct problems *found)
{
	struct err e = ERR_INIT;

	if (requirements_add(r, tool, text, &e) < 0)
		problems_add(found, line, "%s", e.msg);
}

/* A comment begins a line or follows a space. */
static void cut_comment(char *line)
{
	for (char *s = line; *s; s++)
		if (*s == '#' && (s == line || isspace((unsigned char)s[-1]))) {
			*s = 0;
			return;
		}
}

/* Lines that end in a backslash go on. */
static void parse_lines(struct requirements *r, char *text, struct problems *found)
{
	int number = 1;

	while (*text) {
		char *line = text, *to = text;
		int first = number;
		bool more;

		do {
			size_t n = strcspn(text, "\n");

			memmove(to, text, n);
			to += n;
			text += n + (text[n] == '\n');
			number++;
			while (to > line && (to[-1] == '\r'))
				to--;
			more = to > line && to[-1] == '\\' && *text;
			if (to > line && to[-1] == '\\')
				to[-1] = ' ';
		} while (more);
		if (to < text)
			*to = 0;
		cut_comment(line);
		if (line[strspn(line, " \t")])
			add_line(r, TOOL_PIP, line, first, found);
	}
}

static void on_mistake(void *arg, int line, const char *what)
{
	problems_add(arg, line, "%s", what);
}

static void add_dependency(struct requirements *r, const struct tree *v, struct problems *found)
{
	char text[LIMIT_REQUIREMENT + 2];

	if (v->is_repeated)
		return;
	if (v->type != TREE_STRING)
		problems_add(found, v->line, "dependencies: %.80s: want a string, got %s", v->key,
		             tree_type_name(v->type));
	else if ((size_t)snprintf(text, sizeof(text), "%s%s%s", v->key, *v->text ? "@" : "",
	                          v->text) >= sizeof(text))
		problems_add(found, v->line, "dependencies: %.80s: more than %d bytes", v->key,
		             LIMIT_REQUIREMENT);
	else
		add_line(r, TOOL_NPM, text, v->line, found);
}

static int parse_package_json(struct requirements *r, const char *text, size_t len,
                              struct problems *found, struct err *e)
{
	const struct tree_sink sink = { on_mistake, found };
	struct tree *root = tree_parse(text, len, &sink, e);
	const struct tree *list;

	if (!root)
		return found->n ? 0 : -1;
	list = root->type == TREE_MAP ? tree_get(root, "dependencies") : NULL;
	if (!list || list->type != TREE_MAP)
		problems_add(found, list ? list->line : root->line,
		             "want an object with 'dependencies': {NAME: VERSION}");
	else
		for (const struct tree *v = list->first; v; v = v->next)
			add_dependency(r, v, found);
	tree_free(root);
	return 0;
}

int requirements_parse(struct requirements *r, enum package_tool tool, const char *text, size_t len,
                       const char *file, struct buf *problems, struct err *e)
{
	struct problems *found = calloc(1, sizeof(*found));
	auto_free char *copy = malloc(len + 1);
	int ret = 0;

	if (!found || !copy) {
		free(found);
		return err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	}
	memcpy(copy, text, len);
	copy[len] = 0;
	if (memchr(text, 0, len))
		problems_add(found, 1, "a NUL character: this is no text");
	else if (tool == TOOL_PIP)
		parse_lines(r, copy, found);
	else
		ret = parse_package_json(r, text, len, found, e);
	if (ret == 0)
		ret = problems_report(found, file, problems, e);
	problems_release(found);
	free(found);
	return ret;
}

int requirements_read(struct requirements *r, enum package_tool tool, const char *dir,
                      struct buf *problems, struct err *e)
{
	auto_close int fd = -1;
	struct buf text;
	int ret;

	if (!r->file)
		return 0;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	buf_init(&text, LIMIT_REQUIREMENTS_FILE);
	ret = fs_read(fd, r->file, LIMIT_REQUIREMENTS_FILE, &text, e);
	if (ret < 0)
		e->code = ERR_PIPELINE;
	else
		ret = requirements_parse(r, tool, (const char *)buf_data(&text), buf_len(&text),
		                         r->file, problems, e);
	buf_release(&text);
	requirements_sort(r);
	return ret < 0 ? err_wrap(e, "requirements") : 0;
}
