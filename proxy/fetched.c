/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "proxy/fetched.h"

void fetched_print(struct jw *w, const char *under, const struct fetched *f)
{
	char path[LIMIT_STEP_ID + LIMIT_PATH + 2];

	snprintf(path, sizeof(path), "%s%s%s", under ? under : "", under ? "/" : "", f->path);
	jw_kstr(w, "path", path);
	jw_kint(w, "size", (int64_t)f->size);
	jw_kstr(w, "sha256", f->sha256);
}

void fetched_write(struct jw *w, const struct fetched *list, size_t n)
{
	jw_karr(w, "artifacts");
	for (size_t i = 0; i < n; i++) {
		jw_obj(w);
		jw_kstr(w, "path", list[i].path);
		jw_ku64s(w, "size", list[i].size);
		jw_kstr(w, "sha256", list[i].sha256);
		jw_end(w);
	}
	jw_end(w);
}

int fetched_read(const json *v, struct fetched **list, size_t *n, struct err *e)
{
	*n = 0;
	*list = calloc(json_count(v) + 1, sizeof(**list));
	if (!*list)
		return err_set(e, ERR_NO_MEMORY, 0, "journal");
	for (v = json_first(v); v; v = json_next(v)) {
		struct fetched *f = &(*list)[*n];
		const char *path = NULL, *sha = NULL;

		if (json_req_str(v, "artifact", "path", &path, e) < 0 ||
		    json_req_str(v, "artifact", "sha256", &sha, e) < 0 ||
		    json_req_u64(v, "artifact", "size", &f->size, e) < 0)
			return -1;
		f->path = strdup(path);
		if (!f->path)
			return err_set(e, ERR_NO_MEMORY, 0, "journal");
		snprintf(f->sha256, sizeof(f->sha256), "%s", sha);
		++*n;
	}
	return 0;
}

void fetched_free(struct fetched *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].path);
	free(list);
}
