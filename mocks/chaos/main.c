/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep-chaos - a link that drops, delays, cuts, stalls and corrupts, by seed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mocks/chaos/link.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/version.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
	"usage: farstep-chaos --listen ADDR --to ADDR [--seed N] [--rule SPEC...] [--with-parent]\n"
	"\n"
	"Sits on a link and does to it what the rules say. ADDR is HOST:PORT (port 0: any free "
	"one)\n"
	"or unix:PATH. When it listens it prints \"ready ADDR\", then a line for each thing it "
	"does, with\n"
	"the seconds since the start in front. The same seed does the same again.\n"
	"\n"
	"  --listen ADDR    where the client connects\n"
	"  --to ADDR        where the server is\n"
	"  --seed N         decides what the rules leave to chance (1)\n"
	"  --rule SPEC...   one or more rules; may be given several times\n"
	"  --with-parent    ends when standard input closes\n"
	"  --help, --version\n"
	"\n";

static const char examples[] =
	"\n"
	"Examples:\n"
	"  farstep-chaos --listen 127.0.0.1:0 --to unix:/tmp/w.sock --rule cut@4096x1\n"
	"      the first connection breaks after 4096 bytes, the next one holds\n"
	"  farstep-chaos --listen unix:/tmp/c.sock --to unix:/tmp/w.sock --rule delay 40±10 rate "
	"128\n"
	"      a slow and distant server\n"
	"  farstep-chaos --listen unix:/tmp/c.sock --to unix:/tmp/w.sock --seed 7 --rule cut-every "
	"800±400\n"
	"      no connection lives long\n"
	"  farstep-chaos --listen unix:/tmp/c.sock --to unix:/tmp/w.sock --rule down:blackhole@1M\n"
	"      after a megabyte the server is never heard of again, though the connection stands\n"
	"\n"
	"Exit codes: 0 ended by SIGTERM, SIGINT or its parent; 2 wrong usage, or it cannot "
	"listen.\n";

struct options {
	const char *listen, *to;
	struct rules rules;
	bool with_parent;
};

/* --- the command line --- */

static int option_value(int argc, char **argv, int *i, const char **ret, struct err *e)
{
	if (*i + 1 >= argc)
		return err_set(e, ERR_USAGE, 0, "%s wants a value", argv[*i]);
	*ret = argv[++*i];
	return 0;
}

static int parse_seed(const char *text, uint64_t *ret, struct err *e)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (!*text || *end || *text == '-' || errno)
		return err_set(e, ERR_USAGE, 0, "--seed '%.60s': want a number", text);
	return 0;
}

/* All words up to the next option, so that --rule cut-every 500 delay 20 needs no quotes. */
static int parse_rules(int argc, char **argv, int *i, struct rules *ret, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	const char *first = "";

	buf_init(&text, 65536);
	if (option_value(argc, argv, i, &first, e) < 0 || buf_puts(&text, first, e) < 0)
		return -1;
	while (*i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0)
		if (buf_printf(&text, e, " %s", argv[++*i]) < 0)
			return -1;
	first = buf_cstr(&text, e);
	return first ? rules_parse(ret, first, e) : -1;
}

static int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	const char *seed = "1";
	int r = 0;

	for (int i = 1; i < argc && r == 0; i++) {
		if (strcmp(argv[i], "--listen") == 0)
			r = option_value(argc, argv, &i, &o->listen, e);
		else if (strcmp(argv[i], "--to") == 0)
			r = option_value(argc, argv, &i, &o->to, e);
		else if (strcmp(argv[i], "--seed") == 0)
			r = option_value(argc, argv, &i, &seed, e);
		else if (strcmp(argv[i], "--rule") == 0)
			r = parse_rules(argc, argv, &i, &o->rules, e);
		else if (strcmp(argv[i], "--with-parent") == 0)
			o->with_parent = true;
		else
			r = err_set(e, ERR_USAGE, 0, "'%.80s' is no option; see --help", argv[i]);
	}
	if (r < 0 || parse_seed(seed, &o->rules.seed, e) < 0)
		return -1;
	if (!o->listen || !o->to)
		return err_set(e, ERR_USAGE, 0, "%s is missing; see --help",
			       o->listen ? "--to" : "--listen");
	return 0;
}

/* --- running --- */

struct program {
	struct chaos chaos;
	struct loop_signal term, intr;
	struct loop_io parent;
	bool over;
};

static struct program program;

static void on_signal(struct loop_signal *s __attribute__((unused)))
{
	program.over = true;
}

static void on_parent(struct loop_io *io, unsigned got __attribute__((unused)))
{
	char scrap[512];
	ssize_t n = read(io->fd, scrap, sizeof(scrap));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		program.over = true;
}

static int watch_the_end(const struct options *o, struct err *e)
{
	struct loop *l = program.chaos.loop;

	signal(SIGPIPE, SIG_IGN);	/* nobody reads what we say: go on */
	if (loop_signal_start(l, &program.term, SIGTERM, on_signal, e) < 0 ||
	    loop_signal_start(l, &program.intr, SIGINT, on_signal, e) < 0)
		return -1;
	return o->with_parent
		       ? loop_io_start(l, &program.parent, STDIN_FILENO, LOOP_IN, on_parent, e)
		       : 0;
}

static void say_rules(const struct chaos *c)
{
	chaos_say(c, "seed %llu", (unsigned long long)c->rules.seed);
	for (size_t i = 0; i < c->rules.n; i++) {
		struct buf text CLEANUP(buf_release);

		buf_init(&text, 256);
		rule_print(&c->rules.rule[i], &text, NULL);
		chaos_say(c, "rule %s", buf_cstr(&text, NULL));
	}
}

static int run(const struct options *o, struct err *e)
{
	struct chaos *c = &program.chaos;
	struct address from;
	char ready[ADDRESS_TEXT];
	int r = 0;

	c->rules = o->rules;
	if (address_parse(o->listen, &from, e) < 0 || address_parse(o->to, &c->to, e) < 0)
		return -1;
	c->loop = loop_new(e);
	if (!c->loop)
		return -1;
	c->listen_fd = address_listen(&from, ready, e);
	if (c->listen_fd < 0)
		return -1;
	if (watch_the_end(o, e) < 0 || chaos_start(c, e) < 0)
		return -1;
	printf("ready %s\n", ready);
	say_rules(c);
	while (!program.over && r >= 0) {
		r = loop_pass(c->loop, -1, e);
		chaos_reap(c);
	}
	chaos_stop(c);
	address_unlink(&from);
	close_fd(&c->listen_fd);
	loop_signal_stop(&program.term);
	loop_signal_stop(&program.intr);
	loop_io_stop(&program.parent);
	loop_free(c->loop);
	return r < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	static struct options o;
	struct err e = ERR_INIT;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			printf("%s%s%s", usage, rules_help(), examples);
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0) {
			printf("farstep-chaos %s (%s)\n", farstep_version(), farstep_build());
			return 0;
		}
	}
	if (options_parse(&o, argc, argv, &e) < 0 || run(&o, &e) < 0) {
		fprintf(stderr, "farstep-chaos: %s\n", e.msg);
		return EXIT_USAGE;
	}
	return 0;
}
