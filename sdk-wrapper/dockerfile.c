/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/dockerfile.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/cleanup.h"

enum { WORDS_MAX = 64 };

struct parser {
	const char *name;
	struct dockerfile *d;
	struct buf *problems;
	struct err *e;
	int line;		/* where the instruction begins */
	int mistakes;
	bool failed;		/* memory, not the file */
};

/* --- mistakes --- */

static void PRINTF_LIKE(2, 3) mistake(struct parser *p, const char *fmt, ...)
{
	struct err one = ERR_INIT;
	char what[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	err_set(&one, ERR_PIPELINE, 0, "%s:%d: %s", p->name, p->line, what);
	if (!p->mistakes++ && p->e)
		*p->e = one;
	if (p->problems)
		buf_printf(p->problems, NULL, "%s\n", one.msg);
}

static void no_memory(struct parser *p)
{
	if (!p->failed && !p->mistakes)
		err_set(p->e, ERR_NO_MEMORY, 0, "%s", p->name);
	p->failed = true;
}

/* --- words --- */

struct words {
	char *w[WORDS_MAX];
	size_t n;
};

static void words_release(struct words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->w[i]);
	w->n = 0;
}

/* Takes one word off *at, without its quotes; NULL at the end, or after a mistake. */
static char *take_word(struct parser *p, const char **at)
{
	const char *s = *at + strspn(*at, " \t");
	char *word, *out, quote = 0;

	if (!*s)
		return NULL;
	word = out = calloc(1, strlen(s) + 1);
	if (!word) {
		no_memory(p);
		return NULL;
	}
	for (; *s && (quote || (*s != ' ' && *s != '\t')); s++) {
		if (quote ? *s == quote : *s == '"' || *s == '\'')
			quote = quote ? 0 : *s;
		else if (*s == '\\' && quote != '\'' && s[1])
			*out++ = *++s;
		else
			*out++ = *s;
	}
	*out = 0;
	*at = s;
	if (!quote)
		return word;
	mistake(p, "a %c that is not closed", quote);
	free(word);
	return NULL;
}

static bool take_words(struct parser *p, const char *text, struct words *ret)
{
	char *word;

	*ret = (struct words){ .n = 0 };
	while ((word = take_word(p, &text))) {
		if (ret->n == WORDS_MAX) {
			mistake(p, "more than %d words", WORDS_MAX);
			free(word);
			return false;
		}
		ret->w[ret->n++] = word;
	}
	return !text[strspn(text, " \t")];
}

/* --- steps --- */

/* Takes what it is given, whether it succeeds or not. */
static void add_step(struct parser *p, enum docker_verb verb, char *a, char *b, char *c, char *d)
{
	struct dockerfile *f = p->d;
	struct docker_step *more = NULL;

	if (f->n >= DOCKERFILE_STEPS)
		mistake(p, "more than %d steps", DOCKERFILE_STEPS);
	else if (!(more = realloc(f->steps, (f->n + 1) * sizeof(*more))))
		no_memory(p);
	if (!more) {
		free(a), free(b), free(c), free(d);
		return;
	}
	f->steps = more;
	more[f->n++] = (struct docker_step){ verb, p->line, { a, b, c, d } };
}

static char *copy(struct parser *p, const char *text)
{
	char *s = strdup(text);

	if (!s)
		no_memory(p);
	return s;
}

static bool has_variable(struct parser *p, const char *verb, const char *text)
{
	if (!strchr(text, '$'))
		return false;
	mistake(p, "%s '%.60s': variables are not filled in there", verb, text);
	return true;
}

static void on_from(struct parser *p, const char *text)
{
	struct words w;

	if (!take_words(p, text, &w)) {
		words_release(&w);
		return;
	}
	if (w.n && strncmp(w.w[0], "--", 2) == 0)
		mistake(p, "FROM %.60s: sandboxes have one platform", w.w[0]);
	else if (p->d->from)
		mistake(p, "a second FROM: only one stage can be translated");
	else if (w.n != 1)
		mistake(p, w.n > 1 ? "FROM ... AS: only one stage can be translated"
				   : "FROM needs an image");
	else if (!has_variable(p, "FROM", w.w[0]))
		p->d->from = copy(p, w.w[0]);
	words_release(&w);
}

static bool is_name(const char *s, size_t n)
{
	if (!n || isdigit((unsigned char)*s))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	return true;
}

static void on_env(struct parser *p, const char *text)
{
	size_t n = strcspn(text, " \t=");
	struct words w;

	if (text[n] != '=') {	/* the old way: one name, the rest is its value */
		const char *value = text + n + strspn(text + n, " \t");

		if (!is_name(text, n) || !*value)
			mistake(p, "ENV: want NAME=VALUE");
		else
			add_step(p, DOCKER_ENV, strndup(text, n), copy(p, value), NULL, NULL);
		return;
	}
	if (take_words(p, text, &w))
		for (size_t i = 0; i < w.n; i++) {
			char *eq = strchr(w.w[i], '=');

			if (!eq || !is_name(w.w[i], (size_t)(eq - w.w[i])))
				mistake(p, "ENV '%.60s': want NAME=VALUE", w.w[i]);
			else
				add_step(p, DOCKER_ENV, strndup(w.w[i], (size_t)(eq - w.w[i])),
					 copy(p, eq + 1), NULL, NULL);
		}
	words_release(&w);
}

static void on_run(struct parser *p, const char *text)
{
	if (!*text)
		mistake(p, "RUN needs a command");
	else if (*text == '[')
		mistake(p, "RUN [...]: write it as a line for the shell");
	else if (strncmp(text, "--", 2) == 0)
		mistake(p, "RUN %.*s: cannot be translated", (int)strcspn(text, " \t="), text);
	else if (strstr(text, "<<"))
		mistake(p, "RUN: here-documents cannot be translated");
	else
		add_step(p, DOCKER_RUN, copy(p, text), NULL, NULL, NULL);
}

/* Inside the directory of the Dockerfile, and one thing. */
static bool is_source(struct parser *p, const char *source)
{
	const char *s = source;

	if (*s == '/' || strpbrk(s, "*?[")) {
		mistake(p, "COPY '%.60s': %s", source,
			*s == '/' ? "want a path relative to the Dockerfile"
				  : "patterns cannot be translated; name the directory");
		return false;
	}
	while (s && *s) {
		if (strncmp(s, "..", 2) == 0 && (!s[2] || s[2] == '/')) {
			mistake(p, "COPY '%.60s': leads out of the Dockerfile's directory", source);
			return false;
		}
		s = strchr(s, '/');
		s = s ? s + 1 : NULL;
	}
	return !has_variable(p, "COPY", source);
}

/* The flags in front; returns how many words they are, or -1. */
static int copy_flags(struct parser *p, const struct words *w, const char **owner,
		      const char **mode)
{
	size_t i = 0;

	for (; i < w->n && strncmp(w->w[i], "--", 2) == 0; i++) {
		if (strncmp(w->w[i], "--chown=", 8) == 0 && w->w[i][8]) {
			*owner = w->w[i] + 8;
		} else if (strncmp(w->w[i], "--chmod=", 8) == 0 && w->w[i][8] &&
			   strspn(w->w[i] + 8, "01234567") == strlen(w->w[i] + 8)) {
			*mode = w->w[i] + 8;
		} else {
			mistake(p, "COPY %.60s: cannot be translated", w->w[i]);
			return -1;
		}
	}
	return (int)i;
}

static void on_copy(struct parser *p, const char *text)
{
	const char *owner = "root:root", *mode = NULL, *to;
	struct words w;
	size_t first;
	int flags;

	if (*text == '[' || strstr(text, "<<")) {
		mistake(p, "COPY %s: write it as COPY SOURCE... DESTINATION",
			*text == '[' ? "[...]" : "<<");
		return;
	}
	if (!take_words(p, text, &w) || (flags = copy_flags(p, &w, &owner, &mode)) < 0)
		goto out;
	first = (size_t)flags;
	if (w.n - first < 2) {
		mistake(p, "COPY needs a source and a destination");
		goto out;
	}
	to = w.w[w.n - 1];
	if (w.n - first > 2 && to[strlen(to) - 1] != '/') {
		mistake(p, "COPY of several sources: the destination '%.60s' must end with /", to);
		goto out;
	}
	if (has_variable(p, "COPY", to) || has_variable(p, "COPY", owner))
		goto out;
	for (size_t i = first; i + 1 < w.n; i++)
		if (is_source(p, w.w[i]))
			add_step(p, DOCKER_COPY, copy(p, w.w[i]), copy(p, to), copy(p, owner),
				 mode ? copy(p, mode) : NULL);
out:
	words_release(&w);
}

static void one_word(struct parser *p, const char *verb, enum docker_verb step, const char *text)
{
	struct words w;

	if (take_words(p, text, &w)) {
		if (w.n != 1)
			mistake(p, "%s needs one word", verb);
		else if (!has_variable(p, verb, w.w[0]))
			add_step(p, step, copy(p, w.w[0]), NULL, NULL, NULL);
	}
	words_release(&w);
}

static void on_workdir(struct parser *p, const char *text)
{
	one_word(p, "WORKDIR", DOCKER_WORKDIR, text);
}

static void on_user(struct parser *p, const char *text)
{
	if (strchr(text, ':')) {
		mistake(p, "USER '%.60s': a group cannot be given", text);
		return;
	}
	one_word(p, "USER", DOCKER_USER, text);
}

/* --- lines --- */

static const struct {
	const char *verb;
	void (*on)(struct parser *p, const char *text);	/* NULL: refused, because */
	const char *why;
} verbs[] = {
	{ "FROM", on_from, NULL },
	{ "ENV", on_env, NULL },
	{ "RUN", on_run, NULL },
	{ "COPY", on_copy, NULL },
	{ "WORKDIR", on_workdir, NULL },
	{ "USER", on_user, NULL },
	{ "ADD", NULL, "use COPY, or RUN with what fetches it" },
	{ "ARG", NULL, "use ENV" },
	{ "CMD", NULL, "farstep starts the worker itself" },
	{ "ENTRYPOINT", NULL, "farstep starts the worker itself" },
	{ "EXPOSE", NULL, "every port of a sandbox is reachable" },
	{ "HEALTHCHECK", NULL, "farstep asks the worker itself" },
	{ "LABEL", NULL, "templates have none" },
	{ "MAINTAINER", NULL, "templates have none" },
	{ "ONBUILD", NULL, "there is no later build" },
	{ "SHELL", NULL, "the shell is bash" },
	{ "STOPSIGNAL", NULL, "a sandbox is ended as a whole" },
	{ "VOLUME", NULL, "a sandbox has one disk" },
};

static void on_instruction(struct parser *p, char *text)
{
	size_t n = strcspn(text, " \t"), end;
	char *rest = text + n + strspn(text + n, " \t");

	for (end = strlen(rest); end && isspace((unsigned char)rest[end - 1]); end--)
		rest[end - 1] = 0;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strlen(verbs[i].verb) != n || strncasecmp(verbs[i].verb, text, n) != 0)
			continue;
		if (!verbs[i].on)
			mistake(p, "%s cannot be translated: %s", verbs[i].verb, verbs[i].why);
		else if (!p->d->from && verbs[i].on != on_from)
			mistake(p, "%s before FROM", verbs[i].verb);
		else
			verbs[i].on(p, rest);
		return;
	}
	mistake(p, "unknown instruction '%.*s'", (int)(n < 40 ? n : 40), text);
}

/* Puts the line into `whole`, without what continues it; true: more is to come. */
static bool join_line(struct parser *p, struct buf *whole, const char *line, size_t n)
{
	bool more;

	while (n && isspace((unsigned char)line[n - 1]))
		n--;
	more = n && line[n - 1] == '\\';
	if (buf_put(whole, line, more ? n - 1 : n, NULL) < 0)
		no_memory(p);
	return more;
}

static void parse_lines(struct parser *p, const char *text, size_t len)
{
	struct buf whole CLEANUP(buf_release);
	const char *end = text + len;
	int number = 0;
	bool more = false;

	buf_init(&whole, DOCKERFILE_MAX);
	while (text < end && !p->failed) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((stop ? stop : end) - text), skip = 0;
		char *instruction;

		number++;
		while (skip < n && isspace((unsigned char)text[skip]))
			skip++;
		if (skip < n && text[skip] != '#') {	/* comments may stand between, too */
			if (!more)
				p->line = number;
			/* Blanks in front of what goes on are part of it. */
			more = join_line(p, &whole, more ? text : text + skip, more ? n : n - skip);
		} else if (number == 1 && n > 9 && strncmp(text, "# escape=", 9) == 0) {
			p->line = number;
			mistake(p, "# escape: cannot be translated");
		}
		text += n + 1;
		if (more && text < end)
			continue;
		more = false;
		if (!buf_len(&whole))
			continue;
		instruction = buf_take_str(&whole, NULL);
		if (instruction)
			on_instruction(p, instruction);
		else
			no_memory(p);
		free(instruction);
		buf_release(&whole);
		buf_init(&whole, DOCKERFILE_MAX);
	}
}

int dockerfile_parse(const char *text, size_t len, const char *name, struct dockerfile *ret,
		     struct buf *problems, struct err *e)
{
	struct parser p = { .name = name, .d = ret, .problems = problems, .e = e };

	*ret = (struct dockerfile){ .n = 0 };
	if (len > DOCKERFILE_MAX)
		return err_set(e, ERR_LIMIT, 0, "%s: over %d bytes", name, DOCKERFILE_MAX);
	p.line = 1;
	if (memchr(text, 0, len))
		mistake(&p, "has NUL bytes in it");
	else
		parse_lines(&p, text, len);
	if (!p.mistakes && !p.failed && !ret->from)
		mistake(&p, "there is no FROM");
	for (size_t i = 0; i < ret->n; i++)	/* a copy that failed */
		if (!ret->steps[i].args[0])
			no_memory(&p);
	return p.mistakes || p.failed ? -1 : 0;
}

void dockerfile_release(struct dockerfile *d)
{
	for (size_t i = 0; i < d->n; i++)
		for (size_t k = 0; k < ARRAY_LEN(d->steps[i].args); k++)
			free(d->steps[i].args[k]);
	free(d->steps);
	free(d->from);
	*d = (struct dockerfile){ .n = 0 };
}
