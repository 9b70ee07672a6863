/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/loop.h"

enum {
	START_MS = 10000,
};

/* Where the new root is put together: a directory that every machine has; what was there is out
 * of sight for this sandbox alone. */
#define NEW_ROOT "/tmp"
#define OWN ".own"	/* the sandbox's directory, below the new root, while it is put together */

/* --- inside: from here on in the child, which has no way to report but `failure` --- */

struct failure {
	int sys;
	char what[124];
};

struct setup {
	const struct box_spec *spec;
	int door_fd, self_fd;
	int report_fd;		/* a failure, or nothing: exec closes it */
};

static void __attribute__((noreturn)) give_up(const struct setup *s, const char *what)
{
	struct failure f = { .sys = errno };

	snprintf(f.what, sizeof(f.what), "%s", what);
	(void)!write(s->report_fd, &f, sizeof(f));
	_exit(127);
}

static int open_tree_of(const char *path, bool whole)
{
	return open_tree(AT_FDCWD, path,
			 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (whole ? AT_RECURSIVE : 0u));
}

/* Puts a tree onto path, read-only if so wanted. */
static void place(const struct setup *s, int tree, const char *path, bool read_only)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	if (tree < 0)
		give_up(s, path);
	if (read_only && mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
				       sizeof(attr)) < 0)
		give_up(s, "mount_setattr: read-only");
	if (move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		give_up(s, path);
	close(tree);
}

static void make(const struct setup *s, const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 || chmod(path, mode) < 0)
		give_up(s, path);
}

/* /bin, /lib and the like: links into /usr, or directories on a machine before the merge. */
static void place_usr_links(const struct setup *s)
{
	static const char *const names[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
	char target[256], path[16];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/%s", names[i]);
		n = readlink(path, target, sizeof(target) - 1);
		if (n > 0) {
			target[n] = 0;
			if (symlink(target, names[i]) < 0)
				give_up(s, path);
		} else if (errno == EINVAL) {
			make(s, names[i], 0755);
			place(s, open_tree_of(path, true), names[i], true);
		}
	}
}

static void place_dev(const struct setup *s)
{
	static const char *const nodes[] = { "null", "zero", "full", "random", "urandom", "tty" };
	static const char *const links[][2] = {
		{ "/proc/self/fd", "dev/fd" },	     { "/proc/self/fd/0", "dev/stdin" },
		{ "/proc/self/fd/1", "dev/stdout" }, { "/proc/self/fd/2", "dev/stderr" },
		{ "pts/ptmx", "dev/ptmx" },
	};
	char from[32], to[32];

	make(s, "dev", 0755);
	if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k") < 0)
		give_up(s, "/dev");
	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		int fd;

		snprintf(from, sizeof(from), "/dev/%s", nodes[i]);
		snprintf(to, sizeof(to), "dev/%s", nodes[i]);
		fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		if (fd < 0 || close(fd) < 0 || mount(from, to, NULL, MS_BIND, NULL) < 0)
			give_up(s, from);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0)
			give_up(s, links[i][1]);
	make(s, "dev/pts", 0755);
	make(s, "dev/shm", 01777);
	if (mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		  "newinstance,ptmxmode=0666,mode=620") < 0)
		give_up(s, "/dev/pts");
	if (mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
		give_up(s, "/dev/shm");
}

static void place_own(const struct setup *s, int own)
{
	static const char *const dirs[] = { "home", "root", "tmp", "var",
					    "opt",  "srv",  "run", "etc" };
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	char from[64];

	make(s, OWN, 0700);
	place(s, own, OWN, false);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(from, sizeof(from), OWN "/%s", dirs[i]);
		make(s, dirs[i], 0755);
		if (mount(from, dirs[i], NULL, MS_BIND, NULL) < 0)
			give_up(s, dirs[i]);
	}
	if (mount_setattr(AT_FDCWD, "etc", 0, &attr, sizeof(attr)) < 0)
		give_up(s, "mount_setattr: read-only");
	if (umount2(OWN, MNT_DETACH) < 0 || rmdir(OWN) < 0)
		give_up(s, OWN);
}

static void place_all(const struct setup *s, int own, int usr, int etc)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		give_up(s, "mounts of its own");
	if (mount("tmpfs", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=256m") < 0 ||
	    chdir(NEW_ROOT) < 0)
		give_up(s, "a root of its own");
	make(s, "usr", 0755);
	make(s, BOX_MACHINES_ETC, 0755);
	place(s, usr, "usr", true);
	place(s, etc, BOX_MACHINES_ETC, true);
	place_usr_links(s);
	place_own(s, own);
	place_dev(s);
	make(s, "mnt", 0755);
	make(s, "proc", 0555);
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		give_up(s, "/proc");
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		give_up(s, "pivot_root");
}

static void raise_loopback(const struct setup *s)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ifr.ifr_flags = IFF_UP;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		give_up(s, "loopback");
	close(fd);
}

static void become_root(const struct setup *s)
{
	if (!s->spec->users->many)
		return;	/* mapped already, to the only one there is */
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)	/* which a change of user takes back */
		give_up(s, "root of the sandbox");
}

/* Descriptors as process 1 wants them: nothing to read, the log, the door and the token.  Ours
 * move away from those places first; they close on exec. */
static void arrange_descriptors(struct setup *s)
{
	enum { FREE = 16 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int door = fcntl(s->door_fd, F_DUPFD_CLOEXEC, FREE);
	int log = fcntl(s->spec->log_fd, F_DUPFD_CLOEXEC, FREE);
	int token = fcntl(s->spec->token_fd, F_DUPFD_CLOEXEC, FREE);

	s->self_fd = fcntl(s->self_fd, F_DUPFD_CLOEXEC, FREE);
	s->report_fd = fcntl(s->report_fd, F_DUPFD_CLOEXEC, FREE);
	if (null < 0 || door < 0 || log < 0 || token < 0 || dup2(null, 0) < 0 ||
	    dup2(log, 1) < 0 || dup2(log, 2) < 0 || dup2(door, BOX_DOOR_FD) < 0 ||
	    dup2(token, BOX_TOKEN_FD) < 0)
		give_up(s, "descriptors");
}

static void __attribute__((noreturn)) child_main(struct setup *s, int go_fd)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char lang[] = "LANG=C.UTF-8";
	char *const env[] = { path, lang, NULL };
	int own, usr, etc;
	sigset_t none;
	char c;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || read(go_fd, &c, 1) != 1)
		give_up(s, "its parent ended");
	umask(022);
	/* While the paths outside may still be walked. */
	own = open_tree_of(s->spec->dir, false);
	if (own < 0)
		give_up(s, s->spec->dir);
	usr = open_tree_of("/usr", true);
	etc = open_tree_of("/etc", true);
	become_root(s);
	place_all(s, own, usr, etc);
	raise_loopback(s);
	if (sethostname(s->spec->name, strlen(s->spec->name)) < 0)
		give_up(s, "host name");
	arrange_descriptors(s);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	fexecve(s->self_fd, s->spec->argv, env);
	give_up(s, "its first program");
}

/* --- outside --- */

static int put_map(pid_t pid, const char *file, const char *text, struct err *e)
{
	char path[64];
	auto_close int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return err_set(e, ERR_PROVIDER, errno, "users of the sandbox: %s", file);
	return 0;
}

static int put_maps(pid_t pid, const struct box_users *users, struct err *e)
{
	char uids[64], gids[64];

	if (users->many) {
		snprintf(uids, sizeof(uids), "0 %u %d", users->base, BOX_USERS);
		return put_map(pid, "uid_map", uids, e) < 0 || put_map(pid, "gid_map", uids, e) < 0
			       ? -1
			       : 0;
	}
	snprintf(uids, sizeof(uids), "%d %u 1", BOX_UID, geteuid());
	snprintf(gids, sizeof(gids), "%d %u 1", BOX_UID, getegid());
	return put_map(pid, "setgroups", "deny", e) < 0 || put_map(pid, "uid_map", uids, e) < 0 ||
			       put_map(pid, "gid_map", gids, e) < 0
		       ? -1
		       : 0;
}

/* The child's own word, or that it came as far as exec. */
static int await_exec(int report_fd, struct err *e)
{
	struct pollfd p = { .fd = report_fd, .events = POLLIN };
	uint64_t until = now_ns() + START_MS * UINT64_C(1000000);
	struct failure f;
	ssize_t n;
	int r;

	do
		r = poll(&p, 1, START_MS);
	while (r < 0 && errno == EINTR && now_ns() < until);
	if (r <= 0)
		return err_set(e, ERR_DEADLINE, 0, "the sandbox did not start within %d ms",
			       START_MS);
	n = read(report_fd, &f, sizeof(f));
	if (n == 0)
		return 0;
	if (n != sizeof(f))
		return err_set(e, ERR_PROVIDER, 0, "the sandbox ended while it was made");
	return err_set(e, ERR_PROVIDER, f.sys, "sandbox: %.*s", (int)sizeof(f.what), f.what);
}

static pid_t clone_child(void)
{
	unsigned long flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC |
			      CLONE_NEWUTS | CLONE_NEWNET | SIGCHLD;

	return (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
}

static int let_go(int go_fd, struct err *e)
{
	return write(go_fd, "g", 1) == 1 ? 0 : err_set(e, ERR_SYS, errno, "sandbox");
}

static void close_pair(int (*fds)[2])
{
	close_fd(&(*fds)[0]);
	close_fd(&(*fds)[1]);
}

int box_start(const struct box_spec *spec, struct box *ret, struct err *e)
{
	int door[2] CLEANUP(close_pair) = { -1, -1 };
	int go[2] CLEANUP(close_pair) = { -1, -1 };
	int report[2] CLEANUP(close_pair) = { -1, -1 };
	auto_close int self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	struct setup s = { .spec = spec, .self_fd = self };
	struct box b = { .door = -1 };

	if (self < 0 || pipe2(go, O_CLOEXEC) < 0 || pipe2(report, O_CLOEXEC) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door) < 0)
		return err_set(e, ERR_SYS, errno, "sandbox");
	s.door_fd = door[1];
	s.report_fd = report[1];
	b.pid = clone_child();
	if (b.pid == 0) {
		close(go[1]);	/* so that our end shows in go[0] */
		child_main(&s, go[0]);
	}
	if (b.pid < 0)
		return err_set(e, ERR_PROVIDER, errno,
			       "no namespaces for a sandbox; user namespaces may be off here "
			       "(sysctl user.max_user_namespaces, "
			       "kernel.unprivileged_userns_clone)");
	close_fd(&report[1]);
	b.door = take_fd(&door[0]);
	if (put_maps(b.pid, spec->users, e) < 0 || let_go(go[1], e) < 0 ||
	    await_exec(report[0], e) < 0) {
		box_end(&b);
		return -1;
	}
	*ret = b;
	return 0;
}

/* The kernel ends all others with process 1, and lets us have it only after them. */
void box_end(struct box *b)
{
	if (b->pid > 0) {
		kill(b->pid, SIGKILL);
		while (waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	b->pid = 0;
	close_fd(&b->door);
}
