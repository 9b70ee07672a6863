/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "proxy/userkey.h"

#define FILE_NAME "sandbox.json"
#define LOCK_NAME "lock"
#define FILE_MAX_BYTES 16384

int mark_dir(const char *run, char out[256], struct err *e)
{
	char base[256];

	if (runtime_dir(base, e) < 0)
		return -1;
	return snprintf(out, 256, "%.180s/%s", base, run) < 256
	               ? 0
	               : err_set(e, ERR_LIMIT, 0, "run id '%.80s': too long", run);
}

/* type: F_RDLCK or F_WRLCK; of the whole file, by open file description. */
static int lock_open(const char *dir, int flags, short type, int *ret, struct err *e)
{
	struct flock whole = { .l_type = type, .l_whence = SEEK_SET };
	char path[300];
	auto_close int fd = -1;
	struct stat st;

	snprintf(path, sizeof(path), "%.280s/" LOCK_NAME, dir);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	if (fd < 0)
		return err_set(e, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_SYS,
		               errno, "%s", path);
	if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
		return err_set(e, errno == EAGAIN || errno == EACCES ? ERR_BUSY : ERR_SYS, errno,
		               "%s", path);
	/* Whoever ended it has removed the file, perhaps after we opened it. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return err_set(e, ERR_NOT_FOUND, ENOENT, "%s", path);
	*ret = take_fd(&fd);
	return 0;
}

int mark_make(const char *dir, int *ret, struct err *e)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYS, errno, "%s: mkdir", dir);
	return lock_open(dir, O_CREAT, F_RDLCK, ret, e);
}

int mark_write(const char *dir, const struct mark *m, struct err *e)
{
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct buf text CLEANUP(buf_release), sandbox CLEANUP(buf_release);
	struct jw w;

	buf_init(&text, FILE_MAX_BYTES);
	buf_init(&sandbox, FILE_MAX_BYTES);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", dir);
	if (sandbox_print(&m->sandbox, &sandbox, e) < 0)
		return -1;
	jw_init(&w, &text);
	jw_obj(&w);
	jw_kint(&w, "v", 1);
	jw_kstr(&w, "key", m->key_id);
	jw_kstr(&w, "run_dir", m->run_dir);
	jw_kbool(&w, "keep", m->keep);
	jw_ku64s(&w, "born_us", m->born_us);
	jw_key(&w, "sandbox");
	jw_raw(&w, (const char *)buf_data(&sandbox), buf_len(&sandbox));
	jw_end(&w);
	if (jw_done(&w, e) < 0)
		return -1;
	return fs_write(fd, FILE_NAME, buf_data(&text), buf_len(&text), 0600, false, e);
}

static int parse(const json *v, struct mark *ret, struct err *e)
{
	struct mark m = { .keep = false };
	const char *key = "", *run_dir = "";
	const json *sandbox = NULL;

	if (json_req_str(v, "mark", "key", &key, e) < 0 ||
	    json_opt_str(v, "mark", "run_dir", &run_dir, e) < 0 ||
	    json_opt_bool(v, "mark", "keep", &m.keep, e) < 0 ||
	    json_opt_u64(v, "mark", "born_us", &m.born_us, e) < 0 ||
	    json_req_obj(v, "mark", "sandbox", &sandbox, e) < 0 ||
	    sandbox_parse(sandbox, &m.sandbox, e) < 0)
		return -1;
	if (strlen(key) >= sizeof(m.key_id) || strlen(run_dir) >= sizeof(m.run_dir))
		return err_set(e, ERR_INVALID_PARAMS, 0, "mark: too long");
	snprintf(m.key_id, sizeof(m.key_id), "%s", key);
	snprintf(m.run_dir, sizeof(m.run_dir), "%s", run_dir);
	*ret = m;
	return 0;
}

int mark_read(const char *dir, struct mark *ret, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	auto_json json *v = NULL;
	char path[300];

	buf_init(&text, FILE_MAX_BYTES);
	snprintf(path, sizeof(path), "%.280s/" FILE_NAME, dir);
	if (fs_read(AT_FDCWD, path, FILE_MAX_BYTES, &text, e) < 0)
		return -1;
	v = json_parse((const char *)buf_data(&text), buf_len(&text), FILE_MAX_BYTES,
	               LIMIT_JSON_DEPTH, e);
	return v && parse(v, ret, e) == 0 ? 0 : err_wrap(e, "%s", path);
}

int mark_hold(const char *dir, int *ret, struct err *e)
{
	return lock_open(dir, 0, F_RDLCK, ret, e);
}

bool mark_is_held(const char *dir)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	auto_close int fd = -1;
	char path[300];

	snprintf(path, sizeof(path), "%.280s/" LOCK_NAME, dir);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

bool mark_has_lock(const char *dir)
{
	char path[300];

	snprintf(path, sizeof(path), "%.280s/" LOCK_NAME, dir);
	return access(path, F_OK) == 0;
}

int mark_seize(const char *dir, int *ret, struct err *e)
{
	return lock_open(dir, O_CREAT, F_WRLCK, ret, e);
}

void mark_remove(const char *dir)
{
	static const char *const names[] = { FILE_NAME, LOCK_NAME };
	char path[300];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%.280s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}
