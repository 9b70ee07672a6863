/* SPDX-License-Identifier: Apache-2.0
 *
 * door_wire - what goes through a door's socket, one message each. */
#ifndef FARSTEP_E2B_DOOR_WIRE_H
#define FARSTEP_E2B_DOOR_WIRE_H

#include <stdint.h>

enum door_what { DOOR_CONNECT = 1, DOOR_FREEZE, DOOR_THAW };

struct door_question {
	uint16_t what;
	uint16_t port;
};

struct door_answer {
	int32_t sys;	/* 0: done; a connect has its socket with it */
};

#endif
