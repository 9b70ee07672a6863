/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/base/loop.h"

#define PASSES 3 /* readdir may pass over entries while others are removed */

/* The next place of the list; false: that was all. */
static bool next_place(const char **list, char place[PATH_MAX])
{
	size_t n;

	*list += strspn(*list, ":");
	n = strcspn(*list, ":");
	if (!n || n >= PATH_MAX)
		return false;
	memcpy(place, *list, n);
	place[n] = 0;
	*list += n;
	return true;
}

/* Not through a link: a step may have put one in its place. */
static DIR *open_place(const char *place)
{
	int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d && fd >= 0)
		close(fd);
	return d;
}

/* The next entry's path; NULL: that was all. */
static const char *next_entry(DIR *d, const char *place, char path[PATH_MAX])
{
	struct dirent *ent;

	while ((ent = readdir(d))) {
		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		if ((size_t)snprintf(path, PATH_MAX, "%s/%s", place, ent->d_name) < PATH_MAX)
			return path + strlen(place) + 1;
	}
	return NULL;
}

int scratch_look(const char *places, struct buf *known, struct err *e)
{
	char place[PATH_MAX], path[PATH_MAX];

	while (next_place(&places, place)) {
		auto_closedir DIR *d = open_place(place);

		while (d && next_entry(d, place, path))
			if (buf_put(known, path, strlen(path) + 1, e) < 0)
				return err_wrap(e, "%s has too many entries", place);
	}
	return 0;
}

static bool is_known(const char *path, const char *known, size_t n)
{
	for (const char *p = known; p < known + n; p += strlen(p) + 1)
		if (strcmp(p, path) == 0)
			return true;
	return false;
}

/* Returns how many it removed; -1: the time is up. */
static int empty_once(const char *place, const void *known, size_t n, uint64_t until_ns, bool say)
{
	auto_closedir DIR *d = open_place(place);
	char path[PATH_MAX];
	const char *name;
	int removed = 0, got;

	while (d && (name = next_entry(d, place, path))) {
		struct err e = ERR_INIT;

		if (is_known(path, known, n))
			continue;
		got = fs_remove_some(dirfd(d), name, until_ns, &e);
		if (got == 0)
			removed++;
		else if (got < 0 && say)
			log_warn("what a session left in %s stays: %s", place, e.msg);
		if (got > 0 || (removed && until_ns && now_ns() >= until_ns))
			return -1;
	}
	return removed;
}

bool scratch_empty(const char *places, const void *known, size_t n, uint64_t until_ns)
{
	char place[PATH_MAX];

	while (next_place(&places, place)) {
		int removed = 1;

		for (int pass = 0; pass < PASSES && removed > 0; pass++)
			removed = empty_once(place, known, n, until_ns, false);
		if (removed < 0 || empty_once(place, known, n, until_ns, true) < 0)
			return false;
	}
	return true;
}
