/* SPDX-License-Identifier: Apache-2.0
 *
 * envd - the daemon in an E2B sandbox: files, and calls that are one request.
 *
 * Processes are in envd_process.h, large files in envd_put.h.  A call goes on until it
 * succeeds, fails for good, or its deadline passes; then on_done comes, once, from the loop. */
#ifndef FARSTEP_SDK_ENVD_H
#define FARSTEP_SDK_ENVD_H

#include "protocol/base/loop.h"
#include "sdk-wrapper/e2b_env.h"
#include "sdk-wrapper/e2b_wire.h"
#include "sdk-wrapper/failure.h"
#include "sdk-wrapper/http.h"
#include "sdk-wrapper/retry.h"

struct envd;
struct envd_call;

struct envd_result {
	const struct failure *failure;	/* NULL: success */
	const json *answer;	/* of a call whose answer is JSON */
	uint64_t bytes;		/* of a read: how many came */
};

struct envd_end {
	uint32_t deadline_ms;
	void (*on_done)(void *user, const struct envd_result *r);	/* all borrowed */
	void *user;
};

/* user: whose files and processes; NULL: the template's ("user" with an envd before 0.4.0).
 * Copies all but loop and http. */
struct envd *envd_new(struct loop *l, struct http *h, const struct e2b_env *env,
		      const struct e2b_sandbox *sandbox, const char *user, struct err *e);
void envd_free(struct envd *d);	/* forgets calls under way */
void envd_cancel(struct envd_call *c);	/* NULL is fine */
const char *envd_version(const struct envd *d);

/* NULL: it could not be prepared.  Strings are copied. */

/* Is it there?  The failure says whether the sandbox is gone. */
struct envd_call *envd_health(struct envd *d, const struct envd_end *end, struct err *e);

/* One unary call: "filesystem.Filesystem/Stat" with a JSON message.  RETRY_CREATE: once only. */
struct envd_call *envd_rpc(struct envd *d, const char *method, const char *message,
			   enum retry_kind kind, const struct envd_end *end, struct err *e);
/* POST /files/compose: parts become one file, and are gone.  Once only. */
struct envd_call *envd_compose(struct envd *d, const char *const *sources, size_t n,
			       const char *destination, const struct envd_end *end, struct err *e);

/* A file to be: len bytes of fd from at on. */
struct envd_file {
	const char *path;
	int fd;
	uint64_t at, len;
};

/* All of them in one request (multipart, which every version knows).  Not atomic: after a
 * failure each may be there, whole or in part. */
struct envd_call *envd_upload(struct envd *d, const struct envd_file *files, size_t n,
			      const struct envd_end *end, struct err *e);
/* One, as it is (0.5.7 and later); not atomic either. */
struct envd_call *envd_upload_raw(struct envd *d, const struct envd_file *file,
				  const struct envd_end *end, struct err *e);

/* len bytes (0: all) of a file from `from` on, as they come; goes on where it was when the
 * connection breaks.  Nothing is there any more behind its end: that is success with 0 bytes. */
struct envd_call *envd_read(struct envd *d, const char *path, uint64_t from, uint64_t len,
			    int (*on_data)(void *user, const uint8_t *p, size_t n),
			    const struct envd_end *end, struct err *e);

/* For envd_process.c: what every request is sent with. */
enum { ENVD_HEADERS = 12, ENVD_HEADER_TEXT = 400 };
struct envd_headers {
	const char *list[ENVD_HEADERS];
	size_t n;
	char text[ENVD_HEADERS][ENVD_HEADER_TEXT];
};
void envd_headers(const struct envd *d, bool rpc, struct envd_headers *ret);
void envd_header(struct envd_headers *h, const char *fmt, ...) PRINTF_LIKE(2, 3);
int envd_url(const struct envd *d, const char *path, struct buf *out, struct err *e);
struct loop *envd_loop(const struct envd *d);
struct http *envd_http(const struct envd *d);

#endif
