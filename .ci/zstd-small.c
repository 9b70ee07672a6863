/* SPDX-License-Identifier: Apache-2.0
 *
 * zstd-small - stands in for zstd's lazy and optimal match finders in the worker's libzstd.
 *
 * They serve the levels from 4 up, and are a third of the library. The worker compresses with
 * levels 1 to 3. Here they find no match and hand the whole block back as literals: what comes
 * out is valid zstd at any level, it is only larger than it could be. Decompression has no part
 * in this. Built by .ci/deps against zstd's own headers, so that a change there is noticed. */
#include "zstd_compress_internal.h"
#include "zstd_lazy.h"
#include "zstd_opt.h"

#define FINDS_NOTHING(name)                                                                     \
	size_t ZSTD_compressBlock_##name(ZSTD_matchState_t *ms, seqStore_t *seqs,               \
					 U32 rep[ZSTD_REP_NUM], void const *src, size_t size)   \
	{                                                                                       \
		(void)ms;                                                                       \
		(void)seqs;                                                                     \
		(void)rep;                                                                      \
		(void)src;                                                                      \
		return size;                                                                    \
	}

#define IN_EACH_MODE(name)                                                                      \
	FINDS_NOTHING(name)                                                                     \
	FINDS_NOTHING(name##_extDict)                                                           \
	FINDS_NOTHING(name##_dictMatchState)

#define ALSO_BY_ROWS(name)                                                                      \
	IN_EACH_MODE(name)                                                                      \
	FINDS_NOTHING(name##_dedicatedDictSearch)                                               \
	FINDS_NOTHING(name##_row)                                                               \
	FINDS_NOTHING(name##_extDict_row)                                                       \
	FINDS_NOTHING(name##_dictMatchState_row)                                                \
	FINDS_NOTHING(name##_dedicatedDictSearch_row)

ALSO_BY_ROWS(greedy)
ALSO_BY_ROWS(lazy)
ALSO_BY_ROWS(lazy2)
IN_EACH_MODE(btlazy2)
IN_EACH_MODE(btopt)
IN_EACH_MODE(btultra)
FINDS_NOTHING(btultra2)

/* What they would learn from a dictionary. */

U32 ZSTD_insertAndFindFirstIndex(ZSTD_matchState_t *ms, const BYTE *ip)
{
	(void)ms;
	(void)ip;
	return 0;
}

void ZSTD_row_update(ZSTD_matchState_t *const ms, const BYTE *ip)
{
	(void)ms;
	(void)ip;
}

void ZSTD_dedicatedDictSearch_lazy_loadDictionary(ZSTD_matchState_t *ms, const BYTE *const ip)
{
	(void)ms;
	(void)ip;
}

void ZSTD_updateTree(ZSTD_matchState_t *ms, const BYTE *ip, const BYTE *iend)
{
	(void)ms;
	(void)ip;
	(void)iend;
}
