"""The server of gRPC's interoperability tests, on grpcio: interop_server.py HOST PORT

It prints `ready` when it listens, and from then on a line of JSON for each call that has ended: its method, and whether
it was cancelled before the server was done.
"""

import json
import pathlib
import signal
import sys
import threading
import time
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "clients"))
import grpc  # noqa: E402
from interop_protos import messages, services  # noqa: E402

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
GOES_ON = "x-goes-on"  # Says that the client does not end the call: whatever ends it is a cancellation.
SECONDS_TO_FINISH = 5
printing = threading.Lock()


def say(line):
    with printing:
        print(line, flush=True)


class Call:
    """One call: echoes the metadata that it is asked to, and says how it ended."""

    def __init__(self, method, context):
        self.method, self.context, self.done = method, context, False
        context.add_callback(self.ended)
        metadata = dict(context.invocation_metadata())
        self.goes_on = GOES_ON in metadata
        if INITIAL in metadata:
            context.send_initial_metadata([(INITIAL, metadata[INITIAL])])
        if TRAILING in metadata:
            context.set_trailing_metadata([(TRAILING, metadata[TRAILING])])

    def ended(self):
        say(json.dumps({"method": self.method, "cancelled": not self.done}))

    def finish(self, request=None):
        # To a server that waits for the next request, a call that is cancelled looks much like one that is over.
        self.done = not self.goes_on
        if request is not None and request.HasField("response_status"):
            code = next(code for code in grpc.StatusCode if code.value[0] == request.response_status.code)
            self.context.set_code(code)
            self.context.set_details(request.response_status.message)


def outputs(request, context):
    for wanted in request.response_parameters:
        time.sleep(wanted.interval_us / 1e6)
        if not context.is_active():
            return
        yield messages.StreamingOutputCallResponse(payload=messages.Payload(body=bytes(wanted.size)))


class Test(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        Call("EmptyCall", context).finish()
        return messages.Empty()

    def UnaryCall(self, request, context):
        Call("UnaryCall", context).finish(request)
        return messages.SimpleResponse(payload=messages.Payload(body=bytes(request.response_size)))

    def StreamingOutputCall(self, request, context):
        call = Call("StreamingOutputCall", context)
        yield from outputs(request, context)
        call.finish(request)

    def StreamingInputCall(self, requests, context):
        call = Call("StreamingInputCall", context)
        size = sum(len(request.payload.body) for request in requests)
        call.finish()
        return messages.StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(self, requests, context):
        call, request = Call("FullDuplexCall", context), None
        for request in requests:
            yield from outputs(request, context)
            if request.HasField("response_status"):
                break
        call.finish(request)


host, port = sys.argv[1:]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services.add_TestServiceServicer_to_server(Test(), server)
server.add_insecure_port(f"{host}:{port}")
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(SECONDS_TO_FINISH))
say("ready")
server.wait_for_termination()
