"""A client that waits for the server's first line before it says anything, as mail clients do.

Prints one JSON line: what was heard, and how long the first line took in seconds.
"""

import json
import socket
import sys
import time

host, port = sys.argv[1], int(sys.argv[2])
began = time.monotonic()
with socket.create_connection((host, port), timeout=30) as connection:
    lines = connection.makefile("rwb")
    first = lines.readline().decode()
    waited = time.monotonic() - began
    lines.write(b"NOOP\r\n")
    lines.flush()
    answer = lines.readline().decode()
print(json.dumps({"first": first.strip(), "answer": answer.strip(), "waited": waited}))
