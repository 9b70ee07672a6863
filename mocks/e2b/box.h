/* SPDX-License-Identifier: Apache-2.0
 *
 * box - one sandbox of the kernel's: own users, processes, mounts, host name, IPC and network.
 *
 * In it: /usr and (by links) /etc of this machine, read-only; /home, /root, /tmp, /var, /opt,
 * /run and /srv out of one directory, writable; a loopback and no other network.  Process 1 is
 * the door (door.h), which starts the envd role.  Works for root and for ordinary users alike,
 * without helpers:
 *
 *   root       maps the users 0 to 65535 of the sandbox to a high range of this machine's, so
 *              that root in the sandbox owns nothing here
 *   others     map the one user that the kernel lets them: `user` (1000) is they themselves,
 *              and there is no root inside
 *
 * Knows namespaces and mounts; knows nothing of HTTP or of the life of a sandbox.  */
#ifndef FARSTEP_E2B_BOX_H
#define FARSTEP_E2B_BOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "protocol/base/err.h"

#define BOX_USER "user"
/* This machine's /etc.  The sandbox's is a directory of links to it, for a file mounted over
 * /etc/passwd would be gone as soon as the machine replaces its own by rename.  As deep as /etc,
 * so that links from there upwards lead where they should. */
#define BOX_MACHINES_ETC ".etc"

enum {
	BOX_UID = 1000,		/* of `user`, inside */
	BOX_USERS = 65536,
	BOX_DOOR_FD = 3,	/* process 1 finds the door's socket here, */
	BOX_TOKEN_FD = 4,	/* and here what envd reads its token from */
};

/* Which users the sandboxes of this process have; found once. */
struct box_users {
	bool many;		/* 0 to 65535; else only BOX_UID */
	uid_t base;		/* many: what 0 inside is here */
};
void box_users_find(struct box_users *ret);

struct box {
	pid_t pid;		/* process 1 as seen from here; 0 when there is none */
	int door;		/* our end of the door's socket */
};

/* Makes the directories that a sandbox keeps, below dir, which must not exist yet. */
int box_make_dir(const char *dir, const char *name, const struct box_users *users, struct err *e);

struct box_spec {
	const char *dir, *name;	/* the name is its host name too */
	const struct box_users *users;
	char *const *argv;	/* of process 1; argv[0] is a name only, the program is this one */
	int log_fd;		/* where its output goes */
	int token_fd;
};
/* Returns when the mounts stand and process 1 has been started; ERR_PROVIDER if the kernel
 * refused, with what to do. */
int box_start(const struct box_spec *spec, struct box *ret, struct err *e);
/* Ends every process in it and waits for that; the directory stays.  A box without a process is
 * fine. */
void box_end(struct box *b);

#endif
