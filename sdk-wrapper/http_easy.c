/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "sdk-wrapper/http_int.h"
#include "sdk-wrapper/http_trace.h"

enum { CONNECT_MS = 30000 };

/* --- traces --- */

static void trace_lines(struct http *h, const char *arrow, const char *p, size_t n,
			void (*redact)(const char *line, size_t n, char *ret, size_t size))
{
	char shown[1024], line[1100];

	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n, text = len;

		while (text && (p[text - 1] == '\r'))
			text--;
		if (text) {
			redact(p, text, shown, sizeof(shown));
			snprintf(line, sizeof(line), "http %s %s", arrow, shown);
			h->trace(line);
		}
		len += nl ? 1 : 0;
		p += len;
		n -= len;
	}
}

static int on_debug(CURL *easy, curl_infotype type, char *p, size_t n, void *arg)
{
	struct http *h = arg;
	char line[64];

	(void)easy;
	switch (type) {
	case CURLINFO_TEXT:
		trace_lines(h, "*", p, n, http_redact_note);
		break;
	case CURLINFO_HEADER_OUT:
		trace_lines(h, ">", p, n, http_redact);
		break;
	case CURLINFO_HEADER_IN:
		trace_lines(h, "<", p, n, http_redact);
		break;
	case CURLINFO_DATA_OUT:
	case CURLINFO_DATA_IN:	/* never what is in it */
		snprintf(line, sizeof(line), "http %s %zu bytes",
			 type == CURLINFO_DATA_OUT ? ">" : "<", n);
		h->trace(line);
		break;
	default:
		break;
	}
	return 0;
}

/* --- setting up --- */

/* libcurl itself does not ask for close-on-exec. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)arg;
	(void)purpose;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static void set_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	if (curl.easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK)
		return;
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	curl.easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#pragma GCC diagnostic pop
}

CURL *http_easy_new(struct http *h, const char *url, uint32_t connect_ms, char *error,
		      struct err *e)
{
	CURL *easy = curl.easy_init();

	if (!easy || curl.easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK) {
		curl.easy_cleanup(easy);
		err_set(e, ERR_NO_MEMORY, 0, "request");
		return NULL;
	}
	set_protocols(easy);
	curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A resolver that hangs is left alone; else cleaning up would wait for its thread. */
	curl.easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	curl.easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
	curl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
			(long)(connect_ms ? connect_ms : CONNECT_MS));
	curl.easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl.easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl.easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl.easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	curl.easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (h->ca_file)
		curl.easy_setopt(easy, CURLOPT_CAINFO, h->ca_file);
	if (h->ca_dir)
		curl.easy_setopt(easy, CURLOPT_CAPATH, h->ca_dir);
	if (h->trace) {
		curl.easy_setopt(easy, CURLOPT_VERBOSE, 1L);
		curl.easy_setopt(easy, CURLOPT_DEBUGFUNCTION, on_debug);
		curl.easy_setopt(easy, CURLOPT_DEBUGDATA, h);
	}
	return easy;
}

void http_describe(char *ret, size_t size, const char *method, const char *url)
{
	snprintf(ret, size, "%s %.*s", method, (int)strcspn(url, "?#"), url);
}
