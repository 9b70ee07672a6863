/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/receipt.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/json.h"
#include "protocol/base/loop.h"

enum {
	RECEIPT_VERSION = 1,
	RECEIPT_BYTES = 64 * 1024,	/* ours have some 1,200 */
	RECEIPT_DEPTH = 4,
};

/* --- names --- */

static const char *const exit_kinds[EXIT_KINDS] = {
	"exited", "signaled", "timeout", "cancelled", "spawn_failed", "lost",
};

static const char *const statuses[STATUS_COUNT] = {
	"success", "error", "timeout", "cancelled", "resource_limit", "security_violation",
	"skipped", "lost",
};

static const char *const stages[STAGE_COUNT] = {
	"", "fork", "pgrp", "stdio", "cwd", "fds", "exec",
};

static const char *name_of(const char *const *names, unsigned count, unsigned i)
{
	return i < count ? names[i] : "unknown";
}

/* Index of the name, -1 when there is none. */
static int index_of(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

const char *exit_kind_name(enum exit_kind k)
{
	return name_of(exit_kinds, EXIT_KINDS, (unsigned)k);
}

const char *status_name(enum step_status s)
{
	return name_of(statuses, STATUS_COUNT, (unsigned)s);
}

int status_by_name(const char *name, enum step_status *ret, struct err *e)
{
	int i = index_of(statuses, STATUS_COUNT, name);

	if (i < 0)
		return err_set(e, ERR_INVALID_PARAMS, 0, "'%.40s': no such status", name);
	*ret = (enum step_status)i;
	return 0;
}

const char *spawn_stage_name(enum spawn_stage s)
{
	return name_of(stages, STAGE_COUNT, (unsigned)s);
}

/* --- making one --- */

void receipt_init(struct receipt *r)
{
	uint8_t nothing[SHA256_LEN];
	char hex[SHA256_HEX];

	*r = (struct receipt){ .rows = -1, .status = STATUS_LOST, .exit.kind = EXIT_LOST };
	sha256("", 0, nothing);
	hex_encode(nothing, sizeof(nothing), hex);
	memcpy(r->out.sha256, hex, sizeof(hex));
	memcpy(r->err.sha256, hex, sizeof(hex));
	memcpy(r->events.sha256, hex, sizeof(hex));
	memcpy(r->artifacts.sha256, hex, sizeof(hex));
}

static enum step_status signal_status(int sig)
{
	if (sig == SIGXCPU || sig == SIGXFSZ)
		return STATUS_RESOURCE_LIMIT;
	return sig == SIGSYS ? STATUS_SECURITY_VIOLATION : STATUS_ERROR;
}

enum step_status receipt_status(const struct receipt *r)
{
	switch (r->exit.kind) {
	case EXIT_EXITED:
		if (r->exit.code != 0 || (r->said_complete && !r->said_success))
			return STATUS_ERROR;
		return STATUS_SUCCESS;
	case EXIT_SIGNALED:
		return signal_status(r->exit.signal);
	case EXIT_TIMEOUT:
		return STATUS_TIMEOUT;
	case EXIT_CANCELLED:
		return STATUS_CANCELLED;
	case EXIT_SPAWN_FAILED:
		return STATUS_ERROR;
	default:
		return STATUS_LOST;
	}
}

static void print_exit(struct jw *w, const struct receipt *r)
{
	jw_kobj(w, "exit");
	jw_kstr(w, "kind", exit_kind_name(r->exit.kind));
	jw_kint(w, "code", r->exit.code);
	jw_kint(w, "signal", r->exit.signal);
	jw_kbool(w, "core", r->exit.core);
	jw_kstr(w, "by", r->exit.by);
	if (r->exit.kind == EXIT_SPAWN_FAILED) {
		jw_kint(w, "errno", r->exit.sys);
		jw_kstr(w, "stage", spawn_stage_name(r->exit.stage));
	}
	jw_end(w);
}

static void print_stream(struct jw *w, const char *name, const struct stream_sum *s)
{
	jw_kobj(w, name);
	jw_ku64s(w, "bytes", s->bytes);
	jw_kstr(w, "sha256", s->sha256);
	jw_end(w);
}

static void print_streams(struct jw *w, const struct receipt *r)
{
	jw_kobj(w, "stdin");
	jw_ku64s(w, "bytes", r->stdin_bytes);
	jw_end(w);
	print_stream(w, "stdout", &r->out);
	print_stream(w, "stderr", &r->err);
	print_stream(w, "events", &r->events);
}

static void print_artifacts(struct jw *w, const struct receipt *r)
{
	jw_kobj(w, "artifacts");
	jw_kint(w, "count", (int64_t)r->artifacts.count);
	jw_ku64s(w, "bytes", r->artifacts.bytes);
	jw_ku64s(w, "manifest_bytes", r->artifacts.manifest_bytes);
	jw_kstr(w, "sha256", r->artifacts.sha256);
	jw_karr(w, "refused");
	for (size_t i = 0; i < ARRAY_LEN(r->refused) && r->refused[i][0]; i++)
		jw_str(w, r->refused[i]);
	jw_end(w);
	jw_end(w);
}

static void print_usage(struct jw *w, const struct receipt *r)
{
	jw_kobj(w, "usage");
	jw_knum(w, "wall_ms", r->usage.wall_ms);
	jw_knum(w, "user_ms", r->usage.user_ms);
	jw_knum(w, "sys_ms", r->usage.sys_ms);
	jw_kint(w, "max_rss_kb", r->usage.max_rss_kb);
	jw_kint(w, "read_kb", r->usage.read_kb);
	jw_kint(w, "written_kb", r->usage.written_kb);
	jw_end(w);
}

void receipt_note_said(struct receipt *r, const char *words)
{
	uint8_t digest[SHA256_LEN];

	sha256(words, strlen(words), digest);
	hex_encode(digest, sizeof(digest), r->said_sha256);
}

int receipt_check_said(const struct receipt *r, const char *words, struct err *e)
{
	struct receipt other;

	receipt_note_said(&other, words);
	if (strcmp(other.said_sha256, r->said_sha256) == 0)
		return 0;
	return err_set(e, ERR_INTEGRITY, 0, "the step's words are not those of the receipt");
}

static void print_complete(struct jw *w, const struct receipt *r)
{
	if (!r->said_complete)
		return;
	jw_kobj(w, "complete");
	jw_kbool(w, "success", r->said_success);
	if (r->said_sha256[0])
		jw_kstr(w, "error_sha256", r->said_sha256);
	jw_end(w);
}

static void print_identity(struct jw *w, const struct receipt *r)
{
	jw_kint(w, "v", RECEIPT_VERSION);
	jw_kstr(w, "run", r->run);
	jw_kstr(w, "session", r->session);
	jw_kstr(w, "step", r->step);
	jw_kint(w, "attempt", r->attempt);
	jw_kstr(w, "sandbox", r->sandbox);
	jw_kstr(w, "worker", r->worker);
	jw_kint(w, "generation", r->generation);
	jw_kstr(w, "build", r->build);
	jw_kstr(w, "plan", r->plan);
}

int receipt_print(const struct receipt *r, struct buf *out, struct err *e)
{
	char when[28];
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	print_identity(&w, r);
	jw_kstr(&w, "status", status_name(r->status));
	print_exit(&w, r);
	print_streams(&w, r);
	print_artifacts(&w, r);
	print_usage(&w, r);
	jw_kint(&w, "leftovers", r->leftovers);
	print_complete(&w, r);
	if (r->rows >= 0)
		jw_kint(&w, "rows", r->rows);
	jw_kstr(&w, "started", time_rfc3339(r->started_us, when));
	jw_kstr(&w, "ended", time_rfc3339(r->ended_us, when));
	jw_kstr(&w, "error", r->error);
	jw_end(&w);
	return jw_done(&w, e);
}

/* --- reading one: a table of fields, because the text is not ours --- */

static int refuse(struct err *e, const char *key, const char *why)
{
	return err_set(e, ERR_INTEGRITY, 0, "receipt: %s: %s", key, why);
}

static int get_str(const json *obj, const char *key, char *to, size_t size, struct err *e)
{
	const char *s;

	if (json_req_str(obj, "", key, &s, e) < 0)
		return -1;
	if (strlen(s) >= size)
		return refuse(e, key, "too long");
	memcpy(to, s, strlen(s) + 1);
	return 0;
}

/* Text for people may have grown when bytes that were no text were replaced; it
 * is cut off at the end of a character. */
static void get_text(const char *s, char *to, size_t size)
{
	size_t n = strlen(s);

	if (n >= size)
		for (n = size - 1; n && ((unsigned char)s[n] & 0xc0) == 0x80; n--)
			;
	memcpy(to, s, n);
	to[n] = 0;
}

static int get_name(const json *obj, const char *key, const char *const *names, int count, int *ret,
		    struct err *e)
{
	const char *s;

	if (json_req_str(obj, "", key, &s, e) < 0)
		return -1;
	*ret = index_of(names, count, s);
	return *ret < 0 ? refuse(e, key, "no such name") : 0;
}

static int get_int(const json *obj, const char *key, int64_t max, int *ret, struct err *e)
{
	int64_t v;

	if (json_req_int(obj, "", key, 0, max, &v, e) < 0)
		return -1;
	*ret = (int)v;
	return 0;
}

static int get_digest(const json *obj, const char *key, char to[SHA256_HEX], struct err *e)
{
	if (get_str(obj, key, to, SHA256_HEX, e) < 0)
		return -1;
	if (strlen(to) != SHA256_HEX - 1 || strspn(to, "0123456789abcdef") != SHA256_HEX - 1)
		return refuse(e, key, "no SHA-256");
	return 0;
}

static int get_ms(const json *obj, const char *key, double *ret, struct err *e)
{
	const json *v = json_get(obj, key);

	if (json_type(v) != JSON_NUMBER || !(json_number(v) >= 0))
		return refuse(e, key, "want a duration");
	*ret = json_number(v);
	return 0;
}

static bool digits(const char *s, int n, int *ret)
{
	*ret = 0;
	for (int i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		*ret = 10 * *ret + (s[i] - '0');
	}
	return true;
}

/* What time_rfc3339 wrote, and only that: the text must come out the same again. */
static int get_time(const json *obj, const char *key, uint64_t *ret, struct err *e)
{
	char text[28], again[28];
	struct tm tm = { 0 };
	uint64_t us;
	int frac;

	if (get_str(obj, key, text, sizeof(text), e) < 0)
		return -1;
	if (strlen(text) != sizeof(text) - 1 || !digits(text, 4, &tm.tm_year) ||
	    !digits(text + 5, 2, &tm.tm_mon) || !digits(text + 8, 2, &tm.tm_mday) ||
	    !digits(text + 11, 2, &tm.tm_hour) || !digits(text + 14, 2, &tm.tm_min) ||
	    !digits(text + 17, 2, &tm.tm_sec) || !digits(text + 20, 6, &frac) || tm.tm_year < 1970)
		return refuse(e, key, "want a time");
	tm.tm_year -= 1900;
	tm.tm_mon--;
	us = (uint64_t)timegm(&tm) * 1000000 + (uint64_t)frac;
	if (strcmp(text, time_rfc3339(us, again)) != 0)
		return refuse(e, key, "want a time");
	*ret = us;
	return 0;
}

static int parse_identity(const json *o, struct receipt *r, struct err *e)
{
	int v;

	if (get_int(o, "v", 1000000, &v, e) < 0)
		return -1;
	if (v != RECEIPT_VERSION)
		return refuse(e, "v", "a version that this program does not know");
	if (get_str(o, "run", r->run, sizeof(r->run), e) < 0 ||
	    get_str(o, "session", r->session, sizeof(r->session), e) < 0 ||
	    get_str(o, "step", r->step, sizeof(r->step), e) < 0 ||
	    get_int(o, "attempt", LIMIT_ATTEMPT, &r->attempt, e) < 0 ||
	    get_str(o, "sandbox", r->sandbox, sizeof(r->sandbox), e) < 0 ||
	    get_str(o, "worker", r->worker, sizeof(r->worker), e) < 0 ||
	    get_int(o, "generation", INT32_MAX, &r->generation, e) < 0 ||
	    get_str(o, "build", r->build, sizeof(r->build), e) < 0)
		return -1;
	return get_digest(o, "plan", r->plan, e);
}

static int parse_spawn_failure(const json *o, struct receipt *r, struct err *e)
{
	int stage;

	if (r->exit.kind != EXIT_SPAWN_FAILED)
		return 0;
	if (get_int(o, "errno", 4095, &r->exit.sys, e) < 0 ||
	    get_name(o, "stage", stages, STAGE_COUNT, &stage, e) < 0)
		return -1;
	r->exit.stage = (enum spawn_stage)stage;
	return 0;
}

static int parse_exit(const json *top, struct receipt *r, struct err *e)
{
	const json *o;
	int kind;

	if (json_req_obj(top, "", "exit", &o, e) < 0 ||
	    get_name(o, "kind", exit_kinds, EXIT_KINDS, &kind, e) < 0 ||
	    get_int(o, "code", 255, &r->exit.code, e) < 0 ||
	    get_int(o, "signal", 127, &r->exit.signal, e) < 0 ||
	    json_opt_bool(o, "exit", "core", &r->exit.core, e) < 0 ||
	    get_str(o, "by", r->exit.by, sizeof(r->exit.by), e) < 0)
		return -1;
	r->exit.kind = (enum exit_kind)kind;
	return parse_spawn_failure(o, r, e);
}

static int parse_stream(const json *top, const char *name, struct stream_sum *s, struct err *e)
{
	const json *o;

	if (json_req_obj(top, "", name, &o, e) < 0 ||
	    json_req_u64(o, name, "bytes", &s->bytes, e) < 0)
		return -1;
	return get_digest(o, "sha256", s->sha256, e);
}

static int parse_streams(const json *top, struct receipt *r, struct err *e)
{
	const json *o;

	if (json_req_obj(top, "", "stdin", &o, e) < 0 ||
	    json_req_u64(o, "stdin", "bytes", &r->stdin_bytes, e) < 0 ||
	    parse_stream(top, "stdout", &r->out, e) < 0 ||
	    parse_stream(top, "stderr", &r->err, e) < 0)
		return -1;
	return parse_stream(top, "events", &r->events, e);
}

static int parse_refused(const json *o, struct receipt *r, struct err *e)
{
	const json *list = NULL;
	size_t n = 0;

	if (json_opt_strv(o, "artifacts", "refused", &list, e) < 0)
		return -1;
	for (const json *it = json_first(list); it && n < ARRAY_LEN(r->refused); it = json_next(it))
		get_text(json_string(it), r->refused[n++], sizeof(r->refused[0]));
	return 0;
}

static int parse_artifacts(const json *top, struct receipt *r, struct err *e)
{
	const json *o;
	int count;

	if (json_req_obj(top, "", "artifacts", &o, e) < 0 ||
	    get_int(o, "count", LIMIT_ARTIFACTS, &count, e) < 0 ||
	    json_req_u64(o, "artifacts", "bytes", &r->artifacts.bytes, e) < 0 ||
	    json_req_u64(o, "artifacts", "manifest_bytes", &r->artifacts.manifest_bytes, e) < 0 ||
	    get_digest(o, "sha256", r->artifacts.sha256, e) < 0)
		return -1;
	if (r->artifacts.manifest_bytes > LIMIT_MANIFEST)
		return refuse(e, "manifest_bytes", "too large");
	r->artifacts.count = (uint64_t)count;
	return parse_refused(o, r, e);
}

static int parse_usage(const json *top, struct receipt *r, struct err *e)
{
	const json *o;

	if (json_req_obj(top, "", "usage", &o, e) < 0 ||
	    get_ms(o, "wall_ms", &r->usage.wall_ms, e) < 0 ||
	    get_ms(o, "user_ms", &r->usage.user_ms, e) < 0 ||
	    get_ms(o, "sys_ms", &r->usage.sys_ms, e) < 0)
		return -1;
	if (json_req_int(o, "usage", "max_rss_kb", 0, JSON_INT_MAX, &r->usage.max_rss_kb, e) < 0 ||
	    json_req_int(o, "usage", "read_kb", 0, JSON_INT_MAX, &r->usage.read_kb, e) < 0)
		return -1;
	return json_req_int(o, "usage", "written_kb", 0, JSON_INT_MAX, &r->usage.written_kb, e);
}

static int parse_complete(const json *top, struct receipt *r, struct err *e)
{
	const json *o = NULL;
	const char *sha256_hex = NULL;

	if (json_opt_obj(top, "", "complete", &o, e) < 0)
		return -1;
	if (!o)
		return 0;
	r->said_complete = true;
	if (json_opt_str(o, "complete", "error_sha256", &sha256_hex, e) < 0)
		return -1;
	if (sha256_hex)
		get_text(sha256_hex, r->said_sha256, sizeof(r->said_sha256));
	return json_opt_bool(o, "complete", "success", &r->said_success, e);
}

static int parse_rest(const json *top, struct receipt *r, struct err *e)
{
	const char *text;

	if (get_int(top, "leftovers", INT32_MAX, &r->leftovers, e) < 0 ||
	    json_opt_int(top, "", "rows", 0, JSON_INT_MAX, &r->rows, e) < 0 ||
	    get_time(top, "started", &r->started_us, e) < 0 ||
	    get_time(top, "ended", &r->ended_us, e) < 0 ||
	    json_req_str(top, "", "error", &text, e) < 0)
		return -1;
	get_text(text, r->error, sizeof(r->error));
	return 0;
}

static int parse_all(const json *top, struct receipt *r, struct err *e)
{
	int status;

	if (parse_identity(top, r, e) < 0 ||
	    get_name(top, "status", statuses, STATUS_COUNT, &status, e) < 0 ||
	    parse_exit(top, r, e) < 0 || parse_streams(top, r, e) < 0 ||
	    parse_artifacts(top, r, e) < 0 || parse_usage(top, r, e) < 0 ||
	    parse_complete(top, r, e) < 0 || parse_rest(top, r, e) < 0)
		return -1;
	r->status = (enum step_status)status;
	/* A success that its own exit contradicts is worth less than none. */
	if (r->status == STATUS_SUCCESS && receipt_status(r) != STATUS_SUCCESS)
		return refuse(e, "status", "success, but the exit says otherwise");
	return 0;
}

int receipt_parse(const char *text, size_t len, struct receipt *ret, struct err *e)
{
	struct err why = ERR_INIT;
	auto_json json *top = json_parse(text, len, RECEIPT_BYTES, RECEIPT_DEPTH, &why);
	struct receipt r;

	receipt_init(&r);
	if (!top || parse_all(top, &r, &why) < 0) {
		enum err_code code = why.code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_INTEGRITY;

		return err_set(e, code, 0, "%s%s", code == why.code ? "" : "receipt: ", why.msg);
	}
	*ret = r;
	return 0;
}

/* --- the signature --- */

void receipt_sign(const uint8_t step_key[SHA256_LEN], const char *text, size_t len,
		  char hmac[SHA256_HEX])
{
	uint8_t mac[SHA256_LEN];

	hmac_sha256(step_key, SHA256_LEN, text, len, mac);
	hex_encode(mac, sizeof(mac), hmac);
}

int receipt_check(const uint8_t step_key[SHA256_LEN], const char *text, size_t len,
		  const char *hmac, struct err *e)
{
	uint8_t mac[SHA256_LEN], got[SHA256_LEN];

	hmac_sha256(step_key, SHA256_LEN, text, len, mac);
	if (hex_decode(hmac, strlen(hmac), got, sizeof(got), NULL) < 0 ||
	    !equal_ct(mac, got, sizeof(mac)))
		return err_set(e, ERR_INTEGRITY, 0, "receipt: the signature does not match");
	return 0;
}
