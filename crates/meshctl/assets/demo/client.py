"""The demo's client workload: steady traffic to the demo's services, and a JSON line each second about what came back.

Unmodified clients (tritonclient, requests, openai) send to the addresses given, which are the ports of this workload's
own sidecar. Each flow given sends at most its rate of calls a second, one at a time; a failed call is counted, never fatal. A line:

    {"second": 3, "flows": {"fraud-rest": {"answers": {"1": 19, "2": 1}, "errors": {}, "p50_ms": 3.1, "p99_ms": 5.0}}}

`answers` counts by the version (chat: the model) that the server says it is, within the line's second; `errors` counts
by status. Ends on SIGTERM or SIGINT, or after --seconds, with a last line that has `total` instead of `second`.
"""

import argparse
import collections
import json
import math
import random
import signal
import threading
import time

import numpy as np

USERS = 1000
SECONDS_PER_CALL = 30


class Fraud:
    """Open Inference V2 by tritonclient, which has the same interface for REST and gRPC."""

    def __init__(self, triton, address):
        self.triton = triton
        self.client = triton.InferenceServerClient(address)
        self.features = triton.InferInput("features", [1, 4], "FP32")

    def call(self, user):
        self.features.set_data_from_numpy(np.random.rand(1, 4).astype(np.float32))
        answer = self.client.infer("fraud", [self.features], headers={"x-user-id": user})
        return answer.as_numpy("version")[0][0].decode()


class Iris:
    """Open Inference V2 by plain JSON."""

    def __init__(self, address):
        import requests

        self.session = requests.Session()
        self.url = f"{address}/v2/models/iris/infer"

    def call(self, user):
        flower = [round(random.uniform(0.1, 7.0), 1) for _ in range(4)]
        body = {"inputs": [{"name": "measurements", "datatype": "FP32", "shape": [1, 4], "data": flower}]}
        answer = self.session.post(self.url, json=body, headers={"x-user-id": user}, timeout=SECONDS_PER_CALL)
        answer.raise_for_status()
        return answer.json()["model_version"]


class Chat:
    """A chat completion, streamed to its end, with usage."""

    def __init__(self, address):
        import openai

        self.client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)

    def call(self, user):
        model, usage = None, None
        for chunk in self.client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "the mesh routes each request"}],
            max_tokens=random.randint(8, 24),
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-user-id": user},
        ):
            model, usage = chunk.model, chunk.usage or usage
        if usage is None:
            raise EOFError("the stream ended without its usage")
        return model


def rest(address):
    import tritonclient.http

    return Fraud(tritonclient.http, address)


def grpc(address):
    import tritonclient.grpc

    return Fraud(tritonclient.grpc, address)


# name of the flow → how to make its client, the form of its address, calls a second
FLOWS = {
    "fraud-rest": (rest, "host:port", 20.0),
    "fraud-grpc": (grpc, "host:port", 20.0),
    "iris": (Iris, "URL", 5.0),
    "chat": (Chat, "URL", 2.0),
}


class Counts:
    """What came back: of this second, and of all."""

    def __init__(self):
        self.lock = threading.Lock()
        self.second, self.total = {}, {}

    def record(self, flow, kind, what, milliseconds):
        with self.lock:
            for counts in (self.second, self.total):
                entry = counts.setdefault(flow, {"answers": collections.Counter(), "errors": collections.Counter()})
                entry[kind][what] += 1
            self.second[flow].setdefault("times", []).append(milliseconds)

    def take_second(self):
        with self.lock:
            taken, self.second = self.second, {}
        for entry in taken.values():
            times = sorted(entry.pop("times"))
            entry["p50_ms"], entry["p99_ms"] = (round(times[math.ceil(q * len(times)) - 1], 2) for q in (0.5, 0.99))
        return taken


def status(error):
    """A short name of what went wrong: an HTTP status, a gRPC code, or the exception's type."""
    if callable(getattr(error, "status", None)) and error.status():
        return str(error.status()).removeprefix("StatusCode.")
    code = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return str(code or type(error).__name__)


def run(flow, make, address, rate, counts, stop):
    client = make(address)
    due = time.monotonic()
    while not stop.is_set():
        started = time.monotonic()
        try:
            kind, what = "answers", client.call(f"user-{random.randrange(USERS)}")
        except Exception as error:  # Whatever a client library raises is a failed call.
            kind, what = "errors", status(error)
        finished = time.monotonic()
        counts.record(flow, kind, what, 1000 * (finished - started))
        # A slow call is not caught up on: the rate is an upper bound, never a burst.
        due = max(due + 1 / rate, finished)
        stop.wait(due - finished)


def arguments():
    parser = argparse.ArgumentParser(description="Steady traffic to the demo's services.")
    for flow, (_, form, rate) in FLOWS.items():
        parser.add_argument(f"--{flow}", metavar=form, help=f"where to send the flow {flow}; left out: not sent")
        parser.add_argument(f"--{flow}-rate", type=float, default=rate, metavar="PER_SECOND", help=f"default {rate:g}")
    parser.add_argument("--seconds", type=int, help="end after so many seconds")
    return vars(parser.parse_args())


def main():
    given, counts, stop = arguments(), Counts(), threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    for flow, (make, _, _) in FLOWS.items():
        name = flow.replace("-", "_")
        if given[name]:
            parts = (flow, make, given[name], given[f"{name}_rate"], counts, stop)
            threading.Thread(target=run, args=parts, daemon=True).start()
    second = 0
    while second != given["seconds"] and not stop.wait(1.0):
        second += 1
        print(json.dumps({"second": second, "flows": counts.take_second()}), flush=True)
    with counts.lock:
        print(json.dumps({"total": counts.total}), flush=True)


main()
