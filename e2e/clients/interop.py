"""gRPC's interoperability tests (grpc/grpc, doc/interop-test-descriptions.md) on grpcio: interop.py HOST:PORT

Prints one line of JSON: for each case `ok`, or what was wrong.
"""

import json
import queue
import sys

import grpc

from interop_protos import messages, services

SECONDS = 30
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
GOES_ON = (("x-goes-on", "1"),)  # Tells the server that only a cancellation ends the call.
METADATA = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"

CASES = {}


def case(test):
    CASES[test.__name__] = test


def payload(size):
    return messages.Payload(body=bytes(size))


def asking(*sizes, size=0):
    parameters = [messages.ResponseParameters(size=each) for each in sizes]
    return messages.StreamingOutputCallRequest(response_parameters=parameters, payload=payload(size))


def same(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} instead of {expected!r}")


def fails(call, code, message=None):
    try:
        call()
    except grpc.RpcError as error:
        same(error.code(), code)
        if message is not None:
            same(error.details(), message)
    else:
        raise AssertionError(f"a success instead of {code}")


class Requests:
    """Requests that are sent when they are said, until it is closed."""

    def __init__(self):
        self.queue = queue.Queue()

    def __iter__(self):
        return iter(self.queue.get, None)

    def say(self, request):
        self.queue.put(request)

    def close(self):
        self.queue.put(None)


@case
def empty_unary(stub):
    same(stub.EmptyCall(messages.Empty(), timeout=SECONDS), messages.Empty())


@case
def large_unary(stub):
    request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    same(stub.UnaryCall(request, timeout=SECONDS).payload.body, bytes(314159))


@case
def client_streaming(stub):
    requests = (messages.StreamingInputCallRequest(payload=payload(size)) for size in (27182, 8, 1828, 45904))
    same(stub.StreamingInputCall(requests, timeout=SECONDS).aggregated_payload_size, 74922)


@case
def server_streaming(stub):
    sizes = (31415, 9, 2653, 58979)
    same([len(each.payload.body) for each in stub.StreamingOutputCall(asking(*sizes), timeout=SECONDS)], list(sizes))


@case
def ping_pong(stub):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=SECONDS)
    for asked, sent in ((31415, 27182), (9, 8), (2653, 1828), (58979, 45904)):
        requests.say(asking(asked, size=sent))
        same(len(next(responses).payload.body), asked)
    requests.close()
    same(list(responses), [])


@case
def empty_stream(stub):
    same(list(stub.FullDuplexCall(iter(()), timeout=SECONDS)), [])


@case
def cancel_after_begin(stub):
    requests = Requests()
    call = stub.StreamingInputCall.future(iter(requests), timeout=SECONDS)
    call.cancel()
    same(call.cancelled(), True)
    same(call.code(), grpc.StatusCode.CANCELLED)
    requests.close()


@case
def cancel_after_first_response(stub):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=SECONDS, metadata=GOES_ON)
    requests.say(asking(31415, size=27182))
    same(len(next(responses).payload.body), 31415)
    responses.cancel()
    fails(lambda: next(responses), grpc.StatusCode.CANCELLED)
    requests.close()


@case
def timeout_on_sleeping_server(stub):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=0.2, metadata=GOES_ON)
    requests.say(asking(size=27182))
    fails(lambda: next(responses), grpc.StatusCode.DEADLINE_EXCEEDED)
    requests.close()


@case
def status_code_and_message(stub):
    status = messages.EchoStatus(code=2, message="test status message")
    failing = (grpc.StatusCode.UNKNOWN, "test status message")
    fails(lambda: stub.UnaryCall(messages.SimpleRequest(response_status=status), timeout=SECONDS), *failing)
    request = messages.StreamingOutputCallRequest(response_status=status)
    fails(lambda: list(stub.FullDuplexCall(iter([request]), timeout=SECONDS)), *failing)


@case
def special_status_message(stub):
    status = messages.EchoStatus(code=2, message=SPECIAL)
    request = messages.SimpleRequest(response_status=status)
    fails(lambda: stub.UnaryCall(request, timeout=SECONDS), grpc.StatusCode.UNKNOWN, SPECIAL)


@case
def custom_metadata(stub):
    def check(call):
        same(dict(call.initial_metadata())[INITIAL], METADATA[0][1])
        same(dict(call.trailing_metadata())[TRAILING], METADATA[1][1])

    request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    response, call = stub.UnaryCall.with_call(request, timeout=SECONDS, metadata=METADATA)
    same(len(response.payload.body), 314159)
    check(call)
    call = stub.FullDuplexCall(iter([asking(314159, size=271828)]), timeout=SECONDS, metadata=METADATA)
    same([len(each.payload.body) for each in call], [314159])
    check(call)


@case
def unimplemented_method(stub):
    fails(lambda: stub.UnimplementedCall(messages.Empty(), timeout=SECONDS), grpc.StatusCode.UNIMPLEMENTED)


@case
def unimplemented_service(stub):
    fails(lambda: stub.unknown.UnimplementedCall(messages.Empty(), timeout=SECONDS), grpc.StatusCode.UNIMPLEMENTED)


results = {}
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = services.TestServiceStub(channel)
    stub.unknown = services.UnimplementedServiceStub(channel)
    for name, test in CASES.items():
        try:
            test(stub)
            results[name] = "ok"
        except (AssertionError, grpc.RpcError, KeyError, StopIteration) as wrong:
            results[name] = f"{type(wrong).__name__}: {wrong}"
print(json.dumps(results), flush=True)
