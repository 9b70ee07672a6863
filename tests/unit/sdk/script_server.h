/* SPDX-License-Identifier: Apache-2.0
 *
 * script_server - an HTTP server in a child process that answers from a script, and remembers
 * what it was asked.
 *
 * A step is used once, by the first request whose first line begins with it. */
#ifndef FARSTEP_TESTS_SCRIPT_SERVER_H
#define FARSTEP_TESTS_SCRIPT_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/check.h"

enum { SCRIPT_MAX = 40, ASKED_MAX = 60, ASKED_TEXT = 8192 };

#define CUT    "cut"     /* reads the request, closes */
#define HANG   "hang"    /* reads the request, says nothing for long */
#define SHORT  "short\n" /* the answer behind it, then closes: shorter than its Content-Length */
/* An envelope for each line; "=..." is the last one, "~" waits 100 ms, "!" stays open and silent.
 * Chunked, in chunks that end anywhere. */
#define STREAM "stream\n"

struct script_step {
	const char *request; /* "POST /v2/sandboxes " */
	const char *answer;  /* raw, or CUT, or HANG, or STREAM */
};

/* Shared with the child. */
struct script {
	struct script_step steps[SCRIPT_MAX];
	atomic_int used[SCRIPT_MAX];
	atomic_int n_asked;
	struct {
		char text[ASKED_TEXT]; /* head and what fits of the body */
		uint64_t body_len;
	} asked[ASKED_MAX];
};

static struct script *script;
static int script_port;
static pid_t script_pid;

#define JSON_ANSWER(status, headers, body) \
	"HTTP/1.1 " status " x\r\nContent-Type: application/json\r\n" headers "\r\n" body

static inline void script_send(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		p += sent;
		n -= (size_t)sent;
	}
}

static inline bool script_read_head(int fd, char *text)
{
	size_t n = 0;

	while (n + 1 < ASKED_TEXT && recv(fd, text + n, 1, 0) == 1) {
		text[++n] = 0;
		if (n >= 4 && strcmp(text + n - 4, "\r\n\r\n") == 0)
			return true;
	}
	return false;
}

static inline void script_read_body(int fd, int slot)
{
	static char block[65536];
	char *text = script->asked[slot].text;
	const char *p = strcasestr(text, "\r\ncontent-length:");
	uint64_t len = p ? strtoull(p + 17, NULL, 10) : 0, done = 0;
	size_t at = strlen(text);

	while (done < len) {
		ssize_t n = recv(fd, block, sizeof(block), 0);

		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n && at + 1 < ASKED_TEXT; i++)
			text[at++] = block[i];
		done += (uint64_t)n;
	}
	text[at] = 0;
	script->asked[slot].body_len = done;
}

/* Answers with a length, unless they say one, by closing: so it puts one in. */
static inline bool script_answer(int fd, const struct script_step *s)
{
	size_t len = strlen(s->answer);
	const char *body = memmem(s->answer, len, "\r\n\r\n", 4);
	char head[512];

	if (!body || strcasestr(s->answer, "\r\ntransfer-encoding") ||
	    strcasestr(s->answer, "\r\ncontent-length")) {
		script_send(fd, s->answer, len);
		return true;
	}
	body += 4;
	snprintf(head, sizeof(head), "%.*s\r\nContent-Length: %zu\r\n\r\n",
	         (int)(body - 4 - s->answer), s->answer, len - (size_t)(body - s->answer));
	script_send(fd, head, strlen(head));
	script_send(fd, body, len - (size_t)(body - s->answer));
	return true;
}

/* In chunks of 3 bytes, so that no border of a message is one of a chunk. */
static inline void script_chunks(int fd, const char *p, size_t n)
{
	while (n) {
		size_t part = n < 3 ? n : 3;
		char chunk[16];
		int head = snprintf(chunk, sizeof(chunk), "%zx\r\n", part);

		memcpy(chunk + head, p, part);
		memcpy(chunk + head + part, "\r\n", 2);
		script_send(fd, chunk, (size_t)head + part + 2);
		p += part;
		n -= part;
	}
}

static inline bool script_stream(int fd, const char *p)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/connect+json\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n";
	char envelope[4096];

	script_send(fd, head, strlen(head));
	for (; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		size_t n = strcspn(p, "\n"), skip = *p == '=';

		if (*p == '~' || *p == '!') {
			nanosleep(
				&(struct timespec){ *p == '!' ? 3 : 0, *p == '!' ? 0 : 100000000 },
				NULL);
			continue;
		}
		envelope[0] = skip ? 2 : 0;
		for (int i = 0; i < 4; i++)
			envelope[1 + i] = (char)((n - skip) >> (24 - 8 * i));
		memcpy(envelope + 5, p + skip, n - skip);
		script_chunks(fd, envelope, 5 + n - skip);
		if (skip) {
			script_send(fd, "0\r\n\r\n", 5);
			return true;
		}
	}
	return false;
}

static inline bool script_serve_one(int fd, int slot)
{
	static const char none[] = "HTTP/1.1 599 not in the script\r\nContent-Length: 0\r\n\r\n";

	for (int i = 0; i < SCRIPT_MAX && script->steps[i].request; i++) {
		const struct script_step *s = &script->steps[i];
		int unused = 0;

		if (strncmp(script->asked[slot].text, s->request, strlen(s->request)) != 0 ||
		    !atomic_compare_exchange_strong(&script->used[i], &unused, 1))
			continue;
		if (strcmp(s->answer, CUT) == 0)
			return false;
		if (strcmp(s->answer, HANG) == 0) {
			nanosleep(&(struct timespec){ 3, 0 }, NULL);
			return false;
		}
		if (strncmp(s->answer, SHORT, strlen(SHORT)) == 0) {
			script_send(fd, s->answer + strlen(SHORT),
			            strlen(s->answer + strlen(SHORT)));
			return false;
		}
		if (strncmp(s->answer, STREAM, strlen(STREAM)) == 0)
			return script_stream(fd, s->answer + strlen(STREAM));
		return script_answer(fd, s);
	}
	script_send(fd, none, strlen(none));
	return true;
}

static inline void script_serve(int listener)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), slot;
		char head[ASKED_TEXT];

		if (fd < 0 || fork() != 0) {
			close(fd);
			continue;
		}
		while (script_read_head(fd, head)) {
			slot = atomic_fetch_add(&script->n_asked, 1);
			if (slot >= ASKED_MAX)
				_exit(0);
			memcpy(script->asked[slot].text, head, sizeof(head));
			script_read_body(fd, slot);
			if (!script_serve_one(fd, slot))
				_exit(0);
		}
		_exit(0);
	}
}

/* For cmocka_run_group_tests.  The script is shared memory; its texts are constants of the
 * program, which the child has as well, as it is forked anew for each script. */
static inline void script_stop(void)
{
	if (script_pid > 0) {
		kill(script_pid, SIGKILL);
		waitpid(script_pid, NULL, 0);
	}
	script_pid = 0;
	if (script)
		munmap(script, sizeof(*script));
	script = NULL;
}

static inline void script_start(const struct script_step *steps, size_t n)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	script_stop();
	assert_true(n < SCRIPT_MAX);
	script = mmap(NULL, sizeof(*script), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	assert_ptr_not_equal(script, MAP_FAILED);
	memcpy(script->steps, steps, n * sizeof(*steps));
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	script_port = ntohs(in.sin_port);
	script_pid = fork();
	if (script_pid == 0)
		script_serve(fd);
	close(fd);
}

#define SCRIPT(...)                                                  \
	do {                                                         \
		const struct script_step steps_[] = { __VA_ARGS__ }; \
		script_start(steps_, ARRAY_LEN(steps_));             \
	} while (0)

/* How many requests began so. */
static inline int script_count(const char *request)
{
	int n = 0;

	for (int i = 0; i < atomic_load(&script->n_asked); i++)
		n += strncmp(script->asked[i].text, request, strlen(request)) == 0;
	return n;
}

/* The nth (from 0) request that began so; NULL. */
static inline const char *script_asked(const char *request, int nth)
{
	for (int i = 0; i < atomic_load(&script->n_asked); i++)
		if (strncmp(script->asked[i].text, request, strlen(request)) == 0 && nth-- == 0)
			return script->asked[i].text;
	return NULL;
}

#endif
