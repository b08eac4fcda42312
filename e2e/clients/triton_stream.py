"""NVIDIA's tritonclient over a bidirectional ModelStreamInfer, against the demo's decoupled `tokens` model.

One stream carries --requests requests, all sent before the first answer is read; each is answered by --tokens
responses. Also printed: `chunks` (responses with a token), `finished` (requests answered to the end).
"""

import queue

import numpy as np
import tritonclient.grpc as triton

from counts import Counts, channel_options, flags

SECONDS_OF_SILENCE = 30

parser = flags(__doc__, "host:port")
parser.add_argument("--model", default="tokens")
parser.add_argument("--version", default="", help="the model version to ask for; default: whatever the server takes")
parser.add_argument("--tokens", type=int, default=8, help="how many tokens to ask for in each request")
parser.add_argument("--interval-ms", type=int, default=5, help="the pause after each token")
arguments = parser.parse_args()


def tensor(name, value, datatype, kind):
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=kind))
    return made


counts = Counts()
answers = queue.Queue()
client = triton.InferenceServerClient(arguments.address, channel_args=channel_options(arguments))
client.start_stream(callback=lambda result, error: answers.put((result, error)))
inputs = [
    tensor("text_input", b"a stream is sacred", "BYTES", object),
    tensor("max_tokens", arguments.tokens, "INT32", np.int32),
    tensor("interval_ms", arguments.interval_ms, "INT32", np.int32),
]
try:
    for number in range(arguments.requests):
        client.async_stream_infer(
            arguments.model,
            inputs,
            model_version=arguments.version,
            request_id=str(number),
            enable_empty_final_response=True,
        )
except triton.InferenceServerException:
    pass  # The stream ended early: the callback is told why.

open_requests, versions = arguments.requests, {}
while open_requests > 0:
    try:
        result, error = answers.get(timeout=SECONDS_OF_SILENCE)
    except queue.Empty:
        counts.error("silence", f"{open_requests} of {arguments.requests} requests got no more answers")
        break
    if error is not None:
        counts.triton_error(error)
        if error.status():  # A gRPC status ends the whole stream, an error without one only its request.
            break
        open_requests -= 1
        continue
    response = result.get_response()
    if response.outputs:
        counts.more["chunks"] += 1
        versions[response.id] = response.model_version
    if response.parameters["triton_final_response"].bool_param:
        counts.answer(versions.get(response.id))
        counts.more["finished"] += 1
        open_requests -= 1
client.stop_stream()
client.close()
counts.show()
