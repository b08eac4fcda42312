"""NVIDIA's tritonclient over Open Inference V2 REST, against the demo's `fraud` model."""

import numpy as np
import tritonclient.http as triton

from counts import Counts, flags, headers

parser = flags(__doc__, "host:port")
parser.add_argument("--model", default="fraud")
parser.add_argument("--version", default="", help="the model version to ask for; default: whatever the server takes")
parser.add_argument("--json", action="store_true", help="send tensors as JSON instead of binary")
arguments = parser.parse_args()

counts = Counts()
client = triton.InferenceServerClient(arguments.address)
features = triton.InferInput("features", [1, 4], "FP32")
features.set_data_from_numpy(np.ones((1, 4), np.float32), binary_data=not arguments.json)
outputs = [triton.InferRequestedOutput(name, binary_data=not arguments.json) for name in ("score", "version")]

for number in range(arguments.requests):
    sent, key = headers(arguments, number)
    if arguments.host:
        sent["Host"] = arguments.host
    try:
        answer = client.infer(
            arguments.model, [features], model_version=arguments.version, outputs=outputs, headers=sent
        )
        version = answer.as_numpy("version")[0][0]
        counts.answer(version if arguments.json else version.decode(), key)
    except triton.InferenceServerException as error:
        counts.triton_error(error)
    except OSError as error:
        counts.error(type(error).__name__, error)
client.close()
counts.show()
