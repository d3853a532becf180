"""What the server does, without a wire: both gRPC and HTTP are thin skins over this."""

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

from serving import batching
from serving.batch_queue import Batch, BatchQueue
from serving.batching import Answer
from serving.batching_parameters import BatchingParameters
from serving.config_file import ModelSettings
from serving.errors import Code, RequestError
from serving.fair_pool import FairPool
from serving.lifecycle import Lease, Models
from serving.monitoring import OBSERVED
from serving.peers import Alone, Peers
from serving.servable import QUICK_S, Servable
from serving.signatures import Plan
from serving.statuses import State, Statuses, VersionStatus, select
from serving.tensors import Array

# The connection that the request came by, set by the fronts: the share of a client is that of its connection.
CLIENT: ContextVar[Hashable] = ContextVar("CLIENT", default="")

# Of larger inputs than this, what a call took of late says too little.
INLINE_BYTES = 1 << 16


class Target(NamedTuple):
    """Which version a request means: of these three, `number` and `label` exclude each other."""

    model: str
    number: int | None = None
    label: str | None = None


class DataPlane:
    """Predictions, metadata, states, and reloads of the models of one server."""

    def __init__(
        self,
        models: Models,
        reload: Callable[[Sequence[ModelSettings]], Awaitable[None]],
        *,
        threads: int,
        peers: Peers | None = None,
        labels_may_wait: bool = False,
        batching_parameters: BatchingParameters | None = None,
    ) -> None:
        self._models = models
        self._reload = reload
        self._peers = peers or Alone()
        self._labels_may_wait = labels_may_wait
        self._pool = FairPool(threads)
        self._batches = BatchQueue(self._call, batching_parameters, threads=threads)
        self.started = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether this process, and every other on its ports, has looked at every configured model."""
        return self.started and not self.draining and self._peers.ready

    def lease(self, target: Target) -> Lease:
        """Return the right to call the version meant.

        Raises:
            RequestError: INVALID_ARGUMENT without a name, NOT_FOUND when nothing answers to it, UNAVAILABLE
                when the server is about to leave.
        """
        if self.draining:
            raise RequestError(Code.UNAVAILABLE, "the server is shutting down")
        _check_name(target)
        if (observed := OBSERVED.get()) is not None:
            observed.model = target.model
        return self._models.lease(target.model, target.number, target.label)

    async def run(self, lease: Lease, plan: Plan, inputs: Mapping[str, Array]) -> list[Array]:
        """Return `plan.outputs`; quick models at once, others on a thread, rows with others' rows.

        A caller that is cancelled gives its place back; where its call runs already, the version stays loaded
        until that has ended.
        """
        observed, started = OBSERVED.get(), time.perf_counter()
        servable, rows = lease.servable, batching.rows_of(inputs)
        parameters = self._batches.parameters(servable, plan, rows)
        alone = parameters is None or self._batches.is_alone(parameters)
        if alone and _is_quick(servable, [inputs]):
            outputs = servable.run(plan, inputs)
        elif parameters is not None:
            outputs = await self._batches.submit(CLIENT.get(), lease, plan, inputs, rows, parameters)
        else:
            work = partial(servable.run, plan, inputs)
            outputs = await self._pool.submit(CLIENT.get(), work, lease.again)
        if observed is not None:
            observed.runtime_s = time.perf_counter() - started
        return outputs

    def _call(
        self,
        batch: Batch,
        lease: Lease,
        end: Callable[[tuple[list[Answer], bool] | BaseException], None],
    ) -> None:
        if not _is_quick(lease.servable, [each.inputs for each in batch.waiting]):
            # Whoever gave this lease may leave while the batch waits for a thread.
            held = lease.again()
            running = self._pool.submit(batch.client, batch.run, lambda: held)
            running.add_done_callback(lambda done: end(done.exception() or done.result()))
            return
        try:
            result: tuple[list[Answer], bool] | BaseException = batch.run()
        except Exception as error:  # it belongs to those who wait, not to the loop
            result = error
        end(result)

    def all_status(self) -> Statuses:
        """Return the states of all versions, in all processes together."""
        return self._peers.merged(self._models.all_status())

    def drain(self) -> None:
        """Take no new request; those in flight go on."""
        self.draining = True

    def status(self, target: Target) -> list[VersionStatus]:
        """Return the states of the versions meant (all, without number and label), newest first."""
        _check_name(target)
        number = target.number
        if target.label is not None:
            number = self._models.labelled(target.model, target.label)
        return select(self.all_status(), target.model, number)

    async def reload(self, settings: Sequence[ModelSettings]) -> None:
        """Take a full new list of models and return when every process has looked at every one of them.

        Raises:
            RequestError: FAILED_PRECONDITION, when a label points at a version that doesn't answer; UNKNOWN,
                when a model that is new on the list can't be loaded. It stays on the list.
        """
        if not self._labels_may_wait:
            _check_labels(self.all_status(), settings)
        await self._reload(settings)


def _check_labels(statuses: Statuses, settings: Sequence[ModelSettings]) -> None:
    for each in settings:
        available = {told.number for told in statuses.get(each.name, ()) if told.state is State.AVAILABLE}
        for number in each.labels.values():
            if number not in available:
                raise RequestError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {each.name}, "
                    "which is not currently available for inference",
                )


def _is_quick(servable: Servable, requests: Sequence[Mapping[str, Array]]) -> bool:
    size_bytes = sum(array.nbytes for inputs in requests for array in inputs.values())
    return size_bytes <= INLINE_BYTES and 0 < servable.recent_s < QUICK_S


def _check_name(target: Target) -> None:
    if not target.model:
        raise RequestError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
