"""The messages and services of gRPC's interoperability tests, compiled from `protos/interop.proto` as they are imported."""

import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "protos"))
messages, services = grpc.protos_and_services("interop.proto")
