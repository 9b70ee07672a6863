/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/display.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/fs.h"
#include "proxy/plan.h"

#define LINE 700

static void put(struct display *d, const char *text, size_t n)
{
	fs_write_all(d->fd, text, n, NULL);
}

static void hide_status(struct display *d)
{
	if (d->status_shown)
		put(d, "\r\033[K", 4);
	d->status_shown = false;
}

static void show_status(struct display *d)
{
	char text[LINE];

	if (!d->tty || !d->running)
		return;
	put(d, text,
	    (size_t)snprintf(text, sizeof(text), "[%d/%d] %d running", d->done, d->total,
	                     d->running));
	d->status_shown = true;
}

/* Text of a step is no terminal command: control characters become '?'. */
static void PRINTF_LIKE(3, 4) line(struct display *d, const char *colour, const char *fmt, ...)
{
	char text[LINE];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(text) - 1)
		n = (int)sizeof(text) - 2;
	for (int i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
	text[n++] = '\n';
	hide_status(d);
	if (d->colour && colour)
		put(d, colour, strlen(colour));
	put(d, text, (size_t)n);
	if (d->colour && colour)
		put(d, "\033[0m", 4);
	show_status(d);
}

static const char *text_of(const json *fields, const char *key)
{
	const char *s = json_string(json_get(fields, key));

	return s ? s : "";
}

static double number_of(const json *fields, const char *key)
{
	return json_get(fields, key) ? json_number(json_get(fields, key)) : 0;
}

/* farstep's own steps are none of the pipeline's. */
static bool is_own_step(const json *f)
{
	return strncmp(text_of(f, "step_id"), RESERVED_STEPS, strlen(RESERVED_STEPS)) == 0;
}

static void on_step_end(struct display *d, const json *f, bool good)
{
	if (is_own_step(f))
		return;
	d->done++;
	d->running--;
	if (good)
		line(d, "\033[32m", "step %s: success in %.0f ms", text_of(f, "step_id"),
		     number_of(f, "duration_ms"));
	else
		line(d, "\033[31m", "step %s: %s: %s", text_of(f, "step_id"), text_of(f, "status"),
		     text_of(f, "error"));
}

void display_event(void *display, const char *event, const json *f)
{
	struct display *d = display;

	if (d->verbose < 0)
		return;
	if (strcmp(event, "dependency_installed") == 0) {
		line(d, NULL, "installed %s %s (%s)", text_of(f, "package"), text_of(f, "version"),
		     text_of(f, "tool"));
	} else if (strcmp(event, "step_start") == 0 && is_own_step(f)) {
		line(d, NULL, "looking after what the pipeline requires");
	} else if (strcmp(event, "step_start") == 0) {
		d->running++;
		line(d, NULL, "step %s: started", text_of(f, "step_id"));
	} else if (strcmp(event, "step_complete") == 0) {
		on_step_end(d, f, true);
	} else if (strcmp(event, "step_failed") == 0) {
		on_step_end(d, f, false);
	} else if (strcmp(event, "step_skipped") == 0) {
		d->done++;
		line(d, "\033[33m", "step %s: skipped because of %s", text_of(f, "step_id"),
		     text_of(f, "because"));
	} else if (strcmp(event, "progress") == 0) {
		line(d, NULL, "step %s: %.0f of %.0f %s", text_of(f, "step_id"),
		     number_of(f, "current"), number_of(f, "total"), text_of(f, "unit"));
	} else if (strcmp(event, "log") == 0) {
		line(d, NULL, "step %s: %s: %s", text_of(f, "step_id"), text_of(f, "level"),
		     text_of(f, "message"));
	} else if (strcmp(event, "warning") == 0) {
		line(d, "\033[33m", "warning: %s", text_of(f, "message"));
	} else if (strcmp(event, "sandbox_created") == 0) {
		line(d, NULL, "sandbox %s (%s)", text_of(f, "sandbox_id"), text_of(f, "template"));
	} else if (strcmp(event, "sandbox_kept") == 0) {
		line(d, NULL,
		     "sandbox %s stays for %.0f s: use it with --sandbox, end it with farstep "
		     "sandboxes kill",
		     text_of(f, "sandbox_id"), number_of(f, "idle_ms") / 1000);
	} else if (strcmp(event, "package_uploaded") == 0) {
		line(d, NULL, "package: %.0f files, %.0f bytes packed to %.0f (%.2f to 1)",
		     number_of(f, "files"), number_of(f, "raw_bytes"), number_of(f, "bytes"),
		     number_of(f, "ratio"));
	} else if (strcmp(event, "heartbeat_lost") == 0) {
		line(d, "\033[33m", "the link to the worker is down: reconnecting");
	} else if (strcmp(event, "reattached") == 0) {
		line(d, NULL, "attached");
	} else if (strcmp(event, "run_complete") == 0) {
		line(d, "\033[32m", "%.0f steps proved in %.0f ms", number_of(f, "steps_completed"),
		     number_of(f, "duration_ms"));
	} else if (d->verbose > 0) {
		line(d, NULL, "%s", event);
	}
}

void display_open(struct display *d, int fd, int verbose, int steps_total)
{
	const char *no = getenv("NO_COLOR");

	memset(d, 0, sizeof(*d));
	d->fd = fd;
	d->verbose = verbose;
	d->total = steps_total;
	d->tty = isatty(fd);
	d->colour = d->tty && !(no && *no);
}

void display_close(struct display *d)
{
	hide_status(d);
}
