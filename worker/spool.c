/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

#define PIECE      (128 * 1024)
#define ROUND_MAX  8 /* pieces a pass: other pipes and the deadline get their turn */
#define PUNCH_STEP (1024 * 1024)
#define PIPE_DEFAULT (64 * 1024)
/* Of one that was full: few are, and to make one this large takes longer than to make a pipe. */
#define PIPE_BYTES (1024 * 1024)

static void on_readable(struct loop_io *io, unsigned got);

static void set_reading(struct spool *s)
{
	bool want = !s->eof && s->len - s->acked < s->quota;

	if (want && !s->io.loop)
		loop_io_start(s->loop, &s->io, s->pipe_fd, LOOP_IN, on_readable, NULL);
	else if (!want)
		loop_io_stop(&s->io);
}

static void make_file(struct spool *s)
{
	s->file_fd = openat(s->dir_fd, s->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
	                    0600);
	if (s->file_fd < 0)
		err_set(&s->error, ERR_SYS, errno, "spool %s", s->name);
}

static void take(struct spool *s, const uint8_t *p, size_t n)
{
	if (s->file_fd < 0 && !s->error.code)
		make_file(s);
	if (s->error.code)
		return;
	if (fs_write_all(s->file_fd, p, n, &s->error) < 0) {
		err_wrap(&s->error, "spool");
		return;
	}
	hash_update(&s->hash, p, n);
	s->len += n;
	if (s->on_bytes)
		s->on_bytes(s, p, n);
}

static void on_readable(struct loop_io *io, unsigned got)
{
	static uint8_t piece[PIECE]; /* one keeper a process, one pass at a time */
	struct spool *s = (struct spool *)((char *)io - offsetof(struct spool, io));

	(void)got;
	for (int i = 0; i < ROUND_MAX && s->len - s->acked < s->quota; i++) {
		ssize_t n = read(s->pipe_fd, piece, sizeof(piece));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			s->eof = true;
			break;
		}
		take(s, piece, (size_t)n);
		if (n >= PIPE_DEFAULT && !s->grown) {
			s->grown = true;
			fcntl(s->pipe_fd, F_SETPIPE_SZ, PIPE_BYTES);
		}
		if (n < 4096) /* the pipe is drained: another read would only say EAGAIN */
			break;
	}
	set_reading(s);
	s->on_change(s);
}

int spool_open(struct spool *s, struct loop *l, int dir_fd, const char *name, int pipe_fd,
               uint64_t quota, struct err *e)
{
	s->loop = l;
	s->dir_fd = dir_fd;
	s->name = name;
	s->pipe_fd = pipe_fd;
	s->file_fd = -1;
	s->quota = quota;
	hash_init(&s->hash);
	return loop_io_start(l, &s->io, pipe_fd, LOOP_IN, on_readable, e);
}

void spool_ack(struct spool *s, uint64_t offset)
{
	uint64_t upto;

	if (offset <= s->acked || offset > s->len)
		return;
	s->acked = offset;
	upto = s->acked / PUNCH_STEP * PUNCH_STEP;
	/* Best effort: a file system without holes keeps the bytes until the session ends. */
	if (upto > s->punched && fallocate(s->file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                                   (off_t)s->punched, (off_t)(upto - s->punched)) == 0)
		s->punched = upto;
	set_reading(s);
}

void spool_stop(struct spool *s)
{
	s->eof = true;
	loop_io_stop(&s->io);
}

void spool_close(struct spool *s)
{
	loop_io_stop(&s->io);
	close_fd(&s->pipe_fd);
	close_fd(&s->file_fd);
}
