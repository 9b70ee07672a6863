/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/reuse.h"

#include <string.h>

#include "protocol/base/cleanup.h"
#include "proxy/mark.h"
#include "sdk-wrapper/e2b_fleet.h"

#define FIND_MS 30000

uint32_t keep_idle_ms(const struct options *o)
{
	return o->timeout_s && o->timeout_s * 1000 < KEEP_IDLE_MS ? (uint32_t)o->timeout_s * 1000
	                                                          : KEEP_IDLE_MS;
}

static int gone(const char *id, struct err *e)
{
	return err_set(e, ERR_PROVIDER, 0,
	               "sandbox '%.100s' is not there (any more): leave --sandbox out for a new "
	               "one, or see farstep sandboxes list",
	               id);
}

/* The run in "local-20261102t101112-3f9a1c07-0badcafe". */
static int run_of_id(const char *id, char run[LIMIT_RUN_ID + 1])
{
	const char *from = strchr(id, '-'), *to = strrchr(id, '-');
	size_t n = from && to > from ? (size_t)(to - from - 1) : 0;

	if (!n || n > LIMIT_RUN_ID || memchr(from, '/', n + 1))
		return -1;
	memcpy(run, from + 1, n);
	run[n] = 0;
	return 0;
}

static int find_here(const char *id, struct mark *ret, int *hold, struct err *e)
{
	char run[LIMIT_RUN_ID + 1], dir[256];
	struct err why = ERR_INIT;

	if (run_of_id(id, run) < 0)
		return gone(id, e);
	if (mark_dir(run, dir, e) < 0)
		return -1;
	if (mark_hold(dir, hold, &why) < 0 || mark_read(dir, ret, &why) < 0) {
		if (why.code == ERR_NOT_FOUND || why.code == ERR_BUSY)
			return gone(id, e);
		*e = why;
		return -1;
	}
	if (strcmp(ret->sandbox.id, id) != 0 ||
	    provider_find(ret->sandbox.provider, e)->state(&ret->sandbox) == SANDBOX_GONE)
		return gone(id, e);
	return 0;
}

static int find_at_e2b(const char *id, struct mark *ret, int *hold, struct err *e)
{
	char dir[256];
	struct e2b_found f;

	if (e2b_find_one(id, FIND_MS, &f, e) < 0)
		return e->code == ERR_NOT_FOUND ? gone(id, e) : -1;
	if (!f.sandbox.run[0])
		return err_set(e, ERR_PROVIDER, 0, "sandbox '%.64s' was not made by farstep", id);
	if (f.paused)
		return err_set(e, ERR_PROVIDER, 0, "sandbox '%.64s' is paused", id);
	ret->sandbox = f.sandbox;
	ret->keep = f.keep;
	memcpy(ret->key_id, f.key_id, sizeof(ret->key_id) - 1);
	ret->key_id[sizeof(ret->key_id) - 1] = 0;
	/* Made on another machine, it has no mark here. */
	if (mark_dir(f.sandbox.run, dir, e) == 0)
		mark_hold(dir, hold, NULL);
	return 0;
}

int reuse_find(const struct options *o, const uint8_t user_key[USER_KEY_LEN], struct sandbox *ret,
               int *hold, struct err *e)
{
	bool here = strcmp(provider_of_id(o->sandbox), "e2b") != 0;
	struct mark m = { .keep = false };
	auto_close int fd = -1;
	char id[17];

	if ((here ? find_here : find_at_e2b)(o->sandbox, &m, &fd, e) < 0)
		return -1;
	key_id(user_key, id);
	if (strcmp(m.key_id, id) != 0)
		return err_set(e, ERR_DENIED, 0,
		               "sandbox '%.100s' was made with another user key (%s, not %s): "
		               "name that with --key-file",
		               o->sandbox, m.key_id, id);
	if (m.sandbox.network != o->network && strcmp(m.sandbox.provider, "native") != 0)
		return err_set(e, ERR_POLICY, 0,
		               "sandbox '%.100s' was made with --network %s: say so here as well, "
		               "or leave --sandbox out for a new one",
		               o->sandbox, m.sandbox.network ? "on" : "off");
	if (!m.keep)
		return err_set(e, ERR_POLICY, 0,
		               "sandbox '%.100s' is run %s's alone, which made it without --keep",
		               o->sandbox, m.sandbox.run);
	*ret = m.sandbox;
	*hold = take_fd(&fd);
	return 0;
}
