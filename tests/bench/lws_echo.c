/* SPDX-License-Identifier: Apache-2.0
 *
 * The least that a WebSocket round trip can cost with libwebsockets, and the client that
 * measures it here and at a worker.
 *   lws_echo serve PATH                      echoes every message, until killed
 *   lws_echo ping PATH N TOKEN TEXT SKIP     microseconds a round trip, median and 99th of N, after
 *                                            SKIP messages that come by themselves
 *   lws_echo steps PATH N TOKEN PROGRAM      microseconds from a step's request to its signed
 *                                            answer, one after the other
 * Both print median, 99th and 10th percentile. */
#define _GNU_SOURCE
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *token, *text;
	double *times;
	int n, skip, done;
	double sent;
	bool over, steps;
	int asked; /* steps: requests that went out; 0: the session is not open */
	unsigned char out[LWS_PRE + 4096], echo[LWS_PRE + 4096];
	size_t echo_len;
} b;

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int on_server(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                     size_t len)
{
	(void)user;
	if (reason == LWS_CALLBACK_RECEIVE && len <= sizeof(b.echo) - LWS_PRE) {
		memcpy(b.echo + LWS_PRE, in, len);
		b.echo_len = len;
		lws_callback_on_writable(wsi);
	} else if (reason == LWS_CALLBACK_SERVER_WRITEABLE && b.echo_len) {
		lws_write(wsi, b.echo + LWS_PRE, b.echo_len, LWS_WRITE_TEXT);
		b.echo_len = 0;
	}
	return 0;
}

/* What a client of the protocol sends next: the session, then for each step its request, with the
 * release of the one before. */
static size_t next_request(char *to, size_t size)
{
	static const char *const key =
		"0000000000000000000000000000000000000000000000000000000000000001";

	if (!b.asked)
		return (size_t)snprintf(
			to, size,
			"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"session.open\",\"params\":{"
			"\"session\":\"bench\",\"run\":\"bench\",\"key\":\"%s\",\"client\":{"
			"\"name\":\"bench\",\"version\":\"1\",\"protocol\":{\"min\":1,\"max\":1},"
			"\"compressions\":[\"none\"]}}}",
			key);
	return (size_t)snprintf(
		to, size,
		"[{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"step.execute\",\"params\":{"
		"\"step\":\"s%d\",\"attempt\":1,\"driver\":\"exec\",\"config\":{\"argv\":"
		"[\"%s\",\"--version\"]}}},"
		"{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"step.release\",\"params\":{"
		"\"step\":\"s%d\",\"attempt\":1}},"
		"{\"jsonrpc\":\"2.0\",\"method\":\"event.ack\",\"params\":{\"wseq\":%d}}]",
		b.asked, b.asked, b.text, b.asked - 1, 2 * (b.asked - 1));
}

static void send_next(struct lws *wsi)
{
	size_t n = next_request((char *)b.out + LWS_PRE, sizeof(b.out) - LWS_PRE);

	b.sent = now_us();
	lws_write(wsi, b.out + LWS_PRE, n, LWS_WRITE_TEXT);
}

static void on_message(struct lws *wsi, const char *in, size_t len)
{
	char id[32];
	int n = snprintf(id, sizeof(id), "\"id\":%d,", b.asked);

	if (!memmem(in, len, id, (size_t)n))
		return; /* hello, events, answers to releases */
	if (b.asked && !memmem(in, len, "\"status\":\"success\"", 18)) {
		fprintf(stderr, "%.*s\n", (int)len, in);
		exit(1);
	}
	if (b.asked)
		b.times[b.done++] = now_us() - b.sent;
	b.asked++;
	b.over = b.done == b.n;
	if (!b.over)
		lws_callback_on_writable(wsi);
}

static int on_client(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                     size_t len)
{
	unsigned char **p = in;
	char value[128];
	int n;

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		n = snprintf(value, sizeof(value), "Bearer %s", b.token);
		return lws_add_http_header_by_name(wsi, (const unsigned char *)"Authorization:",
		                                   (unsigned char *)value, n, p, *p + len);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		if (!b.skip)
			lws_callback_on_writable(wsi);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		if (!lws_is_final_fragment(wsi))
			return 0;
		if (b.steps) {
			on_message(wsi, in, len);
			return 0;
		}
		if (b.skip > 0) {
			b.skip--;
		} else {
			b.times[b.done++] = now_us() - b.sent;
			b.over = b.done == b.n;
		}
		if (!b.over)
			lws_callback_on_writable(wsi);
		return 0;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		if (b.over || b.skip)
			return 0;
		if (b.steps) {
			send_next(wsi);
			return 0;
		}
		memcpy(b.out + LWS_PRE, b.text, strlen(b.text));
		b.sent = now_us();
		lws_write(wsi, b.out + LWS_PRE, strlen(b.text), LWS_WRITE_TEXT);
		return 0;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
	case LWS_CALLBACK_CLIENT_CLOSED:
		b.over = true;
		return 0;
	default:
		return 0;
	}
}

static int by_size(const void *x, const void *y)
{
	double d = *(const double *)x - *(const double *)y;

	return (d > 0) - (d < 0);
}

static struct lws_context *context(struct lws_protocols *protocols, const char *listen)
{
	struct lws_context_creation_info info = { 0 };

	lws_set_log_level(0, NULL);
	info.protocols = protocols;
	info.fd_limit_per_thread = 64;
	info.pt_serv_buf_size = 67000;
	info.port = CONTEXT_PORT_NO_LISTEN;
	if (listen) {
		info.options = LWS_SERVER_OPTION_UNIX_SOCK;
		info.iface = listen;
		info.port = 0;
	}
	return lws_create_context(&info);
}

static int ping(const char *path)
{
	struct lws_protocols protocols[] = { { "farstep.v1", on_client, 0, 66000, 0, NULL, 0 },
		                             { 0 } };
	struct lws_client_connect_info to = { 0 };
	char address[128];

	snprintf(address, sizeof(address), "+%s", path);
	b.times = calloc((size_t)b.n, sizeof(*b.times));
	to.context = context(protocols, NULL);
	to.address = address;
	to.path = "/farstep";
	to.host = "localhost";
	to.protocol = "farstep.v1";
	if (!b.times || !to.context || !lws_client_connect_via_info(&to))
		return 1;
	while (!b.over && lws_service(to.context, 0) >= 0)
		;
	if (b.done < b.n)
		return 1;
	qsort(b.times, (size_t)b.n, sizeof(*b.times), by_size);
	printf("%.2f %.2f %.2f\n", b.times[b.n / 2], b.times[b.n * 99 / 100],
	       b.times[b.n / 10]);
	return 0;
}

int main(int argc, char **argv)
{
	struct lws_protocols protocols[] = { { "farstep.v1", on_server, 0, 66000, 0, NULL, 0 },
		                             { 0 } };
	struct lws_context *c;

	if (argc == 3 && strcmp(argv[1], "serve") == 0) {
		c = context(protocols, argv[2]);
		while (c && lws_service(c, 0) >= 0)
			;
		return 1;
	}
	b.steps = argc == 6 && strcmp(argv[1], "steps") == 0;
	if (!b.steps && (argc != 7 || strcmp(argv[1], "ping") != 0))
		return 2;
	b.n = (int)strtol(argv[3], NULL, 10);
	b.token = argv[4];
	b.text = argv[5];
	b.skip = b.steps ? 0 : (int)strtol(argv[6], NULL, 10);
	return ping(argv[2]);
}
