"""A SavedModel to a TensorFlow.js graph model: `model.json` and shards of weights of at most 4 MB."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from exporter.signatures import signature_of
from exporter.tfjs import CONVERTER

# TensorFlow's protos and functions, which carry no types.
Untyped: TypeAlias = Any

_NOT_NEEDED = ("tensorflow_decision_forests", "tensorflow_hub")
"""What the converter imports and a SavedModel of Keras's has no use for."""


def convert(saved_model: Path, destination: Path, signature_name: str, quantization: str | None) -> str:
    """Convert one signature, its names kept, and return the converter's version.

    `quantization` is the dtype that kernels and embeddings are stored in, `float16` or `uint8`; they are
    float32 again once loaded. Loops stay loops (`control_flow_v2`), so a recurrent layer takes any batch.

    Raises:
        ValueError: TensorFlow.js lacks an operation of the model, which the message names; or the signature
            takes or gives strings, whose shape its lookup tables lose.
    """
    signature = signature_of(saved_model)[signature_name]
    if strings := [each.name for each in (*signature.inputs, *signature.outputs) if each.dtype == "string"]:
        raise ValueError(
            f"{', '.join(strings)}: TensorFlow.js takes and gives no strings here; prepare texts by the "
            "`columns` of the data, then the model itself takes numbers"
        )
    converter = _converter()
    with tempfile.TemporaryDirectory(prefix="fitserve-tfjs-") as scratch:
        source = _alone(saved_model, signature_name, Path(scratch) / "alone")
        source = _without_erfc(source, Path(scratch) / "without_erfc")
        arguments = {"signature_def": signature_name, "saved_model_tags": "serve", "control_flow_v2": True}
        if quantization is not None:
            plain = Path(scratch) / "plain"
            converter.convert_tf_saved_model(str(source), str(plain), **arguments)
            arguments["quantization_dtype_map"] = {quantization: _matrices(plain / "model.json")}
        converter.convert_tf_saved_model(str(source), str(destination), **arguments)
        _restore_names(destination / "model.json", source, signature_name)
    return str(importlib.import_module("tensorflowjs.version").version)


def _converter() -> Untyped:
    """Import the converter of SavedModels alone, past the packages' own imports of every other converter."""
    for name in ("tensorflowjs", "tensorflowjs.converters"):
        package = ModuleType(name)
        package.__path__ = [str(CONVERTER / name.replace(".", "/"))]
        sys.modules.setdefault(name, package)
    empty = [name for name in _NOT_NEEDED if name not in sys.modules]
    sys.modules.update({name: ModuleType(name) for name in empty})
    try:
        return importlib.import_module("tensorflowjs.converters.tf_saved_model_conversion_v2")
    finally:
        for name in empty:
            del sys.modules[name]


def _alone(saved_model: Path, signature_name: str, destination: Path) -> Path:
    """Return a SavedModel of one signature: the converter fails by lookup tables that only others use."""
    import tensorflow as tf

    if len(signature_of(saved_model)) == 1:
        return saved_model
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures[signature_name]
    alone = tf.Module()
    alone.kept = signature.variables
    tf.saved_model.save(alone, str(destination), signatures={signature_name: signature})
    return destination


def _matrices(model_json: Path) -> list[str]:
    """Name the weights with more than one dimension beyond 1: nearly all bytes.

    Means, variances and biases stay whole: where columns differ in scale, they are beyond float16, or 8 bits
    over the range of all of them leave nothing of the small ones.
    """
    groups = json.loads(model_json.read_text())["weightsManifest"]
    weights = [weight for group in groups for weight in group["weights"]]
    return [each["name"] for each in weights if sum(size > 1 for size in each["shape"]) > 1]


def _restore_names(model_json: Path, saved_model: Path, signature_name: str) -> None:
    """Give inputs and outputs the signature's names: the converter drops those of equal shapes."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures[signature_name]
    # Both sides of a function are flattened in the order of their names.
    sides = {
        "inputs": (signature.inputs, signature.structured_input_signature[1]),
        "outputs": (signature.outputs, signature.structured_outputs),
    }
    document = json.loads(model_json.read_text())
    for side, (tensors, names) in sides.items():
        infos = {info["name"]: info for info in document["signature"].get(side, {}).values()}
        named = {name: tensor.name for name, tensor in zip(sorted(names), tensors, strict=False)}
        # An input that the model has no use for is no longer there.
        kept = {name: infos.pop(tensor) for name, tensor in named.items() if tensor in infos}
        # What is left are lookup tables, which TensorFlow.js fills by itself.
        document["signature"][side] = kept | {info["name"]: info for info in infos.values()}
    model_json.write_text(json.dumps(document))


def _without_erfc(saved_model: Path, destination: Path) -> Path:
    """Return a SavedModel with 1 - erf(x) in place of erfc(x), which exact gelu uses and TensorFlow.js lacks.

    The two differ by at most a unit in the last place of float32's 1.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    document = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    rewrites = [_rewrite_erfc(each) for each in document.meta_graphs[0].graph_def.library.function]
    if not any(rewrites):
        return saved_model
    destination.mkdir()
    (destination / "saved_model.pb").write_bytes(document.SerializeToString())
    for name in ("variables", "assets"):
        if (saved_model / name).is_dir():
            (destination / name).symlink_to((saved_model / name).resolve())
    return destination


def _rewrite_erfc(function: Untyped) -> bool:
    """Rewrite the body of a function; False if there was nothing to do."""
    found = {node.name for node in function.node_def if node.op == "Erfc"}
    if not found:
        return False
    nodes = list(function.node_def)
    del function.node_def[:]
    for node in nodes:
        if node.name in found:
            function.node_def.extend(_one_minus_erf(node))
        else:
            function.node_def.append(node)
    # In a function's body a tensor is node:output:index; Erfc calls its output y, Sub calls it z.
    renamed = {f"{name}:y:0": f"{name}:z:0" for name in found}
    for node in function.node_def:
        node.input[:] = [renamed.get(each, each) for each in node.input]
    for name, tensor in function.ret.items():
        function.ret[name] = renamed.get(tensor, tensor)
    return True


def _one_minus_erf(erfc: Untyped) -> list[Untyped]:
    """Return the nodes that take the place of an Erfc, the last of them under its name."""
    import tensorflow as tf
    from tensorflow.core.framework import node_def_pb2

    dtype = erfc.attr["T"]
    one = node_def_pb2.NodeDef(name=f"{erfc.name}/one", op="Const", device=erfc.device)
    one.attr["dtype"].CopyFrom(dtype)
    one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1, dtype=tf.dtypes.as_dtype(dtype.type)))
    erf = node_def_pb2.NodeDef(name=f"{erfc.name}/erf", op="Erf", device=erfc.device, input=erfc.input)
    erf.attr["T"].CopyFrom(dtype)
    difference = node_def_pb2.NodeDef(
        name=erfc.name,
        op="Sub",
        device=erfc.device,
        input=[f"{one.name}:output:0", f"{erf.name}:y:0"],
    )
    difference.attr["T"].CopyFrom(dtype)
    return [one, erf, difference]
