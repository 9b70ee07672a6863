/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/target.h"

#include "protocol/limits.h"

void target_spec(const struct options *o, struct sandbox_spec *ret)
{
	uint64_t life_ms = (uint64_t)o->timeout_s * 1000 + LIFE_AFTER_TIMEOUT_MS;

	ret->template_name = o->template_name;
	ret->cpu = (uint32_t)o->cpu;
	ret->memory_mb = (uint32_t)o->memory_mb;
	ret->build_template = o->build_template;
	ret->lease_ms = LEASE_DEFAULT_MS;
	ret->life_ms = !o->timeout_s ? 0 : life_ms < UINT32_MAX ? (uint32_t)life_ms : UINT32_MAX;
	ret->network = o->network;
	ret->hosts = o->network ? NULL : (const char *const *)o->hosts;
	ret->keep = o->keep;
}
