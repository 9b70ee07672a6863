/* SPDX-License-Identifier: Apache-2.0
 *
 * userkey - the one secret that farstep keeps on disk (0600, made on first use). */
#ifndef FARSTEP_PROXY_USERKEY_H
#define FARSTEP_PROXY_USERKEY_H

#include "protocol/keys.h"

/* file: --key-file, else FARSTEP_KEY_FILE, else $XDG_CONFIG_HOME/farstep/key or
 * ~/.config/farstep/key (only this default is made when missing, atomically, safe against
 * two first uses at once).  64 hex digits and a newline.  ERR_DENIED (exit 8) when others
 * may read it, it is no key, or it belongs to somebody else: says what to do. */
int userkey_load(const char *file, uint8_t key[USER_KEY_LEN], struct err *e);

/* $XDG_RUNTIME_DIR/farstep, else /tmp/farstep-UID, made 0700 and checked (owner, mode). */
int runtime_dir(char out[256], struct err *e);

#endif
