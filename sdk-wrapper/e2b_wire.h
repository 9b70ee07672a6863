/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_wire - what goes to E2B's control API and comes from it, as bytes; pure. */
#ifndef FARSTEP_SDK_E2B_WIRE_H
#define FARSTEP_SDK_E2B_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/buf.h"
#include "protocol/base/json.h"

/* Metadata: name and value in turn, NULL at the end. */
typedef const char *const *e2b_metadata;

/* What is asked for.  There is no environment here, on purpose: what the user passes to steps is
 * no business of the provider's. */
struct e2b_create {
	const char *template_name;
	uint32_t timeout_s;
	bool internet;
	e2b_metadata metadata;
	const char *unique;	/* of this create alone; goes into the metadata as E2B_UNIQUE */
	const char *const *hosts;	/* without internet: but these (egress.h); or NULL */
};

/* Of PUT /sandboxes/ID/network, which replaces what was said before. */
int e2b_network_body(bool internet, const char *const *hosts, struct buf *out, struct err *e);

#define E2B_UNIQUE "farstep_create"

enum e2b_version { E2B_V1, E2B_V2 };

int e2b_create_body(const struct e2b_create *c, enum e2b_version v, struct buf *out,
		    struct err *e);

/* "/v2/sandboxes?..." with a metadata filter (NULL: none); running ones only unless paused too.
 * A filter's value is decoded three times by the server: as a query, as a whole, and each
 * name and value by itself; so they are encoded three times. */
int e2b_list_path(e2b_metadata filter, bool paused_too, unsigned limit, struct buf *out,
		  struct err *e);
/* The page after one that came with this token; first is the path of the first page. */
int e2b_next_page(const char *first, const char *token, struct buf *out, struct err *e);

enum e2b_state { E2B_RUNNING, E2B_PAUSED };

/* A sandbox as create, connect, get and list tell it; what an answer does not hold is empty. */
struct e2b_sandbox {
	char id[64];
	char template_id[128];
	char envd_version[32];
	char access_token[160];		/* for envd */
	char traffic_token[160];
	char domain[128];		/* instead of E2B_DOMAIN */
	char started_at[40], end_at[40];
	enum e2b_state state;
	uint32_t cpus, memory_mb;
};

int e2b_sandbox_read(const json *v, struct e2b_sandbox *ret, struct err *e);
/* Copies the value of a name in the metadata of a listed sandbox; false: it has none. */
bool e2b_metadata_get(const json *listed, const char *name, char *ret, size_t size);

/* Versions compare by number: 0.5.13 is newer than 0.5.7. */
uint64_t e2b_version(const char *text);	/* 0: none */
/* What the envd of a sandbox can do. */
enum envd_feature {
	ENVD_SECURE,		/* access token */
	ENVD_STDIN_CHOICE,	/* stdin: false */
	ENVD_TEMPLATE_USER,	/* user and directory of the template by default */
	ENVD_CLOSE_STDIN,
	ENVD_COMPOSE,
	ENVD_OCTET_STREAM,
	ENVD_DISCARDS,		/* output of a process that nobody watches is thrown away */
	ENVD_EXIT_KEPT,		/* for 30 s */
};
bool envd_can(const char *version, enum envd_feature f);

#endif
