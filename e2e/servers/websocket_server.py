"""A WebSocket server on the `websockets` library that sends every message back: websocket_server.py HOST PORT

It prints `ready` when it listens, and from then on a line of JSON for each connection that has ended: its path, how many
messages it had, and the code it was closed with (1006: without a word).
"""

import asyncio
import json
import signal
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    messages = 0
    try:
        while True:
            await connection.send(await connection.recv())
            messages += 1
    except ConnectionClosed:
        pass
    line = {"path": connection.request.path, "messages": messages, "code": connection.protocol.close_code}
    print(json.dumps({**line, "peer": connection.request.headers.get("mesh-peer")}), flush=True)


async def main(host, port):
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set_result, None)
    async with serve(echo, host, int(port), subprotocols=["tokens"], max_size=None):
        print("ready", flush=True)
        await ended


asyncio.run(main(*sys.argv[1:]))
