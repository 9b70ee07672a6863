/* SPDX-License-Identifier: Apache-2.0
 *
 * http_curl - libcurl, opened when it is needed and not when the program starts; for the http_*
 * files alone, which call it through this. */
#ifndef FARSTEP_SDK_HTTP_CURL_H
#define FARSTEP_SDK_HTTP_CURL_H

#define CURL_DISABLE_TYPECHECK	/* its macros would name functions that are not linked */
#include <curl/curl.h>

#include "protocol/base/err.h"

#define CURL_FUNCTIONS(F) \
	F(global_init) \
	F(version_info) \
	F(slist_append) \
	F(slist_free_all) \
	F(easy_init) \
	F(easy_cleanup) \
	F(easy_setopt) \
	F(easy_getinfo) \
	F(easy_strerror) \
	F(easy_send) \
	F(easy_recv) \
	F(multi_init) \
	F(multi_cleanup) \
	F(multi_setopt) \
	F(multi_strerror) \
	F(multi_add_handle) \
	F(multi_remove_handle) \
	F(multi_socket_action) \
	F(multi_info_read) \
	F(multi_assign)

#define CURL_MEMBER(f) __typeof__(&curl_##f) f;
struct http_curl {
	void *handle;
	CURL_FUNCTIONS(CURL_MEMBER)
};
#undef CURL_MEMBER

/* Per process, as the library is. */
extern struct http_curl curl;

/* Fine when it is open already; it stays open.  ERR_UNSUPPORTED: there is none, or it is too
 * old. */
int http_curl_open(struct err *e);

#endif
