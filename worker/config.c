/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/fs.h"
#include "protocol/base/hash.h"
#include "protocol/base/loop.h"
#include "protocol/limits.h"

const char *config_source_name(enum config_source from)
{
	static const char *const names[] = {
		[CONFIG_JOB] = "--job-config",
		[CONFIG_FILE] = "--config",
		[CONFIG_ENVIRONMENT] = CONFIG_VARIABLE,
	};

	return names[from];
}

/* 1: something to read or the end; 0: neither came in time. */
static int wait_for_input(uint64_t until_ns)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	uint64_t now = now_ns();
	int n;

	if (now >= until_ns)
		return 0;
	n = poll(&in, 1, (int)((until_ns - now) / 1000000) + 1);
	return n < 0 && errno == EINTR ? 1 : n;
}

static int read_input(struct buf *out, struct err *e)
{
	uint64_t until = now_ns() + WORKER_CONFIG_MS * UINT64_C(1000000);
	char piece[4096];
	int ready;

	while ((ready = wait_for_input(until)) > 0) {
		ssize_t n = read(0, piece, sizeof(piece));

		if (n == 0)
			return 0;
		if (n > 0 && buf_put(out, piece, (size_t)n, NULL) < 0)
			return err_set(e, ERR_LIMIT, 0, "standard input: more than %d KiB",
			               LIMIT_WORKER_CONFIG / 1024);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_set(e, ERR_SYS, errno, "standard input: read");
	}
	if (ready < 0)
		return err_set(e, ERR_SYS, errno, "standard input: poll");
	return err_set(e, ERR_DEADLINE, 0, "standard input: no end of it within %d s",
	               WORKER_CONFIG_MS / 1000);
}

static int load_text(enum config_source from, const char *value, struct buf *out, struct err *e)
{
	size_t blank = strspn(value, " \t\r\n");

	if (from == CONFIG_FILE)
		return strcmp(value, "-") == 0
		               ? read_input(out, e)
		               : fs_read(AT_FDCWD, value, LIMIT_WORKER_CONFIG, out, e);
	if (from == CONFIG_ENVIRONMENT && value[blank] == '{')
		return buf_puts(out, value, e);
	if (strlen(value) > LIMIT_WORKER_CONFIG)
		return err_set(e, ERR_LIMIT, 0, "more than %d KiB", LIMIT_WORKER_CONFIG / 1024);
	if (base64_decode(value, strlen(value), out, e) < 0)
		return err_set(e, ERR_PARSE, 0, "want %sbase64 of a JSON object",
		               from == CONFIG_ENVIRONMENT ? "a JSON object, or " : "");
	return 0;
}

json *config_load(enum config_source from, const char *value, struct err *e)
{
	struct err why = ERR_INIT;
	struct buf text;
	json *ret = NULL;

	buf_init(&text, LIMIT_WORKER_CONFIG);
	if (load_text(from, value, &text, &why) == 0)
		ret = json_parse((const char *)buf_data(&text), buf_len(&text), LIMIT_WORKER_CONFIG,
		                 LIMIT_JSON_DEPTH, &why);
	buf_release(&text);
	if (ret && json_type(ret) != JSON_OBJECT) {
		err_set(&why, ERR_PARSE, 0, "want a JSON object, got %s",
		        json_type_name(json_type(ret)));
		json_free(ret);
		ret = NULL;
	}
	if (!ret)
		err_set(e, ERR_USAGE, 0, "%s: %s", config_source_name(from), why.msg);
	return ret;
}
