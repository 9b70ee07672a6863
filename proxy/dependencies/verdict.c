/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether everything is there; if not, why, in words that help. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "proxy/dependencies/state.h"
#include "proxy/last_words.h"

enum { LOG_TAIL = 8192 };

static void explain_silence(struct dependencies *d, struct err *e)
{
	const struct dependency_tool *t = &dependency_tools[d->tool];
	char path[64], words[200];
	auto_close int fd = -1;

	if (now(d)->sr.receipt.exit.kind == EXIT_SPAWN_FAILED) {
		err_set(e, ERR_DEPENDENCY, 0,
		        "requirements of %s need %s in the sandbox, and it cannot be started: %s",
		        package_tool_names[d->tool], t->program, now(d)->sr.receipt.error);
		return;
	}
	snprintf(path, sizeof(path), "logs/%s.stderr", t->step);
	fd = openat(d->r->dir.fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	last_words(fd, 0, words, sizeof(words));
	err_set(e, ERR_DEPENDENCY, 0, "what %s has could not be found out: %.100s%s%s (%s)",
	        package_tool_names[d->tool], now(d)->sr.error.msg, words[0] ? ": " : "", words,
	        path);
}

/* What the tool had without a network. */
static const char *offline_hint(const struct dependencies *d)
{
	if (!dependencies_are_offline(d->r))
		return "";
	return d->tool == TOOL_PIP
	               ? "; without --network on it has only 'wheels' and PIP_FIND_LINKS"
	               : "; without --network on it has only file: packages";
}

/* Out of the log as it was written here: it is masked. */
static void read_words(struct dependencies *d, char *to, size_t size)
{
	char path[64], tail[LOG_TAIL];
	auto_close int fd = -1;
	off_t end;
	ssize_t n;

	*to = 0;
	snprintf(path, sizeof(path), "logs/%s.stdout", dependency_tools[d->tool].step);
	fd = openat(d->r->dir.fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	n = end > 0 ? pread(fd, tail, sizeof(tail), end > LOG_TAIL ? end - LOG_TAIL : 0) : 0;
	if (n > 0)
		dependency_log_words(tail, (size_t)n, to, size);
}

static void explain_tool(struct dependencies *d, struct err *e)
{
	const struct dependency_report *report = &now(d)->report;
	char names[140], words[200] = "";

	dependency_report_names(report->missing, names, sizeof(names));
	if (now(d)->sr.receipt.out.bytes)
		read_words(d, words, sizeof(words));
	err_set(e, ERR_DEPENDENCY, 0,
	        "%s could not install %s (log: artifacts/%s/" DEPENDENCY_LOG ")%s: %s%s%s",
	        package_tool_names[d->tool], names[0] ? names : "anything",
	        dependency_tools[d->tool].step,
	        offline_hint(d), report->error, words[0] ? ": " : "", words);
}

/* 0: everything is there. */
int dependency_judge(struct dependencies *d, struct err *e)
{
	const struct dependency_report *report = &now(d)->report;
	char names[220];

	if (!now(d)->sr.verified) { /* no proof: the reason is its own class */
		*e = now(d)->sr.error;
		return err_wrap(e, "step '%s'", dependency_tools[d->tool].step);
	}
	if (now(d)->sr.status == STATUS_SUCCESS)
		return report->v ? 0
		                 : err_set(e, ERR_INTEGRITY, 0, "step '%s': no report came",
		                           dependency_tools[d->tool].step);
	if (now(d)->sr.status == STATUS_TIMEOUT)
		return err_set(e, ERR_DEPENDENCY, 0, "%s: not done after %d s",
		               package_tool_names[d->tool], DEPENDENCIES_MS / 1000);
	if (report->error) {
		explain_tool(d, e);
	} else if (json_count(report->missing)) {
		dependency_report_names(report->missing, names, sizeof(names));
		err_set(e, ERR_DEPENDENCY, 0,
		        "missing in the sandbox: %s (%s); --install-deps installs what is missing",
		        names, package_tool_names[d->tool]);
	} else {
		explain_silence(d, e);
	}
	return -1;
}
