/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mocks/e2b/envd.h"

#define DEFAULT_KEY "e2b_0000000000000000000000000000000000000000"

enum { DAY_MS = 86400000 };

static const char usage[] =
	"usage: farstep-mock-e2b [--listen 127.0.0.1:PORT] [--root DIR] [--api-key KEY] [--latency "
	"MS]\n"
	"       [--create-delay MS] [--max-sandboxes N] [--envd-version V] [--log FILE] [--fault "
	"SPEC...]\n"
	"       [--print-env] [--with-parent]\n"
	"\n"
	"An E2B cloud on loopback: one port serves the control API, the edge (by the headers\n"
	"E2b-Sandbox-Id and E2b-Sandbox-Port and by host names <port>-<id>.) and envd. Every "
	"sandbox is\n"
	"a private root and network with real processes and a real lifetime. When it listens it "
	"prints\n"
	"\"ready http://127.0.0.1:PORT\". It ends with everything it started.\n"
	"\n"
	"  --listen 127.0.0.1:PORT  where (port 0, any free one)\n"
	"  --root DIR               holds the sandboxes' files (a temporary directory)\n"
	"  --api-key KEY            the one that is valid (" DEFAULT_KEY ")\n"
	"  --latency MS             before every request is looked at (0)\n"
	"  --create-delay MS        at least so long until a create or resume is answered (0)\n"
	"  --max-sandboxes N        running at once; 429 beyond (20)\n"
	"  --envd-version V         what the sandboxes say and do (" ENVD_VERSION ")\n"
	"  --log FILE               a JSON line a request\n"
	"  --fault SPEC...          one or more rules; may be given several times\n"
	"  --print-env              after \"ready\" the E2B_... variables that point clients here\n"
	"  --with-parent            ends when standard input closes\n"
	"  --help, --version\n"
	"\n";

static const char envd_faults[] =
	"Also, acted on in each sandbox for itself, and not in --log:\n"
	"  process:truncate   the end of a command's stream is cut in half\n"
	"  process:stall@N    after N bytes of a command's stream nothing more comes\n"
	"  process:no-keepalive  keepalives are not sent\n"
	"  process:start-503  commands do not start (unavailable)\n"
	"  files:507          uploads find the disk full\n"
	"  files:hang         file transfers never get an answer\n"
	"\n"
	"Examples:\n"
	"  farstep-mock-e2b --print-env &\n"
	"  farstep-mock-e2b --listen 127.0.0.1:3000 --fault create:429:ratex2 process:drop@4k\n"
	"\n"
	"Exit codes: 0 ended by SIGTERM, SIGINT or its parent; 2 wrong usage, or it cannot "
	"start.\n";

void options_usage(void)
{
	printf("%s%s%s", usage, faults_help(), envd_faults);
}

/* --- values --- */

static int value_of(int argc, char **argv, int *i, const char **ret, struct err *e)
{
	if (*i + 1 >= argc)
		return err_set(e, ERR_USAGE, 0, "%s wants a value", argv[*i]);
	*ret = argv[++*i];
	return 0;
}

static int number_of(int argc, char **argv, int *i, uint64_t max, uint64_t *ret, struct err *e)
{
	const char *name = argv[*i], *text = "";
	char *end;

	if (value_of(argc, argv, i, &text, e) < 0)
		return -1;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || *ret > max)
		return err_set(e, ERR_USAGE, 0, "%s '%.60s': want a number up to %llu", name, text,
			       (unsigned long long)max);
	return 0;
}

/* HOST:PORT, of which the host must be on loopback: this cloud runs what anybody sends. */
static int parse_listen(const char *text, struct sockaddr_in *ret, struct err *e)
{
	const char *colon = strrchr(text, ':');
	char host[64] = "";
	char *end = NULL;
	long port = -1;

	if (colon && (size_t)(colon - text) < sizeof(host)) {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
		if (isdigit((unsigned char)colon[1]))
			port = strtol(colon + 1, &end, 10);
	}
	if (strcmp(host, "localhost") == 0)
		snprintf(host, sizeof(host), "127.0.0.1");
	*ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (!end || *end || port < 0 || port > 65535 ||
	    inet_pton(AF_INET, host, &ret->sin_addr) != 1)
		return err_set(e, ERR_USAGE, 0, "--listen '%.80s': want 127.0.0.1:PORT", text);
	if ((ntohl(ret->sin_addr.s_addr) >> 24) != 127)
		return err_set(e, ERR_USAGE, 0,
			       "--listen '%.80s': only on loopback; it runs what clients send",
			       text);
	return 0;
}

static int add_fault(struct options *o, const char *spec, struct err *e)
{
	struct err own = ERR_INIT;

	if (faults_parse(&o->faults, spec, &own) == 0)
		return 0;
	if (!envd_knows_fault(spec)) {
		if (e)
			*e = own;
		return -1;
	}
	if (o->n_envd_faults == ENVD_FAULTS_MAX)
		return err_set(e, ERR_LIMIT, 0, "more than %d faults of envd", ENVD_FAULTS_MAX);
	o->envd_fault[o->n_envd_faults++] = spec;
	return 0;
}

/* All words up to the next option. */
static int parse_faults(struct options *o, int argc, char **argv, int *i, struct err *e)
{
	const char *spec = NULL;

	if (value_of(argc, argv, i, &spec, e) < 0)
		return -1;
	for (;;) {
		if (add_fault(o, spec, e) < 0)
			return -1;
		if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
			return 0;
		spec = argv[++*i];
	}
}

static bool is_version(const char *text)
{
	unsigned a, b, c;
	char rest;

	return sscanf(text, "%u.%u.%u%c", &a, &b, &c, &rest) == 3;
}

/* --- all of it --- */

/* 1: not one of these. */
static int parse_text(struct options *o, int argc, char **argv, int *i, struct err *e)
{
	const struct {
		const char *name;
		const char **to;
	} texts[] = {
		{ "--root", &o->root },
		{ "--api-key", &o->api_key },
		{ "--envd-version", &o->envd_version },
		{ "--log", &o->log },
	};

	for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++)
		if (strcmp(argv[*i], texts[t].name) == 0)
			return value_of(argc, argv, i, texts[t].to, e);
	return 1;
}

static int parse_one(struct options *o, int argc, char **argv, int *i, struct err *e)
{
	const char *name = argv[*i], *text = "";
	int r = parse_text(o, argc, argv, i, e);
	uint64_t n = 0;

	if (r <= 0)
		return r;
	if (strcmp(name, "--listen") == 0)
		return value_of(argc, argv, i, &text, e) < 0 ? -1
							     : parse_listen(text, &o->listen, e);
	if (strcmp(name, "--latency") == 0)
		return number_of(argc, argv, i, DAY_MS, &o->latency_ms, e);
	if (strcmp(name, "--create-delay") == 0)
		return number_of(argc, argv, i, DAY_MS, &o->create_delay_ms, e);
	if (strcmp(name, "--max-sandboxes") == 0) {
		r = number_of(argc, argv, i, 1000, &n, e);
		o->max_sandboxes = (unsigned)n;
		return r;
	}
	if (strcmp(name, "--fault") == 0)
		return parse_faults(o, argc, argv, i, e);
	if (strcmp(name, "--print-env") == 0)
		return o->print_env = true, 0;
	if (strcmp(name, "--with-parent") == 0)
		return o->with_parent = true, 0;
	if (strcmp(name, "--help") == 0)
		return o->help = true, 0;
	if (strcmp(name, "--version") == 0)
		return o->version = true, 0;
	return err_set(e, ERR_USAGE, 0, "'%.80s' is no option; see --help", name);
}

int options_parse(struct options *ret, int argc, char **argv, struct err *e)
{
	*ret = (struct options){
		.listen = { .sin_family = AF_INET },
		.api_key = DEFAULT_KEY,
		.max_sandboxes = 20,
		.envd_version = ENVD_VERSION,
	};
	ret->listen.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 1; i < argc; i++)
		if (parse_one(ret, argc, argv, &i, e) < 0)
			return -1;
	if (strncmp(ret->api_key, "e2b_", 4) != 0)
		return err_set(e, ERR_USAGE, 0, "--api-key '%.60s': want e2b_ and hex digits",
			       ret->api_key);
	if (!is_version(ret->envd_version))
		return err_set(e, ERR_USAGE, 0, "--envd-version '%.60s': want three numbers, 1.2.3",
			       ret->envd_version);
	return 0;
}
