/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <string.h>

#include "proxy/plan.h"

enum { LONGEST = 64 };

static size_t least(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein's distance, where two neighbours that changed places count as one mistake. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
	size_t row[3][LONGEST + 1];

	for (size_t j = 0; j <= m; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *now = row[i % 3];
		const size_t *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= m; j++) {
			now[j] = least(up[j] + 1, now[j - 1] + 1,
			               up[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    up2[j - 2] + 1 < now[j])
				now[j] = up2[j - 2] + 1;
		}
	}
	return row[n % 3][m];
}

/* How many mistakes a word of n letters may have and still be meant. */
static size_t tolerated(size_t n)
{
	return n <= 3 ? 1 : n <= 6 ? 2 : 3;
}

const char *nearest(const char *word, const char *const *names)
{
	size_t n = strlen(word), best = tolerated(n) + 1;
	const char *ret = NULL;

	if (n == 0 || n > LONGEST)
		return NULL;
	for (; *names; names++) {
		size_t m = strlen(*names), d;

		if (m > LONGEST || m + best <= n || n + best <= m)
			continue;
		d = distance(word, n, *names, m);
		if (d < best && d < m) {
			best = d;
			ret = *names;
		}
	}
	return ret;
}
