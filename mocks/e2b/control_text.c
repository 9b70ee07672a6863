/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/control_text.h"

#define CLIENT_ID "6532622b"	/* of all sandboxes; deprecated */

static void write_ids(const struct sandbox *s, struct jw *w)
{
	jw_kstr(w, "templateID", s->template_id);
	if (s->alias)
		jw_kstr(w, "alias", s->alias);
	jw_kstr(w, "sandboxID", s->id);
	jw_kstr(w, "clientID", CLIENT_ID);
	jw_kstr(w, "envdVersion", s->cloud->o->envd_version);
}

int print_sandbox(const struct sandbox *s, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	write_ids(s, &w);
	if (s->token[0])
		jw_kstr(&w, "envdAccessToken", s->token);
	jw_kstr(&w, "trafficAccessToken", s->traffic_token[0] ? s->traffic_token : NULL);
	jw_kstr(&w, "domain", NULL);
	jw_end(&w);
	return jw_done(&w, e);
}

const char *listed_state(const struct sandbox *s)
{
	return s->state == SANDBOX_PAUSED || s->state == SANDBOX_RESUMING ? "paused" : "running";
}

static void write_time(struct jw *w, const char *key, uint64_t us)
{
	char text[28];

	jw_kstr(w, key, time_rfc3339(us, text));
}

static void write_member(struct jw *w, const char *key, const json *v)
{
	if (v && json_type(v) != JSON_NULL)
		jw_kjson(w, key, v);
}

/* A later PUT replaces all of it, but for what it cannot name. */
static void write_network(const struct sandbox *s, struct jw *w)
{
	static const char *const egress[] = { "allowOut", "denyOut", "egressProxy", "rules" };
	const json *first = json_get(s->request, "network");
	const json *now = s->network ? s->network : first;

	if (!now)
		return;
	jw_kobj(w, "network");
	for (size_t i = 0; i < sizeof(egress) / sizeof(egress[0]); i++)
		write_member(w, egress[i], json_get(now, egress[i]));
	write_member(w, "allowPublicTraffic", json_get(first, "allowPublicTraffic"));
	write_member(w, "maskRequestHost", json_get(first, "maskRequestHost"));
	write_member(w, "httpsPorts", json_get(first, "httpsPorts"));
	jw_end(w);
}

static void write_detail(const struct sandbox *s, struct jw *w)
{
	const json *request = s->network ? s->network : s->request;

	if (s->token[0])
		jw_kstr(w, "envdAccessToken", s->token);
	jw_kstr(w, "domain", NULL);
	write_member(w, "allowInternetAccess", json_get(request, "allow_internet_access"));
	write_network(s, w);
	jw_kobj(w, "lifecycle");
	jw_kbool(w, "autoResume", s->auto_resume);
	jw_kstr(w, "onTimeout", s->auto_pause ? "pause" : "kill");
	jw_end(w);
}

void write_listed(const struct sandbox *s, bool detail, struct jw *w)
{
	const json *metadata = json_get(s->request, "metadata");

	jw_obj(w);
	write_ids(s, w);
	write_time(w, "startedAt", s->started_us);
	write_time(w, "endAt", s->end_us);
	jw_kint(w, "cpuCount", s->cpu);
	jw_kint(w, "memoryMB", s->memory_mb);
	jw_kint(w, "diskSizeMB", DISK_MB);
	write_member(w, "metadata", metadata);
	jw_kstr(w, "state", listed_state(s));
	if (detail)
		write_detail(s, w);
	jw_end(w);
}
