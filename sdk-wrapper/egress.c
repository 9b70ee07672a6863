/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/egress.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LEN = 253, LABEL_MAX = 63 };

static const char *wrong_name(const char *name)
{
	size_t label = 0;
	bool only_digits = true;

	if (strncmp(name, "*.", 2) == 0)
		name += 2;
	if (strlen(name) > NAME_MAX_LEN)
		return "the name is too long";
	for (const char *p = name; *p; p++) {
		if (*p == '.') {
			if (!label)
				return "a part of the name is empty";
			label = 0;
			continue;
		}
		if (*p == '*')
			return "a '*' stands only in front, for all names below: *.example.org";
		if (*p == ':')
			return "ports and IPv6 addresses cannot be told apart there";
		if (*p == '/')
			return "want a host, not a URL";
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
			return "no host has such a name";
		if (++label > LABEL_MAX)
			return "a part of the name is longer than 63 characters";
		only_digits = only_digits && isdigit((unsigned char)*p);
	}
	if (!label)
		return "a part of the name is empty";
	return only_digits ? "that is no IPv4 address" : NULL;
}

static const char *wrong_prefix(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || n > 32 || strlen(text) > 2)
		return "the bits behind the slash are a number from 0 to 32";
	return NULL;
}

/* NULL: nothing is. */
static const char *wrong(char *entry)
{
	char *slash = strchr(entry, '/');
	struct in_addr ignored;
	bool is_address;

	if (!*entry)
		return "it is empty";
	if (slash)
		*slash = 0;
	is_address = inet_pton(AF_INET, entry, &ignored) == 1;
	if (slash)
		*slash = '/';
	if (!is_address)
		return wrong_name(entry);
	return slash ? wrong_prefix(slash + 1) : NULL;
}

char **egress_parse(const char *text, struct err *e)
{
	size_t n = 1, len = strlen(text), k = 0;
	char **list, *copy, *next;

	for (const char *p = text; *p; p++)
		n += *p == ',';
	if (n > EGRESS_MAX) {
		err_set(e, ERR_USAGE, 0, "--network: over %d hosts", EGRESS_MAX);
		return NULL;
	}
	list = malloc((n + 1) * sizeof(*list) + len + 1);
	if (!list) {
		err_set(e, ERR_NO_MEMORY, 0, "hosts");
		return NULL;
	}
	copy = memcpy(list + n + 1, text, len + 1);
	for (char *entry = copy; entry; entry = next) {
		const char *what;

		next = strchr(entry, ',');
		if (next)
			*next++ = 0;
		what = wrong(entry);
		if (what) {
			err_set(e, ERR_USAGE, 0,
				"--network '%.80s': %s; want off, on, or hosts (api.example.org, "
				"*.example.org, 192.0.2.7, 10.0.0.0/8) with commas between",
				entry, what);
			free(list);
			return NULL;
		}
		list[k++] = entry;
	}
	list[k] = NULL;
	return list;
}
