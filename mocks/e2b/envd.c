/* SPDX-License-Identifier: Apache-2.0
 *
 * The role envd: its command line, what it is made of, and who answers what. */
#include "mocks/e2b/envd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mocks/e2b/envd_int.h"
#include "mocks/e2b/envd_process.h"
#include "mocks/e2b/envd_watch.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

enum { EXIT_USAGE = 2, TOKEN_MAX = 4096, BACKLOG = 512 };

/* --- what the others ask of the daemon --- */

bool envd_since(const struct envd *d, const char *version)
{
	unsigned a[3] = { 0 }, b[3] = { 0 };

	sscanf(d->version, "%u.%u.%u", &a[0], &a[1], &a[2]);
	sscanf(version, "%u.%u.%u", &b[0], &b[1], &b[2]);
	for (int i = 0; i < 3; i++)
		if (a[i] != b[i])
			return a[i] > b[i];
	return true;
}

const char *envd_getenv(const struct envd *d, const char *name)
{
	size_t n = strlen(name);

	for (char *const *v = d->env; *v; v++)
		if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
			return *v + n + 1;
	return NULL;
}

int envd_setenv(struct envd *d, const char *name, const char *value, struct err *e)
{
	size_t n = strlen(name);
	char *text = NULL;
	int i = 0;

	if (!n || strchr(name, '='))
		return err_set(e, ERR_INVALID_PARAMS, 0, "'%.60s' is no name of a variable", name);
	while (d->env[i] && !(strncmp(d->env[i], name, n) == 0 && d->env[i][n] == '='))
		i++;
	if (i >= ENVD_ENV_MAX)
		return err_set(e, ERR_LIMIT, 0, "more than %d variables", ENVD_ENV_MAX);
	if (asprintf(&text, "%s=%s", name, value) < 0)
		return err_set(e, ERR_NO_MEMORY, 0, "variable '%.60s'", name);
	free(d->env[i]);
	d->env[i] = text;
	return 0;
}

/* --- faults --- */

static const char *const fault_names[] = {
	"process:drop", "process:truncate", "process:stall", "process:no-keepalive",
	"process:start-503", "files:cut", "files:507", "files:hang",
};

static bool wants_bytes(const char *name)
{
	return strstr(name, ":drop") || strstr(name, ":stall") || strstr(name, ":cut");
}

int envd_fault_parse(const char *spec, struct envd_fault *ret, struct err *e)
{
	size_t n = strcspn(spec, "@x");
	const char *p;
	char *end;

	/* "x" stands in no name; but for it, the longest name is taken. */
	for (size_t i = 0; i < ARRAY_LEN(fault_names); i++) {
		if (strlen(fault_names[i]) != n || strncmp(spec, fault_names[i], n) != 0)
			continue;
		*ret = (struct envd_fault){ .left = -1 };
		memcpy(ret->what, spec, n);
		p = spec + n;
		if ((*p == '@') != wants_bytes(fault_names[i]))
			break;
		if (*p == '@') {
			ret->at = strtoull(p + 1, &end, 10);
			p = end == p + 1 ? "?" : end;
		}
		if (*p == 'x') {
			ret->left = strtoll(p + 1, &end, 10);
			p = end == p + 1 || ret->left <= 0 ? "?" : end;
		}
		if (*p)
			break;
		return 0;
	}
	return err_set(e, ERR_USAGE, 0, "--fault '%.80s': no such fault of envd; see --help", spec);
}

bool envd_knows_fault(const char *spec)
{
	struct envd_fault f;

	return envd_fault_parse(spec, &f, NULL) == 0;
}

const struct envd_fault *envd_fault(struct envd *d, const char *what)
{
	for (unsigned i = 0; i < d->n_faults; i++) {
		struct envd_fault *f = &d->faults[i];

		if (strcmp(f->what, what) != 0 || f->left == 0)
			continue;
		if (f->left > 0)
			f->left--;
		return f;
	}
	return NULL;
}

/* --- who answers --- */

static void add_cors(struct http *h)
{
	http_add(h, "Vary", "Origin", NULL);
	if (!http_header(h, "Origin"))
		return;
	http_add(h, "Access-Control-Allow-Origin", "*", NULL);
	http_add(h, "Access-Control-Expose-Headers",
		 "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Location, Cache-Control, "
		 "X-Content-Type-Options", NULL);
}

static bool is_preflight(struct http *h)
{
	const char *method = http_header(h, "Access-Control-Request-Method");
	const char *headers = http_header(h, "Access-Control-Request-Headers");

	if (strcmp(http_method(h), "OPTIONS") != 0 || !method)
		return false;
	http_add(h, "Access-Control-Allow-Methods", method, NULL);
	if (headers)
		http_add(h, "Access-Control-Allow-Headers", headers, NULL);
	http_add(h, "Access-Control-Max-Age", "7200", NULL);
	http_reply(h, 204, NULL, NULL, 0);
	return true;
}

static bool needs_token(const struct http *h)
{
	static const char *const open[] = { "GET/health", "GET/files", "POST/files", "POST/init" };
	char what[32];

	snprintf(what, sizeof(what), "%.8s%.16s", http_method(h), http_path(h));
	for (size_t i = 0; i < ARRAY_LEN(open); i++)
		if (strcmp(what, open[i]) == 0)
			return false;
	return true;
}

static bool is_rpc(const char *path)
{
	return strncmp(path, "/process.Process/", 17) == 0 ||
	       strncmp(path, "/filesystem.Filesystem/", 23) == 0;
}

void envd_on_request(struct http *h, void *envd)
{
	struct envd *d = envd;
	const char *path = http_path(h), *method = http_method(h);

	add_cors(h);
	if (is_preflight(h))
		return;
	if (needs_token(h) && !envd_token_ok(d, h))
		envd_fail(h, 401, "unauthorized access, please provide a valid access token or "
			  "method signing if supported");
	else if (is_rpc(path))
		envd_rpc(d, h);
	else if (strcmp(path, "/files/compose") == 0 && envd_since(d, "0.5.5"))
		envd_compose(d, h);
	else if (strcmp(path, "/files") != 0)
		envd_misc(d, h);
	else if (strcmp(method, "GET") == 0)
		envd_get_files(d, h);
	else if (strcmp(method, "POST") == 0)
		envd_post_files(d, h);
	else
		http_reply(h, 405, NULL, NULL, 0);
}

/* --- the command line --- */

struct options {
	const char *listen;
	int listen_fd, token_fd;
	bool with_parent;
};

static int read_token(struct envd *d, int fd, struct err *e)
{
	char text[TOKEN_MAX];
	size_t n = 0;
	ssize_t r;

	while ((r = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)r;
	if (r < 0)
		return err_set(e, ERR_SYS, errno, "--token-fd %d", fd);
	close(fd);
	text[n] = 0;
	text[strcspn(text, "\r\n")] = 0;
	d->token = strdup(text);
	return d->token ? 0 : err_set(e, ERR_NO_MEMORY, 0, "--token-fd");
}

static int copy_option(const char *name, const char *value, char *to, size_t max, struct err *e)
{
	if (strlen(value) >= max)
		return err_set(e, ERR_USAGE, 0, "%s: more than %zu bytes", name, max - 1);
	memcpy(to, value, strlen(value) + 1);
	return 0;
}

static int set_variable(struct envd *d, const char *text, struct err *e)
{
	char *copy auto_free = strdup(text);
	char *eq = copy ? strchr(copy, '=') : NULL;

	if (!eq)
		return err_set(e, ERR_USAGE, 0, "--env '%.60s': want NAME=VALUE", text);
	*eq = 0;
	return envd_setenv(d, copy, eq + 1, e);
}

static int add_fault(struct envd *d, const char *spec, struct err *e)
{
	if (d->n_faults == ENVD_FAULTS)
		return err_set(e, ERR_USAGE, 0, "--fault: more than %d", ENVD_FAULTS);
	if (envd_fault_parse(spec, &d->faults[d->n_faults], e) < 0)
		return -1;
	d->n_faults++;
	return 0;
}

static int to_fd(const char *name, const char *value, int *ret, struct err *e)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (!*value || *end || n < 0 || n > INT_MAX || fcntl((int)n, F_GETFD) < 0)
		return err_set(e, ERR_USAGE, 0, "%s '%.20s': no open descriptor", name, value);
	*ret = (int)n;
	return 0;
}

static int take_option(struct envd *d, struct options *o, const char *name, const char *value,
		       struct err *e)
{
	if (strcmp(name, "--listen") == 0)
		o->listen = value;
	else if (strcmp(name, "--listen-fd") == 0)
		return to_fd(name, value, &o->listen_fd, e);
	else if (strcmp(name, "--token-fd") == 0)
		return to_fd(name, value, &o->token_fd, e);
	else if (strcmp(name, "--token") == 0)
		return (d->token = strdup(value)) ? 0 : err_set(e, ERR_NO_MEMORY, 0, "--token");
	else if (strcmp(name, "--envd-version") == 0)
		return copy_option(name, value, d->version, sizeof(d->version), e);
	else if (strcmp(name, "--default-user") == 0)
		return copy_option(name, value, d->default_user, sizeof(d->default_user), e);
	else if (strcmp(name, "--default-workdir") == 0)
		return copy_option(name, value, d->default_workdir, sizeof(d->default_workdir), e);
	else if (strcmp(name, "--passwd") == 0)
		d->passwd = value;
	else if (strcmp(name, "--env") == 0)
		return set_variable(d, value, e);
	else if (strcmp(name, "--fault") == 0)
		return add_fault(d, value, e);
	else
		return err_set(e, ERR_USAGE, 0, "'%.80s' is no option of the role envd", name);
	return 0;
}

static int options_parse(struct envd *d, struct options *o, int argc, char **argv, struct err *e)
{
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--with-parent") == 0) {
			o->with_parent = true;
			continue;
		}
		if (i + 1 >= argc)
			return err_set(e, ERR_USAGE, 0, "%s wants a value", argv[i]);
		if (take_option(d, o, argv[i], argv[i + 1], e) < 0)
			return -1;
		i++;
	}
	/* Before 0.4.0 a request had to name its user. */
	if (!*d->default_user && envd_since(d, "0.4.0"))
		memcpy(d->default_user, "user", 5);
	return o->token_fd >= 0 ? read_token(d, o->token_fd, e) : 0;
}

/* --- running --- */

static int listen_on(const char *text, struct err *e)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	const char *colon = strrchr(text, ':');
	char host[64];
	char *end = NULL;
	long port = colon ? strtol(colon + 1, &end, 10) : -1;
	int one = 1, fd;

	snprintf(host, sizeof(host), "%.*s", colon ? (int)(colon - text) : 0, text);
	if (port < 0 || port > 65535 || *end || inet_pton(AF_INET, host, &a.sin_addr) != 1)
		return err_set(e, ERR_USAGE, 0, "--listen '%.80s': want IPV4:PORT", text);
	a.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	err_set(e, ERR_SYS, errno, "listen on %s", text);
	close_fd(&fd);
	return -1;
}

static void say_ready(int fd)
{
	struct sockaddr_in a = { 0 };
	socklen_t len = sizeof(a);
	char host[64] = "?";

	getsockname(fd, (struct sockaddr *)&a, &len);
	inet_ntop(AF_INET, &a.sin_addr, host, sizeof(host));
	printf("ready %s:%u\n", host, ntohs(a.sin_port));
	fflush(stdout);
}

/* Many sandboxes' worth of pipes; what is started gets the old bound back. */
static void raise_fd_limit(struct envd *d)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &d->fd_limit) < 0)
		return;
	lim = d->fd_limit;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

static bool over;

static void on_end(struct loop_signal *s __attribute__((unused)))
{
	over = true;
}

static void on_parent(struct loop_io *io, unsigned got __attribute__((unused)))
{
	char scrap[512];
	ssize_t n = read(io->fd, scrap, sizeof(scrap));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		over = true;
}

static struct loop_signal term, intr;
static struct loop_io parent;

static int start(struct envd *d, const struct options *o, struct err *e)
{
	struct http_server_options so = { .connections = ENVD_CONNECTIONS, .idle_s = ENVD_IDLE_S,
					  .on_request = envd_on_request, .arg = d };

	signal(SIGPIPE, SIG_IGN);
	raise_fd_limit(d);
	prctl(PR_SET_CHILD_SUBREAPER, 1);	/* what processes leave behind ends with us */
	d->loop = loop_new(e);
	if (!d->loop || loop_signal_start(d->loop, &term, SIGTERM, on_end, e) < 0 ||
	    loop_signal_start(d->loop, &intr, SIGINT, on_end, e) < 0)
		return -1;
	if (o->with_parent &&
	    loop_io_start(d->loop, &parent, STDIN_FILENO, LOOP_IN, on_parent, e) < 0)
		return -1;
	d->procs = procs_new(d, e);
	d->watchers = d->procs ? watchers_new(d, e) : NULL;
	if (!d->watchers)
		return -1;
	so.listen_fd = o->listen_fd >= 0 ? o->listen_fd : listen_on(o->listen, e);
	if (so.listen_fd < 0)
		return -1;
	fcntl(so.listen_fd, F_SETFD, FD_CLOEXEC);
	fcntl(so.listen_fd, F_SETFL, O_NONBLOCK);
	d->server = http_server_new(d->loop, &so, e);
	if (!d->server)
		return -1;
	say_ready(so.listen_fd);
	return 0;
}

static void stop(struct envd *d)
{
	http_server_free(d->server);
	watchers_free(d->watchers);
	procs_free(d->procs);
	loop_signal_stop(&term);
	loop_signal_stop(&intr);
	loop_io_stop(&parent);
	loop_free(d->loop);
	for (char **v = d->env; *v; v++)
		free(*v);
	free(d->token);
}

int envd_main(int argc, char **argv)
{
	static struct envd d = { .version = ENVD_VERSION, .passwd = "/etc/passwd" };
	struct options o = { .listen = "0.0.0.0:49983", .listen_fd = -1, .token_fd = -1 };
	struct err e = ERR_INIT;
	int r;

	log_open(STDERR_FILENO, LOG_INFO, false, "envd");
	r = envd_setenv(&d, "E2B_SANDBOX", "true", &e);
	if (r == 0)
		r = options_parse(&d, &o, argc, argv, &e);
	if (r == 0)
		r = start(&d, &o, &e);
	if (r < 0)
		fprintf(stderr, "farstep-mock-e2b: envd: %s\n", e.msg);
	while (r >= 0 && !over)
		if (loop_pass(d.loop, -1, &e) < 0) {
			log_error("%s", e.msg);
			break;
		}
	stop(&d);
	return r < 0 ? EXIT_USAGE : 0;
}
