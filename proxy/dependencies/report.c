/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dependencies/report.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/cleanup.h"

#define WHAT "report of dependencies"

static int check_strings(const json *list, struct err *e)
{
	for (const json *v = json_first(list); v; v = json_next(v))
		if (!json_string(v))
			return err_set(e, ERR_INTEGRITY, 0, WHAT ": want strings");
	return 0;
}

static int check_installed(const json *list, struct err *e)
{
	for (const json *v = json_first(list); v; v = json_next(v))
		if (!json_string(json_get(v, "package")) || !json_string(json_get(v, "version")) ||
		    json_type(json_get(v, "duration_ms")) != JSON_NUMBER)
			return err_set(e, ERR_INTEGRITY, 0,
			               WHAT ": installed: want package, version and duration_ms");
	return 0;
}

static int take(struct dependency_report *r, struct err *e)
{
	const json *v = r->v;

	if (json_opt_strv(v, WHAT, "present", &r->present, e) < 0 ||
	    json_opt_strv(v, WHAT, "missing", &r->missing, e) < 0 ||
	    json_opt_arr(v, WHAT, "installed", &r->installed, e) < 0 ||
	    json_opt_bool(v, WHAT, "reused", &r->reused, e) < 0 ||
	    json_opt_str(v, WHAT, "error", &r->error, e) < 0 ||
	    json_opt_str(v, WHAT, "environment", &r->environment, e) < 0 ||
	    json_opt_str(v, WHAT, "bin", &r->bin, e) < 0 ||
	    json_opt_str(v, WHAT, "path", &r->path, e) < 0 ||
	    json_opt_obj(v, WHAT, "env", &r->env, e) < 0 || check_installed(r->installed, e) < 0)
		return -1;
	if (r->bin && !r->path)
		return err_set(e, ERR_INTEGRITY, 0, WHAT ": bin without path");
	return check_strings(r->env, e);
}

int dependency_report_parse(struct dependency_report *r, const char *text, size_t len,
                            struct err *e)
{
	*r = (struct dependency_report){ .v = json_parse(text, len, LIMIT_DEPENDENCY_REPORT,
		                                         LIMIT_JSON_DEPTH, e) };
	if (!r->v)
		return err_wrap(e, WHAT);
	if (take(r, e) == 0)
		return 0;
	dependency_report_release(r);
	return -1;
}

void dependency_report_release(struct dependency_report *r)
{
	json_free(r->v);
	*r = (struct dependency_report){ .v = NULL };
}

void dependency_report_names(const json *list, char *to, size_t size)
{
	size_t n = 0, left = json_count(list);

	*to = 0;
	for (const json *v = json_first(list); v; v = json_next(v), left--) {
		const char *name = json_string(v);

		if (n + strlen(name) + 20 > size) {
			snprintf(to + n, size - n, "%s%zu more", n ? " and " : "", left);
			return;
		}
		n += (size_t)snprintf(to + n, size - n, "%s%s", n ? ", " : "", name);
	}
}

/* ---- the tool's words ---- */

enum { WORDS_LINES = 3 };

static bool tells_error(const char *line, size_t len)
{
	static const char *const begins[] = { "error", "npm err" };

	for (size_t i = 0; i < ARRAY_LEN(begins); i++)
		if (len > strlen(begins[i]) && strncasecmp(line, begins[i], strlen(begins[i])) == 0)
			return true;
	return false;
}

static size_t add_words(const char *line, size_t len, char *to, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < size; i++)
		to[n++] = (unsigned char)line[i] < 0x20 || line[i] == 0x7f ? ' ' : line[i];
	to[n] = 0;
	return n;
}

void dependency_log_words(const char *text, size_t len, char *to, size_t size)
{
	const char *last = text, *end = text + len;
	size_t last_len = 0, n = 0;
	int lines = 0;

	*to = 0;
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t here = (size_t)((newline ? newline : end) - text);

		if (tells_error(text, here) && lines++ < WORDS_LINES) {
			if (n && n + 1 < size)
				to[n++] = ' ';
			n += add_words(text, here, to + n, size - n);
		} else if (here) {
			last = text;
			last_len = here;
		}
		text += here + (newline != NULL);
	}
	if (!n)
		add_words(last, last_len, to, size);
}

/* ---- variables ---- */

enum { NAMES_MAX = 16 };

static bool is_search_path(const char *name)
{
	return strcmp(name, "PATH") == 0 || strcmp(name, "PYTHONPATH") == 0 ||
	       strcmp(name, "NODE_PATH") == 0;
}

static const char *own_value(const struct plan_env *own, size_t n_own, const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < n_own; i++)
		if (strcmp(own[i].name, name) == 0)
			value = own[i].value;
	return value;
}

static void write_joined(struct jw *w, const char *name, const char *front, const char *behind)
{
	struct buf b;

	buf_init(&b, 2 * LIMIT_DEPENDENCY_REPORT);
	buf_puts(&b, front, NULL);
	if (behind && *behind)
		buf_printf(&b, NULL, "%s%s", *front ? ":" : "", behind);
	jw_key(w, name);
	jw_strn(w, (const char *)buf_data(&b), buf_len(&b));
	buf_release(&b);
}

static bool write_path(const struct dependency_report *reports, size_t n, const char *own,
                       struct jw *w)
{
	const char *sandbox = NULL;
	struct buf front;
	bool any = false;

	buf_init(&front, 2 * LIMIT_DEPENDENCY_REPORT);
	for (size_t i = 0; i < n; i++) {
		if (!reports[i].bin)
			continue;
		buf_printf(&front, NULL, "%s%s", any ? ":" : "", reports[i].bin);
		sandbox = reports[i].path;
		any = true;
	}
	if (any)
		write_joined(w, "PATH", buf_cstr(&front, NULL), own ? own : sandbox);
	buf_release(&front);
	return any;
}

void dependency_reports_env(const struct dependency_report *reports, size_t n,
                            const struct plan_env *own, size_t n_own, struct jw *w)
{
	const char *written[NAMES_MAX] = { NULL };
	size_t count = 0;

	if (write_path(reports, n, own_value(own, n_own, "PATH"), w))
		written[count++] = "PATH";
	for (size_t i = 0; i < n; i++)
		for (const json *v = json_first(reports[i].env); v && count < NAMES_MAX;
		     v = json_next(v)) {
			const char *name = json_key(v), *mine = own_value(own, n_own, name);
			size_t k = 0;

			while (k < count && strcmp(written[k], name) != 0)
				k++;
			if (k < count || (mine && !is_search_path(name)))
				continue;
			write_joined(w, name, json_string(v), mine);
			written[count++] = name;
		}
	for (size_t i = 0; i < n_own; i++) {
		size_t k = 0;

		while (k < count && strcmp(written[k], own[i].name) != 0)
			k++;
		if (k == count)
			jw_kstr(w, own[i].name, own[i].value);
	}
}
