/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of filesystem.Filesystem, but for watching. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mocks/e2b/envd_entry.h"
#include "mocks/e2b/envd_rpc.h"
#include "mocks/e2b/envd_watch.h"
#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

enum { LIST_ENTRIES_MAX = 200000 };

/* The user of the call and the path in one of the message's fields.  false: failed. */
static bool take_path(struct rpc *r, const json *message, const char *field, char ret[PATH_MAX])
{
	const char *path = "";
	struct err e = ERR_INIT;

	if (!rpc_user(r))
		return false;
	if (json_opt_str(message, "message", field, &path, &e) == 0 &&
	    path_resolve(r->d, &r->user, path, ret, &e) == 0)
		return true;
	rpc_fail(r, CONNECT_INVALID_ARGUMENT, "%s", e.msg);
	return false;
}

static void reply_entry(struct rpc *r, const char *path)
{
	struct buf text CLEANUP(buf_release);
	struct err e = ERR_INIT;
	struct jw w;

	buf_init(&text, CONNECT_MESSAGE_MAX);
	jw_init(&w, &text);
	jw_obj(&w);
	jw_key(&w, "entry");
	if (entry_write(r->d, path, &w, &e) < 0) {
		rpc_fail(r, e.code == ERR_NOT_FOUND ? CONNECT_NOT_FOUND : CONNECT_INTERNAL,
			 "%s: %s", e.code == ERR_NOT_FOUND ? "file not found"
							   : "error getting file info", e.msg);
		return;
	}
	jw_end(&w);
	if (jw_done(&w, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
	else
		rpc_reply(r, buf_data(&text), buf_len(&text));
}

static void on_stat(struct rpc *r, const json *message)
{
	char path[PATH_MAX];

	if (take_path(r, message, "path", path))
		reply_entry(r, path);
}

static void on_make_dir(struct rpc *r, const json *message)
{
	char path[PATH_MAX];
	struct err e = ERR_INIT;
	struct stat st;

	if (!take_path(r, message, "path", path))
		return;
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			rpc_fail(r, CONNECT_ALREADY_EXISTS, "directory already exists: %s", path);
		else
			rpc_fail(r, CONNECT_INVALID_ARGUMENT,
				 "path already exists but it is not a directory: %s", path);
	} else if (errno != ENOENT) {
		rpc_fail(r, CONNECT_INTERNAL, "error getting file info: stat %s: %s", path,
			 sys_text(errno));
	} else if (path_make_dirs(&r->user, path, &e) < 0) {
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
	} else {
		reply_entry(r, path);
	}
}

static void on_move(struct rpc *r, const json *message)
{
	char from[PATH_MAX], to[PATH_MAX], parent[PATH_MAX];
	struct err e = ERR_INIT;

	if (!take_path(r, message, "source", from) || !take_path(r, message, "destination", to))
		return;
	path_parent(to, parent);
	if (path_make_dirs(&r->user, parent, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
	else if (rename(from, to) == 0)
		reply_entry(r, to);
	else if (errno == ENOENT)
		rpc_fail(r, CONNECT_NOT_FOUND, "source file not found: rename %s %s: %s", from, to,
			 sys_text(ENOENT));
	else
		rpc_fail(r, CONNECT_INTERNAL, "error renaming: rename %s %s: %s", from, to,
			 sys_text(errno));
}

static void on_remove(struct rpc *r, const json *message)
{
	char path[PATH_MAX];
	struct err e = ERR_INIT;

	if (!take_path(r, message, "path", path))
		return;
	if (strcmp(path, "/") == 0 || fs_remove_tree(AT_FDCWD, path, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "error removing file or directory: %s",
			 *e.msg ? e.msg : "unlinkat /: operation not permitted");
	else
		rpc_reply(r, "{}", 2);
}

/* --- ListDir --- */

struct listing {
	char **paths;
	size_t n, cap;
};

static void listing_release(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->paths[i]);
	free(l->paths);
}

static int listing_add(struct listing *l, const char *dir, const char *name, struct err *e)
{
	if (l->n == LIST_ENTRIES_MAX)
		return err_set(e, ERR_LIMIT, 0, "more than %d entries", LIST_ENTRIES_MAX);
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		char **paths = realloc(l->paths, cap * sizeof(*paths));

		if (!paths)
			return err_set(e, ERR_NO_MEMORY, 0, "list");
		l->paths = paths;
		l->cap = cap;
	}
	if (asprintf(&l->paths[l->n], "%s/%s", strcmp(dir, "/") ? dir : "", name) < 0)
		return err_set(e, ERR_NO_MEMORY, 0, "list");
	l->n++;
	return 0;
}

/* What is in dir, but not below: what is added here is walked later, level by level. */
static int list_one(struct listing *l, const char *dir, struct err *e)
{
	DIR *d auto_closedir = opendir(dir);
	struct dirent *ent;

	if (!d)
		return err_set(e, ERR_SYS, 0, "open %s: %s", dir, sys_text(errno));
	while ((ent = readdir(d))) {
		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		if (listing_add(l, dir, ent->d_name, e) < 0)
			return -1;
	}
	return 0;
}

static int list_tree(struct listing *l, const char *dir, uint64_t depth, struct err *e)
{
	size_t from = 0, to;

	if (list_one(l, dir, e) < 0)
		return -1;
	for (uint64_t level = 1; level < depth && from < l->n; level++) {
		for (to = l->n; from < to; from++) {
			struct stat st;

			if (lstat(l->paths[from], &st) == 0 && S_ISDIR(st.st_mode) &&
			    list_one(l, l->paths[from], e) < 0)
				return -1;
		}
	}
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int write_listing(struct rpc *r, const struct listing *l, struct buf *text, struct err *e)
{
	struct jw w;

	jw_init(&w, text);
	jw_obj(&w);
	if (l->n)
		jw_karr(&w, "entries");
	for (size_t i = 0; i < l->n; i++) {
		struct err gone = ERR_INIT;

		if (entry_write(r->d, l->paths[i], &w, &gone) < 0 && gone.code != ERR_NOT_FOUND) {
			*e = gone;
			return -1;
		}
	}
	if (l->n)
		jw_end(&w);
	jw_end(&w);
	return jw_done(&w, e);
}

static void reply_listing(struct rpc *r, const char *dir, uint64_t depth)
{
	struct listing l CLEANUP(listing_release) = { 0 };
	struct buf text CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&text, CONNECT_MESSAGE_MAX);
	if (list_tree(&l, dir, envd_since(r->d, "0.1.6") ? depth : 1, &e) < 0) {
		rpc_fail(r, CONNECT_INTERNAL, "error reading directory: %s", e.msg);
		return;
	}
	if (l.n)
		qsort(l.paths, l.n, sizeof(*l.paths), by_path);
	if (write_listing(r, &l, &text, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
	else
		rpc_reply(r, buf_data(&text), buf_len(&text));
}

static void fail_lookup(struct rpc *r, const char *path)
{
	int sys = errno;

	if (sys == ENOENT)
		rpc_fail(r, CONNECT_NOT_FOUND, "directory not found: lstat %s: %s", path,
			 sys_text(sys));
	else
		rpc_fail(r, CONNECT_INTERNAL, "error resolving symlink: lstat %s: %s", path,
			 sys_text(sys));
}

static void on_list_dir(struct rpc *r, const json *message)
{
	char path[PATH_MAX], real[PATH_MAX];
	uint64_t depth = 0;
	struct err e = ERR_INIT;
	struct stat st;

	if (!take_path(r, message, "path", path))
		return;
	if (json_opt_u64(message, "message", "depth", &depth, &e) < 0)
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "%s", e.msg);
	else if (!realpath(path, real) && errno == ELOOP)
		rpc_fail(r, CONNECT_INVALID_ARGUMENT,
			 "cyclic symlink or chain >255 links at \"%s\"", path);
	else if (stat(path, &st) < 0)
		fail_lookup(r, path);
	else if (!S_ISDIR(st.st_mode))
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "path is not a directory: %s", path);
	else
		reply_listing(r, path, depth ? depth : 1);
}

const struct rpc_method filesystem_methods[] = {
	{ "/filesystem.Filesystem/Stat", RPC_UNARY, NULL, on_stat, NULL },
	{ "/filesystem.Filesystem/MakeDir", RPC_UNARY, NULL, on_make_dir, NULL },
	{ "/filesystem.Filesystem/Move", RPC_UNARY, NULL, on_move, NULL },
	{ "/filesystem.Filesystem/ListDir", RPC_UNARY, NULL, on_list_dir, NULL },
	{ "/filesystem.Filesystem/Remove", RPC_UNARY, NULL, on_remove, NULL },
	{ "/filesystem.Filesystem/WatchDir", RPC_SERVER_STREAM, NULL, on_watch_dir, NULL },
	{ "/filesystem.Filesystem/CreateWatcher", RPC_UNARY, NULL, on_create_watcher, NULL },
	{ "/filesystem.Filesystem/GetWatcherEvents", RPC_UNARY, NULL, on_watcher_events, NULL },
	{ "/filesystem.Filesystem/RemoveWatcher", RPC_UNARY, NULL, on_remove_watcher, NULL },
	{ NULL, RPC_UNARY, NULL, NULL, NULL },
};
