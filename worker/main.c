/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep-worker: one program, four roles. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/version.h"
#include "worker/keeper.h"
#include "worker/listen.h"
#include "worker/options.h"
#include "worker/self.h"
#include "worker/supervisor.h"
#include "worker/tree.h"
#include "worker/unpack.h"
#include "worker/worker.h"

/* Otherwise a pipe could land on 0 to 2 and be taken for a standard stream. */
static void open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR); /* lint-ok: meant to be inherited */
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

static int print_capabilities(void)
{
	struct err e = ERR_INIT;
	bool sealed = false;
	int fd = self_open(&sealed, &e);

	if (fd >= 0)
		close(fd);
	printf("{\"version\":\"%s\",\"build\":\"%s\",\"sealed\":%s,\"proc\":%s,\"cpus\":%ld,"
	       "\"uid\":%d}\n",
	       farstep_version(), farstep_build(), sealed ? "true" : "false",
	       tree_can_see() ? "true" : "false", sysconf(_SC_NPROCESSORS_ONLN), (int)getuid());
	return WORKER_DONE;
}

static int ask_health(const struct worker_options *o)
{
	struct err e = ERR_INIT;

	if (listen_health(o->listen, &e) == 0) {
		puts("ok");
		return 0;
	}
	fprintf(stderr, "farstep-worker: %s\n", e.msg);
	return 1;
}

int main(int argc, char **argv)
{
	struct worker_options o;
	struct err e = ERR_INIT;
	int code;

	self_protect();
	open_standard_fds();
	if (worker_options_parse(&o, argc, argv, &e) < 0) {
		fprintf(stderr, "farstep-worker: %s\n", e.msg);
		return WORKER_USAGE;
	}
	log_open(2, o.log_level, o.log_json, "farstep-worker");
	if (o.role && strcmp(o.role, "keeper") == 0)
		_exit(keeper_main()); /* its memory is its process's: nothing is freed */
	if (o.role && strcmp(o.role, "unpack") == 0)
		return dup2(5, 1) < 0 ? WORKER_REFUSED : unpack_main(o.n_rest, o.rest);
	if (o.role && strcmp(o.role, "worker") == 0)
		_exit(worker_main(&o));
	if (o.role) {
		fprintf(stderr, "farstep-worker: no role '%s'\n", o.role);
		return WORKER_USAGE;
	}
	switch (o.action) {
	case ACT_HELP:
		worker_help();
		return WORKER_DONE;
	case ACT_VERSION:
		printf("farstep-worker %s (%s)\n", farstep_version(), farstep_build());
		return WORKER_DONE;
	case ACT_CAPABILITIES:
		return print_capabilities();
	case ACT_HEALTH:
		code = ask_health(&o);
		worker_options_release(&o);
		return code;
	case ACT_SERVE:
		break;
	}
	_exit(supervisor_main(&o));
}
