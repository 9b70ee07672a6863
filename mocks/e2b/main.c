/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep-mock-e2b - an E2B cloud on loopback, with real processes in real sandboxes.
 *
 * One binary, three roles: the cloud; "door", process 1 of each sandbox; "envd", its daemon. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mocks/e2b/cloud.h"
#include "mocks/e2b/door.h"
#include "mocks/e2b/envd.h"
#include "mocks/e2b/front.h"
#include "mocks/e2b/options.h"
#include "mocks/e2b/sandbox.h"
#include "mocks/e2b/template.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "protocol/base/version.h"

enum { EXIT_USAGE = 2 };

struct program {
	struct cloud cloud;
	struct http_server *server;
	struct loop_signal term, intr;
	struct loop_io parent;
	char url[64];
	int lock_fd;		/* of the root; -1: none */
	bool root_is_ours;
	bool over;
};

static struct program program = { .lock_fd = -1, .cloud.log_fd = -1 };

/* --- the end --- */

static void on_signal(struct loop_signal *s __attribute__((unused)))
{
	program.over = true;
}

static void on_parent(struct loop_io *io, unsigned got __attribute__((unused)))
{
	char scrap[512];
	ssize_t n = read(io->fd, scrap, sizeof(scrap));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		program.over = true;
}

static int watch_the_end(const struct options *o, struct err *e)
{
	struct loop *l = program.cloud.loop;

	signal(SIGPIPE, SIG_IGN);
	if (loop_signal_start(l, &program.term, SIGTERM, on_signal, e) < 0 ||
	    loop_signal_start(l, &program.intr, SIGINT, on_signal, e) < 0)
		return -1;
	return o->with_parent
		       ? loop_io_start(l, &program.parent, STDIN_FILENO, LOOP_IN, on_parent, e)
		       : 0;
}

/* --- the root --- */

/* What one that was killed left behind. */
static int clear_root(struct err *e)
{
	auto_closedir DIR *d = opendir(program.cloud.root);
	struct dirent *ent;
	char id[SANDBOX_ID_MAX];

	if (!d)
		return err_set(e, ERR_SYS, errno, "%s", program.cloud.root);
	while ((ent = readdir(d)))
		if (ent->d_name[0] == 'i' && strlen(ent->d_name) == 21 &&
		    sandbox_id_parse(ent->d_name, id) &&
		    fs_remove_tree(dirfd(d), ent->d_name, e) < 0)
			return err_wrap(e, "left by another one");
	return 0;
}

static int lock_root(struct err *e)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/lock", program.cloud.root);
	program.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (program.lock_fd < 0)
		return err_set(e, ERR_SYS, errno, "%s", path);
	if (flock(program.lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, ERR_BUSY, 0, "--root %s: another farstep-mock-e2b has it",
			       program.cloud.root);
	return 0;
}

static int open_root(const struct options *o, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	char *real;

	if (o->root) {
		if (fs_mkdirs(AT_FDCWD, o->root, 0700, e) < 0)
			return -1;
		real = realpath(o->root, NULL);
		if (!real)
			return err_set(e, ERR_SYS, errno, "--root '%.120s'", o->root);
		if (strlen(real) >= sizeof(program.cloud.root)) {
			free(real);
			return err_set(e, ERR_USAGE, 0, "--root '%.120s': path too long", o->root);
		}
		snprintf(program.cloud.root, sizeof(program.cloud.root), "%s", real);
		free(real);
		return lock_root(e) < 0 ? -1 : clear_root(e);
	}
	snprintf(program.cloud.root, sizeof(program.cloud.root), "%.200s/farstep-mock-e2b-XXXXXX",
		 tmp && *tmp == '/' ? tmp : "/tmp");
	if (!mkdtemp(program.cloud.root))
		return err_set(e, ERR_SYS, errno, "%s", program.cloud.root);
	program.root_is_ours = true;
	return 0;
}

static void close_root(void)
{
	char path[300];

	if (program.root_is_ours) {
		rmdir(program.cloud.root);
	} else if (program.lock_fd >= 0) {
		snprintf(path, sizeof(path), "%s/lock", program.cloud.root);
		unlink(path);
	}
	close_fd(&program.lock_fd);
}

/* --- the beginning --- */

static int listen_on(const struct sockaddr_in *at, struct err *e)
{
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in real = *at;
	socklen_t len = sizeof(real);
	char host[INET_ADDRSTRLEN] = "";
	int on = 1;

	inet_ntop(AF_INET, &at->sin_addr, host, sizeof(host));
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, 512) < 0 ||
	    getsockname(fd, (struct sockaddr *)&real, &len) < 0)
		return err_set(e, ERR_SYS, errno, "cannot listen on %s:%u", host,
			       ntohs(at->sin_port));
	snprintf(program.url, sizeof(program.url), "http://%s:%u", host, ntohs(real.sin_port));
	return take_fd(&fd);
}

static int open_log(const struct options *o, struct err *e)
{
	if (!o->log)
		return 0;
	program.cloud.log_fd = open(o->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return program.cloud.log_fd < 0 ? err_set(e, ERR_SYS, errno, "--log '%.120s'", o->log) : 0;
}

static int start(const struct options *o, struct err *e)
{
	struct cloud *c = &program.cloud;
	int fd;

	c->o = o;
	c->faults = o->faults;
	box_users_find(&c->users);
	c->loop = loop_new(e);
	if (!c->loop || random_bytes(c->key, sizeof(c->key), e) < 0 || open_root(o, e) < 0 ||
	    open_log(o, e) < 0 || templates_start(c, e) < 0 || watch_the_end(o, e) < 0)
		return -1;
	fd = listen_on(&o->listen, e);
	if (fd < 0)
		return -1;
	program.server = front_start(c, fd, e);
	return program.server ? 0 : -1;
}

static void say_ready(const struct options *o)
{
	printf("ready %s\n", program.url);
	if (o->print_env) {
		const char *port = strrchr(program.url, ':') + 1;

		printf("E2B_API_KEY=%s\nE2B_API_URL=%s\n", o->api_key, program.url);
		printf("E2B_SANDBOX_URL=%s\nE2B_DOMAIN=localhost:%s\n", program.url, port);
	}
	fflush(stdout);
}

static void stop(void)
{
	struct cloud *c = &program.cloud;

	sandboxes_end(c);
	front_end(program.server);
	templates_free(c);
	loop_signal_stop(&program.term);
	loop_signal_stop(&program.intr);
	loop_io_stop(&program.parent);
	if (c->root[0])
		close_root();
	close_fd(&c->log_fd);
	loop_free(c->loop);
}

static int run(const struct options *o, struct err *e)
{
	int r = start(o, e);

	if (r == 0)
		say_ready(o);
	while (r >= 0 && !program.over) {
		r = loop_pass(program.cloud.loop, -1, e);
		front_reap();
		sandboxes_reap(&program.cloud);
	}
	stop();
	return r < 0 ? -1 : 0;
}

/* --role ROLE, which only this program itself is started with; -1: none. */
static int run_role(int argc, char **argv)
{
	if (argc < 3 || strcmp(argv[1], "--role") != 0)
		return -1;
	if (strcmp(argv[2], "envd") == 0)
		return envd_main(argc - 3, argv + 3);
	if (strcmp(argv[2], "door") == 0 && argc > 4)
		return door_main(argv + 4);	/* behind "--" */
	fprintf(stderr, "farstep-mock-e2b: '--role %s' is no role\n", argv[2]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static struct options o;
	const char *level = getenv("FARSTEP_LOG_LEVEL");
	enum log_level log_level = LOG_INFO;
	struct err e = ERR_INIT;
	int r = run_role(argc, argv);

	if (r >= 0)
		return r;
	if (options_parse(&o, argc, argv, &e) < 0) {
		fprintf(stderr, "farstep-mock-e2b: %s\n", e.msg);
		return EXIT_USAGE;
	}
	if (o.help) {
		options_usage();
		return 0;
	}
	if (o.version) {
		printf("farstep-mock-e2b %s (%s)\n", farstep_version(), farstep_build());
		return 0;
	}
	if (level)
		log_level_parse(level, &log_level);
	log_open(STDERR_FILENO, log_level, false, "farstep-mock-e2b");
	if (run(&o, &e) < 0) {
		fprintf(stderr, "farstep-mock-e2b: %s\n", e.msg);
		return EXIT_USAGE;
	}
	return 0;
}
