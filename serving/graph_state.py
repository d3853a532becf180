"""Which signatures may share a call between requests: those whose graph keeps nothing and draws nothing."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo

# TensorFlow calls these stateful, too, but they only read, or call something that is looked at itself.
_READING = {
    "Assert",
    "Case",
    "HashTable",
    "HashTableV2",
    "If",
    "Placeholder",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "StatefulPartitionedCall",
    "VarHandleOp",
    "Variable",
    "VariableV2",
    "While",
}
# These change a variable or a table, and not all of them are marked as stateful.
_WRITING = (
    "Apply",
    "Assign",
    "LookupTableExport",
    "LookupTableImport",
    "LookupTableInsert",
    "LookupTableRemove",
    "ResourceApply",
    "ResourceScatter",
    "ScatterAdd",
    "ScatterSub",
    "ScatterUpdate",
)


def row_wise(graph: "MetaGraphDef", is_stateful: Callable[[str], bool]) -> frozenset[str]:
    """Return the signatures with a batch axis in every input and output, and a graph without state.

    `is_stateful` tells of an operation's name whether TensorFlow marks it so, or doesn't know it.

    Whether such a graph also treats rows apart can't be read from it: that is tried on the first batches.
    """
    functions = {each.signature.name: each for each in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}

    def allowed(node: "NodeDef") -> bool:
        if node.op in functions or node.op in _READING:
            return True
        return not node.op.startswith(_WRITING) and not is_stateful(node.op)

    found = set()
    for name, signature in graph.signature_def.items():
        if not _has_batch_axis(signature.inputs) or not _has_batch_axis(signature.outputs):
            continue
        reached = list(_reached(signature, nodes))
        reached += [node for each in _called(reached, functions) for node in functions[each].node_def]
        if all(map(allowed, reached)):
            found.add(name)
    return frozenset(found)


def _has_batch_axis(tensors: "Mapping[str, TensorInfo]") -> bool:
    return bool(tensors) and all(
        info.name
        and not info.tensor_shape.unknown_rank
        and len(info.tensor_shape.dim) > 0
        and info.tensor_shape.dim[0].size < 0
        for info in tensors.values()
    )


def _reached(signature: "SignatureDef", nodes: "Mapping[str, NodeDef]") -> "Iterator[NodeDef]":
    waiting = [info.name for info in signature.outputs.values()]
    seen = {info.name.split(":")[0] for info in signature.inputs.values()}
    while waiting:
        name = waiting.pop().lstrip("^").split(":")[0]
        if name in seen:
            continue
        seen.add(name)
        waiting.extend(nodes[name].input)
        yield nodes[name]


def _called(nodes: "list[NodeDef]", functions: "Mapping[str, object]") -> set[str]:
    seen: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        named = {node.op}
        for attribute in node.attr.values():
            named |= {attribute.func.name, *(each.name for each in attribute.list.func)}
        for name in named & functions.keys() - seen:
            seen.add(name)
            waiting.extend(functions[name].node_def)  # type: ignore[attr-defined]
    return seen
