/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/target.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool sandbox_id_parse(const char *text, char ret[SANDBOX_ID_MAX])
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");
	size_t behind = text[n] == '-'
				? 1 + strspn(text + n + 1, "abcdefghijklmnopqrstuvwxyz0123456789")
				: 0;

	if (n == 0 || n >= SANDBOX_ID_MAX || text[n + behind])
		return false;
	memcpy(ret, text, n);
	ret[n] = 0;
	return true;
}

/* Decimal, 1 to 65535, nothing behind. */
static unsigned parse_port(const char *text)
{
	unsigned v = 0;

	if (!*text || strlen(text) > 5)
		return 0;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return 0;
		v = v * 10 + (unsigned)(*text - '0');
	}
	return v <= 65535 ? v : 0;
}

static struct target make(const char *id, const char *port)
{
	struct target t = { .kind = TARGET_SANDBOX };

	if (!sandbox_id_parse(id, t.id))
		t.kind = TARGET_BAD_ID;
	else if (!(t.port = parse_port(port)))
		t.kind = TARGET_BAD_PORT;
	return t;
}

/* Without the port; in lower case. */
static void copy_host(const char *host, char *ret, size_t size)
{
	size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

	snprintf(ret, size, "%.*s", (int)(n < size ? n : size - 1), host);
	for (char *p = ret; *p; p++)
		*p = (char)tolower((unsigned char)*p);
}

static bool is_shared(const char *host)
{
	return !*host || *host == '[' || strcmp(host, "localhost") == 0 ||
	       strncmp(host, "sandbox.", 8) == 0 || strspn(host, "0123456789.") == strlen(host);
}

/* "<port>-<id>": an id is 21 characters or so, and a port is no word; "my-api.example" is not
 * a sandbox of port "my". */
static struct target by_label(const char *host)
{
	struct target control = { .kind = TARGET_CONTROL };
	char label[128];
	char *dash;

	snprintf(label, sizeof(label), "%.*s", (int)strcspn(host, "."), host);
	dash = strchr(label, '-');
	if (!dash || dash == label)
		return control;
	*dash = 0;
	if (!isdigit((unsigned char)label[0]) && strlen(dash + 1) < 16)
		return control;
	return make(dash + 1, label);
}

struct target target_find(const char *host, const char *id, const char *port)
{
	struct target t = { .kind = TARGET_CONTROL };
	char name[256];

	copy_host(host ? host : "", name, sizeof(name));
	if (!is_shared(name))
		return by_label(name);
	if (!id && !port)
		return t;
	if (id && port)
		return make(id, port);
	t.kind = TARGET_NO_HEADER;
	return t;
}
