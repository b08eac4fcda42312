"""What the client scripts share: their flags, and the one JSON line that each prints when it is done.

    {"answers": {"1": 95, "2": 5}, "errors": [], "keys": {}, ...}

`answers` counts by what the server says about itself (its version, or its name), `errors` has one entry for each failed
call: its status, its message, and the mesh's own `mesh-error`, if the mesh made the answer. `keys` says which version
answered each key, where --key-header was given. A failed call is counted, never fatal.
"""

import argparse
import collections
import json


class Counts:
    def __init__(self):
        self.answers = collections.Counter()
        self.errors = []
        self.keys = {}
        self.more = collections.Counter()

    def answer(self, who, key=None):
        self.answers[str(who)] += 1
        if key is not None:
            self.keys[key] = str(who)

    def error(self, status, message, reason=None):
        self.errors.append({"status": str(status), "message": str(message)[:300], "mesh-error": reason})

    def grpc_error(self, error):
        """Of a grpc.RpcError: the code's name, the message, and the reason from the trailers."""
        metadata = dict(error.trailing_metadata() or ()) if hasattr(error, "trailing_metadata") else {}
        self.error(error.code().name, error.details(), metadata.get("mesh-error"))

    def triton_error(self, error):
        """Of tritonclient's exception: the HTTP status or the gRPC code's name (it shows neither headers nor trailers)."""
        status = str(error.status() or "none").removeprefix("StatusCode.")
        self.error(status, error.message())

    def show(self):
        line = {"answers": dict(self.answers), "errors": self.errors, "keys": self.keys, **self.more}
        print(json.dumps(line), flush=True)


def flags(description, address):
    """The flags every client has. `address` says what its first argument is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("address", help=address)
    parser.add_argument("--requests", type=int, default=1, help="how many calls to make, one after the other")
    parser.add_argument("--host", help="the Host or :authority to send instead of the address")
    parser.add_argument("--key-header", help="send this header with another key in each call: user-0, user-1 …")
    return parser


def headers(arguments, number):
    """The headers of call `number`, and its key, if the calls have keys."""
    if not arguments.key_header:
        return {}, None
    key = f"user-{number}"
    return {arguments.key_header: key}, key


def channel_options(arguments):
    """gRPC channel options: messages of any size, and the :authority that was asked for."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return options + ([("grpc.default_authority", arguments.host)] if arguments.host else [])
