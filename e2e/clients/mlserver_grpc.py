"""NVIDIA's tritonclient over Open Inference V2 gRPC, against the demo's `iris` model on MLServer."""

import numpy as np
import tritonclient.grpc as triton

from counts import Counts, channel_options, flags, headers

parser = flags(__doc__, "host:port")
parser.add_argument("--model", default="iris")
parser.add_argument("--version", default="", help="the model version to ask for: v1 or v2")
arguments = parser.parse_args()

counts = Counts()
client = triton.InferenceServerClient(arguments.address, channel_args=channel_options(arguments))
flower = triton.InferInput("measurements", [1, 4], "FP32")
flower.set_data_from_numpy(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32))

for number in range(arguments.requests):
    sent, key = headers(arguments, number)
    try:
        answer = client.infer(arguments.model, [flower], model_version=arguments.version, headers=sent)
        counts.answer(answer.get_response().model_version, key)
    except triton.InferenceServerException as error:
        counts.triton_error(error)
client.close()
counts.show()
