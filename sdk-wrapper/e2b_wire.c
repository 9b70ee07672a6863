/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_wire.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "sdk-wrapper/http_text.h"

/* Without `network` it stays closed, so that a server which does not know it opens nothing.  It
 * wants both lists: what is allowed goes before what is denied. */
static void put_hosts(struct jw *w, const char *const *hosts)
{
	jw_karr(w, "allowOut");
	for (; hosts && *hosts; hosts++)
		jw_str(w, *hosts);
	jw_end(w);
	jw_karr(w, "denyOut");
	jw_str(w, "0.0.0.0/0");
	jw_end(w);
}

int e2b_network_body(bool internet, const char *const *hosts, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kbool(&w, "allow_internet_access", internet);
	if (!internet)
		put_hosts(&w, hosts);
	jw_end(&w);
	return jw_done(&w, e);
}

int e2b_create_body(const struct e2b_create *c, enum e2b_version v, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "templateID", c->template_name);
	jw_kint(&w, "timeout", c->timeout_s);
	if (v == E2B_V1)
		jw_kbool(&w, "secure", true);	/* v2 has nothing else */
	jw_kbool(&w, "allow_internet_access", c->internet);
	if (!c->internet && c->hosts && *c->hosts) {
		jw_kobj(&w, "network");
		put_hosts(&w, c->hosts);
		jw_end(&w);
	}
	jw_kobj(&w, "metadata");
	for (e2b_metadata m = c->metadata; m && *m; m += 2)
		jw_kstr(&w, m[0], m[1]);
	jw_kstr(&w, E2B_UNIQUE, c->unique);
	jw_end(&w);
	jw_end(&w);
	return jw_done(&w, e);
}

/* k=v&k2=v2 with names and values encoded once, then that encoded as a whole, then as a value
 * of the query. */
static int put_filter(struct buf *out, e2b_metadata filter, struct err *e)
{
	struct buf once CLEANUP(buf_release), twice CLEANUP(buf_release);

	buf_init(&once, LIMIT_DATA);
	buf_init(&twice, LIMIT_DATA);
	for (e2b_metadata m = filter; *m; m += 2) {
		if (!*m[0] || !*m[1])
			return err_set(e, ERR_INVALID_PARAMS, 0,
				       "metadata '%.60s': a filter needs a name and a value", m[0]);
		if ((m != filter && buf_putc(&once, '&', e) < 0) ||
		    http_escape(&once, m[0], false, e) < 0 || buf_putc(&once, '=', e) < 0 ||
		    http_escape(&once, m[1], false, e) < 0)
			return -1;
	}
	/* The whole is a query string again: its '=' and '&' stay as they are there, but
	 * what stands between them is encoded once more. */
	for (const char *p = buf_cstr(&once, e); p && *p; p++) {
		int r = *p == '%' ? buf_puts(&twice, "%25", e) : buf_putc(&twice, (uint8_t)*p, e);

		if (r < 0)
			return -1;
	}
	if (buf_puts(out, "metadata=", e) < 0 || !buf_cstr(&twice, e))
		return -1;
	return http_escape(out, buf_cstr(&twice, e), false, e);
}

int e2b_list_path(e2b_metadata filter, bool paused_too, unsigned limit, struct buf *out,
		  struct err *e)
{
	if (buf_puts(out, "/v2/sandboxes?", e) < 0)
		return -1;
	if (filter && *filter &&
	    (put_filter(out, filter, e) < 0 || buf_putc(out, '&', e) < 0))
		return -1;
	return buf_printf(out, e, "state=running%s&limit=%u", paused_too ? ",paused" : "", limit);
}

int e2b_next_page(const char *first, const char *token, struct buf *out, struct err *e)
{
	if (buf_printf(out, e, "%s&nextToken=", first) < 0)
		return -1;
	return http_escape(out, token, false, e);
}

static int copy_text(const json *v, const char *key, bool required, char *ret, size_t size,
		     struct err *e)
{
	const char *text = NULL;

	if (required && json_req_str(v, "sandbox", key, &text, e) < 0)
		return -1;
	if (!required && json_opt_str(v, "sandbox", key, &text, e) < 0)
		return -1;
	if (!text)
		return 0;
	if (strlen(text) >= size)
		return err_set(e, ERR_PROTO, 0, "sandbox.%s: longer than %zu bytes", key, size - 1);
	for (const char *p = text; *p; p++)	/* it goes into URLs and headers */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(e, ERR_PROTO, 0, "sandbox.%s: has control characters", key);
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

static bool is_id(const char *id)
{
	for (const char *p = id; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
			return false;
	return *id != 0;
}

int e2b_sandbox_read(const json *v, struct e2b_sandbox *ret, struct err *e)
{
	struct e2b_sandbox s = { .state = E2B_RUNNING };
	int64_t cpus = 0, memory = 0;
	const char *state = NULL;

	if (json_type(v) != JSON_OBJECT)
		return err_set(e, ERR_PROTO, 0, "sandbox: want an object");
	if (copy_text(v, "sandboxID", true, s.id, sizeof(s.id), e) < 0 ||
	    copy_text(v, "templateID", false, s.template_id, sizeof(s.template_id), e) < 0 ||
	    copy_text(v, "envdVersion", false, s.envd_version, sizeof(s.envd_version), e) < 0 ||
	    copy_text(v, "envdAccessToken", false, s.access_token, sizeof(s.access_token), e) < 0 ||
	    copy_text(v, "trafficAccessToken", false, s.traffic_token, sizeof(s.traffic_token),
		      e) < 0 ||
	    copy_text(v, "domain", false, s.domain, sizeof(s.domain), e) < 0 ||
	    copy_text(v, "startedAt", false, s.started_at, sizeof(s.started_at), e) < 0 ||
	    copy_text(v, "endAt", false, s.end_at, sizeof(s.end_at), e) < 0 ||
	    json_opt_str(v, "sandbox", "state", &state, e) < 0 ||
	    json_opt_int(v, "sandbox", "cpuCount", 0, 100000, &cpus, e) < 0 ||
	    json_opt_int(v, "sandbox", "memoryMB", 0, INT32_MAX, &memory, e) < 0)
		return -1;
	if (!is_id(s.id))
		return err_set(e, ERR_PROTO, 0, "sandbox.sandboxID: '%.60s' is no id", s.id);
	if (state && strcmp(state, "paused") == 0)
		s.state = E2B_PAUSED;
	s.cpus = (uint32_t)cpus;
	s.memory_mb = (uint32_t)memory;
	*ret = s;
	return 0;
}

bool e2b_metadata_get(const json *listed, const char *name, char *ret, size_t size)
{
	const char *value = json_string(json_get(json_get(listed, "metadata"), name));

	if (!value || strlen(value) >= size)
		return false;
	memcpy(ret, value, strlen(value) + 1);
	return true;
}

uint64_t e2b_version(const char *text)
{
	uint64_t v = 0;
	const char *p = text;

	for (int i = 0; i < 3; i++) {
		char *end = NULL;
		unsigned long n = isdigit((unsigned char)*p) ? strtoul(p, &end, 10) : 0;

		if (!end)
			return i == 0 ? 0 : v << (20 * (3 - i));
		v = v << 20 | (n > 0xfffff ? 0xfffff : n);
		p = *end == '.' ? end + 1 : end;
		if (p == end && i < 2)	/* "0.5", "0.5-rc1" */
			return v << (20 * (2 - i));
	}
	return v;
}

bool envd_can(const char *version, enum envd_feature f)
{
	static const char *const since[] = {
		[ENVD_SECURE] = "0.2.0",       [ENVD_STDIN_CHOICE] = "0.3.0",
		[ENVD_TEMPLATE_USER] = "0.4.0", [ENVD_CLOSE_STDIN] = "0.5.2",
		[ENVD_COMPOSE] = "0.5.5",      [ENVD_OCTET_STREAM] = "0.5.7",
		[ENVD_DISCARDS] = "0.5.19",    [ENVD_EXIT_KEPT] = "0.6.12",
	};

	return e2b_version(version) >= e2b_version(since[f]);
}
