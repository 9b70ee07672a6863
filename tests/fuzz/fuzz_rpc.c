/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a text frame.  Every element leads to one message or one fault; each is answered,
 * and the answers must be readable, with the id that came, byte for byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct seen {
	const char *text;
	size_t len;
	int messages, faults, depth, batches;
	bool reading_back;
	const char *want_id; /* reading back: of the answer that was written */
};

static void must(int cond)
{
	if (!cond)
		abort();
}

static void read_back(const struct buf *text, const char *want_id);

static void answer_request(const struct rpc_message *m)
{
	struct buf out;

	buf_init(&out, LIMIT_TEXT);
	must(rpc_write_result(&out, &m->id, NULL, 0, NULL) == 0);
	read_back(&out, m->id.raw);
	buf_reset(&out);
	must(rpc_write_error(&out, &m->id, &(struct err){ .code = ERR_BUSY, .msg = "x" }, NULL,
	                     NULL) == 0);
	read_back(&out, m->id.raw);
	buf_release(&out);
}

static void on_message(void *arg, const struct rpc_message *m)
{
	struct seen *s = arg;

	s->messages++;
	if (s->reading_back) {
		must(m->kind == RPC_RESULT || m->kind == RPC_ERROR);
		must(strcmp(m->id.raw, s->want_id) == 0);
		return;
	}
	if (m->kind == RPC_REQUEST || m->kind == RPC_NOTICE)
		must(m->method && (!m->params || json_type(m->params) == JSON_OBJECT));
	if (m->kind == RPC_NOTICE)
		must(m->id.raw[0] == 0);
	else /* what came is what goes back */
		must(m->id.raw[0] && strlen(m->id.raw) <= LIMIT_RPC_ID + 2 &&
		     memmem(s->text, s->len, m->id.raw, strlen(m->id.raw)));
	if (m->kind == RPC_RESULT)
		must(m->result != NULL);
	if (m->kind == RPC_ERROR)
		must(m->error.code != ERR_NONE && m->error.code < ERR_COUNT);
	if (m->kind == RPC_REQUEST)
		answer_request(m);
}

static void on_fault(void *arg, const struct rpc_fault *f)
{
	struct seen *s = arg;
	struct buf out;

	must(!s->reading_back);
	s->faults++;
	must(f->id.raw[0] && f->error.code != ERR_NONE && f->error.msg[0]);
	buf_init(&out, LIMIT_TEXT);
	must(rpc_write_error(&out, &f->id, &f->error, NULL, NULL) == 0);
	read_back(&out, f->id.raw);
	buf_release(&out);
}

static void on_batch(void *arg, bool begins)
{
	struct seen *s = arg;

	s->depth += begins ? 1 : -1;
	s->batches += begins;
	must(s->depth == (begins ? 1 : 0));
}

static void read_back(const struct buf *text, const char *want_id)
{
	struct seen s = { .reading_back = true, .want_id = want_id };
	const struct rpc_sink sink = { &s, on_message, on_fault, on_batch };

	rpc_read((const char *)buf_data(text), buf_len(text), &sink);
	must(s.messages == 1 && s.batches == 0);
}

/* How many elements there are: as many calls there must have been. */
static int elements(const char *text, size_t n)
{
	json *v = json_parse(text, n, LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL);
	size_t count = json_type(v) == JSON_ARRAY ? json_count(v) : 1;

	json_free(v);
	return count == 0 || count > LIMIT_BATCH ? 1 : (int)count;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct seen s = { .text = (const char *)p, .len = n };
	const struct rpc_sink sink = { &s, on_message, on_fault, on_batch };

	rpc_read((const char *)p, n, &sink);
	must(s.depth == 0 && s.batches <= 1);
	must(s.messages + s.faults == elements((const char *)p, n));
	return 0;
}
