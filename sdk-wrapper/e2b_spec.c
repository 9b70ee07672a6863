/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_spec.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/limits.h"

/* All but `unique`. */
static void fill(const struct sandbox_spec *spec, const struct e2b_fit *fit, struct e2b_order *ret)
{
	uint32_t life_ms = spec->lease_ms;
	const char **labels = ret->labels;
	size_t n = 0;

	if (spec->life_ms && spec->life_ms < life_ms)
		life_ms = spec->life_ms;
	if (gethostname(ret->host, sizeof(ret->host) - 1) < 0 || !ret->host[0])
		snprintf(ret->host, sizeof(ret->host), "unknown");
	ret->host[sizeof(ret->host) - 1] = 0;
	labels[n++] = E2B_LABEL_RUN;
	labels[n++] = spec->run;
	if (spec->key_id && *spec->key_id) {
		labels[n++] = E2B_LABEL_KEY;
		labels[n++] = spec->key_id;
	}
	labels[n++] = E2B_LABEL_HOST;
	labels[n++] = ret->host;
	labels[n++] = E2B_LABEL_NETWORK;
	labels[n++] = spec->network ? "on" : "off";
	if (spec->keep) {
		labels[n++] = E2B_LABEL_KEEP;
		labels[n++] = "yes";
	}
	labels[n] = NULL;
	ret->create = (struct e2b_create){ .template_name = fit->template_name,
					   .timeout_s = (life_ms + 999) / 1000,
					   .internet = spec->network,
					   .hosts = spec->hosts,
					   .metadata = labels,
					   .unique = ret->unique };
}

int e2b_order(const struct sandbox_spec *spec, const struct e2b_fit *fit, struct e2b_order *ret,
	      struct err *e)
{
	uint8_t rnd[E2B_UNIQUE_LEN / 2];

	if (random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(rnd, sizeof(rnd), ret->unique);
	fill(spec, fit, ret);
	return 0;
}

int e2b_check_debug(const struct sandbox_spec *spec, struct err *e)
{
	const char *what = spec->cpu || spec->memory_mb ? "a size"
			   : spec->template_name	? "a template"
			   : spec->hosts		? "a list of hosts"
							: NULL;

	if (!what)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, 0,
		       "%s: with E2B_DEBUG=true the sandbox is this machine, as it is", what);
}

int e2b_check(const struct sandbox_spec *spec, struct err *e)
{
	struct e2b_fit fit;

	return e2b_fit(spec->template_name, spec->cpu, spec->memory_mb, &fit, e);
}

int e2b_describe(const struct sandbox_spec *spec, struct buf *out, struct err *e)
{
	struct e2b_order order = { .unique = "(made for each request)" };
	struct e2b_fit fit;
	struct buf body CLEANUP(buf_release);
	struct jw w;

	buf_init(&body, LIMIT_TEXT);
	if (e2b_fit(spec->template_name, spec->cpu, spec->memory_mb, &fit, e) < 0)
		return -1;
	fill(spec, &fit, &order);
	if (e2b_create_body(&order.create, E2B_V2, &body, e) < 0)
		return -1;
	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "provider", "e2b");
	jw_kstr(&w, "request", "POST /v2/sandboxes");
	jw_key(&w, "body");
	jw_raw(&w, (const char *)buf_data(&body), buf_len(&body));
	if (fit.is_sized) {	/* what the template must be, which is checked */
		jw_kobj(&w, "size");
		jw_kint(&w, "cpu", fit.size.cpu);
		jw_kint(&w, "memory_mb", fit.size.memory_mb);
		jw_kstr(&w, "base", fit.base);
		jw_kbool(&w, "build_template", spec->build_template);
		jw_end(&w);
	}
	jw_end(&w);
	return jw_done(&w, e);
}

int e2b_address(const struct e2b_env *env, const struct e2b_sandbox *s, char *ret, size_t size,
		struct err *e)
{
	struct e2b_place p;
	char headers[400] = "";
	int n;

	if (e2b_place(env, s->domain, s->id, E2B_WORKER_PORT, &p, e) < 0)
		return -1;
	if (p.shared || s->traffic_token[0])
		snprintf(headers, sizeof(headers), "#E2b-Sandbox-Id=%s&E2b-Sandbox-Port=%d%s%s",
			 s->id, E2B_WORKER_PORT,
			 s->traffic_token[0] ? "&E2b-Traffic-Access-Token=" : "", s->traffic_token);
	/* http://... becomes ws://..., https://... wss://... */
	n = snprintf(ret, size, "ws%s%s", p.base + strlen("http"), headers);
	if (n < 0 || (size_t)n >= size)
		return err_set(e, ERR_LIMIT, 0, "the address of sandbox %s is too long: '%.100s'",
			       s->id, p.base);
	return 0;
}
