/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/buf.h"
#include "protocol/base/json.h"
#include "protocol/base/loop.h"

enum {
	MSG_BYTES = 2048,	/* longer messages are clipped */
	LINE_BYTES = 16 * 1024,	/* a JSON line of control characters only */
};

static struct {
	int fd;
	enum log_level level;
	bool json;
	char program[64];
} state = { 2, LOG_INFO, false, "farstep" };

static const char *const names[] = { "error", "warn", "info", "debug" };

void log_open(int fd, enum log_level level, bool as_json, const char *program)
{
	state.fd = fd;
	state.level = level;
	state.json = as_json;
	snprintf(state.program, sizeof(state.program), "%.63s", program);
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
		if (strcmp(names[i], name) != 0)
			continue;
		*ret = (enum log_level)i;
		return 0;
	}
	return -1;
}

bool log_enabled(enum log_level level)
{
	return level <= state.level;
}

/* One event is one line, whatever a peer put into the message: what is no
 * printable text shows as an escape. */
static int put_text(struct buf *line, const char *msg)
{
	const char *end = msg + strlen(msg);
	int ret = 0;

	while (msg < end && ret == 0) {
		size_t n = (unsigned char)*msg < 0x20 || *msg == 0x7f ? 0 : json_utf8_len(msg, end);

		if (n == 0)
			ret = buf_printf(line, NULL, "\\x%02x", (unsigned char)*msg);
		else
			ret = buf_put(line, msg, n, NULL);
		msg += n ? n : 1;
	}
	return ret;
}

static int make_text(struct buf *line, const char *ts, enum log_level level, const char *msg)
{
	if (buf_printf(line, NULL, "%s %s %s: ", ts, names[level], state.program) < 0)
		return -1;
	return put_text(line, msg);
}

static int make_json(struct buf *line, const char *ts, enum log_level level, const char *msg)
{
	struct jw w;

	jw_init(&w, line);
	jw_obj(&w);
	jw_kstr(&w, "ts", ts);
	jw_kstr(&w, "level", names[level]);
	jw_kstr(&w, "program", state.program);
	jw_kstr(&w, "msg", msg);
	jw_end(&w);
	return jw_done(&w, NULL);
}

/* One write, so that lines of several processes do not mix.  A log that takes no
 * more loses lines; it does not hold up the program. */
static void write_once(const struct buf *line)
{
	ssize_t put;

	do
		put = write(state.fd, buf_data(line), buf_len(line));
	while (put < 0 && errno == EINTR);
}

static void write_line(enum log_level level, const char *msg)
{
	struct buf line;
	char ts[28];
	int made;

	buf_init(&line, LINE_BYTES);
	time_rfc3339(now_real_us(), ts);
	made = (state.json ? make_json : make_text)(&line, ts, level, msg);
	if (made == 0 && buf_putc(&line, '\n', NULL) == 0)
		write_once(&line);
	buf_release(&line);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char msg[MSG_BYTES];
	int sys = errno;
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(msg))
		memcpy(msg + sizeof(msg) - 4, "...", 4);
	if (n >= 0)
		write_line(level, msg);
	errno = sys;
}
