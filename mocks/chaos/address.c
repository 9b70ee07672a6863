/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/chaos/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

static int parse_unix(const char *path, struct address *ret, struct err *e)
{
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(ret->un.sun_path))
		return err_set(e, ERR_USAGE, 0, "'unix:%.120s': want a path of 1 to %zu bytes",
			       path, sizeof(ret->un.sun_path) - 1);
	memset(ret, 0, sizeof(*ret));
	ret->un.sun_family = AF_UNIX;
	memcpy(ret->un.sun_path, path, n + 1);
	ret->len = sizeof(ret->un);
	return 0;
}

static int look_up(const char *text, const char *host, const char *port, struct address *ret,
		   struct err *e)
{
	struct addrinfo want = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	int r = getaddrinfo(host, port, &want, &found);

	if (r != 0)
		return err_set(e, ERR_USAGE, 0, "'%s': %s", text, gai_strerror(r));
	memset(ret, 0, sizeof(*ret));
	memcpy(&ret->any, found->ai_addr, found->ai_addrlen);
	ret->len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int address_parse(const char *text, struct address *ret, struct err *e)
{
	const char *colon = strrchr(text, ':');
	const char *from = text;
	char host[128];
	size_t n;

	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, ret, e);
	n = colon ? (size_t)(colon - text) : 0;
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']')
		from++, n -= 2;
	if (n == 0 || n >= sizeof(host) || !colon[1] ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return err_set(e, ERR_USAGE, 0, "'%.120s': want HOST:PORT or unix:PATH", text);
	memcpy(host, from, n);
	host[n] = 0;
	return look_up(text, host, colon + 1, ret, e);
}

static void print(const struct address *a, char text[ADDRESS_TEXT])
{
	char host[INET6_ADDRSTRLEN] = "";

	switch (a->any.sa_family) {
	case AF_UNIX:
		snprintf(text, ADDRESS_TEXT, "unix:%s", a->un.sun_path);
		break;
	case AF_INET:
		inet_ntop(AF_INET, &a->in4.sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(a->in4.sin_port));
		break;
	default:
		inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, ntohs(a->in6.sin6_port));
	}
}

static int new_socket(const struct address *a)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd >= 0 && a->any.sa_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void unlink_stale(const struct address *a)
{
	auto_close int fd = a->any.sa_family == AF_UNIX ? new_socket(a) : -1;

	if (fd >= 0 && connect(fd, &a->any, a->len) < 0 && errno == ECONNREFUSED)
		address_unlink(a);
}

int address_listen(const struct address *a, char text[ADDRESS_TEXT], struct err *e)
{
	struct address real = *a;
	auto_close int fd = new_socket(a);
	int on = 1;

	print(a, text);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "socket");
	unlink_stale(a);
	if (a->any.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, &a->any, a->len) < 0 || listen(fd, 128) < 0)
		return err_set(e, ERR_SYS, errno, "cannot listen on %s", text);
	if (a->any.sa_family != AF_UNIX && getsockname(fd, &real.any, &real.len) == 0)
		print(&real, text);
	return take_fd(&fd);
}

int address_connect(const struct address *a)
{
	auto_close int fd = new_socket(a);

	if (fd < 0 || (connect(fd, &a->any, a->len) < 0 && errno != EINPROGRESS))
		return -1;
	return take_fd(&fd);
}

void address_unlink(const struct address *a)
{
	if (a->any.sa_family == AF_UNIX)
		unlink(a->un.sun_path);
}
