/* SPDX-License-Identifier: Apache-2.0
 *
 * process - start a program that outlives us, and find, signal and await it later, from
 * whatever process: it is known by its pid and its start time, never by being our child.
 *
 * Knows nothing of sandboxes, workers or sockets. */
#ifndef FARSTEP_SDK_PROCESS_H
#define FARSTEP_SDK_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/err.h"

struct process_spec {
	const char *path;	/* of the program; no search */
	char *const *argv;
	char *const *envp;
	int out_fd;		/* standard output and error; -1: /dev/null */
	int pass[3];		/* become descriptors 3 to 5; -1: none */
};

/* Starts it in a session of its own, as nobody's child (init's, or the next subreaper's), with
 * standard input from /dev/null, default signals and no other descriptors.  Returns its pid
 * once it has reached exec, or -1 with no process left behind. */
pid_t process_start(const struct process_spec *spec, struct err *e);

struct process_info {
	pid_t parent;
	uint64_t start;		/* field 22 of /proc/PID/stat, in clock ticks since boot */
	char state;		/* 'R', 'S', ...; 'Z' and 'X' are dead */
	char name[32];		/* of the program, at most 15 bytes */
};

/* False: there is no such process. */
bool process_info(pid_t pid, struct process_info *ret);
/* Is the process that started then still alive (a zombie is not)? */
bool process_alive(pid_t pid, uint64_t start);

/* A process that cannot be mistaken for a later one of the same pid. */
struct process {
	pid_t pid;
	uint64_t start;
	int fd;		/* pidfd; -1 where the kernel has none */
};

/* False, and nothing to close, if that process is gone. */
bool process_open(struct process *p, pid_t pid, uint64_t start);
void process_close(struct process *p);
int process_signal(const struct process *p, int sig);	/* -1: it is gone */
/* True once it is dead (also when nobody reaped it yet). */
bool process_wait(const struct process *p, int64_t wait_us);

/* Processes other than ours that are alive and were started as a program of that name with that
 * argument; fills at most max.  Returns how many there are. */
size_t process_with_argument(const char *program, const char *argument, pid_t *ret, size_t max);

/* Each process of this user that is alive and has the option among its words: the first n of them
 * (argv[n] is NULL), and its start time. */
void process_each_with_option(const char *option,
			      void (*found)(void *user, pid_t pid, uint64_t start,
					    const char *const *argv, size_t n),
			      void *user);

/* Descendants of pid that are alive; fills at most max.  Returns how many there are. */
size_t process_descendants(pid_t pid, pid_t *ret, size_t max);

#endif
