/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/duration.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/cleanup.h"

#define LONGEST_S (INT64_C(3653) * 86400)

static const struct {
	char unit;
	int64_t seconds;
} units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };

int duration_parse(const char *what, const char *text, int64_t *ret_s, struct err *e)
{
	size_t digits = strspn(text, "0123456789");
	int64_t n = 0, each = text[digits] ? 0 : 1;

	for (size_t i = 0; i < digits && n <= LONGEST_S; i++)
		n = n * 10 + (text[i] - '0');
	for (size_t i = 0; i < ARRAY_LEN(units) && text[digits] && !text[digits + 1]; i++)
		if (units[i].unit == text[digits])
			each = units[i].seconds;
	if (!digits || !each || n > LONGEST_S / each)
		return err_set(e, ERR_USAGE, 0,
		               "%s '%.40s': want seconds, or a number with s, m, h or d", what,
		               text);
	*ret_s = n * each;
	return 0;
}

void duration_text(uint64_t s, char ret[24])
{
	size_t i = 0;

	while (i < ARRAY_LEN(units) - 1 && s < (uint64_t)units[i].seconds)
		i++;
	snprintf(ret, 24, "%llu%c", (unsigned long long)(s / (uint64_t)units[i].seconds),
	         units[i].unit);
}
