/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/envd_kill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "protocol/base/loop.h"

enum { KILL_PATIENCE_MS = 2000, KILL_PAUSE_NS = 2000000 };

/* The process whose parent we are, by its number in /proc; 0 if it is none. */
static pid_t child_named(const char *name)
{
	char path[64], text[512];
	const char *rest;
	int fd auto_close = -1;
	ssize_t n;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", name);
	fd = *name >= '0' && *name <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	rest = n > 0 ? strrchr(text, ')') : NULL;
	if (!rest || sscanf(rest + 1, " %*c %d", &ppid) != 1 || ppid != getpid())
		return 0;
	return (pid_t)strtol(name, NULL, 10);
}

static void kill_children(void)
{
	DIR *dir auto_closedir = opendir("/proc");
	struct dirent *ent;

	while (dir && (ent = readdir(dir))) {
		pid_t pid = child_named(ent->d_name);

		if (pid > 0)
			kill(pid, SIGKILL);
	}
}

void kill_descendants(void)
{
	const struct timespec pause = { .tv_nsec = KILL_PAUSE_NS };
	uint64_t until = now_ns() + KILL_PATIENCE_MS * UINT64_C(1000000);
	pid_t pid;

	for (;;) {
		kill_children();
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		if (now_ns() > until) {
			log_warn("some processes did not end");
			return;
		}
		nanosleep(&pause, NULL);
	}
}
