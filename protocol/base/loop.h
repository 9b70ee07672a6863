/* SPDX-License-Identifier: Apache-2.0
 *
 * loop - descriptors, timers, children and signals on one epoll set.
 *
 * One thread, one loop per process.  A foreign library with a loop of its own
 * adopts loop_fd() as one descriptor and calls loop_pass(loop, 0) when it is
 * readable (timers show up there too: they live on a timerfd inside the set).
 *
 * Objects are embedded in their owner and owned by the caller, who sets them to
 * zero before the first start.  Starting, stopping and freeing any of them inside
 * any callback is allowed; after loop_*_stop returns its callback is never called
 * again, not even for events already collected.  loop_pass and loop_free are not
 * allowed inside a callback. */
#ifndef FARSTEP_BASE_LOOP_H
#define FARSTEP_BASE_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/base/err.h"

struct loop;

#define LOOP_IN 1u
#define LOOP_OUT 2u
#define LOOP_HUP 4u	/* reported always: hang-up or error; there may be bytes left to read */

struct loop_io {
	int fd;			/* borrowed; the owner closes it after loop_io_stop */
	unsigned want;
	void (*on_ready)(struct loop_io *io, unsigned got);
	struct loop *loop;	/* NULL when not armed */
};

struct loop_timer {
	uint64_t due_ns;
	void (*on_due)(struct loop_timer *t);
	struct loop *loop;	/* NULL when not armed */
	unsigned slot;
};

struct loop_signal {
	int sig;
	void (*on_signal)(struct loop_signal *s);
	struct loop *loop;
	struct loop_signal *next;
};

struct loop *loop_new(struct err *e);
void loop_free(struct loop *l);		/* NULL is fine; everything must be stopped */
int loop_fd(const struct loop *l);

/* Registers fd for want (0 is legal: only hang-up).  Calling it again changes the
 * interest, the callback or the descriptor.  Readiness is told again on every pass
 * until it is used up, a hang-up too: to pause a descriptor whose peer may be gone,
 * stop it and start it again later.  A file that is always ready is an error. */
int loop_io_start(struct loop *l, struct loop_io *io, int fd, unsigned want,
		  void (*on_ready)(struct loop_io *, unsigned), struct err *e);
int loop_io_want(struct loop_io *io, unsigned want);	/* no-op if unchanged or not armed */
void loop_io_stop(struct loop_io *io);			/* no-op if not armed */

/* One-shot; starting an armed timer moves it. */
int loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t in_ms,
		     void (*on_due)(struct loop_timer *), struct err *e);
void loop_timer_stop(struct loop_timer *t);

/* Blocks the signal for the process and delivers it here (signalfd).  Every object
 * of that signal is called.  Stopping leaves it blocked. */
int loop_signal_start(struct loop *l, struct loop_signal *s, int sig,
		      void (*on_signal)(struct loop_signal *), struct err *e);
void loop_signal_stop(struct loop_signal *s);

/* One pass: waits at most wait_ms (-1: until something is due), runs callbacks.
 * Returns how many ran (0 also when a signal interrupted the wait), or -1.  A timer
 * that a timer starts runs in the next pass at the earliest. */
int loop_pass(struct loop *l, int wait_ms, struct err *e);

uint64_t now_ns(void);		/* CLOCK_MONOTONIC */
uint64_t now_real_us(void);	/* CLOCK_REALTIME, microseconds since 1970 */
/* RFC 3339, UTC, microseconds: "2026-11-02T10:11:12.123456Z"; buf holds 28 bytes. */
const char *time_rfc3339(uint64_t real_us, char buf[28]);

#endif
