/* SPDX-License-Identifier: Apache-2.0
 *
 * stdin_source - a descriptor read into a step's standard input; every byte is kept until
 * the worker has it, so that a new connection can go on. */
#ifndef FARSTEP_PROXY_STDIN_SOURCE_H
#define FARSTEP_PROXY_STDIN_SOURCE_H

#include "protocol/base/json.h"
#include "proxy/link.h"

struct stdin_source;

struct stdin_source *stdin_source_new(struct loop *l, int fd, struct err *e);
void stdin_source_free(struct stdin_source *s);
/* Binds to the link's connection and writes the member "stdin" of step.execute's params. */
void stdin_source_bind(struct stdin_source *s, struct link *l, struct jw *w);
/* The carrier has room again. */
void stdin_source_pump(struct stdin_source *s);

#endif
