/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "mocks/e2b/edge_int.h"
#include "mocks/e2b/envd.h"
#include "protocol/base/log.h"

void edge_act(struct edge *d, const struct fault *f)
{
	d->x.fault = fault_name(f->kind);
	log_debug("edge: %s acts on %s", d->x.fault, http_target(d->x.h));
}

void edge_choose_faults(struct edge *d)
{
	struct faults *f = &d->x.cloud->faults;
	const char *path = http_path(d->x.h);
	struct meddling m;

	if (d->to.port != ENVD_PORT)
		return;
	if (strcmp(path, "/process.Process/Start") == 0 ||
	    strcmp(path, "/process.Process/Connect") == 0) {
		d->out.cut = faults_find(f, FAULT_PROCESS_DROP);
	} else if (strcmp(path, "/files") == 0) {
		m = (struct meddling){ faults_find(f, FAULT_FILES_CUT),
				       faults_find(f, FAULT_FILES_CORRUPT), 0 };
		if (strcmp(http_method(d->x.h), "GET") == 0)
			d->out = m;
		else
			d->in = m;
	}
}

size_t edge_until_cut(struct edge *d, struct meddling *m, size_t n)
{
	uint64_t left;

	if (!m->cut || m->passed + n <= m->cut->at)
		return n;
	left = m->cut->at > m->passed ? m->cut->at - m->passed : 0;
	if (!fault_act(m->cut)) {
		m->cut = NULL;
		return n;
	}
	edge_act(d, m->cut);
	return (size_t)left;
}

const uint8_t *edge_meddle(struct edge *d, struct meddling *m, const uint8_t *p, size_t n,
			     struct buf *copy)
{
	uint64_t at = m->corrupt ? m->corrupt->at : 0;

	if (!m->corrupt || at < m->passed || at >= m->passed + n || !fault_act(m->corrupt))
		return p;
	buf_init(copy, n);
	if (buf_put(copy, p, n, NULL) < 0)
		return p;
	edge_act(d, m->corrupt);
	copy->mem[copy->off + (at - m->passed)] ^= 1;
	m->corrupt = NULL;
	return buf_data(copy);
}
