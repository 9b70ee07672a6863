/* SPDX-License-Identifier: Apache-2.0
 *
 * The providers of this machine with this very program in the worker's place: called with
 * --listen it listens, and does as the file "mode" beside its root says. */
#include "tests/unit/check.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "protocol/base/cleanup.h"
#include "sdk-wrapper/process.h"
#include "sdk-wrapper/provider.h"

#define TOKEN "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* --- in the worker's place --- */

static const char *option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	_exit(100);
}

static void file_beside(const char *root, const char *name, char path[512])
{
	snprintf(path, 512, "%s/../%s", root, name);
}

static int listen_at(const char *address)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + strlen("unix:"));
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, 8) < 0)
		_exit(111);
	return fd;
}

static bool can_read(const char *path)
{
	char c;
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, &c, 1) == 1;
}

static bool can_write(const char *dir)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/.farstep-test", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return unlink(path) == 0;
}

/* One word for each thing that is not as it should be in a sandbox; "canary" holds paths
 * outside of it. */
static void probe(const char *root, FILE *out)
{
	char path[512], canary[600];
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *f;

	if (getpid() != 1)
		fprintf(out, "not-process-1 ");
	if (can_read("/etc/shadow") || can_read("/etc/gshadow-") ||
	    can_read("/etc/ssh/sshd_config"))
		fprintf(out, "shadow ");
	if (can_write("/usr") || can_write("/etc") || can_write("/etc/ssl/private") ||
	    can_write("/"))
		fprintf(out, "writable ");
	if (!can_write("/tmp") || !can_write("/var/tmp") || !can_write("/home") || !can_write(root))
		fprintf(out, "not-writable ");
	if (mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL) == 0)
		fprintf(out, "remount ");
	if (!can_read("/etc/passwd") || !can_read("/bin/sh"))
		fprintf(out, "no-system ");
	in.sin_addr.s_addr = htonl(0xc0000201);	/* 192.0.2.1 is nobody's */
	if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0 || errno != ENETUNREACH)
		fprintf(out, "network ");
	close(fd);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || getenv("FARSTEP_TEST_SECRET"))
		fprintf(out, "privileges-or-environment ");
	file_beside(root, "canary", path);
	f = fopen(path, "re");
	while (f && fgets(canary, sizeof(canary), f)) {
		canary[strcspn(canary, "\n")] = 0;
		if (access(canary, F_OK) == 0)
			fprintf(out, "sees:%s ", canary);
	}
	if (f)
		fclose(f);
}

static void on_term(int sig __attribute__((unused)))
{
	_exit(0);
}

/* Something that does not end by itself, in a session of its own. */
static void spawn_stray(void)
{
	if (fork() == 0) {
		setsid();
		if (fork() == 0) {
			signal(SIGTERM, SIG_IGN);
			prctl(PR_SET_NAME, "stray");
			alarm(60);
			for (;;)
				pause();
		}
		_exit(0);
	}
	wait(NULL);
}

static int worker(int argc, char **argv)
{
	const char *root = option(argc, argv, "--root");
	char path[512], final[512], mode[32] = "";
	FILE *f;

	file_beside(root, "mode", path);
	f = fopen(path, "re");
	if (f && !fgets(mode, sizeof(mode), f))
		mode[0] = 0;
	signal(SIGTERM, strcmp(mode, "deaf") == 0 ? SIG_IGN : on_term);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGALRM, on_term);	/* process 1 has no default action */
	alarm(60);	/* outlives no failed test */
	if (strcmp(mode, "die") == 0)
		return 3;
	if (strcmp(mode, "deaf") == 0)
		spawn_stray();
	fprintf(stderr, "worker %s %s %s\n", option(argc, argv, "--sandbox-id"),
		option(argc, argv, "--lease"), option(argc, argv, "--token-sha256"));
	if (strcmp(mode, "mute") != 0)
		listen_at(option(argc, argv, "--listen"));
	if (strcmp(mode, "probe") == 0) {
		const char *socket = option(argc, argv, "--listen") + strlen("unix:");
		FILE *report;

		/* The provider takes it out of reach before anything can run here. */
		for (int i = 0; i < 5000 && access(socket, F_OK) == 0; i++)
			usleep(1000);

		file_beside(root, "report.tmp", path);
		report = fopen(path, "we");
		probe(root, report);
		fclose(report);
		file_beside(root, "report", final);
		rename(path, final);
	}
	for (;;)
		pause();
}

/* --- the tests --- */

struct world {
	struct temp_dir dir;
	char self[PATH_MAX], state_dir[400], socket_dir[400], log[400];
	struct sandbox_spec spec;
	struct sandbox s;
	struct err e;
	int log_fd;
};

static void world_release(struct world *w)
{
	if (w->s.provider[0])
		provider_find(w->s.provider, NULL)->destroy(&w->s, 2000, NULL);
	close_fd(&w->log_fd);
	temp_dir_release(&w->dir);
}

static void world_init(struct world *w)
{
	ssize_t n;

	*w = (struct world){ .dir = temp_dir() };
	n = readlink("/proc/self/exe", w->self, sizeof(w->self) - 1);
	assert_true(n > 0);
	w->self[n] = 0;
	snprintf(w->state_dir, sizeof(w->state_dir), "%s/state", w->dir.path);
	snprintf(w->socket_dir, sizeof(w->socket_dir), "%s/s", w->dir.path);
	snprintf(w->log, sizeof(w->log), "%s/log", w->dir.path);
	w->log_fd = open(w->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	w->spec = (struct sandbox_spec){
		.run = "r-1", .key_id = "k", .worker_path = w->self, .token_sha256 = TOKEN,
		.state_dir = w->state_dir, .socket_dir = w->socket_dir, .lease_ms = 1234,
		.log_fd = w->log_fd,
	};
	assert_ok(fs_mkdirs(w->dir.fd, "state", 0700, &w->e), &w->e);
}
#define WORLD(w) struct world w CLEANUP(world_release); world_init(&w)

static void state_file(struct world *w, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "state/%s", name);
	assert_ok(fs_write(w->dir.fd, path, text, strlen(text), 0644, false, &w->e), &w->e);
}

static bool exists(const struct world *w, const char *path)
{
	return faccessat(w->dir.fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int connect_to(const struct sandbox *s)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->address + strlen("unix:"));
	return connect(fd, (struct sockaddr *)&un, sizeof(un));
}

static void await_connect(const struct sandbox *s)
{
	for (int i = 0; i < 5000 && connect_to(s) < 0; i++)
		usleep(1000);
	assert_int_equal(connect_to(s), 0);
}

/* Does bubblewrap work on this machine at all? */
static bool no_bwrap(void)
{
	return system("bwrap --unshare-all --ro-bind / / true 2>/dev/null") != 0;
}

static void wait_gone(pid_t pid)
{
	struct process_info i;

	for (int n = 0; n < 2000 && process_info(pid, &i) && i.state != 'Z'; n++)
		usleep(1000);
	assert_false(process_info(pid, &i) && i.state != 'Z');
}

TEST(targets_are_found_by_name)
{
	struct err e;

	assert_ptr_equal(provider_find("local", &e), &provider_local);
	assert_ptr_equal(provider_find("native", &e), &provider_native);
	assert_null(provider_find("docker", &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_string_equal(e.msg, "target 'docker' is not built yet: want local, native or e2b");
	assert_null(provider_find("lokal", &e));
	assert_int_equal(e.code, ERR_USAGE);
	assert_string_equal(e.msg, "no target 'lokal': want local, native or e2b");
}

TEST(a_sandbox_survives_the_journal)
{
	struct sandbox s = { .provider = "local", .id = "local-r-1", .address = "unix:/x/w.sock",
			     .state_dir = "/state", .run = "r", .network = true, .pid = 4711,
			     .pid_start = UINT64_C(1) << 60 },
		       got;
	struct buf text CLEANUP(buf_release);
	auto_json json *v = NULL;
	struct err e;

	buf_init(&text, 4096);
	assert_ok(sandbox_print(&s, &text, &e), &e);
	assert_string_equal(
		buf_cstr(&text, &e),
		"{\"provider\":\"local\",\"id\":\"local-r-1\",\"address\":\"unix:/x/w.sock\","
		"\"state_dir\":\"/state\",\"pid\":4711,\"pid_start\":\"1152921504606846976\","
		"\"run\":\"r\",\"network\":true}");
	v = json_parse(buf_cstr(&text, &e), buf_len(&text), 4096, 8, &e);
	assert_ok(sandbox_parse(v, &got, &e), &e);
	assert_string_equal(got.provider, s.provider);
	assert_string_equal(got.id, s.id);
	assert_string_equal(got.address, s.address);
	assert_string_equal(got.state_dir, s.state_dir);
	assert_int_equal(got.pid, s.pid);
	assert_true(got.pid_start == s.pid_start);
	assert_string_equal(got.run, "r");
	assert_true(got.network);
}

TEST(an_id_says_the_target)
{
	assert_string_equal(provider_of_id("local-20261102t101112-3f9a1c07-0badcafe"), "local");
	assert_string_equal(provider_of_id("native-r-1"), "native");
	assert_string_equal(provider_of_id("ikxm3p9a1c07"), "e2b");
	assert_string_equal(provider_of_id("locality"), "e2b");
}

TEST(a_sandbox_that_does_not_fit_is_refused)
{
	char text[400];
	auto_json json *v = NULL;
	struct sandbox got;
	struct err e;

	snprintf(text, sizeof(text),
		 "{\"provider\":\"%0100d\",\"id\":\"\",\"address\":\"\",\"state_dir\":\"\"}", 0);
	v = json_parse(text, strlen(text), 4096, 8, &e);
	assert_fails(sandbox_parse(v, &got, &e), &e, ERR_INVALID_PARAMS,
		     "sandbox.provider: longer than 15 bytes");
}

TEST(what_a_target_cannot_do_is_refused_by_name)
{
	WORLD(w);
	char long_dir[200];

	w.spec.template_name = "cuda12";
	assert_fails(provider_local.check(&w.spec, &w.e), &w.e, ERR_UNSUPPORTED,
		     "target 'local' has no templates (--template cuda12)");
	assert_fails(provider_native.create(NULL, &w.spec, &w.s, &w.e), &w.e, ERR_UNSUPPORTED,
		     "target 'native' has no templates (--template cuda12)");
	w.spec.template_name = NULL;
	w.spec.worker_path = "/no/such/worker";
	assert_fails(provider_native.check(&w.spec, &w.e), &w.e, ERR_PROVIDER,
		     "worker program '/no/such/worker': No such file or directory");
	w.spec.worker_path = w.self;
	snprintf(long_dir, sizeof(long_dir), "/%0110d", 0);
	w.spec.socket_dir = long_dir;
	assert_int_equal(provider_local.check(&w.spec, &w.e), -1);
	assert_int_equal(w.e.code, ERR_LIMIT);
	w.spec.socket_dir = w.socket_dir;
	w.spec.token_sha256 = "12";
	assert_int_equal(provider_local.check(&w.spec, &w.e), -1);
	memset(&w.s, 0, sizeof(w.s));
}

TEST(the_description_is_the_command)
{
	WORLD(w);
	struct buf text CLEANUP(buf_release);
	const char *got;

	buf_init(&text, 1 << 20);
	assert_ok(provider_local.describe(&w.spec, &text, &w.e), &w.e);
	got = buf_cstr(&text, &w.e);
	assert_non_null(strstr(got, "{\"provider\":\"local\",\"argv\":[\"bwrap\",\"--unshare-all\","
				    "\"--cap-drop\",\"ALL\""));
	assert_non_null(strstr(got, "\"--ro-bind\",\"/usr\",\"/usr\""));
	assert_non_null(strstr(got, "\"/etc/shadow\""));
	assert_null(strstr(got, "--die-with-parent"));
	assert_null(strstr(got, "--share-net"));
	buf_reset(&text);
	w.spec.network = true;
	assert_ok(provider_local.describe(&w.spec, &text, &w.e), &w.e);
	assert_non_null(strstr(buf_cstr(&text, &w.e), "\"--share-net\""));
	buf_reset(&text);
	assert_ok(provider_native.describe(&w.spec, &text, &w.e), &w.e);
	assert_non_null(strstr(buf_cstr(&text, &w.e), "/state/root\""));
	assert_false(exists(&w, "s"));
}

/* What create, state and destroy promise, on either target. */
static void life(const struct provider *p)
{
	WORLD(w);
	struct buf log CLEANUP(buf_release);
	char want[300];

	buf_init(&log, 4096);
	assert_ok(p->create(NULL, &w.spec, &w.s, &w.e), &w.e);
	assert_string_equal(w.s.provider, p->name);
	snprintf(want, sizeof(want), "%s-r-1-", p->name);
	assert_memory_equal(w.s.id, want, strlen(want));
	assert_string_equal(w.s.state_dir, w.state_dir);
	await_connect(&w.s);
	assert_int_equal(p->state(&w.s), SANDBOX_RUNNING);
	assert_ok(p->destroy(&w.s, 5000, &w.e), &w.e);
	wait_gone(w.s.pid);
	assert_int_equal(p->state(&w.s), SANDBOX_GONE);
	assert_false(exists(&w, "state"));
	assert_false(exists(&w, "s/w.sock"));
	assert_false(exists(&w, "s/box"));
	assert_ok(p->destroy(&w.s, 5000, &w.e), &w.e);
	assert_ok(fs_read(AT_FDCWD, w.log, 4096, &log, &w.e), &w.e);
	snprintf(want, sizeof(want), "worker %s 1234 %s\n", w.s.id, TOKEN);
	assert_string_equal(buf_cstr(&log, &w.e), want);
}

TEST(a_native_sandbox_lives_and_ends_without_a_trace)
{
	life(&provider_native);
}

TEST(a_local_sandbox_lives_and_ends_without_a_trace)
{
	if (no_bwrap())
		skip();
	life(&provider_local);
}

/* Has a living process of this name? */
static bool has_descendant_named(pid_t pid, const char *name, pid_t *ret)
{
	pid_t pids[64];
	size_t n = process_descendants(pid, pids, 64);
	struct process_info i;

	for (size_t k = 0; k < n && k < 64; k++)
		if (process_info(pids[k], &i) && strcmp(i.name, name) == 0) {
			*ret = pids[k];
			return true;
		}
	return false;
}

static void deaf(const struct provider *p)
{
	WORLD(w);
	pid_t stray = 0;

	state_file(&w, "mode", "deaf");
	assert_ok(p->create(NULL, &w.spec, &w.s, &w.e), &w.e);
	await_connect(&w.s);
	for (int i = 0; i < 1000 && !has_descendant_named(w.s.pid, "stray", &stray); i++)
		usleep(1000);
	assert_true(stray > 0);
	assert_ok(p->destroy(&w.s, 5000, &w.e), &w.e);
	wait_gone(w.s.pid);
	wait_gone(stray);
	assert_false(exists(&w, "state"));
}

TEST(a_native_worker_that_does_not_listen_to_signals_is_ended_with_its_strays)
{
	deaf(&provider_native);
}

TEST(a_local_worker_that_does_not_listen_to_signals_is_ended_with_its_strays)
{
	if (no_bwrap())
		skip();
	deaf(&provider_local);
}

/* The creator is gone: another process finds it in the journal and ends it. */
static void heir(const struct provider *p)
{
	WORLD(w);
	struct sandbox s;
	int pipe_fd[2], status;
	pid_t pid;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct err e;
		int r = p->create(NULL, &w.spec, &s, &e);

		(void)!write(pipe_fd[1], &s, sizeof(s));
		kill(getpid(), r == 0 ? SIGKILL : SIGABRT);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(read(pipe_fd[0], &s, sizeof(s)), sizeof(s));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	await_connect(&s);
	assert_int_equal(p->state(&s), SANDBOX_RUNNING);
	assert_ok(p->destroy(&s, 5000, &w.e), &w.e);
	wait_gone(s.pid);
	assert_false(exists(&w, "state"));
}

TEST(a_native_sandbox_survives_its_creator_and_another_ends_it)
{
	heir(&provider_native);
}

TEST(a_local_sandbox_survives_its_creator_and_another_ends_it)
{
	if (no_bwrap())
		skip();
	heir(&provider_local);
}

TEST(another_process_with_the_same_pid_is_left_alone)
{
	WORLD(w);
	struct sandbox s = { .provider = "native", .pid_start = 1 };
	int status;

	s.pid = fork();
	if (s.pid == 0)
		for (;;)
			pause();
	snprintf(s.state_dir, sizeof(s.state_dir), "%s", w.state_dir);
	assert_int_equal(provider_native.state(&s), SANDBOX_GONE);
	assert_ok(provider_native.destroy(&s, 1000, &w.e), &w.e);
	assert_ok(provider_local.destroy(&s, 1000, &w.e), &w.e);
	assert_int_equal(waitpid(s.pid, &status, WNOHANG), 0);
	kill(s.pid, SIGKILL);
	waitpid(s.pid, &status, 0);
	s.pid = 0;
	assert_int_equal(provider_native.state(&s), SANDBOX_NONE);
}

TEST(a_journal_that_names_a_top_directory_removes_nothing)
{
	struct sandbox s = { .provider = "native", .state_dir = "/no-such-top" };
	struct err e;

	assert_fails(provider_native.destroy(&s, 100, &e), &e, ERR_STATE,
		     "'/no-such-top': not removed");
}

TEST(a_worker_that_cannot_be_started_is_an_error_and_leaves_nothing)
{
	WORLD(w);
	char path[400];

	assert_ok(fs_write(w.dir.fd, "not-a-program", "#!/no/such\n", 11, 0755, false, &w.e), &w.e);
	snprintf(path, sizeof(path), "%s/not-a-program", w.dir.path);
	w.spec.worker_path = path;
	memset(&w.e, 0, sizeof(w.e));
	assert_int_equal(provider_native.create(NULL, &w.spec, &w.s, &w.e), -1);
	assert_int_equal(w.e.code, ERR_PROVIDER);
	assert_non_null(strstr(w.e.msg, "cannot start the worker: "));
	assert_non_null(strstr(w.e.msg, "No such file or directory"));
	assert_false(exists(&w, "state"));
	if (no_bwrap())
		return;
	assert_int_equal(provider_local.create(NULL, &w.spec, &w.s, &w.e), -1);
	assert_int_equal(w.e.code, ERR_PROVIDER);
	assert_non_null(strstr(
		w.e.msg, "bubblewrap: execvp /run/farstep/worker: No such file or directory"));
	assert_false(exists(&w, "state"));
	assert_false(exists(&w, "s/box"));
}

TEST(a_local_worker_that_dies_at_once_is_an_error)
{
	WORLD(w);

	if (no_bwrap())
		skip();
	state_file(&w, "mode", "die");
	assert_fails(provider_local.create(NULL, &w.spec, &w.s, &w.e), &w.e, ERR_PROVIDER,
		     "target 'local': the worker ended before it listened; see its log");
	assert_false(exists(&w, "state"));
}

TEST(without_bubblewrap_the_error_says_what_to_install)
{
	WORLD(w);
	const char *path = getenv("PATH");
	auto_free char *before = path ? strdup(path) : NULL;

	setenv("PATH", w.dir.path, 1);
	memset(&w.e, 0, sizeof(w.e));
	assert_int_equal(provider_local.create(NULL, &w.spec, &w.s, &w.e), -1);
	if (before)
		setenv("PATH", before, 1);
	assert_int_equal(w.e.code, ERR_PROVIDER);
	assert_int_equal(err_exit(w.e.code), 3);
	assert_non_null(strstr(w.e.msg, "apt install bubblewrap"));
	assert_false(exists(&w, "s"));
}

/* Else bwrap dies of the pipe, and the child that it has by then waits for it for ever. */
TEST(bubblewrap_outlives_a_proxy_that_is_killed_before_it_was_told_the_pid)
{
	WORLD(w);
	static const char script[] = "#!/bin/sh\nd=${0%/*}\ncat <&4 >/dev/null\n: >$d/started\n"
				     "until [ -e $d/dead ]; do sleep 0.01; done\n"
				     "printf . >&3 && : >$d/told\n";
	char bin[400];
	pid_t pid;

	assert_ok(fs_mkdirs(w.dir.fd, "bin", 0755, &w.e), &w.e);
	assert_ok(fs_write(w.dir.fd, "bin/bwrap", script, strlen(script), 0755, false, &w.e), &w.e);
	snprintf(bin, sizeof(bin), "%s/bin", w.dir.path);
	pid = fork();
	if (pid == 0) {
		setenv("PATH", bin, 1);
		provider_local.create(NULL, &w.spec, &w.s, &w.e);
		_exit(0);
	}
	for (int i = 0; i < 5000 && !exists(&w, "bin/started"); i++)
		usleep(1000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_ok(fs_write(w.dir.fd, "bin/dead", "", 0, 0600, false, &w.e), &w.e);
	for (int i = 0; i < 5000 && !exists(&w, "bin/told"); i++)
		usleep(1000);
	assert_true(exists(&w, "bin/told"));
}

TEST(what_bubblewrap_says_is_in_the_error)
{
	WORLD(w);
	const char *path = getenv("PATH");
	auto_free char *before = path ? strdup(path) : NULL;
	static const char script[] =
		"#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n";

	assert_ok(fs_mkdirs(w.dir.fd, "bin", 0755, &w.e), &w.e);
	assert_ok(fs_write(w.dir.fd, "bin/bwrap", script, strlen(script), 0755, false, &w.e), &w.e);
	{
		char bin[400];

		snprintf(bin, sizeof(bin), "%s/bin", w.dir.path);
		setenv("PATH", bin, 1);
	}
	memset(&w.e, 0, sizeof(w.e));
	w.spec.log_fd = -1;
	assert_int_equal(provider_local.create(NULL, &w.spec, &w.s, &w.e), -1);
	if (before)
		setenv("PATH", before, 1);
	assert_int_equal(w.e.code, ERR_PROVIDER);
	assert_non_null(strstr(w.e.msg, "bubblewrap: No permissions to create new namespace; "));
	assert_false(exists(&w, "state"));
	assert_false(exists(&w, "s/box"));
}

static void assert_probe(struct world *w, const char *want)
{
	struct buf report CLEANUP(buf_release);
	const char *got;

	buf_init(&report, 4096);
	state_file(w, "mode", "probe");
	setenv("FARSTEP_TEST_SECRET", "x", 1);
	assert_ok(provider_local.create(NULL, &w->spec, &w->s, &w->e), &w->e);
	unsetenv("FARSTEP_TEST_SECRET");
	for (int i = 0; i < 5000 && !exists(w, "state/report"); i++)
		usleep(1000);
	assert_ok(fs_read(w->dir.fd, "state/report", 4096, &report, &w->e), &w->e);
	got = buf_cstr(&report, &w->e);
	assert_string_equal(got, want);
}

TEST(a_local_sandbox_reaches_nothing_of_this_machine)
{
	WORLD(w);
	char canary[2000];

	if (no_bwrap())
		skip();
	assert_ok(fs_mkdirs(w.dir.fd, "s", 0700, &w.e), &w.e);
	assert_ok(fs_write(w.dir.fd, "s/other.sock", "x", 1, 0644, false, &w.e), &w.e);
	snprintf(
		canary, sizeof(canary),
		"%s\n/proc/%d\n/run/farstep/sock/w.sock\n/run/farstep/sock/other.sock\n/root/.ssh\n"
		"/etc/sudoers.d/README\n/var/lib\n/run/systemd\n/sys/kernel\n/dev/kmsg\n",
		w.log, (int)getpid() > 100 ? (int)getpid() : 99999999);
	state_file(&w, "canary", canary);
	assert_probe(&w, "");
	assert_true(exists(&w, "s/w.sock"));
	assert_false(exists(&w, "s/box"));
}

TEST(the_network_is_there_when_asked_for)
{
	WORLD(w);

	if (no_bwrap())
		skip();
	w.spec.network = true;
	state_file(&w, "canary", "/etc/shadow-of-nobody\n");
	/* an address of nobody: refused, timed out or, without any network here, unreachable */
	w.spec.lease_ms = 1234;
	assert_ok(provider_local.create(NULL, &w.spec, &w.s, &w.e), &w.e);
	{
		char ours[64], theirs[64], path[64];
		ssize_t a, b;

		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)w.s.pid);
		a = readlink("/proc/self/ns/net", ours, sizeof(ours));
		b = readlink(path, theirs, sizeof(theirs));
		assert_true(a > 0);
		if (b > 0)	/* not ours to see, if we are no root */
			assert_memory_equal(ours, theirs, (size_t)a);
	}
}

TEST(a_process_name_with_parentheses_is_no_riddle)
{
	struct process_info i;

	prctl(PR_SET_NAME, "a) R 1 (b");
	assert_true(process_info(getpid(), &i));
	assert_string_equal(i.name, "a) R 1 (b");
	assert_int_equal(i.parent, getppid());
	assert_int_equal(i.state, 'R');
	assert_true(process_alive(getpid(), i.start));
	assert_false(process_alive(getpid(), i.start + 1));
	assert_false(process_info(0, &i));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(targets_are_found_by_name),
		cmocka_unit_test(a_sandbox_survives_the_journal),
		cmocka_unit_test(an_id_says_the_target),
		cmocka_unit_test(a_sandbox_that_does_not_fit_is_refused),
		cmocka_unit_test(what_a_target_cannot_do_is_refused_by_name),
		cmocka_unit_test(the_description_is_the_command),
		cmocka_unit_test(a_native_sandbox_lives_and_ends_without_a_trace),
		cmocka_unit_test(a_local_sandbox_lives_and_ends_without_a_trace),
		cmocka_unit_test(
			a_native_worker_that_does_not_listen_to_signals_is_ended_with_its_strays),
		cmocka_unit_test(
			a_local_worker_that_does_not_listen_to_signals_is_ended_with_its_strays),
		cmocka_unit_test(a_native_sandbox_survives_its_creator_and_another_ends_it),
		cmocka_unit_test(a_local_sandbox_survives_its_creator_and_another_ends_it),
		cmocka_unit_test(another_process_with_the_same_pid_is_left_alone),
		cmocka_unit_test(a_journal_that_names_a_top_directory_removes_nothing),
		cmocka_unit_test(a_worker_that_cannot_be_started_is_an_error_and_leaves_nothing),
		cmocka_unit_test(a_local_worker_that_dies_at_once_is_an_error),
		cmocka_unit_test(without_bubblewrap_the_error_says_what_to_install),
		cmocka_unit_test(
			bubblewrap_outlives_a_proxy_that_is_killed_before_it_was_told_the_pid),
		cmocka_unit_test(what_bubblewrap_says_is_in_the_error),
		cmocka_unit_test(a_local_sandbox_reaches_nothing_of_this_machine),
		cmocka_unit_test(the_network_is_there_when_asked_for),
		cmocka_unit_test(a_process_name_with_parentheses_is_no_riddle),
	};

	if (argc > 1 && strcmp(argv[1], "--version") == 0)
		return puts("a worker of the test") < 0;
	if (argc > 1 && strcmp(argv[1], "--listen") == 0)
		return worker(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
