/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/template.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/loop.h"

static const struct {
	const char *id, *name;
	int cpu, memory_mb;
} public_templates[] = {
	{ "m0ckbase000000000001", "base", 2, 512 },
	{ "m0ckcode000000000002", "code-interpreter-v1", 2, 1024 },
};

int templates_start(struct cloud *c, struct err *e)
{
	for (size_t i = 0; i < sizeof(public_templates) / sizeof(public_templates[0]); i++) {
		struct template *t = calloc(1, sizeof(*t));

		if (!t)
			return err_set(e, ERR_NO_MEMORY, 0, "templates");
		snprintf(t->id, sizeof(t->id), "%s", public_templates[i].id);
		snprintf(t->name, sizeof(t->name), "%s", public_templates[i].name);
		snprintf(t->build, sizeof(t->build), "00000000-0000-4000-8000-%012zx", i + 1);
		t->built = t->public = true;
		t->cpu = public_templates[i].cpu;
		t->memory_mb = public_templates[i].memory_mb;
		t->created_us = t->updated_us = now_real_us();
		t->next = c->templates;
		c->templates = t;
	}
	return 0;
}

void templates_free(struct cloud *c)
{
	while (c->templates) {
		struct template *t = c->templates;

		c->templates = t->next;
		free(t);
	}
}

bool template_name_parse(const char *text, char name[TEMPLATE_NAME_MAX],
			 char tag[TEMPLATE_NAME_MAX])
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
	char plain[TEMPLATE_NAME_MAX];
	const char *rest;
	size_t n = 0, len;

	text += strspn(text, " \t\n");
	for (; *text && n < sizeof(plain); text++)
		plain[n++] = (char)tolower((unsigned char)*text);
	while (n > 0 && n < sizeof(plain) && isspace((unsigned char)plain[n - 1]))
		n--;
	if (n == 0 || n >= sizeof(plain))
		return false;
	plain[n] = 0;
	rest = plain;
	len = strspn(rest, allowed);
	if (len > 0 && rest[len] == '/') {	/* the namespace: there is only one team */
		rest += len + 1;
		len = strspn(rest, allowed);
	}
	if (len == 0 || (rest[len] && rest[len] != ':'))
		return false;
	snprintf(name, TEMPLATE_NAME_MAX, "%.*s", (int)len, rest);
	tag[0] = 0;
	if (!rest[len])
		return true;
	rest += len + 1;
	len = strlen(rest);
	if (len == 0 || strspn(rest, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != len)
		return false;
	if (strcmp(rest, "default") != 0)
		snprintf(tag, TEMPLATE_NAME_MAX, "%s", rest);
	return true;
}

struct template *template_by_name(const struct cloud *c, const char *name)
{
	for (struct template *t = c->templates; t; t = t->next)
		if (strcmp(t->name, name) == 0 || strcmp(t->id, name) == 0)
			return t;
	return NULL;
}

static bool has_tag(const struct template *t, const char *tag)
{
	for (size_t i = 0; i < t->n_tags; i++)
		if (strcmp(t->tag[i].name, tag) == 0)
			return true;
	return false;
}

struct template *template_find(const struct cloud *c, const char *text, struct err *e)
{
	char name[TEMPLATE_NAME_MAX], tag[TEMPLATE_NAME_MAX];
	struct template *t;

	if (!template_name_parse(text, name, tag)) {
		err_set(e, ERR_INVALID_PARAMS, 0, "Invalid template ID: %.120s", text);
		return NULL;
	}
	t = template_by_name(c, name);
	if (!t)
		err_set(e, ERR_NOT_FOUND, 0, "template '%s' not found", name);
	else if (*tag && !has_tag(t, tag))
		err_set(e, ERR_NOT_FOUND, 0, "tag '%s' does not exist for template '%s'", tag,
			name);
	else
		return t;
	return NULL;
}
