/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/step_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "worker/session.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#endif
#define NEXT       "steps/.next"
#define PATH_BYTES (LIMIT_STEP_ID + 32)

static int rename_new(int from_fd, const char *from, int to_fd, const char *to)
{
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, RENAME_NOREPLACE);
}

int step_dir_put(int fd, const char *name, const struct buf *b, struct err *e)
{
	auto_close int file =
		openat(fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (file < 0)
		return err_set(e, ERR_SYS, errno, "%s", name);
	return b ? fs_write_all(file, buf_data(b), buf_len(b), e) : 0;
}

static int make_dir(int at, const char *path, struct err *e)
{
	if (mkdirat(at, path, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYS, errno, "%s", path);
	return 0;
}

/* path and what is in it but the claim; -1 with errno EEXIST: it is there. */
static int make(struct session *s, const char *path, int *ret, struct err *e)
{
	auto_close int fd = -1;

	if (mkdirat(s->dir_fd, path, 0700) < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	fd = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		err_set(e, ERR_SYS, errno, "%s", path);
	} else if (make_dir(fd, "out", e) == 0 && make_dir(fd, "artifacts", e) == 0) {
		*ret = take_fd(&fd);
		return 0;
	}
	fs_remove_tree(s->dir_fd, path, NULL);
	return -1;
}

void step_dir_prepare(struct session *s)
{
	int fd = -1;

	if (s->next_fd >= 0 || make(s, NEXT, &fd, NULL) < 0)
		return;
	if (step_dir_put(fd, "claim", NULL, NULL) == 0 &&
	    step_dir_put(fd, "config.json", NULL, NULL) == 0 &&
	    make_dir(fd, "checkpoint", NULL) == 0) {
		s->next_fd = fd;
		return;
	}
	close(fd);
	step_dir_forget(s);
}

void step_dir_forget(struct session *s)
{
	close_fd(&s->next_fd);
	fs_remove_tree(s->dir_fd, NEXT, NULL);
}

/* 1: there is none, or the file system cannot do it. */
static int take_next(struct session *s, const char *path, const char *checkpoint,
                     const struct buf *claim, int *fd, struct err *e)
{
	if (s->next_fd < 0)
		return 1;
	if (step_dir_put(s->next_fd, "claim", claim, NULL) < 0 ||
	    rename_new(s->dir_fd, NEXT, s->dir_fd, path) < 0) {
		if (errno == EEXIST)
			return err_set(e, ERR_SYS, errno, "%s", path);
		step_dir_forget(s);
		return 1;
	}
	*fd = take_fd(&s->next_fd);
	/* Another attempt has one. */
	if (rename_new(*fd, "checkpoint", s->dir_fd, checkpoint) < 0)
		unlinkat(*fd, "checkpoint", AT_REMOVEDIR);
	return 0;
}

int step_dir_claim(struct session *s, const char *id, int attempt, const struct buf *claim, int *fd,
                   struct err *e)
{
	char path[PATH_BYTES], checkpoint[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "steps/%s.%d", id, attempt);
	snprintf(checkpoint, sizeof(checkpoint), "checkpoints/%s", id);
	r = take_next(s, path, checkpoint, claim, fd, e);
	if (r > 0) {
		if (make(s, path, fd, e) < 0)
			return err_wrap(e, "cannot claim step '%s'", id);
		r = make_dir(s->dir_fd, checkpoint, e) < 0 ? -1
		                                           : step_dir_put(*fd, "claim", claim, e);
		if (r < 0) {
			close_fd(fd);
			fs_remove_tree(s->dir_fd, path, NULL);
		}
	}
	return r < 0 ? err_wrap(e, "cannot claim step '%s'", id) : 0;
}
