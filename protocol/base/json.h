/* SPDX-License-Identifier: Apache-2.0
 *
 * json - strict JSON on top of cJSON, which is lenient (the only file that
 * includes cJSON.h is json.c).
 *
 * Refused before cJSON sees the text: invalid UTF-8, a BOM, raw control
 * characters, \u0000, unpaired surrogates, nesting deeper than the limit,
 * numbers that are no JSON numbers (01, 1., +1, 0x1), that have more than 63
 * characters or an exponent of 308 or more, duplicate keys in one object (after
 * unescaping), anything after the value.  Numbers are doubles: integers above 2^52
 * are refused by json_int (64-bit values travel as decimal strings: json_u64).
 *
 * Values are borrowed from their document until json_free(root).  Getters name
 * the field they miss: "params.step: want a string". */
#ifndef FARSTEP_BASE_JSON_H
#define FARSTEP_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/err.h"

/* Opaque outside json.c; json_check.c and json_write.c know no cJSON. */
typedef struct cJSON json;

#define JSON_INT_MAX (INT64_C(1) << 52)

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Parses exactly one value of at most max_len bytes and max_depth levels (64 at most).
 * ERR_PARSE with the byte offset; ERR_LIMIT; ERR_NO_MEMORY.  The caller frees
 * with json_free. */
json *json_parse(const char *text, size_t len, size_t max_len, unsigned max_depth, struct err *e);
void json_free(json *v);		/* NULL is fine */
static inline void json_freep(json **v) { json_free(*v); }
#define auto_json __attribute__((cleanup(json_freep)))

/* Checks only the lexical rules above; what json_parse runs first. */
int json_check(const char *text, size_t len, size_t max_len, unsigned max_depth, struct err *e);

/* The raw text of a top-level member of the object in text: *ret_len bytes at the
 * returned place, or NULL when there is none.  A JSON-RPC id is echoed so, because
 * a parsed number would come back changed.  text must have passed json_check. */
const char *json_raw_member(const char *text, size_t len, const char *key, size_t *ret_len);

enum json_type json_type(const json *v);	/* NULL counts as JSON_NULL */
const char *json_type_name(enum json_type t);	/* "a string", "an object", ... */
const char *json_key(const json *v);		/* name in its object; NULL in an array */
const char *json_string(const json *v);		/* NULL if no string */
double json_number(const json *v);
bool json_is_true(const json *v);
/* Case-sensitive; NULL if absent or if obj is no object. */
const json *json_get(const json *obj, const char *key);
size_t json_count(const json *v);			/* members or elements */
/* for (const json *it = json_first(v); it; it = json_next(it)) */
const json *json_first(const json *v);
const json *json_next(const json *v);

/* Typed getters.  `path` names obj for messages ("params").  _req: absent is an
 * error; _opt: absent (or null) leaves *ret untouched and returns 0, present
 * returns 0 too.  A wrong type is ERR_INVALID_PARAMS.  An obj of NULL is an object
 * without members. */
int json_req_str(const json *obj, const char *path, const char *key, const char **ret,
		 struct err *e);
int json_opt_str(const json *obj, const char *path, const char *key, const char **ret,
		 struct err *e);
int json_req_int(const json *obj, const char *path, const char *key, int64_t min, int64_t max,
		 int64_t *ret, struct err *e);
int json_opt_int(const json *obj, const char *path, const char *key, int64_t min, int64_t max,
		 int64_t *ret, struct err *e);
/* A decimal string, or an integer of at most 2^52. */
int json_req_u64(const json *obj, const char *path, const char *key, uint64_t *ret, struct err *e);
int json_opt_u64(const json *obj, const char *path, const char *key, uint64_t *ret, struct err *e);
int json_opt_bool(const json *obj, const char *path, const char *key, bool *ret, struct err *e);
int json_req_obj(const json *obj, const char *path, const char *key, const json **ret,
		 struct err *e);
int json_opt_obj(const json *obj, const char *path, const char *key, const json **ret,
		 struct err *e);
int json_opt_arr(const json *obj, const char *path, const char *key, const json **ret,
		 struct err *e);
/* Every element must be a string. *ret borrowed array value, or NULL when absent. */
int json_opt_strv(const json *obj, const char *path, const char *key, const json **ret,
		  struct err *e);

/* Compact text of a parsed value, keys in their order, numbers exact up to 2^52 and
 * otherwise the shortest that reads back the same.  On failure out is as it was. */
int json_print(const json *v, struct buf *out, struct err *e);
/* The same with the keys of every object sorted bytewise: canonical, for digests. */
int json_print_sorted(const json *v, struct buf *out, struct err *e);

/* Writer: builds text straight into a buf; commas are its business.
 *   struct jw w; jw_init(&w, &buf); jw_obj(&w); jw_kstr(&w, "step", id); jw_end(&w);
 *   if (jw_done(&w, e) < 0) ...
 * Errors stick and come out at jw_done: the buffer is full, deeper than 64 levels,
 * or a value without its key; out then holds a part to throw away.  Strings are
 * escaped; NUL and bytes that are no valid UTF-8 become U+FFFD, so that json_parse
 * reads whatever was written. */
struct jw {
	struct buf *out;
	unsigned depth;
	uint64_t comma;		/* bit per level: a comma is due */
	uint64_t is_array;	/* bit per level */
	bool after_key;
	bool failed;
	struct err err;
};
void jw_init(struct jw *w, struct buf *out);
void jw_obj(struct jw *w);
void jw_arr(struct jw *w);
void jw_end(struct jw *w);	/* closes the innermost */
void jw_key(struct jw *w, const char *key);
void jw_str(struct jw *w, const char *s);		/* NULL writes null */
void jw_strn(struct jw *w, const char *s, size_t n);
void jw_int(struct jw *w, int64_t v);
void jw_u64s(struct jw *w, uint64_t v);		/* as a decimal string */
void jw_num(struct jw *w, double v);		/* 3 decimals at most; not finite becomes null */
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);
void jw_raw(struct jw *w, const char *text, size_t n);	/* one complete JSON value */
void jw_json(struct jw *w, const json *v);
void jw_kstr(struct jw *w, const char *key, const char *s);
void jw_kint(struct jw *w, const char *key, int64_t v);
void jw_ku64s(struct jw *w, const char *key, uint64_t v);
void jw_knum(struct jw *w, const char *key, double v);
void jw_kbool(struct jw *w, const char *key, bool v);
void jw_kobj(struct jw *w, const char *key);
void jw_karr(struct jw *w, const char *key);
void jw_kjson(struct jw *w, const char *key, const json *v);
int jw_done(struct jw *w, struct err *e);

/* Bytes of the UTF-8 character at p, 0 if it is none (p < end). */
size_t json_utf8_len(const char *p, const char *end);

#endif
