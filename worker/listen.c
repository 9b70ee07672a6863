/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"

#define BACKLOG 128

union address {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

static int parse_port(const char *text, struct err *e)
{
	char *end;
	long port = strtol(text, &end, 10);

	if (end == text || *end || port < 0 || port > 65535)
		return err_set(e, ERR_USAGE, 0, "'%s' is no port (0 to 65535)", text);
	return (int)port;
}

static int parse(const char *text, union address *a, socklen_t *len, struct err *e)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	int port;

	memset(a, 0, sizeof(*a));
	if (strncmp(text, "unix:", 5) == 0) {
		if (!text[5] || strlen(text + 5) >= sizeof(a->un.sun_path))
			return err_set(e, ERR_USAGE, 0,
			               "unix socket path '%s': want 1 to %zu bytes", text + 5,
			               sizeof(a->un.sun_path) - 1);
		a->un.sun_family = AF_UNIX;
		strncpy(a->un.sun_path, text + 5, sizeof(a->un.sun_path) - 1);
		*len = sizeof(a->un);
		return 0;
	}
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return err_set(e, ERR_USAGE, 0,
		               "'%s': want unix:PATH or HOST:PORT with a numeric host", text);
	port = parse_port(colon + 1, e);
	if (port < 0)
		return -1;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (inet_pton(AF_INET, host, &a->in4.sin_addr) == 1) {
		a->in4.sin_family = AF_INET;
		a->in4.sin_port = htons((uint16_t)port);
		*len = sizeof(a->in4);
		return 0;
	}
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		memmove(host, host + 1, strlen(host));
		host[strlen(host) - 1] = 0;
	}
	if (inet_pton(AF_INET6, host, &a->in6.sin6_addr) != 1)
		return err_set(e, ERR_USAGE, 0, "'%s' is no numeric address", host);
	a->in6.sin6_family = AF_INET6;
	a->in6.sin6_port = htons((uint16_t)port);
	*len = sizeof(a->in6);
	return 0;
}

/* A file that nobody listens on is what a dead process left: bind would refuse it for ever. */
static int clear_stale(const union address *a, socklen_t len, struct err *e)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "socket");
	if (connect(fd, &a->any, len) == 0)
		return err_set(e, ERR_EXISTS, 0, "%s: another process listens there",
		               a->un.sun_path);
	if (errno == ECONNREFUSED)
		unlink(a->un.sun_path);
	return 0;
}

int listen_open(const char *address, struct err *e)
{
	union address a;
	socklen_t len;
	auto_close int fd = -1;
	mode_t mask;
	int on = 1, r;

	if (parse(address, &a, &len, e) < 0)
		return -1;
	if (a.any.sa_family == AF_UNIX && clear_stale(&a, len, e) < 0)
		return -1;
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "socket");
	if (a.any.sa_family != AF_UNIX) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		/* Connections have it from here: small answers must not wait for an ACK. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	mask = umask(077);
	r = bind(fd, &a.any, len);
	umask(mask);
	if (r < 0 || listen(fd, BACKLOG) < 0)
		return err_set(e, ERR_SYS, errno, "cannot listen on %s", address);
	return take_fd(&fd);
}

void listen_unlink(const char *address)
{
	if (address && strncmp(address, "unix:", 5) == 0)
		unlink(address + 5);
}

int listen_health(const char *address, struct err *e)
{
	static const char ask[] =
		"GET /healthz HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n";
	const struct timeval wait = { 2, 0 };
	union address a;
	socklen_t len;
	auto_close int fd = -1;
	char got[16] = "";
	size_t n = 0;
	ssize_t r = 1;

	if (parse(address, &a, &len, e) < 0)
		return -1;
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, ERR_SYS, errno, "socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, &a.any, len) < 0)
		return err_set(e, ERR_SYS, errno, "cannot connect to %s", address);
	if (fs_write_all(fd, ask, sizeof(ask) - 1, e) < 0)
		return -1;
	while (n < 12 && (r = read(fd, got + n, 12 - n)) > 0)
		n += (size_t)r;
	if (n < 12 || memcmp(got + 8, " 200", 4) != 0)
		return err_set(e, ERR_STATE, 0, "%s: no healthy answer within 2 s", address);
	return 0;
}
