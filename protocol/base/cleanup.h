/* SPDX-License-Identifier: Apache-2.0
 *
 * cleanup - locals that own something and let go of it on every way out. */
#ifndef FARSTEP_BASE_CLEANUP_H
#define FARSTEP_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free_(void *p) { free(*(void **)p); }
static inline void cleanup_close_(int *fd) { if (*fd >= 0) close(*fd); }
static inline void cleanup_fclose_(FILE **f) { if (*f) fclose(*f); }
static inline void cleanup_closedir_(DIR **d) { if (*d) closedir(*d); }

#define auto_free CLEANUP(cleanup_free_)
#define auto_close CLEANUP(cleanup_close_)
#define auto_fclose CLEANUP(cleanup_fclose_)
#define auto_closedir CLEANUP(cleanup_closedir_)

/* Hand out what a local owned: the local forgets it. */
static inline int take_fd(int *fd) { int v = *fd; *fd = -1; return v; }
#define take_ptr(p) __extension__({ __typeof__(p) v_ = (p); (p) = NULL; v_; })

/* close and forget, for members that may be -1 */
static inline void close_fd(int *fd) { if (*fd >= 0) close(*fd); *fd = -1; }

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
