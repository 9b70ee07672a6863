/* SPDX-License-Identifier: Apache-2.0
 *
 * local - a sandbox on this machine, made by bubblewrap.
 *
 * In it: /usr and /etc read-only, the worker's program, one directory of its own, and empty
 * tmpfs elsewhere; no capability, no network (but on request), none of the host's processes.
 * A read-only bind of the whole root would be no sandbox for root: a remount writes the
 * host, and its sockets stay reachable.
 *
 * The user is the one outside, so files that this user may read stay readable where they are
 * bound.  For root that is all that root owns, because losing the capabilities does not
 * make him another owner.  So from /etc is hidden (hide_secrets):
 *   - whatever not everybody may read: shadow, gshadow, private keys, sudoers, ...
 *   - by name, whatever its mode: directories that exist to hold keys and tokens.
 * What everybody on this machine may read (a token in /etc/npmrc, say) is no secret to a step
 * either.  Two limits: what appears in /etc later is not hidden, and a hidden file that
 * the host replaces by rename (as passwd does with shadow) comes out again, because the kernel
 * takes a mount away with its file.
 *
 * With the network on it is the host's own network: what listens on its loopback, and abstract
 * unix sockets, can be reached then.
 *
 * User namespaces stay possible inside: the worker uses one per step to take the network
 * away.  Mounts copied into one are locked, so that a remount fails there as well. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/json.h"
#include "sdk-wrapper/here.h"
#include "sdk-wrapper/process.h"
#include "sdk-wrapper/provider.h"

#define SANDBOX_STATE "/farstep"
#define SANDBOX_WORKER "/run/farstep/worker"
#define SANDBOX_SOCKETS "/run/farstep/sock"
/* Wherever a program can write. */
#define SCRATCH \
	"/tmp:/var/tmp:/var:/dev/shm:/dev:/run:/run/farstep:/home:/root:" SANDBOX_STATE \
	":" SANDBOX_STATE "/root"
/* A directory of its own in socket_dir: that one may hold sockets which are not for steps. */
#define BOX "box"

enum {
	START_MS = 10000,	/* from exec of bwrap to the worker's socket; it takes 5 */
	ARGS_MAX = 256 * 1024,
	ETC_DEPTH = 8,
	INFO_FD = 3,
	ARGS_FD = 4,
};

/* --- the options of bwrap, NUL-separated as --args wants them --- */

struct options {
	struct buf text;
	size_t n;
	struct err *e;
	bool failed;
};

static void add(struct options *o, const char *word)
{
	if (!o->failed && buf_put(&o->text, word, strlen(word) + 1, o->e) < 0)
		o->failed = true;
	o->n++;
}

static void add2(struct options *o, const char *name, const char *a)
{
	add(o, name);
	add(o, a);
}

static void add3(struct options *o, const char *name, const char *a, const char *b)
{
	add2(o, name, a);
	add(o, b);
}

/* --- what of /etc is hidden --- */

static const char *const hidden_names[] = {
	"NetworkManager", "docker",    "gshadow",   "gshadow-",	   "krb5.keytab", "kubernetes",
	"letsencrypt",	  "openvpn",   "rancher",   "shadow",	   "shadow-",	  "ssh",
	"sudoers",	  "sudoers.d", "wireguard", "ssl/private",
};

static bool is_hidden_name(const char *below_etc)
{
	for (size_t i = 0; i < ARRAY_LEN(hidden_names); i++)
		if (strcmp(below_etc, hidden_names[i]) == 0)
			return true;
	return false;
}

static void hide(struct options *o, const char *path, bool dir)
{
	if (!dir) {
		add3(o, "--ro-bind", "/dev/null", path);
		return;
	}
	add2(o, "--tmpfs", path);
	add2(o, "--remount-ro", path);
}

/* Everybody may read it.  What we may not read ourselves needs no hiding. */
static bool is_public(int dir, const char *name, const struct stat *st)
{
	mode_t need = S_ISDIR(st->st_mode) ? S_IROTH | S_IXOTH : S_IROTH;

	if ((st->st_mode & need) == need)
		return true;
	return geteuid() != 0 && faccessat(dir, name, R_OK, 0) < 0;
}

static void hide_below(struct options *o, int dir_fd, const char *path, unsigned depth);

static void hide_entry(struct options *o, int dir, const char *name, const char *path,
		       unsigned depth)
{
	struct stat st;
	int fd;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return;	/* a link's target is judged where it is */
	if (is_hidden_name(path + strlen("/etc/")) || !is_public(dir, name, &st)) {
		hide(o, path, S_ISDIR(st.st_mode));
		return;
	}
	/* Hundreds of links and nothing else: to list them takes a third of the whole walk. */
	if (!S_ISDIR(st.st_mode) || strcmp(path, "/etc/alternatives") == 0)
		return;
	fd = depth < ETC_DEPTH ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
			       : -1;
	if (fd < 0)
		hide(o, path, true);	/* not looked into: not shown */
	else
		hide_below(o, fd, path, depth + 1);
}

/* Takes dir_fd. */
static void hide_below(struct options *o, int dir_fd, const char *path, unsigned depth)
{
	auto_closedir DIR *d = fdopendir(dir_fd);
	struct dirent *ent;
	char sub[PATH_MAX];

	if (!d) {
		close(dir_fd);
		hide(o, path, true);
		return;
	}
	while ((ent = readdir(d))) {
		if (ent->d_type == DT_LNK || strcmp(ent->d_name, ".") == 0 ||
		    strcmp(ent->d_name, "..") == 0)
			continue;
		if ((size_t)snprintf(sub, sizeof(sub), "%s/%s", path, ent->d_name) < sizeof(sub))
			hide_entry(o, dirfd(d), ent->d_name, sub, depth);
	}
}

static void hide_secrets(struct options *o)
{
	int fd = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		hide_below(o, fd, "/etc", 0);
}

/* --- the sandbox --- */

/* /bin, /lib and the like: links into /usr as on this machine, or directories before the merge. */
static void add_usr(struct options *o)
{
	static const char *const names[] = {
		"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"
	};
	char target[256];

	add3(o, "--ro-bind", "/usr", "/usr");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		ssize_t n = readlink(names[i], target, sizeof(target) - 1);

		if (n > 0) {
			target[n] = 0;
			add3(o, "--symlink", target, names[i]);
		} else if (errno == EINVAL) {
			add3(o, "--ro-bind", names[i], names[i]);
		}
	}
}

static void add_tmpfs(struct options *o, const char *path, const char *mode)
{
	add2(o, "--perms", mode);
	add2(o, "--tmpfs", path);
}

/* With the network its resolver: /etc/resolv.conf is often a link into /run. */
static void add_resolver(struct options *o)
{
	char real[PATH_MAX];

	if (realpath("/etc/resolv.conf", real) && strncmp(real, "/etc/", 5) != 0 &&
	    strncmp(real, "/usr/", 5) != 0)
		add3(o, "--ro-bind-try", real, real);
}

/* The worker's program comes last of the binds: options cut short start nothing. */
static void add_all(struct options *o, const struct sandbox_spec *spec, const char *box)
{
	add(o, "--unshare-all");
	if (spec->network)
		add(o, "--share-net");
	add2(o, "--cap-drop", "ALL");
	add(o, "--new-session");
	add(o, "--as-pid-1");	/* the worker's supervisor reaps, and gets the signals */
	add(o, "--clearenv");
	add3(o, "--setenv", "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add3(o, "--setenv", "HOME", geteuid() == 0 ? "/root" : "/home");
	add3(o, "--setenv", "LANG", "C.UTF-8");
	add_usr(o);
	add3(o, "--ro-bind", "/etc", "/etc");
	hide_secrets(o);
	add2(o, "--proc", "/proc");
	add2(o, "--dev", "/dev");
	add_tmpfs(o, "/tmp", "1777");
	add_tmpfs(o, "/run", "0755");
	add_tmpfs(o, "/home", "0755");
	add_tmpfs(o, "/root", "0700");
	add_tmpfs(o, "/var", "0755");
	add2(o, "--perms", "1777");
	add2(o, "--dir", "/var/tmp");
	if (spec->network)
		add_resolver(o);
	add3(o, "--bind", spec->state_dir, SANDBOX_STATE);
	add3(o, "--bind", box, SANDBOX_SOCKETS);
	add2(o, "--chdir", SANDBOX_STATE);
	add3(o, "--ro-bind", spec->worker_path, SANDBOX_WORKER);
	add2(o, "--remount-ro", "/");
}

static int options_build(struct options *o, const struct sandbox_spec *spec, struct err *e)
{
	char box[PATH_MAX];

	*o = (struct options){ .e = e };
	buf_init(&o->text, ARGS_MAX);
	snprintf(box, sizeof(box), "%s/" BOX, spec->socket_dir);
	add_all(o, spec, box);
	return o->failed ? err_wrap(e, "options of bubblewrap") : 0;
}

static void options_release(struct options *o)
{
	buf_release(&o->text);
}

/* The program: in PATH, of which relative parts do not count. */
static int find_bwrap(char ret[PATH_MAX], struct err *e)
{
	const char *path = getenv("PATH");

	for (const char *p = path && *path ? path : "/usr/bin:/bin"; *p;) {
		size_t n = strcspn(p, ":");

		if (*p == '/' &&
		    (size_t)snprintf(ret, PATH_MAX, "%.*s/bwrap", (int)n, p) < PATH_MAX &&
		    access(ret, X_OK) == 0)
			return 0;
		p += n + (p[n] == ':');
	}
	return err_set(
		e, ERR_PROVIDER, 0,
		"target 'local' needs bubblewrap: apt install bubblewrap (or --target native, "
		"without isolation)");
}

/* --- starting --- */

static int local_check(const struct sandbox_spec *spec, struct err *e)
{
	struct sandbox named;

	return here_check(spec, "local", e) < 0 ? -1 : here_name(spec, "local", &named, e);
}

static void worker_args(const struct sandbox_spec *spec, const char *id, struct here_worker *ret)
{
	here_worker_args(spec, id, SANDBOX_WORKER, SANDBOX_SOCKETS "/w.sock", SANDBOX_STATE "/root",
			 SCRATCH, ret);
}

static int local_describe(const struct sandbox_spec *spec, struct buf *out, struct err *e)
{
	struct options o CLEANUP(options_release);
	auto_free const char **argv = NULL;
	struct here_worker w;
	struct sandbox s;
	const char *word;
	size_t n = 0;

	if (options_build(&o, spec, e) < 0 || here_name(spec, "local", &s, e) < 0)
		return -1;
	argv = calloc(o.n + 2 + ARRAY_LEN(w.argv), sizeof(*argv));
	if (!argv)
		return err_set(e, ERR_NO_MEMORY, 0, "sandbox");
	argv[n++] = "bwrap";
	word = (const char *)buf_data(&o.text);
	for (size_t i = 0; i < o.n; i++, word += strlen(word) + 1)
		argv[n++] = word;
	argv[n++] = "--";
	worker_args(spec, s.id, &w);
	for (size_t i = 0; w.argv[i]; i++)
		argv[n++] = w.argv[i];
	return here_describe("local", argv, n, out, e);
}

/* A bwrap under way. */
struct launch {
	const struct sandbox_spec *spec;
	char bwrap[PATH_MAX];
	int info[2];		/* pipe: it tells its child's pid */
	int args[2];		/* socket pair: it reads its options, while we look through /etc */
	pid_t outer;
	uint64_t until_ns;
	struct err *e;
};

static void launch_release(struct launch *l)
{
	for (int i = 0; i < 2; i++) {
		close_fd(&l->info[i]);
		close_fd(&l->args[i]);
	}
}

/* Starts bwrap with `command` inside and its output to out_fd; it waits for its options. */
static int launch_exec(struct launch *l, const char *const *command, int out_fd)
{
	const char *argv[8 + ARRAY_LEN(((struct here_worker *)0)->argv)] = {
		"bwrap", "--info-fd", "3", "--args", "4", "--",
	};
	char *const envp[] = { NULL };
	struct process_spec p = { .path = l->bwrap, .envp = envp, .out_fd = out_fd };
	size_t n = 6;

	_Static_assert(INFO_FD == 3 && ARGS_FD == 4, "as process_start passes them");
	if (pipe2(l->info, O_CLOEXEC) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, l->args) < 0)
		return err_set(l->e, ERR_SYS, errno, "sandbox");
	while (*command)
		argv[n++] = *command++;
	p.argv = (char *const *)(uintptr_t)argv;	/* exec takes them unchanged */
	p.pass[0] = l->info[1];
	p.pass[1] = l->args[1];
	/* If we are killed now, bwrap must not die of a pipe without a reader: its child would
	 * wait for it for ever.  So it is a reader, too. */
	p.pass[2] = l->info[0];
	l->outer = process_start(&p, l->e);
	close_fd(&l->info[1]);
	close_fd(&l->args[1]);
	if (l->outer < 0) {
		l->e->code = ERR_PROVIDER;
		return err_wrap(l->e, "cannot start bubblewrap");
	}
	return 0;
}

/* Returns 1 if it ended instead of reading them. */
static int send_options(struct launch *l)
{
	struct options o CLEANUP(options_release);
	size_t done = 0;

	if (options_build(&o, l->spec, l->e) < 0)
		return -1;
	while (done < buf_len(&o.text)) {
		ssize_t n = send(l->args[0], buf_data(&o.text) + done, buf_len(&o.text) - done,
				 MSG_NOSIGNAL);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 1;
		if (n < 0 && errno != EINTR)
			return err_set(l->e, ERR_PROVIDER, errno, "options of bubblewrap");
		done += n > 0 ? (size_t)n : 0;
	}
	close_fd(&l->args[0]);
	return 0;
}

static int left_ms(const struct launch *l)
{
	uint64_t now = now_ns();

	return now >= l->until_ns ? 0 : (int)((l->until_ns - now) / 1000000) + 1;
}

/* The pid that bwrap reports ({"child-pid": N}), or -1 if it ended before. */
static pid_t read_child_pid(struct launch *l)
{
	struct buf text CLEANUP(buf_release);
	int64_t pid = -1;
	auto_json json *v = NULL;

	buf_init(&text, 4096);
	for (;;) {
		struct pollfd fd = { .fd = l->info[0], .events = POLLIN };
		uint8_t *to = buf_reserve(&text, 512, NULL);
		int ready = poll(&fd, 1, left_ms(l));
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		n = to && ready > 0 ? read(l->info[0], to, 512) : -1;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		buf_commit(&text, (size_t)n);
	}
	v = json_parse((const char *)buf_data(&text), buf_len(&text), 4096, 8, NULL);
	if (!v || json_req_int(v, "info", "child-pid", 1, INT32_MAX, &pid, NULL) < 0)
		return -1;
	return (pid_t)pid;
}

/* Waits for the worker's socket in the box, and takes it out of the steps' reach: a step
 * has the worker's user, and could put a socket of its own in the place, which would be
 * handed the session's key at the next connection.  The name moves, the socket listens on; the
 * box, empty then, goes, and with it the way from the sandbox into socket_dir.  Returns 1 if
 * the sandbox ended instead. */
static int adopt_socket(struct launch *l, const struct sandbox *s, const struct process *p)
{
	char box[PATH_MAX], inside[PATH_MAX + 16];
	bool dead = false;

	snprintf(box, sizeof(box), "%s/" BOX, l->spec->socket_dir);
	snprintf(inside, sizeof(inside), "%s/w.sock", box);
	while (rename(inside, here_socket(s)) < 0) {
		if (errno != ENOENT)
			return err_set(l->e, ERR_PROVIDER, errno, "%s", inside);
		if (dead)
			return 1;
		if (left_ms(l) == 0)
			return err_set(l->e, ERR_PROVIDER, 0,
				       "the worker did not listen within %d ms", START_MS);
		dead = process_wait(p, 100);
	}
	rmdir(box);
	return 0;
}

/* --- why it did not start --- */

static bool sysctl_is(const char *path, char value)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c = 0;

	return fd >= 0 && read(fd, &c, 1) == 1 && c == value;
}

/* How to mend the one cause that is not in the program: NULL if the kernel allows it. */
static const char *namespace_hint(void)
{
	if (sysctl_is("/proc/sys/user/max_user_namespaces", '0'))
		return "user namespaces are off: sysctl user.max_user_namespaces=10000";
	if (geteuid() == 0)
		return NULL;
	if (sysctl_is("/proc/sys/kernel/unprivileged_userns_clone", '0'))
		return "user namespaces are for root only: sysctl "
		       "kernel.unprivileged_userns_clone=1";
	if (sysctl_is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", '1'))
		return "AppArmor forbids user namespaces: sysctl "
		       "kernel.apparmor_restrict_unprivileged_userns=0";
	return NULL;
}

/* The first line of what comes through the pipe. */
static void read_line(int fd, char *ret, size_t size, const struct launch *l)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0;

	while (len < size - 1 && poll(&p, 1, left_ms(l)) > 0) {
		ssize_t n = read(fd, ret + len, size - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	ret[len] = 0;
	ret[strcspn(ret, "\n")] = 0;
}

/* What bwrap said went to the worker's log, which may be nowhere or not ours to read.  So
 * once more, with a pipe for its output and only the worker's version to run. */
static void start_again(const struct launch *failed, char *ret, size_t size)
{
	static const char *const command[] = { SANDBOX_WORKER, "--version", NULL };
	struct err ignored = ERR_INIT;
	struct launch l CLEANUP(launch_release) = *failed;
	auto_close int read_end = -1;
	int out[2], r;

	l.info[0] = l.info[1] = l.args[0] = l.args[1] = -1;	/* these are the failed one's */
	l.e = &ignored;
	l.until_ns = now_ns() + UINT64_C(3000000000);
	if (pipe2(out, O_CLOEXEC) < 0)
		return;
	read_end = out[0];
	r = launch_exec(&l, command, out[1]);
	close(out[1]);
	if (r == 0 && send_options(&l) >= 0)
		read_line(read_end, ret, size, &l);
}

static int explain(const struct launch *failed)
{
	static const char prefix[] = "bwrap: ";
	const char *hint = namespace_hint();
	char said[240] = "";

	start_again(failed, said, sizeof(said));
	if (strncmp(said, prefix, strlen(prefix)) != 0)
		return err_set(failed->e, ERR_PROVIDER, 0,
			       "target 'local': the worker ended before it listened; see its log");
	return err_set(failed->e, ERR_PROVIDER, 0, "target 'local': bubblewrap: %s; %s",
		       said + strlen(prefix),
		       hint ? hint : "--target native goes without isolation");
}

/* --- create and destroy --- */

static int local_destroy(const struct sandbox *s, int deadline_ms, struct err *e);

static int make_box(const struct sandbox_spec *spec, struct err *e)
{
	char box[PATH_MAX];

	if ((size_t)snprintf(box, sizeof(box), "%s/" BOX, spec->socket_dir) >= sizeof(box))
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", spec->socket_dir);
	return fs_remove_tree(AT_FDCWD, box, e) < 0 ? -1 : fs_mkdirs(AT_FDCWD, box, 0700, e);
}

static int launch_run(struct launch *l, struct sandbox *ret)
{
	struct process_info info;
	struct here_worker w;
	struct process p;
	int r;

	worker_args(l->spec, ret->id, &w);
	if (launch_exec(l, w.argv, l->spec->log_fd) < 0)
		return -1;
	r = send_options(l);
	if (r < 0)
		kill(l->outer, SIGKILL);	/* it waits for its options still */
	if (r != 0)
		return r < 0 ? -1 : explain(l);
	ret->pid = read_child_pid(l);
	if (ret->pid < 0 || !process_info(ret->pid, &info) ||
	    !process_open(&p, ret->pid, info.start)) {
		ret->pid = 0;
		return explain(l);
	}
	ret->pid_start = info.start;
	r = adopt_socket(l, ret, &p);
	process_close(&p);
	return r > 0 ? explain(l) : r;
}

static int local_create(struct loop *loop __attribute__((unused)), const struct sandbox_spec *spec,
			struct sandbox *ret, struct err *e)
{
	struct err own = ERR_INIT;
	struct launch l CLEANUP(launch_release) = {
		.spec = spec, .info = { -1, -1 }, .args = { -1, -1 }, .e = e ? e : &own,
	};

	l.until_ns = now_ns() + START_MS * UINT64_C(1000000);
	if (local_check(spec, l.e) < 0 || here_name(spec, "local", ret, l.e) < 0 ||
	    find_bwrap(l.bwrap, l.e) < 0 || here_make_dirs(spec, l.e) < 0)
		return -1;
	if (make_box(spec, l.e) < 0 || launch_run(&l, ret) < 0) {
		local_destroy(ret, 2000, NULL);
		return -1;
	}
	return 0;
}

/* Process 1 of the sandbox: with it goes everything inside, and bwrap outside. */
static int local_end(const struct sandbox *s, int deadline_ms, struct err *e)
{
	struct process_info info;
	struct process p, outer;
	bool has_outer, dead;

	if (!process_open(&p, s->pid, s->pid_start))
		return 0;
	has_outer = process_info(s->pid, &info) && info.parent > 1;
	if (has_outer) {
		pid_t parent = info.parent;

		has_outer = process_info(parent, &info) && strcmp(info.name, "bwrap") == 0 &&
			    process_open(&outer, parent, info.start);
	}
	process_signal(&p, SIGTERM);
	dead = process_wait(&p, here_grace_us(deadline_ms));
	if (!dead) {
		process_signal(&p, SIGKILL);
		dead = process_wait(&p, (int64_t)deadline_ms * 1000 - here_grace_us(deadline_ms));
	}
	process_close(&p);
	if (has_outer) {
		if (dead)
			process_wait(&outer, 500000);
		process_close(&outer);
	}
	return dead ? 0 : err_set(e, ERR_DEADLINE, 0, "sandbox %s: did not end in time", s->id);
}

static int local_destroy(const struct sandbox *s, int deadline_ms, struct err *e)
{
	const char *socket = here_socket(s), *slash = socket ? strrchr(socket, '/') : NULL;
	char box[PATH_MAX];

	if (local_end(s, deadline_ms, e) < 0)
		return -1;
	if (slash) {	/* there only if it was given up while starting */
		snprintf(box, sizeof(box), "%.*s/" BOX, (int)(slash - socket), socket);
		if (fs_remove_tree(AT_FDCWD, box, e) < 0)
			return -1;
	}
	return here_remove_files(s, e);
}

const struct provider provider_local = {
	.name = "local",
	.isolation = "bubblewrap: own namespaces, no capabilities, of this machine only /usr and "
		     "/etc, read-only",
	.check = local_check,
	.describe = local_describe,
	.create = local_create,
	.state = here_state,
	.destroy = local_destroy,
};
