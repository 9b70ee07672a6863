/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/carrier.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/hash.h"
#include "protocol/crc.h"

/* Below this many queued bulk bytes the upper layer is asked for more. */
#define LOW_WATER (LIMIT_SEND_QUEUE / 2)

void carrier_init(struct carrier *c)
{
	memset(c, 0, sizeof(*c));
	c->control.tail = &c->control.head;
	c->bulk.tail = &c->bulk.head;
}

static void free_list(struct out_frame *f)
{
	while (f) {
		struct out_frame *next = f->next;

		free(f);
		f = next;
	}
}

void carrier_release(struct carrier *c)
{
	free_list(c->control.head);
	free_list(c->bulk.head);
	free(c->spare);
	carrier_init(c);
}

struct out_frame *carrier_frame(struct carrier *c, bool binary, bool bulk, size_t n, struct err *e)
{
	struct out_frame *f = c->spare;

	if (c->queued + n > LIMIT_SEND_QUEUE_HARD) {
		err_set(e, ERR_LIMIT, 0, "the peer does not read: %zu bytes wait to be sent",
		        c->queued);
		return NULL;
	}
	if (f && f->room >= n) {
		c->spare = NULL;
	} else {
		f = malloc(sizeof(*f) + CARRIER_HEADROOM + n + CARRIER_SEAL);
		if (!f) {
			err_set(e, ERR_NO_MEMORY, 0, "a frame of %zu bytes", n);
			return NULL;
		}
		f->room = n;
	}
	f->next = NULL;
	f->binary = binary;
	f->bulk = bulk;
	f->len = n;
	return f;
}

void carrier_push(struct carrier *c, struct out_frame *f)
{
	struct out_frame ***tail = f->bulk ? &c->bulk.tail : &c->control.tail;

	**tail = f;
	*tail = &f->next;
	c->queued += f->len;
	if (f->bulk)
		c->queued_bulk += f->len;
	if (c->kick)
		c->kick(c);
}

int carrier_send_text(struct carrier *c, const void *p, size_t n, struct err *e)
{
	struct out_frame *f;

	if (n > LIMIT_TEXT)
		return err_set(e, ERR_LIMIT, 0, "a message of %zu bytes does not fit into a frame",
		               n);
	f = carrier_frame(c, false, false, n, e);
	if (!f)
		return -1;
	memcpy(out_frame_payload(f), p, n);
	carrier_push(c, f);
	return 0;
}

int carrier_send_window(struct carrier *c, uint32_t channel, uint64_t durable, uint64_t limit,
                        struct err *e)
{
	struct out_frame *f = carrier_frame(c, true, false, FRAME_HEADER + 8, e);

	if (!f)
		return -1;
	frame_header(out_frame_payload(f), FRAME_WINDOW, 0, channel, durable);
	for (int i = 0; i < 8; i++)
		out_frame_payload(f)[FRAME_HEADER + i] = (uint8_t)(limit >> (56 - 8 * i));
	carrier_push(c, f);
	return 0;
}

static struct out_frame *take(struct out_frame **head, struct out_frame ***tail)
{
	struct out_frame *f = *head;

	if (f) {
		*head = f->next;
		if (!*head)
			*tail = head;
	}
	return f;
}

struct out_frame *carrier_take(struct carrier *c)
{
	struct out_frame *f = take(&c->control.head, &c->control.tail);

	if (!f)
		f = take(&c->bulk.head, &c->bulk.tail);
	if (f && c->on_sent)
		c->on_sent(c, f->binary, out_frame_payload(f), f->len);
	return f;
}

void carrier_written(struct carrier *c, struct out_frame *f)
{
	bool bulk = f->bulk;

	c->queued -= f->len;
	c->frames_out++;
	c->bytes_out += f->len;
	if (bulk)
		c->queued_bulk -= f->len;
	if (!c->spare && f->room >= LIMIT_DATA)
		c->spare = f;
	else
		free(f);
	if (bulk && c->queued_bulk <= LOW_WATER && c->on_room)
		c->on_room(c);
}

/* The number of the frame is part of what is summed up, so that a lost or doubled one shows. */
static size_t make_seal(uint64_t number, bool binary, const uint8_t *p, size_t n,
                        uint8_t seal[CARRIER_SEAL + 1])
{
	uint8_t head[8];
	uint32_t crc;

	for (int i = 0; i < 8; i++)
		head[i] = (uint8_t)(number >> (56 - 8 * i));
	crc = crc32c(crc32c(0, head, sizeof(head)), p, n);
	for (int i = 0; i < 4; i++)
		head[i] = (uint8_t)(crc >> (24 - 8 * i));
	if (binary)
		memcpy(seal, head, 4);
	else
		hex_encode(head, 4, (char *)seal);
	return binary ? 4 : 8;
}

size_t carrier_seal(const struct carrier *c, struct out_frame *f)
{
	uint8_t seal[CARRIER_SEAL + 1];
	uint8_t *p = out_frame_payload(f);
	size_t n;

	if (!c->checked)
		return f->len;
	n = make_seal(c->frames_out, f->binary, p, f->len, seal);
	memcpy(p + f->len, seal, n);
	return f->len + n;
}

bool carrier_unseal(const struct carrier *c, bool binary, const uint8_t *p, size_t *n)
{
	uint8_t seal[CARRIER_SEAL + 1];
	size_t tail = binary ? 4 : 8;

	if (!c->checked)
		return true;
	if (*n < tail)
		return false;
	*n -= tail;
	make_seal(c->frames_in, binary, p, *n, seal);
	return memcmp(p + *n, seal, tail) == 0;
}
