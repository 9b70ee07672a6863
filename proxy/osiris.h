/* SPDX-License-Identifier: Apache-2.0
 *
 * osiris - files of Osiris, translated into farstep's own pipeline format.
 *
 *   oml.c            OML 0.1.0: what people write
 *   manifest_file.c  compiled manifests: what its compiler makes of that, with cfg/
 *   osiris.c         what both have in common
 *
 * The result is a tree as if it had been read from a pipeline file; plan.c checks and reads it
 * like one, so that a step means the same wherever it was written.  Every node keeps the line
 * of the user's file.  Mistakes go to problems, all of them; where one was told, a stand-in
 * that plan.c does not complain about takes the place. */
#ifndef FARSTEP_PROXY_OSIRIS_H
#define FARSTEP_PROXY_OSIRIS_H

#include "protocol/limits.h"
#include "proxy/problems.h"
#include "proxy/yaml.h"

/* Is it one?  By its keys. */
bool oml_is(const struct tree *root);
bool manifest_file_is(const struct tree *root);

/* NULL when memory ran out (e).  The caller frees with tree_free.  file: where the manifest
 * is, because cfg/ is beside it. */
struct tree *oml_read(const struct tree *root, struct problems *problems, struct err *e);
struct tree *manifest_file_read(const struct tree *root, const char *file,
                                struct problems *problems, struct err *e);

/* ---- between the three ---- */

struct osiris {
	struct problems *problems;
	struct err *e;
	bool failed;                    /* out of memory: e says so */
	char where[LIMIT_STEP_ID + 32]; /* "step 'sort': " or "" */
	const struct tree *params;      /* NULL: `${params.x}` stays as it is */
	int line;                       /* if not 0: the line that new nodes and mistakes get */
	size_t bytes;                   /* of all texts made so far */
};

/* A list or mapping that is being filled. */
struct osiris_list {
	struct tree *node, *last;
};

void osiris_tell(struct osiris *o, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Names the step in what is told from now on; NULL: none. */
void osiris_set_where(struct osiris *o, const struct tree *id, size_t number);
/* An unknown key, with the nearest of keys (NULL-ended). */
void osiris_tell_unknown(struct osiris *o, const struct tree *v, const char *const *keys);
/* Adds a node at the end of `to` (NULL: it is a root); key NULL in a list.  NULL after failing. */
struct tree *osiris_add(struct osiris *o, struct osiris_list *to, enum tree_type type, int line,
                        const char *key, const char *text);
/* Adds a copy of v, parameters filled in; key NULL: that of v. */
void osiris_copy(struct osiris *o, struct osiris_list *to, const struct tree *v, const char *key);
/* Adds `driver` for the step's component or driver, which is told when nobody offers it. */
bool osiris_add_driver(struct osiris *o, struct osiris_list *step, const struct tree *v);
/* Adds `config` without the members that are not the driver's; tells of connections and of
 * secrets. */
void osiris_add_config(struct osiris *o, struct osiris_list *step, const struct tree *v);
/* Adds driver and config that nobody will complain about. */
void osiris_add_stand_in(struct osiris *o, struct osiris_list *step, int line);
/* One of the modes (NULL-ended)? */
void osiris_check_mode(struct osiris *o, const struct tree *v, const char *const *modes);

#endif
