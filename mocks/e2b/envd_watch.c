/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/envd_watch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mocks/e2b/envd_entry.h"
#include "mocks/e2b/envd_rpc.h"
#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"

enum { READ_BYTES = 32 * 1024, ID_RANDOM = 20, ID_BYTES = ID_RANDOM + 2, EVENT_JSON_MAX = 65536,
       DEPTH_MAX = 128 };

#define MASK (IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_ATTRIB | IN_MODIFY | IN_MOVE_SELF | \
	      IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR)
#define KEEPALIVE "{\"keepalive\":{}}"

struct dir {
	int wd;
	char *path;
};

struct watch {
	struct watchers *all;
	char id[ID_BYTES];		/* "" for a stream */
	struct rpc *rpc;		/* of a stream */
	char root[PATH_MAX];
	bool recursive, with_entry;
	int fd;
	struct loop_io io;
	struct dir *dirs;
	size_t n_dirs;
	struct buf events;		/* "{..},{..}" */
	bool too_many;
	struct watch *next;
};

struct watchers {
	struct envd *d;
	struct watch *list;
	unsigned n;
};

/* --- what is watched --- */

static struct dir *find_dir(struct watch *w, int wd)
{
	for (size_t i = 0; i < w->n_dirs; i++)
		if (w->dirs[i].wd == wd)
			return &w->dirs[i];
	return NULL;
}

static int add_dir(struct watch *w, const char *path, struct err *e)
{
	int wd = inotify_add_watch(w->fd, path, MASK);
	struct dir *dirs, *known;
	char *copy;

	if (wd < 0)
		return err_set(e, ERR_SYS, 0, "%s", sys_text(errno));
	known = find_dir(w, wd);
	copy = strdup(path);
	if (known && copy) {	/* moved: the same directory under another name */
		free(known->path);
		known->path = copy;
		return 0;
	}
	dirs = w->n_dirs < WATCH_DIRS_MAX
		       ? realloc(w->dirs, (w->n_dirs + 1) * sizeof(*dirs)) : NULL;
	if (dirs)
		w->dirs = dirs;
	if (!dirs || !copy) {
		free(copy);
		return err_set(e, ERR_LIMIT, 0, "more than %d directories", WATCH_DIRS_MAX);
	}
	w->dirs[w->n_dirs++] = (struct dir){ wd, copy };
	return 0;
}

static void emit(struct watch *w, const char *path, const char *type);

/* The directory and, in a recursive watch, all below it.  What is in a new one already came
 * before we looked: it is told as created. */
static int add_tree(struct watch *w, const char *path, bool is_new, unsigned depth, struct err *e)
{
	DIR *d auto_closedir = NULL;
	struct dirent *ent;

	if (add_dir(w, path, e) < 0)
		return -1;
	if (!w->recursive || depth == DEPTH_MAX)
		return 0;
	d = opendir(path);
	while (d && (ent = readdir(d))) {
		char below[PATH_MAX];
		struct stat st;
		int n;

		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		n = snprintf(below, sizeof(below), "%s/%s", path, ent->d_name);
		if (n < 0 || n >= (int)sizeof(below))
			continue;
		if (is_new)
			emit(w, below, "EVENT_TYPE_CREATE");
		if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode) &&
		    add_tree(w, below, is_new, depth + 1, e) < 0)
			return -1;
	}
	return 0;
}

/* --- events --- */

static const char *relative(const struct watch *w, const char *path)
{
	size_t n = strlen(w->root);

	if (strcmp(path, w->root) == 0)
		return ".";
	if (n == 1)
		return path + 1;
	return strncmp(path, w->root, n) == 0 ? path + n + 1 : path;
}

static int write_event(struct watch *w, const char *path, const char *type, struct buf *out,
		       struct err *e)
{
	struct stat st;
	struct jw j;

	jw_init(&j, out);
	jw_obj(&j);
	jw_kstr(&j, "name", relative(w, path));
	jw_kstr(&j, "type", type);
	if (w->with_entry && lstat(path, &st) == 0) {
		jw_key(&j, "entry");
		if (entry_write(w->all->d, path, &j, e) < 0)
			jw_null(&j);
	}
	jw_end(&j);
	return jw_done(&j, e);
}

static void stream_event(struct watch *w, const struct buf *event)
{
	struct buf text CLEANUP(buf_release);

	buf_init(&text, EVENT_JSON_MAX + 64);
	if (buf_puts(&text, "{\"filesystem\":", NULL) < 0 ||
	    buf_put(&text, buf_data(event), buf_len(event), NULL) < 0 ||
	    buf_puts(&text, "}", NULL) < 0)
		return;
	if (rpc_send(w->rpc, buf_data(&text), buf_len(&text)) == 1)
		loop_io_stop(&w->io);	/* until on_stream_drain */
}

static void keep_event(struct watch *w, const struct buf *event)
{
	if (w->too_many)
		return;
	if ((buf_len(&w->events) && buf_puts(&w->events, ",", NULL) < 0) ||
	    buf_put(&w->events, buf_data(event), buf_len(event), NULL) < 0)
		w->too_many = true;
}

static void emit(struct watch *w, const char *path, const char *type)
{
	struct buf event CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&event, EVENT_JSON_MAX);
	if (write_event(w, path, type, &event, &e) < 0)
		log_warn("watch of %s: %s", w->root, e.msg);
	else if (w->rpc)
		stream_event(w, &event);
	else
		keep_event(w, &event);
}

static const struct {
	uint32_t bits;
	const char *type;
} kinds[] = {
	{ IN_CREATE | IN_MOVED_TO, "EVENT_TYPE_CREATE" },
	{ IN_MOVED_FROM | IN_MOVE_SELF, "EVENT_TYPE_RENAME" },
	{ IN_ATTRIB, "EVENT_TYPE_CHMOD" },
	{ IN_MODIFY, "EVENT_TYPE_WRITE" },
	{ IN_DELETE | IN_DELETE_SELF, "EVENT_TYPE_REMOVE" },
};

static void on_event(struct watch *w, const struct inotify_event *ev)
{
	struct dir *d = find_dir(w, ev->wd);
	char path[PATH_MAX];
	struct err e = ERR_INIT;
	bool is_self;

	if (ev->mask & IN_Q_OVERFLOW) {
		w->too_many = true;
		if (w->rpc)
			rpc_fail(w->rpc, CONNECT_INTERNAL,
				 "watcher error: fsnotify: queue or buffer overflow");
	}
	if (!d)
		return;
	is_self = ev->len == 0;
	/* Of a directory below the root, its parent's event tells the same. */
	if (is_self && strcmp(d->path, w->root) != 0)
		return;
	snprintf(path, sizeof(path), "%s%s%.255s", strcmp(d->path, "/") ? d->path : "",
		 is_self ? "" : "/", is_self ? "" : ev->name);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (ev->mask & kinds[i].bits)
			emit(w, path, kinds[i].type);
	if (w->recursive && (ev->mask & IN_ISDIR) && (ev->mask & (IN_CREATE | IN_MOVED_TO)) &&
	    add_tree(w, path, ev->mask & IN_CREATE, 0, &e) < 0)
		log_warn("watch of %s: %s: %s", w->root, path, e.msg);
}

static void forget_dir(struct watch *w, int wd)
{
	struct dir *d = find_dir(w, wd);

	if (!d)
		return;
	free(d->path);
	*d = w->dirs[--w->n_dirs];
}

static void on_readable(struct loop_io *io, unsigned got __attribute__((unused)))
{
	struct watch *w = (struct watch *)((char *)io - offsetof(struct watch, io));
	_Alignas(struct inotify_event) char data[READ_BYTES];
	ssize_t n = read(w->fd, data, sizeof(data));

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *ev = (const void *)(data + at);

		on_event(w, ev);
		if (ev->mask & IN_IGNORED)
			forget_dir(w, ev->wd);
		at += (ssize_t)(sizeof(*ev) + ev->len);
	}
}

/* --- begin and end of a watch --- */

static void watch_free(struct watch *w)
{
	struct watch **at = &w->all->list;

	while (*at && *at != w)
		at = &(*at)->next;
	if (*at) {
		*at = w->next;
		w->all->n--;
	}
	loop_io_stop(&w->io);
	close_fd(&w->fd);
	for (size_t i = 0; i < w->n_dirs; i++)
		free(w->dirs[i].path);
	free(w->dirs);
	buf_release(&w->events);
	free(w);
}

static bool is_on_network(const char *path)
{
	static const unsigned long kinds_of[] = { 0x6969, 0xff534d42, 0x517b, 0xfe534d42,
						  0x65735546 };	/* nfs cifs smb smb2 fuse */
	struct statfs st;

	if (statfs(path, &st) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(kinds_of); i++)
		if ((unsigned long)(uint32_t)st.f_type == kinds_of[i])
			return true;
	return false;
}

/* false: the call was failed. */
static bool check_root(struct rpc *r, const json *message, char root[PATH_MAX])
{
	const char *path = "";
	bool network_too = false;
	struct err e = ERR_INIT;
	struct stat st;

	if (!rpc_user(r))
		return false;
	if (json_opt_str(message, "message", "path", &path, &e) < 0 ||
	    json_opt_bool(message, "message", "allowNetworkMounts", &network_too, &e) < 0 ||
	    path_resolve(r->d, &r->user, path, root, &e) < 0)
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "%s", e.msg);
	else if (stat(root, &st) < 0 && errno == ENOENT)
		rpc_fail(r, CONNECT_NOT_FOUND, "path %s not found: stat %s: %s", root, root,
			 sys_text(ENOENT));
	else if (stat(root, &st) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "error statting path %s: %s", root, sys_text(errno));
	else if (!S_ISDIR(st.st_mode))
		rpc_fail(r, CONNECT_INVALID_ARGUMENT, "path %s not a directory: %%!w(<nil>)", root);
	else if (is_on_network(root) && !(network_too && envd_since(r->d, "0.6.4")))
		rpc_fail(r, CONNECT_INVALID_ARGUMENT,
			 "cannot watch path on network filesystem: %s", root);
	return !r->done;
}

static struct watch *watch_new(struct rpc *r, const json *message, struct err *e)
{
	struct watchers *ws = r->d->watchers;
	struct watch *w = ws->n < WATCHERS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w) {
		err_set(e, ERR_LIMIT, 0, "more than %d watchers", WATCHERS_MAX);
		return NULL;
	}
	w->all = ws;
	w->next = ws->list;
	ws->list = w;
	ws->n++;
	buf_init(&w->events, WATCH_EVENTS_MAX);
	json_opt_bool(message, "message", "recursive", &w->recursive, NULL);
	json_opt_bool(message, "message", "includeEntry", &w->with_entry, NULL);
	w->with_entry = w->with_entry && envd_since(r->d, "0.6.3");
	w->recursive = w->recursive && envd_since(r->d, "0.1.4");
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0) {
		err_set(e, ERR_SYS, 0, "error creating watcher: %s", sys_text(errno));
		watch_free(w);
		return NULL;
	}
	return w;
}

/* NULL: the call was failed. */
static struct watch *watch_begin(struct rpc *r, const json *message)
{
	char root[PATH_MAX];
	struct err e = ERR_INIT;
	struct watch *w;

	if (!check_root(r, message, root))
		return NULL;
	w = watch_new(r, message, &e);
	if (!w) {
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
		return NULL;
	}
	memcpy(w->root, root, strlen(root) + 1);
	if (add_tree(w, root, false, 0, &e) < 0 ||
	    loop_io_start(r->d->loop, &w->io, w->fd, LOOP_IN, on_readable, &e) < 0) {
		rpc_fail(r, CONNECT_INTERNAL, "error adding path %s to watcher: %s", root, e.msg);
		watch_free(w);
		return NULL;
	}
	return w;
}

/* --- WatchDir --- */

static void on_stream_drain(struct rpc *r)
{
	struct watch *w = r->ctx;
	struct err e = ERR_INIT;

	if (loop_io_start(r->d->loop, &w->io, w->fd, LOOP_IN, on_readable, &e) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "watcher error: %s", e.msg);
}

static void on_stream_gone(struct rpc *r)
{
	watch_free(r->ctx);
}

void on_watch_dir(struct rpc *r, const json *message)
{
	static const char started[] = "{\"start\":{}}";
	struct watch *w = watch_begin(r, message);

	if (!w)
		return;
	w->rpc = r;
	r->ctx = w;
	r->on_drain = on_stream_drain;
	r->on_gone = on_stream_gone;
	rpc_send(r, started, sizeof(started) - 1);
	rpc_keepalive(r, KEEPALIVE);
}

/* --- watchers that are asked --- */

static int make_id(char id[ID_BYTES], struct err *e)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t r[ID_RANDOM];

	if (random_bytes(r, sizeof(r), e) < 0)
		return -1;
	id[0] = 'w';
	for (int i = 0; i < ID_RANDOM; i++)
		id[i + 1] = letters[r[i] % 36];
	id[ID_RANDOM + 1] = 0;
	return 0;
}

void on_create_watcher(struct rpc *r, const json *message)
{
	struct watch *w = watch_begin(r, message);
	struct err e = ERR_INIT;
	char text[64];
	int n;

	if (!w)
		return;
	if (make_id(w->id, &e) < 0) {
		rpc_fail(r, CONNECT_INTERNAL, "%s", e.msg);
		watch_free(w);
		return;
	}
	n = snprintf(text, sizeof(text), "{\"watcherId\":\"%s\"}", w->id);
	rpc_reply(r, text, (size_t)n);
}

static struct watch *find_watcher(struct rpc *r, const json *message)
{
	const char *id = json_string(json_get(message, "watcherId"));

	for (struct watch *w = r->d->watchers->list; w; w = w->next)
		if (id && *w->id && strcmp(w->id, id) == 0)
			return w;
	rpc_fail(r, CONNECT_NOT_FOUND, "watcher with id %s not found", id ? id : "");
	return NULL;
}

void on_watcher_events(struct rpc *r, const json *message)
{
	struct watch *w = find_watcher(r, message);
	struct buf text CLEANUP(buf_release);

	buf_init(&text, WATCH_EVENTS_MAX + 64);
	if (!w)
		return;
	/* What has happened before the question belongs to the answer. */
	on_readable(&w->io, LOOP_IN);
	if (w->too_many) {
		rpc_fail(r, CONNECT_INTERNAL, "watcher error: too many events were not asked for");
		return;
	}
	if (buf_len(&w->events) == 0) {
		rpc_reply(r, "{}", 2);
		return;
	}
	if (buf_puts(&text, "{\"events\":[", NULL) < 0 ||
	    buf_put(&text, buf_data(&w->events), buf_len(&w->events), NULL) < 0 ||
	    buf_puts(&text, "]}", NULL) < 0)
		rpc_fail(r, CONNECT_INTERNAL, "out of memory");
	else
		rpc_reply(r, buf_data(&text), buf_len(&text));
	buf_reset(&w->events);
}

void on_remove_watcher(struct rpc *r, const json *message)
{
	struct watch *w = find_watcher(r, message);

	if (!w)
		return;
	watch_free(w);
	rpc_reply(r, "{}", 2);
}

struct watchers *watchers_new(struct envd *d, struct err *e)
{
	struct watchers *ws = calloc(1, sizeof(*ws));

	if (ws)
		ws->d = d;
	else
		err_set(e, ERR_NO_MEMORY, 0, "watchers");
	return ws;
}

void watchers_free(struct watchers *ws)
{
	while (ws && ws->list)
		watch_free(ws->list);
	free(ws);
}
