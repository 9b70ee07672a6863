/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/chaos/link.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

enum {
	READ_AT_ONCE = 64 * 1024,
	PIECES = 1024,		/* delayed separately; more wait unread */
	JITTER_BLOCK = 1024,	/* bytes that share a draw of jitter */
	RATE_SLICE_MS = 20,
	DRAIN_MS = 200,		/* what the kernel holds gets so long to leave before a reset */
};

#define NEVER UINT64_MAX

/* What was read at once and is due together. */
struct piece {
	uint64_t end;		/* offset behind its last byte */
	uint64_t due_ns;
};

struct side {
	struct loop_io io;
	int fd;
	struct link *link;
};

struct flow {
	struct link *link;
	struct side *from, *to;
	unsigned dir;
	struct buf data;	/* read, not yet given on */
	uint64_t in, out;	/* offsets: read, given on */
	struct piece pieces[PIECES];
	unsigned first_piece, n_pieces;
	uint64_t last_due_ns;
	uint64_t free_ns;	/* rate: when the next slice may go */
	uint64_t stalled_ns;	/* until when */
	bool ended_in;		/* the source has said its last */
	bool ended_out;		/* the receiver knows it, or never will */
	bool dropping;		/* what comes is thrown away */
	bool blocked;		/* the receiver's socket is full */
	bool done[RULES_MAX];	/* this rule has nothing more to do here */
	struct loop_timer timer;
};

struct link {
	struct chaos *chaos;
	struct link *next, **back;
	uint64_t number;
	bool connecting, resetting;
	struct side side[2];	/* who called us; whom we called */
	struct flow up, down;
	struct loop_timer life;	/* cut-every */
	struct loop_timer drain;
	unsigned drained_ms;
};

/* --- what is said --- */

void chaos_say(const struct chaos *c, const char *fmt, ...)
{
	va_list ap;

	printf("%.3f ", (double)(now_ns() - c->start_ns) / 1e9);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static const char *dir_name(const struct flow *f)
{
	return f->dir == RULE_UP ? "up" : "down";
}

/* --- the end of a connection --- */

static void link_close(struct link *l, bool reset)
{
	struct linger hard = { 1, 0 };

	for (int i = 0; i < 2; i++) {
		loop_io_stop(&l->side[i].io);
		if (reset && l->side[i].fd >= 0)
			setsockopt(l->side[i].fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close_fd(&l->side[i].fd);
	}
	loop_timer_stop(&l->up.timer);
	loop_timer_stop(&l->down.timer);
	loop_timer_stop(&l->life);
	loop_timer_stop(&l->drain);
}

/* It may be one of its own callbacks that runs: so it is freed later. */
static void link_end(struct link *l, bool reset, const char *how)
{
	struct chaos *c = l->chaos;

	link_close(l, reset);
	chaos_say(c, "conn %llu %s: up %llu bytes, down %llu bytes", (unsigned long long)l->number,
		  how, (unsigned long long)l->up.out, (unsigned long long)l->down.out);
	*l->back = l->next;
	if (l->next)
		l->next->back = l->back;
	l->next = c->ended;
	l->back = NULL;
	c->ended = l;
}

static bool has_ended(const struct link *l)
{
	return l->back == NULL;
}

static bool is_drained(const struct side *s)
{
	int n = 0;

	return s->fd < 0 || ioctl(s->fd, SIOCOUTQ, &n) < 0 || n == 0;
}

static void on_drain(struct loop_timer *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, drain));

	if (l->drained_ms++ < DRAIN_MS && !(is_drained(&l->side[0]) && is_drained(&l->side[1])) &&
	    loop_timer_start(l->chaos->loop, t, 1, on_drain, NULL) == 0)
		return;
	link_end(l, true, "reset");
}

/* A reset throws away what the kernel has not delivered: "after N bytes" would not be true. */
static void link_reset(struct link *l)
{
	if (l->resetting)
		return;
	l->resetting = true;
	for (int i = 0; i < 2; i++)
		loop_io_stop(&l->side[i].io);
	loop_timer_stop(&l->up.timer);
	loop_timer_stop(&l->down.timer);
	loop_timer_stop(&l->life);
	on_drain(&l->drain);
}

static void end_if_over(struct link *l)
{
	if (l->resetting || has_ended(l))
		return;
	/* What vanished in a black hole has no end; when its source is gone nobody waits. */
	if ((l->up.ended_out || (l->up.dropping && l->up.ended_in)) &&
	    (l->down.ended_out || (l->down.dropping && l->down.ended_in)))
		link_end(l, false, "end");
}

/* --- the rules of a flow --- */

/* May rule i act once more?  Takes one of its times. */
static bool claim(struct chaos *c, size_t i)
{
	if (c->left[i] == 0)
		return false;
	if (c->left[i] > 0)
		c->left[i]--;
	return true;
}

static void say_rule(const struct flow *f, size_t i, const char *more)
{
	const struct chaos *c = f->link->chaos;
	struct rule shown = c->rules.rule[i];
	struct buf text CLEANUP(buf_release);

	buf_init(&text, 256);
	shown.at = rules_at(&c->rules, f->link->number, f->dir, i);
	shown.dirs = RULE_UP | RULE_DOWN;
	shown.times = -1;
	rule_print(&shown, &text, NULL);
	chaos_say(c, "conn %llu %s %s%s", (unsigned long long)f->link->number, dir_name(f),
		  buf_cstr(&text, NULL), more);
}

/* Bytes that are due at now; *wake is brought forward to when more will be. */
static size_t due_bytes(const struct flow *f, uint64_t now, uint64_t *wake)
{
	uint64_t end = f->out;

	for (unsigned k = 0; k < f->n_pieces; k++) {
		const struct piece *p = &f->pieces[(f->first_piece + k) % PIECES];

		if (p->due_ns > now) {
			if (p->due_ns < *wake)
				*wake = p->due_ns;
			break;
		}
		end = p->end;
	}
	return (size_t)(end - f->out);
}

/* How much of the data may go by a rule that lets so much pass and acts when it has. */
static size_t up_to(const struct flow *f, uint64_t at, size_t n)
{
	return at > f->out && at - f->out < n ? (size_t)(at - f->out) : n;
}

static size_t slice(const struct flow *f, const struct rule *r, uint64_t now, uint64_t *wake,
		    size_t n)
{
	uint64_t most = r->bytes_per_s * RATE_SLICE_MS / 1000;

	if (now < f->free_ns) {
		if (f->free_ns < *wake)
			*wake = f->free_ns;
		return 0;
	}
	return n < most ? n : (size_t)most;
}

static void shut(struct flow *f)
{
	if (f->to->fd >= 0)
		shutdown(f->to->fd, SHUT_WR);
	f->ended_out = true;
}

/* The place of rule i is reached. */
static void act(struct flow *f, size_t i, uint64_t now)
{
	const struct rule *r = &f->link->chaos->rules.rule[i];

	f->done[i] = true;
	if (!claim(f->link->chaos, i))
		return;
	say_rule(f, i, "");
	switch (r->kind) {
	case RULE_CUT:
		link_reset(f->link);
		break;
	case RULE_STALL:
		f->stalled_ns = now + r->ms * 1000000;
		break;
	case RULE_TRUNCATE:
		shut(f);
		f->dropping = true;
		break;
	default:
		f->dropping = true;	/* black hole */
	}
}

static bool has_place(enum rule_kind k)
{
	return k == RULE_CUT || k == RULE_STALL || k == RULE_TRUNCATE || k == RULE_BLACKHOLE;
}

/* How many bytes may go on now; *wake: when to look again. */
static size_t allowed(struct flow *f, uint64_t now, uint64_t *wake)
{
	const struct rules *rules = &f->link->chaos->rules;
	size_t n = due_bytes(f, now, wake);

	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->rule[i];

		if (f->done[i])
			continue;
		if (has_place(r->kind))
			n = up_to(f, rules_at(rules, f->link->number, f->dir, i), n);
		else if (r->kind == RULE_RATE)
			n = slice(f, r, now, wake, n);
		else if (r->kind == RULE_ONE_BYTE && n > 1)
			n = 1;
	}
	if (now < f->stalled_ns) {
		if (f->stalled_ns < *wake)
			*wake = f->stalled_ns;
		return 0;
	}
	return n;
}

/* Rules whose place is where the flow stands. */
static void act_here(struct flow *f, uint64_t now)
{
	const struct rules *rules = &f->link->chaos->rules;

	for (size_t i = 0; i < rules->n && !f->link->resetting && !f->dropping; i++)
		if (!f->done[i] && has_place(rules->rule[i].kind) &&
		    f->out >= rules_at(rules, f->link->number, f->dir, i))
			act(f, i, now);
}

/* Flips bits of the bytes just read, which begin at offset f->in. */
static void corrupt(struct flow *f, uint8_t *p, size_t n)
{
	struct chaos *c = f->link->chaos;

	for (size_t i = 0; i < c->rules.n; i++) {
		const struct rule *r = &c->rules.rule[i];
		uint8_t *byte, was;
		char more[64];

		if (r->kind != RULE_CORRUPT || f->done[i] || r->at < f->in || r->at - f->in >= n)
			continue;
		f->done[i] = true;
		if (!claim(c, i))
			continue;
		byte = p + (r->at - f->in);
		was = *byte;
		*byte ^= (uint8_t)(1 << rules_draw(&c->rules, f->link->number, f->dir, i, 0, 8));
		snprintf(more, sizeof(more), ": 0x%02x became 0x%02x", was, *byte);
		say_rule(f, i, more);
	}
}

static uint64_t delay_ns(const struct flow *f)
{
	const struct rules *rules = &f->link->chaos->rules;
	uint64_t ms = 0;

	for (size_t i = 0; i < rules->n; i++)
		if (rules->rule[i].kind == RULE_DELAY && !f->done[i])
			ms += rules_ms(rules, f->link->number, f->dir, i, f->in / JITTER_BLOCK);
	return ms * 1000000;
}

static void pay_rate(struct flow *f, size_t n, uint64_t now)
{
	const struct rules *rules = &f->link->chaos->rules;

	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->rule[i];
		uint64_t from = f->free_ns > now ? f->free_ns : now;

		if (r->kind == RULE_RATE && !f->done[i])
			f->free_ns = from + n * UINT64_C(1000000000) / r->bytes_per_s;
	}
}

/* --- moving bytes --- */

static void pump(struct flow *f);

static void on_flow_timer(struct loop_timer *t)
{
	pump((struct flow *)((char *)t - offsetof(struct flow, timer)));
}

static void on_side(struct loop_io *io, unsigned got);

/* Without a wish it is not watched at all: a hang-up would be told again and again. */
static void watch(struct side *s)
{
	struct link *l = s->link;
	const struct flow *from = s == &l->side[0] ? &l->up : &l->down;
	const struct flow *to = s == &l->side[0] ? &l->down : &l->up;
	bool room = from->dropping || (from->n_pieces < PIECES && buf_room(&from->data) > 0);
	unsigned want = (!from->ended_in && room ? LOOP_IN : 0) | (to->blocked ? LOOP_OUT : 0);

	if (l->resetting || has_ended(l) || s->fd < 0)
		return;
	if (!want)
		loop_io_stop(&s->io);
	else if (loop_io_start(l->chaos->loop, &s->io, s->fd, want, on_side, NULL) < 0)
		link_reset(l);
}

static void drop_pieces(struct flow *f)
{
	while (f->n_pieces && f->pieces[f->first_piece].end <= f->out) {
		f->first_piece = (f->first_piece + 1) % PIECES;
		f->n_pieces--;
	}
}

/* One write.  Returns false when there is no more to do now. */
static bool give(struct flow *f, size_t n, uint64_t now)
{
	ssize_t r = send(f->to->fd, buf_data(&f->data), n, MSG_NOSIGNAL);

	if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
		f->blocked = true;
		return false;
	}
	if (r < 0) {	/* the receiver went: for the source the connection broke */
		link_reset(f->link);
		return false;
	}
	buf_consume(&f->data, (size_t)r);
	f->out += (uint64_t)r;
	drop_pieces(f);
	pay_rate(f, (size_t)r, now);
	act_here(f, now);
	return true;
}

static bool is_one_byte(const struct flow *f)
{
	const struct rules *rules = &f->link->chaos->rules;

	for (size_t i = 0; i < rules->n; i++)
		if (rules->rule[i].kind == RULE_ONE_BYTE && !f->done[i])
			return true;
	return false;
}

/* Bytes on, as far as the rules allow; then the end. */
static void give_all(struct flow *f, uint64_t now, uint64_t *wake)
{
	size_t n;

	while (!f->blocked && !f->dropping && !f->link->resetting &&
	       (n = allowed(f, now, wake)) > 0) {
		if (!give(f, n, now))
			break;
		/* Each byte in a pass of its own: the receiver gets a chance to see it alone. */
		if (is_one_byte(f) && buf_len(&f->data)) {
			f->blocked = true;
			break;
		}
	}
	if (f->dropping) {
		buf_reset(&f->data);
		f->n_pieces = 0;
	}
	if (!f->ended_in || f->ended_out || f->dropping || f->link->resetting || buf_len(&f->data))
		return;
	if (now < f->last_due_ns || now < f->stalled_ns) { /* the end is delayed as bytes are */
		uint64_t then = f->last_due_ns > f->stalled_ns ? f->last_due_ns : f->stalled_ns;

		if (then < *wake)
			*wake = then;
		return;
	}
	shut(f);
}

static void pump(struct flow *f)
{
	uint64_t now = now_ns(), wake = NEVER;
	struct link *l = f->link;

	if (l->resetting || has_ended(l))
		return;
	give_all(f, now, &wake);
	if (l->resetting || has_ended(l))
		return;
	loop_timer_stop(&f->timer);
	if (wake != NEVER && !f->blocked &&
	    loop_timer_start(l->chaos->loop, &f->timer, (wake - now) / 1000000 + 1, on_flow_timer,
			     NULL) < 0) {
		link_reset(l);
		return;
	}
	watch(f->from);
	watch(f->to);
	end_if_over(l);
}

static void add_piece(struct flow *f)
{
	uint64_t due = now_ns() + delay_ns(f);

	if (due < f->last_due_ns)	/* in order, whatever the jitter */
		due = f->last_due_ns;
	f->last_due_ns = due;
	f->pieces[(f->first_piece + f->n_pieces++) % PIECES] = (struct piece){ f->in, due };
}

/* One read, which goes nowhere. */
static ssize_t swallow(struct flow *f)
{
	uint8_t scrap[4096];

	return recv(f->from->fd, scrap, sizeof(scrap), 0);
}

static ssize_t take(struct flow *f)
{
	size_t n = buf_room(&f->data) < READ_AT_ONCE ? buf_room(&f->data) : READ_AT_ONCE;
	uint8_t *to = buf_reserve(&f->data, n, NULL);
	ssize_t r;

	if (!to) {
		errno = ENOMEM;
		return -1;
	}
	r = recv(f->from->fd, to, n, 0);
	if (r > 0) {
		corrupt(f, to, (size_t)r);
		buf_commit(&f->data, (size_t)r);
		f->in += (uint64_t)r;
		add_piece(f);
	}
	return r;
}

static void read_from(struct flow *f)
{
	ssize_t r;

	if (f->ended_in || (!f->dropping && (f->n_pieces == PIECES || !buf_room(&f->data))))
		return;
	r = f->dropping ? swallow(f) : take(f);
	if (r > 0 || (r < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	if (r < 0 && !f->dropping) {
		link_reset(f->link);
		return;
	}
	f->ended_in = true;
	if (r == 0) {
		uint64_t due = now_ns() + delay_ns(f);

		f->last_due_ns = due > f->last_due_ns ? due : f->last_due_ns;
	} else {	/* the other way nobody listens either */
		struct flow *back = f == &f->link->up ? &f->link->down : &f->link->up;

		back->dropping = true;
	}
}

static void on_side(struct loop_io *io, unsigned got)
{
	struct side *s = (struct side *)((char *)io - offsetof(struct side, io));
	struct link *l = s->link;
	struct flow *from = s == &l->side[0] ? &l->up : &l->down;
	struct flow *to = s == &l->side[0] ? &l->down : &l->up;

	if (got & (LOOP_OUT | LOOP_HUP))
		to->blocked = false;
	if (got & (LOOP_IN | LOOP_HUP))
		read_from(from);
	pump(from);
	pump(to);
}

/* --- connections --- */

static void on_life(struct loop_timer *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, life));
	const struct rules *rules = &l->chaos->rules;

	for (size_t i = 0; i < rules->n; i++)
		if (rules->rule[i].kind == RULE_CUT_EVERY && claim(l->chaos, i)) {
			chaos_say(l->chaos, "conn %llu cut-every %llu",
				  (unsigned long long)l->number,
				  (unsigned long long)rules_ms(rules, l->number, 0, i, 0));
			link_reset(l);
			return;
		}
}

static void arm_life(struct link *l)
{
	const struct rules *rules = &l->chaos->rules;
	uint64_t ms = NEVER;

	for (size_t i = 0; i < rules->n; i++)
		if (rules->rule[i].kind == RULE_CUT_EVERY && l->chaos->left[i] != 0) {
			uint64_t this_ms = rules_ms(rules, l->number, 0, i, 0);

			ms = this_ms < ms ? this_ms : ms;
		}
	if (ms != NEVER)
		loop_timer_start(l->chaos->loop, &l->life, ms, on_life, NULL);
}

/* Rules without a place hold for a whole connection: that is one of their times. */
static void choose_rules(struct link *l)
{
	struct chaos *c = l->chaos;

	for (size_t i = 0; i < c->rules.n; i++) {
		const struct rule *r = &c->rules.rule[i];
		bool whole =
			r->kind == RULE_DELAY || r->kind == RULE_RATE || r->kind == RULE_ONE_BYTE;
		bool off = whole ? !claim(c, i) : c->left[i] == 0;

		l->up.done[i] = off || !(r->dirs & RULE_UP);
		l->down.done[i] = off || !(r->dirs & RULE_DOWN);
	}
}

static void link_run(struct link *l)
{
	l->connecting = false;
	chaos_say(l->chaos, "conn %llu open", (unsigned long long)l->number);
	arm_life(l);
	act_here(&l->up, now_ns());
	if (!l->resetting)
		act_here(&l->down, now_ns());
	pump(&l->up);
	pump(&l->down);
}

static void on_connected(struct loop_io *io, unsigned got __attribute__((unused)))
{
	struct side *s = (struct side *)((char *)io - offsetof(struct side, io));
	socklen_t len = sizeof(int);
	int sys = 0;

	loop_io_stop(io);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &sys, &len) == 0 && sys == 0) {
		link_run(s->link);
		return;
	}
	chaos_say(s->link->chaos, "conn %llu cannot connect: %s",
		  (unsigned long long)s->link->number, strerror(sys));
	link_end(s->link, true, "end");
}

static void flow_init(struct flow *f, struct link *l, unsigned dir, struct side *from,
		      struct side *to)
{
	f->link = l;
	f->dir = dir;
	f->from = from;
	f->to = to;
	buf_init(&f->data, FLOW_BUFFER);
}

static struct link *link_new(struct chaos *c, int fd)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->chaos = c;
	l->number = ++c->number;
	l->connecting = true;
	l->side[0].fd = fd;
	l->side[1].fd = -1;
	l->side[0].link = l->side[1].link = l;
	flow_init(&l->up, l, RULE_UP, &l->side[0], &l->side[1]);
	flow_init(&l->down, l, RULE_DOWN, &l->side[1], &l->side[0]);
	choose_rules(l);
	l->next = c->links;
	l->back = &c->links;
	if (l->next)
		l->next->back = &l->next;
	c->links = l;
	c->n_links++;
	return l;
}

static void on_connection(struct loop_io *io, unsigned got __attribute__((unused)))
{
	struct chaos *c = (struct chaos *)((char *)io - offsetof(struct chaos, listen_io));
	/* cppcheck-suppress nullPointer ; NULL is what accept wants */
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct link *l = fd < 0 ? NULL : link_new(c, fd);
	int on = 1;

	if (!l) {
		close_fd(&fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));	/* not on a unix socket */
	if (c->n_links == LINKS_MAX)
		loop_io_stop(&c->listen_io);
	l->side[1].fd = address_connect(&c->to);
	if (l->side[1].fd < 0 || loop_io_start(c->loop, &l->side[1].io, l->side[1].fd, LOOP_OUT,
					       on_connected, NULL) < 0) {
		chaos_say(c, "conn %llu cannot connect: %s", (unsigned long long)l->number,
			  strerror(errno));
		link_end(l, true, "end");
	}
}

int chaos_start(struct chaos *c, struct err *e)
{
	c->start_ns = now_ns();
	for (size_t i = 0; i < c->rules.n; i++)
		c->left[i] = c->rules.rule[i].times;
	return loop_io_start(c->loop, &c->listen_io, c->listen_fd, LOOP_IN, on_connection, e);
}

void chaos_reap(struct chaos *c)
{
	while (c->ended) {
		struct link *l = c->ended;

		c->ended = l->next;
		buf_release(&l->up.data);
		buf_release(&l->down.data);
		free(l);
		if (c->n_links-- == LINKS_MAX && !c->stopping)
			loop_io_start(c->loop, &c->listen_io, c->listen_fd, LOOP_IN, on_connection,
				      NULL);
	}
}

void chaos_stop(struct chaos *c)
{
	loop_io_stop(&c->listen_io);
	while (c->links)
		link_end(c->links, false, "stopped");
	c->stopping = true;
	chaos_reap(c);
}
