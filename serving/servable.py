"""One loaded version: its signatures, and a call into its graph, whatever runs that graph."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.batching_parameters import BatchingParameters
from serving.errors import Code, RequestError
from serving.signatures import DEFAULT, Plan, plan
from serving.tensors import Array

# Clients choose the outputs, so they could ask for every combination of them.
MOST_PLANS = 64

# A call this short costs less than handing it to threads and back; a longer one would hold up the others.
QUICK_S = 0.001


class Servable(ABC):
    """What the server knows of a version.

    `recent_s` is how long its calls took of late, in seconds; `row_wise` names the signatures whose rows may
    share a call without being told to, `proofs` counts the batches of a plan that proved it (see
    `BatchQueue`), and `batching` holds the version's own parameters.
    """

    def __init__(
        self,
        signatures: Mapping[str, SignatureDef],
        *,
        row_wise: frozenset[str] = frozenset(),
        batching: BatchingParameters | None = None,
        check_method_names: bool = False,
    ) -> None:
        self.signatures = signatures
        self.row_wise = row_wise
        self.batching = batching
        self.check_method_names = check_method_names
        self.recent_s = 0.0
        self.proofs: dict[Plan, int] = {}
        self._plans: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Plan] = {}

    def plan(self, signature_name: str, given: Iterable[str], output_filter: Iterable[str]) -> Plan:
        """Check a request by names alone; an empty signature name means serving_default.

        Raises:
            RequestError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for its names.
        """
        key = (signature_name, tuple(given), tuple(output_filter))
        if (known := self._plans.get(key)) is not None:
            return known
        name = signature_name or DEFAULT
        if name not in self.signatures:
            raise RequestError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        made = plan(name, self.signatures[name], key[1], key[2])
        if len(self._plans) < MOST_PLANS:
            self._plans[key] = made
        return made

    @abstractmethod
    def run(self, plan: Plan, inputs: Mapping[str, Array]) -> list[Array]:
        """Feed `plan.inputs` and return `plan.outputs`; threads may call it at the same time.

        Raises:
            RequestError: when the graph refuses the inputs.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the memory back; no call may be running."""

    def _note(self, took_s: float) -> None:
        # A moving average over about eight calls: enough to tell a quick model from a slow one.
        self.recent_s += (took_s - self.recent_s) / 8 if self.recent_s else took_s
