// An HTTP/2 server that behaves as its path says, with a plain HTTP port on which it tells what it saw.
//
// node server.mjs FOLDER TLS_PORT CLEAR_PORT CONTROL_PORT STREAMS
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";

const [folder, tlsPort, clearPort, controlPort, streams] = process.argv.slice(2);
const seen = { sessions: 0, opened: 0, most: 0, held: 0, requests: 0, resets: [], upgrades: 0 };
const held = [];
const tries = new Map();

function serve(stream, headers) {
  seen.requests += 1;
  const url = new URL(headers[":path"], "http://x");
  const name = url.pathname.split("/").pop();
  const size = Number(url.searchParams.get("size") ?? 0);
  const key = url.searchParams.get("key") ?? "";
  stream.on("error", () => {});
  stream.on("close", () => {
    if (stream.rstCode !== 0) seen.resets.push({ name, code: stream.rstCode, at: Date.now() });
  });
  const nth = (tries.get(name + key) ?? 0) + 1;
  if (["refuse", "goaway", "http1"].includes(name)) tries.set(name + key, nth);
  const answer = (text, more) => {
    stream.respond({ ":status": 200, ...more });
    stream.end(text);
  };
  switch (name) {
    case "wary": {
      // Each request is refused once or twice before it is held.
      const id = headers["tidegate-request-id"];
      const times = (tries.get(id) ?? 0) + 1;
      tries.set(id, times);
      if (times <= 1 + (id.charCodeAt(0) % 2)) return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    }
    // falls through
    case "hold":
      seen.held += 1;
      held.push(() => stream.destroyed || answer("held"));
      return;
    case "echo":
      stream.respond({ ":status": 200 });
      stream.pipe(stream);
      return;
    case "bytes":
    case "flood": {
      stream.respond(name === "bytes" ? { ":status": 200, "content-length": size } : { ":status": 200 });
      const chunk = Buffer.alloc(65536, "0123456789abcdef");
      let left = size;
      const more = () => {
        while (left > 0) {
          const part = chunk.subarray(0, Math.min(left, chunk.length));
          left -= part.length;
          if (!stream.write(part)) return stream.once("drain", more);
        }
        stream.end();
      };
      return more();
    }
    case "heads":
      return answer(JSON.stringify(headers));
    case "trailers":
      stream.additionalHeaders({ ":status": 103, link: "</style.css>" });
      stream.respond({ ":status": 200, trailer: "x-sum" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
      stream.end("with trailers");
      return;
    case "short":
      stream.respond({ ":status": 200, "content-length": 10 });
      stream.end("four");
      return;
    case "early":
      return answer("enough");
    case "refuse":
      if (nth === 1) return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      return answer(`try ${nth}`);
    case "goaway":
      if (nth === 1) return stream.session.goaway(0, Math.max(0, stream.id - 2));
      return answer(`try ${nth}`);
    default:
      return answer(url.pathname);
  }
}

function begin(server) {
  server.on("session", (session) => {
    seen.sessions += 1;
    seen.opened += 1;
    seen.most = Math.max(seen.most, seen.sessions);
    session.on("error", () => {});
    session.on("close", () => (seen.sessions -= 1));
  });
  server.on("stream", serve);
  server.on("sessionError", () => {});
  return server;
}

const settings = { maxConcurrentStreams: Number(streams), initialWindowSize: 262144 };
const key = fs.readFileSync(`${folder}/server.key`);
const cert = fs.readFileSync(`${folder}/server.pem`);
begin(http2.createSecureServer({ key, cert, settings })).listen(Number(tlsPort), "127.0.0.1");
begin(http2.createServer({ settings })).listen(Number(clearPort), "127.0.0.1");
http
  .createServer((request, response) => {
    if (request.url === "/open") held.splice(0).forEach((open) => open());
    response.end(JSON.stringify({ ...seen, now: Date.now(), rss: process.memoryUsage().rss }));
  })
  .listen(Number(controlPort), "127.0.0.1");
