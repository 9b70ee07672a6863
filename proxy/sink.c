/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/limits.h"

struct mark {
	uint64_t raw, file; /* what is in the log, unmasked and masked length */
	uint64_t hashed;    /* the digest stands here: at most 63 bytes before raw */
	struct hash hash;
};

void sink_init(struct sink *s)
{
	memset(s, 0, sizeof(*s));
	s->file_fd = s->mark_fd = s->fd = -1;
	hash_init(&s->hash);
	s->safe_hash = s->hash;
	buf_init(&s->wait, 2 * WINDOW_STREAM);
}

/* What was acknowledged cannot come again: a log that lost it would get a hole. */
static int go_back(struct sink *s, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(s->file_fd, &st) < 0)
		return err_set(e, ERR_SYS, errno, "%s: stat", path);
	if ((uint64_t)st.st_size < s->safe_file)
		return err_set(e, ERR_INTEGRITY, 0,
		               "%s: has %llu bytes, %llu were written: somebody cut it", path,
		               (unsigned long long)st.st_size, (unsigned long long)s->safe_file);
	if (ftruncate(s->file_fd, (off_t)s->safe_file) < 0 ||
	    lseek(s->file_fd, (off_t)s->safe_file, SEEK_SET) < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	return 0;
}

int sink_open_log(struct sink *s, int dirfd, const char *path, const char *mark,
                  const struct mask_set *secrets, struct err *e)
{
	struct mark m;

	sink_init(s);
	mask_init(&s->mask, secrets);
	s->file_fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->file_fd < 0)
		return err_set(e, ERR_SYS, errno, "cannot write %s", path);
	s->mark_fd = openat(dirfd, mark, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->mark_fd < 0)
		return err_set(e, ERR_SYS, errno, "cannot write %s", mark);
	if (pread(s->mark_fd, &m, sizeof(m), 0) == (ssize_t)sizeof(m)) {
		s->hash = s->safe_hash = m.hash;
		s->safe_raw = s->marked = m.raw;
		s->in.next = s->in.durable = m.hashed;
		s->only_hash = (size_t)(m.raw - m.hashed);
		s->safe_file = s->file_at = m.file;
	}
	return go_back(s, path, e);
}

/* A pipe or terminal is opened anew, so that O_NONBLOCK is ours alone and not that of
 * whoever shares the descriptor. */
int sink_open_fd(struct sink *s, struct loop *l, int fd, struct err *e)
{
	char path[32];
	struct stat st;

	(void)e;
	sink_init(s);
	s->loop = l;
	s->fd = fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
		int again = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

		if (again >= 0) {
			s->fd = again;
			s->reopened = true;
		}
	}
	return 0;
}

/* ---- descriptor ---- */

static ssize_t write_some(struct sink *s, const uint8_t *p, size_t n)
{
	struct pollfd pf = { s->fd, POLLOUT, 0 };

	if (s->reopened)
		return write(s->fd, p, n);
	/* Not ours to make non-blocking: a pipe that is ready takes PIPE_BUF bytes at once. */
	if (poll(&pf, 1, 0) <= 0 || !(pf.revents & (POLLOUT | POLLERR | POLLHUP))) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, p, n > 4096 ? 4096 : n);
}

static void drain(struct sink *s)
{
	while (buf_len(&s->wait)) {
		ssize_t n = write_some(s, buf_data(&s->wait), buf_len(&s->wait));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			s->failed = true;
			err_set(&s->error, ERR_SYS, errno, "cannot write to descriptor %d", s->fd);
			buf_reset(&s->wait);
			return;
		}
		buf_consume(&s->wait, (size_t)n);
	}
}

static void on_ready(struct loop_io *io, unsigned got)
{
	struct sink *s = (struct sink *)((char *)io - offsetof(struct sink, io));

	(void)got;
	drain(s);
	if (!buf_len(&s->wait))
		loop_io_stop(&s->io);
	if (s->on_room)
		s->on_room(s);
}

static int write_fd(struct sink *s, const void *p, size_t n, struct err *e)
{
	if (s->failed) { /* as a pipe without a reader: said once, at the end */
		*e = s->error;
		return -1;
	}
	if (buf_put(&s->wait, p, n, e) < 0)
		return -1;
	drain(s);
	/* A regular file is not pollable, and never full: drain took all of it. */
	if (buf_len(&s->wait) && !s->io.loop)
		return loop_io_start(s->loop, &s->io, s->fd, LOOP_OUT, on_ready, e);
	return 0;
}

/* ---- log ---- */

static int write_log(struct sink *s, const void *p, size_t n, struct err *e)
{
	struct buf out;
	size_t held;
	int r;

	buf_init(&out, 16 * LIMIT_DATA);
	r = mask_feed(&s->mask, p, n, &out, e);
	if (r == 0)
		r = fs_write_all(s->file_fd, buf_data(&out), buf_len(&out), e);
	s->file_at += buf_len(&out);
	buf_release(&out);
	if (r < 0)
		return -1;
	/* The checkpoint's digest ends where the masker's carry begins. */
	held = buf_len(&s->mask.carry);
	if (held <= n) {
		hash_update(&s->hash, p, n - held);
		s->safe_hash = s->hash;
		s->safe_raw = s->in.next - held;
		s->safe_file = s->file_at;
		hash_update(&s->hash, (const uint8_t *)p + (n - held), held);
	} else {
		hash_update(&s->hash, p, n);
	}
	return 0;
}

int sink_write(struct sink *s, const void *p, size_t n, struct err *e)
{
	size_t again = n < s->only_hash ? n : s->only_hash;

	if (again) {
		hash_update(&s->hash, p, again);
		s->safe_hash = s->hash;
		s->only_hash -= again;
		p = (const uint8_t *)p + again;
		n -= again;
	}
	if (s->file_fd >= 0)
		return n ? write_log(s, p, n, e) : 0;
	hash_update(&s->hash, p, n);
	return write_fd(s, p, n, e);
}

int sink_finish(struct sink *s, struct err *e)
{
	struct buf out;
	int r;

	if (s->file_fd < 0)
		return 0;
	buf_init(&out, 16 * LIMIT_DATA);
	r = mask_finish(&s->mask, &out, e);
	if (r == 0)
		r = fs_write_all(s->file_fd, buf_data(&out), buf_len(&out), e);
	s->file_at += buf_len(&out);
	buf_release(&out);
	s->safe_hash = s->hash;
	s->safe_raw = s->in.next;
	s->safe_file = s->file_at;
	return r == 0 ? sink_checkpoint(s, e) : -1;
}

bool sink_is_flushed(const struct sink *s)
{
	return buf_len(&s->wait) == 0;
}

int sink_checkpoint(struct sink *s, struct err *e)
{
	struct mark m;

	if (s->file_fd < 0) {
		s->in.durable = s->in.next - buf_len(&s->wait);
		return 0;
	}
	if (s->safe_raw == s->marked)
		return 0;
	if (s->only_hash) /* not back at the last checkpoint yet */
		return 0;
	memset(&m, 0, sizeof(m));
	m.raw = s->safe_raw;
	m.file = s->safe_file;
	m.hash = s->safe_hash;
	m.hashed = m.raw - hash_rewind(&m.hash);
	if (pwrite(s->mark_fd, &m, sizeof(m), 0) != (ssize_t)sizeof(m))
		return err_set(e, ERR_SYS, errno, "cannot write a checkpoint");
	s->marked = m.raw;
	s->in.durable = m.hashed;
	return 0;
}

void sink_close(struct sink *s)
{
	loop_io_stop(&s->io);
	if (s->reopened)
		close_fd(&s->fd);
	if (s->file_fd >= 0)
		mask_release(&s->mask);
	close_fd(&s->file_fd);
	close_fd(&s->mark_fd);
	buf_release(&s->wait);
}
