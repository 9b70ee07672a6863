/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/run.h"

#include <stdarg.h>
#include <stdio.h>

#include "protocol/base/log.h"

void run_event(struct run *r, const char *name, const struct buf *fields)
{
	struct err e = ERR_INIT;
	struct buf b;
	const char *text = NULL;

	if (r->taken_over)
		return;
	buf_init(&b, LIMIT_TEXT + 1);
	if (fields && buf_put(&b, buf_data(fields), buf_len(fields), &e) == 0)
		text = buf_cstr(&b, &e);
	if (events_put(&r->ev, name, text, &e) < 0)
		log_error("event %s: %s", name, e.msg);
	r->events_seen++;
	buf_release(&b);
}

void run_tell(struct run *r, const char *name, const char *fmt, ...)
{
	struct buf b;
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_init(&b, sizeof(text) + 1);
	buf_puts(&b, text, NULL);
	run_event(r, name, &b);
	buf_release(&b);
}

void run_fields_begin(struct jw *w, struct buf *b)
{
	buf_init(b, LIMIT_TEXT);
	jw_init(w, b);
	jw_obj(w);
}

void run_fields_end(struct run *r, const char *name, struct jw *w)
{
	struct err e = ERR_INIT;

	jw_end(w);
	if (jw_done(w, &e) < 0)
		log_error("event %s: %s", name, e.msg);
	else
		run_event(r, name, w->out);
	buf_release(w->out);
}

double ms_since(uint64_t ns)
{
	return (double)(now_ns() - ns) / 1e6;
}

void run_phase(struct run *r, enum phase p)
{
	uint64_t now = now_ns();
	static const uint64_t none;

	for (int i = 0; i < PHASES; i++)
		if (r->phase_ns[i] && i != (int)p) {
			r->phase_ms[i] += (double)(now - r->phase_ns[i]) / 1e6;
			r->phase_ns[i] = none;
		}
	if (p < PHASES && !r->phase_ns[p]) /* it may have begun already */
		r->phase_ns[p] = now;
}
