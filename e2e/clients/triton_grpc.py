"""NVIDIA's tritonclient over Open Inference V2 gRPC, against the demo's `fraud` model."""

import numpy as np
import tritonclient.grpc as triton

from counts import Counts, channel_options, flags, headers

parser = flags(__doc__, "host:port")
parser.add_argument("--model", default="fraud")
parser.add_argument("--version", default="", help="the model version to ask for; default: whatever the server takes")
arguments = parser.parse_args()

counts = Counts()
client = triton.InferenceServerClient(arguments.address, channel_args=channel_options(arguments))
features = triton.InferInput("features", [1, 4], "FP32")
features.set_data_from_numpy(np.ones((1, 4), np.float32))

for number in range(arguments.requests):
    sent, key = headers(arguments, number)
    try:
        answer = client.infer(arguments.model, [features], model_version=arguments.version, headers=sent)
        counts.answer(answer.as_numpy("version")[0][0].decode(), key)
    except triton.InferenceServerException as error:
        counts.triton_error(error)
client.close()
counts.show()
