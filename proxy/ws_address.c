/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/ws_address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WANT "want unix:PATH, ws://HOST:PORT or wss://HOST[:PORT]"

size_t ws_address_public(const char *text)
{
	return strncmp(text, "unix:", 5) == 0 ? strlen(text) : strcspn(text, "#");
}

static int bad(const char *text, const char *what, struct err *e)
{
	size_t n = ws_address_public(text);

	return err_set(e, ERR_USAGE, 0, "'%.*s': %s", n < 150 ? (int)n : 150, text, what);
}

/* n bytes of p as a string; false: it does not fit. */
static bool copy(char *ret, size_t size, const char *p, size_t n)
{
	if (n >= size)
		return false;
	memcpy(ret, p, n);
	ret[n] = 0;
	return true;
}

static bool is_number(const char *host)
{
	struct in6_addr a;

	return inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1;
}

static bool is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '-')
			return false;
	return n > 0;
}

static bool is_plain(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] <= 0x20 || (unsigned char)p[i] >= 0x7f)
			return false;
	return true;
}

static int parse_headers(const char *text, const char *p, struct ws_address *a, struct err *e)
{
	while (*p) {
		size_t n = strcspn(p, "&"), name = strcspn(p, "=&");

		if (a->n_headers == WS_HEADERS_MAX)
			return bad(text, "too many headers", e);
		if (name >= n || !is_token(p, name) || !is_plain(p + name + 1, n - name - 1) ||
		    !copy(a->headers[a->n_headers].name, sizeof(a->headers[0].name), p, name) ||
		    !copy(a->headers[a->n_headers].value, sizeof(a->headers[0].value),
		          p + name + 1, n - name - 1))
			return bad(text, "after '#': want Name=Value&...", e);
		a->n_headers++;
		p += n + (p[n] == '&');
	}
	return 0;
}

/* HOST, HOST:PORT, [IPV6]:PORT */
static int parse_authority(const char *text, const char *p, size_t n, int default_port,
                           struct ws_address *a, struct err *e)
{
	const char *end = p + n, *host = p, *colon;
	size_t host_len;
	char *rest = NULL;

	if (n && *p == '[') {
		const char *close = memchr(p, ']', n);

		if (!close)
			return bad(text, "no ']'", e);
		host = p + 1;
		host_len = (size_t)(close - host);
		colon = close + 1;
	} else {
		colon = memchr(p, ':', n);
		colon = colon ? colon : end;
		host_len = (size_t)(colon - host);
	}
	if (!host_len || !is_plain(host, host_len) || memchr(host, '@', host_len) ||
	    !copy(a->host, sizeof(a->host), host, host_len) ||
	    !copy(a->shown, sizeof(a->shown), p, n))
		return bad(text, WANT, e);
	a->port = default_port;
	if (colon < end) {
		a->port = (int)strtol(colon + 1, &rest, 10);
		if (*colon != ':' || rest != end || !isdigit((unsigned char)colon[1]))
			return bad(text, WANT, e);
	}
	if (a->port <= 0 || a->port > 65535)
		return bad(text, "no port", e);
	return 0;
}

static int parse_unix(const char *text, struct ws_address *a, struct err *e)
{
	const char *path = text + strlen("unix:");

	if (!*path || strlen(path) > 107)
		return bad(text, "a unix socket's path has 1 to 107 bytes", e);
	snprintf(a->host, sizeof(a->host), "+%s", path);
	snprintf(a->shown, sizeof(a->shown), "localhost");
	return 0;
}

int ws_address_parse(const char *text, struct ws_address *ret, struct err *e)
{
	struct ws_address a = { .path = "/farstep" };
	bool tls = strncmp(text, "wss://", 6) == 0;
	const char *p = text + (tls ? 6 : 5);
	size_t n;

	if (strncmp(text, "unix:", 5) == 0) {
		if (parse_unix(text, &a, e) < 0)
			return -1;
		*ret = a;
		return 0;
	}
	if (!tls && strncmp(text, "ws://", 5) != 0)
		return bad(text, WANT, e);
	n = strcspn(p, "/#?");
	if (parse_authority(text, p, n, tls ? 443 : 0, &a, e) < 0)
		return -1;
	p += n;
	n = strcspn(p, "#");
	if (n > 1 && !copy(a.path, sizeof(a.path), p, n))
		return bad(text, "the path is too long", e);
	if (p[n] == '#' && parse_headers(text, p + n + 1, &a, e) < 0)
		return -1;
	if (tls || !is_number(a.host))
		snprintf(a.tunnel, sizeof(a.tunnel), "%s://%s", tls ? "https" : "http", a.shown);
	*ret = a;
	return 0;
}
