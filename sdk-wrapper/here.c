/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/here.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/hash.h"
#include "sdk-wrapper/program.h"

#define SOCKET_NAME "w.sock"

int here_check(const struct sandbox_spec *spec, const char *target, struct err *e)
{
	uint8_t digest[SHA256_LEN];
	struct stat st;

	if (spec->template_name)
		return err_set(e, ERR_UNSUPPORTED, 0,
			       "target '%s' has no templates (--template %s)", target,
			       spec->template_name);
	if (spec->cpu || spec->memory_mb)
		return err_set(e, ERR_UNSUPPORTED, 0,
			       "target '%s' has the size of this machine: leave %s out, or choose "
			       "a target that has sizes (--target e2b)",
			       target, spec->cpu ? "--cpu" : "--memory");
	if (spec->build_template)
		return err_set(e, ERR_UNSUPPORTED, 0,
			       "target '%s' has no templates (--build-template)", target);
	if (spec->hosts)
		return err_set(e, ERR_UNSUPPORTED, 0,
			       "target '%s' knows the network off and on, but no hosts (--network "
			       "%s%s)",
			       target, spec->hosts[0], spec->hosts[1] ? ",..." : "");
	if (stat(spec->worker_path, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(e, ERR_PROVIDER, 0, "worker program '%s': no file",
			       spec->worker_path);
	if (access(spec->worker_path, X_OK) < 0)
		return err_set(e, ERR_PROVIDER, errno, "worker program '%s'", spec->worker_path);
	if (program_fits_here(spec->worker_path, e) < 0)
		return -1;
	if (hex_decode(spec->token_sha256, strlen(spec->token_sha256), digest, sizeof(digest), e) <
	    0)
		return err_wrap(e, "digest of the token");
	if (spec->state_dir[0] != '/' || spec->socket_dir[0] != '/' || spec->worker_path[0] != '/')
		return err_set(e, ERR_INTERNAL, 0, "target '%s': paths must be absolute", target);
	return 0;
}

int here_name(const struct sandbox_spec *spec, const char *provider, struct sandbox *ret,
	      struct err *e)
{
	struct sockaddr_un un;
	uint8_t rnd[4];
	char hex[2 * sizeof(rnd) + 1];
	int n;

	if (random_bytes(rnd, sizeof(rnd), e) < 0)
		return -1;
	hex_encode(rnd, sizeof(rnd), hex);
	*ret = (struct sandbox){ .pid = 0 };
	snprintf(ret->provider, sizeof(ret->provider), "%s", provider);
	snprintf(ret->run, sizeof(ret->run), "%s", spec->run);
	ret->network = spec->network;
	n = snprintf(ret->id, sizeof(ret->id), "%s-%s-%s", provider, spec->run, hex);
	if (n < 0 || (size_t)n >= sizeof(ret->id))
		return err_set(e, ERR_LIMIT, 0, "run id '%.80s': too long", spec->run);
	n = snprintf(ret->state_dir, sizeof(ret->state_dir), "%s", spec->state_dir);
	if (n < 0 || (size_t)n >= sizeof(ret->state_dir))
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", spec->state_dir);
	n = snprintf(ret->address, sizeof(ret->address), "unix:%s/" SOCKET_NAME, spec->socket_dir);
	if (n < 0 || (size_t)n - strlen("unix:") >= sizeof(un.sun_path))
		return err_set(e, ERR_LIMIT, 0,
			       "'%.200s': too long for the path of a socket (107 bytes)",
			       spec->socket_dir);
	return 0;
}

int here_make_dirs(const struct sandbox_spec *spec, struct err *e)
{
	char root[600];

	if ((size_t)snprintf(root, sizeof(root), "%s/root", spec->state_dir) >= sizeof(root))
		return err_set(e, ERR_LIMIT, 0, "'%.200s': path too long", spec->state_dir);
	if (fs_mkdirs(AT_FDCWD, root, 0700, e) < 0)
		return -1;
	return fs_mkdirs(AT_FDCWD, spec->socket_dir, 0700, e);
}

void here_worker_args(const struct sandbox_spec *spec, const char *id, const char *program,
		      const char *socket, const char *root, const char *scratch,
		      struct here_worker *ret)
{
	const char *argv[] = {
		program,
		"--listen",
		ret->listen,
		"--token-sha256",
		spec->token_sha256,
		"--root",
		root,
		"--sandbox-id",
		id,
		"--lease",
		ret->lease,
		spec->keep && scratch ? "--scratch" : NULL,
		scratch,
		NULL,
	};

	_Static_assert(sizeof(argv) <= sizeof(ret->argv), "here_worker.argv is large enough");
	snprintf(ret->listen, sizeof(ret->listen), "unix:%s", socket);
	snprintf(ret->lease, sizeof(ret->lease), "%u", spec->lease_ms);
	memcpy(ret->argv, argv, sizeof(argv));
}

int here_describe(const char *provider, const char *const *argv, size_t n, struct buf *out,
		  struct err *e)
{
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "provider", provider);
	jw_karr(&w, "argv");
	for (size_t i = 0; i < n; i++)
		jw_str(&w, argv[i]);
	jw_end(&w);
	jw_end(&w);
	return jw_done(&w, e);
}

enum sandbox_state here_state(const struct sandbox *s)
{
	struct process_info self;

	if (s->pid <= 0)
		return SANDBOX_NONE;
	if (process_alive(s->pid, s->pid_start))
		return SANDBOX_RUNNING;
	return process_info(getpid(), &self) ? SANDBOX_GONE : SANDBOX_UNKNOWN;	/* no /proc */
}

const char *here_socket(const struct sandbox *s)
{
	return strncmp(s->address, "unix:/", 6) == 0 ? s->address + 5 : NULL;
}

int here_remove_files(const struct sandbox *s, struct err *e)
{
	const char *socket = here_socket(s);

	if (socket && unlink(socket) < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_set(e, ERR_SYS, errno, "%s: remove", socket);
	/* The journal says what to remove: at least it must not be something like "/home". */
	if (s->state_dir[0] != '/' || !strchr(s->state_dir + 1, '/'))
		return s->state_dir[0] ? err_set(e, ERR_STATE, 0, "'%s': not removed", s->state_dir)
				       : 0;
	return fs_remove_tree(AT_FDCWD, s->state_dir, e);
}

int64_t here_grace_us(int deadline_ms)
{
	int64_t half = (int64_t)deadline_ms * 1000 / 2;

	return half < 500000 ? half : 500000;
}
