/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/step_body.h"

#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"

/* In this order, whatever the order in the request. */
static const char *const members[] = { "step", "attempt", "driver",     "config",   "inputs",
	                               "env",  "collect", "timeout_ms", "grace_ms", "linger_ms",
	                               "backtrace" };

int step_body_digest(const json *params, char hex[SHA256_HEX], struct err *e)
{
	struct buf b;
	struct hash h;
	int r = 0;

	buf_init(&b, 2 * LIMIT_TEXT);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(members); i++) {
		const json *v = json_get(params, members[i]);

		if (!v)
			continue;
		r = buf_printf(&b, e, "%s=", members[i]);
		if (r == 0)
			r = json_print_sorted(v, &b, e);
		if (r == 0)
			r = buf_putc(&b, '\n', e);
	}
	if (r == 0 && json_get(params, "stdin"))
		r = buf_puts(&b, "stdin\n", e);
	if (r == 0) {
		hash_init(&h);
		hash_update(&h, buf_data(&b), buf_len(&b));
		hash_hex(&h, hex);
	}
	buf_release(&b);
	return r;
}

bool step_id_is_good(const char *id)
{
	static const char word[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t n = strspn(id, word);

	return n > 0 && n <= LIMIT_STEP_ID && !id[n] && id[0] != '.' && id[0] != '-';
}
