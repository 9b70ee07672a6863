/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/schedule.h"

#include <stdlib.h>
#include <string.h>

enum { WORD = 64 };

static size_t words(size_t bits)
{
	return (bits + WORD - 1) / WORD;
}

static void mark_ready(struct schedule *s, int i)
{
	size_t w = (size_t)i / WORD;

	s->ready[w] |= UINT64_C(1) << (i % WORD);
	s->ready_words[w / WORD] |= UINT64_C(1) << (w % WORD);
}

static void unmark_ready(struct schedule *s, int i)
{
	size_t w = (size_t)i / WORD;

	s->ready[w] &= ~(UINT64_C(1) << (i % WORD));
	if (!s->ready[w])
		s->ready_words[w / WORD] &= ~(UINT64_C(1) << (w % WORD));
}

/* The first of the file's order, or -1. */
static int first_ready(const struct schedule *s)
{
	size_t n = words(words(s->plan->n_steps));

	for (size_t i = 0; i < n; i++) {
		size_t w;

		if (!s->ready_words[i])
			continue;
		w = i * WORD + (size_t)__builtin_ctzll(s->ready_words[i]);
		return (int)(w * WORD + (size_t)__builtin_ctzll(s->ready[w]));
	}
	return -1;
}

/* Counting sort of the needs by what they name. */
static void link_dependents(struct schedule *s)
{
	const struct plan *p = s->plan;
	int *at = s->dependents_at;

	for (size_t i = 0; i < p->n_steps; i++)
		for (size_t k = 0; k < p->steps[i].n_needs; k++)
			at[p->steps[i].needs[k] + 1]++;
	for (size_t i = 0; i < p->n_steps; i++)
		at[i + 1] += at[i];
	memcpy(s->work, at, p->n_steps * sizeof(*at));
	for (size_t i = 0; i < p->n_steps; i++)
		for (size_t k = 0; k < p->steps[i].n_needs; k++)
			s->dependents[s->work[p->steps[i].needs[k]]++] = (int)i;
}

static size_t count_needs(const struct plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_steps; i++)
		n += p->steps[i].n_needs;
	return n;
}

int schedule_init(struct schedule *s, const struct plan *p, int at_once, struct err *e)
{
	size_t n = p->n_steps;

	*s = (struct schedule){ .plan = p, .at_once = at_once < 1 ? 1 : at_once };
	s->steps = calloc(n + 1, sizeof(*s->steps));
	s->dependents = calloc(count_needs(p) + 1, sizeof(*s->dependents));
	s->dependents_at = calloc(n + 1, sizeof(*s->dependents_at));
	s->ready = calloc(words(n) + 1, sizeof(*s->ready));
	s->ready_words = calloc(words(words(n)) + 1, sizeof(*s->ready_words));
	s->work = calloc(n + 1, sizeof(*s->work));
	if (!s->steps || !s->dependents || !s->dependents_at || !s->ready || !s->ready_words ||
	    !s->work) {
		schedule_release(s);
		return err_set(e, ERR_NO_MEMORY, 0, "a plan of %zu steps", n);
	}
	link_dependents(s);
	for (size_t i = 0; i < n; i++) {
		s->steps[i] =
			(struct sched_step){ .waits_for = (int)p->steps[i].n_needs, .because = -1 };
		if (p->steps[i].n_needs == 0)
			mark_ready(s, (int)i);
	}
	return 0;
}

void schedule_release(struct schedule *s)
{
	free(s->steps);
	free(s->dependents);
	free(s->dependents_at);
	free(s->ready);
	free(s->ready_words);
	free(s->work);
	*s = (struct schedule){ 0 };
}

int schedule_next(struct schedule *s)
{
	int i;

	if (s->stopping || s->running >= s->at_once)
		return -1;
	i = first_ready(s);
	if (i < 0)
		return -1;
	unmark_ready(s, i);
	s->steps[i].state = SCHED_RUNNING;
	s->running++;
	return i;
}

static void set_done(struct schedule *s, int i, enum step_status status, int because)
{
	struct sched_step *step = &s->steps[i];

	if (step->state == SCHED_RUNNING)
		s->running--;
	else
		unmark_ready(s, i);
	step->state = SCHED_DONE;
	step->status = status;
	step->because = because;
	s->done++;
}

static void release_dependents(struct schedule *s, int i)
{
	for (int k = s->dependents_at[i]; k < s->dependents_at[i + 1]; k++) {
		struct sched_step *d = &s->steps[s->dependents[k]];

		if (--d->waits_for == 0 && d->state == SCHED_WAITING)
			mark_ready(s, s->dependents[k]);
	}
}

/* Skips what needs step i, appending it to work. */
static int skip_dependents(struct schedule *s, int i, int because, int n)
{
	for (int k = s->dependents_at[i]; k < s->dependents_at[i + 1]; k++) {
		int d = s->dependents[k];

		if (s->steps[d].state != SCHED_WAITING)
			continue;
		set_done(s, d, STATUS_SKIPPED, because);
		s->work[n++] = d;
	}
	return n;
}

static int by_number(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

void schedule_done(struct schedule *s, int step, enum step_status status,
                   void (*on_skip)(void *arg, int step, int because), void *arg)
{
	int n;

	if (s->steps[step].state == SCHED_DONE)
		return;
	set_done(s, step, status, -1);
	if (status == STATUS_SUCCESS) {
		release_dependents(s, step);
		return;
	}
	n = skip_dependents(s, step, step, 0);
	for (int i = 0; i < n; i++)
		n = skip_dependents(s, s->work[i], step, n);
	qsort(s->work, (size_t)n, sizeof(*s->work), by_number);
	for (int i = 0; on_skip && i < n; i++)
		on_skip(arg, s->work[i], step);
}

void schedule_stop(struct schedule *s, void (*on_skip)(void *arg, int step, int because), void *arg)
{
	s->stopping = true;
	for (size_t i = 0; i < s->plan->n_steps; i++) {
		if (s->steps[i].state != SCHED_WAITING)
			continue;
		set_done(s, (int)i, STATUS_SKIPPED, -1);
		if (on_skip)
			on_skip(arg, (int)i, -1);
	}
}

bool schedule_finished(const struct schedule *s)
{
	return s->done == s->plan->n_steps;
}
