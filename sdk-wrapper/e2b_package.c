/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_package.h"

#include <stdio.h>
#include <stdlib.h>

#include "sdk-wrapper/envd_put.h"

enum {
	AT_LEAST_MS = 180000,
	SLOWEST = 64,	/* bytes a millisecond: what is slower is given up, and takes the session */
};

struct e2b_package {
	struct envd *envd;
	struct envd_call *upload;
	struct envd_put *put;
	void (*on_end)(void *user, const struct err *err);
	void *user;
};

static void on_sent(void *user, const struct envd_result *r)
{
	struct e2b_package *p = user;

	p->upload = NULL;
	p->put = NULL;
	p->on_end(p->user, r->failure ? &r->failure->err : NULL);
}

struct e2b_package *e2b_package_start(struct loop *l, struct http *h, const struct e2b_env *env,
				      const struct e2b_sandbox *sandbox, const char *unique, int fd,
				      uint64_t len,
				      void (*on_end)(void *user, const struct err *err),
				      void *user, struct err *e)
{
	struct e2b_package *p = calloc(1, sizeof(*p));
	uint64_t ms = AT_LEAST_MS + len / SLOWEST;
	char path[100];
	struct envd_file file = { path, fd, 0, len };
	struct envd_end end = { ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX, on_sent, p };

	if (!p) {
		err_set(e, ERR_NO_MEMORY, 0, "package");
		return NULL;
	}
	p->on_end = on_end;
	p->user = user;
	snprintf(path, sizeof(path), E2B_PACKAGE_PATH, unique);
	p->envd = envd_new(l, h, env, sandbox, NULL, e);
	if (p->envd && len <= E2B_PACKAGE_ONE_REQUEST)
		p->upload = envd_upload(p->envd, &file, 1, &end, e);
	else if (p->envd)
		p->put = envd_put(p->envd, &file, unique, false, &end, e);
	if (p->upload || p->put)
		return p;
	e2b_package_cancel(p);
	return NULL;
}

void e2b_package_cancel(struct e2b_package *p)
{
	if (!p)
		return;
	envd_cancel(p->upload);
	envd_put_cancel(p->put);
	envd_free(p->envd);
	free(p);
}
