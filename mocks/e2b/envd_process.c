/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/envd_process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mocks/e2b/envd_kill.h"
#include "mocks/e2b/envd_spawn.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum { LAST_READS = 8 };

struct output {
	struct loop_io io;
	int fd;
	struct proc *proc;
	enum proc_stream stream;
};

struct proc {
	struct procs *all;
	pid_t pid;
	char *tag, *config;
	bool pty;
	struct output out[2];
	int in_fd;
	struct loop_io in;
	struct buf input;
	uint64_t written;
	bool close_after_input;
	struct proc_write *writes;	/* in order */
	struct proc_watcher *watchers;
	struct loop_timer timer;	/* kills it; later: forgets it */
	bool exited;
	bool gave_up_output;
	int status;
	struct proc *next;
};

struct procs {
	struct envd *d;
	struct loop_signal child;
	struct proc *live, *ended;	/* in the order of their start, of their end */
	unsigned n;
};

/* --- looking them up --- */

static struct proc *find(struct proc *list, uint64_t pid)
{
	while (list && (uint64_t)list->pid != pid)
		list = list->next;
	return list;
}

struct proc *proc_by_pid(const struct procs *ps, uint64_t pid)
{
	return find(ps->live, pid);
}

struct proc *proc_ended_by_pid(const struct procs *ps, uint64_t pid)
{
	return find(ps->ended, pid);
}

struct proc *proc_by_tag(const struct procs *ps, const char *tag)
{
	for (struct proc *p = ps->live; p; p = p->next)
		if (p->tag)
			return strcmp(p->tag, tag) == 0 ? p : NULL;
	return NULL;
}

struct proc *proc_first(const struct procs *ps)
{
	return ps->live;
}

struct proc *proc_next(const struct proc *p)
{
	return p->next;
}

pid_t proc_pid(const struct proc *p)
{
	return p->pid;
}

const char *proc_tag(const struct proc *p)
{
	return p->tag;
}

const char *proc_config(const struct proc *p)
{
	return p->config;
}

int proc_status(const struct proc *p)
{
	return p->status;
}

bool proc_has_pty(const struct proc *p)
{
	return p->pty;
}

bool proc_has_stdin(const struct proc *p)
{
	return p->in_fd >= 0 && !p->close_after_input;
}

/* --- the end --- */

static void append(struct proc **list, struct proc *p)
{
	while (*list)
		list = &(*list)->next;
	*list = p;
	p->next = NULL;
}

static void unlink_from(struct proc **list, struct proc *p)
{
	while (*list && *list != p)
		list = &(*list)->next;
	if (*list)
		*list = p->next;
}

static void close_out(struct proc *p, int i)
{
	loop_io_stop(&p->out[i].io);
	close_fd(&p->out[i].fd);
}

static void fail_writes(struct proc *p, int sys)
{
	while (p->writes) {
		struct proc_write *w = p->writes;

		p->writes = w->next;
		w->proc = NULL;
		w->on_done(w, sys);
	}
}

static void close_in(struct proc *p, int sys)
{
	loop_io_stop(&p->in);
	close_fd(&p->in_fd);
	buf_reset(&p->input);
	fail_writes(p, sys);
}

static void proc_free(struct proc *p)
{
	loop_timer_stop(&p->timer);
	close_out(p, 0);
	close_out(p, 1);
	close_in(p, EPIPE);
	buf_release(&p->input);
	free(p->tag);
	free(p->config);
	free(p);
}

static void on_forget(struct loop_timer *t)
{
	struct proc *p = (struct proc *)((char *)t - offsetof(struct proc, timer));

	unlink_from(&p->all->ended, p);
	proc_free(p);
}

static void tell_end(struct proc *p)
{
	while (p->watchers) {
		struct proc_watcher *w = p->watchers;

		p->watchers = w->next;
		w->proc = NULL;
		w->on_end(w, p);
	}
}

static void end(struct proc *p)
{
	struct procs *ps = p->all;
	struct err e = ERR_INIT;

	unlink_from(&ps->live, p);
	ps->n--;
	close_out(p, 0);
	close_out(p, 1);
	close_in(p, EPIPE);
	tell_end(p);
	if (!envd_since(ps->d, "0.6.12") ||
	    loop_timer_start(ps->d->loop, &p->timer, ENVD_EXIT_KEPT_MS, on_forget, &e) < 0)
		proc_free(p);
	else
		append(&ps->ended, p);
}

/* Its exit is the end only when all who hold its output have let go of it, too. */
static bool end_if_over(struct proc *p)
{
	bool open = p->out[0].fd >= 0 || p->out[1].fd >= 0;

	if (!p->exited || (open && !p->gave_up_output))
		return false;
	end(p);
	return true;
}

/* --- output --- */

static bool reads_on(const struct proc *p)
{
	if (!p->watchers)
		return envd_since(p->all->d, "0.5.19");
	for (const struct proc_watcher *w = p->watchers; w; w = w->next)
		if (w->full)
			return false;
	return true;
}

static void on_out(struct loop_io *io, unsigned got);

static void update_reading(struct proc *p)
{
	bool on = reads_on(p);
	struct err e = ERR_INIT;

	for (int i = 0; i < 2; i++) {
		if (p->out[i].fd < 0)
			continue;
		if (!on)
			loop_io_stop(&p->out[i].io);
		else if (loop_io_start(p->all->d->loop, &p->out[i].io, p->out[i].fd, LOOP_IN,
				       on_out, &e) < 0)
			log_error("process %d: %s", p->pid, e.msg);
	}
}

static void deliver(struct proc *p, enum proc_stream s, const uint8_t *data, size_t n)
{
	struct proc_watcher *next;

	for (struct proc_watcher *w = p->watchers; w; w = next) {
		next = w->next;
		w->full |= w->on_data(w, s, data, n) == 1;
	}
}

/* One piece.  1: there may be more; 0: nothing now; -1: it is over. */
static int read_out(struct proc *p, int i)
{
	uint8_t data[PROC_STD_CHUNK];
	size_t max = p->pty ? PROC_PTY_CHUNK : PROC_STD_CHUNK;
	ssize_t n = read(p->out[i].fd, data, max);

	if (n > 0) {
		deliver(p, p->out[i].stream, data, (size_t)n);
		return 1;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	close_out(p, i);	/* a terminal without a process gives EIO */
	return -1;
}

static void on_out(struct loop_io *io, unsigned got __attribute__((unused)))
{
	struct output *o = (struct output *)((char *)io - offsetof(struct output, io));
	struct proc *p = o->proc;

	read_out(p, o == &p->out[1]);
	if (!end_if_over(p))
		update_reading(p);
}

/* --- input --- */

static void on_in(struct loop_io *io, unsigned got);

static void update_writing(struct proc *p)
{
	struct err e = ERR_INIT;

	if (p->in_fd < 0)
		return;
	if (buf_len(&p->input) == 0) {
		loop_io_stop(&p->in);
		if (p->close_after_input)
			close_in(p, 0);
	} else if (loop_io_start(p->all->d->loop, &p->in, p->in_fd, LOOP_OUT, on_in, &e) < 0) {
		log_error("process %d: %s", p->pid, e.msg);
	}
}

static void tell_written(struct proc *p)
{
	while (p->writes && p->writes->until <= p->written) {
		struct proc_write *w = p->writes;

		p->writes = w->next;
		w->proc = NULL;
		w->on_done(w, 0);
	}
}

static void on_in(struct loop_io *io, unsigned got __attribute__((unused)))
{
	struct proc *p = (struct proc *)((char *)io - offsetof(struct proc, in));
	ssize_t n = write(p->in_fd, buf_data(&p->input), buf_len(&p->input));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		close_in(p, errno);
		return;
	}
	buf_consume(&p->input, (size_t)n);
	p->written += (uint64_t)n;
	update_writing(p);
	tell_written(p);
}

int proc_write(struct proc *p, const void *data, size_t n, struct proc_write *w, struct err *e)
{
	struct proc_write **at = &p->writes;

	if (buf_put(&p->input, data, n, e) < 0)
		return err_wrap(e, "process %d does not read its input", p->pid);
	w->proc = p;
	w->until = p->written + buf_len(&p->input);
	w->next = NULL;
	while (*at)
		at = &(*at)->next;
	*at = w;
	update_writing(p);
	if (n == 0)
		tell_written(p);
	return 0;
}

void proc_write_forget(struct proc_write *w)
{
	struct proc_write **at;

	if (!w->proc)
		return;
	for (at = &w->proc->writes; *at && *at != w; at = &(*at)->next)
		;
	if (*at)
		*at = w->next;
	w->proc = NULL;
}

void proc_close_stdin(struct proc *p)
{
	p->close_after_input = true;
	update_writing(p);
}

/* --- watchers --- */

void proc_watch(struct proc *p, struct proc_watcher *w)
{
	w->proc = p;
	w->full = false;
	w->next = p->watchers;
	p->watchers = w;
	update_reading(p);
}

void proc_unwatch(struct proc_watcher *w)
{
	struct proc *p = w->proc;
	struct proc_watcher **at;

	if (!p)
		return;
	for (at = &p->watchers; *at && *at != w; at = &(*at)->next)
		;
	if (*at)
		*at = w->next;
	w->proc = NULL;
	update_reading(p);
}

void proc_watcher_go_on(struct proc_watcher *w)
{
	w->full = false;
	if (w->proc)
		update_reading(w->proc);
}

/* --- signals and size --- */

int proc_signal(struct proc *p, int sig, struct err *e)
{
	if (!p->exited && kill(p->pid, sig) < 0)
		return err_set(e, ERR_SYS, errno, "kill");
	/* Whoever is asked to end is not waited for any longer than that takes. */
	p->gave_up_output = true;
	end_if_over(p);
	return 0;
}

int proc_resize(struct proc *p, unsigned rows, unsigned cols, struct err *e)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	if (!p->pty || p->out[0].fd < 0)
		return err_set(e, ERR_STATE, 0, "tty not assigned to process");
	if (ioctl(p->out[0].fd, TIOCSWINSZ, &size) < 0)
		return err_set(e, ERR_SYS, errno, "TIOCSWINSZ");
	return 0;
}

/* --- start and exit --- */

static void on_timeout(struct loop_timer *t)
{
	struct proc *p = (struct proc *)((char *)t - offsetof(struct proc, timer));

	proc_signal(p, SIGKILL, NULL);
}

static struct proc *new_proc(struct procs *ps, const struct proc_spec *spec, struct err *e)
{
	struct proc *p = calloc(1, sizeof(*p));

	if (p) {
		p->all = ps;
		p->pty = spec->pty;
		p->out[0] = (struct output){ .fd = -1, .proc = p,
					     .stream = spec->pty ? PROC_PTY : PROC_STDOUT };
		p->out[1] = (struct output){ .fd = -1, .proc = p, .stream = PROC_STDERR };
		p->in_fd = -1;
		p->tag = spec->tag ? strdup(spec->tag) : NULL;
		p->config = strdup(spec->config);
		buf_init(&p->input, PROC_INPUT_MAX);
	}
	if (p && p->config && (p->tag || !spec->tag))
		return p;
	if (p)
		proc_free(p);
	err_set(e, ERR_NO_MEMORY, 0, "process");
	return NULL;
}

struct proc *proc_start(struct procs *ps, const struct proc_spec *spec, struct err *e)
{
	struct spawned s;
	struct proc *p;

	if (ps->n >= PROC_MAX) {
		err_set(e, ERR_LIMIT, 0, "%u processes run already", ps->n);
		return NULL;
	}
	p = new_proc(ps, spec, e);
	if (!p)
		return NULL;
	if (envd_spawn(spec, &s, e) < 0) {
		proc_free(p);
		return NULL;
	}
	p->pid = s.pid;
	p->in_fd = s.in;
	p->out[0].fd = s.out;
	p->out[1].fd = s.err;
	append(&ps->live, p);
	ps->n++;
	if (spec->timeout_ms &&
	    loop_timer_start(ps->d->loop, &p->timer, spec->timeout_ms, on_timeout, e) < 0)
		log_error("process %d has no deadline: %s", p->pid, e->msg);
	update_reading(p);
	return p;
}

/* What it wrote at last is still in its pipes. */
static void on_exit_of(struct proc *p, int status)
{
	p->exited = true;
	p->status = status;
	for (int i = 0; i < 2 && p->gave_up_output; i++)
		for (int k = 0; k < LAST_READS && p->out[i].fd >= 0 && read_out(p, i) > 0; k++)
			;
	if (!end_if_over(p))
		update_reading(p);
}

static void on_child(struct loop_signal *s)
{
	struct procs *ps = (struct procs *)((char *)s - offsetof(struct procs, child));
	int status;
	pid_t pid;

	/* Others than ours were left to us by processes that ended before them. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct proc *p = find(ps->live, (uint64_t)pid);

		if (p && !p->exited)
			on_exit_of(p, status);
	}
}

struct procs *procs_new(struct envd *d, struct err *e)
{
	struct procs *ps = calloc(1, sizeof(*ps));

	if (!ps) {
		err_set(e, ERR_NO_MEMORY, 0, "processes");
		return NULL;
	}
	ps->d = d;
	if (loop_signal_start(d->loop, &ps->child, SIGCHLD, on_child, e) == 0)
		return ps;
	free(ps);
	return NULL;
}

void procs_free(struct procs *ps)
{
	if (!ps)
		return;
	loop_signal_stop(&ps->child);
	kill_descendants();
	while (ps->live) {
		struct proc *p = ps->live;

		ps->live = p->next;
		proc_free(p);
	}
	while (ps->ended) {
		struct proc *p = ps->ended;

		ps->ended = p->next;
		proc_free(p);
	}
	free(ps);
}
