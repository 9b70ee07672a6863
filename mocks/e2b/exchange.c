/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/exchange.h"

#include <string.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "protocol/base/log.h"

enum { LINE_MAX_BYTES = 2 * HTTP_HEAD_MAX };

struct line {
	const char *method, *path;
	size_t path_len;
	int status;
	uint64_t in, out;
};

static int print(const struct exchange *x, const struct line *l, struct buf *out, struct err *e)
{
	struct jw w;
	char t[28];

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "t", time_rfc3339(x->start_us, t));
	jw_kstr(&w, "method", l->method);
	jw_key(&w, "path");
	jw_strn(&w, l->path, l->path_len);
	jw_kint(&w, "status", l->status);	/* 0: it never got one */
	jw_kstr(&w, "sandbox", x->sandbox[0] ? x->sandbox : NULL);
	jw_kint(&w, "bytes_in", (int64_t)l->in);
	jw_kint(&w, "bytes_out", (int64_t)l->out);
	jw_knum(&w, "ms", (double)(now_ns() - x->start_ns) / 1e6);
	if (x->fault)
		jw_kstr(&w, "fault", x->fault);
	jw_end(&w);
	return jw_done(&w, e) < 0 ? -1 : buf_putc(out, '\n', e);
}

static void put(const struct exchange *x, const struct line *l)
{
	struct buf text CLEANUP(buf_release) = { 0 };
	struct err e = ERR_INIT;

	if (x->cloud->log_fd < 0)
		return;
	buf_init(&text, LINE_MAX_BYTES);
	if (print(x, l, &text, &e) < 0 ||
	    fs_write_all(x->cloud->log_fd, buf_data(&text), buf_len(&text), &e) < 0)
		log_error("log: %s", e.msg);
}

void exchange_log(const struct exchange *x)
{
	const char *target = http_target(x->h);

	put(x, &(struct line){ http_method(x->h), target, strcspn(target, "?"), http_status(x->h),
			       http_bytes_in(x->h), http_bytes_out(x->h) });
}

void exchange_log_tunnel(const struct exchange *x, const char *path, uint64_t in, uint64_t out)
{
	put(x, &(struct line){ "GET", path, strlen(path), 101, in, out });
}
