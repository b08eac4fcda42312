"""A TensorFlow Serving gRPC server for the scenarios, on the real stubs: tfs_server.py HOST PORT [VERSION …]

No package has the tensorflow_model_server binary, so this serves its API: the model `half_plus` in versions 1 and 2
(or those given), where version n answers x / 2 + n. It resolves versions and labels (`stable` is the lowest, `canary`
the highest) and words its errors as TensorFlow Serving does, and says `ready` on standard output when it listens.
"""

import pathlib
import signal
import sys
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "clients"))
import tfs_protos  # noqa: E402, F401, first: the stubs need what it installs
import grpc  # noqa: E402
from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MODEL, SIGNATURE = "half_plus", "serving_default"
SECONDS_TO_FINISH = 5


class Models:
    """Which version a ModelSpec means."""

    def __init__(self, versions):
        self.versions = sorted(versions)
        self.labels = {"stable": self.versions[0], "canary": self.versions[-1]}

    def resolve(self, spec, context):
        if spec.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            if spec.version_label not in self.labels:
                reason = f"Unrecognized servable version label: {spec.version_label}"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
            return self.labels[spec.version_label]
        version = spec.version.value if choice == "version" else self.versions[-1]
        if version not in self.versions:
            reason = f"Servable not found for request: Specific({MODEL}, {version})"
            context.abort(grpc.StatusCode.NOT_FOUND, reason)
        return version


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    def Predict(self, request, context):
        version = self.models.resolve(request.model_spec, context)
        if "x" not in request.inputs:
            reason = f"input size does not match signature: {len(request.inputs)}!=1"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        x = request.inputs["x"]
        y = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape=x.tensor_shape)
        y.float_val.extend(value / 2 + version for value in x.float_val)
        response = predict_pb2.PredictResponse(outputs={"y": y})
        name(response.model_spec, version)
        return response

    def GetModelMetadata(self, request, context):
        version = self.models.resolve(request.model_spec, context)
        signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        signature.inputs["x"].dtype = types_pb2.DT_FLOAT
        signature.outputs["y"].dtype = types_pb2.DT_FLOAT
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def={SIGNATURE: signature})
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures)
        name(response.model_spec, version)
        return response


class Status(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self.models = models

    def GetModelStatus(self, request, context):
        version = self.models.resolve(request.model_spec, context)
        asked = [version] if request.model_spec.WhichOneof("version_choice") else self.models.versions
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in asked:
            response.model_version_status.add(version=version, state=available)
        return response


def name(spec, version):
    spec.name, spec.signature_name, spec.version.value = MODEL, SIGNATURE, version


def main(host, port, *versions):
    models = Models([int(version) for version in versions or (1, 2)])
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(models), server)
    server.add_insecure_port(f"{host}:{port}")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(SECONDS_TO_FINISH))
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
