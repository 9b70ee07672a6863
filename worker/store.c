/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/store.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

int store_send(int sock, enum store_type type, const char *name, const void *data, size_t n, int fd,
               struct err *e)
{
	uint8_t t = (uint8_t)type;
	struct iovec iov[3] = { { &t, 1 },
		                { (void *)(uintptr_t)name, name ? strlen(name) + 1 : 0 },
		                { (void *)(uintptr_t)data, n } };
	union control control;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 3 };
	ssize_t sent;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(int));
	}
	do
		sent = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return err_set(e, ERR_SYS, errno, "store: send '%c' %s", type, name ? name : "");
	return 0;
}

/* How many descriptors came; the first into *fd, the others are closed. */
static size_t take_descriptors(struct msghdr *m, int *fd)
{
	size_t n = 0;
	int one;

	*fd = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			memcpy(&one, (uint8_t *)c + at, sizeof(int));
			if (n++ == 0)
				*fd = one;
			else
				close(one);
		}
	}
	return n;
}

static int split(uint8_t *buf, size_t n, struct store_message *ret, struct err *e)
{
	const uint8_t *end;

	ret->type = (enum store_type)buf[0];
	ret->name = "";
	ret->data = buf + 1;
	ret->len = n - 1;
	if (ret->type != STORE_PUT && ret->type != STORE_DEL)
		return 1;
	end = memchr(buf + 1, 0, n - 1);
	if (!end || end - (buf + 1) > STORE_NAME_MAX)
		return err_set(e, ERR_PROTO, 0, "store: a message without a name");
	ret->name = (const char *)buf + 1;
	ret->data = end + 1;
	ret->len = (size_t)(buf + n - ret->data);
	return 1;
}

int store_receive(int sock, uint8_t *buf, size_t size, bool wait, struct store_message *ret,
                  struct err *e)
{
	struct iovec iov = { buf, size };
	union control control;
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = &control,
		            .msg_controllen = sizeof(control) };
	ssize_t n;
	size_t n_fds;
	int r;

	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0)
		return err_set(e, ERR_LOST, n < 0 ? errno : 0, "store: the other end is gone");
	n_fds = take_descriptors(&m, &ret->fd);
	if (n_fds > 1)
		r = err_set(e, ERR_PROTO, 0, "store: more than one descriptor in a message");
	else if (m.msg_flags & MSG_TRUNC)
		r = err_set(e, ERR_LIMIT, 0, "store: a message over %zu bytes", size);
	else
		r = split(buf, (size_t)n, ret, e);
	if (r < 0 && ret->fd >= 0) {
		close(ret->fd);
		ret->fd = -1;
	}
	return r;
}
