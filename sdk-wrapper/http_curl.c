/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/http_curl.h"

#include <dlfcn.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

enum { OLDEST = 0x074000 };	/* 7.64: the socket interface as used here */

struct http_curl curl;

static int find(void *handle, const char *name, void *ret, struct err *e)
{
	void *symbol = dlsym(handle, name);

	if (!symbol)
		return err_set(e, ERR_UNSUPPORTED, 0, LIBRARY " has no %s: too old", name);
	memcpy(ret, &symbol, sizeof(symbol));
	return 0;
}

int http_curl_open(struct err *e)
{
	void *handle;

	if (curl.handle)
		return 0;
	handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return err_set(e, ERR_UNSUPPORTED, 0,
			       "HTTP needs libcurl (apt install libcurl4): %s", dlerror());
#define FIND(f) \
	if (find(handle, "curl_" #f, &curl.f, e) < 0) \
		goto fail;
	CURL_FUNCTIONS(FIND)
#undef FIND
	if (curl.version_info(CURLVERSION_NOW)->version_num < OLDEST) {
		err_set(e, ERR_UNSUPPORTED, 0, "libcurl %s is too old: want 7.64",
			curl.version_info(CURLVERSION_NOW)->version);
		goto fail;
	}
	if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		err_set(e, ERR_UNSUPPORTED, 0, "libcurl cannot be initialised");
		goto fail;
	}
	curl.handle = handle;
	return 0;
fail:
	dlclose(handle);
	return -1;
}
