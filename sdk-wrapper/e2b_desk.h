/* SPDX-License-Identifier: Apache-2.0
 *
 * e2b_desk - what it takes to ask E2B something: the account of the environment, an HTTP client
 * and the control API on one loop; and waiting for an answer, for who has nothing else to do. */
#ifndef FARSTEP_SDK_E2B_DESK_H
#define FARSTEP_SDK_E2B_DESK_H

#include "sdk-wrapper/e2b_api.h"

struct e2b_desk {
	struct loop *loop;
	struct http *http;
	struct e2b_env env;
	struct e2b_api *api;
	bool owns_loop;
	/* of the call that is waited for */
	bool over, failed;
	enum fail_class class;	/* FAIL_NONE: it succeeded, or nobody said */
	struct err err;
};

/* On loop l, which is borrowed; NULL: on one of its own.  ERR_DENIED without a key,
 * ERR_UNSUPPORTED without libcurl; e2b_desk_close in either case. */
int e2b_desk_open(struct e2b_desk *d, struct loop *l, struct err *e);
/* Forgets calls under way, and the key.  Fine for one that is all zeros. */
void e2b_desk_close(struct e2b_desk *d);

/* The call has come to its end: the on_done of an e2b_end whose user is the desk, or called by
 * another on_done; err NULL: with success. */
void e2b_desk_answered(void *user, const struct e2b_result *r);
void e2b_desk_over(struct e2b_desk *d, const struct err *err);
/* Blocks until one of them is called, which the deadline of the call sees to.  has_begun false:
 * it could not even begin, and *e says why. */
int e2b_desk_wait(struct e2b_desk *d, bool has_begun, struct err *e);

#endif
