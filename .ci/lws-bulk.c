/* Put here by farstep's .ci/deps: this loop hands the client's parser one byte at
		 * a time, also for payloads of 64 KiB. All but the last byte of a payload are taken
		 * at once instead; the last one goes through the parser, which then spills. */
if (wsi->ws && lwsi_role_ws(wsi) && wsi->lws_rx_parse_state == LWS_RXPS_WS_FRAME_PAYLOAD &&
    !wsi->ws->this_frame_masked) {
	size_t bulk = wsi->a.protocol->rx_buffer_size ? wsi->a.protocol->rx_buffer_size
	                                              : wsi->a.context->pt_serv_buf_size;

	bulk -= wsi->ws->rx_ubuf_head;
	if (bulk > wsi->ws->rx_packet_length)
		bulk = wsi->ws->rx_packet_length;
	if (bulk > len)
		bulk = len;
	if (bulk-- > 1) {
		memcpy(wsi->ws->rx_ubuf + LWS_PRE + wsi->ws->rx_ubuf_head, *buf, bulk);
		wsi->ws->rx_ubuf_head += bulk;
		wsi->ws->rx_packet_length -= bulk;
		*buf += bulk;
		len -= bulk;
	}
}
