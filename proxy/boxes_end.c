/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a sandbox from outside: nobody begins to use it meanwhile. */
#include <fcntl.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "proxy/boxes.h"
#include "proxy/mark.h"
#include "proxy/rundir.h"

#define DESTROY_MS 10000

static bool run_is_locked(const char *path)
{
	struct rundir d;
	bool locked;

	if (!path[0] || rundir_open(&d, path, NULL) < 0)
		return false;
	locked = rundir_is_locked(&d);
	rundir_close(&d);
	return locked;
}

int box_end(const struct box *b, bool spare_used, struct err *e)
{
	bool gone_at_e2b = strcmp(b->sandbox.provider, "e2b") == 0 && b->state == BOX_REMAINS &&
	                   strncmp(b->sandbox.id, "create:", 7) != 0;
	auto_close int seized = -1;
	struct err busy = ERR_INIT;

	if (b->dir[0] && mark_seize(b->dir, &seized, &busy) < 0 && busy.code == ERR_BUSY &&
	    spare_used)
		return err_set(e, ERR_BUSY, 0, "a farstep works with it by now");
	if (spare_used && run_is_locked(b->run_dir))
		return err_set(e, ERR_BUSY, 0, "a farstep works on its run by now");
	if (b->sandbox.provider[0] && !gone_at_e2b) {
		const struct provider *p = provider_find(b->sandbox.provider, e);

		if (!p || p->destroy(&b->sandbox, DESTROY_MS, e) < 0)
			return -1;
	}
	/* Of one that has no name there is no more than this. */
	if (!b->sandbox.provider[0] && b->sandbox.state_dir[0] == '/' &&
	    fs_remove_tree(AT_FDCWD, b->sandbox.state_dir, e) < 0)
		return -1;
	return b->dir[0] ? fs_remove_tree(AT_FDCWD, b->dir, e) : 0;
}
