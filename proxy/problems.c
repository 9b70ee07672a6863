/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/problems.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"

void problems_release(struct problems *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i].text);
	p->n = 0;
}

/* A terminal shows these. */
static void tame(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

__attribute__((format(printf, 3, 0))) static void add(struct problems *p, int line, const char *fmt,
                                                      va_list ap, const char *end)
{
	char text[400];
	int n;

	if (p->n == PROBLEMS_MAX) {
		p->dropped++;
		return;
	}
	n = vsnprintf(text, sizeof(text) - strlen(end), fmt, ap);
	if (n < 0)
		return;
	strcat(text, end); /* lint-ok: room was left */
	tame(text);
	p->list[p->n] = (struct problem){ line, strdup(text) };
	if (!p->list[p->n].text)
		p->no_memory = true;
	else
		p->n++;
}

void problems_add(struct problems *p, int line, const char *fmt, ...)
{
	va_list ap;

	p->mistakes++;
	va_start(ap, fmt);
	add(p, line, fmt, ap, "");
	va_end(ap);
}

void problems_unsupported(struct problems *p, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, line, fmt, ap, ": not built yet");
	va_end(ap);
}

/* Those of one line stay in the order in which they were found. */
static void sort_by_line(struct problems *p)
{
	for (size_t i = 1; i < p->n; i++) {
		struct problem x = p->list[i];
		size_t k = i;

		for (; k > 0 && p->list[k - 1].line > x.line; k--)
			p->list[k] = p->list[k - 1];
		p->list[k] = x;
	}
}

int problems_report(struct problems *p, const char *file, struct buf *all, struct err *e)
{
	size_t more = p->n + p->dropped - 1;
	enum err_code code = p->mistakes ? ERR_PIPELINE : ERR_UNSUPPORTED;

	if (p->no_memory)
		return err_set(e, ERR_NO_MEMORY, 0, "%s", file);
	if (p->n == 0)
		return 0;
	sort_by_line(p);
	for (size_t i = 0; all && i < p->n; i++)
		buf_printf(all, NULL, "%s:%d: %s\n", file, p->list[i].line, p->list[i].text);
	if (all && p->dropped)
		buf_printf(all, NULL, "%s: and %zu more\n", file, p->dropped);
	if (more)
		return err_set(e, code, 0, "%s:%d: %.250s (and %zu more)", file, p->list[0].line,
		               p->list[0].text, more);
	return err_set(e, code, 0, "%s:%d: %s", file, p->list[0].line, p->list[0].text);
}
