"""Completes TensorFlow's compiled protos, so that all of the real TensorFlow Serving stubs import without TensorFlow.

The package `tensorflow-protobuf` left one file out that others import: tensorflow/tsl/protobuf/error_codes.proto, an
enum of gRPC's status codes. Import this module before anything of `tensorflow_serving`.
"""

import sys
import types

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool

NAME = "tensorflow/tsl/protobuf/error_codes.proto"


def install():
    file = descriptor_pb2.FileDescriptorProto(name=NAME, package="tensorflow.error", syntax="proto3")
    codes = file.enum_type.add(name="Code")
    for code in grpc.StatusCode:
        codes.value.add(name=code.name, number=code.value[0])
    module = types.ModuleType("tensorflow.tsl.protobuf.error_codes_pb2")
    module.DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    for name in ("tensorflow.tsl", "tensorflow.tsl.protobuf"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    sys.modules["tensorflow.tsl.protobuf"].error_codes_pb2 = module
    sys.modules[module.__name__] = module


install()
