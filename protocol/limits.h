/* SPDX-License-Identifier: Apache-2.0
 *
 * limits - every bound of every queue, buffer and wait, in one place.
 * docs/limits.md says for each who owns it and what happens there. */
#ifndef FARSTEP_LIMITS_H
#define FARSTEP_LIMITS_H

/* frames */
#define LIMIT_TEXT       (256 * 1024) /* bytes of a text frame */
#define LIMIT_DATA       (64 * 1024)  /* payload of a binary frame */
#define LIMIT_JSON_DEPTH 32
#define LIMIT_BATCH      64  /* requests in one batch */
#define LIMIT_RPC_ID     128 /* bytes of a request id */
#define MEMORY_MAX_MB    (1024 * 1024) /* that a session may name as the bound of a process */
#define LIMIT_IN_FLIGHT  256 /* requests without an answer, per connection */
#define LIMIT_REQUESTS_S 10000 /* read in a second, per connection, on average */
#define LIMIT_REQUESTS   20000 /* at once */
#define LIMIT_CHANNELS   256 /* bound channels, per connection */

/* connections */
#define LIMIT_UNAUTHENTICATED    32
#define LIMIT_UNAUTHENTICATED_MS 2000
#define LIMIT_CONNECTIONS        64            /* authenticated */
/* bytes waiting in a carrier: then streams are not read */
#define LIMIT_SEND_QUEUE         (1024 * 1024)
#define LIMIT_SEND_QUEUE_HARD    (8 * 1024 * 1024) /* a peer that does not read is dropped here */
#define HEARTBEAT_MS             10000 /* unless the worker's hello says otherwise */
#define HEARTBEAT_MIN_MS         1000
#define HEARTBEAT_MAX_MS         60000
#define LINK_DEAD_MS(heartbeat)  ((heartbeat) * 5 / 2) /* nothing received for so long */
#define LINK_DEAD_SPARE_MS       5000 /* then libwebsockets ends what we did not */

/* sessions and steps */
#define LIMIT_SESSIONS      64
#define LIMIT_STEPS_RUNNING 64    /* at once, per session */
#define LIMIT_STEPS         20000 /* in the table, per session */
#define LIMIT_STEP_ID       64
#define LIMIT_RUN_ID        64
#define LIMIT_ATTEMPT       1000
#define LIMIT_ARGV          1024 /* arguments of an exec step */
#define LIMIT_ENV           1024 /* variables of a step */
#define LIMIT_INPUTS        256
#define LIMIT_GLOBS         256
#define LIMIT_SECRETS_BYTES (128 * 1024) /* env and secrets of one session */
#define LEASE_DEFAULT_MS    300000
#define LEASE_MAX_MS        86400000
#define LEASE_RENEW_MS      60000
#define GRACE_DEFAULT_MS    5000
#define GRACE_MAX_MS        600000
#define LINGER_DEFAULT_MS   2000
#define LINGER_MAX_MS       60000
#define TIMEOUT_MAX_MS      2592000000LL /* 30 days */

/* streams */
#define LIMIT_SPOOL        (64 * 1024 * 1024) /* unacknowledged bytes of one stream on disk */
#define WINDOW_STREAM      (4 * 1024 * 1024)  /* what the proxy grants ahead */
#define WINDOW_STDIN       (256 * 1024)       /* what the worker grants ahead */
#define WINDOW_UPLOAD      (8 * 1024 * 1024)
#define LIMIT_EVENT_LINE   (64 * 1024) /* one line on descriptor 3 */
#define LIMIT_RECORD       (128 * 1024) /* signed record of a step; its receipt has half of it */
#define LIMIT_EVENT_WINDOW 512         /* events sent beyond the last acknowledged */

/* packages and artifacts */
#define LIMIT_PACKAGE         (4LL * 1024 * 1024 * 1024)  /* compressed */
#define LIMIT_UNPACKED        (16LL * 1024 * 1024 * 1024) /* bytes of all files */
#define LIMIT_UNPACK_RATIO    2000 /* output per compressed byte, past the first 64 MiB */
#define LIMIT_ENTRIES         1000000
#define LIMIT_PATH            4096
#define LIMIT_PATH_DEPTH      64
#define LIMIT_ZSTD_WINDOW_LOG 23
#define LIMIT_ARTIFACTS       100000 /* files of one step */
#define LIMIT_MANIFEST        (32 * 1024 * 1024)

/* files that steps left in their working directory */
#define LIMIT_LEFT_NAMED 20      /* in the warning; the others are counted */
#define LIMIT_LEFT_KNOWN 2097152 /* files of package and artifacts, per session */
#define LEFT_WALK_MS     2000    /* how long a worker looks */
#define LEFT_WAIT_MS     4000    /* how long the proxy waits for the answer */

/* packages that a pipeline requires */
#define LIMIT_REQUIREMENTS       1000
#define LIMIT_REQUIREMENT        4000              /* bytes of one, hashes and all */
#define LIMIT_REQUIREMENTS_BYTES (64 * 1024)       /* of all for one tool: they travel in a frame */
#define LIMIT_REQUIREMENTS_FILE  (1024 * 1024)
#define LIMIT_DEPENDENCY_REPORT  (1024 * 1024)
#define DEPENDENCIES_MS          1800000           /* how long checking and installing may take */

/* requests to providers */
#define LIMIT_HTTP_HEADERS (64 * 1024)
#define LIMIT_HTTP_KEPT    8                /* idle connections kept open */
#define LIMIT_TUNNEL       (256 * 1024)     /* bytes under way in a tunnel, each direction */
#define LIMIT_API_ANSWER   (4 * 1024 * 1024)
#define LIMIT_ENVELOPE     (1024 * 1024)    /* one message of a Connect stream */

/* files and lines of the command line */
#define LIMIT_PIPELINE_FILE   (8 * 1024 * 1024)
#define LIMIT_WORKER_CONFIG   (64 * 1024)
#define WORKER_CONFIG_MS      30000 /* how long standard input may take to give it */
#define LIMIT_MASK_SECRET_MIN 8 /* shorter values are masked only when named by --secret */

#endif
