"""A WebSocket over HTTP/2 (RFC 8441), by the libraries h2 and wsproto: websocket_http2.py HOST:PORT

Opens two on one connection, and an ordinary request beside them, to an echo server. Prints one line of JSON: what was
agreed on, and how many messages came back as they were sent.
"""

import json
import socket
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

host, port = sys.argv[1].split(":")
MESSAGES = ["text", b"\x00\xff", bytes(4 << 20), "y" * 300_000, *(f"token {n}" for n in range(200))]


class Http2:
    """A connection: what has come of each stream, and whether it goes on."""

    def __init__(self):
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.heads, self.data, self.ended, self.settings = {}, {}, set(), None
        self.flush()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def read(self):
        """Takes what comes next."""
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError("the connection ended")
        for event in self.connection.receive_data(received):
            if isinstance(event, RemoteSettingsChanged) and self.settings is None:
                self.settings = {code: change.new_value for code, change in event.changed_settings.items()}
            elif isinstance(event, ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, DataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (StreamEnded, StreamReset)):
                self.ended.add(event.stream_id)
        self.flush()

    def until(self, there):
        while not there():
            self.read()

    def open(self, headers, end):
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, headers, end_stream=end)
        self.flush()
        self.until(lambda: stream in self.heads or stream in self.ended)
        return stream

    def send(self, stream, data):
        while data:
            room = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)
            if room == 0:
                self.read()
                continue
            self.connection.send_data(stream, data[:room])
            data = data[room:]
            self.flush()


class WebSocket:
    """A WebSocket in one stream."""

    def __init__(self, http2, path):
        self.http2, self.frames, self.parts = http2, Connection(ConnectionType.CLIENT), []
        self.stream = http2.open(
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "chat.test"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", "tokens"),
            ],
            end=False,
        )
        self.head = http2.heads[self.stream]

    def send(self, event):
        self.http2.send(self.stream, self.frames.send(event))

    def receive(self):
        """The next whole event."""
        while True:
            for event in self.frames.events():
                if not isinstance(event, (TextMessage, BytesMessage)):
                    return event
                self.parts.append(event.data)
                if event.message_finished:
                    parts, self.parts = self.parts, []
                    return parts[0][:0].join(parts)
            self.http2.until(lambda: self.http2.data.get(self.stream) or self.stream in self.http2.ended)
            self.frames.receive_data(bytes(self.http2.data.pop(self.stream, b"")) or None)


http2 = Http2()
http2.until(lambda: http2.settings is not None)
one, two = WebSocket(http2, "/echo?by=http2"), WebSocket(http2, "/echo?by=other")
same = 0
for message in MESSAGES:
    for each in (one, two):
        each.send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))
    for each in (one, two):
        same += each.receive() == message
one.send(Ping(b"there?"))
pong = isinstance(one.receive(), Pong)
one.send(CloseConnection(4001, "done"))
code = one.receive().code
# Leaves without a word.
http2.connection.reset_stream(two.stream, error_code=8)
http2.flush()
refused = http2.open(
    [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/echo?by=nobody"),
        (":authority", "chat.test"),
        ("sec-websocket-version", "7"),
    ],
    end=False,
)
line = {
    "offered": http2.settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL),
    "status": [one.head[":status"], two.head[":status"], http2.heads[refused][":status"]],
    "subprotocol": one.head.get("sec-websocket-protocol"),
}
print(json.dumps({**line, "sent": 2 * len(MESSAGES), "same": same, "pong": pong, "code": code}), flush=True)
