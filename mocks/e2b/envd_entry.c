/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/envd_entry.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "mocks/e2b/sys_text.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

#define XATTR_PREFIX "user.e2b."
#define HEADER_PREFIX "X-Metadata-"

enum { XATTR_NAMES_BYTES = 65536 };

/* --- EntryInfo --- */

static const char *type_name(mode_t mode)
{
	if (S_ISREG(mode))
		return "FILE_TYPE_FILE";
	if (S_ISDIR(mode))
		return "FILE_TYPE_DIRECTORY";
	return S_ISLNK(mode) ? "FILE_TYPE_SYMLINK" : NULL;
}

/* As Go's FileMode prints itself: a letter for each thing it is beside a file, then rwx. */
static void permissions(mode_t mode, char text[16])
{
	static const char rwx[] = "rwxrwxrwx";
	char *p = text;

	if (S_ISDIR(mode))
		*p++ = 'd';
	if (S_ISLNK(mode))
		*p++ = 'L';
	if (S_ISCHR(mode) || S_ISBLK(mode))
		*p++ = 'D';
	if (S_ISFIFO(mode))
		*p++ = 'p';
	if (S_ISSOCK(mode))
		*p++ = 'S';
	if (mode & S_ISUID)
		*p++ = 'u';
	if (mode & S_ISGID)
		*p++ = 'g';
	if (S_ISCHR(mode))
		*p++ = 'c';
	if (mode & S_ISVTX)
		*p++ = 't';
	if (p == text)
		*p++ = '-';
	for (int i = 0; i < 9; i++)
		*p++ = mode & (1u << (8 - i)) ? rwx[i] : '-';
	*p = 0;
}

/* RFC 3339 with as many of nine digits as matter, in threes. */
static void write_time(struct jw *w, const struct timespec *ts)
{
	char text[48];
	struct tm tm;
	size_t n;

	gmtime_r(&ts->tv_sec, &tm);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	if (ts->tv_nsec % 1000)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ".%09ld", ts->tv_nsec);
	else if (ts->tv_nsec % 1000000)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ".%06ld", ts->tv_nsec / 1000);
	else if (ts->tv_nsec)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ".%03ld", ts->tv_nsec / 1000000);
	snprintf(text + n, sizeof(text) - n, "Z");
	jw_kstr(w, "modifiedTime", text);
}

static void write_stored_metadata(const char *path, struct jw *w)
{
	char *names auto_free = malloc(XATTR_NAMES_BYTES);
	ssize_t n = names ? llistxattr(path, names, XATTR_NAMES_BYTES) : -1;
	bool any = false;

	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
		const char *name = names + at;
		char value[METADATA_MAX + 1];
		ssize_t len;

		if (strncmp(name, XATTR_PREFIX, sizeof(XATTR_PREFIX) - 1) != 0)
			continue;
		len = lgetxattr(path, name, value, METADATA_MAX);
		if (len < 0)
			continue;
		if (!any)
			jw_kobj(w, "metadata");
		any = true;
		value[len] = 0;
		jw_kstr(w, name + sizeof(XATTR_PREFIX) - 1, value);
	}
	if (any)
		jw_end(w);
}

/* A link shows the type and mode of what it leads to; if it leads nowhere, neither. */
static void write_details(const struct envd *d, const char *path, const struct stat *st,
			  struct jw *w)
{
	char owner[ENVD_NAME], group[ENVD_NAME], text[16], target[PATH_MAX];
	struct stat to = *st;
	bool is_link = S_ISLNK(st->st_mode);
	bool dangles = is_link && stat(path, &to) < 0;

	if (!dangles && (to.st_mode & 0777))
		jw_kint(w, "mode", to.st_mode & 0777);
	if (st->st_size)
		jw_ku64s(w, "size", (uint64_t)st->st_size);
	permissions(st->st_mode, text);
	jw_kstr(w, "permissions", text);
	user_names(d, st->st_uid, st->st_gid, owner, group);
	jw_kstr(w, "owner", owner);
	jw_kstr(w, "group", group);
	write_time(w, &st->st_mtim);
	if (is_link)
		jw_kstr(w, "symlinkTarget", realpath(path, target) ? target : path);
	if (envd_since(d, "0.6.2"))
		write_stored_metadata(path, w);
}

int entry_write(const struct envd *d, const char *path, struct jw *w, struct err *e)
{
	const char *type;
	struct stat st, to;

	if (lstat(path, &st) < 0)
		return err_set(e, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_SYS, 0,
			       "lstat %s: %s", path, sys_text(errno));
	type = type_name(st.st_mode);
	if (S_ISLNK(st.st_mode))
		type = stat(path, &to) == 0 ? type_name(to.st_mode) : NULL;
	jw_obj(w);
	jw_kstr(w, "name", path_base(path));
	if (type)
		jw_kstr(w, "type", type);
	jw_kstr(w, "path", path);
	if (envd_since(d, "0.2.5"))
		write_details(d, path, &st, w);
	jw_end(w);
	return 0;
}

/* --- metadata of uploads --- */

struct taking {
	struct metadata *m;
	struct err *e;
	size_t bytes;
	bool failed;
};

static int take_one(struct taking *t, const char *key, const char *value)
{
	char name[METADATA_KEY_MAX + 1];
	size_t n = strlen(key);

	if (n == 0 || n > METADATA_KEY_MAX)
		return err_set(t->e, ERR_INVALID_PARAMS, 0,
			       "metadata key of %zu bytes: want 1 to %d", n, METADATA_KEY_MAX);
	for (size_t i = 0; i <= n; i++)
		name[i] = (char)tolower((unsigned char)key[i]);
	for (const char *p = value; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			return err_set(t->e, ERR_INVALID_PARAMS, 0,
				       "metadata value of '%s': want printable ASCII", name);
	t->bytes += n + strlen(value);
	if (t->bytes > METADATA_MAX)
		return err_set(t->e, ERR_INVALID_PARAMS, 0, "metadata of more than %d bytes",
			       METADATA_MAX);
	if (buf_put(&t->m->pairs, name, n + 1, t->e) < 0)
		return -1;
	return buf_put(&t->m->pairs, value, strlen(value) + 1, t->e);
}

static void on_header(void *arg, const char *name, const char *value)
{
	struct taking *t = arg;

	if (!t->failed && strncasecmp(name, HEADER_PREFIX, sizeof(HEADER_PREFIX) - 1) == 0)
		t->failed = take_one(t, name + sizeof(HEADER_PREFIX) - 1, value) < 0;
}

int metadata_take(const struct http *h, struct metadata *ret, struct err *e)
{
	struct taking t = { .m = ret, .e = e };

	buf_init(&ret->pairs, 2 * METADATA_MAX);
	http_headers(h, on_header, &t);
	return t.failed ? -1 : 0;
}

void metadata_release(struct metadata *m)
{
	buf_release(&m->pairs);
}

static void remove_stored(int fd)
{
	char *names auto_free = malloc(XATTR_NAMES_BYTES);
	ssize_t n = names ? flistxattr(fd, names, XATTR_NAMES_BYTES) : -1;

	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1)
		if (strncmp(names + at, XATTR_PREFIX, sizeof(XATTR_PREFIX) - 1) == 0)
			fremovexattr(fd, names + at);
}

int metadata_store(int fd, const struct metadata *m, struct err *e)
{
	const char *p = (const char *)buf_data(&m->pairs), *end = p + buf_len(&m->pairs);

	remove_stored(fd);
	while (p < end) {
		const char *value = p + strlen(p) + 1;
		char name[sizeof(XATTR_PREFIX) + METADATA_KEY_MAX];

		snprintf(name, sizeof(name), XATTR_PREFIX "%s", p);
		if (fsetxattr(fd, name, value, strlen(value), 0) < 0) {
			if (errno == ENOTSUP || errno == EPERM) {
				log_warn("metadata is not stored: this file system has no user "
					 "attributes");
				return 0;
			}
			return err_set(e, ERR_SYS, errno, "setxattr %s", name);
		}
		p = value + strlen(value) + 1;
	}
	return 0;
}

void metadata_write(const struct metadata *m, struct jw *w)
{
	const char *p = (const char *)buf_data(&m->pairs), *end = p + buf_len(&m->pairs);

	if (p == end)
		return;
	jw_kobj(w, "metadata");
	while (p < end) {
		const char *value = p + strlen(p) + 1;

		jw_kstr(w, p, value);
		p = value + strlen(value) + 1;
	}
	jw_end(w);
}
