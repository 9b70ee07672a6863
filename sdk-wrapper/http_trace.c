/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/http_trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

/* Whatever else is called so is hidden too: any name with one of these in it. */
static const char *const secret_words[] = {
	"authorization", "cookie", "token", "api-key", "apikey", "secret", "password",
};

static bool contains(const char *text, size_t n, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= n; i++)
		if (strncasecmp(text + i, word, len) == 0)
			return true;
	return false;
}

static bool is_secret_name(const char *name, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(secret_words); i++)
		if (contains(name, n, secret_words[i]))
			return true;
	return false;
}

struct out {
	char *at;
	size_t room;	/* without the NUL */
};

static void put(struct out *o, const char *p, size_t n)
{
	for (size_t i = 0; i < n && o->room; i++, o->room--)
		*o->at++ = (unsigned char)p[i] < 0x20 || p[i] == 0x7f ? '?' : p[i];
	*o->at = 0;
}

/* A request line: only parameters of the query can be secret. */
static void put_request_line(struct out *o, const char *line, size_t n)
{
	const char *query = memchr(line, '?', n), *end = line + n;

	if (!query) {
		put(o, line, n);
		return;
	}
	put(o, line, (size_t)(query - line));
	while (query < end) {
		size_t len = 1;
		const char *eq;

		while (query + len < end && query[len] != '&' && query[len] != ' ')
			len++;
		eq = memchr(query, '=', len);
		if (eq && (contains(query, (size_t)(eq - query), "signature") ||
			   is_secret_name(query, (size_t)(eq - query)))) {
			put(o, query, (size_t)(eq - query) + 1);
			put(o, "***", 3);
		} else {
			put(o, query, len);
		}
		query += len;
	}
}

/* Where the first secret word begins; n: there is none. */
static size_t find_secret(const char *line, size_t n)
{
	size_t first = n;

	for (size_t i = 0; i < ARRAY_LEN(secret_words); i++) {
		size_t len = strlen(secret_words[i]);

		for (size_t at = 0; at + len <= first; at++)
			if (strncasecmp(line + at, secret_words[i], len) == 0)
				first = at;
	}
	return first;
}

void http_redact_note(const char *line, size_t n, char *ret, size_t size)
{
	struct out o = { ret, size ? size - 1 : 0 };
	size_t secret = find_secret(line, n);
	const char *colon;

	if (!size)
		return;
	*ret = 0;
	if (secret == n) {
		put_request_line(&o, line, n);
		return;
	}
	colon = memchr(line + secret, ':', n - secret);
	put(&o, line, colon ? (size_t)(colon - line) : secret);
	put(&o, ": ***", 5);
}

void http_redact(const char *line, size_t n, char *ret, size_t size)
{
	struct out o = { ret, size ? size - 1 : 0 };
	const char *colon = memchr(line, ':', n), *space = memchr(line, ' ', n);

	if (!size)
		return;
	*ret = 0;
	if (!colon || (space && space < colon)) {
		put_request_line(&o, line, n);
		return;
	}
	if (is_secret_name(line, (size_t)(colon - line))) {
		put(&o, line, (size_t)(colon - line));
		put(&o, ": ***", 5);
		return;
	}
	put(&o, line, n);
}

static bool is_on(const char *name)
{
	const char *v = getenv(name);

	return v && *v && strcmp(v, "0") != 0 && strcasecmp(v, "false") != 0;
}

bool http_trace_wanted(void)
{
	return is_on("FARSTEP_HTTP_DEBUG") || is_on("E2B_DEBUG");
}

void http_trace_log(const char *line)
{
	log_warn("%s", line);
}
