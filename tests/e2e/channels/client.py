"""A client of a channel with the `websockets` library: prints each push, acknowledges it, and says how the end came.

Arguments: URL, folder with ca.pem and the device's certificate, pushes to wait for.
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url: str, folder: str, count: int) -> None:
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    context.load_cert_chain(f"{folder}/device-1.pem", f"{folder}/device-1.key")
    # The library offers permessage-deflate, which the gateway declines.
    async with websockets.connect(url, ssl=context) as socket:
        assert not socket.protocol.extensions, socket.protocol.extensions
        await (await socket.ping(b"are you there?"))
        print("open", flush=True)
        for _ in range(count):
            envelope = json.loads(await socket.recv())
            print(json.dumps(envelope), flush=True)
            await socket.send(json.dumps({"receipt": envelope["push"]}))
    print("closed", socket.close_code, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
