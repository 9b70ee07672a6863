/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "sdk-wrapper/e2b_fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "sdk-wrapper/e2b_api.h"
#include "sdk-wrapper/http_trace.h"

/* One call on a loop of its own. */
struct asking {
	struct loop *loop;
	struct http *http;
	struct e2b_api *api;
	struct e2b_env env;
	bool over;
	struct failure failure;
	bool failed;
	void (*on_found)(void *user, const struct e2b_found *f);
	void *user;
	struct e2b_found *one;
};

static const char *get_variable(const char *name)
{
	return getenv(name);
}

bool e2b_is_usable(void)
{
	const char *key = getenv("E2B_API_KEY");

	return key && *key;
}

uint64_t e2b_time(const char *text)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	double fraction = rest && *rest == '.' ? strtod(rest, NULL) : 0;

	return rest ? (uint64_t)timegm(&tm) * 1000000 + (uint64_t)(fraction * 1e6) : 0;
}

static void asking_end(struct asking *a)
{
	e2b_api_free(a->api);
	http_free(a->http);
	loop_free(a->loop);
	wipe(&a->env, sizeof(a->env));
}

static int asking_begin(struct asking *a, struct err *e)
{
	if (e2b_env_read(get_variable, &a->env, e) < 0)
		return -1;
	a->loop = loop_new(e);
	a->http = a->loop ? http_new(a->loop, http_trace_wanted() ? http_trace_log : NULL, e)
			  : NULL;
	a->api = a->http ? e2b_api_new(a->loop, a->http, &a->env, e) : NULL;
	return a->api ? 0 : -1;
}

/* Until the call is over; the call has a deadline of its own. */
static int asking_wait(struct asking *a, struct e2b_call *call, struct err *e)
{
	if (!call)
		return -1;
	while (!a->over)
		if (loop_pass(a->loop, -1, e) < 0)
			return -1;
	if (a->failed)
		*e = a->failure.err;
	return a->failed ? -1 : 0;
}

/* What the labels and the answer say of it. */
static void describe(const struct e2b_sandbox *s, const json *item, struct e2b_found *ret)
{
	char network[8] = "";

	*ret = (struct e2b_found){ .sandbox = { .provider = "e2b" } };
	snprintf(ret->sandbox.id, sizeof(ret->sandbox.id), "%s", s->id);
	e2b_metadata_get(item, E2B_LABEL_RUN, ret->sandbox.run, sizeof(ret->sandbox.run));
	e2b_metadata_get(item, E2B_LABEL_KEY, ret->key_id, sizeof(ret->key_id));
	e2b_metadata_get(item, E2B_LABEL_HOST, ret->host, sizeof(ret->host));
	e2b_metadata_get(item, E2B_LABEL_NETWORK, network, sizeof(network));
	ret->sandbox.network = strcmp(network, "on") == 0;
	ret->keep = e2b_metadata_get(item, E2B_LABEL_KEEP, network, sizeof(network));
	ret->paused = s->state == E2B_PAUSED;
	ret->started_us = e2b_time(s->started_at);
	ret->end_us = e2b_time(s->end_at);
}

static void on_item(void *user, const struct e2b_sandbox *s, const json *item)
{
	struct asking *a = user;
	struct e2b_found f;

	describe(s, item, &f);
	if (f.sandbox.run[0])
		a->on_found(a->user, &f);
}

static void on_answer(void *user, const struct e2b_result *r)
{
	struct asking *a = user;

	a->over = true;
	a->failed = r->failure != NULL;
	if (r->failure)
		a->failure = *r->failure;
	else if (a->one)
		describe(r->sandbox, r->answer, a->one);
	if (!r->failure && a->one &&
	    e2b_address(&a->env, r->sandbox, a->one->sandbox.address,
			sizeof(a->one->sandbox.address), &a->failure.err) < 0)
		a->failed = true;
}

int e2b_list_all(const char *key_id, int deadline_ms,
		 void (*on_found)(void *user, const struct e2b_found *f), void *user,
		 struct err *e)
{
	const char *filter[] = { E2B_LABEL_KEY, key_id, NULL };
	struct asking a CLEANUP(asking_end) = { .on_found = on_found, .user = user };
	struct e2b_end end = { (uint32_t)deadline_ms, on_answer, &a };

	if (asking_begin(&a, e) < 0)
		return -1;
	return asking_wait(&a, e2b_list(a.api, key_id ? filter : NULL, true, on_item, &end, e), e);
}

int e2b_find_one(const char *id, int deadline_ms, struct e2b_found *ret, struct err *e)
{
	struct asking a CLEANUP(asking_end) = { .one = ret };
	struct e2b_end end = { (uint32_t)deadline_ms, on_answer, &a };

	if (asking_begin(&a, e) < 0)
		return -1;
	if (asking_wait(&a, e2b_get(a.api, id, &end, e), e) == 0)
		return 0;
	if (a.failed && a.failure.class == FAIL_GONE)
		return err_set(e, ERR_NOT_FOUND, 0, "E2B has no sandbox '%.64s'", id);
	return -1;
}

int e2b_leave(const struct sandbox *s, uint32_t idle_ms, int deadline_ms, struct err *e)
{
	struct asking a CLEANUP(asking_end) = { .one = NULL };
	struct e2b_end end = { (uint32_t)deadline_ms, on_answer, &a };

	if (asking_begin(&a, e) < 0)
		return -1;
	return asking_wait(&a, e2b_set_timeout(a.api, s->id, (idle_ms + 999) / 1000, &end, e), e);
}
