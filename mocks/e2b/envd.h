/* SPDX-License-Identifier: Apache-2.0
 *
 * envd - the daemon inside a sandbox, on port 49983: what farstep-mock-e2b is in the role envd.
 *
 *   farstep-mock-e2b --role envd [option...]
 *
 *   --listen HOST:PORT      0.0.0.0:49983; port 0: any free one
 *   --listen-fd N           a listening socket instead, inherited
 *   --token TOKEN           X-Access-Token that is asked for; without it everything is open
 *   --token-fd N            the same, read from this descriptor up to its end
 *   --envd-version V        what to imitate (0.6.13): see the gates below
 *   --default-user NAME     for requests that name none ("user"; envd from 0.4.0)
 *   --default-workdir DIR   for relative paths and processes, in place of the user's home
 *   --env NAME=VALUE        global environment of every process; may be given several times
 *   --passwd FILE           the user table (/etc/passwd)
 *   --fault SPEC            see below; may be given several times
 *   --with-parent           ends when standard input closes
 *
 * It prints "ready HOST:PORT" on standard output when it listens, and logs to standard error.
 * SIGTERM ends it together with every process it started.  It needs no privileges: where it may
 * not become another user, processes run as whoever it is.  It runs as the first process of a
 * pid namespace too, and then reaps what others leave.
 *
 * Version gates (numbers of envd releases): 0.3.0 stdin=false is understood (before: always
 * open); 0.4.0 default user; 0.5.2 CloseStdin; 0.5.3 gzip; 0.5.5 /files/compose; 0.5.7
 * octet-stream; 0.5.19 output is discarded while nobody is attached (before: it blocks); 0.6.2
 * metadata; 0.6.3 entry in watch events; 0.6.12 an exit is kept for 30 s.
 *
 * Faults:
 *   process:drop@N          a Start or Connect stream breaks after N bytes
 *   process:truncate        the end envelope of such a stream is cut in half
 *   process:stall@N         after N bytes nothing more is sent, keepalives neither
 *   process:no-keepalive    keepalives are not sent
 *   process:start-503       Start answers unavailable
 *   files:cut@N             an upload or download breaks after N bytes
 *   files:507               uploads find the disk full
 *   files:hang              /files never answers
 * Each may end in xK: only the first K times it applies. */
#ifndef FARSTEP_E2B_ENVD_H
#define FARSTEP_E2B_ENVD_H

#include <stdbool.h>

#define ENVD_PORT 49983
#define ENVD_VERSION "0.6.13"

/* Runs the role until it is told to end; argv begins behind "--role envd".  Returns the exit
 * code of the process: 0, or 2 for wrong usage or when it cannot listen. */
int envd_main(int argc, char **argv);

/* Does the text name one of the faults above?  For the outer process, which hands them on. */
bool envd_knows_fault(const char *spec);

#endif
