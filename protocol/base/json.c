/* SPDX-License-Identifier: Apache-2.0
 *
 * The parsed half of json: cJSON's tree behind typed, read-only access. */
#include "protocol/base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
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
	const char *path;
	const char *dot;
	const char *key;
};

static struct field field(const char *path, const char *key)
{
	bool top = !path || !*path;

	return (struct field){ top ? "" : path, top ? "" : ".", key };
}

static int mismatch(struct field f, const char *want, const json *got, struct err *e)
{
	return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: want %s, got %s", f.path, f.dot, f.key, want,
		       json_type_name(json_type(got)));
}

/* The member, if it has the type.  Returns 1 with *ret, 0 when it is absent and
 * may be. */
static int member(const json *obj, const char *path, const char *key, enum json_type type, bool required,
		  const json **ret, struct err *e)
{
	struct field f = field(path, key);
	const json *v = json_get(obj, key);

	if (obj && json_type(obj) != JSON_OBJECT)
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s: want an object, got %s", path && *path ? path : "the value",
			       json_type_name(json_type(obj)));
	if (!v && required)
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: missing", f.path, f.dot, f.key);
	if (!required && json_type(v) == JSON_NULL)
		return 0;
	if (json_type(v) != type)
		return mismatch(f, json_type_name(type), v, e);
	*ret = v;
	return 1;
}

static int member_str(const json *obj, const char *path, const char *key, bool required, const char **ret, struct err *e)
{
	const json *v;
	int got = member(obj, path, key, JSON_STRING, required, &v, e);

	if (got > 0)
		*ret = v->valuestring;
	return got < 0 ? -1 : 0;
}

int json_req_str(const json *obj, const char *path, const char *key, const char **ret, struct err *e)
{
	return member_str(obj, path, key, true, ret, e);
}

int json_opt_str(const json *obj, const char *path, const char *key, const char **ret, struct err *e)
{
	return member_str(obj, path, key, false, ret, e);
}

/* A number that is a whole one and was not rounded on its way into a double. */
static bool is_integer(double v)
{
	return fabs(v) <= (double)JSON_INT_MAX && v == (double)(int64_t)v;
}

static int member_int(const json *obj, const char *path, const char *key, bool required, int64_t min, int64_t max,
		      int64_t *ret, struct err *e)
{
	struct field f = field(path, key);
	const json *v;
	int got = member(obj, path, key, JSON_NUMBER, required, &v, e);

	if (got <= 0)
		return got;
	if (!is_integer(v->valuedouble))
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: want an integer of at most 2^52, got %.17g",
			       f.path, f.dot, f.key, v->valuedouble);
	if ((int64_t)v->valuedouble < min || (int64_t)v->valuedouble > max)
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: want %lld to %lld, got %lld", f.path, f.dot, f.key,
			       (long long)min, (long long)max, (long long)v->valuedouble);
	*ret = (int64_t)v->valuedouble;
	return 0;
}

int json_req_int(const json *obj, const char *path, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct err *e)
{
	return member_int(obj, path, key, true, min, max, ret, e);
}

int json_opt_int(const json *obj, const char *path, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct err *e)
{
	return member_int(obj, path, key, false, min, max, ret, e);
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

static int member_u64(const json *obj, const char *path, const char *key, bool required, uint64_t *ret, struct err *e)
{
	struct field f = field(path, key);
	const json *v = json_get(obj, key);
	int got;

	if (json_type(v) == JSON_NUMBER) {
		if (!is_integer(v->valuedouble) || v->valuedouble < 0)
			return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: want an integer from 0 to 2^52, got %.17g",
				       f.path, f.dot, f.key, v->valuedouble);
		*ret = (uint64_t)v->valuedouble;
		return 0;
	}
	got = member(obj, path, key, JSON_STRING, required, &v, e);
	if (got <= 0)
		return got;
	if (!parse_u64(v->valuestring, ret))
		return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s: want a decimal number below 2^64 in a string",
			       f.path, f.dot, f.key);
	return 0;
}

int json_req_u64(const json *obj, const char *path, const char *key, uint64_t *ret, struct err *e)
{
	return member_u64(obj, path, key, true, ret, e);
}

int json_opt_u64(const json *obj, const char *path, const char *key, uint64_t *ret, struct err *e)
{
	return member_u64(obj, path, key, false, ret, e);
}

int json_opt_bool(const json *obj, const char *path, const char *key, bool *ret, struct err *e)
{
	const json *v;
	int got = member(obj, path, key, JSON_BOOL, false, &v, e);

	if (got > 0)
		*ret = json_is_true(v);
	return got < 0 ? -1 : 0;
}

int json_req_obj(const json *obj, const char *path, const char *key, const json **ret, struct err *e)
{
	return member(obj, path, key, JSON_OBJECT, true, ret, e) < 0 ? -1 : 0;
}

int json_opt_obj(const json *obj, const char *path, const char *key, const json **ret, struct err *e)
{
	return member(obj, path, key, JSON_OBJECT, false, ret, e) < 0 ? -1 : 0;
}

int json_opt_arr(const json *obj, const char *path, const char *key, const json **ret, struct err *e)
{
	return member(obj, path, key, JSON_ARRAY, false, ret, e) < 0 ? -1 : 0;
}

int json_opt_strv(const json *obj, const char *path, const char *key, const json **ret, struct err *e)
{
	struct field f = field(path, key);
	const json *v = NULL;
	size_t i = 0;

	if (member(obj, path, key, JSON_ARRAY, false, &v, e) < 0)
		return -1;
	for (const json *it = json_first(v); it; it = json_next(it), i++)
		if (json_type(it) != JSON_STRING)
			return err_set(e, ERR_INVALID_PARAMS, 0, "%s%s%s[%zu]: want a string, got %s", f.path, f.dot,
				       f.key, i, json_type_name(json_type(it)));
	*ret = v;
	return 0;
}
