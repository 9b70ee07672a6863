/* SPDX-License-Identifier: Apache-2.0
 *
 * The parsed half of json: cJSON's tree behind typed, read-only access. */
#include "protocol/base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

json *json_parse(const char *text, size_t len, size_t max_len, unsigned max_depth, struct err *e)
{
	json *v;

	if (json_check(text, len, max_len, max_depth, e) < 0)
		return NULL;
	v = cJSON_ParseWithLengthOpts(text, len, NULL, 0);
	if (!v)
		err_set(e, ERR_NO_MEMORY, 0, "json: %zu bytes", len);
	return v;
}

void json_free(json *v)
{
	cJSON_Delete(v);
}

/* --- reading --- */

enum json_type json_type(const json *v)
{
	switch (v ? v->type & 0xff : cJSON_NULL) {
	case cJSON_False:
	case cJSON_True:
		return JSON_BOOL;
	case cJSON_Number:
		return JSON_NUMBER;
	case cJSON_String:
		return JSON_STRING;
	case cJSON_Array:
		return JSON_ARRAY;
	case cJSON_Object:
		return JSON_OBJECT;
	default:
		return JSON_NULL;
	}
}

const char *json_type_name(enum json_type t)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",
		[JSON_BOOL] = "a boolean",
		[JSON_NUMBER] = "a number",
		[JSON_STRING] = "a string",
		[JSON_ARRAY] = "an array",
		[JSON_OBJECT] = "an object",
	};

	return (unsigned)t <= JSON_OBJECT ? names[t] : "nothing";
}

const char *json_key(const json *v)
{
	return v ? v->string : NULL;
}

const char *json_string(const json *v)
{
	return json_type(v) == JSON_STRING ? v->valuestring : NULL;
}

double json_number(const json *v)
{
	return json_type(v) == JSON_NUMBER ? v->valuedouble : 0;
}

bool json_is_true(const json *v)
{
	return v && (v->type & 0xff) == cJSON_True;
}

const json *json_get(const json *obj, const char *key)
{
	return json_type(obj) == JSON_OBJECT ? cJSON_GetObjectItemCaseSensitive(obj, key) : NULL;
}

const json *json_first(const json *v)
{
	enum json_type t = json_type(v);

	return t == JSON_ARRAY || t == JSON_OBJECT ? v->child : NULL;
}

const json *json_next(const json *v)
{
	return v->next;
}

size_t json_count(const json *v)
{
	size_t n = 0;

	for (const json *it = json_first(v); it; it = json_next(it))
		n++;
	return n;
}

/* --- typed getters --- */

/* A field as messages name it: "params.step", or "step" at the top. */
struct field {
	const json *obj;
	const char *path;
	const char *key;
	bool required;
};

__attribute__((format(printf, 3, 4)))
static int refuse(const struct field *f, struct err *e, const char *fmt, ...)
{
	bool top = !f->path || !*f->path;
	char why[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: %s", top ? "" : f->path, top ? "" : ".",
		       f->key, why);
}

/* The member, if it has the type.  Returns 1 with *ret, 0 when it is absent and
 * may be. */
static int member(const struct field *f, enum json_type type, const json **ret, struct err *e)
{
	const json *v = json_get(f->obj, f->key);
	enum json_type got = json_type(v);

	if (f->obj && json_type(f->obj) != JSON_OBJECT)
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s: want an object, got %s",
			       f->path && *f->path ? f->path : "the value",
			       json_type_name(json_type(f->obj)));
	if (!v && f->required)
		return refuse(f, e, "missing");
	if (got == JSON_NULL && !f->required)
		return 0;
	if (got != type)
		return refuse(f, e, "want %s, got %s", json_type_name(type), json_type_name(got));
	*ret = v;
	return 1;
}

static int member_str(const struct field *f, const char **ret, struct err *e)
{
	const json *v;
	int got = member(f, JSON_STRING, &v, e);

	if (got > 0)
		*ret = v->valuestring;
	return got < 0 ? -1 : 0;
}

/* A number that is a whole one and was not rounded on its way into a double. */
static bool is_integer(double v)
{
	return fabs(v) <= (double)JSON_INT_MAX && v == (double)(int64_t)v;
}

static int member_int(const struct field *f, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	const json *v;
	int got = member(f, JSON_NUMBER, &v, e);
	int64_t n;

	if (got <= 0)
		return got;
	if (!is_integer(v->valuedouble))
		return refuse(f, e, "want an integer of at most 2^52, got %.17g", v->valuedouble);
	n = (int64_t)v->valuedouble;
	if (n < min || n > max)
		return refuse(f, e, "want %lld to %lld, got %lld", (long long)min, (long long)max,
			      (long long)n);
	*ret = n;
	return 0;
}

/* "0" to "18446744073709551615", one way to write each. */
static bool parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s || (s[0] == '0' && s[1]))
		return false;
	for (; *s; s++) {
		unsigned d = (unsigned char)*s - '0';

		if (d > 9 || v > (UINT64_MAX - d) / 10)
			return false;
		v = 10 * v + d;
	}
	*ret = v;
	return true;
}

static int member_u64(const struct field *f, uint64_t *ret, struct err *e)
{
	const json *v = json_get(f->obj, f->key);
	int got;

	if (json_type(v) == JSON_NUMBER) {
		if (!is_integer(v->valuedouble) || v->valuedouble < 0)
			return refuse(f, e, "want an integer from 0 to 2^52, got %.17g",
				      v->valuedouble);
		*ret = (uint64_t)v->valuedouble;
		return 0;
	}
	got = member(f, JSON_STRING, &v, e);
	if (got <= 0)
		return got;
	if (!parse_u64(v->valuestring, ret))
		return refuse(f, e, "want a decimal number below 2^64");
	return 0;
}

/* The parameters that all typed getters begin with. */
#define GETTER const json *obj, const char *path, const char *key
#define REQUIRED &(struct field){ obj, path, key, true }
#define OPTIONAL &(struct field){ obj, path, key, false }

int json_req_str(GETTER, const char **ret, struct err *e)
{
	return member_str(REQUIRED, ret, e);
}

int json_opt_str(GETTER, const char **ret, struct err *e)
{
	return member_str(OPTIONAL, ret, e);
}

int json_req_int(GETTER, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	return member_int(REQUIRED, min, max, ret, e);
}

int json_opt_int(GETTER, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	return member_int(OPTIONAL, min, max, ret, e);
}

int json_req_u64(GETTER, uint64_t *ret, struct err *e)
{
	return member_u64(REQUIRED, ret, e);
}

int json_opt_u64(GETTER, uint64_t *ret, struct err *e)
{
	return member_u64(OPTIONAL, ret, e);
}

int json_opt_bool(GETTER, bool *ret, struct err *e)
{
	const json *v;
	int got = member(OPTIONAL, JSON_BOOL, &v, e);

	if (got > 0)
		*ret = json_is_true(v);
	return got < 0 ? -1 : 0;
}

int json_req_obj(GETTER, const json **ret, struct err *e)
{
	return member(REQUIRED, JSON_OBJECT, ret, e) < 0 ? -1 : 0;
}

int json_opt_obj(GETTER, const json **ret, struct err *e)
{
	return member(OPTIONAL, JSON_OBJECT, ret, e) < 0 ? -1 : 0;
}

int json_opt_arr(GETTER, const json **ret, struct err *e)
{
	return member(OPTIONAL, JSON_ARRAY, ret, e) < 0 ? -1 : 0;
}

int json_opt_strv(GETTER, const json **ret, struct err *e)
{
	const json *v = NULL;
	char at[200];
	size_t i = 0;

	if (member(OPTIONAL, JSON_ARRAY, &v, e) < 0)
		return -1;
	for (const json *it = json_first(v); it; it = json_next(it), i++) {
		if (json_type(it) == JSON_STRING)
			continue;
		snprintf(at, sizeof(at), "%.150s[%zu]", key, i);
		return refuse(&(struct field){ .path = path, .key = at }, e,
			      "want a string, got %s", json_type_name(json_type(it)));
	}
	*ret = v;
	return 0;
}
