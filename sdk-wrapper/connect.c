/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/connect.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/json.h"
#include "protocol/limits.h"

void connect_init(struct connect_reader *r)
{
	*r = (struct connect_reader){ .ended = false };
	buf_init(&r->in, CONNECT_HEADER + LIMIT_ENVELOPE);
}

void connect_release(struct connect_reader *r)
{
	buf_release(&r->in);
}

static int read_end(struct connect_reader *r, const char *text, size_t len, struct err *e)
{
	auto_json json *v = json_parse(text, len, LIMIT_ENVELOPE, LIMIT_JSON_DEPTH, e);
	const json *error;
	const char *code, *message;

	if (!v)
		return e ? err_set(e, ERR_PROTO, 0, "stream: its end: %s", e->msg) : -1;
	r->ended = true;
	error = json_get(v, "error");
	if (json_type(error) != JSON_OBJECT)
		return 0;
	code = json_string(json_get(error, "code"));
	message = json_string(json_get(error, "message"));
	snprintf(r->code, sizeof(r->code), "%.39s", code && *code ? code : "unknown");
	snprintf(r->message, sizeof(r->message), "%.239s", message ? message : "");
	return 0;
}

/* How many bytes the envelope at the front has; 0: more are needed to tell. */
static int envelope_size(const struct connect_reader *r, size_t *ret, struct err *e)
{
	const uint8_t *p = buf_data(&r->in);
	uint32_t len;

	*ret = 0;
	if (buf_len(&r->in) == 0)
		return 0;
	if (r->ended)
		return err_set(e, ERR_PROTO, 0, "stream: bytes behind its end");
	if (p[0] & CONNECT_COMPRESSED)
		return err_set(e, ERR_PROTO, 0, "stream: compressed, which nobody asked for");
	if (p[0] & ~CONNECT_END)
		return err_set(e, ERR_PROTO, 0, "stream: unknown flags 0x%02x", p[0]);
	if (buf_len(&r->in) < CONNECT_HEADER)
		return 0;
	len = get_u32(p + 1);
	if (len > LIMIT_ENVELOPE)
		return err_set(e, ERR_PROTO, 0, "stream: a message of %u bytes, over %d", len,
			       LIMIT_ENVELOPE);
	*ret = CONNECT_HEADER + len;
	return 0;
}

/* What is complete at the front, one after another. */
static int take_envelopes(struct connect_reader *r,
			  int (*on_message)(void *user, const char *text, size_t len,
					    struct err *e),
			  void *user, struct err *e)
{
	size_t size;

	for (;;) {
		const uint8_t *p;
		int done;

		if (envelope_size(r, &size, e) < 0)
			return -1;
		if (!size || buf_len(&r->in) < size)
			return 0;
		p = buf_data(&r->in);
		if (p[0] & CONNECT_END)
			done = read_end(r, (const char *)p + CONNECT_HEADER,
					size - CONNECT_HEADER, e);
		else
			done = on_message(user, (const char *)p + CONNECT_HEADER,
					  size - CONNECT_HEADER, e);
		if (done < 0)
			return -1;
		buf_consume(&r->in, size);
	}
}

int connect_feed(struct connect_reader *r, const uint8_t *p, size_t n,
		 int (*on_message)(void *user, const char *text, size_t len, struct err *e),
		 void *user, struct err *e)
{
	while (n) {
		size_t room = buf_room(&r->in), part = n < room ? n : room;

		if (buf_put(&r->in, p, part, e) < 0)
			return -1;
		p += part;
		n -= part;
		if (take_envelopes(r, on_message, user, e) < 0)
			return -1;
	}
	return 0;
}

int connect_envelope(struct buf *out, const void *text, size_t len, struct err *e)
{
	if (len > LIMIT_ENVELOPE)
		return err_set(e, ERR_LIMIT, 0, "a message of %zu bytes, over %d", len,
			       LIMIT_ENVELOPE);
	if (buf_putc(out, 0, e) < 0 || buf_put_u32(out, (uint32_t)len, e) < 0)
		return -1;
	return buf_put(out, text, len, e);
}
