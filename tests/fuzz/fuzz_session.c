/* SPDX-License-Identifier: Apache-2.0
 *
 * A worker's sessions fed with any sequence of frames, lost connections and words of keepers.
 * Nothing may crash or leak; what goes out is well formed; at the end everything is given back.
 *
 * The input is a sequence of acts: one byte says which, for those with bytes a u16 their number:
 *
 *   t n text     a text frame             b n bytes    a binary frame
 *   o f          session.open             r f          session.resume, session.observe
 *   x f          step.execute             l f          package.load
 *   d c f n bytes  DATA on channel c at the next offset (flags f)
 *   w c f        WINDOW on channel c      m f          another method, by its number
 *   c            a connection more        k            the line is cut
 *   1..4         speak on this connection
 *   e n bytes    the keeper's step writes to descriptor 3; p n bytes to its output
 *   s f          the keeper says its state (phase f)   f g  it finishes (forged signature g)
 *   q            the keeper dies          h n bytes    the unpacking helper reports
 *   z            the worker dies, all connections with it; another one takes over
 *
 * where f is one byte of choices.  Everything else passes time. */
#include <stdint.h>

#include "tests/unit/worker/fake.h"

#define CONNS 4
#define KEY   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct input {
	const uint8_t *p, *end;
};

static struct fake_conn *conns[CONNS];
static int speaking;
static uint64_t next_offset[16]; /* of DATA, by channel */
static int request;

static void must(int cond)
{
	if (!cond)
		abort();
}

static uint8_t take(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/* A u16 and so many bytes, or what is left. */
static size_t take_bytes(struct input *in, const uint8_t **ret)
{
	size_t n = (size_t)take(in) << 8, left;

	n |= take(in);
	left = (size_t)(in->end - in->p);
	n = n < left ? n : left;
	*ret = in->p;
	in->p += n;
	return n;
}

/* Whatever goes out is a frame that the other side would take. */
static void check_output(struct fake_conn *c)
{
	for (; c->seen < c->n_out; c->seen++) {
		struct fake_frame *f = &c->out[c->seen];
		struct frame parsed;

		if (f->binary)
			must(frame_parse((const uint8_t *)f->text, f->len, &parsed, NULL) == 0);
		else
			must(f->len <= LIMIT_TEXT &&
			     json_check(f->text, f->len, LIMIT_TEXT, LIMIT_JSON_DEPTH, NULL) == 0);
		free(f->text);
		f->text = NULL;
	}
	c->n_out = c->seen = 0;
	must(c->carrier.queued <= LIMIT_SEND_QUEUE_HARD);
}

static void feed(bool binary, const void *p, size_t n)
{
	struct fake_conn *c = conns[speaking];

	if (!c || n > (binary ? LIMIT_DATA + FRAME_HEADER : LIMIT_TEXT))
		return;
	fake_feed(c, binary, p, n);
	check_output(c);
}

static void PRINTF_LIKE(1, 2) say(const char *fmt, ...)
{
	char text[2000];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	must(n > 0 && n < (int)sizeof(text));
	feed(false, text, (size_t)n);
}

static void say_session(const char *method, uint8_t f)
{
	say("{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":{\"session\":\"%c\","
	    "\"run\":"
	    "\"r\",\"key\":\"" KEY "\",\"client\":{\"protocol\":{\"min\":1,\"max\":1}},"
	    "\"events_have\":%d,\"want_secrets\":%s,\"env\":{\"A\":\"1\"}}}",
	    ++request, method, 'a' + (f & 1), f >> 4, f & 2 ? "true" : "false");
}

static void say_execute(uint8_t f)
{
	char stdin_text[64] = "";

	if (f & 4)
		snprintf(stdin_text, sizeof(stdin_text), ",\"stdin\":{\"channel\":%d}",
		         9 + (f & 1));
	say("{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"step.execute\",\"params\":{\"step\":\"%"
	    "c\","
	    "\"attempt\":%d,\"driver\":\"shell\",\"config\":{\"script\":\"x\"}%s,"
	    "\"stdout\":{\"channel\":%d,\"offset\":\"%d\",\"window\":\"%d\"},"
	    "\"stderr\":{\"channel\":%d,\"window\":\"100\"}%s}}",
	    ++request, 's' + (f & 1), 1 + ((f >> 1) & 1),
	    f & 1 ? ",\"inputs\":{\"i\":{\"step\":\"s\"}}" : "", 1 + (f & 1), f >> 6, f >> 3,
	    3 + (f & 1), stdin_text);
}

static void say_method(uint8_t f)
{
	static const char *const names[] = {
#define METHOD(id, name, flags, text) name,
#include "protocol/methods.def"
#undef METHOD
	};
	const char *name = names[f % ARRAY_LEN(names)];
	bool notice = strcmp(name, "event.ack") == 0 || strcmp(name, "heartbeat") == 0;

	/* Draining has no way back: one worker lives for one input. */
	say("{\"jsonrpc\":\"2.0\",%s%.0d%s\"method\":\"%s\",\"params\":{\"step\":\"%c\",\"wseq\":%"
	    "d,"
	    "\"lease_ms\":90000}}",
	    notice ? "" : "\"id\":", notice ? 0 : ++request, notice ? "" : ",", name,
	    's' + (f >> 7), f >> 4);
}

static void send_binary(uint8_t kind, uint8_t flags, uint8_t channel, uint64_t offset,
                        const void *payload, size_t n)
{
	static uint8_t mem[FRAME_HEADER + LIMIT_DATA];

	n = n < LIMIT_DATA ? n : LIMIT_DATA;
	frame_header(mem, kind, flags, channel, offset);
	memcpy(mem + FRAME_HEADER, payload, n);
	feed(true, mem, FRAME_HEADER + n);
}

static void act_on_connection(uint8_t act, struct input *in)
{
	const uint8_t *bytes;
	uint8_t channel, f, window[8];
	size_t n;

	switch (act) {
	case 't':
	case 'b':
		n = take_bytes(in, &bytes);
		feed(act == 'b', bytes, n);
		break;
	case 'o':
		say_session("session.open", take(in));
		break;
	case 'r':
		f = take(in);
		say_session(f & 4 ? "session.observe" : "session.resume", f);
		break;
	case 'x':
		say_execute(take(in));
		break;
	case 'l':
		f = take(in);
		say("{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"package.load\",\"params\":{"
		    "\"sha256\":"
		    "\"%s\",\"size\":\"%d\",\"channel\":7}}",
		    ++request,
		    f & 1 ? KEY
		          : "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		    f & 2 ? 3 : f);
		break;
	case 'm':
		say_method(take(in));
		break;
	case 'd':
		channel = take(in) & 15;
		f = take(in);
		n = take_bytes(in, &bytes);
		send_binary(FRAME_DATA, f & FRAME_END, channel, next_offset[channel], bytes, n);
		next_offset[channel] += n;
		break;
	case 'w':
		channel = take(in) & 15;
		f = take(in);
		put_u64(window, (uint64_t)f * 300);
		send_binary(FRAME_WINDOW, 0, channel, f & 15, window, sizeof(window));
		break;
	}
}

static void act_on_keeper(uint8_t act, struct input *in)
{
	struct fake_keeper *k = fake_keeper_last();
	const uint8_t *bytes = NULL;
	size_t n = 0;
	uint8_t f = 0;

	if (act == 'e' || act == 'p')
		n = take_bytes(in, &bytes);
	else if (act != 'q')
		f = take(in);
	if (!k || k->sock < 0 || (k->dir_fd < 0 && fake_keeper_begin(k, NULL) < 0))
		return;
	switch (act) {
	case 'e':
		fake_keeper_print(k, KS_EVENTS, bytes, n);
		break;
	case 'p':
		fake_keeper_print(k, n & 1 ? KS_STDERR : KS_STDOUT, bytes, n);
		break;
	case 's':
		k->st.stdin_have += f >> 4;
		fake_keeper_tell(k, (enum keeper_phase)(f % KP_FINISHED));
		break;
	case 'f':
		fake_keeper_finish(k, f >> 1, f & 1);
		break;
	case 'q':
		fake_keeper_die(k);
		break;
	}
}

static void act_on_helper(struct input *in)
{
	const uint8_t *bytes;
	size_t n = take_bytes(in, &bytes);

	if (fake.helper_report < 0)
		return;
	(void)!write(fake.helper_report, bytes, n);
	close_fd(&fake.helper_report);
	upload_on_child(&fake.w, FAKE_PID, n & 1 ? 0 : 1 << 8);
}

static void pass(void)
{
	fake_pass();
	for (int i = 0; i < CONNS; i++)
		if (conns[i]) {
			fake_conn_flush(conns[i]);
			check_output(conns[i]);
		}
	must(fake.w.n_conns <= CONNS && fake.w.n_sessions <= LIMIT_SESSIONS);
}

static void act(struct input *in)
{
	uint8_t what = take(in);

	if (what >= '1' && what < '1' + CONNS) {
		speaking = what - '1';
	} else if (what == 'c') {
		fake_conn_free(conns[speaking]);
		conns[speaking] = fake_connect();
	} else if (what == 'k') {
		if (conns[speaking])
			fake_cut(conns[speaking]);
	} else if (what && strchr("epsfq", what)) {
		act_on_keeper(what, in);
	} else if (what == 'h') {
		act_on_helper(in);
	} else if (what == 'z') {
		for (int i = 0; i < CONNS; i++)
			if (conns[i])
				fake_cut(conns[i]);
		fake_restart();
	} else if (what && strchr("tborxlmdw", what)) {
		act_on_connection(what, in);
	} else {
		pass();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct input in = { p, p + n };

	if (n > 4096)
		return 0;
	fake_begin(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	memset(next_offset, 0, sizeof(next_offset));
	speaking = request = 0;
	conns[0] = fake_connect();
	while (in.p < in.end)
		act(&in);
	pass();
	for (int i = 0; i < CONNS; i++) {
		fake_conn_free(conns[i]);
		conns[i] = NULL;
	}
	must(fake.w.n_conns == 0);
	must(fake_end() == 0);
	must(access(fake.root, F_OK) < 0);
	return 0;
}
