/* SPDX-License-Identifier: Apache-2.0
 *
 * display - what a person sees while a run goes on: plain lines, one per thing that happened;
 * on a terminal with colours (unless NO_COLOR) and a line that says what is running now. */
#ifndef FARSTEP_PROXY_DISPLAY_H
#define FARSTEP_PROXY_DISPLAY_H

#include <stdbool.h>

#include "protocol/base/json.h"

struct display {
	int fd;
	bool tty, colour, status_shown;
	int verbose;		/* -1: nothing */
	int total, done, running;
};

void display_open(struct display *d, int fd, int verbose, int steps_total);
/* Hook for struct events: one event, as its flat fields. */
void display_event(void *display, const char *event, const json *fields);
void display_close(struct display *d);

#endif
