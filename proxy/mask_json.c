/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/mask_json.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/json.h"
#include "protocol/limits.h"

enum { DEPTH = 64 };

struct masking {
	const struct mask_set *set;
	struct jw w;
	struct buf scratch;
};

/* Borrowed until the next call.  A failure sticks in the writer. */
static const char *masked(struct masking *m, const char *s)
{
	const char *text = NULL;
	struct err e = ERR_INIT;

	buf_reset(&m->scratch);
	if (mask_text(m->set, s, strlen(s), &m->scratch, &e) == 0)
		text = buf_cstr(&m->scratch, &e);
	if (text)
		return text;
	if (!m->w.failed)
		m->w.err = e;
	m->w.failed = true;
	return "";
}

/* Two names that are secrets must not become the same name. */
static void put_key(struct masking *m, const char *key, unsigned *n_masked)
{
	const char *text = masked(m, key);
	char numbered[64];

	if (strcmp(text, key) != 0 && ++*n_masked > 1) {
		snprintf(numbered, sizeof(numbered), "%s-%u", MASK_TEXT, *n_masked);
		text = numbered;
	}
	jw_key(&m->w, text);
}

/* As deep as the parser let it be. */
static void put_value(struct masking *m, const json *v)
{
	enum json_type type = json_type(v);
	unsigned n_masked = 0;

	if (type == JSON_STRING) {
		jw_str(&m->w, masked(m, json_string(v)));
		return;
	}
	if (type != JSON_OBJECT && type != JSON_ARRAY) {
		jw_json(&m->w, v);
		return;
	}
	if (type == JSON_OBJECT)
		jw_obj(&m->w);
	else
		jw_arr(&m->w);
	for (const json *it = json_first(v); it; it = json_next(it)) {
		if (type == JSON_OBJECT)
			put_key(m, json_key(it), &n_masked);
		put_value(m, it);
	}
	jw_end(&m->w);
}

int mask_json(const struct mask_set *set, const char *text, size_t n, struct buf *out,
              struct err *e)
{
	struct masking m = { .set = set };
	auto_json json *v = NULL;

	if (mask_set_empty(set))
		return buf_put(out, text, n, e);
	v = json_parse(text, n, n, DEPTH, e);
	if (!v)
		return -1;
	buf_init(&m.scratch, out->max);
	jw_init(&m.w, out);
	put_value(&m, v);
	buf_release(&m.scratch);
	return jw_done(&m.w, e);
}
