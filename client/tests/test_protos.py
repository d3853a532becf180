from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from fitserve._protos import serving_pb2, tensor_pb2

SOURCES = Path(__file__).parents[1] / "protos"


@pytest.mark.parametrize("module", [tensor_pb2, serving_pb2])
def test_the_generated_code_says_what_its_source_says(module, tmp_path):
    out = tmp_path / "set.bin"
    include = resources.files("grpc_tools") / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}", f"-I{include}"]
    subprocess.run([*command, f"--descriptor_set_out={out}", module.DESCRIPTOR.name], check=True)

    (compiled,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    generated = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(generated)

    compiled.ClearField("syntax")
    generated.ClearField("syntax")
    for message in compiled.message_type:
        clear_json_names(message)
    for message in generated.message_type:
        clear_json_names(message)
    assert generated == compiled


def clear_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """Leave out what protoc adds by itself to the descriptors it writes."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        clear_json_names(nested)


@pytest.mark.parametrize("module", [tensor_pb2, serving_pb2])
def test_no_name_is_one_of_tensorflow_s(module):
    assert module.DESCRIPTOR.package == "fitserve.wire"
