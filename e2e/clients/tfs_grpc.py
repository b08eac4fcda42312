"""The real TensorFlow Serving stubs over gRPC: Predict, GetModelMetadata and GetModelStatus.

Against e2e/servers/tfs_server.py. `answers` counts the version in each Predict's answer; also printed:
`metadata_version` and `statuses` (versions that GetModelStatus calls AVAILABLE).
"""

import tfs_protos  # noqa: F401, first: the stubs need what it installs
import grpc
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from counts import Counts, channel_options, flags, headers

parser = flags(__doc__, "host:port")
parser.add_argument("--model", default="half_plus")
parser.add_argument("--version", type=int, help="the model version to ask for; default: the latest")
parser.add_argument("--label", help="the version label to ask for: stable or canary")
arguments = parser.parse_args()

model = model_pb2.ModelSpec(name=arguments.model, signature_name="serving_default")
if arguments.version is not None:
    model.version.value = arguments.version
if arguments.label is not None:
    model.version_label = arguments.label
request = predict_pb2.PredictRequest(model_spec=model)
request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0, 5.0]))
request.inputs["x"].tensor_shape.dim.add(size=3)

counts = Counts()
channel = grpc.insecure_channel(arguments.address, options=channel_options(arguments))
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)

for number in range(arguments.requests):
    sent, key = headers(arguments, number)
    try:
        answer = prediction.Predict(request, metadata=[(name.lower(), value) for name, value in sent.items()])
        counts.answer(answer.model_spec.version.value, key)
    except grpc.RpcError as error:
        counts.grpc_error(error)
try:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model, metadata_field=["signature_def"])
    counts.more["metadata_version"] = prediction.GetModelMetadata(asked).model_spec.version.value
    asked = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=arguments.model))
    statuses = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    counts.more["statuses"] = sorted(status.version for status in statuses if status.state == available)
except grpc.RpcError as error:
    counts.grpc_error(error)
channel.close()
counts.show()
