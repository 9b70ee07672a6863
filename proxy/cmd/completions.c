/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep completions SHELL: a script for the shell, made of the tables of commands and options. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "proxy/cmd/cmd.h"

/* What an argument of that name may be; whatever is not here is a file, or free. */
static const struct {
	const char *argument, *words;
} known[] = {
	{ "TARGET", "local native e2b unix: ws:// wss://" },
	{ "LEVEL", "error warn info debug" },
	{ "FORMAT", "text json" },
	{ "off|on|HOST,...", "off on" },
};

static const struct {
	const char *command, *words;
} verbs[] = {
	{ "sandboxes", "list kill gc" },
	{ "template", "list build" },
	{ "completions", "bash zsh fish" },
};

static const char *words_of(const char *argument)
{
	for (size_t i = 0; argument && i < ARRAY_LEN(known); i++)
		if (strcmp(known[i].argument, argument) == 0)
			return known[i].words;
	return NULL;
}

static const char *verbs_of(const char *command)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].command, command) == 0)
			return verbs[i].words;
	return NULL;
}

/* Inside '...' of a shell. */
static void put_quoted(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*text);
	}
}

/* ---- bash ---- */

static void bash_words(const char *command)
{
	struct option_info o;

	for (size_t i = 0; option_of(command, i, &o); i++) {
		printf("%s ", o.name);
		if (o.e2b)
			printf("%s ", o.e2b);
	}
}

static void bash_script(void)
{
	fputs("# bash completion for farstep: . <(farstep completions bash)\n"
	      "_farstep() {\n"
	      "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} "
	      "options= verbs= i\n"
	      "\tCOMPREPLY=()\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\t[[ ${COMP_WORDS[i]} == -- ]] && return\n"
	      "\tdone\n"
	      "\tcase $before in\n",
	      stdout);
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		struct option_info o;
		bool any = false;

		for (const struct command *c = commands; c->name; c++)
			for (size_t k = 0; !any && option_of(c->name, k, &o); k++)
				if (o.argument && strcmp(o.argument, known[i].argument) == 0) {
					printf("\t%s) COMPREPLY=($(compgen -W '%s' -- \"$word\")); "
					       "return ;;\n",
					       o.name, known[i].words);
					any = true;
				}
	}
	fputs("\tesac\n\tif ((COMP_CWORD == 1)); then\n\t\tCOMPREPLY=($(compgen -W '", stdout);
	for (const struct command *c = commands; c->name; c++)
		printf("%s ", c->name);
	fputs("--help --version' -- \"$word\"))\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in\n",
	      stdout);
	for (const struct command *c = commands; c->name; c++) {
		printf("\t%s) options='", c->name);
		bash_words(c->name);
		printf("--help'");
		if (verbs_of(c->name))
			printf(" verbs='%s'", verbs_of(c->name));
		fputs(" ;;\n", stdout);
	}
	fputs("\tesac\n"
	      "\tif [[ $word == -* ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
	      "\telif ((COMP_CWORD == 2)) && [[ $verbs ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$word\"))\n"
	      "\tfi\n"
	      "}\n"
	      "complete -o default -F _farstep farstep\n",
	      stdout);
}

/* ---- zsh ---- */

/* Brackets and colons are _arguments' own. */
static void zsh_text(const char *text)
{
	for (; *text; text++) {
		if (strchr("[]:", *text))
			putchar('\\');
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*text);
	}
}

/* '--cpu[processors ...]:value:(...)' */
static void zsh_option(const char *name, const struct option_info *o)
{
	const char *words = words_of(o->argument);

	printf(" \\\n\t\t'*%s[", name);
	zsh_text(o->help);
	putchar(']');
	if (words) {
		fputs(":value:(", stdout);
		zsh_text(words);
		putchar(')');
	} else if (o->argument) {
		fputs(":value:_files", stdout);
	}
	putchar('\'');
}

static void zsh_script(void)
{
	fputs("#compdef farstep\n# zsh completion for farstep: farstep completions zsh > "
	      "DIR-OF-fpath/_farstep\n_farstep() {\n\tif ((CURRENT == 2)); then\n\t\tlocal -a names"
	      "\n\t\tnames=(\n",
	      stdout);
	for (const struct command *c = commands; c->name; c++) {
		printf("\t\t\t'%s:", c->name);
		put_quoted(c->summary);
		fputs("'\n", stdout);
	}
	fputs("\t\t)\n\t\t_describe command names\n\t\treturn\n\tfi\n\tlocal name=$words[2]\n"
	      "\tshift words\n\t((CURRENT--))\n\tcase $name in\n",
	      stdout);
	for (const struct command *c = commands; c->name; c++) {
		struct option_info o;

		printf("\t%s) _arguments", c->name);
		for (size_t i = 0; option_of(c->name, i, &o); i++) {
			zsh_option(o.name, &o);
			if (o.e2b)
				zsh_option(o.e2b, &o);
		}
		if (verbs_of(c->name))
			printf(" \\\n\t\t'1:what:(%s)'", verbs_of(c->name));
		fputs(" \\\n\t\t'*:file:_files' ;;\n", stdout);
	}
	fputs("\tesac\n}\n_farstep \"$@\"\n", stdout);
}

/* ---- fish ---- */

static void fish_option(const char *command, const char *name, const struct option_info *o)
{
	const char *words = words_of(o->argument);
	bool is_long = strncmp(name, "--", 2) == 0;

	printf("complete -c farstep -n '__fish_seen_subcommand_from %s' %s %s", command,
	       is_long ? "-l" : "-s", name + (is_long ? 2 : 1));
	if (o->argument)
		fputs(words ? " -x" : " -r", stdout);
	if (words)
		printf(" -a '%s'", words);
	fputs(" -d '", stdout);
	put_quoted(o->help);
	fputs("'\n", stdout);
}

static void fish_script(void)
{
	fputs("# fish completion for farstep: farstep completions fish | source\n", stdout);
	for (const struct command *c = commands; c->name; c++) {
		struct option_info o;

		printf("complete -c farstep -n __fish_use_subcommand -a %s -d '", c->name);
		put_quoted(c->summary);
		fputs("'\n", stdout);
		for (size_t i = 0; option_of(c->name, i, &o); i++) {
			fish_option(c->name, o.name, &o);
			if (o.e2b)
				fish_option(c->name, o.e2b, &o);
		}
		if (verbs_of(c->name))
			printf("complete -c farstep -n '__fish_seen_subcommand_from %s' -a '%s'\n",
			       c->name, verbs_of(c->name));
	}
}

/* ---- the command ---- */

int cmd_completions(struct options *o)
{
	static const struct {
		const char *name;
		void (*print)(void);
	} shells[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(shells); i++)
		if (strcmp(o->args[0], shells[i].name) == 0) {
			shells[i].print();
			return 0;
		}
	err_set(&e, ERR_USAGE, 0, "completions '%.64s': there are bash, zsh and fish", o->args[0]);
	return cmd_fail(&e);
}
