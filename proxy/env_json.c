/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/env_json.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/hash.h"
#include "protocol/base/json.h"
#include "protocol/limits.h"

static bool is_last(const struct options *o, size_t i)
{
	for (size_t k = i + 1; k < o->n_env; k++)
		if (strcmp(o->env[k].name, o->env[i].name) == 0)
			return false;
	return true;
}

int env_json(const struct options *o, bool secret, char **ret, struct err *e)
{
	struct buf b;
	struct jw w;
	bool any = false;
	int r;

	*ret = NULL;
	buf_init(&b, LIMIT_SECRETS_BYTES);
	jw_init(&w, &b);
	jw_obj(&w);
	for (size_t i = 0; i < o->n_env; i++) {
		if (o->env[i].secret != secret || !is_last(o, i))
			continue;
		jw_kstr(&w, o->env[i].name, o->env[i].value);
		any = true;
	}
	jw_end(&w);
	r = jw_done(&w, e);
	if (r == 0 && any && !(*ret = buf_take_str(&b, e)))
		r = -1;
	if (b.mem)
		wipe(b.mem, b.cap);
	buf_release(&b);
	return r < 0 ? err_wrap(e, "--env, --pass-env and --secret") : 0;
}

void env_json_free(char *text)
{
	if (text)
		wipe(text, strlen(text));
	free(text);
}
