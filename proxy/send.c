/* SPDX-License-Identifier: Apache-2.0
 *
 * The package on its way to the worker: made once, sent from a file, so that a new connection
 * or a new proxy goes on where the last one was. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"
#include "proxy/run.h"

#define ARCHIVE "journal/package.tar.zst"
#define LEVEL   3

struct sending {
	struct run *run;
	struct call call;
	struct stream_out out;
	int fd;
	uint64_t size;
	uint64_t begun_ns;
	bool started, expected; /* the provider brings it: until it is there nothing is asked */
	char *path;             /* in the sandbox; NULL: it goes over the session */
};

static bool send_one(struct sending *s)
{
	struct carrier *c = link_carrier(s->run->link);
	uint64_t n;
	struct out_frame *f;
	bool end;

	if (!c || !s->out.channel || !carrier_has_room(c))
		return false;
	n = stream_out_ready(&s->out, s->size);
	if (n > carrier_piece(c))
		n = carrier_piece(c);
	if (!n && !stream_out_end_due(&s->out))
		return false;
	f = carrier_frame(c, true, true, FRAME_HEADER + (size_t)n, NULL);
	if (!f)
		return false;
	if (n && pread(s->fd, out_frame_payload(f) + FRAME_HEADER, (size_t)n, (off_t)s->out.sent) !=
	                 (ssize_t)n) {
		struct err e = ERR_INIT;

		free(f);
		err_set(&e, ERR_SYS, errno, "cannot read the package");
		run_stop(s->run, &e);
		return false;
	}
	end = s->out.sent + n == s->size;
	frame_header(out_frame_payload(f), FRAME_DATA, end ? FRAME_END : 0, s->out.channel,
	             s->out.sent);
	stream_out_sent(&s->out, n, end);
	carrier_push(c, f);
	return true;
}

void sending_pump(struct sending *s)
{
	while (send_one(s))
		;
}

static void on_window(void *owner, const struct frame *f)
{
	struct sending *s = owner;
	struct err e = ERR_INIT;

	/* What a worker has already need not be sent again. */
	if (f->kind == FRAME_WINDOW && f->offset > s->out.sent && f->offset <= s->size)
		s->out.sent = f->offset;
	if (f->kind != FRAME_WINDOW || stream_out_window(&s->out, f, &e) < 0)
		link_fail(s->run->link,
		          e.code ? &e
		                 : &(struct err){ .code = ERR_PROTO,
		                                  .msg = "package: want WINDOW frames" });
	else
		sending_pump(s);
}

static int render(struct call *c, struct link *l, struct buf *out, struct err *e)
{
	struct sending *s = (struct sending *)((char *)c - offsetof(struct sending, call));

	if (s->path) {
		struct jw w;

		jw_init(&w, out);
		jw_obj(&w);
		jw_kstr(&w, "sha256", s->run->package.sha256);
		jw_ku64s(&w, "size", s->size);
		jw_kstr(&w, "path", s->path);
		jw_end(&w);
		return jw_done(&w, e);
	}
	stream_out_bind(&s->out, link_bind(l, s, on_window), s->out.acked, 0);
	s->out.ended = true;
	s->out.total = s->size;
	return buf_printf(out, e, "{\"sha256\":\"%s\",\"size\":\"%llu\",\"channel\":%u}",
	                  s->run->package.sha256, (unsigned long long)s->size,
	                  (unsigned)s->out.channel);
}

static void on_loaded(struct call *c, const json *result, const struct err *error)
{
	struct sending *s = (struct sending *)((char *)c - offsetof(struct sending, call));
	struct run *r = s->run;
	struct buf b;
	struct jw w;

	(void)result;
	if (error && s->path) {
		log_warn("the package that was brought into the sandbox: %s; it is sent again",
		         error->msg);
		free(s->path);
		s->path = NULL;
		link_call(r->link, &s->call);
		return;
	}
	if (error) {
		struct err e = *error;

		err_wrap(&e, "the worker refused the package");
		run_stop(r, &e);
		return;
	}
	buf_init(&b, 1024);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_kint(&w, "bytes", (int64_t)s->size);
	jw_kint(&w, "raw_bytes", (int64_t)r->package.bytes);
	jw_knum(&w, "ratio", (double)r->package.bytes / (double)s->size);
	jw_kint(&w, "files", (int64_t)r->package.n);
	jw_kstr(&w, "sha256", r->package.sha256);
	jw_knum(&w, "duration_ms", (double)(now_ns() - s->begun_ns) / 1e6);
	jw_end(&w);
	run_event(r, "package_uploaded", &b);
	buf_release(&b);
	unlinkat(r->dir.fd, ARCHIVE, 0);
	run_phase(r, PHASE_RUN);
	run_steps_begin(r);
}

static int make_archive(struct run *r, struct err *e)
{
	auto_close int fd = openat(r->dir.fd, ARCHIVE,
	                           O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "%s/" ARCHIVE, r->dir.path);
	if (package_write(&r->package, fd, LEVEL, e) < 0)
		return -1;
	return take_fd(&fd);
}

struct sending *sending_new(struct run *r, struct err *e)
{
	struct sending *s = calloc(1, sizeof(*s));
	struct stat st;

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "package");
		return NULL;
	}
	s->run = r;
	s->begun_ns = now_ns();
	s->fd = r->attached ? openat(r->dir.fd, ARCHIVE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (s->fd < 0)
		s->fd = make_archive(r, e);
	if (s->fd < 0 || fstat(s->fd, &st) < 0) {
		sending_free(s);
		return NULL;
	}
	s->size = (uint64_t)st.st_size;
	s->call.method = "package.load";
	s->call.render = render;
	s->call.on_done = on_loaded;
	return s;
}

void sending_start(struct sending *s)
{
	s->started = true;
	if (!s->expected)
		link_call(s->run->link, &s->call);
}

int sending_expect(struct sending *s, uint64_t *size)
{
	s->expected = true;
	*size = s->size;
	return s->fd;
}

void sending_brought(struct sending *s, const char *path)
{
	s->expected = false;
	s->path = path ? strdup(path) : NULL;
	if (s->started)
		link_call(s->run->link, &s->call);
}

void sending_free(struct sending *s)
{
	if (!s)
		return;
	if (s->run->link)
		link_forget(s->run->link, &s->call);
	close_fd(&s->fd);
	free(s->path);
	free(s);
}
