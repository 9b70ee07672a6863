/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "protocol/keys.h"
#include "protocol/lines.h"
#include "protocol/receipt.h"
#include "proxy/step_run.h"
#include "proxy/userkey.h"

#define FILE_MAX (64 * 1024 * 1024)
#define PIECE    (128 * 1024)

struct verifying {
	struct verify_result *ret;
	struct buf *out;
	int fd;
	const char *run;
	char key[SHA256_HEX];
	const json *status;
	bool proved[20000]; /* by the step's index in status.json */
};

static void PRINTF_LIKE(2, 3) bad(struct verifying *v, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	v->ret->bad++;
	buf_printf(v->out, NULL, "BAD  %s\n", text);
}

static int digest_file(int dir_fd, const char *path, uint64_t *size, char hex[SHA256_HEX])
{
	auto_close int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_free uint8_t *piece = malloc(PIECE);
	struct hash h;
	ssize_t n = -1;

	if (fd < 0 || !piece)
		return -1;
	hash_init(&h);
	*size = 0;
	while ((n = read(fd, piece, PIECE)) > 0) {
		hash_update(&h, piece, (size_t)n);
		*size += (uint64_t)n;
	}
	hash_hex(&h, hex);
	return n < 0 ? -1 : 0;
}

static int step_index(const struct verifying *v, const char *id)
{
	int i = 0;

	for (const json *s = json_first(json_get(v->status, "steps")); s; s = json_next(s), i++) {
		const char *name = json_string(json_get(s, "id"));

		if (name && strcmp(name, id) == 0)
			return i < (int)ARRAY_LEN(v->proved) ? i : -1;
	}
	return -1;
}

/* A log with masked values is another text than the step wrote: then only its receipt speaks. */
static void check_log(struct verifying *v, const char *step, const char *name,
                      const struct stream_sum *sum)
{
	char path[160], hex[SHA256_HEX];
	uint64_t size = 0;

	snprintf(path, sizeof(path), "logs/%s.%s", step, name);
	if (digest_file(v->fd, path, &size, hex) < 0)
		bad(v, "%s: %s", path, strerror(errno));
	else if (size == sum->bytes && strcmp(hex, sum->sha256) == 0)
		buf_printf(v->out, NULL, "ok   %s: %llu bytes\n", path, (unsigned long long)size);
	else {
		struct buf text;
		bool masked;

		buf_init(&text, FILE_MAX);
		fs_read(v->fd, path, FILE_MAX, &text, NULL);
		masked = buf_len(&text) &&
		         memmem(buf_data(&text), buf_len(&text), "***MASKED***", 12);
		buf_release(&text);
		if (masked)
			buf_printf(
				v->out, NULL,
				"--   %s: holds masked values, so its digest cannot be compared\n",
				path);
		else
			bad(v, "%s: not the bytes that the receipt names", path);
	}
}

static int on_receipt(void *arg, const char *line, size_t n, struct err *e)
{
	struct verifying *v = arg;
	json *o = json_parse(line, n, FILE_MAX, LIMIT_JSON_DEPTH, e);
	const char *step = NULL, *text = NULL, *hmac = NULL;
	int64_t attempt = 0;
	struct err why = ERR_INIT;
	struct receipt rc;
	int i;

	if (!o || json_req_str(o, "receipt", "step_id", &step, &why) < 0 ||
	    json_req_str(o, "receipt", "receipt", &text, &why) < 0 ||
	    json_req_str(o, "receipt", "hmac", &hmac, &why) < 0 ||
	    json_req_int(o, "receipt", "attempt", 1, LIMIT_ATTEMPT, &attempt, &why) < 0) {
		bad(v, "receipts.jsonl: %s", o ? why.msg : "no JSON");
	} else if (receipt_verify(text, hmac, v->key, v->run, v->run, step, (int)attempt, &rc,
	                          &why) < 0) {
		bad(v, "receipt of step '%s': %s", step, why.msg);
	} else {
		v->ret->receipts++;
		buf_printf(v->out, NULL, "ok   receipt of step '%s' attempt %d: %s\n", step,
		           (int)attempt, status_name(rc.status));
		i = step_index(v, step);
		if (i >= 0)
			v->proved[i] = rc.status == STATUS_SUCCESS;
		check_log(v, step, "stdout", &rc.out);
		check_log(v, step, "stderr", &rc.err);
	}
	json_free(o);
	return 0;
}

static void check_artifacts(struct verifying *v)
{
	for (const json *a = json_first(json_get(v->status, "artifacts")); a; a = json_next(a)) {
		const char *path = json_string(json_get(a, "path")),
			   *want = json_string(json_get(a, "sha256"));
		char full[LIMIT_PATH + 64], hex[SHA256_HEX];
		uint64_t size = 0;

		if (!path || !want || !fs_path_is_clean(path)) {
			bad(v, "status.json: a bad artifact entry");
			continue;
		}
		snprintf(full, sizeof(full), "artifacts/%s", path);
		if (digest_file(v->fd, full, &size, hex) < 0)
			bad(v, "%s: %s", full, strerror(errno));
		else if (strcmp(hex, want) != 0)
			bad(v, "%s: not the bytes that came from the sandbox", full);
		else
			v->ret->artifacts++;
	}
}

static void check_steps(struct verifying *v)
{
	int i = 0;

	for (const json *s = json_first(json_get(v->status, "steps")); s; s = json_next(s), i++) {
		const char *status = json_string(json_get(s, "status"));

		v->ret->steps++;
		if (status && strcmp(status, "success") == 0 &&
		    (i >= (int)ARRAY_LEN(v->proved) || !v->proved[i]))
			bad(v, "step '%s' is called successful without a receipt that proves it",
			    json_string(json_get(s, "id")));
	}
}

static int read_receipts(struct verifying *v, struct err *e)
{
	struct buf b;
	struct lines l;
	int r = 0;

	if (faccessat(v->fd, "receipts.jsonl", F_OK, 0) < 0)
		return 0;
	buf_init(&b, FILE_MAX);
	lines_init(&l, FILE_MAX);
	r = fs_read(v->fd, "receipts.jsonl", FILE_MAX, &b, e);
	if (r == 0)
		r = lines_feed(&l, buf_data(&b), buf_len(&b), on_receipt, v, e);
	lines_release(&l);
	buf_release(&b);
	return r;
}

int verify_run(const char *path, const char *key_file, struct verify_result *ret, struct buf *out,
               struct err *e)
{
	struct verifying *v = calloc(1, sizeof(*v));
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint8_t user_key[USER_KEY_LEN];
	struct buf b;
	json *status = NULL;
	int64_t code = 0;
	int r = -1;

	memset(ret, 0, sizeof(*ret));
	buf_init(&b, FILE_MAX);
	if (!v || fd < 0) {
		err_set(e, ERR_NOT_FOUND, errno, "%s", path);
		goto out;
	}
	if (userkey_load(key_file, user_key, e) < 0 ||
	    fs_read(fd, "status.json", FILE_MAX, &b, e) < 0)
		goto out;
	status = json_parse((const char *)buf_data(&b), buf_len(&b), FILE_MAX, LIMIT_JSON_DEPTH, e);
	if (!status || json_req_str(status, "status.json", "run_id", &v->run, e) < 0)
		goto out;
	key_session(user_key, v->run, v->key);
	v->ret = ret;
	v->out = out;
	v->fd = fd;
	v->status = status;
	if (read_receipts(v, e) < 0)
		goto out;
	check_steps(v);
	check_artifacts(v);
	json_opt_int(status, "", "exit_code", 0, 255, &code, NULL);
	ret->ok = !ret->bad && json_is_true(json_get(status, "ok"));
	ret->exit_code = ret->bad ? 7 : (int)code;
	buf_printf(out, NULL, "%s: %d steps, %d receipts, %d artifacts: %s\n", v->run, ret->steps,
	           ret->receipts, ret->artifacts,
	           ret->bad  ? "DOES NOT FIT"
	           : ret->ok ? "proved"
	                     : "everything fits; the run itself was no success");
	r = 0;
out:
	wipe(user_key, sizeof(user_key));
	json_free(status);
	buf_release(&b);
	free(v);
	return r;
}
