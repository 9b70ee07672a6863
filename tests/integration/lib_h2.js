// SPDX-License-Identifier: Apache-2.0
// An HTTP/2 (and 1.1) front with TLS for a server on loopback.
//   node lib_h2.js CERT KEY TO_PORT FAULT
// FAULT: none; goaway@N, rst@N: the Nth stream of all ends its connection with
// ENHANCE_YOUR_CALM, or is reset. Prints its port, then a line for each connection and stream.
const fs = require("fs"), http = require("http"), http2 = require("http2"), net = require("net");
const [cert, key, to, fault] = process.argv.slice(2);
const [what, at] = fault.split("@");
let streams = 0;

const front = http2.createSecureServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true });
front.on("session", (s) => { console.log("session"); s.on("error", () => {}); });
front.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  const n = ++streams, method = headers[":method"], path = headers[":path"];
  if (what === "goaway" && n === Number(at)) {
    console.log("goaway", method, path.split("?")[0]);
    stream.session.goaway(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    setImmediate(() => stream.session.destroy());
    return;
  }
  if (what === "rst" && n === Number(at)) {
    console.log("rst", method, path.split("?")[0]);
    stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    return;
  }
  console.log("stream", method, path.split("?")[0]);
  const plain = Object.fromEntries(Object.entries(headers).filter(([k]) => k[0] !== ":"));
  plain.host = headers[":authority"];
  const req = http.request({ port: to, host: "127.0.0.1", method, path, headers: plain }, (res) => {
    const h = Object.fromEntries(Object.entries(res.headers).filter(([k]) => !["connection", "transfer-encoding", "keep-alive"].includes(k)));
    stream.respond({ ":status": res.statusCode, ...h });
    res.pipe(stream);
  });
  req.on("error", () => stream.close());
  stream.pipe(req);
});
front.on("request", (r, res) => {
  if (r.httpVersionMajor !== 1) return;
  console.log("request", r.method, r.url.split("?")[0]);
  const req = http.request({ port: to, host: "127.0.0.1", method: r.method, path: r.url, headers: r.headers }, (a) => {
    res.writeHead(a.statusCode, a.headers);
    a.pipe(res);
  });
  req.on("error", () => res.destroy());
  r.pipe(req);
});
front.on("upgrade", (req, socket, head) => {
  console.log("upgrade", req.url);
  const up = net.connect(to, "127.0.0.1", () => {
    up.write(`${req.method} ${req.url} HTTP/1.1\r\n`);
    for (let i = 0; i < req.rawHeaders.length; i += 2) up.write(`${req.rawHeaders[i]}: ${req.rawHeaders[i + 1]}\r\n`);
    up.write("\r\n");
    up.write(head);
    up.pipe(socket);
    socket.pipe(up);
  });
  up.on("error", () => socket.destroy());
  socket.on("error", () => up.destroy());
});
front.listen(0, "127.0.0.1", () => console.log(front.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
