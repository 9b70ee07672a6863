/* SPDX-License-Identifier: Apache-2.0
 *
 * Baselines that the bench compares with, each printing one number:
 *   base spawn N PROGRAM     milliseconds of posix_spawn + wait, median of N
 *   base pipe BYTES          MB/s through a pipe, 64 KiB writes and reads
 *   base drain               reads standard input to its end, 64 KiB a time */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int spawn_loop(int n, char *program)
{
	char *argv[] = { program, (char *)"--version", NULL };
	double *t = calloc((size_t)n, sizeof(*t));
	int null_out = dup(1);

	for (int i = 0; t && i < n; i++) {
		posix_spawn_file_actions_t to_null;
		double begun = now_ms();
		pid_t pid;

		posix_spawn_file_actions_init(&to_null);
		posix_spawn_file_actions_addopen(&to_null, 1, "/dev/null", 1, 0);
		if (posix_spawn(&pid, program, &to_null, NULL, argv, environ) != 0 ||
		    waitpid(pid, NULL, 0) < 0)
			return 1;
		posix_spawn_file_actions_destroy(&to_null);
		t[i] = now_ms() - begun;
	}
	close(null_out);
	if (!t)
		return 1;
	qsort(t, (size_t)n, sizeof(*t), by_size);
	printf("%.4f\n", t[n / 2]);
	free(t);
	return 0;
}

static int pipe_flow(long long bytes)
{
	static char piece[65536];
	long long got = 0;
	double begun;
	ssize_t n;
	int p[2];

	if (pipe(p) < 0)
		return 1;
	begun = now_ms();
	if (fork() == 0) {
		close(p[0]);
		for (long long sent = 0; sent < bytes; sent += (long long)sizeof(piece))
			if (write(p[1], piece, sizeof(piece)) < 0)
				_exit(1);
		_exit(0);
	}
	close(p[1]);
	while ((n = read(p[0], piece, sizeof(piece))) > 0)
		got += n;
	wait(NULL);
	printf("%.1f\n", (double)got / 1e3 / (now_ms() - begun));
	return 0;
}

static int drain(void)
{
	static char piece[65536];

	while (read(0, piece, sizeof(piece)) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "drain") == 0)
		return drain();
	if (argc == 4 && strcmp(argv[1], "spawn") == 0)
		return spawn_loop(atoi(argv[2]), argv[3]); /* lint-ok: the bench's own argument */
	if (argc == 3 && strcmp(argv[1], "pipe") == 0)
		return pipe_flow(atoll(argv[2])); /* lint-ok: the bench's own argument */
	fprintf(stderr, "usage: base spawn N PROGRAM | pipe BYTES | drain\n");
	return 2;
}
