/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/ws.h"

#include <fcntl.h>
#include <libwebsockets.h>
#include <string.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/hash.h"
#include "protocol/base/log.h"
#include "proxy/ws_address.h"
#include "sdk-wrapper/http_trace.h"
#include "sdk-wrapper/tunnel.h"

_Static_assert(LWS_PRE <= CARRIER_HEADROOM, "headroom of a frame");

#define SUBPROTOCOL "farstep.v1"
#define CHECKED     SUBPROTOCOL ".crc32c" /* the same, every frame sealed */
#define DATA_MAX    (LIMIT_DATA + FRAME_HEADER + CARRIER_SEAL)
#define TUNNEL_MS   20000 /* connecting, with TLS and proxies */
#define FRAME_MAX   (LIMIT_TEXT + CARRIER_SEAL)

struct peer {
	struct carrier carrier; /* first member */
	struct ws_client *client;
	struct lws *wsi;
	struct ws_address address;
	struct tunnel *tunnel;     /* NULL: libwebsockets connects by itself */
	struct loop_timer give_up; /* closed before there was a wsi */
	struct peer *next, **at;   /* of those with a tunnel */
	char token[80];
	bool open, told; /* told: on_closed was called */
	bool connecting; /* inside lws_client_connect_via_info: whoever gave up keeps the memory */
	int close_code;
	char close_reason[100];
	struct buf in;
	void (*on_open)(struct carrier *c);
};

struct ws_client {
	struct loop *loop;
	struct lws_context *context;
	struct lws_vhost *vhost;
	struct http *http; /* made for the first tunnel */
	struct peer *tunnelled;
};

static void on_give_up(struct loop_timer *t);

static void peer_kick(struct carrier *c)
{
	struct peer *p = (struct peer *)c;

	if (p->open)
		lws_callback_on_writable(p->wsi);
}

static void peer_close(struct carrier *c, int code, const char *reason)
{
	struct peer *p = (struct peer *)c;

	if (c->closing)
		return;
	c->closing = true;
	p->close_code = code;
	snprintf(p->close_reason, sizeof(p->close_reason), "%s", reason);
	/* A link that is given up as dead would never become writable. */
	if (p->open && code != CLOSE_SILENT)
		lws_callback_on_writable(p->wsi);
	else if (p->wsi)
		lws_set_timeout(p->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	else if (p->tunnel)
		loop_timer_start(p->client->loop, &p->give_up, 0, on_give_up, NULL);
}

static void tell_closed(struct peer *p, int code, const char *reason)
{
	if (p->told)
		return;
	p->told = true;
	p->open = false;
	if (p->carrier.on_closed)
		p->carrier.on_closed(&p->carrier, code, reason);
}

static void peer_free(struct peer *p)
{
	loop_timer_stop(&p->give_up);
	tunnel_close(p->tunnel);
	if (p->at)
		*p->at = p->next;
	if (p->next)
		p->next->at = p->at;
	carrier_release(&p->carrier);
	buf_release(&p->in);
	wipe(p->token, sizeof(p->token));
	free(p);
}

/* With what close_code and close_reason say. */
static int close_as_noted(struct peer *p)
{
	lws_close_reason(p->wsi, (enum lws_close_status)p->close_code,
	                 (unsigned char *)p->close_reason, strlen(p->close_reason));
	return -1;
}

static int close_now(struct peer *p, int code, const char *reason)
{
	p->close_code = code;
	snprintf(p->close_reason, sizeof(p->close_reason), "%s", reason);
	return close_as_noted(p);
}

static int on_receive(struct peer *p, const uint8_t *in, size_t len)
{
	bool first = lws_is_first_fragment(p->wsi), final = lws_is_final_fragment(p->wsi);
	bool binary = lws_frame_is_binary(p->wsi);
	size_t max = (binary ? LIMIT_DATA + FRAME_HEADER : LIMIT_TEXT) + CARRIER_SEAL;

	if (p->carrier.closing || !p->carrier.on_frame)
		return 0;
	if (first)
		buf_reset(&p->in);
	if (buf_len(&p->in) + len + lws_remaining_packet_payload(p->wsi) > max)
		return close_now(p, CLOSE_TOO_LARGE, "frame too large");
	if (!(first && final) && buf_put(&p->in, in, len, NULL) < 0)
		return close_now(p, CLOSE_TOO_LARGE, "no memory for the frame");
	if (!final)
		return 0;
	if (!first) {
		in = buf_data(&p->in);
		len = buf_len(&p->in);
	}
	if (!carrier_unseal(&p->carrier, binary, in, &len))
		return close_now(p, CLOSE_DAMAGED, "a frame was damaged on its way");
	p->carrier.frames_in++;
	p->carrier.on_frame(&p->carrier, binary, in, len);
	p->carrier.bytes_in += len;
	return 0;
}

static int on_writeable(struct peer *p)
{
	struct out_frame *f = carrier_take(&p->carrier);

	if (!f)
		return p->carrier.closing ? close_as_noted(p) : 0;
	if (lws_write(p->wsi, out_frame_payload(f), carrier_seal(&p->carrier, f),
	              f->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT) < 0) {
		free(f);
		return -1;
	}
	carrier_written(&p->carrier, f);
	if (p->carrier.control.head || p->carrier.bulk.head || p->carrier.closing)
		lws_callback_on_writable(p->wsi);
	return 0;
}

static int add_header(struct lws *wsi, const char *name, const char *value, unsigned char **at,
                      unsigned char *end)
{
	char with_colon[80];

	snprintf(with_colon, sizeof(with_colon), "%s:", name);
	return lws_add_http_header_by_name(wsi, (const unsigned char *)with_colon,
	                                   (const unsigned char *)value, (int)strlen(value), at,
	                                   end);
}

static int add_headers(struct peer *p, struct lws *wsi, unsigned char **at, size_t room)
{
	unsigned char *end = *at + room;
	char value[96];

	snprintf(value, sizeof(value), "Bearer %s", p->token);
	if (add_header(wsi, "Authorization", value, at, end))
		return -1;
	for (int i = 0; i < p->address.n_headers; i++)
		if (add_header(wsi, p->address.headers[i].name, p->address.headers[i].value, at,
		               end))
			return -1;
	return 0;
}

/* The worker's own word: lws_get_protocol says what was asked for first. */
static bool chose_seals(struct lws *wsi)
{
	char name[64];

	return lws_hdr_copy(wsi, name, sizeof(name), WSI_TOKEN_PROTOCOL) > 0 &&
	       strcmp(name, CHECKED) == 0;
}

/* The peer's close frame: code and reason, before CLIENT_CLOSED. */
static void note_close(struct peer *p, const uint8_t *in, size_t len)
{
	if (len < 2)
		return;
	p->close_code = in[0] << 8 | in[1];
	snprintf(p->close_reason, sizeof(p->close_reason), "%.*s", (int)(len - 2),
	         (const char *)in + 2);
}

static void on_refused(struct peer *p, const char *text)
{
	int status = (int)lws_http_client_http_response(p->wsi);
	char why[120];

	if (status >= 300)
		snprintf(why, sizeof(why), "the worker answered %d", status);
	else
		snprintf(why, sizeof(why), "%s", text ? text : "connection failed");
	tell_closed(p, status == 401 ? CLOSE_DENIED : CLOSE_LOST, why);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
	struct ws_client *w = lws_context_user(lws_get_context(wsi));
	struct peer *p;

	(void)user;
	if (reason == LWS_CALLBACK_RAW_RX_FILE)
		return loop_pass(w->loop, 0, NULL) < 0 ? -1 : 0;
	p = wsi ? lws_get_opaque_user_data(wsi) : NULL;
	if (!p)
		return 0;
	p->wsi = wsi;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return add_headers(p, wsi, in, len);
	case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
		p->carrier.checked = chose_seals(wsi);
		return 0;
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		p->open = true;
		p->on_open(&p->carrier);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		return on_receive(p, in, len);
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return on_writeable(p);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		note_close(p, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		on_refused(p, in);
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
		tell_closed(p, p->close_code ? p->close_code : CLOSE_LOST, p->close_reason);
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		tell_closed(p, CLOSE_LOST, "connection failed");
		lws_set_opaque_user_data(wsi, NULL);
		if (p->connecting)
			p->wsi = NULL;
		else
			peer_free(p);
		return 0;
	default:
		return 0;
	}
}

static const struct lws_protocols protocols[] = {
	{ CHECKED, callback, 0, DATA_MAX, 0, NULL, DATA_MAX + LWS_PRE },
	{ SUBPROTOCOL, callback, 0, DATA_MAX, 0, NULL, DATA_MAX + LWS_PRE },
	{ NULL, NULL, 0, 0, 0, NULL, 0 },
};

static void emit_log(int level, const char *line)
{
	log_at(LOG_DEBUG, "libwebsockets: %d %.*s", level, (int)strcspn(line, "\n"), line);
}

struct ws_client *ws_client_new(struct loop *l, struct err *e)
{
	static const lws_retry_bo_t idle = { .secs_since_valid_ping = HEARTBEAT_MS / 1000,
		                             .secs_since_valid_hangup =
		                                     LINK_DEAD_MS(HEARTBEAT_MS) / 1000 };
	struct lws_context_creation_info info = { 0 };
	struct ws_client *w = calloc(1, sizeof(*w));
	lws_sock_file_fd_type fd;

	if (!w) {
		err_set(e, ERR_NO_MEMORY, 0, "client");
		return NULL;
	}
	w->loop = l;
	lws_set_log_level(LLL_ERR | LLL_WARN, emit_log);
	info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
	info.user = w;
	info.fd_limit_per_thread = 64;
	info.pt_serv_buf_size = LIMIT_DATA + FRAME_HEADER + 1024;
	w->context = lws_create_context(&info);
	info.port = CONTEXT_PORT_NO_LISTEN;
	info.protocols = protocols;
	info.retry_and_idle_policy = &idle;
	if (w->context)
		w->vhost = lws_create_vhost(w->context, &info);
	/* A duplicate: libwebsockets closes what it adopts, and the loop is its owner's. */
	fd.filefd = fcntl(loop_fd(l), F_DUPFD_CLOEXEC, 3);
	if (!w->vhost ||
	    !lws_adopt_descriptor_vhost(w->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, SUBPROTOCOL, NULL)) {
		err_set(e, ERR_NO_MEMORY, 0, "libwebsockets: cannot make a context");
		ws_client_free(w);
		return NULL;
	}
	return w;
}

int ws_client_pass(struct ws_client *w)
{
	return lws_service(w->context, 0);
}

void ws_client_free(struct ws_client *w)
{
	if (!w)
		return;
	if (w->context)
		lws_context_destroy(w->context);
	while (w->tunnelled) /* still connecting: libwebsockets does not know them */
		peer_free(w->tunnelled);
	http_free(w->http);
	free(w);
}

/* Through the tunnel, to its local name. */
static bool peer_connect(struct peer *p, const char *host, int port)
{
	struct lws_client_connect_info info = { 0 };
	bool ok;

	info.context = p->client->context;
	info.vhost = p->client->vhost;
	info.address = host;
	info.port = port;
	info.path = p->address.path;
	info.host = p->address.shown;
	info.origin = NULL;
	info.protocol = CHECKED "," SUBPROTOCOL;
	info.opaque_user_data = p;
	info.pwsi = &p->wsi;
	p->connecting = true;
	ok = lws_client_connect_via_info(&info) != NULL;
	p->connecting = false;
	if (!ok)
		p->wsi = NULL;
	return ok && !p->told && p->wsi;
}

/* Tells and frees a peer that has no wsi. */
static void peer_drop(struct peer *p, int code, const char *reason)
{
	tell_closed(p, code, reason);
	peer_free(p);
}

static void on_give_up(struct loop_timer *t)
{
	struct peer *p = (struct peer *)((char *)t - offsetof(struct peer, give_up));

	peer_drop(p, p->close_code ? p->close_code : CLOSE_LOST, p->close_reason);
}

static void on_tunnel(void *user, const char *name, const struct err *err)
{
	struct peer *p = user;
	char host[128];

	if (p->carrier.closing)
		return; /* on_give_up is under way */
	if (!name) {
		snprintf(p->close_reason, sizeof(p->close_reason), "%.90s", err->msg);
		/* Not here: the tunnel that goes with it is calling. */
		loop_timer_start(p->client->loop, &p->give_up, 0, on_give_up, NULL);
		return;
	}
	snprintf(host, sizeof(host), "+%s", name);
	if (peer_connect(p, host, 0))
		return;
	snprintf(p->close_reason, sizeof(p->close_reason), "connection failed");
	if (!p->wsi)
		loop_timer_start(p->client->loop, &p->give_up, 0, on_give_up, NULL);
}

static int open_tunnel(struct peer *p, struct err *e)
{
	struct ws_client *w = p->client;

	if (!w->http)
		w->http = http_new(w->loop, http_trace_wanted() ? http_trace_log : NULL, e);
	if (!w->http)
		return -1;
	p->tunnel = tunnel_open(w->http, w->loop, p->address.tunnel, TUNNEL_MS, on_tunnel, p, e);
	if (!p->tunnel)
		return -1;
	p->next = w->tunnelled;
	p->at = &w->tunnelled;
	if (p->next)
		p->next->at = &p->next;
	w->tunnelled = p;
	return 0;
}

struct carrier *ws_connect(struct ws_client *w, const char *address, const char *token,
                           void (*on_open)(struct carrier *c),
                           void (*on_closed)(struct carrier *c, int code, const char *reason),
                           void *user, struct err *e)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(e, ERR_NO_MEMORY, 0, "connection");
		return NULL;
	}
	carrier_init(&p->carrier);
	buf_init(&p->in, FRAME_MAX);
	p->client = w;
	p->on_open = on_open;
	snprintf(p->token, sizeof(p->token), "%s", token);
	p->carrier.kick = peer_kick;
	p->carrier.close = peer_close;
	p->carrier.on_closed = NULL; /* a failure inside the call is the return value */
	p->carrier.user = user;
	if (ws_address_parse(address, &p->address, e) < 0 ||
	    (p->address.tunnel[0] && open_tunnel(p, e) < 0)) {
		peer_free(p);
		return NULL;
	}
	if (!p->tunnel && !peer_connect(p, p->address.host, p->address.port)) {
		if (!p->wsi)
			peer_free(p);
		err_set(e, ERR_LOST, 0, "nothing listens on %.*s",
		        (int)ws_address_public(address), address);
		return NULL;
	}
	p->carrier.on_closed = on_closed;
	return &p->carrier;
}
