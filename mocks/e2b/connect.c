/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/connect.h"

#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"

static const struct {
	const char *name;
	int status;
} codes[] = {
	[CONNECT_OK] = { "ok", 200 },
	[CONNECT_CANCELED] = { "canceled", 499 },
	[CONNECT_UNKNOWN] = { "unknown", 500 },
	[CONNECT_INVALID_ARGUMENT] = { "invalid_argument", 400 },
	[CONNECT_DEADLINE_EXCEEDED] = { "deadline_exceeded", 504 },
	[CONNECT_NOT_FOUND] = { "not_found", 404 },
	[CONNECT_ALREADY_EXISTS] = { "already_exists", 409 },
	[CONNECT_PERMISSION_DENIED] = { "permission_denied", 403 },
	[CONNECT_RESOURCE_EXHAUSTED] = { "resource_exhausted", 429 },
	[CONNECT_FAILED_PRECONDITION] = { "failed_precondition", 400 },
	[CONNECT_ABORTED] = { "aborted", 409 },
	[CONNECT_OUT_OF_RANGE] = { "out_of_range", 400 },
	[CONNECT_UNIMPLEMENTED] = { "unimplemented", 501 },
	[CONNECT_INTERNAL] = { "internal", 500 },
	[CONNECT_UNAVAILABLE] = { "unavailable", 503 },
	[CONNECT_DATA_LOSS] = { "data_loss", 500 },
	[CONNECT_UNAUTHENTICATED] = { "unauthenticated", 401 },
};

const char *connect_name(enum connect_code c)
{
	return codes[c].name;
}

int connect_status(enum connect_code c)
{
	return codes[c].status;
}

static void write_error(struct jw *w, enum connect_code c, const char *message)
{
	jw_kstr(w, "code", codes[c].name);
	if (message && *message)
		jw_kstr(w, "message", message);
}

int connect_error(enum connect_code c, const char *message, struct buf *out, struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	write_error(&w, c, message);
	jw_end(&w);
	return jw_done(&w, e);
}

int envelope_put(uint8_t flags, const void *p, size_t n, struct buf *out, struct err *e)
{
	uint8_t *to = buf_reserve(out, ENVELOPE_HEAD + n, e);

	if (!to)
		return -1;
	to[0] = flags;
	put_u32(to + 1, (uint32_t)n);
	memcpy(to + ENVELOPE_HEAD, p, n);
	buf_commit(out, ENVELOPE_HEAD + n);
	return 0;
}

int connect_end(enum connect_code c, const char *message, struct buf *out, struct err *e)
{
	struct buf text CLEANUP(buf_release);
	struct jw w;

	buf_init(&text, CONNECT_MESSAGE_MAX);
	jw_init(&w, &text);
	jw_obj(&w);
	if (c != CONNECT_OK) {
		jw_kobj(&w, "error");
		write_error(&w, c, message);
		jw_end(&w);
	}
	jw_end(&w);
	if (jw_done(&w, e) < 0)
		return -1;
	return envelope_put(ENVELOPE_END, buf_data(&text), buf_len(&text), out, e);
}

void envelope_reader_init(struct envelope_reader *r, size_t max)
{
	*r = (struct envelope_reader){ .max = max };
	buf_init(&r->message, max);
}

void envelope_reader_release(struct envelope_reader *r)
{
	buf_release(&r->message);
}

static bool is_whole(const struct envelope_reader *r)
{
	return r->have == ENVELOPE_HEAD && buf_len(&r->message) == get_u32(r->head + 1);
}

int envelope_feed(struct envelope_reader *r, const uint8_t *p, size_t n, size_t *used,
		  struct err *e)
{
	size_t take;

	if (is_whole(r)) {
		r->have = 0;
		buf_reset(&r->message);
	}
	take = ENVELOPE_HEAD - r->have < n ? ENVELOPE_HEAD - r->have : n;
	memcpy(r->head + r->have, p, take);
	r->have += take;
	*used = take;
	if (r->have < ENVELOPE_HEAD)
		return 0;
	if (get_u32(r->head + 1) > r->max)
		return err_set(e, ERR_LIMIT, 0,
			       "message size %lu is larger than configured max %zu",
			       (unsigned long)get_u32(r->head + 1), r->max);
	take = get_u32(r->head + 1) - buf_len(&r->message);
	if (take > n - *used)
		take = n - *used;
	if (buf_put(&r->message, p + *used, take, e) < 0)
		return -1;
	*used += take;
	return is_whole(r);
}

bool envelope_at_border(const struct envelope_reader *r)
{
	return r->have == 0 || is_whole(r);
}

int connect_timeout(const char *text, uint64_t *ret_ms, struct err *e)
{
	uint64_t ms = 0;

	for (const char *p = text; p && *p; p++) {
		if (*p < '0' || *p > '9' || p - text >= 10)
			return err_set(e, ERR_PARSE, 0, "protocol error: invalid timeout \"%.40s\"",
				       text);
		ms = 10 * ms + (uint64_t)(*p - '0');
	}
	*ret_ms = ms;
	return 0;
}
