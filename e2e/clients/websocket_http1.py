"""The `websockets` library as a client of an echo server: websocket_http1.py HOST:PORT

Prints one line of JSON: the subprotocol and the extensions agreed on, and how many messages came back as they were sent.
"""

import json
import sys

from websockets.sync.client import connect

MESSAGES = ["text", "größer als ASCII", b"\x00\xff", bytes(8 << 20), "x" * 300_000, *(f"token {n}" for n in range(200))]

with connect(f"ws://{sys.argv[1]}/echo?by=http1", subprotocols=["tokens"], max_size=None) as socket:
    same = 0
    for message in MESSAGES:
        socket.send(message)
        same += socket.recv(timeout=30) == message
    # A stream of fragments is one message.
    socket.send(f"part {n} " for n in range(100))
    same += socket.recv(timeout=30) == "".join(f"part {n} " for n in range(100))
    pong = socket.ping().wait(30)
    line = {"subprotocol": socket.subprotocol, "extensions": len(socket.protocol.extensions), "pong": pong}
    socket.close(4001, "done")
print(json.dumps({**line, "sent": len(MESSAGES) + 1, "same": same, "code": socket.protocol.close_code}), flush=True)
