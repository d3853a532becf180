"""Classify, Regress and MultiInference: serialized tf.Examples in, classes or numbers out, without a wire.

Signatures and texts are those of tensorflow_serving/servables/tensorflow (classifier.cc, regressor.cc,
multi_inference.cc). A signature takes `inputs`, string of shape (examples,). It gives `classes`, string, and
`scores`, float32, one of them or both, of shape (examples, classes); or `outputs`, float32 of shape
(examples,) or (examples, 1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from serving import tensors
from serving.errors import Code, RequestError
from serving.servable import Servable
from serving.signatures import DEFAULT, Plan
from serving.tensors import Array

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
INPUTS = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"

Result: TypeAlias = ClassificationResult | RegressionResult


@dataclass(frozen=True, slots=True)
class Task:
    """A checked question: what to run, and what its arrays (one a `plan.outputs`) mean for n examples."""

    plan: Plan
    result: Callable[[Sequence[Array], int], Result]


def task(servable: Servable, method_name: str, signature_name: str) -> Task:
    """Check that a signature can be asked by a method; an empty signature name means serving_default.

    Raises:
        RequestError: INVALID_ARGUMENT or FAILED_PRECONDITION, when the signature is unknown or of another
            form; UNIMPLEMENTED for another method than classify and regress.
    """
    name = signature_name or DEFAULT
    if name not in servable.signatures:
        raise _invalid(f"No signature was found with the name: {name}")
    return _task(servable, method_name, name)


def tasks(servable: Servable, request: MultiInferenceRequest) -> list[Task]:
    """Check all tasks of a MultiInference, which share a model and an input tensor.

    Raises:
        RequestError: as for `task`, or INVALID_ARGUMENT, when they ask for several models, one signature
            twice, or signatures that don't share their input.
    """
    model = request.tasks[0].model_spec.name if request.tasks else ""
    made: dict[str, Task] = {}
    fed: set[str] = set()
    for each in request.tasks:
        spec = each.model_spec
        if not spec.name:
            raise _invalid("Found ModelSpec with an empty model name.")
        if spec.name != model:
            raise _invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = spec.signature_name or DEFAULT
        if name in made:
            raise _invalid(f"Duplicate evaluation of signature: {name}")
        if name not in servable.signatures:
            raise _invalid(f"Requested signature not found in model graph: {name}")
        made[name] = _task(servable, each.method_name, name)
        fed.add(servable.signatures[name].inputs[INPUTS].name)
        if len(fed) > 1:
            raise _invalid("Input tensor must be the same for all Signatures.")
    return list(made.values())


def examples(given: Input) -> Array:
    """Return the serialized Examples, bytes in an object array of shape (examples,).

    A context comes before each example and merges with it, as concatenated messages do: what an example
    says itself wins.

    Raises:
        RequestError: INVALID_ARGUMENT, when there is none.
    """
    context = b""
    listed = given.example_list.examples
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        listed = given.example_list_with_context.examples
    if not listed:
        raise _invalid("Input is empty.")
    array: Array = np.empty(len(listed), object)
    array[:] = [context + each.SerializeToString() for each in listed]
    return array


def _task(servable: Servable, method_name: str, name: str) -> Task:
    method = _METHODS.get(method_name)
    if method is None:
        raise RequestError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method_name}")
    signature = servable.signatures[name]
    if servable.check_method_names and signature.method_name != method_name:
        raise _invalid(
            f"Expected {method.noun} signature method_name to be {method_name}. Was: {signature.method_name}"
        )
    outputs = method.outputs(signature)

    def result(arrays: Sequence[Array], count: int) -> Result:
        return method.result(dict(zip(outputs, arrays, strict=True)), count)

    return Task(Plan(name, (INPUTS,), outputs), result)


def _classify_outputs(signature: SignatureDef) -> tuple[str, ...]:
    _check_one_input(signature)
    if len(signature.outputs) not in {1, 2}:
        raise _invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    _check_named(signature.inputs, INPUTS, f"No classification inputs found in SignatureDef: {signature}")
    outputs = tuple(name for name in (_CLASSES, _SCORES) if name in signature.outputs)
    if not outputs:
        raise RequestError(
            Code.FAILED_PRECONDITION,
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or '
            f'"{_SCORES}". Signature was: {signature}',
        )
    return outputs


def _regress_outputs(signature: SignatureDef) -> tuple[str, ...]:
    _check_one_input(signature)
    if len(signature.outputs) != 1:
        raise _invalid("Expected one output Tensor.")
    _check_named(signature.inputs, INPUTS, f"No regression inputs found in SignatureDef: {signature}")
    _check_named(signature.outputs, _OUTPUTS, f"No regression outputs found in SignatureDef: {signature}")
    return (_OUTPUTS,)


def _classifications(arrays: Mapping[str, Array], count: int) -> ClassificationResult:
    for name, number in ((_CLASSES, tensors.STRING), (_SCORES, tensors.FLOAT)):
        if name in arrays:
            _check_scores(arrays[name], name, number, count)
    widths = [array.shape[1] for array in arrays.values()]
    if widths[0] != widths[-1]:
        raise _invalid(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[-1]}"
        )
    labels = arrays[_CLASSES].tolist() if _CLASSES in arrays else None
    scores = arrays[_SCORES].tolist() if _SCORES in arrays else None
    result = ClassificationResult()
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(widths[0]):
            one = classes.add()
            if labels is not None:
                # A label is text in the proto, any bytes in the graph.
                one.label = labels[row][column].decode("utf-8", "replace")
            if scores is not None:
                one.score = scores[row][column]
    return result


def _check_scores(array: Array, name: str, number: int, count: int) -> None:
    if array.ndim != 2:
        raise _invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if tensors.number_of(array.dtype) != number:
        raise _invalid(f"Expected {name} Tensor of {_dtype(number)}. Got: {_dtype_of(array)}")
    if array.shape[0] != count:
        raise _invalid(f"Expected {name} output batch size of {count}. Got: {array.shape[0]}")


def _regressions(arrays: Mapping[str, Array], count: int) -> RegressionResult:
    array = arrays[_OUTPUTS]
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise _invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(array)}"
        )
    if array.shape[0] != count:
        raise _invalid(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    if array.dtype != np.float32:
        raise _invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype_of(array)}")
    result = RegressionResult()
    for value in array.ravel().tolist():
        result.regressions.add(value=value)
    return result


@dataclass(frozen=True, slots=True)
class _Method:
    noun: str
    outputs: Callable[[SignatureDef], tuple[str, ...]]
    result: Callable[[Mapping[str, Array], int], Result]


_METHODS = {
    CLASSIFY: _Method("classification", _classify_outputs, _classifications),
    REGRESS: _Method("regression", _regress_outputs, _regressions),
}


def _check_one_input(signature: SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")


def _check_named(tensor_infos: Mapping[str, object], name: str, text: str) -> None:
    if name not in tensor_infos:
        raise RequestError(Code.FAILED_PRECONDITION, text)


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype(number: int) -> str:
    return f"DT_{tensors.name_of(number).upper()}"


def _dtype_of(array: Array) -> str:
    return _dtype(tensors.number_of(array.dtype))


def _invalid(text: str) -> RequestError:
    return RequestError(Code.INVALID_ARGUMENT, text)
