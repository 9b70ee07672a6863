/* SPDX-License-Identifier: Apache-2.0
 *
 * Who asks, as which user, and which path that means. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mocks/e2b/base64.h"
#include "mocks/e2b/envd_int.h"
#include "mocks/e2b/query.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"

enum { SIGNATURE_MAX = 128, EXPIRATION_MAX = 24, SIGNED_MAX = 3 * PATH_MAX, USER_LINE = 1024 };

/* --- token and signature --- */

static bool same_text(const char *a, const char *b)
{
	return strlen(a) == strlen(b) && equal_ct(a, b, strlen(a));
}

bool envd_token_ok(const struct envd *d, const struct http *h)
{
	const char *token = http_header(h, "X-Access-Token");

	return !d->token || (token && same_text(token, d->token));
}

/* "v1_" and the base64 of SHA-256 over path:operation:username:token[:expiration], unpadded. */
static int sign(const struct envd *d, const char *path, const char *op, const char *user,
		const char *expiration, struct buf *out, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	uint8_t digest[SHA256_LEN];

	buf_init(&text, SIGNED_MAX);
	if (buf_printf(&text, e, "%s:%s:%s:%s%s%s", path, op, user, d->token,
		       *expiration ? ":" : "", expiration) < 0)
		return -1;
	sha256(buf_data(&text), buf_len(&text), digest);
	if (buf_puts(out, "v1_", e) < 0 || base64_put(digest, sizeof(digest), out, e) < 0)
		return -1;
	while (buf_len(out) && buf_data(out)[buf_len(out) - 1] == '=')
		out->len--;
	return 0;
}

static int read_query(const struct http *h, const char *key, struct buf *out, size_t max,
		      struct err *e)
{
	buf_init(out, max);
	if (query_get(http_query(h), key, out, e) < 0 || !buf_cstr(out, e))
		return -1;
	return 0;
}

static int check_signature(const struct envd *d, const struct http *h, const char *op,
			   const char *signature, struct err *e)
{
	struct buf path CLEANUP(buf_release), user CLEANUP(buf_release);
	struct buf expiration CLEANUP(buf_release), want CLEANUP(buf_release);
	const char *until;

	buf_init(&user, 0);
	buf_init(&expiration, 0);
	buf_init(&want, SIGNATURE_MAX);
	if (read_query(h, "path", &path, PATH_MAX, e) < 0 ||
	    read_query(h, "username", &user, ENVD_NAME, e) < 0 ||
	    read_query(h, "signature_expiration", &expiration, EXPIRATION_MAX, e) < 0)
		return -1;
	until = (const char *)buf_data(&expiration);
	if (sign(d, (const char *)buf_data(&path), op, (const char *)buf_data(&user), until,
		 &want, e) < 0)
		return -1;
	if (!same_text(buf_cstr(&want, e), signature))
		return err_set(e, ERR_DENIED, 0, "invalid signature");
	if (*until && strtoll(until, NULL, 10) < (long long)time(NULL))
		return err_set(e, ERR_DENIED, 0, "signature is already expired");
	return 0;
}

int envd_signature_ok(const struct envd *d, const struct http *h, const char *op, struct err *e)
{
	struct buf signature CLEANUP(buf_release);

	buf_init(&signature, 0);
	if (!d->token)
		return 0;
	if (http_header(h, "X-Access-Token"))
		return envd_token_ok(d, h) ? 0 : err_set(e, ERR_DENIED, 0, "access token present "
							 "in header but does not match");
	if (!envd_since(d, "0.2.0"))
		return err_set(e, ERR_DENIED, 0, "missing access token");
	if (read_query(h, "signature", &signature, SIGNATURE_MAX, e) < 0)
		return -1;
	if (buf_len(&signature) == 0)
		return err_set(e, ERR_DENIED, 0, "missing signature query parameter");
	return check_signature(d, h, op, (const char *)buf_data(&signature), e);
}

/* --- users --- */

static int copy_user(const struct passwd *p, struct user *ret, struct err *e)
{
	int n = snprintf(ret->name, sizeof(ret->name), "%s", p->pw_name);
	int m = snprintf(ret->home, sizeof(ret->home), "%s", p->pw_dir);

	if (n < 0 || m < 0 || (size_t)n >= sizeof(ret->name) || (size_t)m >= sizeof(ret->home))
		return err_set(e, ERR_LIMIT, 0, "user: name or home is too long");
	ret->uid = p->pw_uid;
	ret->gid = p->pw_gid;
	return 0;
}

/* The table is the sandbox's own file, which its processes may change at any time. */
int user_find(const struct envd *d, const char *name, struct user *ret, struct err *e)
{
	FILE *f auto_fclose = fopen(d->passwd, "re");
	struct passwd p, *found;
	char line[USER_LINE];

	while (f && fgetpwent_r(f, &p, line, sizeof(line), &found) == 0)
		if (strcmp(p.pw_name, name) == 0)
			return copy_user(&p, ret, e);
	return err_set(e, ERR_NOT_FOUND, 0, "user: unknown user %s", name);
}

void user_names(const struct envd *d, uid_t uid, gid_t gid, char owner[ENVD_NAME],
		char group[ENVD_NAME])
{
	FILE *f auto_fclose = fopen(d->passwd, "re");
	struct passwd p, *found;
	struct group g, *found_group;
	char line[USER_LINE];

	snprintf(owner, ENVD_NAME, "%lu", (unsigned long)uid);
	snprintf(group, ENVD_NAME, "%lu", (unsigned long)gid);
	while (f && fgetpwent_r(f, &p, line, sizeof(line), &found) == 0)
		if (p.pw_uid == uid) {
			snprintf(owner, ENVD_NAME, "%.60s", p.pw_name);
			break;
		}
	if (getgrgid_r(gid, &g, line, sizeof(line), &found_group) == 0 && found_group)
		snprintf(group, ENVD_NAME, "%.60s", g.gr_name);
}

/* --- paths --- */

/* As Go's filepath.Clean does it for an absolute path: by its letters, not by its links. */
static void clean(char *path)
{
	char *out = path, *save = NULL, *part;
	char copy[PATH_MAX];

	memcpy(copy, path, strlen(path) + 1);
	for (part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			while (out > path && *--out != '/')
				;
			continue;
		}
		*out++ = '/';
		memcpy(out, part, strlen(part));
		out += strlen(part);
	}
	if (out == path)
		*out++ = '/';
	*out = 0;
}

int path_resolve(const struct envd *d, const struct user *u, const char *path, char ret[PATH_MAX],
		 struct err *e)
{
	int n;

	if (!*path && *d->default_workdir)
		path = d->default_workdir;
	if (path[0] == '~' && path[1] && path[1] != '/' && path[1] != '\\')
		return err_set(e, ERR_INVALID_PARAMS, 0,
			       "failed to expand path '%s' for user '%s': cannot expand "
			       "user-specific home dir", path, u->name);
	if (path[0] == '~')
		n = snprintf(ret, PATH_MAX, "%s/%s", u->home, path + 1);
	else if (path[0] == '/')
		n = snprintf(ret, PATH_MAX, "%s", path);
	else
		n = snprintf(ret, PATH_MAX, "%s/%s", u->home, path);
	if (n < 0 || n >= PATH_MAX)
		return err_set(e, ERR_INVALID_PARAMS, 0, "path of %d bytes: file name too long", n);
	clean(ret);
	return 0;
}

void path_parent(const char *path, char ret[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t n = slash && slash > path ? (size_t)(slash - path) : 0;

	memcpy(ret, path, n);
	if (n == 0)
		ret[n++] = '/';
	ret[n] = 0;
}

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

int path_give(int dirfd, const char *path, const struct user *u, struct err *e)
{
	if (fchownat(dirfd, path, u->uid, u->gid, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (errno == EPERM || errno == EINVAL)	/* the only user of its namespace */
		return 0;
	return err_set(e, ERR_SYS, errno, "chown %s", path);
}

int path_make_dirs(const struct user *u, const char *path, struct err *e)
{
	char part[PATH_MAX];
	struct stat st;

	for (const char *p = path; *p;) {
		size_t n;

		p += strspn(p, "/");
		p += strcspn(p, "/");
		n = (size_t)(p - path);
		memcpy(part, path, n);
		part[n] = 0;
		if (n == 0 || stat(part, &st) == 0) {
			if (n && !S_ISDIR(st.st_mode))
				return err_set(e, ERR_INVALID_PARAMS, 0, "path is a file: %s",
					       part);
			continue;
		}
		if (errno != ENOENT)
			return err_set(e, ERR_SYS, errno, "failed to stat directory: %s", part);
		if (mkdir(part, 0755) < 0)
			return err_set(e, ERR_SYS, errno, "failed to create directory: mkdir %s",
				       part);
		if (path_give(AT_FDCWD, part, u, e) < 0)
			return -1;
	}
	return 0;
}
