/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker/ws.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/base/buf.h"
#include "protocol/base/cleanup.h"
#include "protocol/base/log.h"

_Static_assert(LWS_PRE <= CARRIER_HEADROOM, "headroom of a frame");

#define SUBPROTOCOL      "farstep.v1"
#define CHECKED          SUBPROTOCOL ".crc32c" /* the same, every frame sealed */
#define DATA_MAX         (LIMIT_DATA + FRAME_HEADER + CARRIER_SEAL)
#define FRAME_MAX        (LIMIT_TEXT + CARRIER_SEAL)
_Static_assert(LIMIT_TEXT >= LIMIT_DATA + FRAME_HEADER, "the larger of both kinds");
#define HTTP_HEADERS_MAX 8192

/* One accepted connection, before and after the upgrade. */
struct peer {
	struct carrier carrier; /* first member */
	struct ws_server *server;
	struct lws *wsi;
	struct peer *next, **at; /* in server->pending, oldest first */
	bool pending, open;
	uint64_t accepted_ns;
	int close_code;
	char close_reason[100];
	struct buf in; /* a message that came in pieces */
	size_t in_len;
};

struct ws_server {
	struct loop *loop;
	struct lws_context *context;
	struct lws_vhost *vhost;
	struct loop_io listen;
	struct loop_timer expiry;
	uint8_t token_sha256[SHA256_LEN];
	struct ws_server_hooks hooks;
	lws_retry_bo_t idle;
	struct peer *pending;
	struct peer **pending_tail;
	int n_pending;
};

/* ---- the unauthenticated ---- */

static void pending_remove(struct peer *p)
{
	if (!p->pending)
		return;
	p->pending = false;
	*p->at = p->next;
	if (p->next)
		p->next->at = p->at;
	else
		p->server->pending_tail = p->at;
	p->server->n_pending--;
}

static void drop(struct peer *p)
{
	pending_remove(p);
	lws_set_timeout(p->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

/* All of them may wait equally long, so the oldest is the next to expire: one timer serves. */
static void on_expiry(struct loop_timer *t)
{
	struct ws_server *s = (struct ws_server *)((char *)t - offsetof(struct ws_server, expiry));
	uint64_t now = now_ns();

	while (s->pending) {
		uint64_t waited_ms = (now - s->pending->accepted_ns) / 1000000;

		if (waited_ms < LIMIT_UNAUTHENTICATED_MS) {
			loop_timer_start(s->loop, &s->expiry, LIMIT_UNAUTHENTICATED_MS - waited_ms,
			                 on_expiry, NULL);
			break;
		}
		drop(s->pending);
	}
}

static void pending_add(struct ws_server *s, struct peer *p)
{
	p->pending = true;
	p->accepted_ns = now_ns();
	p->next = NULL;
	p->at = s->pending_tail;
	*s->pending_tail = p;
	s->pending_tail = &p->next;
	if (++s->n_pending > LIMIT_UNAUTHENTICATED)
		drop(s->pending);
	if (!s->expiry.loop)
		loop_timer_start(s->loop, &s->expiry, LIMIT_UNAUTHENTICATED_MS, on_expiry, NULL);
}

static void on_acceptable(struct loop_io *io, unsigned got)
{
	struct ws_server *s = (struct ws_server *)((char *)io - offsetof(struct ws_server, listen));
	int fd;

	(void)got;
	while ((fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		struct peer *p = calloc(1, sizeof(*p));
		struct lws *wsi = p ? lws_adopt_socket_vhost(s->vhost, fd) : NULL;

		/* On failure libwebsockets has closed the descriptor. */
		if (!wsi) {
			if (!p)
				close(fd);
			free(p);
			continue;
		}
		carrier_init(&p->carrier);
		buf_init(&p->in, FRAME_MAX);
		p->server = s;
		p->wsi = wsi;
		lws_set_opaque_user_data(wsi, p);
		pending_add(s, p);
	}
}

static void peer_free(struct peer *p)
{
	pending_remove(p);
	carrier_release(&p->carrier);
	buf_release(&p->in);
	free(p);
}

/* ---- the upgrade ---- */

static bool token_is_good(struct ws_server *s, struct lws *wsi)
{
	char value[160];
	uint8_t digest[SHA256_LEN];
	int n = lws_hdr_copy(wsi, value, sizeof(value), WSI_TOKEN_HTTP_AUTHORIZATION);
	bool good;

	if (n <= 7 || strncasecmp(value, "Bearer ", 7) != 0)
		return false;
	sha256(value + 7, (size_t)n - 7, digest);
	good = equal_ct(digest, s->token_sha256, sizeof(digest));
	wipe(value, sizeof(value));
	return good;
}

static bool path_is_good(struct lws *wsi)
{
	char path[64];
	int n = lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI);

	return n > 0 && (strcmp(path, "/") == 0 || strcmp(path, "/farstep") == 0);
}

static bool asks_for_us(struct lws *wsi)
{
	char list[256];
	char *save = NULL;
	int n = lws_hdr_copy(wsi, list, sizeof(list), WSI_TOKEN_PROTOCOL);

	if (n <= 0)
		return false;
	for (char *one = strtok_r(list, ", ", &save); one; one = strtok_r(NULL, ", ", &save))
		if (strcmp(one, SUBPROTOCOL) == 0 || strcmp(one, CHECKED) == 0)
			return true;
	return false;
}

/* 0: go on with the upgrade; else the answer was given. */
static int on_upgrade(struct ws_server *s, struct lws *wsi)
{
	unsigned status = 0;

	if (!path_is_good(wsi))
		status = HTTP_STATUS_NOT_FOUND;
	else if (!token_is_good(s, wsi))
		status = HTTP_STATUS_UNAUTHORIZED;
	else if (!asks_for_us(wsi))
		status = HTTP_STATUS_BAD_REQUEST;
	if (!status)
		return 0;
	log_info("connection refused with %u", status);
	if (lws_return_http_status(wsi, status, NULL))
		return -1;
	return 1;
}

static int on_plain_http(struct ws_server *s, struct lws *wsi, const char *path)
{
	unsigned status = HTTP_STATUS_NOT_FOUND;

	if (path && strcmp(path, "/healthz") == 0)
		status = s->hooks.is_healthy(s->hooks.arg) ? HTTP_STATUS_OK
		                                           : HTTP_STATUS_SERVICE_UNAVAILABLE;
	else if (path && (strcmp(path, "/") == 0 || strcmp(path, "/farstep") == 0))
		status = 426; /* Upgrade Required */
	if (lws_return_http_status(wsi, status, status == HTTP_STATUS_OK ? "ok" : NULL))
		return -1;
	return lws_http_transaction_completed(wsi) ? -1 : 0;
}

/* ---- frames ---- */

static void hold(struct carrier *c, bool on)
{
	lws_rx_flow_control(((struct peer *)c)->wsi, on ? 0 : 1);
}

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
	lws_callback_on_writable(p->wsi);
}

static int close_now(struct peer *p, int code, const char *reason)
{
	p->close_code = code;
	p->carrier.closing = true;
	lws_close_reason(p->wsi, (enum lws_close_status)code, (unsigned char *)(uintptr_t)reason,
	                 strlen(reason));
	return -1;
}

static int on_established(struct ws_server *s, struct peer *p)
{
	pending_remove(p);
	p->open = true;
	p->carrier.checked = strcmp(lws_get_protocol(p->wsi)->name, CHECKED) == 0;
	p->carrier.kick = peer_kick;
	p->carrier.close = peer_close;
	p->carrier.hold = hold;
	if (!s->hooks.on_open(s->hooks.arg, &p->carrier))
		return close_now(p, CLOSE_NO_ROOM, "no room for another connection");
	return 0;
}

static int on_receive(struct peer *p, const uint8_t *in, size_t len)
{
	bool first = lws_is_first_fragment(p->wsi), final = lws_is_final_fragment(p->wsi);
	bool binary = lws_frame_is_binary(p->wsi);
	size_t max = (binary ? LIMIT_DATA + FRAME_HEADER : LIMIT_TEXT) + CARRIER_SEAL;

	if (p->carrier.closing)
		return 0;
	if (first)
		buf_reset(&p->in);
	if (buf_len(&p->in) + len + lws_remaining_packet_payload(p->wsi) > max)
		return close_now(p, CLOSE_TOO_LARGE, "frame too large");
	/* whole in one piece: no copy */
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
	p->carrier.bytes_in += len;
	p->carrier.on_frame(&p->carrier, binary, in, len);
	buf_reset(&p->in);
	return 0;
}

/* One lws_write a callback; ask again while there is more. */
static int on_writeable(struct peer *p)
{
	struct out_frame *f = carrier_take(&p->carrier);

	if (!f) {
		if (p->carrier.closing)
			return close_now(p, p->close_code, p->close_reason);
		return 0;
	}
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

static void on_closed(struct peer *p)
{
	if (!p->open)
		return;
	p->open = false;
	if (p->carrier.on_closed)
		p->carrier.on_closed(&p->carrier, p->close_code ? p->close_code : CLOSE_LOST,
		                     p->close_reason);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
	struct ws_server *s = lws_context_user(lws_get_context(wsi));
	struct peer *p;

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
		return loop_pass(s->loop, 0, NULL) < 0 ? -1 : 0;
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
		return on_upgrade(s, wsi);
	case LWS_CALLBACK_HTTP:
		return on_plain_http(s, wsi, in);
	default:
		break;
	}
	p = wsi ? lws_get_opaque_user_data(wsi) : NULL;
	if (!p)
		return 0;
	switch (reason) {
	case LWS_CALLBACK_ESTABLISHED:
		return on_established(s, p);
	case LWS_CALLBACK_RECEIVE:
		return on_receive(p, in, len);
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return on_writeable(p);
	case LWS_CALLBACK_CLOSED:
		on_closed(p);
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		lws_set_opaque_user_data(wsi, NULL);
		peer_free(p);
		return 0;
	default:
		return 0;
	}
}

/* protocols[0] answers plain HTTP; without a subprotocol lws would bind a WebSocket to it,
 * which on_upgrade has refused by then. */
static const struct lws_protocols protocols[] = {
	{ "http", callback, 0, LIMIT_DATA + FRAME_HEADER, 0, NULL, 0 },
	{ CHECKED, callback, 0, DATA_MAX, 0, NULL, DATA_MAX + LWS_PRE },
	{ SUBPROTOCOL, callback, 0, DATA_MAX, 0, NULL, DATA_MAX + LWS_PRE },
	{ NULL, NULL, 0, 0, 0, NULL, 0 },
};

static void emit_log(int level, const char *line)
{
	size_t n = strcspn(line, "\n");

	log_at(level & LLL_ERR ? LOG_WARN : LOG_DEBUG, "libwebsockets: %.*s", (int)n, line);
}

struct ws_server *ws_server_new(struct loop *l, int listen_fd,
                                const uint8_t token_sha256[SHA256_LEN],
                                const struct ws_server_hooks *hooks, struct err *e)
{
	struct lws_context_creation_info info = { 0 };
	struct ws_server *s = calloc(1, sizeof(*s));
	lws_sock_file_fd_type fd;

	if (!s) {
		err_set(e, ERR_NO_MEMORY, 0, "server");
		return NULL;
	}
	s->loop = l;
	s->hooks = *hooks;
	s->idle.secs_since_valid_ping = (uint16_t)(hooks->heartbeat_ms / 1000);
	s->idle.secs_since_valid_hangup =
		(uint16_t)((LINK_DEAD_MS(hooks->heartbeat_ms) + LINK_DEAD_SPARE_MS) / 1000);
	s->pending_tail = &s->pending;
	memcpy(s->token_sha256, token_sha256, SHA256_LEN);
	lws_set_log_level(LLL_ERR | LLL_WARN, emit_log);
	info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
	info.user = s;
	info.fd_limit_per_thread = LIMIT_CONNECTIONS + LIMIT_UNAUTHENTICATED + 160;
	info.pt_serv_buf_size = LIMIT_DATA + FRAME_HEADER + 1024;
	info.max_http_header_data = HTTP_HEADERS_MAX;
	s->context = lws_create_context(&info);
	info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
	info.protocols = protocols;
	info.retry_and_idle_policy = &s->idle;
	info.vhost_name = "worker";
	if (s->context)
		s->vhost = lws_create_vhost(s->context, &info);
	/* A duplicate: libwebsockets closes what it adopts, and the loop is its owner's. */
	fd.filefd = fcntl(loop_fd(l), F_DUPFD_CLOEXEC, 3);
	if (!s->vhost ||
	    !lws_adopt_descriptor_vhost(s->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, "http", NULL)) {
		err_set(e, ERR_NO_MEMORY, 0, "libwebsockets: cannot make a context");
		ws_server_free(s);
		return NULL;
	}
	if (loop_io_start(l, &s->listen, listen_fd, LOOP_IN, on_acceptable, e) < 0) {
		ws_server_free(s);
		return NULL;
	}
	return s;
}

int ws_server_pass(struct ws_server *s)
{
	return lws_service(s->context, 0);
}

void ws_server_stop_accepting(struct ws_server *s)
{
	loop_io_stop(&s->listen);
}

void ws_server_free(struct ws_server *s)
{
	if (!s)
		return;
	loop_io_stop(&s->listen);
	loop_timer_stop(&s->expiry);
	/* Calls back into live connections: they are freed in WSI_DESTROY. */
	lws_context_destroy(s->context);
	free(s);
}
