"""TLS clients that do nothing much, as a program: `clients.py COUNT PORT CA PATH idle|held`.

Opens COUNT keep-alive connections and asks for PATH on each; `idle` waits for each answer (200, of whatever length),
`held` leaves the request unanswered. Then says `open N` on standard output and holds all of them until standard input ends.
"""

import asyncio
import ssl
import sys

AT_ONCE = 32


async def one(context, port, path, answered):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost", limit=4096)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    await writer.drain()
    if answered:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if " 200 " not in head.split("\r\n")[0]:
            sys.exit(f"answer: {head}")
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
        await reader.readexactly(length)
    return reader, writer


async def main(count, port, ca, path, answered):
    context = ssl.create_default_context(cafile=ca)
    places = asyncio.Semaphore(AT_ONCE)

    async def opened():
        async with places:
            return await one(context, port, path, answered)

    held = await asyncio.gather(*(opened() for _ in range(count)))
    print(f"open {len(held)}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for _, writer in held:
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5] == "idle"))
