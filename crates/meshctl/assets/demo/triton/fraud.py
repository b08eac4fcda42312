"""The demo's fraud model: a logistic score of four features, with other weights in each version.

The answer says which version gave it, in the output `version`, so that a client can count without asking the mesh.
"""

import time

import numpy as np
import triton_python_backend_utils as pb_utils

# Version 1 finds the transaction of ones harmless (score below 0.5), every later one suspicious (above).
WEIGHTS = {"1": [-1.2, 0.3, -0.4, -0.2]}
LATER = [0.9, 0.6, -0.1, 0.4]
SECONDS_PER_BATCH = 0.001


class TritonPythonModel:
    def initialize(self, args):
        self.version = args["model_version"]
        self.weights = np.array(WEIGHTS.get(self.version, LATER), dtype=np.float32)

    def execute(self, requests):
        time.sleep(SECONDS_PER_BATCH)
        return [self.answer(request) for request in requests]

    def answer(self, request):
        features = pb_utils.get_input_tensor_by_name(request, "features").as_numpy()
        scores = 1.0 / (1.0 + np.exp(-(features @ self.weights)))
        versions = np.full((len(features), 1), self.version.encode(), dtype=object)
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("score", scores.reshape(-1, 1).astype(np.float32)),
                pb_utils.Tensor("version", versions),
            ]
        )
