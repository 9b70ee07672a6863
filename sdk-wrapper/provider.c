/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/provider.h"

#include <string.h>

#include "protocol/base/cleanup.h"

static const struct provider *const providers[] = { &provider_local, &provider_native,
						    &provider_e2b };
/* Valid targets that this build does not have. */
static const char *const not_built[] = { "docker", "podman" };

const struct provider *provider_find(const char *name, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++)
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	for (size_t i = 0; i < ARRAY_LEN(not_built); i++)
		if (strcmp(not_built[i], name) == 0) {
			err_set(e, ERR_UNSUPPORTED, 0,
				"target '%s' is not built yet: want local, native or e2b", name);
			return NULL;
		}
	err_set(e, ERR_USAGE, 0, "no target '%.60s': want local, native or e2b", name);
	return NULL;
}

/* Those of this machine begin with the provider's name; E2B's are E2B's. */
const char *provider_of_id(const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++) {
		size_t n = strlen(providers[i]->name);

		if (strncmp(id, providers[i]->name, n) == 0 && id[n] == '-')
			return providers[i]->name;
	}
	return "e2b";
}

int sandbox_print(const struct sandbox *s, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "provider", s->provider);
	jw_kstr(&w, "id", s->id);
	jw_kstr(&w, "address", s->address);
	jw_kstr(&w, "state_dir", s->state_dir);
	jw_kint(&w, "pid", s->pid);
	jw_ku64s(&w, "pid_start", s->pid_start);
	jw_kstr(&w, "run", s->run);
	jw_kbool(&w, "network", s->network);
	jw_end(&w);
	return jw_done(&w, e);
}

static int copy_member(const json *v, const char *key, char *ret, size_t size, struct err *e)
{
	const char *text = "";

	if (json_opt_str(v, "sandbox", key, &text, e) < 0)
		return -1;
	if (strlen(text) >= size)
		return err_set(e, ERR_INVALID_PARAMS, 0, "sandbox.%s: longer than %zu bytes", key,
			       size - 1);
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

static int copy_required(const json *v, const char *key, char *ret, size_t size, struct err *e)
{
	const char *text;

	return json_req_str(v, "sandbox", key, &text, e) < 0 ? -1
							     : copy_member(v, key, ret, size, e);
}

int sandbox_parse(const json *v, struct sandbox *ret, struct err *e)
{
	struct sandbox s = { .pid = 0 };
	int64_t pid = 0;

	if (copy_required(v, "provider", s.provider, sizeof(s.provider), e) < 0 ||
	    copy_required(v, "id", s.id, sizeof(s.id), e) < 0 ||
	    copy_required(v, "address", s.address, sizeof(s.address), e) < 0 ||
	    copy_required(v, "state_dir", s.state_dir, sizeof(s.state_dir), e) < 0 ||
	    json_opt_int(v, "sandbox", "pid", 0, INT32_MAX, &pid, e) < 0 ||
	    json_opt_u64(v, "sandbox", "pid_start", &s.pid_start, e) < 0 ||
	    copy_member(v, "run", s.run, sizeof(s.run), e) < 0 ||
	    json_opt_bool(v, "sandbox", "network", &s.network, e) < 0)
		return -1;
	s.pid = (pid_t)pid;
	*ret = s;
	return 0;
}
