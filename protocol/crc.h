/* SPDX-License-Identifier: Apache-2.0
 *
 * crc - CRC-32C (Castagnoli), which finds what a damaged link does to a frame. */
#ifndef FARSTEP_CRC_H
#define FARSTEP_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of p[0 .. n), after what crc was made of; 0 to begin. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same without the processor's instruction; for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n);

#endif
