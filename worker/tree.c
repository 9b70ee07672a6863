/* SPDX-License-Identifier: Apache-2.0
 *
 * Children are read from /proc/PID/task/TID/children, which costs one small file a
 * process, or where the kernel has none, from /proc/PID/stat of every process there
 * is.  Neither is a snapshot: a process that forks and exits at the right moment
 * escapes one walk.  So whoever needs to be sure walks until nothing is left. */
#include "worker/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/loop.h"

enum {
	WALK_MAX = 1 << 18,	/* processes in one walk: one may fork ahead of us for ever */
	FREEZE_PASSES = 64,
	REAP_AT_ONCE = 4096,
	FIRST_NAP_US = 50,
	LONGEST_NAP_US = 5000,
};

struct pids {
	pid_t *at;
	size_t n, cap;
};

/* Who is whose child, where the kernel does not tell. */
struct parent {
	pid_t pid, ppid;
};

struct walk {
	struct pids found;	/* breadth first: nobody stands before his parent */
	const pid_t *keep;
	size_t n_keep;
	int sig;		/* sent to each when it is found; 0: none */
	struct parent *table;	/* NULL: children files are there */
	size_t n_table;
};

static enum { UNKNOWN, CHILDREN_FILES, STAT_FILES } source;

/* --- small things --- */

/* The list with room for one more than n, moved if need be; NULL when there is no
 * memory: then it is as it was. */
static void *grown(void *list, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap ? 2 * *cap : 256;
	void *mem;

	if (n < *cap)
		return list;
	mem = realloc(list, more * size);
	if (mem)
		*cap = more;
	return mem;
}

static bool holds(const pid_t *list, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == pid)
			return true;
	return false;
}

static int by_number(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

static void found(struct walk *w, pid_t pid)
{
	pid_t *at;

	if (pid <= 0 || w->found.n >= WALK_MAX || holds(w->keep, w->n_keep, pid))
		return;
	at = grown(w->found.at, &w->found.cap, w->found.n, sizeof(pid_t));
	if (!at)	/* the next walk finds him, when others are gone */
		return;
	w->found.at = at;
	at[w->found.n++] = pid;
	if (w->sig)
		kill(pid, w->sig);
}

/* --- what /proc says --- */

/* The first bytes of a file of /proc, NUL-terminated; -1 when there is none. */
static int read_start(const char *path, char *to, size_t size)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);

	if (n < 0)
		return -1;
	to[n] = 0;
	return 0;
}

/* "PID (name) S PPID ...", where the name may hold anything. */
static int read_stat(pid_t pid, char *state, pid_t *ppid)
{
	char path[64], text[512];
	const char *after;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_start(path, text, sizeof(text)) < 0)
		return -1;
	after = strrchr(text, ')');
	if (!after || strlen(after) < 4)
		return -1;
	*state = after[2];
	*ppid = (pid_t)strtol(after + 3, NULL, 10);
	return 0;
}

/* How many threads, from the link count of the directory; 0 when that does not tell. */
static size_t threads_of(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	return stat(path, &st) == 0 && st.st_nlink > 2 ? (size_t)st.st_nlink - 2 : 0;
}

/* A zombie whose other threads go on is alive. */
static bool is_alive(pid_t pid)
{
	pid_t ppid;
	char state;

	if (read_stat(pid, &state, &ppid) < 0)
		return false;
	return (state != 'Z' && state != 'X') || threads_of(pid) > 1;
}

static int children_of_thread(struct walk *w, pid_t pid, pid_t tid)
{
	char path[64], text[4096];
	long number = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)tid);
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				number = 10 * number + (text[i] - '0');
				continue;
			}
			found(w, (pid_t)number);
			number = 0;
		}
	}
	found(w, (pid_t)number);
	return 0;
}

static void children_of_threads(struct walk *w, pid_t pid)
{
	char path[64];
	struct dirent *ent;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	auto_closedir DIR *d = opendir(path);

	while (d && (ent = readdir(d)))
		if (ent->d_name[0] != '.')
			children_of_thread(w, pid, (pid_t)strtol(ent->d_name, NULL, 10));
}

static void children_of(struct walk *w, pid_t pid)
{
	if (w->table) {
		for (size_t i = 0; i < w->n_table; i++)
			if (w->table[i].ppid == pid)
				found(w, w->table[i].pid);
	} else if (threads_of(pid) == 1) {
		children_of_thread(w, pid, pid);
	} else {
		children_of_threads(w, pid);
	}
}

static void read_table(struct walk *w)
{
	auto_closedir DIR *d = opendir("/proc");
	struct dirent *ent;
	size_t cap = 0;
	char state;

	while (d && (ent = readdir(d))) {
		struct parent p = { .pid = (pid_t)strtol(ent->d_name, NULL, 10) };
		struct parent *table;

		if (p.pid <= 0 || read_stat(p.pid, &state, &p.ppid) < 0)
			continue;
		table = grown(w->table, &cap, w->n_table, sizeof(p));
		if (!table)
			break;
		w->table = table;
		table[w->n_table++] = p;
	}
}

static void walk(struct walk *w, pid_t root)
{
	w->found.n = 0;
	if (source == STAT_FILES)
		read_table(w);
	children_of(w, root);
	for (size_t i = 0; i < w->found.n; i++)
		children_of(w, w->found.at[i]);
	free(w->table);
	w->table = NULL;
	w->n_table = 0;
}

bool tree_can_see(void)
{
	char text[512], path[64];

	if (source != UNKNOWN)
		return true;
	/* A /proc of another pid namespace speaks of others. */
	if (read_start("/proc/self/stat", text, sizeof(text)) < 0 ||
	    strtol(text, NULL, 10) != (long)getpid())
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	source = access(path, R_OK) == 0 ? CHILDREN_FILES : STAT_FILES;
	return true;
}

/* The walk's living, in its order; how many. */
static size_t keep_living(struct walk *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->found.n; i++)
		if (is_alive(w->found.at[i]))
			w->found.at[n++] = w->found.at[i];
	w->found.n = n;
	return n;
}

/* --- a signal to all --- */

static bool has_member(const struct pids *list, pid_t pgid)
{
	for (size_t i = 0; i < list->n; i++)
		if (getpgid(list->at[i]) == pgid)
			return true;
	return false;
}

/* The group gets the signal at once, the others one by one, and nobody twice.  A
 * group that has no member here may be no group of ours any more. */
int tree_signal(pid_t root, pid_t pgid, int sig)
{
	struct walk w = { .sig = 0 };
	bool group;
	int got = 0;

	if (!tree_can_see())
		return pgid > 0 && kill(-pgid, sig) == 0 ? 1 : 0;
	walk(&w, root);
	keep_living(&w);
	group = pgid > 0 && has_member(&w.found, pgid);
	/* The others first: who is in the group is known only while it lives. */
	for (size_t i = 0; i < w.found.n; i++) {
		pid_t pid = w.found.at[i];

		if ((group && getpgid(pid) == pgid) || kill(pid, sig) == 0)
			got++;
	}
	if (group)
		kill(-pgid, sig);
	free(w.found.at);
	return got;
}

/* --- the end of all --- */

struct ending {
	struct walk now;
	struct pids before;	/* the walk before, sorted */
	pid_t self, pgid;
	int ended;
	struct rusage *used;
	long nap_us;
	uint64_t until_ns;
};

static bool late(const struct ending *end)
{
	return now_ns() >= end->until_ns;
}

/* Still there: it was traced, and its parent is to hear of its end, too.  It comes again. */
static void count_dead(struct ending *end, pid_t pid, int status)
{
	if (kill(pid, 0) < 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		end->ended++;
}

/* Returns false when no child is left at all. */
static bool reap_all(struct ending *end)
{
	struct rusage one;
	int status;
	pid_t pid = 1;

	for (int i = 0; i < REAP_AT_ONCE && pid > 0; i++) {
		pid = wait4(-1, &status, WNOHANG, &one);
		if (pid > 0) {
			count_dead(end, pid, status);
			tree_count(end->used, &one);
		}
	}
	return pid >= 0 || errno != ECHILD;
}

/* With children that are to be left alone, only those that were found are waited for. */
static void reap_found(struct ending *end)
{
	int status;

	for (size_t i = 0; i < end->now.found.n; i++)
		if (waitpid(end->now.found.at[i], &status, WNOHANG) > 0)
			count_dead(end, end->now.found.at[i], status);
}

/* Did the last walk find somebody whom the one before did not?  The walk becomes
 * the one before. */
static bool somebody_new(struct ending *end)
{
	struct pids *now = &end->now.found, *before = &end->before;
	struct pids other;
	bool ret = false;

	for (size_t i = 0; i < now->n && !ret; i++)
		ret = !before->n ||
		      !bsearch(&now->at[i], before->at, before->n, sizeof(pid_t), by_number);
	if (!ret)
		return false;
	other = *before;
	*before = *now;
	*now = other;
	qsort(before->at, before->n, sizeof(pid_t), by_number);
	return true;
}

/* Stops everybody until a walk finds nobody new: a stopped process does not fork. */
static void freeze(struct ending *end)
{
	end->before.n = 0;
	end->now.sig = SIGSTOP;
	for (int i = 0; i < FREEZE_PASSES; i++) {
		walk(&end->now, end->self);
		if (late(end) || !somebody_new(end))
			return;
	}
	walk(&end->now, end->self);
}

/* Children before their parents: the death of a parent may leave a stopped group
 * orphaned, and the kernel would wake it. */
static void kill_found(struct ending *end)
{
	if (end->pgid > 0 && !tree_can_see())
		kill(-end->pgid, SIGKILL);
	for (size_t i = end->now.found.n; i-- > 0;)
		kill(end->now.found.at[i], SIGKILL);
}

static void nap(struct ending *end)
{
	struct timespec ts = { .tv_nsec = end->nap_us * 1000 };

	nanosleep(&ts, NULL);
	if (end->nap_us < LONGEST_NAP_US)
		end->nap_us *= 2;
}

/* Returns false when it was the last. */
static bool round_of_all(struct ending *end)
{
	if (!reap_all(end))
		return false;
	if (tree_can_see())
		freeze(end);
	kill_found(end);
	return true;
}

static bool round_of_found(struct ending *end)
{
	freeze(end);
	if (end->now.found.n == 0)
		return false;
	kill_found(end);
	reap_found(end);
	return true;
}

static void add_time(struct timeval *to, const struct timeval *t)
{
	to->tv_sec += t->tv_sec;
	to->tv_usec += t->tv_usec;
	if (to->tv_usec >= 1000000) {
		to->tv_sec++;
		to->tv_usec -= 1000000;
	}
}

void tree_count(struct rusage *used, const struct rusage *one)
{
	if (!used)
		return;
	add_time(&used->ru_utime, &one->ru_utime);
	add_time(&used->ru_stime, &one->ru_stime);
	used->ru_inblock += one->ru_inblock;
	used->ru_oublock += one->ru_oublock;
	if (one->ru_maxrss > used->ru_maxrss)
		used->ru_maxrss = one->ru_maxrss;
}

int tree_end(pid_t pgid, const pid_t *keep, size_t n_keep, int deadline_ms, struct rusage *used)
{
	struct ending end = {
		.now = { .keep = keep, .n_keep = n_keep },
		.self = getpid(),
		.pgid = pgid,
		.used = used,
		.nap_us = FIRST_NAP_US,
		.until_ns = now_ns() + (uint64_t)(deadline_ms > 0 ? deadline_ms : 0) * 1000000,
	};
	bool blind = n_keep && !tree_can_see();	/* then nobody can be told from the kept */
	bool left = true;

	while (!blind && (left = n_keep ? round_of_found(&end) : round_of_all(&end)) && !late(&end))
		nap(&end);
	if (blind && pgid > 0)
		kill(-pgid, SIGKILL);
	free(end.now.found.at);
	free(end.before.at);
	return left ? -1 : end.ended;
}
