/* SPDX-License-Identifier: Apache-2.0
 * The tunnel, with a connection that is made up: it is full at times, and as strict as OpenSSL. */
#include "sdk-wrapper/tunnel.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/limits.h"
#include "tests/unit/check.h"

enum { PIECE = 64 * 1024, TOTAL = 6 * PIECE };

struct http_stream {
	int fds[2];	/* never readable; writable unless stuffed */
	void (*on_ready)(void *user, const struct err *err);
	void *user;
	struct loop_timer timer;
	bool is_full;
	const uint8_t *refused;	/* what the last send that was refused was given */
	size_t refused_len, refusals;
	uint8_t got[TOTAL];
	size_t n;
};

static struct http_stream remote;

static void on_timer(struct loop_timer *t)
{
	(void)t;
	remote.on_ready(remote.user, NULL);
}

struct http_stream *http_stream_open(struct http *h, const char *url, uint32_t connect_ms,
				     void (*on_ready)(void *user, const struct err *err),
				     void *user, struct err *e)
{
	(void)url;
	(void)connect_ms;
	remote = (struct http_stream){ .on_ready = on_ready, .user = user };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, remote.fds) < 0)
		return NULL;
	if (loop_timer_start((struct loop *)h, &remote.timer, 0, on_timer, e) < 0)
		return NULL;
	return &remote;
}

int http_stream_fd(const struct http_stream *s)
{
	return s->fds[0];
}

ssize_t http_stream_recv(struct http_stream *s, void *p, size_t n)
{
	(void)s;
	(void)p;
	(void)n;
	return -EAGAIN;
}

/* As SSL_write: what was begun is to be given again, from the same place on. */
ssize_t http_stream_send(struct http_stream *s, const void *p, size_t n)
{
	if (s->refused && (p != s->refused || n < s->refused_len))
		return -EIO;
	if (s->is_full) {
		s->refused = p;
		s->refused_len = n;
		s->refusals++;
		return -EAGAIN;
	}
	s->refused = NULL;
	if (n > PIECE / 2)	/* not all at once, as other TLS libraries do */
		n = PIECE / 2;
	if (n > sizeof(s->got) - s->n)
		return -EIO;
	memcpy(s->got + s->n, p, n);
	s->n += n;
	return (ssize_t)n;
}

void http_stream_close(struct http_stream *s)
{
	loop_timer_stop(&s->timer);
	close(s->fds[0]);
	close(s->fds[1]);
}

static int local = -1;

static void on_ready(void *user, const char *name, const struct err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	(void)user;
	assert_true(!err && name);
	memcpy(un.sun_path + 1, name + 1, strlen(name) - 1);
	local = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(local >= 0);
	assert_true(connect(local, (struct sockaddr *)&un,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))) == 0);
}

static void passes(struct loop *l, unsigned n)
{
	while (n--)
		assert_true(loop_pass(l, 1, NULL) >= 0);
}

TEST(a_connection_that_was_full_is_given_the_same_bytes_again)
{
	struct loop *l = loop_new(NULL);
	struct tunnel *t = tunnel_open((struct http *)l, l, "https://x", 0, on_ready, NULL, NULL);
	static uint8_t sent[TOTAL];
	size_t given = 0;

	assert_true(l && t);
	for (size_t i = 0; i < TOTAL; i++)
		sent[i] = (uint8_t)(i * 7 + i / 251);
	passes(l, 5);
	remote.is_full = true;
	/* A bit, which is refused; then as much as goes in, while it is tried again and again. */
	for (size_t want = 1000; given < TOTAL; want = 10000) {
		ssize_t n = send(local, sent + given, want < TOTAL - given ? want : TOTAL - given,
				 MSG_NOSIGNAL);

		assert_true(n >= 0 || errno == EAGAIN);
		if (n < 0)	/* the tunnel takes no more */
			remote.is_full = false;
		else
			given += (size_t)n;
		passes(l, 2);
	}
	remote.is_full = false;
	passes(l, 20);
	assert_true(remote.refusals > 0);
	assert_int_equal(remote.n, TOTAL);
	assert_true(memcmp(remote.got, sent, TOTAL) == 0);
	tunnel_close(t);
	loop_free(l);
	close(local);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_that_was_full_is_given_the_same_bytes_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
