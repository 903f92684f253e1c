"""The part of the origin that nginx has no word for, as a program: `upstream.py PORT`.

    PUT or POST /far/sink    reads the whole body and answers with `read N`, N its bytes
    GET /far/hold/SECONDS    answers after so many seconds: a long poll without news

HTTP/1.1 with kept-alive connections; bodies are read into one buffer and dropped.
"""

import asyncio
import sys

BUFFER = bytearray(1 << 20)
HEAD_MOST = 64 << 10


class Connection(asyncio.BufferedProtocol):
    """One connection: a head is collected, a body only counted. The buffer is shared: it is consumed before the next read."""

    def connection_made(self, transport):
        self.transport = transport
        self.head = bytearray()
        self.left = self.size = 0
        self.waiting = None

    def connection_lost(self, error):
        if self.waiting:
            self.waiting.cancel()

    def get_buffer(self, hint):
        return BUFFER

    def buffer_updated(self, count):
        view = memoryview(BUFFER)[:count]
        if self.left:
            view = self.body(view)
        if len(view):
            self.head += view
            self.heads()

    def body(self, view):
        """Takes what belongs to the body and gives the rest back."""
        taken = min(self.left, len(view))
        self.left -= taken
        if not self.left:
            self.answer(f"read {self.size}\n")
        return view[taken:]

    def heads(self):
        while not self.left and (end := self.head.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.head[:end]).decode("latin-1")
            rest = bytes(self.head[end + 4:])
            self.head.clear()
            self.request(head)
            if self.left:
                rest = bytes(self.body(memoryview(rest)))
            self.head += rest
        if len(self.head) > HEAD_MOST:
            self.transport.close()

    def request(self, head):
        first, *lines = head.split("\r\n")
        method, target, _ = (first + "  ").split(" ", 2)
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if target == "/far/sink" and method in ("PUT", "POST"):
            if "content-length" not in fields:
                self.answer("a length, please\n", "411 Length Required")
                self.transport.close()
                return
            if fields.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.size = self.left = int(fields["content-length"])
            if not self.size:
                self.answer("read 0\n")
        elif target.startswith("/far/hold/") and target[10:].isdigit():
            loop = asyncio.get_running_loop()
            self.waiting = loop.call_later(int(target[10:]), self.answer, "no news\n")
        else:
            self.answer("no such place\n", "404 Not Found")

    def answer(self, text, status="200 OK"):
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
        self.transport.write((head + text).encode())


async def main(port):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
