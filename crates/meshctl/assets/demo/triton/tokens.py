"""The demo's streaming model: answers one request with many responses, one word each, over and over the words given.

Each request is answered by a thread of its own, so that many streams are open at once.
"""

import itertools
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils

MAX_TOKENS = 8
INTERVAL_MS = 5


class TritonPythonModel:
    def initialize(self, args):
        self.threads = []

    def execute(self, requests):
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        for request in requests:
            words = text(request).split() or ["token"]
            count = number(request, "max_tokens", MAX_TOKENS)
            interval = number(request, "interval_ms", INTERVAL_MS) / 1000
            stream = (request.get_response_sender(), words, count, interval)
            thread = threading.Thread(target=answer, args=stream, daemon=True)
            thread.start()
            self.threads.append(thread)

    def finalize(self):
        for thread in self.threads:
            thread.join()


def answer(sender, words, count, interval):
    for word in itertools.islice(itertools.cycle(words), count):
        if sender.is_cancelled():
            break
        output = pb_utils.Tensor("text_output", np.array([word.encode()], dtype=object))
        sender.send(pb_utils.InferenceResponse(output_tensors=[output]))
        time.sleep(interval)
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def text(request):
    return pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)[0].decode()


def number(request, name, default):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else int(tensor.as_numpy().reshape(-1)[0])
