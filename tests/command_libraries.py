"""What every command of the command line stands on (see command_kit)."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # asked once, when gRPC is read

import google.protobuf.json_format
import google.rpc.error_details_pb2
import grpc
import grpc_status.rpc_status
import pydantic
import rich.console
import rich.markdown
import rich.progress
import rich.table
import structlog
import typer.main
import typer.rich_utils

import appliance.model
import earwitness.client

__all__ = [
    "appliance",
    "earwitness",
    "google",
    "grpc",
    "grpc_status",
    "pydantic",
    "rich",
    "structlog",
    "typer",
]
