/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_tier.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "protocol/base/hash.h"

/* The valid one next to it, the larger of two. */
static uint32_t nearest_cpu(uint32_t cpu)
{
	if (cpu > E2B_CPU_MAX)
		return E2B_CPU_MAX;
	return cpu <= 1 ? 1 : cpu + cpu % 2;
}

static uint32_t nearest_memory(uint32_t mb)
{
	return mb < E2B_MEMORY_MIN_MB ? E2B_MEMORY_MIN_MB : mb + mb % 2;
}

int e2b_size_of(uint32_t cpu, uint32_t memory_mb, struct e2b_size *ret, struct err *e)
{
	struct e2b_size s = { cpu ? cpu : E2B_CPU_DEFAULT,
			      memory_mb ? memory_mb : E2B_MEMORY_DEFAULT_MB };

	if (s.cpu != nearest_cpu(s.cpu))
		return err_set(e, ERR_POLICY, 0,
			       "--cpu %u: E2B has sandboxes with 1 processor or an even number of "
			       "them up to %d; the nearest is %u",
			       s.cpu, E2B_CPU_MAX, nearest_cpu(s.cpu));
	if (s.memory_mb != nearest_memory(s.memory_mb))
		return err_set(e, ERR_POLICY, 0,
			       "--memory: %u MiB: E2B has sandboxes with an even number of MiB "
			       "from %d on; the nearest is %u (--memory %.9g)",
			       s.memory_mb, E2B_MEMORY_MIN_MB, nearest_memory(s.memory_mb),
			       nearest_memory(s.memory_mb) / 1024.0);
	*ret = s;
	return 0;
}

int e2b_tier_name(const char *base, const struct e2b_size *size, char ret[E2B_TEMPLATE_NAME_MAX],
		  struct err *e)
{
	char text[E2B_TEMPLATE_NAME_MAX], digest[10] = "", hex[SHA256_HEX];
	uint8_t raw[SHA256_LEN];
	bool changed = false;
	size_t len = strlen(base);
	int n;

	if (len >= sizeof(text))
		return err_set(e, ERR_LIMIT, 0, "template '%.60s...': the name is too long", base);
	for (size_t i = 0; i <= len; i++) {
		unsigned char c = (unsigned char)base[i];

		text[i] = base[i];
		if (c && !islower(c) && !isdigit(c) && c != '-' && c != '_') {
			text[i] = '-';
			changed = true;
		}
	}
	if (changed) {
		sha256(base, len, raw);
		hex_encode(raw, sizeof(raw), hex);
		snprintf(digest, sizeof(digest), "-%.8s", hex);
	}
	n = snprintf(ret, E2B_TEMPLATE_NAME_MAX, "farstep-%s%s-%uc-%um", text, digest, size->cpu,
		     size->memory_mb);
	if (n < 0 || n >= E2B_TEMPLATE_NAME_MAX)
		return err_set(e, ERR_LIMIT, 0,
			       "template '%.60s': its name is too long for one of that size",
			       base);
	return 0;
}

int e2b_fit(const char *base, uint32_t cpu, uint32_t memory_mb, struct e2b_fit *ret, struct err *e)
{
	struct e2b_fit f = { .base = base ? base : "base", .is_sized = cpu || memory_mb };

	if (f.is_sized) {
		if (e2b_size_of(cpu, memory_mb, &f.size, e) < 0 ||
		    e2b_tier_name(f.base, &f.size, f.template_name, e) < 0)
			return -1;
	} else if (snprintf(f.template_name, sizeof(f.template_name), "%s", f.base) >=
		   (int)sizeof(f.template_name)) {
		return err_set(e, ERR_LIMIT, 0, "template '%.60s...': the name is too long", base);
	}
	*ret = f;
	return 0;
}

int e2b_fit_check(const struct e2b_fit *fit, const struct e2b_size *got, struct err *e)
{
	if (!fit->is_sized || (got->cpu == fit->size.cpu && got->memory_mb == fit->size.memory_mb))
		return 0;
	return err_set(e, ERR_POLICY, 0,
		       "asked for %u processors and %u MiB, but template %s gave %u and %u MiB: "
		       "build it again (farstep template build %s --cpu %u --memory %.9g)",
		       fit->size.cpu, fit->size.memory_mb, fit->template_name, got->cpu,
		       got->memory_mb, fit->base, fit->size.cpu, fit->size.memory_mb / 1024.0);
}

int e2b_fit_missing(const struct e2b_fit *fit, struct err *e)
{
	return err_set(e, ERR_POLICY, 0,
		       "there is no template %s yet, which has %u processors and %u MiB: build it "
		       "with 'farstep template build %s --cpu %u --memory %.9g', or allow it with "
		       "--build-template",
		       fit->template_name, fit->size.cpu, fit->size.memory_mb, fit->base,
		       fit->size.cpu, fit->size.memory_mb / 1024.0);
}
