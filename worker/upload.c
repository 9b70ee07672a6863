/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "worker/self.h"

#define REPORT_MAX 600
#define DONE_MAX   4096

struct upload {
	struct session *s;
	char sha256[SHA256_HEX];
	uint64_t size;
	int fd; /* package.part */
	struct hash hash;
	bool unhashed; /* some of it came before us: the helper sums it up */
	bool by_path;  /* it was a file */
	struct stream_in in;
	struct conn *conn;
	struct reply *reply;
	pid_t helper; /* unpacking */
	int report_fd;
	bool done;
	uint64_t files, bytes; /* of the unpacked tree */
	struct err failed;     /* why it was refused; code 0: it was not */
};

static struct upload *upload_new(struct session *s)
{
	struct upload *u = calloc(1, sizeof(*u));

	if (u) {
		u->s = s;
		u->fd = u->report_fd = -1;
		hash_init(&u->hash);
	}
	return u;
}

void upload_free(struct upload *u)
{
	if (!u)
		return;
	if (u->helper > 0)
		kill(u->helper, SIGKILL);
	if (u->conn)
		conn_unbind(u->conn, u->in.channel);
	reply_error(u->reply, &(struct err){ .code = ERR_CANCELLED, .msg = "the session ended" },
	            NULL);
	close_fd(&u->fd);
	close_fd(&u->report_fd);
	free(u);
}

static void answer(struct upload *u)
{
	struct reply *r = u->reply;
	char text[96];

	u->reply = NULL;
	if (u->failed.code)
		reply_error(r, &u->failed, NULL);
	else
		reply_result(r, text,
		             (size_t)snprintf(
				     text, sizeof(text), "{\"files\":%llu,\"bytes\":\"%llu\"}",
				     (unsigned long long)u->files, (unsigned long long)u->bytes));
}

/* ---- unpacking ---- */

/* What is left of it on disk, for a worker that comes after us. */
static int write_done(struct upload *u, struct err *e)
{
	char text[256];
	int n = snprintf(text, sizeof(text),
	                 "{\"sha256\":\"%s\",\"size\":\"%llu\",\"files\":%llu,\"bytes\":\"%llu\"}",
	                 u->sha256, (unsigned long long)u->size, (unsigned long long)u->files,
	                 (unsigned long long)u->bytes);

	return fs_write(u->s->dir_fd, "package.json", text, (size_t)n, 0600, false, e);
}

static void read_report(struct upload *u, int status)
{
	char report[REPORT_MAX + 1];
	ssize_t n = read(u->report_fd, report, REPORT_MAX);
	unsigned long long files, bytes;
	char *space;

	close_fd(&u->report_fd);
	report[n > 0 ? n : 0] = 0;
	report[strcspn(report, "\n")] = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
	    sscanf(report, "ok %llu %llu", &files, &bytes) == 2) {
		u->files = files;
		u->bytes = bytes;
		u->done = true;
		if (write_done(u, &u->failed) == 0)
			u->failed.code = ERR_NONE;
		return;
	}
	space = strchr(report, ' ');
	if (space)
		*space++ = 0;
	if (space && err_by_name(report) != ERR_INTERNAL)
		err_set(&u->failed, err_by_name(report), 0, "%s%s",
		        strncmp(space, "package: ", 9) == 0 ? "" : "package: ", space);
	else
		err_set(&u->failed, ERR_INTEGRITY, 0,
		        "package: the unpacking helper ended by %s %d",
		        WIFSIGNALED(status) ? "signal" : "code",
		        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

bool upload_on_child(struct worker *w, pid_t pid, int status)
{
	for (struct session *s = w->sessions; s; s = s->next) {
		struct upload *u = s->upload;

		if (!u || u->helper != pid)
			continue;
		u->helper = 0;
		read_report(u, status);
		unlinkat(s->dir_fd, "package.part", 0);
		close_fd(&u->fd);
		log_info("session %s: package %s", s->id,
		         u->failed.code ? u->failed.msg : "unpacked");
		answer(u);
		return true;
	}
	return false;
}

/* The helper finds: 3 the archive, 4 the session's directory, 5 where its report goes. */
static int start_helper(struct upload *u, struct err *e)
{
	char *const argv[] = { (char *)"farstep-worker",
		               (char *)"--role",
		               (char *)"unpack",
		               (char *)"3",
		               (char *)"4",
		               (char *)"work",
		               u->unhashed ? u->sha256 : NULL,
		               NULL };
	int report[2], fds[3];

	if (pipe2(report, O_CLOEXEC) < 0)
		return err_set(e, ERR_SYS, errno, "pipe");
	u->report_fd = report[0];
	if (lseek(u->fd, 0, SEEK_SET) < 0) {
		close(report[1]);
		return err_set(e, ERR_SYS, errno, "package.part");
	}
	fds[0] = u->fd;
	fds[1] = u->s->dir_fd;
	fds[2] = report[1];
	u->helper = self_spawn(u->s->w->self_fd, argv, fds, 3, e);
	close(report[1]);
	return u->helper < 0 ? -1 : 0;
}

static void complete(struct upload *u)
{
	char got[SHA256_HEX];

	hash_hex(&u->hash, got);
	if (!u->unhashed && strcmp(got, u->sha256) != 0)
		err_set(&u->failed, ERR_INTEGRITY, 0,
		        "package: the bytes received have another SHA-256 than announced");
	else if (start_helper(u, &u->failed) == 0)
		return;
	answer(u);
}

/* ---- receiving ---- */

static void grant(struct upload *u, bool force)
{
	uint64_t limit;

	if (u->conn && stream_in_grant(&u->in, force, &limit))
		carrier_send_window(u->conn->carrier, u->in.channel, u->in.durable, limit, NULL);
}

static void on_channel(void *owner, const struct frame *f)
{
	struct upload *u = owner;
	struct err e = ERR_INIT;

	if (f->kind != FRAME_DATA || stream_in_data(&u->in, f, &e) < 0) {
		if (!e.code)
			err_set(&e, ERR_PROTO, 0, "package: want DATA frames");
		conn_fail(u->conn, &e);
		return;
	}
	if (u->in.next > u->size || (u->in.ended && u->in.next != u->size)) {
		err_set(&u->failed, ERR_INTEGRITY, 0,
		        "package: %llu bytes came, %llu were announced",
		        (unsigned long long)u->in.next, (unsigned long long)u->size);
		answer(u);
		return;
	}
	if (fs_write_all(u->fd, f->payload, f->len, &u->failed) < 0) {
		err_wrap(&u->failed, "package");
		answer(u);
		return;
	}
	hash_update(&u->hash, f->payload, f->len);
	u->in.durable = u->in.next;
	if (u->in.ended)
		complete(u);
	else
		grant(u, false);
}

static void on_gone(void *owner, uint32_t channel)
{
	struct upload *u = owner;

	(void)channel;
	u->conn = NULL;
	stream_in_unbind(&u->in);
}

static int open_part(struct upload *u, struct err *e)
{
	struct stat st;

	u->fd = openat(u->s->dir_fd, "package.part", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
	               0600);
	if (u->fd < 0 || fstat(u->fd, &st) < 0 || lseek(u->fd, 0, SEEK_END) < 0)
		return err_set(e, ERR_SYS, errno, "package.part");
	u->unhashed = st.st_size > 0;
	u->in.next = u->in.durable = (uint64_t)st.st_size;
	return 0;
}

/* A file that was brought here by other means than this protocol becomes ours, if it is whole. */
static int take_file(struct session *s, const char *path, uint64_t size, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_SYS, errno,
		               "package: %.200s", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return err_set(e, ERR_INTEGRITY, 0,
		               "package: %.200s: want a file of %llu bytes, it has %llu", path,
		               (unsigned long long)size, (unsigned long long)st.st_size);
	if (renameat(AT_FDCWD, path, s->dir_fd, "package.part") < 0)
		return err_set(e, ERR_SYS, errno, "package: %.200s", path);
	return 0;
}

struct upload *upload_recover(struct session *s)
{
	struct buf b;
	json *v = NULL;
	struct upload *u = NULL;
	const char *sha = NULL;
	int64_t files = 0;

	buf_init(&b, DONE_MAX);
	if (fs_read(s->dir_fd, "package.json", DONE_MAX, &b, NULL) == 0)
		v = json_parse((const char *)buf_data(&b), buf_len(&b), DONE_MAX, LIMIT_JSON_DEPTH,
		               NULL);
	if (v && json_req_str(v, "package", "sha256", &sha, NULL) == 0 &&
	    strlen(sha) == SHA256_HEX - 1 && (u = upload_new(s))) {
		strcpy(u->sha256, sha); /* lint-ok: 64 digits */
		json_opt_u64(v, "package", "size", &u->size, NULL);
		json_opt_u64(v, "package", "bytes", &u->bytes, NULL);
		json_opt_int(v, "package", "files", 0, LIMIT_ENTRIES, &files, NULL);
		u->files = (uint64_t)files;
		u->done = true;
	}
	json_free(v);
	buf_release(&b);
	return u;
}

static int begin(struct session *s, const char *sha, uint64_t size, const char *path, struct err *e)
{
	struct upload *u;

	if (path && take_file(s, path, size, e) < 0)
		return -1;
	u = upload_new(s);
	if (!u)
		return err_set(e, ERR_NO_MEMORY, 0, "package");
	u->by_path = path != NULL;
	strcpy(u->sha256, sha); /* lint-ok: 64 digits */
	u->size = size;
	if (open_part(u, e) < 0) {
		upload_free(u);
		return -1;
	}
	s->upload = u;
	return 0;
}

void upload_load(struct session *s, struct conn *c, const json *params, struct reply *r)
{
	struct err e = ERR_INIT;
	const char *sha = NULL;
	uint64_t size = 0;
	int64_t channel = 0;
	const char *path = NULL;
	struct upload *u;

	if (json_req_str(params, "params", "sha256", &sha, &e) < 0 ||
	    json_req_u64(params, "params", "size", &size, &e) < 0 ||
	    json_opt_str(params, "params", "path", &path, &e) < 0 ||
	    (!path &&
	     json_req_int(params, "params", "channel", 1, UINT32_MAX, &channel, &e) < 0))
		goto refuse;
	if (strlen(sha) != SHA256_HEX - 1 || size == 0 || size > (uint64_t)LIMIT_PACKAGE) {
		err_set(&e, ERR_INVALID_PARAMS, 0,
		        "params: want sha256 of 64 digits and size of 1 to %lld", LIMIT_PACKAGE);
		goto refuse;
	}
	if (path && *path != '/') {
		err_set(&e, ERR_INVALID_PARAMS, 0, "params.path: want an absolute path");
		goto refuse;
	}
	/* What was wrong with a file says nothing of what comes by a channel. */
	if (s->upload && s->upload->by_path && s->upload->failed.code && !path) {
		upload_free(s->upload);
		s->upload = NULL;
	}
	if (!s->upload && begin(s, sha, size, path, &e) < 0)
		goto refuse;
	u = s->upload;
	if (strcmp(u->sha256, sha) != 0) {
		err_set(&e, ERR_CONFLICT, 0, "the session has another package");
		goto refuse;
	}
	if (u->reply)
		reply_error(
			u->reply,
			&(struct err){ .code = ERR_REPLACED, .msg = "another request took over" },
			NULL);
	u->reply = r;
	if (u->done || u->failed.code) {
		answer(u);
		return;
	}
	if (u->helper > 0)
		return;
	if (u->in.next == u->size) { /* a file, or all of it came before the worker was replaced */
		complete(u);
		return;
	}
	if (path) {
		err_set(&e, ERR_CONFLICT, 0, "params.path: a part came by a channel");
		u->reply = NULL;
		goto refuse;
	}
	if (u->conn)
		conn_unbind(u->conn, u->in.channel);
	u->conn = NULL;
	if (conn_bind(c, &(struct channel){ (uint32_t)channel, u, on_channel, on_gone }, &e) < 0) {
		u->reply = NULL;
		goto refuse;
	}
	u->conn = c;
	stream_in_bind(&u->in, (uint32_t)channel, u->in.next, WINDOW_UPLOAD);
	grant(u, true);
	return;
refuse:
	reply_error(r, &e, NULL);
}
