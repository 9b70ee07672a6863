/* SPDX-License-Identifier: Apache-2.0
 *
 * The control API's routes that begin, change or end a sandbox. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "mocks/e2b/call.h"
#include "mocks/e2b/control_text.h"
#include "mocks/e2b/template.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum {
	TIMEOUT_V1_S = 15,
	TIMEOUT_V2_S = 300,
	REFRESH_MIN_S = 15,
	REFRESH_MAX_S = 3600,
};

static struct call *of_wait(struct sandbox_wait *w)
{
	return (struct call *)((char *)w - offsetof(struct call, wait));
}

static void reply_sandbox(struct call *c, int status, const struct sandbox *s)
{
	struct buf body CLEANUP(buf_release);
	struct err e = ERR_INIT;

	buf_init(&body, CALL_REPLY_MAX);
	if (print_sandbox(s, &body, &e) < 0)
		call_fail(c, &e);
	else
		call_reply(c, status, &body);
}

/* Zero is in the schema, but not in the handler; and the plan has an end. */
static bool check_timeout(struct call *c, int64_t timeout_s)
{
	if (timeout_s <= 0)
		call_error(c, 400, NULL, "Timeout must be greater than 0");
	else if (timeout_s > TIMEOUT_MAX_S)
		call_error(c, 400, NULL, "Timeout cannot be greater than %d hours",
			   TIMEOUT_MAX_S / 3600);
	else
		return true;
	return false;
}

/* --- create: faults --- */

static struct fault *find_create_fault(struct call *c)
{
	for (int k = FAULT_CREATE_QUOTA; k <= FAULT_CREATE_CUT; k++) {
		struct fault *f = faults_find(&c->cloud->faults, (enum fault_kind)k);

		if (f)
			return f;
	}
	return NULL;
}

/* True: that was the answer. */
static bool fault_answers(struct call *c, const struct fault *f)
{
	switch (f->kind) {
	case FAULT_CREATE_QUOTA:
		call_error(c, 429, NULL,
			   "you have reached the maximum number of concurrent E2B sandboxes (%u). "
			   "If you need more, please visit 'https://e2b.dev/docs/billing'",
			   c->cloud->o->max_sandboxes);
		return true;
	case FAULT_CREATE_RATE:
		call_header(c, "Retry-After", "1");
		call_header(c, "RateLimit-Limit", "1");
		call_header(c, "RateLimit-Remaining", "0");
		call_header(c, "RateLimit-Reset", "1");
		call_error(c, 429, NULL, "Rate limit exceeded");
		return true;
	case FAULT_CREATE_BALANCER:
		call_balancer(c, 429, "Too Many Requests");
		return true;
	case FAULT_CREATE_500:
		call_error(c, 500, "sandbox_create_failed", "Failed to create sandbox");
		return true;
	case FAULT_CREATE_503:
		call_error(c, 503, "sandbox_capacity_unavailable",
			   "Failed to place sandbox: not enough capacity for the requested "
			   "resources right now, please retry shortly");
		return true;
	case FAULT_CREATE_504:
		call_error(c, 504, "sandbox_placement_timeout",
			   "Failed to place sandbox: placement timed out after 3 attempt(s), "
			   "please retry");
		return true;
	case FAULT_CREATE_HANG:
		return true;	/* there is none */
	default:
		return false;
	}
}

/* --- create --- */

static void answer_created(struct call *c, const struct sandbox *s)
{
	if (!c->fault)
		reply_sandbox(c, 201, s);
	else if (c->fault->kind == FAULT_CREATE_AMBIGUOUS)
		call_error(c, 500, "internal_server_error", "Failed to create sandbox");
	else if (c->x.h)
		http_abort(c->x.h);
	call_done(c);
}

static void on_delay(struct loop_timer *t)
{
	struct call *c = (struct call *)((char *)t - offsetof(struct call, delay));
	const struct sandbox *s = sandbox_find(c->cloud, c->x.sandbox);

	if (s) {
		answer_created(c, s);
		return;
	}
	call_error(c, 500, "sandbox_create_failed", "Sandbox \"%s\" is being killed", c->x.sandbox);
	call_done(c);
}

/* At least --create-delay after the call began. */
static bool must_wait(struct call *c, uint64_t *ret_ms)
{
	uint64_t passed_ms = (now_ns() - c->begun_ns) / 1000000;

	*ret_ms = c->cloud->o->create_delay_ms - passed_ms;
	return c->cloud->o->create_delay_ms > passed_ms;
}

static void on_created(struct sandbox_wait *w, struct sandbox *s, const struct err *why)
{
	struct call *c = of_wait(w);
	struct err e = ERR_INIT;
	uint64_t ms;

	if (why && why->code == ERR_LOST) {
		call_error(c, 409, NULL, "%s", why->msg);
		call_done(c);
		return;
	}
	if (why) {
		call_error(c, 500, "sandbox_create_failed", "Failed to create sandbox: %s",
			   why->msg);
		call_done(c);
		return;
	}
	if (!must_wait(c, &ms) ||
	    loop_timer_start(c->cloud->loop, &c->delay, ms, on_delay, &e) < 0)
		answer_created(c, s);
}

/* envd has access tokens from 0.2.0 on. */
static bool check_secure(struct call *c, const struct sandbox_spec *spec)
{
	unsigned major, minor;

	if (!spec->secure || sscanf(c->cloud->o->envd_version, "%u.%u", &major, &minor) != 2 ||
	    major > 0 || minor >= 2)
		return true;
	call_error(c, 400, NULL,
		   "Template is not compatible with secured access. Please rebuild your template "
		   "to use this feature.");
	return false;
}

static bool check_network(struct call *c, const struct sandbox_spec *spec)
{
	const json *network = json_get(c->doc, "network");
	const json *public = json_get(network, "allowPublicTraffic");

	if (public && json_type(public) != JSON_BOOL) {
		call_invalid(c, "network/allowPublicTraffic", "value must be a boolean");
		return false;
	}
	if (spec->private_traffic && !spec->secure) {
		call_error(c, 400, NULL,
			   "You cannot create a sandbox without public access unless you enable "
			   "secure envd access via 'secure' flag.");
		return false;
	}
	return true;
}

static bool read_auto_resume(struct call *c, struct sandbox_spec *spec)
{
	const json *resume = NULL, *enabled;

	if (!call_object(c, "autoResume", &resume))
		return false;
	enabled = json_get(resume, "enabled");
	if (enabled && json_type(enabled) != JSON_BOOL) {
		call_invalid(c, "autoResume/enabled", "value must be a boolean");
		return false;
	}
	spec->auto_resume = json_is_true(enabled);
	if (spec->auto_resume && !spec->auto_pause_memory) {
		call_error(c, 400, NULL,
			   "autoResume cannot be enabled when autoPauseMemory is false");
		return false;
	}
	return true;
}

/* False: answered. */
static bool read_spec(struct call *c, bool v2, struct sandbox_spec *spec, const char **template_id,
		      int64_t *timeout_s)
{
	const json *ignored = NULL;
	bool internet = true;

	*spec = (struct sandbox_spec){ .secure = v2, .auto_pause_memory = true };
	*timeout_s = v2 ? TIMEOUT_V2_S : TIMEOUT_V1_S;
	if (!call_str(c, "templateID", NEEDED, template_id) ||
	    !call_int(c, "timeout", 0, INT32_MAX, 0, timeout_s) ||
	    !call_str_map(c, "metadata", &ignored) || !call_str_map(c, "envVars", &ignored) ||
	    (!v2 && !call_bool(c, "secure", &spec->secure)) ||
	    !call_bool(c, "allow_internet_access", &internet) ||
	    !call_object(c, "network", &ignored) || !call_object(c, "mcp", &ignored) ||
	    !call_bool(c, "autoPause", &spec->auto_pause) ||
	    !call_bool(c, "autoPauseMemory", &spec->auto_pause_memory) ||
	    !read_auto_resume(c, spec))
		return false;
	ignored = json_get(json_get(c->doc, "network"), "allowPublicTraffic");
	spec->private_traffic = ignored && !json_is_true(ignored);
	return check_network(c, spec) && check_secure(c, spec) && check_timeout(c, *timeout_s);
}

/* What this cloud has not: then the request must not seem to be granted. */
static bool check_unbuilt(struct call *c)
{
	static const char *const keys[] = { "volumeMounts", "iam" };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const json *v = json_get(c->doc, keys[i]);

		if (v && json_count(v) > 0) {
			call_error(c, 400, NULL, "%s: this team has no such feature", keys[i]);
			return false;
		}
	}
	return true;
}

static void create(struct call *c, bool v2)
{
	struct fault *f = find_create_fault(c);
	const char *template_id = NULL;
	struct sandbox_spec spec;
	const struct template *t;
	struct err e = ERR_INIT;
	struct sandbox *s;
	int64_t timeout_s;

	c->begun_ns = now_ns();
	if (f) {
		call_act(c, f);
		if (fault_answers(c, f))
			return;
		c->fault = f;
	}
	if (!read_spec(c, v2, &spec, &template_id, &timeout_s) || !check_unbuilt(c))
		return;
	t = template_find(c->cloud, template_id, &e);
	if (t && !t->built)
		err_set(&e, ERR_NOT_FOUND, 0, "template '%s' not found", t->id);
	if (!t || !t->built) {
		call_error(c, e.code == ERR_NOT_FOUND ? 404 : 400, NULL, "%s", e.msg);
		return;
	}
	spec.template_id = t->id;
	spec.alias = t->name;
	spec.cpu = t->cpu;
	spec.memory_mb = t->memory_mb;
	spec.timeout_s = (uint64_t)timeout_s;
	spec.request = take_ptr(c->doc);
	c->waits = true;
	c->wait.on_done = on_created;
	if (sandbox_create(c->cloud, &spec, &c->wait, &s, &e) < 0) {
		call_fail(c, &e);
		call_done(c);
		return;
	}
	snprintf(c->x.sandbox, sizeof(c->x.sandbox), "%s", s->id);
}

static void post_v1(struct call *c)
{
	create(c, false);
}

static void post_v2(struct call *c)
{
	create(c, true);
}

/* --- pause, resume, connect --- */

static void conflict(struct call *c, const struct sandbox *s)
{
	call_error(c, 409, s->state == SANDBOX_STARTING ? "sandbox_start_in_flight" : NULL,
		   "Sandbox \"%s\" is being %s", s->id,
		   s->state == SANDBOX_PAUSING	? "paused"
		   : s->state == SANDBOX_GONE	? "killed"
						: "started");
}

static void on_paused(struct sandbox_wait *w, struct sandbox *s __attribute__((unused)),
		      const struct err *why)
{
	struct call *c = of_wait(w);

	if (why)
		call_error(c, 409, NULL, "%s", why->msg);
	else
		call_reply_empty(c, 204);
	call_done(c);
}

static void post_pause(struct call *c)
{
	struct sandbox *s = call_sandbox(c);
	bool memory = true;
	struct err e = ERR_INIT;

	if (!s || !call_bool(c, "memory", &memory))
		return;
	if (s->state == SANDBOX_PAUSED) {
		call_error(c, 409, NULL, "Error pausing sandbox: sandbox '%s' is already paused",
			   s->id);
		return;
	}
	if (s->state != SANDBOX_RUNNING) {
		conflict(c, s);
		return;
	}
	c->waits = true;
	c->wait.on_done = on_paused;
	if (sandbox_pause(s, memory, &c->wait, &e) < 0) {
		call_fail(c, &e);
		call_done(c);
	}
}

static void resume(struct call *c, struct sandbox *s, uint64_t timeout_s)
{
	bool memory = true;
	struct err e = ERR_INIT;

	if (!call_bool(c, "memory", &memory) || !call_bool(c, "autoPause", &s->auto_pause))
		return;
	c->begun_ns = now_ns();
	c->waits = true;
	c->wait.on_done = on_created;	/* 201 too */
	if (sandbox_resume(s, timeout_s, memory, &c->wait, &e) < 0) {
		call_fail(c, &e);
		call_done(c);
	}
}

static void post_resume(struct call *c)
{
	struct sandbox *s = call_sandbox(c);
	int64_t timeout_s = TIMEOUT_V1_S;

	if (!s || !call_int(c, "timeout", 0, INT32_MAX, 0, &timeout_s) ||
	    !check_timeout(c, timeout_s))
		return;
	if (s->state == SANDBOX_PAUSED)
		resume(c, s, (uint64_t)timeout_s);
	else if (s->state == SANDBOX_RUNNING)
		call_error(c, 409, NULL, "Sandbox \"%s\" is already running", s->id);
	else
		conflict(c, s);
}

static void connect_to(struct call *c, struct sandbox *s);

/* What was under way is over: look again. */
static void on_settled(struct sandbox_wait *w, struct sandbox *s, const struct err *why)
{
	struct call *c = of_wait(w);

	c->waits = false;
	if (!c->x.h) {
		call_done(c);
		return;
	}
	if (why)
		call_not_found(c, s->id);
	else
		connect_to(c, s);
}

static void connect_to(struct call *c, struct sandbox *s)
{
	int64_t timeout_s = TIMEOUT_V2_S;
	unsigned needed = strncmp(c->route->path, "/v2/", 4) == 0 ? 0 : NEEDED;

	if (!call_int(c, "timeout", 0, INT32_MAX, needed, &timeout_s) ||
	    !check_timeout(c, timeout_s))
		return;
	switch (s->state) {
	case SANDBOX_RUNNING:
		sandbox_set_timeout(s, (uint64_t)timeout_s, true);
		reply_sandbox(c, 200, s);
		break;
	case SANDBOX_PAUSED:
		resume(c, s, (uint64_t)timeout_s);
		break;
	default:
		c->waits = true;
		c->wait.on_done = on_settled;
		sandbox_join(s, &c->wait);
	}
}

static void post_connect(struct call *c)
{
	struct sandbox *s = call_sandbox(c);

	if (s)
		connect_to(c, s);
}

/* --- lifetime --- */

/* Only what runs has one. */
static struct sandbox *running_sandbox(struct call *c)
{
	struct sandbox *s = call_sandbox(c);

	if (!s || s->state == SANDBOX_RUNNING)
		return s;
	if (s->state == SANDBOX_PAUSED)
		call_not_found(c, s->id);
	else
		conflict(c, s);
	return NULL;
}

static void post_timeout(struct call *c)
{
	struct sandbox *s = running_sandbox(c);
	int64_t timeout_s;

	if (!s || !call_int(c, "timeout", 0, INT32_MAX, NEEDED, &timeout_s))
		return;
	if (timeout_s == 0)
		sandbox_kill(s);
	else
		sandbox_set_timeout(s, (uint64_t)timeout_s, false);
	call_reply_empty(c, 204);
}

static void post_refreshes(struct call *c)
{
	struct sandbox *s = running_sandbox(c);
	int64_t duration_s = REFRESH_MIN_S;

	if (!s || !call_int(c, "duration", 0, REFRESH_MAX_S, 0, &duration_s))
		return;
	if (duration_s < REFRESH_MIN_S)
		duration_s = REFRESH_MIN_S;
	sandbox_set_timeout(s, (uint64_t)duration_s, true);
	call_reply_empty(c, 204);
}

static void delete_sandbox(struct call *c)
{
	struct sandbox *s = call_sandbox(c);

	if (!s)
		return;
	sandbox_kill(s);
	call_reply_empty(c, 204);
}

/* --- network --- */

static void put_network(struct call *c)
{
	struct sandbox *s = running_sandbox(c);
	const json *ignored = NULL;
	bool internet = true;

	if (!s || !call_str_array(c, "allowOut", &ignored) ||
	    !call_str_array(c, "denyOut", &ignored) || !call_object(c, "egressProxy", &ignored) ||
	    !call_object(c, "rules", &ignored) || !call_bool(c, "allow_internet_access", &internet))
		return;
	json_free(s->network);
	s->network = take_ptr(c->doc);
	call_reply_empty(c, 204);
}

const struct route sandbox_routes[] = {
	{ "POST", "/sandboxes", post_v1, ROUTE_BODY, 0 },
	{ "POST", "/v2/sandboxes", post_v2, ROUTE_BODY, 0 },
	{ "DELETE", "/sandboxes/{}", delete_sandbox, 0, FAULT_DELETE_503 },
	{ "POST", "/sandboxes/{}/timeout", post_timeout, ROUTE_BODY, FAULT_TIMEOUT_503 },
	{ "POST", "/sandboxes/{}/refreshes", post_refreshes, 0, 0 },
	{ "POST", "/sandboxes/{}/pause", post_pause, 0, 0 },
	{ "POST", "/sandboxes/{}/resume", post_resume, 0, 0 },
	{ "POST", "/sandboxes/{}/connect", post_connect, ROUTE_BODY, 0 },
	{ "POST", "/v2/sandboxes/{}/connect", post_connect, 0, 0 },
	{ "PUT", "/sandboxes/{}/network", put_network, ROUTE_BODY, 0 },
	{ 0 },
};
