/* SPDX-License-Identifier: Apache-2.0
 *
 * plan - a pipeline file, validated: what will be run, before anything is.
 *
 * plan_load reads YAML or JSON (JSON is YAML here), reports all mistakes at once, each
 * with its line and, for unknown names, the nearest valid one; what is not built yet is
 * refused by name.  The key table in plan.c is the single source for what is allowed.  Files of
 * Osiris (osiris.h) are recognised by their keys and translated first. */
#ifndef FARSTEP_PROXY_PLAN_H
#define FARSTEP_PROXY_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"
#include "proxy/requirements.h"

#define RESERVED_STEPS "_deps" /* how the ids of farstep's own steps begin */

struct plan_env {
	char *name, *value;
};

struct plan_step {
	char *id;
	char *driver;
	char *config; /* JSON text of the config mapping, keys in the file's order */
	int *needs;   /* indexes of earlier-or-later steps; no cycle */
	size_t n_needs;
	char **collect; /* artifact globs */
	size_t n_collect;
	struct plan_env *env;
	size_t n_env;
	int64_t timeout_ms; /* 0: none */
	int64_t grace_ms, linger_ms;
	bool backtrace;
	int line;
};

struct plan {
	char *name;
	char *file;   /* as given */
	char *dir;    /* absolute directory that paths in it are relative to: the file's, or for
	               * files of Osiris the one where farstep was started */
	char **files; /* globs that travel */
	size_t n_files;
	struct requirements requires[TOOLS];
	char *wheels;     /* directory of wheels that travels; NULL: pip asks its index */
	int install_deps; /* what the file says: 1 on, -1 off, 0 nothing */
	struct plan_step *steps;
	size_t n_steps;
	int *by_id; /* indexes of steps, sorted by id */
	char *text; /* the file as read, for the run directory (masked when written); of an
	             * Osiris file: what it means, in our format */
	bool is_osiris;
};

/* One mistake a line: "FILE:LINE: what (did you mean 'x'?)".  `problems` (may be NULL)
 * gets all of them; *e the first and how many more.  ERR_PIPELINE (exit 2), or
 * ERR_UNSUPPORTED (exit 10) when the only problems are things not built yet. */
struct plan *plan_load(const char *file, struct buf *problems,
                       struct err *e); /* ERR_NOT_FOUND: no such file */
struct plan *plan_parse(const char *text, size_t len, const char *file, struct buf *problems,
                        struct err *e);
/* The same text somewhere else: dir, absolute, is where the file lay, and need not exist. */
struct plan *plan_parse_in(const char *dir, const char *text, size_t len, const char *file,
                           struct buf *problems, struct err *e);
/* The requirements that stand in files of their own; plan_load has done it.  Mistakes as there. */
int plan_read_required_files(struct plan *p, struct buf *problems, struct err *e);
bool plan_has_requirements(const struct plan *p);
void plan_free(struct plan *p);
/* Index, or -1. */
int plan_find(const struct plan *p, const char *id);
/* The plan as canonical JSON (for PreparedRun and --dry-run).  It is a pipeline file itself,
 * with every `needs` written out: plan_parse reads it back. */
int plan_print(const struct plan *p, struct buf *out, struct err *e);
int plan_print_step(const struct plan *p, size_t step, struct buf *out,
                    struct err *e); /* one of its steps */

/* What farstep knows of a driver's name.  offered: those there are, as "a, b"; *meant: the nearest
 * name, or NULL. */
enum plan_driver_state { PLAN_DRIVER_UNKNOWN, PLAN_DRIVER_NOT_BUILT, PLAN_DRIVER_OFFERED };
enum plan_driver_state plan_driver_state(const char *name, char *offered, size_t size,
                                         const char **meant);

/* Inside plan_parse: fills by_id and every step's needs.  raw: what each step wrote under
 * `needs` (NULL: left out).  Tells of duplicate ids, unknown needs and circles. */
struct problems;
struct tree;
int plan_resolve(struct plan *p, const struct tree *const *raw, struct problems *problems,
                 struct err *e);

/* Inside plan_parse, too: the value of `requirements`; what of it travels; how it is printed. */
int plan_read_requirements(struct plan *p, const struct tree *v, struct problems *problems,
                           struct err *e);
int plan_add_required_files(struct plan *p, struct err *e);
struct jw;
void plan_print_requirements(const struct plan *p, struct jw *w);

/* Levenshtein-nearest of `names` (NULL-ended) to `word`, NULL if none is close. */
const char *nearest(const char *word, const char *const *names);

#endif
