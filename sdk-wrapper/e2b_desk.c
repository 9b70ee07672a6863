/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_desk.h"

#include <stdlib.h>

#include "protocol/base/hash.h"
#include "sdk-wrapper/http_trace.h"

static const char *get_variable(const char *name)
{
	return getenv(name);
}

int e2b_desk_open(struct e2b_desk *d, struct loop *l, struct err *e)
{
	*d = (struct e2b_desk){ .loop = l, .owns_loop = !l };
	if (e2b_env_read(get_variable, &d->env, e) < 0)
		return -1;
	if (!d->loop)
		d->loop = loop_new(e);
	if (d->loop)
		d->http = http_new(d->loop, http_trace_wanted() ? http_trace_log : NULL, e);
	d->api = d->http ? e2b_api_new(d->loop, d->http, &d->env, e) : NULL;
	return d->api ? 0 : -1;
}

void e2b_desk_close(struct e2b_desk *d)
{
	e2b_api_free(d->api);
	http_free(d->http);
	if (d->owns_loop)
		loop_free(d->loop);
	wipe(&d->env, sizeof(d->env));
	d->loop = NULL;
	d->http = NULL;
	d->api = NULL;
}

void e2b_desk_over(struct e2b_desk *d, const struct err *err)
{
	d->over = true;
	d->failed = err != NULL;
	d->class = FAIL_NONE;
	if (err)
		d->err = *err;
}

void e2b_desk_answered(void *user, const struct e2b_result *r)
{
	struct e2b_desk *d = user;

	e2b_desk_over(d, r->failure ? &r->failure->err : NULL);
	d->class = r->failure ? r->failure->class : FAIL_NONE;
}

int e2b_desk_wait(struct e2b_desk *d, bool has_begun, struct err *e)
{
	d->over = false;
	if (!has_begun)
		return -1;
	while (!d->over)
		if (loop_pass(d->loop, -1, e) < 0)
			return -1;
	if (d->failed && e)
		*e = d->err;
	return d->failed ? -1 : 0;
}
