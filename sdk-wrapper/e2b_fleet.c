/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "sdk-wrapper/e2b_fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/e2b_desk.h"
#include "sdk-wrapper/e2b_spec.h"

/* One call on a loop of its own. */
struct asking {
	struct e2b_desk desk;
	void (*on_found)(void *user, const struct e2b_found *f);
	void *user;
	struct e2b_found *one;
};

static void asking_end(struct asking *a)
{
	e2b_desk_close(&a->desk);
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

static void on_one(void *user, const struct e2b_result *r)
{
	struct asking *a = user;
	struct err e = ERR_INIT;

	if (r->failure) {
		e2b_desk_answered(&a->desk, r);
		return;
	}
	describe(r->sandbox, r->answer, a->one);
	if (e2b_address(&a->desk.env, r->sandbox, a->one->sandbox.address,
			sizeof(a->one->sandbox.address), &e) < 0)
		e2b_desk_over(&a->desk, &e);
	else
		e2b_desk_over(&a->desk, NULL);
}

static void on_listed(void *user, const struct e2b_result *r)
{
	struct asking *a = user;

	e2b_desk_answered(&a->desk, r);
}

int e2b_list_all(const char *key_id, int deadline_ms,
		 void (*on_found)(void *user, const struct e2b_found *f), void *user,
		 struct err *e)
{
	const char *filter[] = { E2B_LABEL_KEY, key_id, NULL };
	struct asking a CLEANUP(asking_end) = { .on_found = on_found, .user = user };
	struct e2b_end end = { (uint32_t)deadline_ms, on_listed, &a };
	struct e2b_call *call;

	if (e2b_desk_open(&a.desk, NULL, e) < 0)
		return -1;
	call = e2b_list(a.desk.api, key_id ? filter : NULL, true, on_item, &end, e);
	return e2b_desk_wait(&a.desk, call != NULL, e);
}

int e2b_find_one(const char *id, int deadline_ms, struct e2b_found *ret, struct err *e)
{
	struct asking a CLEANUP(asking_end) = { .one = ret };
	struct e2b_end end = { (uint32_t)deadline_ms, on_one, &a };

	if (e2b_desk_open(&a.desk, NULL, e) < 0)
		return -1;
	if (e2b_desk_wait(&a.desk, e2b_get(a.desk.api, id, &end, e) != NULL, e) == 0)
		return 0;
	if (a.desk.class == FAIL_GONE)
		return err_set(e, ERR_NOT_FOUND, 0, "E2B has no sandbox '%.64s'", id);
	return -1;
}

int e2b_leave(const struct sandbox *s, uint32_t idle_ms, int deadline_ms, struct err *e)
{
	struct e2b_desk d CLEANUP(e2b_desk_close) = { .loop = NULL };
	struct e2b_end end = { (uint32_t)deadline_ms, e2b_desk_answered, &d };
	struct e2b_call *call;

	if (e2b_desk_open(&d, NULL, e) < 0)
		return -1;
	call = e2b_set_timeout(d.api, s->id, (idle_ms + 999) / 1000, &end, e);
	return e2b_desk_wait(&d, call != NULL, e);
}
