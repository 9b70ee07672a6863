/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/e2b_env.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/cleanup.h"

#define DEFAULT_DOMAIN "e2b.app"
#define DEBUG_API "http://localhost:3000"

/* Their edge serves envd of all sandboxes on one host: one connection for all of them. */
static const char *const shared_domains[] = { "e2b.app", "e2b.dev", "e2b.pro", "e2b-staging.dev" };

static int copy(const char *name, const char *value, char *ret, size_t size, struct err *e)
{
	if (strlen(value) >= size)
		return err_set(e, ERR_USAGE, 0, "%s: longer than %zu bytes", name, size - 1);
	for (const char *p = value; *p; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
			return err_set(e, ERR_USAGE, 0, "%s: has a blank or worse in it", name);
	memcpy(ret, value, strlen(value) + 1);
	return 0;
}

static int copy_url(const char *name, const char *value, char ret[E2B_URL_MAX], struct err *e)
{
	size_t n;

	if (copy(name, value, ret, E2B_URL_MAX, e) < 0)
		return -1;
	if (strncmp(ret, "http://", 7) != 0 && strncmp(ret, "https://", 8) != 0)
		return err_set(e, ERR_USAGE, 0, "%s: '%s': want http://... or https://...", name,
			       ret);
	for (n = strlen(ret); n && ret[n - 1] == '/'; n--)
		ret[n - 1] = 0;
	return 0;
}

/* As the official client checks it. */
static bool is_key(const char *key)
{
	if (strncmp(key, "e2b_", 4) != 0 || !key[4])
		return false;
	for (key += 4; *key; key++)
		if (!isdigit((unsigned char)*key) && (*key < 'a' || *key > 'f'))
			return false;
	return true;
}

static int read_key(const char *(*get)(const char *name), struct e2b_env *env, struct err *e)
{
	const char *key = get("E2B_API_KEY"), *check = get("E2B_VALIDATE_API_KEY");

	if (!key || !*key)
		return env->debug ? 0
				  : err_set(e, ERR_DENIED, 0,
					    "E2B_API_KEY is not set: the target e2b needs the "
					    "key of an E2B account");
	if (copy("E2B_API_KEY", key, env->api_key, sizeof(env->api_key), e) < 0) {
		if (e)
			e->code = ERR_DENIED;
		return -1;
	}
	if (!is_key(key) && !(check && strcasecmp(check, "false") == 0))
		return err_set(e, ERR_DENIED, 0,
			       "E2B_API_KEY does not look like a key (e2b_ and hex digits); "
			       "E2B_VALIDATE_API_KEY=false turns this check off");
	return 0;
}

int e2b_env_read(const char *(*get)(const char *name), struct e2b_env *ret, struct err *e)
{
	const char *domain = get("E2B_DOMAIN"), *api = get("E2B_API_URL");
	const char *sandbox = get("E2B_SANDBOX_URL"), *debug = get("E2B_DEBUG");
	struct e2b_env env = { .debug = debug && strcasecmp(debug, "true") == 0 };
	char made[E2B_URL_MAX];

	if (read_key(get, &env, e) < 0 ||
	    copy("E2B_DOMAIN", domain && *domain ? domain : DEFAULT_DOMAIN, env.domain,
		 sizeof(env.domain), e) < 0)
		return -1;
	snprintf(made, sizeof(made), "https://api.%s", env.domain);
	if (!api || !*api)
		api = env.debug ? DEBUG_API : made;
	if (copy_url("E2B_API_URL", api, env.api_url, e) < 0)
		return -1;
	if (sandbox && *sandbox && copy_url("E2B_SANDBOX_URL", sandbox, env.sandbox_url, e) < 0)
		return -1;
	*ret = env;
	return 0;
}

static bool is_shared_domain(const char *domain)
{
	for (size_t i = 0; i < ARRAY_LEN(shared_domains); i++)
		if (strcmp(domain, shared_domains[i]) == 0)
			return true;
	return false;
}

int e2b_place(const struct e2b_env *env, const char *domain, const char *sandbox, int port,
	      struct e2b_place *ret, struct err *e)
{
	int n;

	*ret = (struct e2b_place){ .shared = false };
	if (!*domain)
		domain = env->domain;
	if (env->sandbox_url[0]) {
		ret->shared = true;
		n = snprintf(ret->base, sizeof(ret->base), "%s", env->sandbox_url);
	} else if (env->debug) {
		n = snprintf(ret->base, sizeof(ret->base), "http://localhost:%d", port);
	} else if (port == E2B_ENVD_PORT && is_shared_domain(domain)) {
		ret->shared = true;
		n = snprintf(ret->base, sizeof(ret->base), "https://sandbox.%s", domain);
	} else {
		n = snprintf(ret->base, sizeof(ret->base), "https://%d-%s.%s", port, sandbox,
			     domain);
	}
	if (n < 0 || (size_t)n >= sizeof(ret->base))
		return err_set(e, ERR_LIMIT, 0, "the address of sandbox %.64s is too long",
			       sandbox);
	return 0;
}
